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
    pub(super) hash_key: [u8; 16],
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
            hash_key: stored.hash_key,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::PartitionMark;
    use crate::sink::memory::MemoryStore;
    use crate::sink::{Begin, Decision, Store};

    fn begin(run: &str) -> Begin {
        Begin {
            pipeline: "p".to_owned(),
            topic: "t".to_owned(),
            fingerprint: String::new(),
            start_offsets: BTreeMap::from([(0, 0)]),
            new_offsets: BTreeMap::from([(0, 0)]),
            hash_key: [0; 16],
            run: run.to_owned(),
            again: false,
            grains: &tidemark_model::Grain::ALL,
        }
    }

    fn up_to(next_offset: i64) -> Commit {
        let mark = PartitionMark::at_end(0, next_offset);
        Commit { partitions: BTreeMap::from([(0, mark)]), ..Commit::default() }
    }

    /// A run that has made these commits.
    fn running(store: &MemoryStore, run: &str, offsets: &[i64]) -> MemoryStore {
        let mut own = store.clone();
        own.begin(&begin(run), &mut |_| Ok(Decision::default())).unwrap();
        for &offset in offsets {
            own.commit(&up_to(offset)).unwrap();
        }
        own
    }

    #[test]
    fn a_store_that_went_back_is_noticed_and_nothing_is_written() {
        let store = MemoryStore::default();
        let mut run = running(&store, "a", &[10]);
        let backup = store.tables().clone();
        run.commit(&up_to(20)).unwrap();
        store.restore(backup);
        assert!(matches!(run.heartbeat(None), Err(StoreError::Superseded(_))));
        let said = run.commit(&up_to(30)).unwrap_err().to_string();
        assert!(said.contains("{0: 20}") && said.contains("epoch 1 of fence token 1"), "{said}");
        let (epoch, next_offset) = {
            let tables = store.tables();
            (tables.epoch, tables.partitions[&0].next_offset)
        };
        assert_eq!((epoch, next_offset), (1, 10), "it writes nothing");
        // Another run goes on from what the store holds.
        let mut next = running(&store, "b", &[]);
        assert_eq!(next.commit(&up_to(30)).unwrap().epoch, 2);
    }

    #[test]
    fn a_store_that_went_back_to_before_the_run_is_noticed() {
        let store = MemoryStore::default();
        running(&store, "a", &[10]);
        let backup = store.tables().clone();
        let mut run = running(&store, "b", &[20]);
        store.restore(backup);
        assert!(matches!(run.commit(&up_to(30)), Err(StoreError::Superseded(_))));
    }

    #[test]
    fn offsets_of_another_past_are_noticed_though_the_epoch_is_right() {
        let store = MemoryStore::default();
        let mut run = running(&store, "a", &[10, 20]);
        store.tables().partitions.get_mut(&0).unwrap().next_offset = 10;
        assert!(matches!(run.commit(&up_to(30)), Err(StoreError::Superseded(_))));
    }

    #[test]
    fn two_runs_with_the_same_token_never_write_together() {
        let store = MemoryStore::default();
        let backup = {
            running(&store, "before", &[10]);
            store.tables().clone()
        };
        let mut first = running(&store, "a", &[]);
        store.restore(backup);
        let mut second = running(&store, "b", &[]);
        assert_eq!((first.own().fence, second.own().fence), (2, 2), "the restored database gives the token again");
        assert_eq!(second.commit(&up_to(20)).unwrap().epoch, 2);
        assert!(matches!(first.commit(&up_to(20)), Err(StoreError::Fenced { .. })));
        assert!(matches!(first.heartbeat(None), Err(StoreError::Fenced { .. })));
    }

    #[test]
    fn tokens_that_checkpoints_are_called_by_are_not_given_again() {
        let store = MemoryStore::default();
        let mut run = store.clone();
        let above = |_: &Stored| Ok(Decision { above_fence: 7, ..Decision::default() });
        assert_eq!(run.begin(&begin("a"), &mut { above }).unwrap().fence, 8);
    }

    #[test]
    fn an_attempt_whose_outcome_was_not_heard_is_this_runs_own() {
        let mut own = Own { fence: 1, run: "a".to_owned(), ..Own::default() };
        let held = |epoch| Held { fence: 1, run: Some("a".to_owned()), epoch };
        assert!(matches!(own.compare(&held(1)), Err(StoreError::Superseded(_))), "nothing was tried");
        own.attempt(&up_to(10));
        assert_eq!(own.compare(&held(0)).unwrap(), At::Last);
        assert_eq!(own.compare(&held(1)).unwrap(), At::Attempted);
        assert!(own.compare_offsets(At::Attempted, &Offsets::from([(0, 10)])).is_ok());
        assert!(own.compare_offsets(At::Attempted, &Offsets::from([(0, 9)])).is_err(), "not what was tried");
        assert!(matches!(own.compare(&held(2)), Err(StoreError::Superseded(_))), "one more than was tried");
    }
}
