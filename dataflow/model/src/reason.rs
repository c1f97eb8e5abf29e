//! Why a record is rejected.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The reasons, in the order in which they are looked for: a record has the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No payload (a tombstone), or one of zero bytes.
    Empty,
    /// The payload is not UTF-8.
    InvalidUtf8,
    /// Not one JSON value: also a byte order mark, a lone surrogate escape, or bytes after the value.
    InvalidJson,
    /// JSON, but not an object.
    NotObject,
    /// One of the seven known names stands twice.
    DuplicateField,
    /// A required field is absent or null.
    MissingField,
    /// A field has a JSON type that it must not have.
    WrongType,
    /// An id is empty, longer than 256 bytes, or has U+0000 in it.
    BadId,
    /// `ts` is not a time, or lies outside of [1970, 2262).
    BadTs,
    /// An amount is not a number, is negative, or is above 1,000,000,000.00.
    BadAmount,
    /// `ts` is too far ahead of the record time or the reader's clock.
    Future,
    /// The window was over by the partition's own watermark.
    Late,
    /// On time in its partition, but the pipeline's watermark had closed the window.
    Closed,
}

impl Reason {
    /// All reasons, in order.
    pub const ALL: [Reason; 13] = [
        Reason::Empty,
        Reason::InvalidUtf8,
        Reason::InvalidJson,
        Reason::NotObject,
        Reason::DuplicateField,
        Reason::MissingField,
        Reason::WrongType,
        Reason::BadId,
        Reason::BadTs,
        Reason::BadAmount,
        Reason::Future,
        Reason::Late,
        Reason::Closed,
    ];

    /// The value of `dead_letters.reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Empty => "empty",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::InvalidJson => "invalid_json",
            Reason::NotObject => "not_object",
            Reason::DuplicateField => "duplicate_field",
            Reason::MissingField => "missing_field",
            Reason::WrongType => "wrong_type",
            Reason::BadId => "bad_id",
            Reason::BadTs => "bad_ts",
            Reason::BadAmount => "bad_amount",
            Reason::Future => "future",
            Reason::Late => "late",
            Reason::Closed => "closed",
        }
    }

    /// The reason of this name.
    pub fn parse(text: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn names_and_serde_agree() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
    }
}
