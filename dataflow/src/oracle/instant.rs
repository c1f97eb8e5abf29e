//! The instant that a `ts` names, by comparing the text's shape with what is allowed and counting days year by year.

use tidemark_model::Nanos;

/// The instant of `text`, if it is written as the design allows and lies in `[1970, 2262)`.
pub(super) fn parse(text: &str) -> Option<Nanos> {
    if !text.is_ascii() || text.len() < 19 {
        return None;
    }
    let (civil, rest) = text.split_at(19);
    if !["0000-00-00T00:00:00", "0000-00-00t00:00:00", "0000-00-00 00:00:00"].contains(&shape(civil).as_str()) {
        return None;
    }
    let day = days_since_1969(number(&civil[0..4]), number(&civil[5..7]), number(&civil[8..10]))?;
    let (hour, minute, second) = (number(&civil[11..13]), number(&civil[14..16]), number(&civil[17..19]));
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let zone_at = rest.strip_prefix('.').map_or(0, |digits| 1 + digits.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction, zone) = rest.split_at(zone_at);
    let nanos_of_minute = match fraction {
        "." => return None,
        _ if second == 60 => 59_999_999_999,
        _ => second * 1_000_000_000 + nanos_of_fraction(fraction),
    };
    let minutes = (day - 365) * 1_440 + hour * 60 + minute - minutes_of_zone(zone)?;
    let nanos = i128::from(minutes) * 60_000_000_000 + i128::from(nanos_of_minute);
    let end = i128::from(Nanos::END.0);
    (0..end).contains(&nanos).then(|| Nanos(i64::try_from(nanos).expect("less than the end of event times")))
}

/// The text with every digit replaced by 0.
fn shape(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

fn number(digits: &str) -> i64 {
    digits.parse().expect("a few digits, by their shape")
}

/// The first nine digits after the point, filled up with zeros; the rest is dropped.
fn nanos_of_fraction(fraction: &str) -> i64 {
    let digits: String = fraction.chars().skip(1).chain("000000000".chars()).take(9).collect();
    number(&digits)
}

/// Minutes that the zone is ahead of UTC.
fn minutes_of_zone(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z") {
        return Some(0);
    }
    let sign = match shape(zone).as_str() {
        "+00:00" => 1,
        "-00:00" => -1,
        _ => return None,
    };
    let (hours, minutes) = (number(&zone[1..3]), number(&zone[4..6]));
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

/// Days from 1969-01-01 to a date that exists. Years in which no event time can lie in any zone are refused at once.
fn days_since_1969(year: i64, month: i64, day: i64) -> Option<i64> {
    let exists = (1969..=2262).contains(&year) && (1..=12).contains(&month) && (1..=days_of_month(year, month)).contains(&day);
    let years: i64 = (1969..year).map(|earlier| if is_leap(earlier) { 366 } else { 365 }).sum();
    let months: i64 = (1..month).map(|earlier| days_of_month(year, earlier)).sum();
    exists.then_some(years + months + day - 1)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: i64) -> bool {
    year % 400 == 0 || (year % 4 == 0 && year % 100 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(text: &str) -> Option<i64> {
        parse(text).map(|ts| ts.0)
    }

    #[test]
    fn every_day_agrees_with_jiff() {
        let mut date = jiff::civil::date(1969, 12, 30);
        let mut zones = ["Z", "+05:45", "-23:59"].into_iter().cycle();
        while date.year() < 2263 {
            let zone = zones.next().unwrap();
            for time in ["00:00:00", "23:59:59.999999999"] {
                let text = format!("{date}T{time}{zone}");
                let judge = text.parse::<jiff::Timestamp>().unwrap().as_nanosecond();
                let valid = (0..i128::from(Nanos::END.0)).contains(&judge);
                assert_eq!(parse(&text).map(|ts| i128::from(ts.0)), valid.then_some(judge), "{text}");
            }
            date = date.tomorrow().unwrap();
        }
    }

    #[test]
    fn what_may_be_written_in_several_ways_is_the_same_instant() {
        for text in [
            "2024-02-29T12:34:56Z",
            "2024-02-29t12:34:56z",
            "2024-02-29 12:34:56",
            "2024-02-29T12:34:56",
            "2024-02-29T12:34:56.0Z",
            "2024-02-29T14:04:56+01:30",
            "2024-02-29T11:04:56-01:30",
            "2024-03-01T12:33:56+23:59",
            "2024-02-28 12:35:56-23:59",
            "2024-02-29T12:34:56.000000000999+00:00",
            "2024-02-29T12:34:56-00:00",
        ] {
            assert_eq!(nanos(text), Some(1_709_210_096_000_000_000), "{text}");
        }
    }

    #[test]
    fn digits_past_the_ninth_are_dropped() {
        assert_eq!(nanos("1970-01-01T00:00:00.1"), Some(100_000_000));
        assert_eq!(nanos("1970-01-01T00:00:00.123456789"), Some(123_456_789));
        assert_eq!(nanos("1970-01-01T00:00:00.1234567899999Z"), Some(123_456_789));
        assert_eq!(nanos("1970-01-01T00:00:59.9999999999"), Some(59_999_999_999));
    }

    #[test]
    fn second_60_is_the_last_nanosecond_of_its_minute() {
        for text in ["1970-01-01T00:01:60Z", "1970-01-01T00:01:60.0", "1970-01-01T00:01:60.999", "1970-01-01T02:01:60+02:00"] {
            assert_eq!(nanos(text), Some(119_999_999_999), "{text}");
        }
    }

    #[test]
    fn event_times_lie_in_1970_to_2262() {
        assert_eq!(nanos("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(nanos("1969-12-31T23:59:00-00:01"), Some(0));
        assert_eq!(nanos("2261-12-31T23:59:59.999999999Z"), Some(Nanos::END.0 - 1));
        assert_eq!(nanos("2261-12-31T23:59:60Z"), Some(Nanos::END.0 - 1));
        assert_eq!(nanos("2262-01-01T00:00:59+00:01"), Some(Nanos::END.0 - 1_000_000_000));
        for text in [
            "1969-12-31T23:59:59.999999999Z",
            "1970-01-01T00:00:00+00:01",
            "2262-01-01T00:00:00Z",
            "2261-12-31T23:59:00-00:01",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_time() {
        for text in [
            "",
            "Z",
            "2024-02-29",
            "2024-02-29T12:34",
            "2024-02-29T12:34Z",
            "2023-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2024-00-10T00:00:00Z",
            "2024-13-10T00:00:00Z",
            "2024-04-31T00:00:00Z",
            "2024-04-00T00:00:00Z",
            "2024-02-29T24:00:00Z",
            "2024-02-29T12:60:00Z",
            "2024-02-29T12:34:61Z",
            "2024-02-29T12:34:56.Z",
            "2024-02-29T12:34:56.",
            "2024-02-29T12:34:56,5Z",
            "2024-02-29T12:34:56+24:00",
            "2024-02-29T12:34:56+01:60",
            "2024-02-29T12:34:56+0100",
            "2024-02-29T12:34:56+01",
            "2024-02-29T12:34:56+1:00",
            "2024-02-29T12:34:56 Z",
            "2024-02-29T12:34:56ZZ",
            "2024-02-29T12:34:56Z ",
            " 2024-02-29T12:34:56Z",
            "2024-02-29_12:34:56Z",
            "2024-02-29  12:34:56Z",
            "20240229T123456Z",
            "2024-2-29T12:34:56Z",
            "24-02-29T12:34:56Z",
            "+2024-02-29T12:34:56Z",
            "-2024-02-29T12:34:56",
            "02024-02-29T12:34:56Z",
            "2024-060T12:34:56Z",
            "2024-02-29T12:34:56UTC",
            "2024-02-29T12:34:56.5.5Z",
            "2024-02-29T12:34:56−01:00",
            "２024-02-29T12:34:56Z",
            "2024-02-29T12:34:56+01:00[Europe/Berlin]",
            "2024-02-29T12:34:56\n",
            "1709210096",
            "dddd-dd-ddTdd:dd:dd",
            "2024-02-29\u{a0}12:34:56Z",
        ] {
            assert_eq!(nanos(text), None, "{text:?}");
        }
    }
}
