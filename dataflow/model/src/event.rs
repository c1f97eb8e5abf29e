//! The kinds of events, and the JSON object that the generator writes.

use serde::{Deserialize, Serialize};

/// The six event types that make rows. Any other type is only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A viewer starts to watch.
    ViewerJoin,
    /// A viewer stops watching.
    ViewerLeave,
    /// One chat message.
    ChatMessage,
    /// A donation, with an amount.
    Donation,
    /// A stream goes on air. Changes no total, but its minute has a row.
    StreamStart,
    /// A stream goes off air. Changes no total and ends no presence.
    StreamStop,
}

impl Kind {
    /// All kinds, in the order in which they are declared.
    pub const ALL: [Kind; 6] =
        [Kind::ViewerJoin, Kind::ViewerLeave, Kind::ChatMessage, Kind::Donation, Kind::StreamStart, Kind::StreamStop];

    /// The value of `event_type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::ViewerJoin => "viewer_join",
            Kind::ViewerLeave => "viewer_leave",
            Kind::ChatMessage => "chat_message",
            Kind::Donation => "donation",
            Kind::StreamStart => "stream_start",
            Kind::StreamStop => "stream_stop",
        }
    }

    /// The kind that this `event_type` names, if it is one of the six.
    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Joins and leaves move a viewer and so need a `user_id`.
    pub fn needs_user(self) -> bool {
        matches!(self, Kind::ViewerJoin | Kind::ViewerLeave)
    }
}

/// Longest `stream_id`, `user_id` or `event_id`, in bytes of UTF-8 after unescaping; the shortest is 1.
pub const MAX_ID_BYTES: usize = 256;

/// An event as the generator writes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WireEvent<'a> {
    /// Unique id of the event.
    pub event_id: &'a str,
    /// One of the six types.
    pub event_type: Kind,
    /// The stream it happened in.
    pub stream_id: &'a str,
    /// Who did it; absent for a stream's start and stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a str>,
    /// RFC 3339, UTC.
    pub ts: &'a str,
    /// Dollars, for donations. The shortest decimal of a double is exact for whole cents up to the largest amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount_usd: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_serde_agree() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.as_str()));
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::parse("Donation"), None);
    }
}
