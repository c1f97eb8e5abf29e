//! Instants as clients write them: the grammar of an event's `ts`.

use tidemark_model::Micros;
use tidemark_model::time::days_from_civil;

/// What is allowed, for people.
pub const ALLOWED: &str = "a time such as 2025-01-31T12:00:00Z or 2025-01-31T13:00:00+01:00 (no offset: UTC)";

/// Reads an instant, rounded up to whole microseconds: windows start at whole minutes, so `≥` and `<` then compare exactly.
///
/// Date, `T`, `t` or a blank, time with seconds, optional fraction, optional `Z`, `z` or `±hh:mm`. A blank before the offset
/// counts as `+`, which is what an unescaped `+` turns into in a query string.
pub fn parse(text: &str) -> Option<Micros> {
    let bytes = text.as_bytes();
    let (year, month, day) = (number(bytes, 0..4)?, number(bytes, 5..7)?, number(bytes, 8..10)?);
    let (hour, minute, second) = (number(bytes, 11..13)?, number(bytes, 14..16)?, number(bytes, 17..19)?);
    let separated = bytes[4] == b'-' && bytes[7] == b'-' && bytes[13] == b':' && bytes[16] == b':';
    if !separated || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, rest) = fraction(&bytes[19..])?;
    // Second 60 stands for the last nanosecond of its minute, whatever its fraction: rounded up, the next minute's start.
    let fraction = if second == 60 { 0 } else { fraction };
    let days = days_from_civil(i64::from(year), month, day);
    let seconds = days * 86_400 + i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second) - offset(rest)?;
    Some(Micros(seconds * 1_000_000 + fraction))
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Microseconds of an optional `.digits`, rounded up, and what follows it.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(bytes) = bytes.strip_prefix(b".") else {
        return Some((0, bytes));
    };
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(digits);
    let micros = (0..6).fold(0, |micros, place| micros * 10 + digits.get(place).map_or(0, |digit| i64::from(digit - b'0')));
    let more = digits.iter().skip(6).any(|&digit| digit != b'0');
    (!digits.is_empty()).then_some((micros + i64::from(more), rest))
}

/// Seconds that the written time is ahead of UTC.
fn offset(bytes: &[u8]) -> Option<i64> {
    let sign = match bytes {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+' | b' ', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return None,
    };
    let (hours, minutes) = (number(bytes, 1..3)?, number(bytes, 4..6)?);
    (hours <= 23 && minutes <= 59).then(|| sign * (i64::from(hours) * 3_600 + i64::from(minutes) * 60))
}

fn number(bytes: &[u8], place: std::ops::Range<usize>) -> Option<u32> {
    let digits = bytes.get(place)?;
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_an_event_may_carry() {
        for (text, expected) in [
            ("2024-02-29T12:34:56Z", "2024-02-29T12:34:56Z"),
            ("2024-02-29 12:34:56", "2024-02-29T12:34:56Z"),
            ("2024-02-29t12:34:56.5z", "2024-02-29T12:34:56.500000Z"),
            ("2024-03-01T01:00:00+02:00", "2024-02-29T23:00:00Z"),
            ("2024-03-01T01:00:00 02:00", "2024-02-29T23:00:00Z"),
            ("2024-03-01T01:00:00-00:30", "2024-03-01T01:30:00Z"),
            ("2024-03-01T01:00:00.0000001Z", "2024-03-01T01:00:00.000001Z"),
            ("2024-12-31T23:59:60.9Z", "2025-01-01T00:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(parse(text).map(|micros| micros.to_string()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "2024",
            "2024-02-29",
            "2024-02-29T12:34Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+0200",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00Z ",
            "2024-01-01T00:00:0éZ",
            "+024-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "1700000000",
            "now",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
