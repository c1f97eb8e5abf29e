//! What the operator's commands read of a store, and the one mark that they set. No rows are written here.

mod postgres;
mod sqlite;

use crate::checkpoint::history::{Determined, Entry, StoredEntry};
use crate::run::Control;
use crate::sink::StoreError;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidemark_model::{Grain, Micros, Minute, Reason};
use tidemark_settings::store;

/// A store, as the commands see it. Each method is one transaction.
pub trait Books {
    /// Everything that a pipeline's tables hold, as of one moment, also while the pipeline runs; none if they hold no pipeline.
    fn snapshot(&mut self, pipeline: &str, topic: &str) -> Result<Option<Snapshot>, StoreError>;

    /// The first letters of a topic, by partition and offset, that the filter lets through.
    fn letters(&mut self, topic: &str, filter: &Filter, limit: u32) -> Result<Vec<Letter>, StoreError>;

    /// How many letters of a topic the filter lets through.
    fn count_letters(&mut self, topic: &str, filter: &Filter) -> Result<u64, StoreError>;

    /// Number of a pipeline's last commit; 0 if there is none.
    fn epoch(&mut self, pipeline: &str) -> Result<i64, StoreError>;

    /// What a pipeline's tables say of its checkpoints; none if they hold no pipeline.
    fn checkpoints(&mut self, pipeline: &str, topic: &str) -> Result<Option<Checkpoints>, StoreError>;

    /// Takes a checkpoint, by its place in the list as it was read, out of the list; `false` if the list has changed since.
    fn forget_checkpoint(&mut self, pipeline: &str, read: &serde_json::Value, index: usize) -> Result<bool, StoreError>;

    /// Marks a letter as replayed; `false` if it was marked before or is not there. Of any number of callers one is told `true`.
    fn claim(&mut self, topic: &str, at: Position) -> Result<bool, StoreError>;

    /// Takes the mark back, of a letter that was surely not published.
    fn release(&mut self, topic: &str, at: Position) -> Result<(), StoreError>;
}

/// Opens the books of a store that must be there. The end of `control`'s run shortens all waiting for it.
pub fn open(place: &store::Store, control: Option<&Arc<Control>>) -> Result<Box<dyn Books>, StoreError> {
    Ok(match place {
        store::Store::Postgres { connection, shown } => Box::new(postgres::PostgresBooks::open(connection, shown, control)?),
        store::Store::Sqlite(path) => Box::new(sqlite::SqliteBooks::open(path)?),
    })
}

/// Tables of an older version lack columns, or a table.
fn earlier(place: &str, what: &str) -> StoreError {
    StoreError::Fatal(format!(
        "{place}: {what}: if the tables were made by an older version, start tidemark-dataflow once, which adds what they lack"
    ))
}

/// Where a record is: partition and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// The record's own offset.
    pub offset: i64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

/// All tables of a pipeline as of one commit.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
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
    /// `stream_metrics_minute` and those of hours and days, by `window_start` and stream.
    pub rows: BTreeMap<(Grain, Micros, String), StoredRow>,
    /// `stream_totals_minute` and those of hours and days, by `window_start`.
    pub totals: BTreeMap<(Grain, Micros), StoredTotal>,
    /// `stream_state`, by stream.
    pub states: BTreeMap<String, StoredState>,
    /// `dead_letters` of the topic.
    pub letters: BTreeMap<Position, StoredLetter>,
}

impl Snapshot {
    fn put_history(&mut self, stored: Vec<StoredEntry>, hash_key: [u8; 16]) {
        let offsets =
            |(&partition, progress): (&i32, &PartitionProgress)| (partition, (progress.start_offset, progress.next_offset));
        let partitions = self.partitions.iter().map(offsets).collect();
        self.history = stored.into_iter().filter_map(|entry| entry.entry(hash_key, &partitions)).collect();
    }

    /// Leaves out what the log does not determine any more, and answers how many rows of all tables that are.
    pub fn drop_undetermined(&mut self, determined: &Determined) -> usize {
        let count = |of: &Snapshot| of.rows.len() + of.totals.len() + of.states.len() + of.letters.len();
        let (all, from) = (count(self), determined.from.start());
        self.rows.retain(|(_, start, _), _| *start >= from);
        self.totals.retain(|(_, start), _| *start >= from);
        self.states.retain(|_, state| state.window_start >= from);
        if determined.entry.is_some() {
            let read_from = |partition: i32| determined.read_from.get(&partition).map_or(0, |read_to| read_to.next_offset);
            self.letters.retain(|at, _| at.offset >= read_from(at.partition));
        }
        all - count(self)
    }

    /// Whether all rows of a window that starts here are there, of hours and days as far as they are closed.
    pub fn is_whole(&self, grain: Grain, start: Micros) -> bool {
        match grain {
            Grain::Minute => self.minutes_from.is_none_or(|from| from <= start),
            Grain::Hour | Grain::Day => self.rolled_up[grain as usize - 1].is_some_and(|from| from <= start),
        }
    }
}

/// What the tables say of checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// `progress.checkpoints`.
    pub named: serde_json::Value,
    /// `progress.hash_key`.
    pub hash_key: [u8; 16],
    /// The next offset of each partition: a checkpoint that is ahead of them is not used.
    pub next_offsets: BTreeMap<i32, i64>,
}

impl Checkpoints {
    /// The list without one of them.
    fn without(named: &serde_json::Value, index: usize) -> serde_json::Value {
        let mut left = named.as_array().cloned().unwrap_or_default();
        if index < left.len() {
            left.remove(index);
        }
        left.into()
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

/// A row of a stream without its key. Values are as they stand, whoever wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// Exclusive end of the window.
    pub window_end: Micros,
    /// The metrics; none where there is no count and no whole number of cents.
    pub values: Vec<Option<i64>>,
    /// The commit that last changed it.
    pub epoch: i64,
}

/// A row of all streams without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTotal {
    /// Streams with a row of the window.
    pub streams: i64,
    /// The rest, as in a stream's row.
    pub row: StoredRow,
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

/// A row of `dead_letters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Where the record is.
    pub at: Position,
    /// Why it makes no row.
    pub reason: String,
    /// The same for people.
    pub error: String,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's bytes.
    pub payload: Option<Vec<u8>>,
    /// The record's time.
    pub record_time: Option<Micros>,
    /// The commit that passed the record.
    pub epoch: i64,
    /// When it was published again.
    pub replayed_at: Option<Micros>,
}

/// Which letters. Every condition must hold; an absent one always does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these reasons; none: any.
    pub reasons: Vec<Reason>,
    /// In this partition.
    pub partition: Option<i32>,
    /// At or after this offset.
    pub from_offset: Option<i64>,
    /// Before this offset.
    pub to_offset: Option<i64>,
    /// With a record time at or after this.
    pub from: Option<Micros>,
    /// With a record time before this.
    pub to: Option<Micros>,
    /// Replayed, or not.
    pub replayed: Option<bool>,
    /// Behind this one in the order of partition and offset.
    pub after: Option<Position>,
    /// Written by this commit or an earlier one.
    pub up_to_epoch: Option<i64>,
}

impl Filter {
    /// Just this letter.
    pub fn only(at: Position) -> Filter {
        let Position { partition, offset } = at;
        Filter {
            partition: Some(partition),
            from_offset: Some(offset),
            to_offset: Some(offset.saturating_add(1)),
            ..Filter::default()
        }
    }

    /// The names of the reasons; none: any.
    fn reason_names(&self) -> Option<Vec<&'static str>> {
        (!self.reasons.is_empty()).then(|| self.reasons.iter().map(|reason| reason.as_str()).collect())
    }
}

/// The store has no tables of ours.
fn no_tables(place: &str) -> StoreError {
    StoreError::Fatal(format!("{place} has no tables of a pipeline: check DATABASE_URL or DATA_DIR, or start tidemark-dataflow"))
}
