//! Bytes to an event, or one reason why not. Pure: no I/O, no clock, and the answer never depends on earlier records.
//!
//! - `scan`: one iterative pass over the bytes that judges the whole document and notes the seven known `fields`
//! - `marks`: where strings can end, for 64 bytes at a time
//! - `timestamp`, `amount`, `text`: what those fields' texts mean
//!
//! Invariants: a record has the first reason that applies, in the order of [`Reason::ALL`] and then of the fields below; a
//! field is judged only where it is used; nothing is allocated for a valid event without escapes in its used strings.

mod amount;
mod fields;
mod marks;
mod scan;
mod text;
mod timestamp;

use fields::{Field, Fields, Name};
use std::borrow::Cow;
use text::BadId;
use tidemark_model::{Cents, Kind, Nanos, Reason};

/// The instant that a text names, by the rules of `ts`: for times that people write.
pub fn instant(text: &[u8]) -> Option<Nanos> {
    timestamp::DateCache::default().instant(text)
}

/// An event as the later stages see it; borrows from the payload unless a string had escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Which of the six kinds.
    pub kind: Kind,
    /// The stream it happened in.
    pub stream_id: Cow<'a, str>,
    /// When it happened, by its sender's clock.
    pub ts: Nanos,
    /// The id by which copies are recognised.
    pub event_id: Option<Cow<'a, str>>,
    /// A valid user id, or none (an invalid one is an error only where it is required).
    pub user_id: Option<Cow<'a, str>>,
    /// Zero unless a donation.
    pub amount: Cents,
}

/// What a valid record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An event of one of the six kinds.
    Event(Event<'a>),
    /// An event type that makes no rows: only counted.
    Other(Cow<'a, str>),
}

/// Why a record is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The first reason that applies.
    pub reason: Reason,
    /// For people: which field, what it was (cut to a bounded length), what is allowed; no NUL, at most 1,000 characters.
    pub error: String,
}

/// Decodes records, one after the other. Keeps scratch memory (one bit per level of the deepest nesting met) and the last
/// date that it met; neither changes an answer.
#[derive(Debug, Default)]
pub struct Decoder {
    nesting: scan::Nesting,
    dates: timestamp::DateCache,
}

impl Decoder {
    /// The event that a record's payload holds; `None` is a tombstone.
    pub fn decode<'a>(&mut self, payload: Option<&'a [u8]>) -> Result<Decoded<'a>, Rejected> {
        let payload = payload.unwrap_or_default();
        if payload.is_empty() {
            return Err(rejected(Reason::Empty, "the record has no payload".to_owned()));
        }
        let Ok(text) = simdutf8::basic::from_utf8(payload) else { return Err(invalid_utf8(payload)) };
        let mut fields = Fields::new();
        match scan::document(text, &mut self.nesting, &mut fields) {
            Ok(None) => self.event(&fields),
            Ok(Some(other)) => Err(rejected(Reason::NotObject, format!("the payload is {}, not an object", other.shape()))),
            Err(fault) => Err(rejected(Reason::InvalidJson, format!("at byte {}: {}", fault.at, fault.what))),
        }
    }

    /// Judges the fields in their order; each only where it is used.
    #[inline]
    fn event<'a>(&mut self, fields: &Fields<'a>) -> Result<Decoded<'a>, Rejected> {
        if let Some(name) = fields.duplicate {
            return Err(rejected(Reason::DuplicateField, format!("{} stands twice", name.as_str())));
        }
        let event_type = required(fields, Name::EventType)?;
        let Some(kind) = kind_of(&event_type) else { return Ok(Decoded::Other(event_type)) };
        let stream_id = id(Name::StreamId, required(fields, Name::StreamId)?)?;
        let ts = self.instant(&required(fields, Name::Ts)?)?;
        let event_id = string(fields, Name::EventId)?.map(|text| id(Name::EventId, text)).transpose()?;
        let user_id = if kind.needs_user() {
            Some(id(Name::UserId, required(fields, Name::UserId)?)?)
        } else {
            fields.get(Name::UserId).string().and_then(|text| text::id(text).ok())
        };
        let amount = if kind == Kind::Donation { donated(fields)? } else { Cents(0) };
        Ok(Decoded::Event(Event { kind, stream_id, ts, event_id, user_id, amount }))
    }

    #[inline]
    fn instant(&mut self, text: &str) -> Result<Nanos, Rejected> {
        self.dates.instant(text.as_bytes()).ok_or_else(|| bad_ts(text))
    }
}

/// [`Kind::parse`], as one comparison of lengths and at most three of bytes.
#[inline(always)]
fn kind_of(text: &str) -> Option<Kind> {
    match text {
        "viewer_join" => Some(Kind::ViewerJoin),
        "viewer_leave" => Some(Kind::ViewerLeave),
        "chat_message" => Some(Kind::ChatMessage),
        "donation" => Some(Kind::Donation),
        "stream_start" => Some(Kind::StreamStart),
        "stream_stop" => Some(Kind::StreamStop),
        _ => None,
    }
}

/// The text of a string field; `None` if it is absent or null.
#[inline(always)]
fn string<'a>(fields: &Fields<'a>, name: Name) -> Result<Option<Cow<'a, str>>, Rejected> {
    match fields.get(name) {
        Field::Absent | Field::Null => Ok(None),
        field => field.string().map(Some).ok_or_else(|| wrong_type(name, field, "a string")),
    }
}

#[inline(always)]
fn required<'a>(fields: &Fields<'a>, name: Name) -> Result<Cow<'a, str>, Rejected> {
    string(fields, name)?.ok_or_else(|| missing(name, fields.get(name)))
}

#[inline(always)]
fn id(name: Name, text: Cow<'_, str>) -> Result<Cow<'_, str>, Rejected> {
    text::id(text).map_err(|bad| bad_id(name, &bad))
}

/// A donation's amount: `amount_usd`, or `amount` where the former is absent or null.
fn donated(fields: &Fields<'_>) -> Result<Cents, Rejected> {
    let name = match fields.get(Name::AmountUsd) {
        Field::Absent | Field::Null => Name::Amount,
        _ => Name::AmountUsd,
    };
    match fields.get(name) {
        Field::Absent | Field::Null => Err(missing(Name::AmountUsd, fields.get(Name::AmountUsd))),
        Field::Number(number) => amount::cents(number).ok_or_else(|| bad_amount(name, number)),
        field => {
            let text = field.string().ok_or_else(|| wrong_type(name, field, "a number, or a string with a number in it"))?;
            amount::cents(&text).ok_or_else(|| bad_amount(name, &text))
        }
    }
}

#[cold]
fn rejected(reason: Reason, error: String) -> Rejected {
    Rejected { reason, error }
}

#[cold]
fn invalid_utf8(payload: &[u8]) -> Rejected {
    let at = std::str::from_utf8(payload).map_or_else(|error| error.valid_up_to(), str::len);
    rejected(Reason::InvalidUtf8, format!("byte {at} does not belong to a UTF-8 character"))
}

#[cold]
fn missing(name: Name, field: Field<'_>) -> Rejected {
    let how = if matches!(field, Field::Null) { "null" } else { "absent" };
    rejected(Reason::MissingField, format!("{} is {how}, but required", name.as_str()))
}

#[cold]
fn wrong_type(name: Name, field: Field<'_>, allowed: &str) -> Rejected {
    rejected(Reason::WrongType, format!("{} is {}; allowed is {allowed}", name.as_str(), field.shape()))
}

#[cold]
fn bad_id(name: Name, bad: &BadId) -> Rejected {
    rejected(Reason::BadId, format!("{} {bad}; allowed are 1 to 256 bytes without U+0000", name.as_str()))
}

#[cold]
fn bad_ts(text: &str) -> Rejected {
    let allowed = "2026-11-23T12:34:56, with optional fraction and offset, from 1970 to before 2262";
    rejected(Reason::BadTs, format!("ts is {}; allowed is a time such as {allowed}", text::Quoted(text)))
}

#[cold]
fn bad_amount(name: Name, text: &str) -> Rejected {
    let allowed = "a JSON number from 0 to 1000000000.00";
    rejected(Reason::BadAmount, format!("{} is {}; allowed is {allowed}", name.as_str(), text::Quoted(text)))
}

#[cfg(test)]
mod tests {
    use super::kind_of;
    use tidemark_model::Kind;

    #[test]
    fn kinds_are_the_model_s() {
        for kind in Kind::ALL {
            assert_eq!(kind_of(kind.as_str()), Some(kind));
        }
        for text in ["", "viewer", "Viewer_join", "viewer_join ", "stream_halt"] {
            assert_eq!(kind_of(text), None);
        }
    }
}
