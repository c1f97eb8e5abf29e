//! Letters as people and programs read them.

use crate::ops::books::Letter;
use serde_json::{Value, json};
use std::fmt::Write as _;

const INFALLIBLE: &str = "a string takes all text";

/// A line for each, under a line of names.
pub(super) fn table(letters: &[Letter]) -> String {
    const NAMES: [&str; 5] = ["PARTITION", "OFFSET", "REASON", "RECORD TIME", "REPLAYED"];
    let cells = |letter: &Letter| {
        let time = |time: Option<tidemark_model::Micros>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
        let (partition, offset) = (letter.at.partition.to_string(), letter.at.offset.to_string());
        [partition, offset, letter.reason.clone(), time(letter.record_time), time(letter.replayed_at)]
    };
    let rows: Vec<[String; 5]> = letters.iter().map(cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(NAMES[column].len());
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    let mut line = |cells: [&str; 5], error: &str| {
        for (column, cell) in cells.into_iter().enumerate() {
            // Numbers stand to the right.
            let width = widths[column];
            if column < 2 { write!(text, "{cell:>width$}  ") } else { write!(text, "{cell:<width$}  ") }.expect(INFALLIBLE);
        }
        writeln!(text, "{error}").expect(INFALLIBLE);
    };
    line(NAMES, "ERROR");
    for (row, letter) in rows.iter().zip(letters) {
        line(std::array::from_fn(|column| row[column].as_str()), &one_line(&letter.error));
    }
    text
}

/// Everything that is known of a letter.
pub(super) fn all_of(topic: &str, letter: &Letter) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| writeln!(text, "{name:<12} {value}").expect(INFALLIBLE);
    line("topic", topic);
    line("partition", &letter.at.partition.to_string());
    line("offset", &letter.at.offset.to_string());
    line("reason", &letter.reason);
    line("error", &one_line(&letter.error));
    let record_time = letter.record_time.map_or_else(|| "none".to_owned(), |time| time.to_string());
    line("record time", &record_time);
    line("epoch", &letter.epoch.to_string());
    let replayed_at = letter.replayed_at.map_or_else(|| "never".to_owned(), |time| time.to_string());
    line("replayed at", &replayed_at);
    line("key", &shown(letter.key.as_deref()));
    let bytes = letter.payload.as_ref().map_or_else(String::new, |payload| format!(" ({} bytes)", payload.len()));
    line("payload", &format!("{}{bytes}", kind(letter.payload.as_deref())));
    text += &shown(letter.payload.as_deref());
    text + "\n"
}

/// One object. `payload` and `key` are null if they are no text; `payload_hex` and `key_hex` are there only then.
pub(super) fn object(letter: &Letter) -> Value {
    let mut object = json!({
        "partition": letter.at.partition,
        "offset": letter.at.offset,
        "reason": letter.reason,
        "error": letter.error,
        "record_time": letter.record_time.map(|time| time.to_string()),
        "epoch": letter.epoch,
        "replayed_at": letter.replayed_at.map(|time| time.to_string()),
    });
    let fields = object.as_object_mut().expect("it was just made as one");
    for (name, bytes) in [("key", &letter.key), ("payload", &letter.payload)] {
        let text = bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        fields.insert(name.to_owned(), json!(text));
        if let (Some(bytes), None) = (bytes, text) {
            fields.insert(format!("{name}_hex"), json!(hex(bytes)));
        }
    }
    object
}

fn kind(bytes: Option<&[u8]>) -> &'static str {
    match bytes.map(std::str::from_utf8) {
        None => "none",
        Some(Ok(_)) => "text",
        Some(Err(_)) => "not UTF-8, so in hexadecimal",
    }
}

fn shown(bytes: Option<&[u8]>) -> String {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => "none".to_owned(),
        Some((Ok(text), _)) => text.to_owned(),
        Some((Err(_), bytes)) => hex(bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect(INFALLIBLE);
        text
    })
}

fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
