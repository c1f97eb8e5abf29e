//! What a run remembers of its own commits, and whether the store still holds it.
//!
//! A store can go back under a run that lives: a backup is restored, a replica that lacks the last commits is promoted, a server that
//! had not flushed them crashes. Under the lock of the progress row each store compares what it finds with this.

use super::{Commit, StoreError, Stored};
use std::collections::BTreeMap;
use std::fmt;

/// Next offsets by partition.
pub(super) type Offsets = BTreeMap<i32, i64>;

/// What the store must hold, because this run has written it.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    pub(super) pipeline: String,
    pub(super) topic: String,
    pub(super) fence: i64,
    /// The run's random name.
    pub(super) run: String,
    /// The last commit whose outcome is known.
    pub(super) epoch: i64,
    /// Next offsets as of that commit.
    pub(super) offsets: Offsets,
    /// Next offsets as of the commit after it, once that was tried: it may have been applied although nobody heard of it.
    attempted: Option<Offsets>,
}

/// What the progress row holds.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) fence: i64,
    pub(super) run: Option<String>,
    pub(super) epoch: i64,
}

/// Where the store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// At this run's last commit.
    Last,
    /// At the one that was tried after it.
    Attempted,
}

impl Own {
    /// As of the start of a run.
    pub(super) fn new(begin: &super::Begin, stored: &Stored) -> Own {
        Own {
            pipeline: begin.pipeline.clone(),
            topic: begin.topic.clone(),
            fence: stored.fence,
            run: begin.run.clone(),
            epoch: stored.epoch,
            offsets: stored.partitions.iter().map(|(&partition, &(_, next))| (partition, next)).collect(),
            attempted: None,
        }
    }

    /// Where the progress row stands; refuses if it is not what this run wrote, or not this run's any more. The offsets are still to
    /// be compared with [`Own::expected`].
    pub(super) fn compare(&self, held: &Held) -> Result<At, StoreError> {
        let same_run = held.run.as_deref() == Some(&*self.run);
        if held.fence > self.fence || (held.fence == self.fence && !same_run) {
            return Err(StoreError::Fenced { pipeline: self.pipeline.clone(), theirs: held.fence, ours: self.fence });
        }
        if held.fence == self.fence && held.epoch == self.epoch {
            return Ok(At::Last);
        }
        if held.fence == self.fence && held.epoch == self.epoch + 1 && self.attempted.is_some() {
            return Ok(At::Attempted);
        }
        Err(self.superseded(&held))
    }

    /// The offsets that must be there.
    pub(super) fn expected(&self, at: At) -> &Offsets {
        match at {
            At::Last => &self.offsets,
            At::Attempted => self.attempted.as_ref().unwrap_or(&self.offsets),
        }
    }

    /// Refuses other offsets than those that must be there.
    pub(super) fn compare_offsets(&self, at: At, found: &Offsets) -> Result<(), StoreError> {
        if self.expected(at) == found { Ok(()) } else { Err(self.superseded(&format_args!("the offsets {found:?}"))) }
    }

    /// What the store's offsets are after a commit.
    pub(super) fn after(&self, commit: &Commit) -> Offsets {
        let mut offsets = self.offsets.clone();
        offsets.extend(commit.partitions.values().map(|mark| (mark.partition, mark.next_offset)));
        offsets
    }

    /// The commit is about to be tried.
    pub(super) fn attempt(&mut self, commit: &Commit) {
        self.attempted = Some(self.after(commit));
    }

    /// The commit that was tried is in the store.
    pub(super) fn applied(&mut self) {
        self.epoch += 1;
        self.offsets = self.attempted.take().unwrap_or_default();
    }

    /// The refusal of a store that holds something else.
    pub(super) fn superseded(&self, found: &dyn fmt::Display) -> StoreError {
        let Own { pipeline, fence, epoch, offsets, .. } = self;
        StoreError::Superseded(format!(
            "the store does not hold what this run of pipeline {pipeline} wrote last (epoch {epoch}, fence token {fence}, offsets \
             {offsets:?}), but {found}: it was restored, or failed over, or lost commits; this run writes nothing more"
        ))
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Held { fence, run, epoch } = self;
        write!(f, "epoch {epoch} of fence token {fence} (run {})", run.as_deref().unwrap_or("unknown"))
    }
}
