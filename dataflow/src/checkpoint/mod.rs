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
//! checkpoints are kept; an older one is removed only after the commit that no longer names it.
//!
//! - [`manifest`]: what a commit says of a checkpoint, and which one a restart uses
//! - [`part`]: the form of a part, and its reader
//! - [`writer`]: the task that writes one
//! - [`schedule`]: when the next one is due
//! - [`directory`] and [`memory`]: where parts are

pub mod directory;
pub mod manifest;
pub mod memory;
pub mod part;
pub mod schedule;
pub mod writer;

pub use manifest::{Manifest, PartNotice};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{Read, Write};

/// How many checkpoints are kept: the newest, and one before it in case that the newest cannot be read.
pub const KEPT: usize = 2;

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
}

/// Where parts are. All processes of a cluster see the same.
pub trait Parts: Send + Sync {
    /// Begins a worker's part.
    fn create(&self, id: Id, worker: usize) -> std::io::Result<Box<dyn PartFile>>;
    /// Reads a worker's part.
    fn open(&self, id: Id, worker: usize) -> std::io::Result<Box<dyn Read>>;
    /// All checkpoints of which there is anything.
    fn list(&self) -> std::io::Result<Vec<Id>>;
    /// Removes all parts of a checkpoint.
    fn remove(&self, id: Id) -> std::io::Result<()>;
}

/// A part that is being written.
pub trait PartFile: Write + Send {
    /// Has it on the disk: after this it is there whatever happens.
    fn persist(self: Box<Self>) -> std::io::Result<()>;
}

/// The name of what process 0 leaves for the others, by which they see that they share its directory. No checkpoint has number 0.
fn sign(pipeline: u32, fence: i64) -> Id {
    Id { pipeline, fence, number: 0 }
}

/// Leaves the sign. It goes when the first checkpoint is published.
pub fn leave_sign(parts: &dyn Parts, pipeline: u32, fence: i64) -> std::io::Result<()> {
    parts.create(sign(pipeline, fence), 0)?.persist()
}

/// Whether this process sees the sign: if not, it would not see other processes' parts either.
pub fn sees_sign(parts: &dyn Parts, pipeline: u32, fence: i64) -> bool {
    parts.open(sign(pipeline, fence), 0).is_ok()
}

/// Removes the checkpoints of a pipeline that are older than `before` and not in `kept`. A newer one is perhaps being made, or
/// belongs to a run that has taken over.
pub fn clean(parts: &dyn Parts, kept: &[Manifest], before: Id) {
    let superfluous = |id: &Id| id.pipeline == before.pipeline && *id < before && kept.iter().all(|manifest| manifest.id != *id);
    match parts.list() {
        Ok(ids) => {
            for id in ids.into_iter().filter(superfluous) {
                match parts.remove(id) {
                    Ok(()) => tracing::debug!(checkpoint = %id, "removed a checkpoint that is not needed any more"),
                    Err(error) => {
                        tracing::warn!(checkpoint = %id, %error, "cannot remove a checkpoint that is not needed any more")
                    }
                }
            }
        }
        Err(error) => tracing::warn!(%error, "cannot list the checkpoints"),
    }
}
