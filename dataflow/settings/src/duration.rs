//! Durations as people write them: "10 minutes", "10m", "500ms", "1h 30m".

use std::time::Duration;

/// Reads a duration. A bare number is refused: its unit would be a guess.
pub fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("{error}; allowed: a number and a unit, as in \"10 minutes\", \"10m\", \"500ms\""))
}

/// A duration as [`parse`] reads it.
pub fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Reads a duration above zero.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("must be more than zero, as in \"10 minutes\", \"10m\", \"500ms\"".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrOff {
    /// Switched off.
    Off,
    /// After this long.
    After(Duration),
}

impl OrOff {
    /// The duration, if there is one.
    pub fn duration(self) -> Option<Duration> {
        match self {
            OrOff::Off => None,
            OrOff::After(duration) => Some(duration),
        }
    }
}

/// Reads a duration above zero, or `off`.
pub fn parse_or_off(text: &str) -> Result<OrOff, String> {
    if text.trim().eq_ignore_ascii_case("off") {
        return Ok(OrOff::Off);
    }
    parse_positive(text).map(OrOff::After).map_err(|error| format!("{error}, or off"))
}

/// Whole microseconds, the unit in which lateness is reckoned. Refuses what 64 bits or a century cannot hold.
pub fn micros(duration: Duration) -> Result<i64, String> {
    const CENTURY: Duration = Duration::from_secs(100 * 366 * 86_400);
    if duration > CENTURY {
        return Err("must be at most 100 years".to_owned());
    }
    i64::try_from(duration.as_micros()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_replaced_system_wrote() {
        for text in ["10 minutes", "10m", "600s", "600 seconds", "10min", " 10 minutes "] {
            assert_eq!(parse(text), Ok(Duration::from_secs(600)), "{text}");
        }
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_or_off("off"), Ok(OrOff::Off));
        assert!(parse("10").is_err());
        assert!(parse("-5s").is_err());
        assert!(parse_positive("0s").is_err());
    }
}
