//! The instant that a `ts` names.
//!
//! `YYYY-MM-DD`, then `T`, `t` or a blank, `hh:mm:ss`, an optional `.digits`, an optional `Z`, `z` or `±hh:mm`; nothing else.

use tidemark_model::{Nanos, time::days_from_civil};

/// Length of `YYYY-MM-DD`.
const DATE: usize = 10;
/// Seconds in a day.
const DAY: i64 = 86_400;
/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// Reads instants, and remembers the last date, for most records have the date of the one before.
#[derive(Debug)]
pub(super) struct DateCache {
    date: [u8; DATE],
    /// Days since 1970 of `date`.
    days: i64,
}

impl Default for DateCache {
    fn default() -> Self {
        // A true entry, not zeros: an escaped string can hold ten NULs.
        DateCache { date: *b"1970-01-01", days: 0 }
    }
}

impl DateCache {
    /// The instant, if the text is a time and lies in [1970, 2262).
    #[inline]
    pub fn instant(&mut self, text: &[u8]) -> Option<Nanos> {
        let (date, rest) = text.split_first_chunk::<DATE>()?;
        let ([b'T' | b't' | b' '], rest) = rest.split_first_chunk::<1>()? else { return None };
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let days = if *date == self.date { self.days } else { self.remember(*date)? };
        let (hour, minute, second) = time_of_day(*time)?;
        let (nanos, zone) = fraction(rest)?;
        let mut seconds = days * DAY + hour * 3_600 + minute * 60 + second - offset_seconds(zone)?;
        let mut nanos = nanos;
        if second == 60 {
            (seconds, nanos) = (seconds - 1, SECOND - 1);
        }
        // Judged in seconds: nanoseconds of the year 9999 do not fit 64 bits.
        (0..Nanos::END.0 / SECOND).contains(&seconds).then(|| Nanos(seconds * SECOND + nanos))
    }

    #[cold]
    fn remember(&mut self, date: [u8; DATE]) -> Option<i64> {
        self.days = days(&date)?;
        self.date = date;
        Some(self.days)
    }
}

/// Days since 1970 of `YYYY-MM-DD`, if the calendar has that day.
fn days(date: &[u8; DATE]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else { return None };
    let year = two_digits(y1, y2)? * 100 + two_digits(y3, y4)?;
    let (month, day) = (two_digits(m1, m2)?, two_digits(d1, d2)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    (1..=last).contains(&day).then(|| days_from_civil(i64::from(year), month, day))
}

fn two_digits(tens: u8, ones: u8) -> Option<u32> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| u32::from(tens - b'0') * 10 + u32::from(ones - b'0'))
}

/// Hour, minute and second of `hh:mm:ss`, all eight bytes judged at once.
#[inline]
fn time_of_day(time: [u8; 8]) -> Option<(i64, i64, i64)> {
    const COLONS: u64 = 0x0000_ff00_00ff_0000;
    // Digits become their values and colons zero.
    let values = u64::from_le_bytes(time) ^ u64::from_le_bytes(*b"00:00:00");
    if values & COLONS != 0 || !all_digits(values) {
        return None;
    }
    // Byte i becomes 10·v[i] + v[i+1], at most 99, so no byte carries into the next.
    let pairs = values * 10 + (values >> 8);
    let [hour, _, _, minute, _, _, second, _] = pairs.to_le_bytes();
    (hour < 24 && minute < 60 && second <= 60).then(|| (i64::from(hour), i64::from(minute), i64::from(second)))
}

/// Whether each byte is at most 9.
#[inline]
fn all_digits(values: u64) -> bool {
    // 0x76 lifts 10..=0x7f above 0x7f. Larger bytes count by themselves; what they carry into the next no longer matters.
    (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080 == 0
}

/// Nanoseconds of an optional `.digits` at the start, and what follows it. Digits past the ninth are dropped.
#[inline]
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    if let Ok(common) = <[u8; 8]>::try_from(text)
        && let Some(nanos) = six_digits(common)
    {
        return Some((nanos, &text[7..]));
    }
    let Some((b'.', rest)) = text.split_first() else { return Some((0, text)) };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = rest[..length].iter().map(|digit| i64::from(digit - b'0')).chain(std::iter::repeat(0));
    let nanos = digits.take(9).fold(0, |nanos, digit| nanos * 10 + digit);
    (length > 0).then(|| (nanos, &rest[length..]))
}

/// Nanoseconds of `.dddddd` before one more byte: the common case, all digits at once.
#[inline]
fn six_digits(text: [u8; 8]) -> Option<i64> {
    let [b'.', .., last] = text else { return None };
    if last.is_ascii_digit() {
        return None;
    }
    // The digits move to the front and two zeros behind them.
    let values = (u64::from_le_bytes(text) >> 8 & 0xffff_ffff_ffff) ^ 0x3030_3030_3030;
    if !all_digits(values) {
        return None;
    }
    // Pairs, then fours, then all eight; each step's sums fit its lanes.
    let pairs = (values * 10 + (values >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let eight = (fours * 10_000 + (fours >> 32)) & 0xffff_ffff;
    Some(i64::from(u32::try_from(eight).ok()?) * 10)
}

/// What an optional zone at the end adds to UTC, in seconds.
#[inline]
fn offset_seconds(zone: &[u8]) -> Option<i64> {
    match *zone {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two_digits(h1, h2)?, two_digits(m1, m2)?);
            let seconds = i64::from(hours * 3_600 + minutes * 60);
            (hours < 24 && minutes < 60).then_some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_agrees_with_jiff() {
        let mut cache = DateCache::default();
        let first = jiff::civil::date(1970, 1, 1);
        for days in 0..Nanos::END.0 / SECOND / DAY {
            let date = first + jiff::Span::new().days(days);
            let text = format!("{date}T23:59:58.987654321-00:01");
            // One minute later in UTC, so the last day of all lies outside.
            let expected: jiff::Timestamp = text.parse().unwrap();
            let expected = i64::try_from(expected.as_nanosecond()).ok().filter(|nanos| *nanos < Nanos::END.0);
            assert_eq!(cache.instant(text.as_bytes()), expected.map(Nanos), "{text}");
            assert_eq!(cache.days, days);
        }
    }

    #[test]
    fn every_date_that_digits_can_write() {
        let mut cache = DateCache::default();
        for year in [1970, 1999, 2000, 2023, 2024, 2100, 2200] {
            for (month, day) in (0..100).flat_map(|month| (0..100).map(move |day| (month, day))) {
                let exists = jiff::civil::Date::new(year, month, day).is_ok();
                let text = format!("{year}-{month:02}-{day:02}T00:00:00");
                assert_eq!(cache.instant(text.as_bytes()).is_some(), exists, "{text}");
            }
        }
    }

    #[test]
    fn every_time_of_day_that_digits_can_write() {
        for (hour, minute, second) in (0..100).flat_map(|h| (0..100).flat_map(move |m| (0..100).map(move |s| (h, m, s)))) {
            let text =
                [hour / 10, hour % 10, 10, minute / 10, minute % 10, 10, second / 10, second % 10].map(|digit| digit + b'0');
            let expected = (hour < 24 && minute < 60 && second <= 60).then_some((hour.into(), minute.into(), second.into()));
            assert_eq!(time_of_day(text), expected);
        }
    }

    #[test]
    fn every_byte_in_every_place_of_a_time() {
        for place in 0..8 {
            for byte in 0..=255 {
                let mut text = *b"12:34:56";
                text[place] = byte;
                let fives = (b'0', b'5');
                let nines = (b'0', b'9');
                let colon = (b':', b':');
                let (least, largest) = [(b'0', b'2'), nines, colon, fives, nines, colon, fives, nines][place];
                let fits = (least..=largest).contains(&byte);
                assert_eq!(time_of_day(text).is_some(), fits, "{text:?}");
                let mut text = *b".123456Z";
                text[place] = byte;
                let fits = match place {
                    0 => byte == b'.',
                    7 => !byte.is_ascii_digit(),
                    _ => byte.is_ascii_digit(),
                };
                assert_eq!(six_digits(text).is_some(), fits, "{text:?}");
            }
        }
    }
}
