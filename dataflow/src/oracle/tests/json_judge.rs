//! Our JSON reader against `serde_json`, on generated documents and on mutations of them.

use crate::oracle::json::{Token, read};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::Value;

/// Both readers take the text for the same value, or neither for any. Returns whether it is JSON.
fn judge(text: &str) -> bool {
    match (read(text), serde_json::from_str::<Value>(text)) {
        (Some(tokens), Ok(value)) => {
            assert_eq!(value_of(&mut tokens.into_iter()), value, "{text:?}");
            true
        }
        (None, Err(_)) => false,
        // serde_json refuses numbers beyond a double and nesting beyond 128; JSON does not.
        (Some(_), Err(error)) => {
            let limit = ["number out of range", "recursion limit exceeded"].iter().any(|limit| error.to_string().contains(limit));
            assert!(limit, "only we take {text:?}: {error}");
            true
        }
        (None, Ok(value)) => panic!("only serde_json takes {text:?}: {value}"),
    }
}

/// The value of the next tokens. Recurses, as only a test may.
fn value_of(tokens: &mut impl Iterator<Item = Token>) -> Value {
    let first = tokens.next().unwrap();
    value_from(first, tokens)
}

fn value_from(first: Token, tokens: &mut impl Iterator<Item = Token>) -> Value {
    match first {
        Token::Null => Value::Null,
        Token::Bool(value) => Value::Bool(value),
        Token::Text(text) => Value::String(text),
        Token::Number(text) => Value::Number(text.parse().unwrap()),
        Token::BeginArray => {
            let mut items = Vec::new();
            loop {
                match tokens.next().unwrap() {
                    Token::EndArray => return Value::Array(items),
                    token => items.push(value_from(token, tokens)),
                }
            }
        }
        Token::BeginObject => {
            let mut members = serde_json::Map::new();
            loop {
                match tokens.next().unwrap() {
                    Token::EndObject => return Value::Object(members),
                    Token::Name(name) => members.insert(name, value_of(tokens)),
                    other => panic!("{other:?} in place of a name"),
                };
            }
        }
        Token::EndArray | Token::EndObject | Token::Name(_) => panic!("{first:?} in place of a value"),
    }
}

struct Generator(Xoshiro256PlusPlus);

impl Generator {
    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.0.random_range(0..choices.len())]
    }

    fn blank(&mut self) -> &'static str {
        self.one_of(&["", "", "", "", " ", "\t", "\r\n", " \n "])
    }

    fn number(&mut self) -> String {
        let whole = self.one_of(&["0", "1", "7", "10", "90210", "18446744073709551615", "9223372036854775808"]);
        let fraction = self.one_of(&["", "", ".0", ".5", ".005", ".00"]);
        let exponent = self.one_of(&["", "", "", "e0", "E5", "e-7", "E+10", "e400"]);
        format!("{}{whole}{fraction}{exponent}", self.one_of(&["", "-"]))
    }

    fn string(&mut self) -> String {
        const PIECES: [&str; 22] = [
            "a",
            "ts",
            "é",
            "😀",
            "\u{7f}",
            "\u{feff}",
            " ",
            "/",
            "\\\"",
            "\\\\",
            "\\/",
            "\\b",
            "\\f",
            "\\n",
            "\\r",
            "\\t",
            "\\u0000",
            "\\u00e9",
            "\\uD83D\\uDE00",
            "\\udbff\\udfff",
            "\\uFFFF",
            "\\u0061",
        ];
        let pieces: String = (0..self.0.random_range(0..5)).map(|_| self.one_of(&PIECES)).collect();
        format!("\"{pieces}\"")
    }

    fn value(&mut self, depth: u32) -> String {
        let kinds = if depth == 0 { 4 } else { 8 };
        let value = match self.0.random_range(0..kinds) {
            0 => self.one_of(&["null", "true", "false"]).to_owned(),
            1 => self.number(),
            2 | 3 => self.string(),
            4 | 5 => {
                let items: Vec<String> = (0..self.0.random_range(0..4)).map(|_| self.value(depth - 1)).collect();
                format!("[{}{}]", items.join(","), self.blank())
            }
            _ => {
                let mut members = Vec::new();
                for _ in 0..self.0.random_range(0..4) {
                    members.push(format!("{}{}{}:{}", self.blank(), self.string(), self.blank(), self.value(depth - 1)));
                }
                format!("{{{}{}}}", members.join(","), self.blank())
            }
        };
        format!("{}{value}{}", self.blank(), self.blank())
    }

    /// Up to three small wounds: a character taken out, put in, replaced, or a stretch repeated.
    fn wound(&mut self, document: &str) -> String {
        const SPLINTERS: [&str; 46] = [
            "{", "}", "[", "]", ":", ",", "\"", "\\", "u", "d", "0", "1", "9", "-", "+", ".", "e", "E", "n", "t", "f", "null",
            "true", "false", " ", "\t", "\n", "\r", "\0", "\u{1f}", "\u{b}", "\u{c}", "\u{a0}", "\u{feff}", "\u{2028}", "/", "'",
            "\\u", "\\ud800", "\\udc00", "\\u+123", "NaN", "é", "//", "٣", "\\v",
        ];
        let mut chars: Vec<char> = document.chars().collect();
        for _ in 0..self.0.random_range(1..=3) {
            let at = self.0.random_range(0..=chars.len());
            let end = (at + self.0.random_range(0..3_usize)).min(chars.len());
            let splinter: Vec<char> = match self.0.random_range(0..4) {
                0 => Vec::new(),
                1 => [&chars[at..end], &chars[at..end]].concat(),
                _ => self.one_of(&SPLINTERS).chars().collect(),
            };
            chars.splice(at..end, splinter);
        }
        chars.into_iter().collect()
    }
}

#[test]
fn generated_documents_are_json() {
    let mut generator = Generator(Xoshiro256PlusPlus::seed_from_u64(1));
    for _ in 0..5_000 {
        let document = generator.value(5);
        assert!(judge(&document), "{document}");
    }
}

#[test]
fn mutated_documents_are_judged_alike() {
    let mut generator = Generator(Xoshiro256PlusPlus::seed_from_u64(2));
    let (mut valid, mut invalid) = (0, 0);
    for _ in 0..60_000 {
        let document = generator.value(3);
        let wounded = generator.wound(&document);
        if judge(&wounded) { valid += 1 } else { invalid += 1 }
    }
    assert!(valid > 5_000 && invalid > 5_000, "{valid} valid and {invalid} invalid prove little");
}

#[test]
fn short_texts_are_judged_alike() {
    const ALPHABET: [&str; 16] = ["{", "}", "[", "]", ":", ",", "\"", "\\", "0", "1", "-", ".", "e", "null", " ", "\"a\""];
    let mut texts = vec![String::new()];
    for _ in 0..4 {
        texts = texts.iter().flat_map(|text| ALPHABET.iter().map(move |piece| format!("{text}{piece}"))).collect();
        for text in &texts {
            judge(text);
        }
    }
}
