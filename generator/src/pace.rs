//! How many events are due. No clock in here: the caller says how much time has passed, so tests need not wait.

use std::time::Duration;

/// Events per second, or as many as can be taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// So many a second; finite and above zero.
    PerSecond(f64),
    /// No limit.
    Max,
}

/// A schedule from the start of a run. What a stall delays is caught up, so the mean rate holds over minutes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: Rate,
}

/// Shortest pause: at high rates events go out in small groups instead of with a wake-up each.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// A run is behind once it owes more than this much time of its rate; less is the ordinary wait between two groups.
const TOLERATED_SECONDS: f64 = 1.0;

impl Pace {
    /// A schedule at this rate.
    pub fn new(rate: Rate) -> Pace {
        Pace { rate }
    }

    /// Events due since the start, after `elapsed`. The first is due at once.
    pub fn due(&self, elapsed: Duration) -> u64 {
        match self.rate {
            Rate::Max => u64::MAX,
            Rate::PerSecond(rate) => whole(elapsed.as_secs_f64() * rate).saturating_add(1),
        }
    }

    /// How long to wait until one more than `sent` is due; never zero.
    pub fn pause(&self, elapsed: Duration, sent: u64) -> Duration {
        match self.rate {
            Rate::Max => SHORTEST_PAUSE,
            Rate::PerSecond(rate) => {
                let due_at = Duration::try_from_secs_f64(sent as f64 / rate).unwrap_or(Duration::MAX);
                due_at.saturating_sub(elapsed).max(SHORTEST_PAUSE)
            }
        }
    }

    /// How many events the run is behind its rate; 0 while it keeps up.
    pub fn behind(&self, elapsed: Duration, sent: u64) -> u64 {
        match self.rate {
            Rate::Max => 0,
            Rate::PerSecond(rate) => {
                let owed = self.due(elapsed).saturating_sub(sent);
                if owed as f64 > (rate * TOLERATED_SECONDS).max(1.0) { owed } else { 0 }
            }
        }
    }
}

/// Cut to a whole number; what 64 bits cannot hold is held at their end.
#[allow(clippy::cast_sign_loss, reason = "the number is not negative, and the cast saturates")]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `seconds` of a clock of our own, in which handing over an event takes `cost`.
    fn run(rate: f64, seconds: u64, cost: Duration) -> (u64, u64) {
        let pace = Pace::new(Rate::PerSecond(rate));
        let (mut clock, mut sent) = (Duration::ZERO, 0);
        while clock < Duration::from_secs(seconds) {
            if pace.due(clock) > sent {
                sent += 1;
                clock += cost;
            } else {
                clock += pace.pause(clock, sent);
            }
        }
        (sent, pace.behind(clock, sent))
    }

    #[test]
    fn the_rate_holds_over_minutes() {
        for rate in [0.5, 3.0, 20.0, 999.9, 20_000.0] {
            let (sent, behind) = run(rate, 300, Duration::from_micros(7));
            assert!((sent as f64 - rate * 300.0).abs() <= rate / 100.0 + 2.0, "{rate}: {sent}");
            assert_eq!(behind, 0);
        }
    }

    #[test]
    fn too_high_a_rate_is_said_to_be_behind() {
        let (sent, behind) = run(2_000.0, 10, Duration::from_millis(1));
        assert_eq!(sent, 10_000);
        assert!((9_990..=10_010).contains(&behind), "{behind}");
    }

    #[test]
    fn a_stall_is_caught_up() {
        let pace = Pace::new(Rate::PerSecond(100.0));
        let after_stall = Duration::from_secs(60);
        assert_eq!(pace.behind(after_stall, 1_000), 5_001);
        assert_eq!(pace.due(after_stall), 6_001);
        assert_eq!(pace.behind(after_stall, 5_990), 0);
    }

    #[test]
    fn without_a_limit_all_is_due_and_nothing_behind() {
        let pace = Pace::new(Rate::Max);
        assert_eq!(pace.due(Duration::ZERO), u64::MAX);
        assert_eq!(pace.behind(Duration::from_secs(9), 1), 0);
    }

    #[test]
    fn tiny_rates_wait_without_overflow() {
        let pace = Pace::new(Rate::PerSecond(f64::MIN_POSITIVE));
        assert_eq!(pace.due(Duration::ZERO), 1);
        assert_eq!(pace.pause(Duration::ZERO, 1), Duration::MAX);
    }
}
