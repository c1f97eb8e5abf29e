//! Time that passes without data costs nothing and leaks nothing.
//!
//! `TIDEMARK_SOAK_SLICES=1000000` makes it a million slices.

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};
use support::Setup;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options};
use tidemark_dataflow::plan::Wish;
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::memory::MemoryStore;
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_dataflow::telemetry::{Metrics, resident_bytes};
use tidemark_model::Micros;

/// 2026-01-01T12:00:00Z.
const NOON: i64 = 1_767_268_800_000_000;
/// Microseconds in a slice: as much as the clock moves on at most in a turn of the loop.
const SLICE: u64 = 5_000;
const WORKERS: usize = 2;

#[test]
fn empty_slices_neither_leak_nor_slow_down() {
    let slices: u64 = std::env::var("TIDEMARK_SOAK_SLICES").map_or(40_000, |text| text.parse().expect("a number"));
    let setup = Setup {
        checkpoint_every: Duration::from_millis(500),
        grains: &tidemark_model::Grain::ALL,
        retention: Default::default(),
        rules: Rules::default(),
        workers: WORKERS,
        slice: Duration::from_micros(SLICE),
        most_per_read: 0,
        now: Micros(NOON),
        max_ahead: Duration::from_secs(3_600),
    };
    let log = MemoryLog::default();
    for user in 0..2_000 {
        let payload = format!(
            r#"{{"event_type":"viewer_join","stream_id":"s{}","user_id":"u{user}","ts":"2026-01-01T12:00:00Z"}}"#,
            user % 50
        );
        log.append(user % 4, None, Some(payload.as_bytes()));
    }
    let options = setup.options();
    let clock = Clock::manual(&Arc::new(AtomicI64::new(NOON)), 0);
    let options = Options { wish: Wish { until_end: false, ..options.wish }, clock, ..options };
    let (metrics, _) = Metrics::new();
    let control = Arc::new(Control::default());
    let run = {
        let (control, metrics) = (Arc::clone(&control), Arc::clone(&metrics));
        std::thread::spawn(move || {
            cluster::run(
                &options,
                Arc::new(log),
                Box::new(MemoryStore::default()),
                Arc::new(MemoryParts::default()),
                &control,
                &metrics,
            )
        })
    };
    // Five equal parts; the first one is for warming up.
    let mut parts = Vec::new();
    let mut since = Instant::now();
    for part in 1..=5 {
        while metrics.slices.get() < slices * WORKERS as u64 * part / 5 {
            assert!(since.elapsed() < Duration::from_secs(600), "part {part} does not end");
            assert!(!run.is_finished(), "the run ended");
            std::thread::sleep(Duration::from_millis(1));
        }
        let memory = resident_bytes().expect("Linux tells") >> 10;
        eprintln!("{} slices: {memory} KiB resident, the last {} took {:?}", slices * part / 5, slices / 5, since.elapsed());
        parts.push((memory, since.elapsed()));
        since = Instant::now();
    }
    control.stop();
    run.join().expect("it does not panic").expect("the run ends cleanly");
    assert_eq!(metrics.admitted.get(), 2_000);
    let (memory, took) = (parts[4].0.saturating_sub(parts[1].0), parts[4].1);
    assert!(memory < 4_096, "{memory} KiB more after {slices} empty slices");
    let fastest = parts[1..].iter().map(|part| part.1).min().expect("there are four");
    assert!(took < fastest * 4, "the last part took {took:?}, the fastest one {fastest:?}");
}
