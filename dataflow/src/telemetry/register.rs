//! The metrics' names and what they are; `prometheus-client` puts `tidemark_` before and, to counters, `_total` behind.

use super::{Metrics, process::Process};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use std::sync::Arc;

/// How late, in seconds: from seconds to a week.
const LATE: [f64; 12] = [1.0, 10.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0];
/// From a commit into a local file to a store that hangs.
const COMMIT: [f64; 13] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// From an empty slice to one that stalls the worker.
const FOLD: [f64; 10] = [0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.02, 0.1, 0.25, 1.0];
/// From a small state on a local disk to a large one.
const CHECKPOINT: [f64; 8] = [0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 60.0];

impl Metrics {
    /// Metrics, and the registry that writes them.
    pub fn new() -> (Arc<Metrics>, Registry) {
        let metrics = Metrics::unregistered();
        metrics.reaches(None);
        let mut registry = Registry::with_prefix("tidemark");
        metrics.register_records(&mut registry);
        metrics.register_commits(&mut registry);
        metrics.register_minutes(&mut registry);
        metrics.register_watermark(&mut registry);
        metrics.register_state(&mut registry);
        registry.register_collector(Box::new(Process));
        (Arc::new(metrics), registry)
    }

    fn unregistered() -> Metrics {
        Metrics {
            slices: Default::default(),
            records: Default::default(),
            other_types: Default::default(),
            admitted: Default::default(),
            duplicates: Default::default(),
            rejected: Default::default(),
            late_seconds: Histogram::new(LATE),
            commits: Default::default(),
            rows: Default::default(),
            corrections: Default::default(),
            commit_retries: Default::default(),
            commit_seconds: Histogram::new(COMMIT),
            epoch: Default::default(),
            last_commit: Default::default(),
            minute: Default::default(),
            watermark: Default::default(),
            partition_watermark: Default::default(),
            partition_lag: Default::default(),
            partition_state: Default::default(),
            partition_next: Default::default(),
            partition_low: Default::default(),
            log_reach: Default::default(),
            holder: Default::default(),
            held_seconds: Default::default(),
            behind_seconds: Default::default(),
            open_windows: Default::default(),
            viewers: Default::default(),
            worker_events: Default::default(),
            fold_seconds: Histogram::new(FOLD),
            checkpoint_at: Default::default(),
            checkpoint_bytes: Default::default(),
            checkpoint_seconds: Histogram::new(CHECKPOINT),
            recovery_seconds: Default::default(),
        }
    }

    fn register_records(&self, registry: &mut Registry) {
        register(registry, "slices", "Slices that the workers closed, each its own, empty ones included", &self.slices);
        register(registry, "records", "Records read from the log, replayed ones included", &self.records);
        register(registry, "other_types", "Records of event types that make no rows", &self.other_types);
        register(registry, "admitted", "Events that count, before copies are found", &self.admitted);
        register(registry, "duplicates", "Copies of events that count already", &self.duplicates);
        register(registry, "rejected", "Rejected records by reason", &self.rejected);
        register(
            registry,
            "late_seconds",
            "How long before its partition's watermark a late event's window ended",
            &self.late_seconds,
        );
        register(registry, "worker_events", "Events that each worker folded", &self.worker_events);
    }

    fn register_commits(&self, registry: &mut Registry) {
        register(registry, "commits", "Transactions that were committed", &self.commits);
        register(registry, "rows", "Rows written to the store", &self.rows);
        register(registry, "corrections", "Written rows that were no longer their stream's newest", &self.corrections);
        register(registry, "commit_retries", "Commits that were tried again", &self.commit_retries);
        register(
            registry,
            "commit_seconds",
            "Time that a commit took, with the brokers' word for it and all retries",
            &self.commit_seconds,
        );
        register(registry, "epoch", "Number of the last commit", &self.epoch);
        register(registry, "last_commit_timestamp_seconds", "When it was, seconds since 1970", &self.last_commit);
        let help = "When the newest valid checkpoint became so, seconds since 1970";
        register(registry, "checkpoint_timestamp_seconds", help, &self.checkpoint_at);
        register(registry, "checkpoint_bytes", "Bytes that a restart from it reads", &self.checkpoint_bytes);
        register(
            registry,
            "checkpoint_seconds",
            "Time from the request of a checkpoint until it was valid",
            &self.checkpoint_seconds,
        );
        register(
            registry,
            "recovery_seconds",
            "Time from the start until everything stored was replayed",
            &self.recovery_seconds,
        );
    }

    fn register_minutes(&self, registry: &mut Registry) {
        let help = "The newest minute that is over by the clock, of all streams together: its start in seconds since 1970, the streams in \
                    which something happened, and each metric (docs/metrics.md), NaN if it is not known";
        register(registry, "minute", help, &self.minute);
    }

    fn register_watermark(&self, registry: &mut Registry) {
        register(registry, "watermark_seconds", "Stored watermark, seconds since 1970", &self.watermark);
        let help = "Own watermark of each partition, seconds since 1970";
        register(registry, "partition_watermark_seconds", help, &self.partition_watermark);
        let help = "Records between what was read and the partition's end; bytes on a file log";
        register(registry, "partition_lag_records", help, &self.partition_lag);
        register(registry, "partition_state", "1 for the state that a partition is in", &self.partition_state);
        register(registry, "partition_next_offset", "Next offset to read", &self.partition_next);
        register(registry, "partition_low_offset", "Oldest offset that the log still has", &self.partition_low);
        let help = "How much further back the log reaches than a start without a checkpoint needs, in event time, to within an hour; \
                    negative: it does not reach so far; infinite: nothing has expired";
        register(registry, "log_reach_seconds", help, &self.log_reach);
        register(registry, "watermark_holder", "1 for the partition that holds the pipeline's watermark", &self.holder);
        register(registry, "watermark_held_seconds", "Since when the same partition holds it", &self.held_seconds);
        let help = "How far that partition is behind the most advanced one; infinite if it never had a valid event";
        register(registry, "watermark_behind_seconds", help, &self.behind_seconds);
    }

    fn register_state(&self, registry: &mut Registry) {
        register(registry, "open_windows", "Minutes that an event touched and the watermark has not closed", &self.open_windows);
        register(
            registry,
            "viewers",
            "Viewers in memory: present ones, and those that an open window still needs",
            &self.viewers,
        );
        register(registry, "fold_activation_seconds", "Time that an activation of fold took", &self.fold_seconds);
    }
}

fn register(registry: &mut Registry, name: &str, help: &str, metric: &(impl Metric + Clone)) {
    registry.register(name, help, metric.clone());
}
