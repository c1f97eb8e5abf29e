//! Whether memory stays flat: prints it every hour of event time.
//!
//! ```sh
//! cargo run --release --example soak                      # 10 million events over 24 hours of event time
//! cargo run --release --example soak -- 100000000 240     # events, hours
//! ```
//!
//! The events are made while they are read and the rows are thrown away once they are committed, so what is seen is the
//! pipeline's own memory (and some megabytes of the generator's). Everything else is the production loop.

mod common;
#[path = "common/nowhere.rs"]
mod nowhere;

use common::say;
use nowhere::Nowhere;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemark_dataflow::checkpoint::directory::Directory;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options};
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::{Begin, Commit, Decide, Receipt, Store, StoreError, Stored};
use tidemark_dataflow::source::{Asked, Bounds, Description, Log, Position, Record, Source, SourceError, Take};
use tidemark_dataflow::telemetry::{Metrics, resident_bytes};
use tidemark_generator::traffic::{FaultShares, Generated, Traffic, TrafficConfig, numbered_streams};
use tidemark_model::Micros;

const PARTITIONS: i32 = 4;
const WORKERS: usize = 2;
const HOUR: i64 = 3_600_000_000;
/// 2026-01-01T00:00:00Z.
const START: Micros = Micros(1_767_225_600_000_000);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let events: i64 = arguments.next().map_or(Ok(10_000_000), |text| text.parse())?;
    let hours: i64 = arguments.next().map_or(Ok(24), |text| text.parse())?;
    say(&format!("{events} events over {hours} h of event time, {PARTITIONS} partitions, {WORKERS} workers"));
    let log = MadeUpLog { each: events / i64::from(PARTITIONS), span: hours * HOUR };
    let (metrics, _) = Metrics::new();
    let store =
        HourlyStore { metrics: Arc::clone(&metrics), started: Instant::now(), store: Nowhere::default(), watermark: None };
    let options = Options { clock: Clock::System, workers: WORKERS, ..common::options(&["--until-end"])? };
    let checkpoints = tempfile::tempdir()?;
    let parts = Arc::new(Directory::open(checkpoints.path())?);
    cluster::run(&options, Arc::new(log), Box::new(store), parts, &Arc::new(Control::default()), &metrics)?;
    say(&format!(
        "{} records, {} admitted, {} duplicates",
        metrics.records.get(),
        metrics.admitted.get(),
        metrics.duplicates.get()
    ));
    Ok(())
}

/// A log whose records are made when they are read.
struct MadeUpLog {
    /// Records of each partition.
    each: i64,
    /// Microseconds of event time of all of them.
    span: i64,
}

impl MadeUpLog {
    fn traffic(&self, partition: i32) -> Traffic {
        Traffic::new(TrafficConfig {
            seed: u64::from(partition.unsigned_abs()),
            streams: numbered_streams(250).into_iter().map(|stream| format!("{stream}-{partition}")).collect(),
            users: 25_000,
            start: START,
            spacing: Duration::from_micros((self.span / self.each).unsigned_abs()),
            faults: FaultShares { late: 0.01, duplicates: 0.01, malformed: 0.001, future: 0.001 },
            ..TrafficConfig::default()
        })
    }
}

impl Log for MadeUpLog {
    fn describe(&self) -> Result<Description, SourceError> {
        let partitions = (0..PARTITIONS).map(|partition| (partition, Bounds { low: 0, high: self.each })).collect();
        Ok(Description { id: "made up".to_owned(), partitions })
    }

    fn open(&self, start: &BTreeMap<i32, i64>) -> Result<Box<dyn Source>, SourceError> {
        let open = |&partition: &i32| (partition, (self.traffic(partition).peekable(), 0));
        Ok(Box::new(MadeUpSource { partitions: start.keys().map(open).collect(), each: self.each }))
    }

    fn topic(&self) -> &str {
        "soak"
    }

    fn committed(&self, _: &[(i32, i64)]) {}
}

struct MadeUpSource {
    /// What comes next, and its offset.
    partitions: BTreeMap<i32, (Peekable<Traffic>, i64)>,
    each: i64,
}

impl Source for MadeUpSource {
    fn read(&mut self, partition: i32, before: Option<i64>, max: usize, take: Take<'_>) -> Result<(), SourceError> {
        let (traffic, next) = self.partitions.get_mut(&partition).expect("a partition that was opened");
        let end = before.unwrap_or(self.each).min(self.each);
        for _ in 0..max.min(usize::try_from(end - *next).unwrap_or(0)) {
            let Some(Generated { sent_at, payload, .. }) = traffic.peek() else { break };
            if take(Record { offset: *next, time: Some(*sent_at), key: None, payload: Some(payload) }).is_break() {
                break;
            }
            traffic.next();
            *next += 1;
        }
        Ok(())
    }

    fn position(&mut self, partition: i32) -> Result<Position, SourceError> {
        let next_offset = self.partitions[&partition].1;
        Ok(Position { next_offset, end_offset: self.each, at_end: next_offset >= self.each, confirmed: None, low_offset: 0 })
    }

    fn serve(&mut self, _: Asked) -> Result<(), SourceError> {
        Ok(())
    }

    fn others(&mut self) -> Result<Vec<i32>, SourceError> {
        Ok(Vec::new())
    }

    fn add(&mut self, partition: i32) -> Result<(), SourceError> {
        Err(SourceError::Fatal(format!("there is no partition {partition}")))
    }
}

/// Says how much memory there is whenever the watermark has passed an hour.
struct HourlyStore {
    metrics: Arc<Metrics>,
    started: Instant,
    store: Nowhere,
    watermark: Option<Micros>,
}

impl Store for HourlyStore {
    fn begin(&mut self, begin: &Begin, decide: &mut Decide<'_>) -> Result<Stored, StoreError> {
        self.store.begin(begin, decide)
    }

    fn commit(&mut self, commit: &Commit) -> Result<Receipt, StoreError> {
        let hour = |watermark: Option<Micros>| watermark.map(|watermark| (watermark.0 - START.0).div_euclid(HOUR));
        let (before, after) = (hour(self.watermark), hour(self.watermark.max(commit.watermark)));
        self.watermark = self.watermark.max(commit.watermark);
        if before < after && after >= Some(0) {
            let megabytes = resident_bytes().map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string());
            let (records, seconds) = (self.metrics.records.get(), self.started.elapsed().as_secs_f64());
            let hour = after.expect("it is at least 0");
            say(&format!("hour {hour:>3}: {megabytes:>5} MiB resident, {records:>10} records, {seconds:>7.1} s"));
        }
        self.store.commit(commit)
    }

    fn heartbeat(&mut self, trouble: Option<&str>) -> Result<Option<Micros>, StoreError> {
        self.store.heartbeat(trouble)
    }
}
