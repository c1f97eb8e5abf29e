//! One pass over a record's text: is it JSON in full (RFC 8259, with every surrogate escape paired), and what do the known
//! fields of its top-level object hold?
//!
//! The scanner never recurses: the kinds of the open containers are bits in [`Nesting`], so depth costs an eighth of a byte
//! a level. It judges; it copies and converts nothing.

use super::fields::{Field, Fields, Name};
use super::marks::Marks;
use super::text::{hex_unit, join_surrogates};

/// Why a text is not JSON, and at which byte.
pub(super) struct Fault {
    pub at: usize,
    pub what: &'static str,
}

/// Judges a whole text and fills `fields` from its object; if it is another value, returns what it is.
#[inline]
pub(super) fn document<'a>(text: &'a str, nesting: &mut Nesting, fields: &mut Fields<'a>) -> Result<Option<Field<'a>>, Fault> {
    let bytes = text.as_bytes();
    let mut scanner = Scanner { text, bytes, at: 0, marks: Marks::new(bytes), nesting };
    scanner.document(fields).map_err(|what| Fault { at: scanner.at, what })
}

/// What is wrong at the scanner's position.
type Scan<T = ()> = Result<T, &'static str>;

struct Scanner<'a, 'n> {
    text: &'a str,
    /// The bytes of `text`.
    bytes: &'a [u8],
    /// Of the next byte.
    at: usize,
    marks: Marks<'a>,
    nesting: &'n mut Nesting,
}

impl<'a> Scanner<'a, '_> {
    #[inline]
    fn document(&mut self, fields: &mut Fields<'a>) -> Scan<Option<Field<'a>>> {
        self.blanks();
        let other = if self.peek() == Some(b'{') {
            self.object(fields)?;
            None
        } else {
            Some(self.value()?)
        };
        self.blanks();
        if self.at < self.bytes.len() { Err("bytes after the end of the JSON value") } else { Ok(other) }
    }

    /// The top-level object.
    #[inline]
    fn object(&mut self, fields: &mut Fields<'a>) -> Scan {
        self.at += 1;
        self.blanks();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = Name::of(self.name()?);
            let value = if self.peek() == Some(b'"') { self.string()? } else { self.value()? };
            if let Some(name) = name {
                fields.set(name, value);
            }
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err("a ',' or '}' is missing"),
            }
            self.blanks();
        }
        self.at += 1;
        Ok(())
    }

    /// A member's name, and on to its value.
    #[inline(always)]
    fn name(&mut self) -> Scan<Field<'a>> {
        if self.peek() != Some(b'"') {
            return Err("a name in double quotes is missing");
        }
        let name = self.string()?;
        self.blanks();
        if !self.take(b':') {
            return Err("a ':' is missing");
        }
        self.blanks();
        Ok(name)
    }

    #[inline(never)]
    fn value(&mut self) -> Scan<Field<'a>> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{') => self.container().map(|()| Field::Object),
            Some(b'[') => self.container().map(|()| Field::Array),
            Some(b't') => self.literal("true", Field::True),
            Some(b'f') => self.literal("false", Field::False),
            Some(b'n') => self.literal("null", Field::Null),
            Some(0xef) if self.text[self.at..].starts_with('\u{feff}') => Err("a byte order mark is not JSON"),
            _ => Err("a value is missing"),
        }
    }

    /// A nested object or array and all that is in it, level by level without recursion.
    fn container(&mut self) -> Scan {
        self.nesting.clear();
        loop {
            let goes_on = match self.peek() {
                Some(b'{') => self.open(OBJECT)?,
                Some(b'[') => self.open(ARRAY)?,
                _ => self.value().map(|_| false)?,
            };
            if !goes_on && !self.next_value()? {
                return Ok(());
            }
        }
    }

    /// Enters a container; whether a value is in it (and comes next).
    fn open(&mut self, is_object: bool) -> Scan<bool> {
        self.at += 1;
        self.blanks();
        if self.take(if is_object { b'}' } else { b']' }) {
            return Ok(false);
        }
        self.nesting.push(is_object);
        if is_object {
            self.name()?;
        }
        Ok(true)
    }

    /// After a value: leaves the containers that end here; whether another value comes next.
    fn next_value(&mut self) -> Scan<bool> {
        while let Some(is_object) = self.nesting.innermost() {
            self.blanks();
            match (self.peek(), is_object) {
                (Some(b','), _) => {
                    self.at += 1;
                    self.blanks();
                    return if is_object { self.name().map(|_| true) } else { Ok(true) };
                }
                (Some(b'}'), OBJECT) | (Some(b']'), ARRAY) => self.at += 1,
                (_, OBJECT) => return Err("a ',' or '}' is missing"),
                (_, ARRAY) => return Err("a ',' or ']' is missing"),
            }
            self.nesting.pop();
        }
        Ok(false)
    }

    /// A string, whose opening quote comes next.
    #[inline(always)]
    fn string(&mut self) -> Scan<Field<'a>> {
        let start = self.at + 1;
        self.at = self.marks.next(start);
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Field::Plain(&self.text[start..self.at - 1]));
        }
        self.escaped(start)
    }

    /// The rest of a string that is not plain.
    #[cold]
    #[inline(never)]
    fn escaped(&mut self, start: usize) -> Scan<Field<'a>> {
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.at += escape_length(&self.bytes[self.at..])?,
                Some(_) => return Err("a control character in a string"),
                None => return Err("a string without an end"),
            }
            self.at = self.marks.next(self.at);
        }
        self.at += 1;
        Ok(Field::Escaped(&self.text[start..self.at - 1]))
    }

    fn number(&mut self) -> Scan<Field<'a>> {
        let start = self.at;
        self.at = number_end(self.bytes, start)?;
        Ok(Field::Number(&self.text[start..self.at]))
    }

    fn literal(&mut self, word: &str, field: Field<'a>) -> Scan<Field<'a>> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err("a word that is not true, false or null");
        }
        self.at += word.len();
        Ok(field)
    }

    #[inline]
    fn blanks(&mut self) {
        while let Some(byte) = self.peek()
            && byte <= b' '
            && matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
        {
            self.at += 1;
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        let stands = self.peek() == Some(byte);
        self.at += usize::from(stands);
        stands
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

/// Where the JSON number that starts at `start` ends.
#[inline]
pub(super) fn number_end(bytes: &[u8], start: usize) -> Scan<usize> {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
    match bytes.get(at) {
        Some(b'0') => at += 1,
        Some(b'1'..=b'9') => at += digits(at),
        _ => return Err("a number without digits"),
    }
    if bytes.get(at) == Some(&b'.') {
        let count = digits(at + 1);
        if count == 0 {
            return Err("a number without digits after its point");
        }
        at += 1 + count;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let count = digits(at);
        if count == 0 {
            return Err("a number without digits in its exponent");
        }
        at += count;
    }
    Ok(at)
}

/// The length of the escape at the start of `bytes`; a surrogate counts only together with its other half.
fn escape_length(bytes: &[u8]) -> Scan<usize> {
    match bytes.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
        Some(b'u') => {
            let unit = hex_unit(bytes, 2).ok_or("a \\u without four hexadecimal digits")?;
            if char::from_u32(unit).is_some() {
                return Ok(6);
            }
            let low = if bytes[6..].starts_with(b"\\u") { hex_unit(bytes, 8) } else { None };
            low.and_then(|low| join_surrogates(unit, low)).map(|_| 12).ok_or("a lone surrogate escape")
        }
        _ => Err("an unknown escape"),
    }
}

/// [`Nesting`]'s bit for an object.
const OBJECT: bool = true;
/// [`Nesting`]'s bit for an array.
const ARRAY: bool = false;

/// The kinds of the open containers, outermost first, a bit each.
#[derive(Debug, Default)]
pub struct Nesting {
    /// Whole words below `top`.
    full: Vec<u64>,
    /// The innermost up to 64 bits, the last one lowest.
    top: u64,
    depth: usize,
}

impl Nesting {
    fn clear(&mut self) {
        self.full.clear();
        self.depth = 0;
    }

    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.full.push(self.top);
        }
        self.top = self.top << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.top >>= 1;
        if self.depth.is_multiple_of(64) {
            self.top = self.full.pop().unwrap_or_default();
        }
    }

    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.top & 1 == 1)
    }
}
