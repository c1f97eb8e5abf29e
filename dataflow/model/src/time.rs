//! Instants and windows, all UTC, counted from 1970-01-01T00:00:00Z.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Microseconds in a minute.
const MINUTE_MICROS: i64 = 60_000_000;
/// Nanoseconds in a minute.
pub const MINUTE_NANOS: i64 = 60_000_000_000;

/// An event's instant, in nanoseconds since 1970: the unit in which event times are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nanos(pub i64);

/// An instant in microseconds since 1970: the unit of watermarks, clocks and the store.
///
/// [`fmt::Display`] writes RFC 3339 with `Z`, and a fraction of six digits only if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Micros(pub i64);

/// A window `[start, start + 60 s)`, named by its start in whole minutes since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Minute(pub u32);

/// How long the windows are that rows are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// 60 s.
    Minute,
    /// Made of closed minutes.
    Hour,
    /// From midnight to midnight UTC; made of closed minutes too.
    Day,
}

impl Grain {
    /// From short to long.
    pub const ALL: [Grain; 3] = [Grain::Minute, Grain::Hour, Grain::Day];

    /// Minutes in a window.
    pub const fn minutes(self) -> u32 {
        match self {
            Grain::Minute => 1,
            Grain::Hour => 60,
            Grain::Day => 1_440,
        }
    }

    /// The first minute of the window that a minute lies in.
    pub const fn window_of(self, minute: Minute) -> Minute {
        Minute(minute.0 - minute.0 % self.minutes())
    }

    /// The first minute after the window that begins with this one.
    pub const fn end_of(self, window: Minute) -> Minute {
        Minute(window.0 + self.minutes())
    }
}

/// A window that rows are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// How long it is.
    pub grain: Grain,
    /// Its first minute.
    pub first: Minute,
}

impl Window {
    /// The one that a minute lies in.
    pub const fn of(grain: Grain, minute: Minute) -> Window {
        Window { grain, first: grain.window_of(minute) }
    }

    /// The first minute after it.
    pub const fn end_minute(self) -> Minute {
        self.grain.end_of(self.first)
    }

    /// Its first instant (inclusive).
    pub fn start(self) -> Micros {
        self.first.start()
    }

    /// Its exclusive end.
    pub fn end(self) -> Micros {
        self.end_minute().start()
    }
}

impl From<Minute> for Window {
    fn from(minute: Minute) -> Window {
        Window { grain: Grain::Minute, first: minute }
    }
}

impl Nanos {
    /// The first instant that is not a valid event time: 2262-01-01T00:00:00Z (events lie in `[1970, 2262)`).
    pub const END: Nanos = Nanos(9_214_646_400_000_000_000);

    /// Cut, not rounded, to microseconds.
    pub fn to_micros(self) -> Micros {
        Micros(self.0.div_euclid(1_000))
    }
}

impl Micros {
    /// The same instant in nanoseconds, held at the ends of what 64 bits can say.
    pub fn to_nanos(self) -> Nanos {
        Nanos(self.0.saturating_mul(1_000))
    }
}

impl Minute {
    /// The window that an event belongs to. Defined for valid event times only, `[1970, 2262)`.
    pub fn of(ts: Nanos) -> Minute {
        debug_assert!((0..Nanos::END.0).contains(&ts.0), "not an event time: {ts:?}");
        Minute(u32::try_from(ts.0 / MINUTE_NANOS).expect("event times lie in [1970, 2262)"))
    }

    /// The window's first instant (inclusive).
    pub fn start(self) -> Micros {
        Micros(i64::from(self.0) * MINUTE_MICROS)
    }

    /// The window's exclusive end.
    pub fn end(self) -> Micros {
        Micros((i64::from(self.0) + 1) * MINUTE_MICROS)
    }

    /// The window's last nanosecond: the instant at which its viewers are counted.
    pub fn last_nanosecond(self) -> Nanos {
        Nanos((i64::from(self.0) + 1) * MINUTE_NANOS - 1)
    }

    /// The first window that `watermark` leaves open: every earlier one has `end ≤ watermark`.
    pub fn first_open(watermark: Micros) -> Minute {
        Minute(u32::try_from(watermark.0.div_euclid(MINUTE_MICROS).max(0)).unwrap_or(u32::MAX))
    }

    /// Whether the window is closed (equally: late, or final) by this watermark.
    pub fn is_closed_by(self, watermark: Micros) -> bool {
        self.end() <= watermark
    }
}

/// Days since 1970-01-01 of a civil date of the proleptic Gregorian calendar.
///
/// The algorithm is `days_from_civil` of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The civil date (year, month, day) of days since 1970-01-01; the inverse of [`days_from_civil`].
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1_000_000);
        let micros = self.0.rem_euclid(1_000_000);
        let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
        let of_day = seconds.rem_euclid(86_400);
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if micros != 0 {
            write!(f, ".{micros:06}")?;
        }
        f.write_str("Z")
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.start().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_agrees_with_jiff() {
        for days in (-800_000..800_000).step_by(37).chain(-1_000..1_000) {
            let date = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(days);
            let civil = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
            assert_eq!(civil_from_days(days), civil);
            let (month, day) = (u32::try_from(civil.1).unwrap(), u32::try_from(civil.2).unwrap());
            assert_eq!(days_from_civil(civil.0, month, day), days);
        }
    }

    #[test]
    fn instants_print_as_rfc_3339() {
        assert_eq!(Micros(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Micros(951_827_696_000_001).to_string(), "2000-02-29T12:34:56.000001Z");
        assert_eq!(Nanos::END.to_micros().to_string(), "2262-01-01T00:00:00Z");
        assert_eq!(Micros(-1).to_string(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn windows_close_exactly_at_their_end() {
        let minute = Minute::of(Nanos(119_999_999_999));
        assert_eq!(minute, Minute(1));
        assert_eq!(Minute::of(Nanos(120_000_000_000)), Minute(2));
        assert!(minute.is_closed_by(Micros(120_000_000)));
        assert!(!minute.is_closed_by(Micros(119_999_999)));
        assert_eq!(Minute::first_open(Micros(120_000_000)), Minute(2));
        assert_eq!(Minute::first_open(Micros(119_999_999)), Minute(1));
        assert_eq!(Minute::first_open(Micros(i64::MIN)), Minute(0));
    }
}
