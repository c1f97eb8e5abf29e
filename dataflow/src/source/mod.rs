//! The log: partitions of records with offsets. What a source promises is written here; each implementation keeps it.
//!
//! - Records of a partition are handed out in the order of their offsets, each once, from the offset that was asked for.
//! - A partition's position is exclusive: all records below it were handed out. Offsets may have holes.
//! - A source buffers a bounded amount; who does not read holds it back.
//! - Faults of the world that may pass (a broker that restarts) are ridden out inside; what is returned as an error is final.

pub mod file_log;
pub mod kafka;
pub mod memory;

use crate::reading::Monotonic;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use tidemark_model::Micros;
use tidemark_settings::log;

/// The log at a place of the settings.
pub fn open(place: log::Log) -> Arc<dyn Log> {
    match place {
        log::Log::Kafka(topic) => Arc::new(kafka::KafkaLog::new(topic)),
        log::Log::File { dir, topic } => Arc::new(file_log::FileLog::new(dir, topic)),
    }
}

/// A record of the log, valid until the next one is read.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its own offset.
    pub offset: i64,
    /// The log's time of it, if it has one.
    pub time: Option<Micros>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// The offsets that a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of the oldest record that is still there.
    pub low: i64,
    /// Exclusive: of the next record to be written.
    pub high: i64,
}

/// Receives a record. `Break` leaves it unread: it is the first one of the next reading.
pub type Take<'a> = &'a mut dyn FnMut(Record<'_>) -> ControlFlow<()>;

/// When a question was sent to a partition's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// By this process's clock.
    pub at: Monotonic,
    /// The newest reading of worker 0's clock that was known here then: the question was sent after it. `None`: none was known yet.
    pub worker_0: Option<Monotonic>,
}

/// Where reading of a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Exclusive: all records below it were handed out.
    pub next_offset: i64,
    /// The log's end as last seen.
    pub end_offset: i64,
    /// Whether everything up to the end as last seen was handed out. Unsure counts as no. Only a hint: the end may have moved since.
    pub at_end: bool,
    /// The newest question whose answer showed that everything up to the end was handed out. This is evidence: what is in the log and
    /// not handed out was written after the question was sent.
    pub confirmed: Option<Asked>,
    /// Of the oldest record that the log still has, as last seen.
    pub low_offset: i64,
}

/// A log as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What tells this log from another one of the same name: part of the fingerprint.
    pub id: String,
    /// Its partitions.
    pub partitions: BTreeMap<i32, Bounds>,
}

/// A fault that a source cannot ride out.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The service or topic is not there; it may come.
    #[error("{0}")]
    NotYet(String),
    /// It will not go away by waiting.
    #[error("{0}")]
    Fatal(String),
    /// A setting that cannot work.
    #[error("{0}")]
    Setting(String),
}

/// A log that can be opened by any number of workers, each for its own partitions.
pub trait Log: Send + Sync {
    /// Which partitions there are, and their offsets.
    fn describe(&self) -> Result<Description, SourceError>;

    /// Reads these partitions, each from its offset.
    fn open(&self, start: &BTreeMap<i32, i64>) -> Result<Box<dyn Source>, SourceError>;

    /// The topic's name.
    fn topic(&self) -> &str;

    /// Asked for a commit of records: whether all that was read until now is of the log with this id, and not of one that took over
    /// its name meanwhile. The question is sent at once; who calls what is handed back waits for the answer, for a bounded time.
    /// [`SourceError::NotYet`] if it cannot be told. The default is for logs that keep what a reader has open.
    fn confirm<'a>(&'a self, id: &'a str) -> Box<dyn FnOnce() -> Result<(), SourceError> + 'a> {
        let _ = id;
        Box::new(|| Ok(()))
    }

    /// All records below these offsets of these partitions are in the store. A log that keeps positions for other programs' eyes
    /// notes them, without waiting and without failing.
    fn committed(&self, next_offsets: &[(i32, i64)]);
}

/// A reader of some partitions of a log; lives on one worker's thread.
pub trait Source {
    /// Hands at most `max` records of a partition that are at hand to `take`, and none at or after `before`. Does not wait.
    fn read(&mut self, partition: i32, before: Option<i64>, max: usize, take: Take<'_>) -> Result<(), SourceError>;

    /// Where reading of a partition stands.
    fn position(&mut self, partition: i32) -> Result<Position, SourceError>;

    /// Gives the client time for its own affairs: at the beginning of each turn of the worker's loop. Questions that it sends until the
    /// next turn count as asked `now`.
    fn serve(&mut self, now: Asked) -> Result<(), SourceError>;

    /// What keeps it from reading at the moment, in a sentence for people.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Partitions of the log that are not read here, whenever it was looked again; nothing in between. Whose they are, the caller
    /// knows.
    fn others(&mut self) -> Result<Vec<i32>, SourceError>;

    /// Reads one more partition, from its beginning.
    fn add(&mut self, partition: i32) -> Result<(), SourceError>;
}
