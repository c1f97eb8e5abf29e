//! The answers, as they are written in JSON: money with the exact text of `numeric(20,2)`, times as RFC 3339 in UTC.

use crate::amounts::{Amounts, Presence, Row};
use crate::value::Amount;
use serde::{Serialize, Serializer};
use tidemark_model::Micros;
use utoipa::ToSchema;

/// Length of a window of a minute.
const WINDOW_MICROS: i64 = 60_000_000;

/// An instant that is written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct UtcTime(pub Micros);

impl UtcTime {
    /// This instant plus that many seconds, held at the ends of what 64 bits can say.
    pub fn plus_seconds(self, seconds: i64) -> UtcTime {
        UtcTime(Micros(self.0.0.saturating_add(seconds.saturating_mul(1_000_000))))
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Of each metric.
pub type RowValues = Amounts<Row>;
/// Of what the newest minutes alone say.
pub type PresentValues = Amounts<Presence>;

/// One row of `/metrics`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MetricRow {
    /// Inclusive.
    pub window_start: UtcTime,
    /// Exclusive.
    pub window_end: UtcTime,
    /// The stream.
    pub stream_id: String,
    /// Its values.
    #[serde(flatten)]
    pub values: RowValues,
    /// Whether the row never changes again: the pipeline's watermark has passed its end.
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// One row of `/metrics/totals`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TotalsRow {
    /// Inclusive.
    pub window_start: UtcTime,
    /// Exclusive.
    pub window_end: UtcTime,
    /// Streams with a row of this window.
    pub streams: i64,
    /// Of all streams. What follows from who is present is of everybody, also in streams without a row of this window. Null where a stream's
    /// value is.
    #[serde(flatten)]
    pub values: RowValues,
    /// Whether the row never changes again.
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// What the newest minutes of some streams say together.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Present {
    /// How many streams.
    pub streams: i64,
    /// Their sums, each stream's value as of its newest minute.
    #[serde(flatten)]
    pub values: PresentValues,
}

/// One row of `/streams`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StreamRow {
    /// The stream.
    pub stream_id: String,
    /// The start of its newest window.
    pub last_seen: UtcTime,
}

/// One row of `/streams/top`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TopRow {
    /// The stream.
    pub stream_id: String,
    /// Its score.
    #[schema(value_type = f64)]
    pub value: Amount,
}

/// One row of `/dead-letters`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadLetterRow {
    /// Why these records were rejected.
    pub reason: String,
    /// How many there are.
    pub records: i64,
    /// The last commit that brought one.
    pub newest_epoch: Epoch,
    /// The latest of their record times, if any has one.
    pub newest_record_time: Option<UtcTime>,
    /// How many of them were published again.
    pub replayed: i64,
}

/// A stream's newest minute row, as it was last changed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StreamState {
    /// What that minute says.
    #[serde(flatten)]
    pub values: PresentValues,
    /// That minute.
    pub window_start: UtcTime,
    /// The store's clock at the commit that changed it.
    pub updated_at: UtcTime,
}

/// The number of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
pub struct Epoch(pub i64);

/// The state of the store that an answer tells of: all of it was read in one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The store's clock.
    pub now: UtcTime,
    /// The last commit; none before the first.
    pub epoch: Option<Epoch>,
    /// Rows that end at or before it are final.
    pub watermark: Option<UtcTime>,
    /// Changes when the tables are made anew and when another run takes over: only within a life does an epoch name the same rows. 0
    /// before the first commit.
    pub life: u64,
}

impl Moment {
    /// A minute's row that a later commit changes is not final now, so it starts after this. `None` while there is no watermark: any row
    /// can change.
    pub fn changes_start_after(&self) -> Option<Micros> {
        self.watermark.map(|UtcTime(Micros(watermark))| Micros(watermark.saturating_sub(WINDOW_MICROS)))
    }
}

/// Rows, and when they were chosen.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The rows, in the order that was asked for.
    pub rows: Vec<T>,
    /// The snapshot that they are from.
    pub at: Moment,
}

/// How far the pipeline is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Number of its last commit.
    pub epoch: Epoch,
    /// Rows that end at or before it are final.
    pub watermark: Option<UtcTime>,
    /// What must not change between its runs; begins with the kind of its log.
    pub fingerprint: String,
    /// The store's clock at its last commit.
    pub committed_at: UtcTime,
    /// The store's clock at the writer's last sign of life; none from a dataflow that gives none.
    pub heartbeat_at: Option<UtcTime>,
    /// What holds the pipeline up.
    pub trouble: Option<String>,
    /// Its partitions, by topic and number.
    pub partitions: Vec<Partition>,
    /// The store's clock.
    pub now: UtcTime,
}

impl Progress {
    /// When this was read.
    pub fn moment(&self) -> Moment {
        Moment { now: self.now, epoch: Some(self.epoch), watermark: self.watermark, life: 0 }
    }
}

/// How far the pipeline is in one partition.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i64,
    /// Records below it are in the tables.
    pub next_offset: i64,
    /// The log's end as last seen.
    pub end_offset: i64,
    /// Its own watermark; none before its first valid event.
    pub watermark: Option<UtcTime>,
    /// `backlogged`, `at_end`, `idle` or `not_counting`.
    pub state: String,
}
