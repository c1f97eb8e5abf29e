//! The durations that decide what the numbers mean. They are part of the fingerprint: changing one needs a rebuild.

use std::time::Duration;
use tidemark_model::{Micros, Nanos};
use tidemark_settings::duration;

/// Version of the rules themselves; raised when code changes what a record means.
const RULES_VERSION: u32 = 1;

/// Lateness and its companions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    lateness: i64,
    max_future_skew: i64,
    viewer_timeout: i64,
}

impl Rules {
    /// The rules of these durations; lateness and skew are cut to whole microseconds.
    pub fn new(lateness: Duration, max_future_skew: Duration, viewer_timeout: Duration) -> Result<Rules, String> {
        Ok(Rules {
            lateness: duration::micros(lateness).map_err(|error| format!("WATERMARK {error}"))?,
            max_future_skew: duration::micros(max_future_skew).map_err(|error| format!("MAX_FUTURE_SKEW {error}"))?,
            viewer_timeout: duration::micros(viewer_timeout).map_err(|error| format!("VIEWER_TIMEOUT {error}"))?,
        })
    }

    /// Lateness in microseconds.
    pub fn lateness(&self) -> i64 {
        self.lateness
    }

    /// How far an event may be ahead of its record time or the reader's clock, in microseconds.
    pub fn max_future_skew(&self) -> i64 {
        self.max_future_skew
    }

    /// How long a join counts, in nanoseconds.
    pub fn viewer_timeout_nanos(&self) -> i64 {
        self.viewer_timeout.saturating_mul(1_000)
    }

    /// As the oracle takes them.
    pub fn for_oracle(&self) -> crate::oracle::Rules {
        crate::oracle::Rules {
            lateness: self.lateness,
            max_future_skew: self.max_future_skew,
            viewer_timeout: self.viewer_timeout,
        }
    }

    /// The watermark of a partition whose highest event time is this.
    pub fn watermark(&self, highest: Nanos) -> Micros {
        Micros(highest.to_micros().0.saturating_sub(self.lateness))
    }

    /// The rules that a fingerprint was made with; none if it is of another version of the rules.
    pub fn of_fingerprint(fingerprint: &str) -> Option<Rules> {
        let micros = |name: &str| {
            let part = fingerprint.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            part?.strip_suffix("us")?.parse().ok()
        };
        let rules = Rules {
            lateness: micros("lateness")?,
            max_future_skew: micros("future_skew")?,
            viewer_timeout: micros("viewer_timeout")?,
        };
        fingerprint.ends_with(&rules.fingerprint()).then_some(rules)
    }

    /// The part of the fingerprint that these rules are.
    pub fn fingerprint(&self) -> String {
        format!(
            "window=60s lateness={}us future_skew={}us viewer_timeout={}us rules={RULES_VERSION}",
            self.lateness, self.max_future_skew, self.viewer_timeout
        )
    }
}

impl Default for Rules {
    fn default() -> Rules {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Rules::new(minutes(10), minutes(5), minutes(12 * 60)).expect("the defaults are in range")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_back_from_a_fingerprint() {
        let rules = Rules::new(Duration::from_millis(1_500), Duration::ZERO, Duration::from_secs(7)).unwrap();
        assert_eq!(Rules::of_fingerprint(&format!("kafka:t {}", rules.fingerprint())), Some(rules));
        let other_version = rules.fingerprint().replace("rules=", "rules=9");
        assert_eq!(Rules::of_fingerprint(&other_version), None);
        assert_eq!(Rules::of_fingerprint(""), None);
    }
}
