//! What the watermark promises, seen in the tables and in the metrics: a partition that lags loses nothing, an idle one holds
//! nothing open for long, and one bad clock hurts nobody.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Setup, chat};
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options};
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::memory::MemoryStore;
use tidemark_dataflow::sink::{Begin, Commit, Decide, Receipt, Store, StoreError, Stored};
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_dataflow::telemetry::Metrics;
use tidemark_model::{Micros, Reason};

/// 2026-01-01T12:00:00Z.
const NOON: i64 = 1_767_268_800_000_000;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

fn setup(workers: usize) -> Setup {
    Setup {
        checkpoint_every: Duration::from_millis(500),
        grains: &tidemark_model::Grain::ALL,
        retention: Default::default(),
        rules: Rules::default(),
        workers,
        slice: Duration::from_millis(1),
        most_per_read: 7,
        now: Micros(NOON + 2 * HOUR),
        max_ahead: Duration::from_secs(3_600),
    }
}

/// Runs to the log's end; the metrics' text.
fn run_to_end(setup: &Setup, log: &MemoryLog, store: &MemoryStore) -> String {
    let mut log = log.clone();
    log.most_per_read = setup.most_per_read;
    let (metrics, registry) = Metrics::new();
    let control = Arc::new(Control::default());
    cluster::run(&setup.options(), Arc::new(log), Box::new(store.clone()), Arc::new(MemoryParts::default()), &control, &metrics)
        .expect("the run ends cleanly");
    text(&registry)
}

fn text(registry: &prometheus_client::registry::Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).expect("a string takes all text");
    text
}

fn assert_line(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
}

fn assert_like_the_oracle(setup: &Setup, log: &MemoryLog, store: &MemoryStore) {
    let tables = store.tables();
    let differences = support::differences(&tables, &support::expected(log, &setup.rules, setup.now, &tables));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_partition_that_lags_an_hour_behind_the_others_loses_nothing() {
    for workers in [1, 2] {
        let (setup, log, store) = (setup(workers), MemoryLog::default(), MemoryStore::default());
        for minute in 0..=60 {
            chat(&log, 0, NOON + minute * MINUTE);
            chat(&log, 1, NOON - HOUR + minute * MINUTE);
        }
        let metrics = run_to_end(&setup, &log, &store);
        assert_like_the_oracle(&setup, &log, &store);
        assert_eq!(store.tables().rows.len(), 122, "a row for each of the events");
        assert!(store.tables().dead_letters.is_empty());
        // The lagging one tells the time, and the metrics name it.
        let lagging = NOON - 10 * MINUTE;
        assert_eq!(store.tables().watermark, Some(Micros(lagging)));
        assert_line(&metrics, r#"tidemark_watermark_holder{partition="1"} 1"#);
        assert!(!metrics.contains(r#"tidemark_watermark_holder{partition="0"}"#));
        assert_line(&metrics, "tidemark_watermark_behind_seconds 3600.0");
        assert_line(&metrics, &format!("tidemark_watermark_seconds {}", lagging / SECOND));
        let ahead = (NOON + HOUR - 10 * MINUTE) / SECOND;
        assert_line(&metrics, &format!(r#"tidemark_partition_watermark_seconds{{partition="0"}} {ahead}"#));
    }
}

#[test]
fn an_event_dated_next_year_changes_no_watermark() {
    let (setup, log, store) = (setup(2), MemoryLog::default(), MemoryStore::default());
    chat(&log, 0, NOON);
    chat(&log, 0, NOON + 365 * 24 * HOUR);
    chat(&log, 0, NOON - 9 * MINUTE);
    chat(&log, 1, NOON);
    let metrics = run_to_end(&setup, &log, &store);
    assert_like_the_oracle(&setup, &log, &store);
    let letters = store.tables().dead_letters.clone();
    assert_eq!(letters, BTreeMap::from([((0, 1), Reason::Future)]), "and what comes after it is not late");
    assert_eq!(store.tables().watermark, Some(Micros(NOON - 10 * MINUTE)));
    assert_line(&metrics, r#"tidemark_rejected_total{reason="future"} 1"#);
    let own = (NOON - 10 * MINUTE) / SECOND;
    assert_line(&metrics, &format!(r#"tidemark_partition_watermark_seconds{{partition="0"}} {own}"#));
}

#[test]
fn late_events_are_counted_by_how_late() {
    let (setup, log, store) = (setup(1), MemoryLog::default(), MemoryStore::default());
    chat(&log, 0, NOON);
    // Their windows end at 11:45 and 10:50, and the watermark is 11:50.
    chat(&log, 0, NOON - 16 * MINUTE);
    chat(&log, 0, NOON - 71 * MINUTE);
    let metrics = run_to_end(&setup, &log, &store);
    assert_line(&metrics, "tidemark_late_seconds_sum 3900.0");
    assert_line(&metrics, r#"tidemark_late_seconds_bucket{le="300.0"} 1"#);
    assert_line(&metrics, r#"tidemark_late_seconds_bucket{le="3600.0"} 2"#);
}

/// A store that notes by the manual clock when the watermark passed an instant.
struct Noting {
    store: MemoryStore,
    clock: Arc<AtomicI64>,
    instant: Micros,
    passed: Arc<Mutex<Option<i64>>>,
}

impl Store for Noting {
    fn begin(&mut self, begin: &Begin, decide: &mut Decide<'_>) -> Result<Stored, StoreError> {
        self.store.begin(begin, decide)
    }
    fn commit(&mut self, commit: &Commit) -> Result<Receipt, StoreError> {
        if commit.watermark >= Some(self.instant) {
            self.passed.lock().unwrap().get_or_insert(self.clock.load(Ordering::Relaxed));
        }
        self.store.commit(commit)
    }
    fn heartbeat(&mut self, trouble: Option<&str>) -> Result<Option<Micros>, StoreError> {
        self.store.heartbeat(trouble)
    }
}

#[test]
fn one_idle_partition_holds_windows_open_for_no_longer_than_idle_after() {
    let (setup, log, store) = (setup(2), MemoryLog::default(), MemoryStore::default());
    let start = NOON;
    chat(&log, 0, NOON);
    chat(&log, 1, NOON - 30 * MINUTE);
    // It moves on by itself whenever the run has nothing to do, much faster than real time.
    let now = Arc::new(AtomicI64::new(start));
    let options = setup.options();
    let options = Options {
        wish: tidemark_dataflow::plan::Wish { until_end: false, ..options.wish },
        clock: Clock::manual(&now, 100),
        slice: Duration::from_millis(100),
        idle_after: Some(Duration::from_secs(30)),
        ..options
    };
    // From then on the idle partition trails the most advanced one by IDLE_AFTER only.
    let instant = Micros(NOON - 10 * MINUTE - 30 * SECOND);
    let passed = Arc::new(Mutex::new(None));
    let noting = Noting { store: store.clone(), clock: Arc::clone(&now), instant, passed: Arc::clone(&passed) };
    let (metrics, registry) = Metrics::new();
    let control = Arc::new(Control::default());
    let run = {
        let (log, control, metrics) = (Arc::new(log.clone()), Arc::clone(&control), Arc::clone(&metrics));
        std::thread::spawn(move || {
            cluster::run(&options, log, Box::new(noting), Arc::new(MemoryParts::default()), &control, &metrics)
        })
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut held_by_it = false;
    while passed.lock().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the idle partition holds the watermark: {:?}", store.tables().watermark);
        held_by_it |= text(&registry).contains(r#"tidemark_watermark_holder{partition="1"} 1"#);
        std::thread::sleep(Duration::from_millis(1));
    }
    let idle_is_seen = text(&registry).contains(r#"tidemark_partition_state{partition="1",state="idle"} 1"#);
    control.stop();
    run.join().unwrap().expect("the run ends cleanly");
    assert!(held_by_it, "until then the metrics name it");
    assert!(idle_is_seen, "and then they say that it is idle");
    let took = passed.lock().unwrap().expect("it was just looked at") - start;
    // As many slices of 100 ms may be on their way to the store as the run allows, and the clock goes on meanwhile.
    let slack = 10 * SECOND;
    assert!(took >= 30 * SECOND, "not before IDLE_AFTER: {took} µs");
    assert!(took <= 30 * SECOND + slack, "not long after IDLE_AFTER: {took} µs");
}

#[test]
fn one_stream_with_half_of_all_events_spreads_over_all_workers() {
    const EVENTS: u32 = 40_000;
    for workers in [2, 4] {
        let (log, store) = (MemoryLog::default(), MemoryStore::default());
        for event in 0..EVENTS {
            let stream = if event % 2 == 0 { "hot".to_owned() } else { format!("other{}", event % 40) };
            let payload = format!(
                r#"{{"event_type":"chat_message","stream_id":"{stream}","user_id":"u{}","ts":"2026-01-01T12:00:00Z"}}"#,
                event % 5_000
            );
            log.append(0, None, Some(payload.as_bytes()));
        }
        let mut setup = setup(workers);
        setup.most_per_read = 0;
        let metrics = setup.run_to_end(&log, &store, &MemoryParts::default());
        let shares: Vec<u64> = (0..workers).map(|worker| metrics.events_of_worker(worker)).collect();
        eprintln!("{workers} workers, one stream with half of all {EVENTS} events: {shares:?} events each");
        assert_eq!(shares.iter().sum::<u64>(), u64::from(EVENTS));
        let fair = u64::from(EVENTS) / workers as u64;
        for share in shares {
            assert!(share.abs_diff(fair) < fair / 10, "a worker has {share} events, a fair share is {fair}");
        }
    }
}
