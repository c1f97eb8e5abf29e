//! The tables as of one moment, page by page, so that they need not fit in memory.

use crate::checkpoint::history::{Entry, StoredEntry};
use crate::sink::StoreError;
use std::collections::BTreeMap;
use tidemark_model::{Grain, Micros, Minute, Of, Table};

/// A pipeline's tables. All that is read is of the moment at which they were opened.
pub trait Tables {
    /// How far the pipeline is.
    fn progress(&self) -> &Progress;

    /// At most `limit` rows behind `after`, in the order of the table's key; only those of these streams, if any are named.
    fn rows(&mut self, table: Table, after: &Place, streams: Option<&[String]>, limit: u32)
    -> Result<Vec<StoredRow>, StoreError>;

    /// How many rows of a table begin before this.
    fn count_before(&mut self, table: Table, start: Micros) -> Result<u64, StoreError>;

    /// At most `limit` rows of `stream_state` of streams behind this one, in the order of their names; only of these streams, if any are named.
    fn states(&mut self, after: &str, streams: Option<&[String]>, limit: u32) -> Result<Vec<(String, StoredState)>, StoreError>;

    /// At most `limit` dead letters of a partition from this offset on, in their order.
    fn letters(&mut self, page: LetterPage, limit: u32) -> Result<Vec<(i64, StoredLetter)>, StoreError>;

    /// How many dead letters of a partition are below this offset.
    fn count_letters_below(&mut self, partition: i32, offset: i64) -> Result<u64, StoreError>;

    /// The next partition behind this one that has dead letters.
    fn partition_of_letters(&mut self, after: i32) -> Result<Option<i32>, StoreError>;
}

/// Where a page of dead letters begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterPage {
    /// The partition.
    pub partition: i32,
    /// From this offset on.
    pub from: i64,
}

/// A row's place in its table: `window_start` and the stream, which is empty if the row is of all streams.
pub type Place = (Micros, String);

/// The place behind all rows of windows that begin earlier.
pub fn before_all(start: Micros) -> Place {
    (Micros(start.0.saturating_sub(1)), char::MAX.to_string())
}

/// How far a pipeline is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Number of the last commit.
    pub epoch: i64,
    /// The pipeline's watermark.
    pub watermark: Option<Micros>,
    /// What the rows were made with.
    pub fingerprint: String,
    /// How far each partition is.
    pub partitions: BTreeMap<i32, PartitionProgress>,
    /// `progress_history`, from old to new, as far as it can be used.
    pub history: Vec<Entry>,
    /// Windows that begin before it were given up by a `recover`.
    pub inexact_until: Option<Minute>,
    /// The first hour and the first day from which on all are there as far as they are closed; none of which no rows are kept.
    pub rolled_up: [Option<Micros>; Grain::ALL.len() - 1],
    /// Rows and totals of minutes before it were dropped.
    pub minutes_from: Option<Micros>,
    /// Letters below this offset were dropped, of each partition of which there were any.
    pub letters_from: BTreeMap<i32, i64>,
}

impl Progress {
    pub(super) fn put_history(&mut self, stored: Vec<StoredEntry>, hash_key: [u8; 16]) {
        let offsets =
            |(&partition, progress): (&i32, &PartitionProgress)| (partition, (progress.start_offset, progress.next_offset));
        let partitions = self.partitions.iter().map(offsets).collect();
        self.history = stored.into_iter().filter_map(|entry| entry.entry(hash_key, &partitions)).collect();
    }

    /// All rows of windows of this length are there from here on, of hours and days as far as they are closed; none if no rows are kept.
    pub fn whole_from(&self, grain: Grain) -> Option<Micros> {
        match grain {
            Grain::Minute => Some(self.minutes_from.unwrap_or(Micros(i64::MIN))),
            Grain::Hour | Grain::Day => self.rolled_up[grain as usize - 1],
        }
    }
}

/// A row of `progress_partitions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionProgress {
    /// First offset that the pipeline read.
    pub start_offset: i64,
    /// Exclusive: all records below it are in the tables.
    pub next_offset: i64,
    /// The partition's own watermark.
    pub watermark: Option<Micros>,
}

/// A row of a table of metrics. Values are as they stand, whoever wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// First instant of the window.
    pub window_start: Micros,
    /// Exclusive end of the window.
    pub window_end: Micros,
    /// What only tables of its kind have.
    pub own: Own,
    /// The metrics; none where there is no count and no whole number of cents.
    pub values: Vec<Option<i64>>,
    /// The commit that last changed it.
    pub epoch: i64,
}

/// Whose a row is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Own {
    /// Of this stream.
    Stream(String),
    /// Of all streams: the number of those that have a row of the window.
    All(i64),
}

impl StoredRow {
    /// Where it is in its table.
    pub fn place(&self) -> (Micros, &str) {
        (self.window_start, if let Own::Stream(stream) = &self.own { stream } else { "" })
    }
}

/// A row of `stream_state` without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// Viewers of the newest row.
    pub viewers: i64,
    /// Its window.
    pub window_start: Micros,
    /// The commit that last changed it.
    pub epoch: i64,
}

/// Of a row of `dead_letters` what the log must agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// Why it makes no row.
    pub reason: String,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's bytes.
    pub payload: Option<Vec<u8>>,
    /// The record's time.
    pub record_time: Option<Micros>,
}

/// The condition under which a row is behind a place: its `window_start` is the first parameter, its stream the second.
pub(super) fn behind(table: Table) -> &'static str {
    match table.of {
        Of::Stream => "(window_start, stream_id) > ($1, $2)",
        Of::All => "window_start > $1 and $2 is not null",
    }
}

/// The condition under which a row's stream is among those that the third parameter names, if it names any.
pub(super) fn among(streams: Option<&[String]>, condition: &'static str) -> &'static str {
    if streams.is_some() { condition } else { "$3 is null" }
}
