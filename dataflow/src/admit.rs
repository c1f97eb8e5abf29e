//! Whether an event counts, judged by its own partition's log prefix. Pure: the caller brings the clock.
//!
//! The watermark of a partition is the highest `ts` that passed decode and the future guard, minus lateness; a window that ends
//! at or before it is late. All this looks only at the partition's records so far, so replaying them gives the same verdicts.
//! Two verdicts have a clock in them, `future` (by the reader's clock) and `closed`: those are taken once, stored with the dead
//! letters, and on a replay read back instead of judged again.

use crate::decode::Rejected;
use crate::rules::Rules;
use tidemark_model::{Micros, Minute, Nanos, Reason};

/// What admission remembers of one partition.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    highest: Option<Nanos>,
    closed_below: Option<Micros>,
}

/// How the verdicts that need a clock are reached.
#[derive(Clone, Copy, Debug)]
pub enum Judge {
    /// For the first time, by this reading of the clock.
    Live(Micros),
    /// Again: this is what was stored for the record, if it was rejected by a clock then.
    Replay(Option<Reason>),
}

impl Admission {
    /// As a checkpoint had it.
    pub fn resume(highest: Option<Nanos>) -> Admission {
        Admission { highest, closed_below: None }
    }

    /// Highest event time so far that was neither undecodable nor `future`.
    pub fn highest(&self) -> Option<Nanos> {
        self.highest
    }

    /// The partition's own watermark; `None` until its first valid event.
    pub fn watermark(&self, rules: &Rules) -> Option<Micros> {
        self.highest.map(|highest| rules.watermark(highest))
    }

    /// The partition counts again (or for the first time), and the pipeline's watermark at that point is `closed_below`.
    pub fn returned(&mut self, closed_below: Option<Micros>) {
        self.closed_below = closed_below;
    }

    /// The window in which an event counts, or why it does not.
    pub fn judge(&mut self, ts: Nanos, record_time: Option<Micros>, judge: Judge, rules: &Rules) -> Result<Minute, Rejected> {
        guard_future(ts, record_time, judge, rules)?;
        let before = self.watermark(rules);
        self.highest = self.highest.max(Some(ts));
        let minute = Minute::of(ts);
        if let Some(watermark) = before.filter(|&watermark| minute.is_closed_by(watermark)) {
            return Err(too_late(Reason::Late, minute, watermark, "the partition's watermark"));
        }
        let closed_by = match judge {
            Judge::Live(_) => self.closed_below.filter(|&watermark| minute.is_closed_by(watermark)),
            Judge::Replay(Some(Reason::Closed)) => Some(minute.end()),
            Judge::Replay(_) => None,
        };
        match closed_by {
            Some(watermark) => Err(too_late(Reason::Closed, minute, watermark, "the pipeline's watermark")),
            None => Ok(minute),
        }
    }
}

/// One bad clock must never push the watermark and drop everybody else's events.
fn guard_future(ts: Nanos, record_time: Option<Micros>, judge: Judge, rules: &Rules) -> Result<(), Rejected> {
    let now = match judge {
        Judge::Live(now) => record_time.filter(|&time| time <= now).unwrap_or(now),
        Judge::Replay(Some(Reason::Future)) => record_time.unwrap_or(Micros(0)),
        Judge::Replay(_) => return Ok(()),
    };
    // Whole nanoseconds: a `ts` that is ahead by less than a microsecond too much is too much.
    let limit = Micros(now.0.saturating_add(rules.max_future_skew())).to_nanos();
    if ts <= limit && !matches!(judge, Judge::Replay(_)) {
        return Ok(());
    }
    let (at, most) = (ts.to_micros(), span(rules.max_future_skew()));
    let ahead = span(at.0.saturating_sub(now.0));
    let by_clock = |clock: Micros| clock.0.saturating_add(rules.max_future_skew());
    let error = match judge {
        // A producer without a clock stamps its records with 1970, or with anything.
        Judge::Live(clock) if now != clock && at.0 <= by_clock(clock) => format!(
            "ts {at} is {ahead} ahead of the record time, {now}; at most {most} is allowed. By this reader's clock the ts is right, so the \
             record time is what is odd: see to the clock that stamps the records"
        ),
        _ => format!("ts {at} is {ahead} ahead of {now}; at most {most} is allowed"),
    };
    Err(Rejected { reason: Reason::Future, error })
}

fn too_late(reason: Reason, minute: Minute, watermark: Micros, whose: &str) -> Rejected {
    let by = span(watermark.0.saturating_sub(minute.end().0));
    Rejected { reason, error: format!("the window {minute} ended {by} before {whose}, {watermark}") }
}

/// Microseconds for people: `1h 2m 3s`, `4.5s`.
pub fn span(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) => format!("{}.{:03}s", seconds, micros / 1_000 % 1_000),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h {minutes}m {seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: i64 = 1_000_000_000;

    fn rules() -> Rules {
        Rules::new(Duration::from_secs(600), Duration::from_secs(300), Duration::from_secs(3_600)).unwrap()
    }

    fn live(admission: &mut Admission, seconds: i64) -> Result<Minute, Reason> {
        let judge = Judge::Live(Micros(1_000_000_000_000));
        admission.judge(Nanos(seconds * SECOND), None, judge, &rules()).map_err(|rejected| rejected.reason)
    }

    #[test]
    fn late_begins_exactly_where_the_window_ends_at_the_watermark() {
        let mut admission = Admission::default();
        assert_eq!(live(&mut admission, 12_000), Ok(Minute(200)));
        // The watermark is 11,400 s, the end of minute 189.
        assert_eq!(live(&mut admission, 11_400), Ok(Minute(190)));
        assert_eq!(live(&mut admission, 11_399), Err(Reason::Late));
        let mut admission = Admission::resume(Some(Nanos(12_000 * SECOND - 1_000)));
        assert_eq!(live(&mut admission, 11_399), Ok(Minute(189)), "a microsecond earlier the window is still open");
    }

    #[test]
    fn future_is_by_the_record_time_unless_that_is_ahead_of_the_clock() {
        let (now, rules) = (Micros(10_000_000_000), rules());
        let judge = |ts: i64, time: Option<i64>| {
            Admission::default().judge(Nanos(ts), time.map(Micros), Judge::Live(now), &rules).is_ok()
        };
        assert!(judge(10_300 * SECOND, None));
        assert!(!judge(10_300 * SECOND + 1, None));
        assert!(!judge(10_300 * SECOND, Some(9_999_000_000)));
        assert!(!judge(10_301 * SECOND, Some(11_000_000_000)), "a record time ahead of the clock proves nothing");
    }

    #[test]
    fn a_record_time_that_cannot_be_is_named_as_what_is_odd() {
        let judge = |ts: i64, time: i64| {
            let now = Judge::Live(Micros(1_700_000_000_000_000));
            Admission::default().judge(Nanos(ts * SECOND), Some(Micros(time)), now, &rules()).unwrap_err().error
        };
        let odd = judge(1_700_000_000, 1_000_000);
        assert!(
            odd.contains("ahead of the record time, 1970-01-01T00:00:01") && odd.contains("record time is what is odd"),
            "{odd}"
        );
        let really = judge(1_800_000_000, 1_700_000_000_000_000);
        assert!(!really.contains("odd"), "{really}");
    }

    #[test]
    fn a_future_event_moves_no_watermark_and_a_late_one_may_not_lower_it() {
        let mut admission = Admission::default();
        live(&mut admission, 12_000).unwrap();
        assert_eq!(live(&mut admission, 2_000_000), Err(Reason::Future));
        live(&mut admission, 11_500).unwrap();
        assert_eq!(admission.highest(), Some(Nanos(12_000 * SECOND)));
    }

    #[test]
    fn clock_verdicts_are_read_back_on_replay() {
        let (mut admission, rules) = (Admission::default(), rules());
        let mut again = |stored| admission.judge(Nanos(60 * SECOND), None, Judge::Replay(stored), &rules).map_err(|r| r.reason);
        assert_eq!(again(Some(Reason::Closed)), Err(Reason::Closed));
        assert_eq!(again(Some(Reason::Future)), Err(Reason::Future));
        assert_eq!(again(None), Ok(Minute(1)));
    }
}
