//! What the operator's commands read of a store, and the one mark that they set. No rows are written here.

mod postgres;
mod sqlite;
mod tables;

pub use tables::{LetterPage, Own, PartitionProgress, Place, Progress, StoredLetter, StoredRow, StoredState, Tables, before_all};

use crate::run::Control;
use crate::sink::StoreError;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidemark_model::{Micros, Reason};
use tidemark_settings::store;

/// A store, as the commands see it. Each method is one transaction; that of [`Tables`] lasts as long as they are held.
pub trait Books {
    /// A pipeline's tables as of one moment, also while the pipeline runs; none if they hold no pipeline.
    fn tables(&mut self, pipeline: &str, topic: &str) -> Result<Option<Box<dyn Tables + '_>>, StoreError>;

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
