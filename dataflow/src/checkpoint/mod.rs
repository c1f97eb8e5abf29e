//! Checkpoints: the state of `fold` as of one slice on all workers, so that a restart need not replay the whole log.
//!
//! ```text
//! worker 0's loop: it is time ──mark──▶ watermark operator ──broadcast──▶ every fold, at slice S
//!                                                                           │ saves streams and ids, takes S + 1 …, and saves viewers
//!                                                                           ▼
//!                                              a task per worker and checkpoint writes a part, and has it on the disk
//!                                                                           │ notice
//!      store: progress.checkpoints ◀──fenced commit── sink ◀──────── whichever slice is open then
//! ```
//!
//! A checkpoint is valid once a fenced commit has named it in `progress.checkpoints`; that commit comes after slice S and after all
//! parts are durable, because slices are committed in their order. What no commit names is never used, and is removed. Two
//! checkpoints are kept; what only an older one needs is removed only after the commit that no longer names it.
//!
//! Event ids are the most of the state, and the ids of a window only become more until it closes. So they are saved incrementally: a
//! checkpoint writes those that came since an earlier one, and names the earlier increments that it needs as well. An increment is
//! needed until the last window of its ids has closed. When there are [`MOST_INCREMENTS`], or one is missing, all ids are written anew.
//!
//! - [`manifest`]: what a commit says of a checkpoint, and which one a restart uses
//! - [`part`]: the form of a part, and its reader
//! - [`writer`]: the task that writes one
//! - [`history`]: what a run goes on from without a checkpoint
//! - [`schedule`]: when the next one is due
//! - [`directory`] and [`memory`]: where parts are

pub mod directory;
pub mod history;
pub mod manifest;
pub mod memory;
pub mod part;
pub mod reach;
pub mod schedule;
pub mod writer;

pub use manifest::{Increment, Manifest, PartNotice};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{Read, Write};

/// How many checkpoints are kept: the newest, and one before it in case that the newest cannot be read. Ids that both need are there
/// once only.
pub const KEPT: usize = 2;

/// Increments of ids that one checkpoint may need. With the default settings about 70 are needed.
pub const MOST_INCREMENTS: usize = 128;

/// A checkpoint's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id {
    /// Tells pipelines apart that share a directory.
    pub pipeline: u32,
    /// The token of the run that made it.
    pub fence: i64,
    /// Its number in that run, from 1.
    pub number: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}-{}", self.pipeline, self.fence, self.number)
    }
}

impl Id {
    /// The name that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Id> {
        let mut words = text.split('-');
        let pipeline = u32::from_str_radix(words.next()?, 16).ok()?;
        let id = Id { pipeline, fence: words.next()?.parse().ok()?, number: words.next()?.parse().ok()? };
        // One name for each: no leading zeros or plus signs.
        (words.next().is_none() && id.to_string() == text).then_some(id)
    }

    /// What it wrote of these.
    pub fn set(self, holds: Holds) -> PartSet {
        PartSet { id: self, holds }
    }
}

/// What the parts of a set hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holds {
    /// All but ids of events.
    State,
    /// Ids of events that came since an earlier checkpoint.
    Ids,
}

/// Parts that a checkpoint wrote, one of each worker. They come and go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartSet {
    /// The checkpoint.
    pub id: Id,
    /// What they hold.
    pub holds: Holds,
}

impl PartSet {
    const IDS: &str = "-ids";

    /// The name that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<PartSet> {
        match text.strip_suffix(PartSet::IDS) {
            Some(id) => Some(Id::parse(id)?.set(Holds::Ids)),
            None => Some(Id::parse(text)?.set(Holds::State)),
        }
    }
}

impl fmt::Display for PartSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.holds {
            Holds::State => "",
            Holds::Ids => PartSet::IDS,
        };
        write!(f, "{}{suffix}", self.id)
    }
}

/// Where parts are. All processes of a cluster see the same.
pub trait Parts: Send + Sync {
    /// Begins a worker's part.
    fn create(&self, set: PartSet, worker: usize) -> std::io::Result<Box<dyn PartFile>>;
    /// Reads a worker's part.
    fn open(&self, set: PartSet, worker: usize) -> std::io::Result<Box<dyn Read>>;
    /// All sets of which there is anything.
    fn list(&self) -> std::io::Result<Vec<PartSet>>;
    /// Removes all parts of a set.
    fn remove(&self, set: PartSet) -> std::io::Result<()>;
}

/// A part that is being written.
pub trait PartFile: Write + Send {
    /// Has it on the disk: after this it is there whatever happens.
    fn persist(self: Box<Self>) -> std::io::Result<()>;
}

/// The name of what process 0 leaves for the others, by which they see that they share its directory. No checkpoint has number 0.
fn sign(pipeline: u32, fence: i64) -> PartSet {
    Id { pipeline, fence, number: 0 }.set(Holds::State)
}

/// Whether the system lacks something that comes back, such as descriptors or room on the disk: such an error says nothing about a part.
pub fn may_pass(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let lack = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOSPC, Errno::DQUOT, Errno::AGAIN, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|errno| lack.contains(&errno))
}

/// Leaves the sign. It goes when the first checkpoint is published.
pub fn leave_sign(parts: &dyn Parts, pipeline: u32, fence: i64) -> std::io::Result<()> {
    parts.create(sign(pipeline, fence), 0)?.persist()
}

/// Whether this process sees the sign: if not, it would not see other processes' parts either. An error if that cannot be told.
pub fn sees_sign(parts: &dyn Parts, pipeline: u32, fence: i64) -> std::io::Result<bool> {
    match parts.open(sign(pipeline, fence), 0) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes what checkpoints of a pipeline up to `last` wrote and none in `kept` needs. A newer one is perhaps being made, or belongs to
/// a run that has taken over. `false` if something is missing that one of them needs.
pub fn clean(parts: &dyn Parts, kept: &[Manifest], last: Id) -> bool {
    let needed = |set: &PartSet| kept.iter().any(|manifest| manifest.needs(*set));
    let superfluous = |set: &PartSet| set.id.pipeline == last.pipeline && set.id <= last && !needed(set);
    let sets = match parts.list() {
        Ok(sets) => sets,
        Err(error) => {
            tracing::warn!(%error, "cannot list the checkpoints");
            return true;
        }
    };
    for &set in sets.iter().filter(|set| superfluous(set)) {
        match parts.remove(set) {
            Ok(()) => tracing::debug!(checkpoint = %set, "removed what no checkpoint needs any more"),
            Err(error) => tracing::warn!(checkpoint = %set, %error, "cannot remove what no checkpoint needs any more"),
        }
    }
    kept.iter().flat_map(Manifest::sets).all(|(set, _)| sets.contains(&set))
}
