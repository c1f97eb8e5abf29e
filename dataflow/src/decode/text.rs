//! What a JSON string says: unescaping, ids, and how an error message quotes it.

use std::borrow::Cow;
use std::fmt;
use tidemark_model::event::MAX_ID_BYTES;

/// Why a text is no id.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadId {
    Empty,
    /// Its length in bytes.
    TooLong(usize),
    HasNul,
}

/// An id: 1 to [`MAX_ID_BYTES`] bytes without U+0000.
#[inline(always)]
pub(super) fn id(text: Cow<'_, str>) -> Result<Cow<'_, str>, BadId> {
    // A raw NUL is no JSON, so only an escape can have put one there, and then the text is owned.
    let has_nul = matches!(&text, Cow::Owned(owned) if owned.contains('\0'));
    match text.len() {
        0 => Err(BadId::Empty),
        length if length > MAX_ID_BYTES => Err(BadId::TooLong(length)),
        _ if has_nul => Err(BadId::HasNul),
        _ => Ok(text),
    }
}

/// The text that the inside of a JSON string stands for. The scanner has judged it: every escape is whole and paired.
#[cold]
pub(super) fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(backslash) = rest.find('\\') {
        text.push_str(&rest[..backslash]);
        let (character, length) = escape(&rest[backslash..]);
        text.push(character);
        rest = &rest[backslash + length..];
    }
    text.push_str(rest);
    text
}

/// The four hexadecimal digits of `\uXXXX`, which start at `at`.
pub(super) fn hex_unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
}

/// The character of the escape at the start of `raw`, and the escape's length.
fn escape(raw: &str) -> (char, usize) {
    const JUDGED: &str = "the scanner lets only whole escapes pass";
    let bytes = raw.as_bytes();
    let simple = match bytes[1] {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let unit = hex_unit(bytes, 2).expect(JUDGED);
            return match char::from_u32(unit) {
                Some(character) => (character, 6),
                None => (join_surrogates(unit, hex_unit(bytes, 8).expect(JUDGED)).expect(JUDGED), 12),
            };
        }
        itself => char::from(itself),
    };
    (simple, 2)
}

/// The character that two UTF-16 units make; `None` unless the first is a high and the second a low surrogate.
pub(super) fn join_surrogates(high: u32, low: u32) -> Option<char> {
    if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
        return None;
    }
    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadId::Empty => f.write_str("is empty"),
            BadId::TooLong(length) => write!(f, "has {length} bytes"),
            BadId::HasNul => f.write_str("has U+0000 in it"),
        }
    }
}

/// A text as error messages show it: quoted, cut, and with everything unprintable (so also NUL) escaped.
pub(super) struct Quoted<'a>(pub &'a str);

/// Characters of a text that a message shows. Each takes at most ten (`\u{10ffff}`), so a message stays below 1,000.
const SHOWN: usize = 60;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN) {
            Some((cut, _)) => write!(f, "{:?}... ({} bytes)", &self.0[..cut], self.0.len()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescapes_every_form() {
        let cases = [
            ("", ""),
            ("plain ü", "plain ü"),
            (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r"a\u0041\u00e9\uFFFFz", "aA\u{e9}\u{ffff}z"),
            (r"\ud83d\ude00\uD800\uDC00\udbff\udfff", "\u{1f600}\u{10000}\u{10ffff}"),
            (r"ü\u0000ü", "ü\0ü"),
        ];
        for (raw, text) in cases {
            assert_eq!(unescape(raw), text);
            assert_eq!(serde_json::from_str::<String>(&format!("\"{raw}\"")).unwrap(), text);
        }
    }

    #[test]
    fn ids_have_bounds_in_bytes() {
        let borrowed = |text: String| id(Cow::Borrowed(text.as_str())).map(|_| ());
        assert_eq!(borrowed("x".repeat(256)), Ok(()));
        assert_eq!(borrowed("x".repeat(257)), Err(BadId::TooLong(257)));
        assert_eq!(borrowed("ü".repeat(128)), Ok(()));
        assert_eq!(borrowed("ü".repeat(129)), Err(BadId::TooLong(258)));
        assert_eq!(borrowed(String::new()), Err(BadId::Empty));
        assert_eq!(id(Cow::Owned("a\0".to_owned())), Err(BadId::HasNul));
        assert_eq!(id(Cow::Owned(" ".to_owned())), Ok(Cow::Owned(" ".to_owned())));
    }

    #[test]
    fn quotes_are_cut_and_have_no_nul() {
        assert_eq!(Quoted("a\0b").to_string(), r#""a\0b""#);
        let longest = Quoted(&"\u{10ffff}".repeat(5_000)).to_string();
        assert!(longest.chars().count() < 700, "{longest}");
        assert!(longest.ends_with("... (20000 bytes)"));
    }
}
