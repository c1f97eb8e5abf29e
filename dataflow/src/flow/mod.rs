//! The messages that travel between the stages of the dataflow, and the words they are made of. Nothing here knows a stage.
//!
//! ```text
//! reader ──Admitted──▶ fold ──Share──▶ views ──Change::Row──▶ sink
//!    │                  └──Closed──▶ rollups ──Share──▶ views
//!    ├────Mark───▶ watermark ──Watermark──▶ fold, reader, sink
//!    └────Change: dead letters, names of streams───────────▶ sink
//! ```

pub mod past;
pub mod totals;

pub use past::{Past, Run};
pub use totals::Totals;

use crate::Slice;
use crate::checkpoint::{Id, PartNotice};
use crate::keys::{EventKey, StreamKey, ViewerKey};
use crate::reading::{Monotonic, Reading, SecondOpinion};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidemark_model::{Cents, Kind, Micros, Minute, Nanos, Reason, Window};

/// An event that counts, on its way to the worker that owns its viewer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Admitted {
    /// Whose event it is; names the owner.
    pub viewer: ViewerKey,
    /// Whether the event has a valid `user_id`.
    pub by_user: bool,
    /// The stream.
    pub stream: StreamKey,
    /// What copies of the event share, if it has an id.
    pub id: Option<EventKey>,
    /// When it happened.
    pub ts: Nanos,
    /// Zero unless a donation.
    pub amount: Cents,
    /// What happened.
    pub kind: Kind,
}

/// A row's key inside the dataflow.
pub type RowKey = (StreamKey, Window);

/// A share of a row that changed: data, time, difference.
pub type Share = (RowKey, Slice, Totals);

/// A worker's share of what has closed of a stream.
pub type Closed = (StreamKey, Run, Past);

/// Where a partition stands, as its owner sees it. The names are those of `progress_partitions.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// There are records that were not read yet (or nobody can tell). Counts, as −∞ until its first valid event.
    Backlogged,
    /// Read to its end. Counts with its own watermark.
    AtEnd,
    /// At its end, and silent for `IDLE_AFTER`. Counts with what time allows.
    Idle,
    /// At its end without ever having had a valid event. Does not count.
    NotCounting,
}

impl Standing {
    /// All of them.
    pub const ALL: [Standing; 4] = [Standing::Backlogged, Standing::AtEnd, Standing::Idle, Standing::NotCounting];

    /// The value of `progress_partitions.state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Backlogged => "backlogged",
            Standing::AtEnd => "at_end",
            Standing::Idle => "idle",
            Standing::NotCounting => "not_counting",
        }
    }
}

/// What an owner says of a partition in a slice; also what a commit stores of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionMark {
    /// The partition.
    pub partition: i32,
    /// First offset that the pipeline read of it.
    pub start_offset: i64,
    /// Exclusive: all records below it are in this or an earlier slice.
    pub next_offset: i64,
    /// The log's end as last seen.
    pub end_offset: i64,
    /// Of the oldest record that the log still has, as last seen.
    pub low_offset: i64,
    /// Highest event time that was neither undecodable nor `future`.
    pub highest: Option<Nanos>,
    /// Its own watermark: that time minus lateness.
    pub watermark: Option<Micros>,
    /// Where it stands.
    pub standing: Standing,
    /// If it is idle: worker 0's clock before its leader was asked whether there is more. `None` otherwise.
    pub silent_until: Option<Monotonic>,
    /// How far the wall clocks by which verdicts were taken in this slice were ahead of worker 0's monotonic clock: the least and the
    /// most.
    pub judged_by: Option<(i64, i64)>,
    /// Whether records of it were read in this slice.
    pub delivered: bool,
    /// Whether it has reached its emit-from offset.
    pub replayed: bool,
    /// Windows of the events that it admitted in this slice.
    pub touched: Vec<Minute>,
}

impl PartitionMark {
    /// Of a partition that was read up to this offset, which is its end.
    pub fn at_end(partition: i32, next_offset: i64) -> PartitionMark {
        PartitionMark {
            partition,
            start_offset: 0,
            next_offset,
            end_offset: next_offset,
            low_offset: 0,
            highest: None,
            watermark: None,
            standing: Standing::AtEnd,
            silent_until: None,
            judged_by: None,
            delivered: true,
            replayed: true,
            touched: Vec::new(),
        }
    }
}

/// Worker 0's clocks, and what the store's clock says of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// Worker 0's.
    pub now: Reading,
    /// The store's.
    pub store: SecondOpinion,
}

/// What travels to the watermark operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Mark {
    /// Worker 0's clocks at the end of the slice.
    Clock(Clocks),
    /// A partition's.
    Partition(PartitionMark),
    /// Worker 0's word that it is time for a checkpoint.
    Checkpoint {
        /// [`Request::ids_since`].
        ids_since: Option<Id>,
    },
    /// What keeps a worker from reading, whenever that changes.
    Trouble {
        /// The worker.
        worker: usize,
        /// In a sentence for people; `None`: nothing any more.
        sentence: Option<String>,
    },
    /// A worker's word that it reads nothing any more.
    Ended,
}

/// The pipeline's watermark as of a slice, the same on every worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Worker 0's clocks at the end of the slice.
    pub clock: Option<Clocks>,
    /// The watermark; `None` while nothing is known. Windows that end at or before it are closed.
    pub at: Option<Micros>,
    /// Windows that an admitted event touched for the first time in this slice, in order.
    pub opened: Vec<Minute>,
    /// Whether all partitions have been replayed up to what the store holds already.
    pub live: bool,
    /// Whom the others must wait for, if a partition with a backlog holds the minimum.
    pub alignment: Option<Alignment>,
    /// Asks to save the state as it is after this slice.
    pub checkpoint: Option<Request>,
    /// Whether no worker reads any more.
    pub ended: bool,
}

/// A checkpoint that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its number in this run, from 1.
    pub number: u64,
    /// Worker 0's wall clock at the end of the slice.
    pub taken_at: Micros,
    /// The windows that are open after the slice.
    pub open: Vec<Minute>,
    /// It need not write ids that this checkpoint has. `None`: it writes all. It is that of the request before, or the checkpoint that was
    /// asked for then; of the first request, the one that the run went on from.
    pub ids_since: Option<Id>,
}

/// A partition with a backlog that others must not run away from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alignment {
    /// The partition.
    pub holder: i32,
    /// What others may be only so far ahead of: its watermark or the pipeline's, whichever is higher.
    pub base: Option<Micros>,
}

/// The partition that holds the pipeline's watermark: the one that counts with the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The partition.
    pub partition: i32,
    /// Microseconds since when it is the same one.
    pub held: i64,
    /// Microseconds by which what it counts with is behind the most advanced partition; `None`: it never had a valid event.
    pub behind: Option<i64>,
}

/// A record that makes no row, with all that is kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Where it was.
    pub partition: i32,
    /// Its own offset.
    pub offset: i64,
    /// Why it makes no row.
    pub reason: Reason,
    /// The same for people.
    pub error: String,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its bytes, as they were read.
    pub payload: Option<Vec<u8>>,
    /// The log's time of it.
    pub record_time: Option<Micros>,
}

/// What a slice can bring to the sink. Most are rows; what is rare and large is in a box, so that rows travel light.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Change {
    /// The newest totals of a row.
    Row(StreamKey, Window, Totals),
    /// The newest totals of all streams in a window, and how many of them have a row.
    Total(Window, i64, Totals),
    /// The name of a stream, for its rows of this window and of older ones.
    Name(StreamKey, Minute, Box<str>),
    /// A rejected record.
    DeadLetter(Box<DeadLetter>),
    /// Where a partition stands.
    Partition(Box<PartitionMark>),
    /// The pipeline's watermark.
    Watermark(Box<Watermark>),
    /// A worker's part of a checkpoint is on the disk, or is not.
    Part(Box<PartNotice>),
}

/// Counts of records by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All records.
    pub records: u64,
    /// Of event types that make no rows.
    pub other_types: u64,
    /// That count, before copies are found.
    pub admitted: u64,
    /// Rejected, by reason.
    pub rejected: BTreeMap<Reason, u64>,
    /// Bytes that the rejected ones take until they are stored.
    pub rejected_bytes: u64,
    /// Of each late one: microseconds from its window's end to its partition's watermark.
    pub late_by: Vec<i64>,
}
