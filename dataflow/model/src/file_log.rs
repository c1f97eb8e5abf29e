//! The file log's line: `DIR/TOPIC/PARTITION.log`, one record a line, the record time in milliseconds since 1970, a blank,
//! the payload, `\n`. A record's offset is the byte position of its line's start.

use std::path::{Path, PathBuf};

/// Partitions that a new topic gets unless told otherwise.
pub const DEFAULT_PARTITIONS: i32 = 4;

/// The directory of a topic.
pub fn topic_dir(log_dir: &Path, topic: &str) -> PathBuf {
    log_dir.join(topic)
}

/// The file of a partition.
pub fn partition_path(log_dir: &Path, topic: &str, partition: i32) -> PathBuf {
    topic_dir(log_dir, topic).join(format!("{partition}.log"))
}

/// The file that tells a topic from another one of the same name: written once, when the topic is made. A copy of the topic has it
/// too; topics that others made may have none.
pub fn id_path(log_dir: &Path, topic: &str) -> PathBuf {
    topic_dir(log_dir, topic).join("topic.id")
}

/// The partition that a file name of a topic's directory stands for.
pub fn partition_of(file_name: &str) -> Option<i32> {
    let digits = file_name.strip_suffix(".log")?;
    let partition: i32 = digits.parse().ok()?;
    (partition >= 0 && partition.to_string() == digits).then_some(partition)
}

/// A payload that cannot be a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewlineInPayload;

impl std::fmt::Display for NewlineInPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a record of the file log cannot have a newline in it")
    }
}

impl std::error::Error for NewlineInPayload {}

/// Appends the line of a record to `out`. `record_time_ms` is in milliseconds since 1970 and not negative.
pub fn write_line(record_time_ms: u64, payload: &[u8], out: &mut Vec<u8>) -> Result<(), NewlineInPayload> {
    if payload.contains(&b'\n') {
        return Err(NewlineInPayload);
    }
    out.extend_from_slice(record_time_ms.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(payload);
    out.push(b'\n');
    Ok(())
}

/// The record time (milliseconds since 1970) and payload of a line without its `\n`.
///
/// A line of another form (no digits, more than 15, or no blank after them) is a record without a record time whose payload is
/// the whole line.
pub fn parse_line(line: &[u8]) -> (Option<i64>, &[u8]) {
    const MAX_DIGITS: usize = 15;
    let digits = line.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > MAX_DIGITS || line.get(digits) != Some(&b' ') {
        return (None, line);
    }
    let time = line[..digits].iter().fold(0, |time, byte| time * 10 + i64::from(byte - b'0'));
    (Some(time), &line[digits + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip() {
        let mut line = Vec::new();
        write_line(1_700_000_000_123, b"{\"a\": 1}", &mut line).unwrap();
        assert_eq!(line, b"1700000000123 {\"a\": 1}\n");
        assert_eq!(parse_line(&line[..line.len() - 1]), (Some(1_700_000_000_123), &b"{\"a\": 1}"[..]));
        assert_eq!(write_line(0, b"a\nb", &mut line), Err(NewlineInPayload));
    }

    #[test]
    fn lines_of_another_form_are_payload() {
        for line in [&b""[..], b" x", b"{}", b"12", b"1234567890123456 x", b"-5 x"] {
            assert_eq!(parse_line(line), (None, line));
        }
        assert_eq!(parse_line(b"5 "), (Some(5), &b""[..]));
    }

    #[test]
    fn names_of_partitions() {
        assert_eq!(partition_of("12.log"), Some(12));
        for name in ["012.log", "-1.log", "x.log", "1.log.old", "1"] {
            assert_eq!(partition_of(name), None);
        }
    }
}
