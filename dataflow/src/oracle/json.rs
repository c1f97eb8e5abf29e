//! A slow JSON reader that is easy to believe: first cut the text into lexemes, then let the grammar walk over them with its
//! stack on the heap, so that no nesting is too deep. Nothing is skipped unread: a lone surrogate in an ignored field counts.

use super::decimal::Number;

/// What a document consists of, in its order. Flat, because dropping a deep tree would recurse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Null,
    Bool(bool),
    /// A number, as it is written.
    Number(String),
    /// A string value, unescaped.
    Text(String),
    /// A member's name, unescaped.
    Name(String),
    BeginArray,
    EndArray,
    BeginObject,
    EndObject,
}

/// The tokens of a text that is exactly one JSON value (RFC 8259) between white space; nothing for any other text.
pub(super) fn read(text: &str) -> Option<Vec<Token>> {
    parse(lex(text)?)
}

#[derive(Debug)]
enum Lexeme {
    Punctuation(char),
    String(String),
    Number(String),
    Null,
    Bool(bool),
}

fn lex(text: &str) -> Option<Vec<Lexeme>> {
    let mut lexemes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            ' ' | '\t' | '\n' | '\r' => 1,
            '{' | '}' | '[' | ']' | ':' | ',' => {
                lexemes.push(Lexeme::Punctuation(first));
                1
            }
            '"' => {
                let (string, length) = string(rest)?;
                lexemes.push(Lexeme::String(string));
                length
            }
            // The longest run of such characters must be a number as a whole: nothing of JSON may directly follow a number
            // that begins with one of them.
            '-' | '0'..='9' => {
                let length = run(rest, |c| c.is_ascii_digit() || "+-.eE".contains(c));
                Number::parse(&rest[..length])?;
                lexemes.push(Lexeme::Number(rest[..length].to_owned()));
                length
            }
            _ => {
                let length = run(rest, |c| c.is_ascii_alphabetic());
                lexemes.push(match &rest[..length] {
                    "null" => Lexeme::Null,
                    "true" => Lexeme::Bool(true),
                    "false" => Lexeme::Bool(false),
                    _ => return None,
                });
                length
            }
        };
        rest = &rest[length..];
    }
    Some(lexemes)
}

/// Bytes at the start of `text` that consist of such characters.
fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The string that `text` begins with, unescaped, and its length in bytes with both quotes.
///
/// With escapes it is collected as UTF-16, as JSON means them: then a lone surrogate is what UTF-16 itself does not allow.
fn string(text: &str) -> Option<(String, usize)> {
    let special = 1 + text[1..].bytes().position(|byte| matches!(byte, b'"' | b'\\' | ..=0x1F))?;
    if text.as_bytes()[special] == b'"' {
        return Some((text[1..special].to_owned(), special + 1));
    }
    let mut units: Vec<u16> = Vec::new();
    let mut chars = text.char_indices().skip(1);
    loop {
        match chars.next()? {
            (at, '"') => return Some((String::from_utf16(&units).ok()?, at + 1)),
            (_, '\\') => units.push(match chars.next()?.1 {
                'u' => {
                    let mut unit = 0;
                    for _ in 0..4 {
                        unit = unit * 16 + chars.next()?.1.to_digit(16)?;
                    }
                    u16::try_from(unit).ok()?
                }
                'b' => 0x08,
                'f' => 0x0C,
                'n' => 0x0A,
                'r' => 0x0D,
                't' => 0x09,
                '"' => 0x22,
                '\\' => 0x5C,
                '/' => 0x2F,
                _ => return None,
            }),
            (_, '\0'..='\u{1F}') => return None,
            (_, c) => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
        }
    }
}

/// What the grammar expects next.
#[derive(Clone, Copy)]
enum Expected {
    Value,
    /// Directly after `[`.
    ValueOrEnd,
    /// After a comma in an object.
    Name,
    /// Directly after `{`.
    NameOrEnd,
    Colon,
    /// After a value: what that can be depends on the innermost bracket, and without one it is the document's end.
    Continuation,
}

fn parse(lexemes: Vec<Lexeme>) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut open: Vec<char> = Vec::new();
    let mut expected = Expected::Value;
    for lexeme in lexemes {
        let innermost = open.last().copied();
        expected = match (expected, lexeme) {
            (Expected::ValueOrEnd, Lexeme::Punctuation(']')) | (Expected::NameOrEnd, Lexeme::Punctuation('}')) => {
                tokens.push(end_of(open.pop()?));
                Expected::Continuation
            }
            (Expected::Value | Expected::ValueOrEnd, Lexeme::Punctuation('[')) => {
                tokens.push(Token::BeginArray);
                open.push('[');
                Expected::ValueOrEnd
            }
            (Expected::Value | Expected::ValueOrEnd, Lexeme::Punctuation('{')) => {
                tokens.push(Token::BeginObject);
                open.push('{');
                Expected::NameOrEnd
            }
            (Expected::Value | Expected::ValueOrEnd, lexeme) => {
                tokens.push(scalar(lexeme)?);
                Expected::Continuation
            }
            (Expected::Name | Expected::NameOrEnd, Lexeme::String(name)) => {
                tokens.push(Token::Name(name));
                Expected::Colon
            }
            (Expected::Colon, Lexeme::Punctuation(':')) => Expected::Value,
            (Expected::Continuation, Lexeme::Punctuation(mark)) => match (innermost?, mark) {
                ('[', ',') => Expected::Value,
                ('{', ',') => Expected::Name,
                ('[', ']') | ('{', '}') => {
                    tokens.push(end_of(open.pop()?));
                    Expected::Continuation
                }
                _ => return None,
            },
            _ => return None,
        };
    }
    let complete = matches!(expected, Expected::Continuation) && open.is_empty();
    complete.then_some(tokens)
}

fn scalar(lexeme: Lexeme) -> Option<Token> {
    match lexeme {
        Lexeme::Null => Some(Token::Null),
        Lexeme::Bool(value) => Some(Token::Bool(value)),
        Lexeme::Number(text) => Some(Token::Number(text)),
        Lexeme::String(text) => Some(Token::Text(text)),
        Lexeme::Punctuation(_) => None,
    }
}

fn end_of(bracket: char) -> Token {
    if bracket == '[' { Token::EndArray } else { Token::EndObject }
}
