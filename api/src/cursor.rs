//! The place where a page of `/metrics` ended, as opaque text that needs no escaping in a URL.
//!
//! A cursor holds no secret and gives no right, so it is not signed: a forged one is at worst another place to start from.

use crate::instant;
use crate::value::{Amount, Money};
use serde::{Deserialize, Serialize};
use tidemark_model::Micros;

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The last row's place in the order.
    pub after: SortKey,
    /// The first page's lower bound on `window_start` (inclusive), so that the walk does not move with the clock.
    pub lower: Option<Micros>,
    /// Of the filters that the walk was started with; see [`hash`].
    pub filters: u64,
}

/// A row's place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// Its value in the order column. None if that is null, or `window_start` itself.
    pub value: Option<Amount>,
    /// Its window.
    pub window_start: Micros,
    /// Its stream.
    pub stream_id: String,
}

/// The text's content. Short names keep it short.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    f: u64,
    l: Option<i64>,
    c: Option<i64>,
    m: Option<String>,
    w: i64,
    s: String,
}

impl Cursor {
    /// The text for clients.
    pub fn encode(&self) -> String {
        let (c, m) = match &self.after.value {
            None => (None, None),
            Some(Amount::Count(count)) => (Some(*count), None),
            Some(Amount::Money(money)) => (None, Some(money.to_string())),
        };
        let (w, s) = (self.after.window_start.0, self.after.stream_id.clone());
        let wire = Wire { f: self.filters, l: self.lower.map(|lower| lower.0), c, m, w, s };
        let json = serde_json::to_vec(&wire).expect("numbers and strings always serialize");
        json.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `None` for a text that [`Cursor::encode`] cannot have written.
    pub fn decode(text: &str) -> Option<Cursor> {
        let wire: Wire = serde_json::from_slice(&unhex(text)?).ok()?;
        let value = match (wire.c, wire.m) {
            (None, None) => None,
            (Some(count), None) => Some(Amount::Count(count)),
            (None, Some(money)) => Some(Amount::Money(Money::from_text(money).filter(|money| money.to_string().len() <= 22)?)),
            (Some(_), Some(_)) => return None,
        };
        // What a store could not even compare with must not reach it: years far out, and U+0000.
        let times_fit = [Some(wire.w), wire.l].into_iter().flatten().map(Micros).all(in_calendar);
        let after = SortKey { value, window_start: Micros(wire.w), stream_id: wire.s };
        let fits = times_fit && !after.stream_id.contains('\0');
        fits.then_some(Cursor { after, lower: wire.l.map(Micros), filters: wire.f })
    }
}

/// A hash of the filters that is the same in every process and version (FNV-1a).
pub fn hash(filters: &impl Serialize) -> u64 {
    let text = serde_json::to_vec(filters).expect("filters are numbers and strings");
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Whether [`instant::parse`] could have read it: from year 1 to year 9999, give or take an offset.
fn in_calendar(micros: Micros) -> bool {
    let of = |text| instant::parse(text).expect("a valid time");
    (of("0001-01-01T00:00:00+23:59")..=of("9999-12-31T23:59:60-23:59")).contains(&micros)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    text.len().is_multiple_of(2).then(|| text.as_bytes().chunks_exact(2).map(byte).collect()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(value: Option<Amount>) -> Cursor {
        let after = SortKey { value, window_start: Micros(60_000_000), stream_id: "ä".to_owned() };
        Cursor { after, lower: Some(Micros(1)), filters: u64::MAX }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let money = Money::from_text("999999999999999999.99".to_owned()).unwrap();
        for value in [None, Some(Amount::Count(-3)), Some(Amount::Money(money))] {
            assert_eq!(Cursor::decode(&cursor(value.clone()).encode()), Some(cursor(value)));
        }
    }

    #[test]
    fn what_was_never_encoded_is_refused() {
        let mut far = cursor(None);
        far.after.window_start = Micros(i64::MIN);
        let mut nul = cursor(None);
        nul.after.stream_id = "a\0b".to_owned();
        let whole = cursor(None).encode();
        for text in ["", "zz", "+f", "5b5d", "7b7d", "ä", &whole[1..], &whole[2..], &far.encode(), &nul.encode()] {
            assert_eq!(Cursor::decode(text), None, "{text}");
        }
    }
}
