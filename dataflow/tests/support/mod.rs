//! What the tests of the whole pipeline share: runs in memory, and the comparison with the oracle.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]
#![allow(dead_code, reason = "each test target uses its own part")]

pub mod brokers;
pub mod ca;
pub mod clock;
pub mod database;
pub mod logs;
pub mod parts;
pub mod pause;
pub mod process;
pub mod proxy;
pub mod random;
pub mod services;
pub mod tables;
pub mod tls_server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tidemark_dataflow::background::Background;
use tidemark_dataflow::checkpoint::MOST_INCREMENTS;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options};
use tidemark_dataflow::fold::Stints;
use tidemark_dataflow::oracle::{self, RolledUp};
use tidemark_dataflow::plan::{StartingOffsets, Wish};
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::memory::{MemoryStore, Tables};
use tidemark_dataflow::sink::retention::Retention;
use tidemark_dataflow::source::memory::{MemoryLog, Stored};
use tidemark_dataflow::telemetry::Metrics;
use tidemark_dataflow::worker::MOST_UNFOLDED;
use tidemark_model::{Grain, Micros, Minute, Reason, Values};

/// How a run of a test goes.
#[derive(Clone, Debug)]
pub struct Setup {
    pub rules: Rules,
    pub workers: usize,
    pub slice: Duration,
    pub most_per_read: usize,
    pub now: Micros,
    pub max_ahead: Duration,
    pub checkpoint_every: Duration,
    pub grains: &'static [Grain],
    pub retention: Retention,
}

impl Setup {
    pub fn options(&self) -> Options {
        Options {
            wish: Wish {
                pipeline: "test".to_owned(),
                rules: self.rules,
                starting_offsets: StartingOffsets::Earliest,
                until_end: true,
                ignore_checkpoints: false,
                known: None,
                again: false,
                grains: self.grains,
            },
            workers: self.workers,
            slice: self.slice,
            idle_after: Some(Duration::from_secs(30)),
            max_ahead: self.max_ahead,
            patience: Duration::ZERO,
            checkpoint_every: self.checkpoint_every,
            retention: self.retention,
            clock: Clock::manual(&Arc::new(AtomicI64::new(self.now.0)), 100),
            background: Background::Threads,
            stints: Stints::default(),
            most_unfolded: MOST_UNFOLDED,
            most_increments: MOST_INCREMENTS,
        }
    }

    /// Runs to the log's end.
    pub fn run_to_end(&self, log: &MemoryLog, store: &MemoryStore, parts: &MemoryParts) -> Arc<Metrics> {
        let mut log = log.clone();
        log.most_per_read = self.most_per_read;
        let (metrics, _) = Metrics::new();
        let control = Arc::new(Control::default());
        let (store, parts) = (Box::new(store.clone()), Arc::new(parts.clone()));
        cluster::run(&self.options(), Arc::new(log), store, parts, &control, &metrics).expect("the run ends cleanly");
        metrics
    }
}

/// Appends a chat message of the partition's own stream.
pub fn chat(log: &MemoryLog, partition: i32, at: i64) {
    let ts = Micros(at);
    let payload = format!(r#"{{"event_type":"chat_message","stream_id":"s{partition}","ts":"{ts}"}}"#);
    log.append(partition, None, Some(payload.as_bytes()));
}

/// The oracle's form of a log.
pub fn oracle_log(records: &BTreeMap<i32, Vec<Stored>>) -> oracle::Log {
    let record = |record: &Stored| oracle::LogRecord {
        offset: record.offset,
        record_time: record.time.map(|time| time.0 / 1_000),
        key: record.key.clone(),
        payload: record.payload.clone(),
    };
    records.iter().map(|(&partition, records)| (partition, records.iter().map(record).collect())).collect()
}

/// The oracle's form of the rules.
pub fn oracle_rules(rules: &Rules) -> oracle::Rules {
    oracle::Rules {
        lateness: rules.lateness(),
        max_future_skew: rules.max_future_skew(),
        viewer_timeout: rules.viewer_timeout_nanos() / 1_000,
    }
}

/// What the oracle says of a log, given the verdicts `closed` that the run has stored.
pub fn expected(log: &MemoryLog, rules: &Rules, now: Micros, tables: &Tables) -> oracle::Answer {
    let closed = tables.dead_letters.iter().chain(&tables.dropped_letters).filter(|(_, reason)| **reason == Reason::Closed);
    let verdicts = closed.map(|(&at, &reason)| (at, reason)).collect();
    oracle::answer(&oracle_log(&log.records()), &oracle_rules(rules), oracle::Clock::At(now), &verdicts, tables.watermark)
}

/// All differences between the tables and the oracle's answer, for people.
pub fn differences(tables: &Tables, answer: &oracle::Answer) -> Vec<String> {
    let rows = tables.rows.iter().map(|(key, row)| (key.clone(), row.values));
    // Older minutes were dropped, or are about to be.
    let minutes_from = tables.minutes_from.unwrap_or(Minute(0));
    let kept = |rows: BTreeMap<(Minute, String), Values>| rows.into_iter().filter(|((at, _), _)| *at >= minutes_from).collect();
    let mut differences = compare("row", kept(rows.collect()), kept(answer.rows.clone()));
    let kept = |totals: &BTreeMap<Minute, (i64, Values)>| totals.range(minutes_from..).map(|(&at, &of)| (at, of)).collect();
    differences.extend(compare("totals", kept(&tables.totals), kept(&answer.totals)));
    // Hours and days from the first one on that is told to be whole. Others are final.
    let from = tables.rolled_up_from;
    let is_whole = |grain: Grain, first: Minute| from[grain as usize - 1].is_some_and(|from| from <= first);
    let watermark = tables.watermark.map_or(Minute(0), Minute::first_open);
    let others_are_final = |grain: Grain, first: Minute| is_whole(grain, first) || grain.end_of(first) <= watermark;
    assert!(tables.rolled_up.rows.keys().all(|&(grain, first, _)| others_are_final(grain, first)), "{from:?}");
    let whole = |rolled_up: &RolledUp| {
        let mut whole = rolled_up.clone();
        whole.rows.retain(|&(grain, first, _), _| is_whole(grain, first));
        whole.totals.retain(|&(grain, first), _| is_whole(grain, first));
        whole
    };
    let (found, computed) = (whole(&tables.rolled_up), whole(&answer.rolled_up));
    differences.extend(compare("hour or day", found.rows, computed.rows));
    differences.extend(compare("totals of an hour or a day", found.totals, computed.totals));
    let letters = tables.dead_letters.iter().chain(&tables.dropped_letters).map(|(&at, &reason)| (at, reason)).collect();
    differences.extend(compare("dead letter", letters, answer.dead_letters.clone()));
    differences.extend(compare("stream state", tables.states.clone(), answer.stream_state.clone()));
    let watermarks = tables.partitions.iter().map(|(&partition, mark)| (partition, mark.watermark)).collect();
    let expected = answer.watermarks.iter().filter(|(partition, _)| tables.partitions.contains_key(partition));
    let expected = expected.map(|(&partition, &watermark)| (partition, watermark)).collect();
    differences.extend(compare("watermark of partition", watermarks, expected));
    differences
}

fn compare<K: Ord + Clone + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    found: BTreeMap<K, V>,
    expected: BTreeMap<K, V>,
) -> Vec<String> {
    let keys: std::collections::BTreeSet<K> = found.keys().chain(expected.keys()).cloned().collect();
    let differ = |key: &K| found.get(key) != expected.get(key);
    let say = |key: K| format!("{what} {key:?}: found {:?}, expected {:?}", found.get(&key), expected.get(&key));
    keys.into_iter().filter(differ).map(say).collect()
}

/// Ends the test process if a run hangs, and says which.
pub struct Watchdog(Option<std::sync::mpsc::Sender<()>>, Option<std::thread::JoinHandle<()>>);

impl Watchdog {
    pub fn start(seed: u64) -> Watchdog {
        let (alive, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            if ended.recv_timeout(Duration::from_secs(20)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("seed {seed} hangs\n").as_bytes());
                std::process::exit(3);
            }
        });
        Watchdog(Some(alive), Some(thread))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.take());
        let _ = self.1.take().expect("it is dropped once").join();
    }
}
