//! The run: takes from the traffic what is due and hands it to the publisher.
//!
//! Knows nothing of where records go. Ends when the count is reached or a stop is asked for, and then delivers what it took.

use crate::config::EventTime;
use crate::pace::Pace;
use crate::progress::{Progress, Status};
use crate::publish::{PublishError, Publisher, Record, Tally, wall_clock};
use crate::traffic::{Fault, Traffic};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How fast.
    pub pace: Pace,
    /// Ends after this many events.
    pub count: Option<u64>,
    /// How event time goes.
    pub event_time: EventTime,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Summary {
    /// Events handed to the publisher.
    pub sent: u64,
    /// How long it took until all was delivered.
    pub elapsed: Duration,
    /// Late, duplicate, malformed and future ones.
    pub faults: [u64; 4],
    /// What became of them.
    pub tally: Tally,
}

/// Events between two looks at the clock, the publisher and the stop flag.
const GROUP: u64 = 512;
/// Longest pause between two looks at the stop flag.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Runs to the end. The summary is true whether the run failed or not.
pub fn run(
    plan: &Plan,
    mut traffic: Traffic,
    publisher: &mut dyn Publisher,
    progress: &mut Progress,
    stop: &AtomicBool,
) -> (Summary, Result<(), PublishError>) {
    let started = Instant::now();
    let mut summary = Summary::default();
    let mut result = Ok(());
    while result.is_ok() && !stop.load(Ordering::Relaxed) && plan.count != Some(summary.sent) {
        result = step(plan, &mut traffic, publisher, started, &mut summary);
        progress.update(|| status(plan, publisher, started.elapsed(), summary.sent));
    }
    let result = result.and_then(|()| publisher.finish());
    progress.finish();
    summary.elapsed = started.elapsed();
    summary.tally = publisher.tally();
    (summary, result)
}

/// Publishes one group of due events, or waits for the next.
fn step(
    plan: &Plan,
    traffic: &mut Traffic,
    publisher: &mut dyn Publisher,
    started: Instant,
    summary: &mut Summary,
) -> Result<(), PublishError> {
    let elapsed = started.elapsed();
    let due = plan.pace.due(elapsed).min(plan.count.unwrap_or(u64::MAX)).saturating_sub(summary.sent);
    if due == 0 {
        return publisher.serve(plan.pace.pause(elapsed, summary.sent).min(LONGEST_PAUSE));
    }
    let now = wall_clock();
    for _ in 0..due.min(GROUP) {
        let next = match plan.event_time {
            EventTime::Live => Some(traffic.next_at(now)),
            EventTime::Historic { .. } => traffic.next(),
        };
        let Some(next) = next else { break };
        let (key, time) = (Some(next.stream.as_bytes()), Some(next.sent_at));
        publisher.publish(Record { key, payload: &next.payload, time, partition: None })?;
        summary.sent += 1;
        if let Some(fault) = next.fault {
            summary.faults[fault as usize] += 1;
        }
    }
    // All that was due is on its way. At high rates the next is due at once, and a turn for each event would keep a core busy.
    let caught_up = due < GROUP && plan.count != Some(summary.sent);
    let pause = plan.pace.pause(started.elapsed(), summary.sent).min(LONGEST_PAUSE);
    publisher.serve(if caught_up { pause } else { Duration::ZERO })
}

fn status(plan: &Plan, publisher: &dyn Publisher, elapsed: Duration, sent: u64) -> Status {
    let tally = publisher.tally();
    Status {
        sent,
        elapsed,
        delivered: tally.delivered,
        failed: tally.failed(),
        behind: plan.pace.behind(elapsed, sent),
        count: plan.count,
    }
}

impl Summary {
    /// Events that the log did not get: those that failed, and those that a failed run left behind.
    pub fn undelivered(&self) -> u64 {
        self.sent.saturating_sub(self.tally.delivered)
    }

    /// Why events failed, as in "5 × timed out, 1 × too large"; empty if none did.
    pub fn reasons(&self) -> String {
        let reasons: Vec<_> = self.tally.failures.iter().map(|(reason, events)| format!("{events} × {reason}")).collect();
        reasons.join(", ")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rate = if seconds > 0.0 { self.sent as f64 / seconds } else { 0.0 };
        write!(f, "{} events in {seconds:.1} s ({rate:.0} events/s): ", self.sent)?;
        write!(f, "{} delivered, {} failed", self.tally.delivered, self.undelivered())?;
        let count = |fault: Fault| self.faults[fault as usize];
        write!(f, "; injected: {} late, {} duplicate, ", count(Fault::Late), count(Fault::Duplicate))?;
        write!(f, "{} malformed, {} future", count(Fault::Malformed), count(Fault::Future))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Rate;
    use crate::publish::Memory;
    use crate::traffic::TrafficConfig;

    fn run_into_memory(plan: &Plan, stop: bool) -> (Summary, Memory) {
        let mut memory = Memory::default();
        let traffic = Traffic::new(TrafficConfig::default());
        let (summary, result) = run(plan, traffic, &mut memory, &mut Progress::silent(), &AtomicBool::new(stop));
        result.unwrap();
        (summary, memory)
    }

    #[test]
    fn a_count_is_exact_and_historic_runs_are_the_iterator() {
        let config = TrafficConfig::default();
        let event_time = EventTime::Historic { start: config.start, spacing: config.spacing };
        let plan = Plan { pace: Pace::new(Rate::Max), count: Some(1_500), event_time };
        let (summary, memory) = run_into_memory(&plan, false);
        assert_eq!((summary.sent, summary.undelivered()), (1_500, 0));
        let expected = Traffic::new(config).take(1_500).map(|next| (Some(next.stream.as_bytes().to_vec()), next.payload));
        assert!(memory.records.into_iter().eq(expected));
    }

    #[test]
    fn live_events_happen_now_and_at_the_rate() {
        let plan = Plan { pace: Pace::new(Rate::PerSecond(200.0)), count: Some(60), event_time: EventTime::Live };
        let before = wall_clock();
        let (summary, memory) = run_into_memory(&plan, false);
        assert!((0.28..2.0).contains(&summary.elapsed.as_secs_f64()), "{summary}");
        let event: serde_json::Value = serde_json::from_slice(&memory.records[0].1).unwrap();
        assert!(event["ts"].as_str().is_some_and(|ts| *ts >= *before.to_string()), "{event}");
    }

    #[test]
    fn a_stop_ends_an_endless_run() {
        let plan = Plan { pace: Pace::new(Rate::Max), count: None, event_time: EventTime::Live };
        assert_eq!(run_into_memory(&plan, true).0.sent, 0);
    }

    #[test]
    fn the_summary_is_one_line() {
        let mut summary = Summary { sent: 10, elapsed: Duration::from_secs(2), faults: [1, 2, 3, 4], tally: Tally::default() };
        summary.tally.delivered = 9;
        summary.tally.fail("too large", 1);
        let text = "10 events in 2.0 s (5 events/s): 9 delivered, 1 failed; injected: 1 late, 2 duplicate, 3 malformed, 4 future";
        assert_eq!(summary.to_string(), text);
        assert_eq!(summary.reasons(), "1 × too large");
    }
}
