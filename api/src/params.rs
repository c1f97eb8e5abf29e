//! Strict reading of query parameters. An unknown one is ignored; a known one is right or the request is refused.

use crate::instant;
use crate::value::{Amount, Money};
use std::ops::RangeInclusive;
use tidemark_model::event::MAX_ID_BYTES;
use tidemark_model::metrics::Unit;
use tidemark_model::{Grain, Metric, Micros};
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// Longest part of a bad value that is sent back.
const SHOWN_CHARACTERS: usize = 300;

/// A query parameter that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{parameter} must be {allowed}")]
pub struct BadParameter {
    pub(crate) parameter: String,
    pub(crate) value: String,
    pub(crate) allowed: String,
}

impl BadParameter {
    /// Parameter `name` was `value`, and should be `allowed`.
    pub fn new(name: &str, value: &str, allowed: String) -> BadParameter {
        BadParameter { parameter: name.to_owned(), value: value.chars().take(SHOWN_CHARACTERS).collect(), allowed }
    }
}

/// Most streams that one request names.
const MAX_STREAMS: usize = 100;

/// The parameters of one request: names unescaped, values as they came.
pub struct Parameters<'a> {
    pairs: Vec<(String, &'a str)>,
}

/// A parameter whose value is one of a few words.
pub trait Choice: Copy {
    /// All values.
    fn all() -> impl Iterator<Item = Self>;
    /// The word, compared exactly.
    fn as_str(self) -> &'static str;
}

impl Choice for Metric {
    fn all() -> impl Iterator<Item = Metric> {
        // The order in which refusals have always named them.
        Metric::ALL.into_iter().rev()
    }

    fn as_str(self) -> &'static str {
        self.name()
    }
}

impl Choice for Grain {
    fn all() -> impl Iterator<Item = Grain> {
        Grain::ALL.into_iter()
    }

    fn as_str(self) -> &'static str {
        match self {
            Grain::Minute => "minute",
            Grain::Hour => "hour",
            Grain::Day => "day",
        }
    }
}

impl<'a> Parameters<'a> {
    /// The parameters of this query string (without its `?`).
    pub fn of(query: &'a str) -> Parameters<'a> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        // A name that cannot be unescaped is none of ours, so it is ignored like any other unknown one.
        let pairs = pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(name)?, value))
        });
        Parameters { pairs: pairs.collect() }
    }

    /// An integer in digits only: no sign, fraction or blank.
    pub fn integer(&self, name: &str, range: RangeInclusive<u32>, default: u32) -> Result<u32, BadParameter> {
        let allowed = || format!("an integer from {} to {}", range.start(), range.end());
        let Some(text) = self.text(name, allowed)? else {
            return Ok(default);
        };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && range.contains(&number) => Ok(number),
            _ => Err(BadParameter::new(name, &text, allowed())),
        }
    }

    /// One of a few words.
    pub fn choice<T: Choice>(&self, name: &str, default: T) -> Result<T, BadParameter> {
        self.choice_if(name, |_| true, default)
    }

    /// One of a few words, of which only some fit.
    pub fn choice_if<T: Choice>(&self, name: &str, fits: impl Fn(T) -> bool, default: T) -> Result<T, BadParameter> {
        let choices: Vec<T> = T::all().filter(|choice| fits(*choice)).collect();
        let allowed = || format!("one of {}", choices.iter().map(|choice| choice.as_str()).collect::<Vec<_>>().join(", "));
        let Some(text) = self.text(name, allowed)? else {
            return Ok(default);
        };
        let chosen = choices.iter().copied().find(|choice| choice.as_str() == text);
        chosen.ok_or_else(|| BadParameter::new(name, &text, allowed()))
    }

    /// A value of this metric, if windows of this length have it.
    pub fn amount(&self, name: &str, metric: Metric, grain: Grain) -> Result<Option<Amount>, BadParameter> {
        if !Metric::of(grain).contains(&metric) {
            let allowed = || format!("left out with grain {}", grain.as_str());
            let given = self.text(name, allowed)?;
            return given.map_or(Ok(None), |text| Err(BadParameter::new(name, &text, allowed())));
        }
        Ok(match metric.declared().unit {
            Unit::Count | Unit::Milliseconds => self.whole_number(name)?.map(Amount::Count),
            Unit::Usd => self.dollars(name)?.map(Amount::Money),
        })
    }

    /// A whole number of digits.
    pub fn whole_number(&self, name: &str) -> Result<Option<i64>, BadParameter> {
        let allowed = || format!("an integer from 0 to {}", i64::MAX);
        let Some(text) = self.text(name, allowed)? else { return Ok(None) };
        let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        number.map(Some).ok_or_else(|| BadParameter::new(name, &text, allowed()))
    }

    /// `true` or `false`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, BadParameter> {
        let allowed = || "true or false".to_owned();
        let Some(text) = self.text(name, allowed)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| BadParameter::new(name, &text, allowed()))
    }

    /// An amount of dollars: digits, and at most two behind a point.
    fn dollars(&self, name: &str) -> Result<Option<Money>, BadParameter> {
        let allowed = || "dollars in digits, at most two of them behind a point and 16 before it, as in 12.50".to_owned();
        let Some(text) = self.text(name, allowed)? else { return Ok(None) };
        let (whole, cents) = text.split_once('.').unwrap_or((&text, "00"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let fits = (1..=16).contains(&whole.len()) && (1..=2).contains(&cents.len()) && digits(whole) && digits(cents);
        let hundredths = || format!("{whole}{cents:0<2}").parse().ok().map(Money::from_hundredths);
        let money = if fits { hundredths() } else { None };
        money.map(Some).ok_or_else(|| BadParameter::new(name, &text, allowed()))
    }

    /// An instant, rounded up to whole microseconds.
    pub fn instant(&self, name: &str) -> Result<Option<Micros>, BadParameter> {
        let allowed = || instant::ALLOWED.to_owned();
        let Some(text) = self.text(name, allowed)? else {
            return Ok(None);
        };
        instant::parse(&text).map(Some).ok_or_else(|| BadParameter::new(name, &text, allowed()))
    }

    /// `stream_id`; an empty one is no filter.
    pub fn stream_id(&self) -> Result<Option<String>, BadParameter> {
        let text = self.text("stream_id", allowed_id)?.filter(|text| !text.is_empty());
        text.map(checked_id).transpose()
    }

    /// `stream_id`, repeated for several, each once; an empty one is no filter.
    pub fn stream_ids(&self) -> Result<Vec<String>, BadParameter> {
        let given = self.pairs.iter().filter(|(given, _)| given == "stream_id").map(|(_, value)| *value);
        let mut ids = Vec::new();
        for value in given.filter(|value| !value.is_empty()) {
            let id = unescape(value).ok_or_else(|| BadParameter::new("stream_id", value, allowed_id()))?;
            ids.push(checked_id(id)?);
        }
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > MAX_STREAMS {
            let count = format!("{} of them", ids.len());
            return Err(BadParameter::new("stream_id", &count, format!("given at most {MAX_STREAMS} times")));
        }
        Ok(ids)
    }

    /// A parameter as it came; for one that was read already.
    pub fn given(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(given, _)| given == name).map(|(_, value)| *value)
    }

    /// The unescaped value, if the parameter was given. Twice is once too often; U+0000 is in no text of the store.
    pub fn text(&self, name: &str, allowed: impl Fn() -> String) -> Result<Option<String>, BadParameter> {
        let mut values = self.pairs.iter().filter(|(given, _)| given == name).map(|(_, value)| *value);
        let Some(first) = values.next() else {
            return Ok(None);
        };
        if let Some(second) = values.next() {
            let both = format!("{first} and {second}");
            return Err(BadParameter::new(name, &both, format!("given at most once, and {}", allowed())));
        }
        match unescape(first) {
            Some(text) if !text.contains('\0') => Ok(Some(text)),
            _ => Err(BadParameter::new(name, first, allowed())),
        }
    }
}

/// Any text, in the OpenAPI document.
pub fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// The answer to a question about a stream that names none.
pub fn no_stream_id() -> BadParameter {
    BadParameter::new("stream_id", "", format!("1 byte or more, {}", allowed_id()))
}

/// A stream's name as the last part of a path, where `+` is no blank.
pub fn stream_id_in_path(text: &str) -> Result<String, BadParameter> {
    let bad = || BadParameter::new("stream_id", text, format!("1 byte or more, {}", allowed_id()));
    let id = unescape(&text.replace('+', "%2B")).filter(|id| !id.is_empty()).ok_or_else(bad)?;
    checked_id(id)
}

fn checked_id(id: String) -> Result<String, BadParameter> {
    let fits = id.len() <= MAX_ID_BYTES && !id.contains('\0');
    if fits { Ok(id) } else { Err(BadParameter::new("stream_id", &id, allowed_id())) }
}

fn allowed_id() -> String {
    format!("at most {MAX_ID_BYTES} bytes of UTF-8, without U+0000, escaped as URLs are")
}

/// `None` for an escape that is not two hexadecimal digits, and for bytes that are not UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut unescaped = Vec::with_capacity(text.len());
    let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
    while let Some(byte) = bytes.next() {
        unescaped.push(match byte {
            b'+' => b' ',
            b'%' => u8::try_from(hex(bytes.next())? * 16 + hex(bytes.next())?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(unescaped).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_or_refused() {
        assert_eq!(unescape("a+b%20c%C3%a4").as_deref(), Some("a b cä"));
        for bad in ["%", "%2", "%zz", "%+5", "%ff", "%C3"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }

    #[test]
    fn unknown_parameters_are_ignored_whatever_they_are() {
        let parameters = Parameters::of("&&x=1&x=2&%zz=%zz&=&limit%3D=7&l%69mit=%35");
        assert_eq!(parameters.integer("limit", 1..=9, 2).unwrap(), 5);
        assert_eq!(parameters.integer("minutes", 1..=9, 2).unwrap(), 2);
    }

    #[test]
    fn integers_are_digits_in_range() {
        let limit = |text: &str| Parameters::of(&format!("limit={text}")).integer("limit", 1..=5_000, 200).ok();
        assert_eq!((limit("1"), limit("5000"), limit("007")), (Some(1), Some(5_000), Some(7)));
        for bad in ["", "0", "5001", "%2B5", "+5", "-5", "5.0", "5e1", "0x5", " 5", "5%00", "٥", "99999999999999999999"] {
            assert_eq!(limit(bad), None, "{bad:?}");
        }
    }
}
