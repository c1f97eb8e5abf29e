//! A second, slow decoder, written from the design on serde_json and jiff: the judge of the fast one.
//!
//! It shares the model's words with it and nothing else. serde_json's raw values give the grammar without recursion and
//! without a number's range; the lone surrogates that they let pass are found by decoding each string token by itself.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use tidemark_dataflow::decode::{Decoded, Decoder, Event};
use tidemark_model::event::MAX_ID_BYTES;
use tidemark_model::{Cents, Kind, Nanos, Reason};

/// The seven names that may stand only once.
pub const KNOWN: [&str; 7] = ["event_type", "stream_id", "ts", "event_id", "user_id", "amount_usd", "amount"];

/// What the judge makes of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One of the six kinds.
    Event { kind: Kind, stream_id: String, ts: Nanos, event_id: Option<String>, user_id: Option<String>, amount: Cents },
    /// Another event type.
    Other(String),
    /// No event.
    Rejected(Reason),
}

/// Panics unless decoder and judge say the same; returns what they say.
pub fn agree(decoder: &mut Decoder, payload: Option<&[u8]>) -> Verdict {
    let expected = judge(payload);
    let actual = match decoder.decode(payload) {
        Ok(Decoded::Event(Event { kind, stream_id, ts, event_id, user_id, amount })) => Verdict::Event {
            kind,
            stream_id: stream_id.into_owned(),
            ts,
            event_id: event_id.map(Into::into),
            user_id: user_id.map(Into::into),
            amount,
        },
        Ok(Decoded::Other(event_type)) => Verdict::Other(event_type.into_owned()),
        Err(rejected) => {
            let error = &rejected.error;
            assert!(!error.is_empty() && !error.contains('\0') && error.chars().count() <= 1_000, "error text {error:?}");
            Verdict::Rejected(rejected.reason)
        }
    };
    assert_eq!(actual, expected, "left: decoder, right: judge; for {:?}", payload.map(String::from_utf8_lossy));
    actual
}

fn judge(payload: Option<&[u8]>) -> Verdict {
    event(payload.unwrap_or_default()).unwrap_or_else(Verdict::Rejected)
}

fn event(payload: &[u8]) -> Result<Verdict, Reason> {
    let members = members(payload)?;
    let field = |name: &str| members.iter().find(|(n, v)| n == name && v.get() != "null").map(|(_, value)| value.get());
    let required = |name: &str| field(name).ok_or(Reason::MissingField);

    let event_type = string(required("event_type")?)?;
    let Some(kind) = Kind::parse(&event_type) else { return Ok(Verdict::Other(event_type)) };
    let stream_id = id(required("stream_id")?)?;
    let ts = instant(&string(required("ts")?)?).ok_or(Reason::BadTs)?;
    let event_id = field("event_id").map(id).transpose()?;
    let user_id = if kind.needs_user() { Some(id(required("user_id")?)?) } else { field("user_id").and_then(|raw| id(raw).ok()) };
    let mut amount = Cents(0);
    if kind == Kind::Donation {
        amount = donated(field("amount_usd").or(field("amount")).ok_or(Reason::MissingField)?)?;
    }
    Ok(Verdict::Event { kind, stream_id, ts, event_id, user_id, amount })
}

/// The members of a valid document's object; checks everything that comes before the fields.
fn members(payload: &[u8]) -> Result<Vec<(String, &RawValue)>, Reason> {
    if payload.is_empty() {
        return Err(Reason::Empty);
    }
    let text = std::str::from_utf8(payload).map_err(|_| Reason::InvalidUtf8)?;
    let raw: &RawValue = serde_json::from_str(text).map_err(|_| Reason::InvalidJson)?;
    if !string_tokens(raw.get()).all(|token| serde_json::from_str::<String>(token).is_ok()) {
        return Err(Reason::InvalidJson);
    }
    if !raw.get().starts_with('{') {
        return Err(Reason::NotObject);
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    let members = deserializer.deserialize_map(Members).expect("it is an object, and its strings are good");
    match KNOWN.iter().any(|name| members.iter().filter(|(n, _)| n == name).count() > 1) {
        true => Err(Reason::DuplicateField),
        false => Ok(members),
    }
}

/// All string tokens, quotes included, of a text that follows the grammar.
fn string_tokens(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        text = &text[text.find('"')?..];
        let mut is_escaped = false;
        let end = text.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        });
        let (token, rest) = text.split_at(end? + 2);
        text = rest;
        Some(token)
    })
}

/// Collects members in order, repeated names included.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

fn string(raw: &str) -> Result<String, Reason> {
    serde_json::from_str(raw).map_err(|_| Reason::WrongType)
}

fn id(raw: &str) -> Result<String, Reason> {
    let text = string(raw)?;
    if text.is_empty() || text.len() > MAX_ID_BYTES || text.contains('\0') { Err(Reason::BadId) } else { Ok(text) }
}

fn donated(raw: &str) -> Result<Cents, Reason> {
    match raw.as_bytes()[0] {
        b'-' | b'0'..=b'9' => cents(raw).ok_or(Reason::BadAmount),
        b'"' => cents(&string(raw)?).ok_or(Reason::BadAmount),
        _ => Err(Reason::WrongType),
    }
}

/// Writes the number out in full, without an exponent, and cuts it behind the second decimal.
fn cents(text: &str) -> Option<Cents> {
    let is_number =
        text.bytes().all(|byte| b"0123456789+-.eE".contains(&byte)) && serde_json::from_str::<&RawValue>(text).is_ok();
    if !is_number {
        return None;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let unsigned = mantissa.trim_start_matches('-');
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.bytes().chain(fraction.bytes()).all(|digit| digit == b'0') {
        return Some(Cents(0));
    }
    if mantissa.starts_with('-') {
        return None;
    }
    // An exponent that moves the point by more than all digits and twenty places moves it out of sight either way.
    let far = text.len() + 20;
    let digits = exponent.trim_start_matches(['+', '-']).trim_start_matches('0');
    let by = if digits.len() > 9 { far } else { digits.parse().unwrap_or(0).min(far) };
    let (zeros_before, zeros_behind) = if exponent.starts_with('-') { (by, 0) } else { (0, by) };
    let all = format!("{}{whole}{fraction}{}", "0".repeat(zeros_before), "0".repeat(zeros_behind));
    let point = if zeros_before > 0 { whole.len() } else { whole.len() + zeros_behind };
    let (whole, fraction) = (all[..point].trim_start_matches('0'), format!("{}000", &all[point..]));
    if whole.len() > 10 {
        return None;
    }
    let floor: i128 = format!("{whole}{}", &fraction[..2]).parse().ok()?;
    let is_more = fraction[2..].bytes().any(|digit| digit != b'0');
    let largest = i128::from(Cents::MAX_AMOUNT.0);
    if floor > largest || floor == largest && is_more {
        return None;
    }
    let rounded = floor + i128::from(fraction.as_bytes()[2] >= b'5');
    Some(Cents(i64::try_from(rounded).ok()?))
}

/// Matches the text against a picture, then asks jiff's calendar.
fn instant(text: &str) -> Option<Nanos> {
    const PICTURE: &str = "dddd-dd-ddTdd:dd:dd";
    let head = text.get(..PICTURE.len())?;
    let fits = head.bytes().zip(PICTURE.bytes()).all(|(byte, place)| match place {
        b'd' => byte.is_ascii_digit(),
        b'T' => b"Tt ".contains(&byte),
        _ => byte == place,
    });
    let number = |from: usize, to: usize| head[from..to].parse::<i16>().ok();
    let part = |from: usize| number(from, from + 2).and_then(|value| i8::try_from(value).ok());
    if !fits {
        return None;
    }
    let (year, leap) = (number(0, 4)?, part(17)? == 60);
    let second = if leap { 59 } else { part(17)? };
    let civil = jiff::civil::DateTime::new(year, part(5)?, part(8)?, part(11)?, part(14)?, second, 0).ok()?;

    let mut rest = &text[PICTURE.len()..];
    let mut fraction = String::new();
    if let Some(behind) = rest.strip_prefix('.') {
        fraction = behind.chars().take_while(char::is_ascii_digit).collect();
        rest = &behind[fraction.len()..];
        if fraction.is_empty() {
            return None;
        }
    }
    let nanos: i128 = if leap { 999_999_999 } else { format!("{fraction}000000000")[..9].parse().ok()? };
    let offset = i128::from(offset_minutes(rest)?) * 60_000_000_000;
    let local = civil.duration_since(jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_nanos();
    let instant = local + nanos - offset;
    (0..i128::from(Nanos::END.0)).contains(&instant).then(|| Nanos(i64::try_from(instant).expect("it is below 2262")))
}

fn offset_minutes(zone: &str) -> Option<i64> {
    if ["", "Z", "z"].contains(&zone) {
        return Some(0);
    }
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let part = |text: &str| text.parse::<i64>().ok().filter(|_| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()));
    let (hours, minutes) = (part(hours).filter(|hours| *hours < 24)?, part(minutes).filter(|minutes| *minutes < 60)?);
    Some(if zone.starts_with('-') { -(hours * 60 + minutes) } else { hours * 60 + minutes })
}
