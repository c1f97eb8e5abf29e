//! What the process tells about itself: named events, each one function that moves its metrics, called per batch and never per
//! record.
//!
//! - here: the events, and the metrics that they move
//! - `register`: the metrics' names; [`server`]: where Prometheus finds them
//! - `process`: memory and CPU time, read when somebody asks

mod process;
mod register;
pub mod server;

pub use process::resident_bytes;
pub use server::serve;

use crate::checkpoint::Manifest;
use crate::flow::{Holding, PartitionMark, Standing, Tally};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};
use tidemark_model::metrics::Unit;
use tidemark_model::{Metric, Micros, Reason};

/// A gauge with a fraction.
type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByPartition {
    partition: i32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByState {
    partition: i32,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByWorker {
    worker: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByMetric {
    metric: &'static str,
    unit: &'static str,
}

/// All metrics of the process. What each is stands beside its name in `register`.
#[derive(Debug)]
pub struct Metrics {
    /// Slices that were closed, empty ones included, each worker's own.
    pub slices: Counter,
    /// Records read from the log, replayed ones included.
    pub records: Counter,
    /// Records of event types that make no rows.
    pub other_types: Counter,
    /// Events that count, before copies are found.
    pub admitted: Counter,
    /// Copies of events that count already.
    pub duplicates: Counter,
    rejected: Family<ByReason, Counter>,
    late_seconds: Histogram,
    /// Transactions that were committed.
    pub commits: Counter,
    /// Rows written to the store.
    pub rows: Counter,
    /// Written rows that were no longer their stream's newest.
    pub corrections: Counter,
    /// Commits that were tried again.
    pub commit_retries: Counter,
    commit_seconds: Histogram,
    /// Number of the last commit.
    pub epoch: Gauge,
    last_commit: Seconds,
    minute: Family<ByMetric, Gauge<f64, AtomicU64>>,
    /// Seconds since 1970 of the stored watermark.
    pub watermark: Gauge,
    partition_watermark: Family<ByPartition, Gauge>,
    partition_lag: Family<ByPartition, Gauge>,
    partition_state: Family<ByState, Gauge>,
    partition_next: Family<ByPartition, Gauge>,
    partition_low: Family<ByPartition, Gauge>,
    log_reach: Seconds,
    holder: Family<ByPartition, Gauge>,
    held_seconds: Seconds,
    behind_seconds: Seconds,
    open_windows: Gauge,
    viewers: Gauge,
    worker_events: Family<ByWorker, Counter>,
    fold_seconds: Histogram,
    checkpoint_at: Seconds,
    checkpoint_bytes: Gauge,
    checkpoint_seconds: Histogram,
    recovery_seconds: Seconds,
}

impl Metrics {
    /// A worker has closed a slice, in which it read these records.
    pub fn read(&self, tally: &Tally) {
        self.slices.inc();
        self.records.inc_by(tally.records);
        self.other_types.inc_by(tally.other_types);
        self.admitted.inc_by(tally.admitted);
        for (&reason, &records) in &tally.rejected {
            self.rejected.get_or_create(&ByReason { reason: reason.as_str() }).inc_by(records);
        }
        for &late_by in &tally.late_by {
            self.late_seconds.observe(seconds(late_by));
        }
    }

    /// An owner said where its partition stands.
    pub fn partition(&self, mark: &PartitionMark) {
        let of = ByPartition { partition: mark.partition };
        self.partition_next.get_or_create(&of).set(mark.next_offset);
        self.partition_low.get_or_create(&of).set(mark.low_offset);
        self.partition_lag.get_or_create(&of).set(mark.end_offset.saturating_sub(mark.next_offset).max(0));
        if let Some(watermark) = mark.watermark {
            self.partition_watermark.get_or_create(&of).set(whole_seconds(watermark));
        }
        for standing in Standing::ALL {
            let of = ByState { partition: mark.partition, state: standing.as_str() };
            self.partition_state.get_or_create(&of).set(i64::from(standing == mark.standing));
        }
    }

    /// The log reaches so much further back than a start without a checkpoint needs, in microseconds; `None`: all of it is there.
    pub fn reaches(&self, back: Option<i64>) {
        self.log_reach.set(back.map_or(f64::INFINITY, seconds));
    }

    /// A partition holds the pipeline's watermark, or none does.
    pub fn holding(&self, holding: Option<&Holding>) {
        let of = holding.map(|holding| ByPartition { partition: holding.partition });
        if of.as_ref().is_none_or(|of| self.holder.get(of).is_none()) {
            self.holder.clear();
        }
        let Some((of, holding)) = of.zip(holding) else {
            self.held_seconds.set(0.0);
            self.behind_seconds.set(0.0);
            return;
        };
        self.holder.get_or_create(&of).set(1);
        self.held_seconds.set(seconds(holding.held));
        self.behind_seconds.set(holding.behind.map_or(f64::INFINITY, seconds));
    }

    /// A transaction was committed.
    pub fn committed(&self, epoch: i64, rows: u64, corrections: u64, watermark: Option<Micros>, took: Duration) {
        self.commits.inc();
        self.rows.inc_by(rows);
        self.corrections.inc_by(corrections);
        self.commit_seconds.observe(took.as_secs_f64());
        self.epoch.set(epoch);
        self.last_commit.set(now());
        if let Some(watermark) = watermark {
            self.watermark.set(whole_seconds(watermark));
        }
    }

    /// Tells of the newest minute that is over: its start, how many streams have a row, and each metric of all streams (`None`: not known).
    pub fn minute(&self, start: Micros, streams: i64, values: impl Iterator<Item = (Metric, Option<i64>)>) {
        let set = |metric, unit, value| {
            self.minute.get_or_create(&ByMetric { metric, unit }).set(value);
        };
        set("window_start", "seconds", seconds(start.0));
        set("streams", Unit::Count.name(), streams as f64);
        for (metric, value) in values {
            set(metric.name(), metric.declared().unit.name(), value.map_or(f64::NAN, |value| metric.number(value)));
        }
    }

    /// `fold` was scheduled and worked for this long.
    pub fn folded(&self, took: Duration) {
        self.fold_seconds.observe(took.as_secs_f64());
    }

    /// A checkpoint is valid.
    pub fn checkpointed(&self, manifest: &Manifest) {
        self.checkpoint_at.set(now());
        self.checkpoint_bytes.set(i64::try_from(manifest.bytes()).unwrap_or(i64::MAX));
        self.checkpoint_seconds.observe((now() - seconds(manifest.taken_at.0)).max(0.0));
    }

    /// Everything that the store holds already was replayed; it took this long from the start.
    pub fn recovered(&self, took: Duration) {
        tracing::info!(?took, "everything that the store holds is replayed");
        self.recovery_seconds.set(took.as_secs_f64());
    }

    /// The part of one worker's fold.
    pub fn of_worker(self: &Arc<Metrics>, worker: usize) -> FoldMetrics {
        let events = self.worker_events.get_or_create(&ByWorker { worker: worker as u64 }).clone();
        FoldMetrics { metrics: Arc::clone(self), events, viewers: 0 }
    }

    /// Rejected records so far, of each reason that there was.
    pub fn rejected_by_reason(&self) -> Vec<(Reason, u64)> {
        let count = |reason: Reason| self.rejected.get(&ByReason { reason: reason.as_str() }).map(|counter| counter.get());
        Reason::ALL.into_iter().filter_map(|reason| count(reason).map(|records| (reason, records))).collect()
    }

    /// Events that a worker has folded.
    pub fn events_of_worker(&self, worker: usize) -> u64 {
        self.worker_events.get(&ByWorker { worker: worker as u64 }).map_or(0, |events| events.get())
    }
}

/// What one worker's fold tells.
#[derive(Debug)]
pub struct FoldMetrics {
    metrics: Arc<Metrics>,
    events: Counter,
    /// What this worker's share of the gauge is.
    viewers: i64,
}

impl FoldMetrics {
    /// Events of a slice were folded, some of them copies.
    pub fn events(&self, events: u64, duplicates: u64) {
        self.events.inc_by(events);
        self.metrics.duplicates.inc_by(duplicates);
    }

    /// What the worker keeps.
    pub fn keeps(&mut self, open_windows: usize, viewers: usize) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.open_windows.set(gauge(open_windows));
        self.metrics.viewers.inc_by(gauge(viewers) - self.viewers);
        self.viewers = gauge(viewers);
    }

    /// An activation worked for this long.
    pub fn activation(&self, took: Duration) {
        self.metrics.folded(took);
    }
}

impl Drop for FoldMetrics {
    fn drop(&mut self) {
        // Another run of the same process counts its viewers from nothing.
        self.metrics.viewers.dec_by(self.viewers);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

fn whole_seconds(time: Micros) -> i64 {
    time.0.div_euclid(1_000_000)
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
