//! Bytes to an event or the first reason why not, read off the design's table from top to bottom.

use super::decimal::Number;
use super::instant;
use super::json::{self, Token};
use tidemark_model::{Cents, Kind, Nanos, Reason};

/// An event of one of the six types whose fields are all as they must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which of the six.
    pub kind: Kind,
    /// The stream it happened in.
    pub stream: String,
    /// When it happened.
    pub ts: Nanos,
    /// Its id; without one it is never de-duplicated.
    pub event_id: Option<String>,
    /// The `user_id` if there is a valid one. Joins and leaves always have it.
    pub user: Option<String>,
    /// The donation; 0 for other kinds.
    pub amount: Cents,
}

/// What a payload is that is not rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// An event of one of the six types.
    Event(Event),
    /// An object with an `event_type` that is none of the six: only counted.
    OtherType,
}

/// The names that must not stand twice.
const KNOWN_NAMES: [&str; 7] = ["event_type", "stream_id", "ts", "event_id", "user_id", "amount_usd", "amount"];

/// Decodes one payload. Pure; the reasons `future`, `late` and `closed` are not decided here.
pub fn decode(payload: Option<&[u8]>) -> Result<Decoded, Reason> {
    let bytes = payload.filter(|bytes| !bytes.is_empty()).ok_or(Reason::Empty)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Reason::InvalidUtf8)?;
    let tokens = json::read(text).ok_or(Reason::InvalidJson)?;
    let members = members(tokens).ok_or(Reason::NotObject)?;
    let stands_twice = |known: &&str| members.iter().filter(|(name, _)| name == known).count() > 1;
    if KNOWN_NAMES.iter().any(stands_twice) {
        return Err(Reason::DuplicateField);
    }

    let event_type = required(text_of(&members, "event_type")?)?;
    let Some(kind) = Kind::parse(event_type) else { return Ok(Decoded::OtherType) };
    let stream = required(id_of(&members, "stream_id")?)?;
    let ts = required(text_of(&members, "ts")?)?;
    let ts = instant::parse(ts).ok_or(Reason::BadTs)?;
    let event_id = id_of(&members, "event_id")?;
    let user = match kind {
        Kind::ViewerJoin | Kind::ViewerLeave => Some(required(id_of(&members, "user_id")?)?),
        _ => id_of(&members, "user_id").unwrap_or(None),
    };
    let amount = if kind == Kind::Donation { amount(&members)? } else { Cents(0) };
    Ok(Decoded::Event(Event { kind, stream, ts, event_id, user, amount }))
}

/// What a member of the payload's object is, as far as any rule asks.
enum Shape {
    Null,
    Text(String),
    Number(String),
    /// `true`, `false`, an array or an object.
    Other,
}

type Members = Vec<(String, Shape)>;

/// The members of the document's object; nothing if the document is not an object.
fn members(tokens: Vec<Token>) -> Option<Members> {
    if tokens.first() != Some(&Token::BeginObject) {
        return None;
    }
    let mut members: Members = Vec::new();
    let mut depth = 0_u64;
    for token in tokens {
        match token {
            Token::BeginArray | Token::BeginObject => depth += 1,
            Token::EndArray | Token::EndObject => depth -= 1,
            // Until its value says otherwise, a member is of another shape.
            Token::Name(name) if depth == 1 => members.push((name, Shape::Other)),
            Token::Null if depth == 1 => members.last_mut()?.1 = Shape::Null,
            Token::Text(text) if depth == 1 => members.last_mut()?.1 = Shape::Text(text),
            Token::Number(text) if depth == 1 => members.last_mut()?.1 = Shape::Number(text),
            _ => {}
        }
    }
    Some(members)
}

/// The member of this name, unless it is absent or null.
fn present<'a>(members: &'a Members, name: &str) -> Option<&'a Shape> {
    members.iter().find(|(candidate, _)| candidate == name).map(|(_, shape)| shape).filter(|shape| !matches!(shape, Shape::Null))
}

fn text_of<'a>(members: &'a Members, name: &str) -> Result<Option<&'a str>, Reason> {
    match present(members, name) {
        None => Ok(None),
        Some(Shape::Text(text)) => Ok(Some(text)),
        Some(_) => Err(Reason::WrongType),
    }
}

fn id_of(members: &Members, name: &str) -> Result<Option<String>, Reason> {
    match text_of(members, name)? {
        None => Ok(None),
        Some(id) if (1..=256).contains(&id.len()) && !id.contains('\0') => Ok(Some(id.to_owned())),
        Some(_) => Err(Reason::BadId),
    }
}

fn required<T>(value: Option<T>) -> Result<T, Reason> {
    value.ok_or(Reason::MissingField)
}

fn amount(members: &Members) -> Result<Cents, Reason> {
    let shape = present(members, "amount_usd").or_else(|| present(members, "amount"));
    match required(shape)? {
        Shape::Number(text) | Shape::Text(text) => Number::parse(text).and_then(Number::to_cents).ok_or(Reason::BadAmount),
        Shape::Null | Shape::Other => Err(Reason::WrongType),
    }
}
