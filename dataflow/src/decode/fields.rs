//! The known fields of a record's object, as the scanner finds them: spans of the text, not yet judged.

use super::text::unescape;
use std::borrow::Cow;

/// The names that events know. Each may stand once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    EventType,
    StreamId,
    Ts,
    EventId,
    UserId,
    AmountUsd,
    Amount,
}

/// The value of a known name.
#[derive(Clone, Copy)]
pub(super) enum Field<'a> {
    Absent,
    Null,
    /// The inside of a string without escapes: its own value.
    Plain(&'a str),
    /// The inside of a string with escapes.
    Escaped(&'a str),
    Number(&'a str),
    True,
    False,
    Object,
    Array,
}

/// The known fields of an object.
pub(super) struct Fields<'a> {
    fields: [Field<'a>; Name::COUNT],
    /// A known name that stands more than once.
    pub duplicate: Option<Name>,
}

impl Name {
    const COUNT: usize = 7;

    /// The known name that a member's name says.
    #[inline(always)]
    pub fn of(name: Field<'_>) -> Option<Name> {
        match name {
            Field::Plain(text) => Name::parse(text),
            Field::Escaped(raw) => Name::parse(&unescape(raw)),
            _ => None,
        }
    }

    #[inline(always)]
    fn parse(text: &str) -> Option<Name> {
        match text {
            "event_type" => Some(Name::EventType),
            "stream_id" => Some(Name::StreamId),
            "ts" => Some(Name::Ts),
            "event_id" => Some(Name::EventId),
            "user_id" => Some(Name::UserId),
            "amount_usd" => Some(Name::AmountUsd),
            "amount" => Some(Name::Amount),
            _ => None,
        }
    }

    /// The name itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::EventType => "event_type",
            Name::StreamId => "stream_id",
            Name::Ts => "ts",
            Name::EventId => "event_id",
            Name::UserId => "user_id",
            Name::AmountUsd => "amount_usd",
            Name::Amount => "amount",
        }
    }
}

impl<'a> Fields<'a> {
    /// No field.
    #[inline]
    pub fn new() -> Self {
        Fields { fields: [Field::Absent; Name::COUNT], duplicate: None }
    }

    /// The value of a name.
    #[inline]
    pub fn get(&self, name: Name) -> Field<'a> {
        self.fields[name as usize]
    }

    /// Notes a value; a second one of a name is noted as a fault, also if one of them is null.
    #[inline]
    pub fn set(&mut self, name: Name, value: Field<'a>) {
        let field = &mut self.fields[name as usize];
        if !matches!(field, Field::Absent) {
            self.duplicate = Some(name);
        }
        *field = value;
    }
}

impl<'a> Field<'a> {
    /// The value of a string.
    #[inline]
    pub fn string(self) -> Option<Cow<'a, str>> {
        match self {
            Field::Plain(text) => Some(Cow::Borrowed(text)),
            Field::Escaped(raw) => Some(Cow::Owned(unescape(raw))),
            _ => None,
        }
    }

    /// What it is, for people.
    pub fn shape(self) -> &'static str {
        match self {
            Field::Absent => "absent",
            Field::Null => "null",
            Field::Plain(_) | Field::Escaped(_) => "a string",
            Field::Number(_) => "a number",
            Field::True | Field::False => "a boolean",
            Field::Object => "an object",
            Field::Array => "an array",
        }
    }
}
