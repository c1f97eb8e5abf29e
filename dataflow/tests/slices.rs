//! When slices end before their time.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use support::Setup;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options};
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::memory::MemoryStore;
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_dataflow::telemetry::Metrics;
use tidemark_model::Micros;

/// 2026-01-01T12:00:00Z.
const NOON: i64 = 1_767_268_800_000_000;
const SECOND: i64 = 1_000_000;
const LATER: i64 = NOON + 7_200 * SECOND;

/// Beginning, replaying, reading, ending, and a partition that is far ahead of the other: each used to take a slice's time.
#[test]
fn a_run_to_the_end_of_a_short_log_takes_less_than_one_slice() {
    let log = MemoryLog::default();
    for (partition, at) in [(0, NOON), (0, NOON + 60 * SECOND), (1, LATER)] {
        let payload = format!(r#"{{"event_type":"chat_message","stream_id":"a","ts":"{}"}}"#, Micros(at));
        log.append(partition, None, Some(payload.as_bytes()));
    }
    for workers in [1, 2] {
        let setup = Setup {
            rules: Rules::default(),
            workers,
            slice: Duration::from_secs(600),
            most_per_read: 0,
            now: Micros(LATER),
            max_ahead: Duration::from_secs(60),
            checkpoint_every: Duration::from_secs(3_600),
        };
        let store = MemoryStore::default();
        for run in ["first", "second, with all to be replayed"] {
            // Each reading takes a tenth of a second of it, so that little of it passes while another thread works.
            let now = Arc::new(AtomicI64::new(LATER));
            let options = Options { clock: Clock::Manual { now: Arc::clone(&now), step: SECOND / 10 }, ..setup.options() };
            let (log, control, parts) = (Arc::new(log.clone()), Arc::new(Control::default()), Arc::new(MemoryParts::default()));
            cluster::run(&options, log, Box::new(store.clone()), parts, &control, &Metrics::new().0).unwrap();
            let took = Duration::from_micros((now.load(Ordering::Relaxed) - LATER).unsigned_abs());
            assert!(took < setup.slice, "{workers} workers, {run}: {took:?}");
            assert_eq!(store.tables().rows.len(), 3);
        }
    }
}
