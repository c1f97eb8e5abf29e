//! When slices end before their time.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use support::{Setup, chat};
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

fn setup(workers: usize) -> Setup {
    Setup {
        rules: Rules::default(),
        workers,
        slice: Duration::from_secs(3_000),
        most_per_read: 0,
        now: Micros(LATER),
        max_ahead: Duration::from_secs(60),
        checkpoint_every: Duration::from_secs(3_600),
        grains: &tidemark_model::Grain::ALL,
        retention: Default::default(),
    }
}

/// Beginning, replaying, reading, ending, and a partition that is far ahead of the other: each used to take a slice's time.
#[test]
fn a_run_with_little_to_do_takes_less_than_one_slice() {
    let log = MemoryLog::default();
    chat(&log, 0, NOON);
    chat(&log, 0, NOON + 60 * SECOND);
    chat(&log, 1, LATER);
    for workers in [1, 2, 3] {
        let setup = setup(workers);
        // A thread that gets no core lets the clock run on; it does not do so each time.
        let mut slow = Vec::new();
        for _ in 0..3 {
            let store = MemoryStore::default();
            let took = ["first", "all to be replayed", "stopped at once"].map(|run| (run, run_for(&setup, &log, &store, run)));
            assert_eq!(store.tables().rows.len(), 3);
            slow = took.into_iter().filter(|(_, took)| *took >= setup.slice).collect();
            if slow.is_empty() {
                break;
            }
        }
        assert!(slow.is_empty(), "{workers} workers: {slow:?}");
    }
}

/// How long a run takes by its clock, of which each reading takes a tenth of a second: little of it passes while another thread works.
fn run_for(setup: &Setup, log: &MemoryLog, store: &MemoryStore, run: &str) -> Duration {
    let now = Arc::new(AtomicI64::new(LATER));
    let mut options = Options { clock: Clock::manual(&now, SECOND / 10), ..setup.options() };
    let (log, control, parts) = (Arc::new(log.clone()), Arc::new(Control::default()), Arc::new(MemoryParts::default()));
    if run == "stopped at once" {
        options.wish.until_end = false;
        control.stop();
    }
    cluster::run(&options, log, Box::new(store.clone()), parts, &control, &Metrics::new().0).unwrap();
    Duration::from_micros((now.load(Ordering::Relaxed) - LATER).unsigned_abs())
}

/// The first worker asks for them, and its only partition is short.
#[test]
fn checkpoints_are_made_while_only_others_read() {
    let log = MemoryLog::default();
    chat(&log, 0, LATER);
    // Read one by one they take a second or more, in which others commit and save.
    for number in 0..40_000 {
        chat(&log, 1, NOON + number * SECOND / 10);
    }
    let slice = Duration::from_millis(5);
    let setup = Setup { slice, most_per_read: 1, checkpoint_every: Duration::from_millis(1), ..setup(2) };
    let store = MemoryStore::default();
    setup.run_to_end(&log, &store, &MemoryParts::default());
    let newest = store.tables().checkpoints.iter().map(|checkpoint| checkpoint.id.number).max();
    assert!(newest > Some(1), "the only one is that of the end: {newest:?}");
}
