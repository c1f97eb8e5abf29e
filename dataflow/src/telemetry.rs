//! What the process tells about itself: one set of counters, moved once per batch and never per record.

use crate::reader::Tally;
use crate::sink::Commit;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidemark_model::Reason;

/// Labels of the rejected records.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ByReason {
    reason: &'static str,
}

/// All counters and gauges of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Records read from the log, replayed ones included.
    pub records: Counter,
    /// Records of event types that make no rows.
    pub other_types: Counter,
    /// Events that count, before copies are found.
    pub admitted: Counter,
    /// Copies of events that count already.
    pub duplicates: Counter,
    /// Rejected records by reason.
    rejected: Family<ByReason, Counter>,
    /// Transactions that were committed.
    pub commits: Counter,
    /// Rows written to the store.
    pub rows: Counter,
    /// Number of the last commit.
    pub epoch: Gauge,
    /// Seconds since 1970 of the stored watermark.
    pub watermark: Gauge,
    /// Transactions that were tried again.
    pub commit_retries: Counter,
    /// Lengths of the fold operator's activations.
    fold_activation: Activations,
}

/// A histogram whose bounds fit activations: what matters is whether any is longer than 20 ms.
#[derive(Debug)]
struct Activations(Histogram);

impl Default for Activations {
    fn default() -> Activations {
        Activations(Histogram::new([0.000_1, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5]))
    }
}

impl Metrics {
    /// Metrics, and the registry that writes them.
    pub fn new() -> (Arc<Metrics>, Registry) {
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("tidemark");
        let counters = [
            ("records", "Records read from the log", &metrics.records),
            ("other_types", "Records of event types that make no rows", &metrics.other_types),
            ("admitted", "Events that count, before copies are found", &metrics.admitted),
            ("duplicates", "Copies of events that count already", &metrics.duplicates),
            ("commits", "Transactions that were committed", &metrics.commits),
            ("rows", "Rows written to the store", &metrics.rows),
            ("commit_retries", "Transactions that were tried again", &metrics.commit_retries),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("rejected", "Rejected records by reason", metrics.rejected.clone());
        registry.register("epoch", "Number of the last commit", metrics.epoch.clone());
        registry.register("watermark_seconds", "Stored watermark, seconds since 1970", metrics.watermark.clone());
        let activations = metrics.fold_activation.0.clone();
        registry.register("fold_activation_seconds", "How long the fold operator was active at once", activations);
        (Arc::new(metrics), registry)
    }

    /// The fold operator was active.
    pub fn fold_activation(&self, length: Duration) {
        self.fold_activation.0.observe(length.as_secs_f64());
    }

    /// Records were read.
    pub fn read(&self, tally: &Tally) {
        self.records.inc_by(tally.records);
        self.other_types.inc_by(tally.other_types);
        self.admitted.inc_by(tally.admitted);
        for (&reason, &records) in &tally.rejected {
            self.rejected(reason, records);
        }
    }

    /// A transaction was committed.
    pub fn committed(&self, epoch: i64, commit: &Commit) {
        self.commits.inc();
        self.rows.inc_by(commit.rows.len() as u64);
        self.epoch.set(epoch);
        if let Some(watermark) = commit.watermark {
            self.watermark.set(watermark.0 / 1_000_000);
        }
        tracing::debug!(
            epoch,
            rows = commit.rows.len(),
            dead_letters = commit.dead_letters.len(),
            watermark = commit.watermark.map(|watermark| watermark.to_string()),
            "committed"
        );
    }

    fn rejected(&self, reason: Reason, records: u64) {
        self.rejected.get_or_create(&ByReason { reason: reason.as_str() }).inc_by(records);
    }

    /// Rejected records so far, of each reason that there was.
    pub fn rejected_by_reason(&self) -> Vec<(Reason, u64)> {
        let count = |reason: Reason| self.rejected.get(&ByReason { reason: reason.as_str() }).map(|counter| counter.get());
        Reason::ALL.into_iter().filter_map(|reason| count(reason).map(|records| (reason, records))).collect()
    }
}

/// Serves the registry as text at `/metrics`, on a thread of its own, for as long as the process lives.
pub fn serve(address: SocketAddr, registry: Registry) -> Result<(), String> {
    let server =
        tiny_http::Server::http(address).map_err(|error| format!("METRICS_ADDR={address}: {error}; set another, or off"))?;
    let answer = move || {
        for request in server.incoming_requests() {
            let mut text = String::new();
            let response = match (request.url(), prometheus_client::encoding::text::encode(&mut text, &registry)) {
                ("/metrics", Ok(())) => tiny_http::Response::from_string(text).with_header(text_header()),
                ("/metrics", Err(_)) => tiny_http::Response::from_string("the metrics cannot be written").with_status_code(500),
                _ => tiny_http::Response::from_string("not found: there is only /metrics").with_status_code(404),
            };
            // Who went away does not need the answer.
            let _ = request.respond(response);
        }
    };
    std::thread::Builder::new().name("metrics".to_owned()).spawn(answer).map(drop).map_err(|error| error.to_string())
}

fn text_header() -> tiny_http::Header {
    let kind = b"application/openmetrics-text; version=1.0.0; charset=utf-8";
    tiny_http::Header::from_bytes(b"Content-Type", kind).expect("a constant header is well-formed")
}
