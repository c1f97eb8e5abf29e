//! When the next checkpoint is due. Pure: the caller brings the clock.

use super::{Id, Manifest};
use crate::reading::{Monotonic, Reading};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tidemark_model::Micros;

/// Writing takes at most one part in this many of the time: the interval stretches by itself.
const SHARE: i64 = 10;

/// What worker 0's loop knows of checkpoints that were asked for; the sink and the commit thread say it.
#[derive(Debug, Default)]
pub struct Settled {
    /// The newest checkpoint that was published or given up.
    number: AtomicU64,
    /// The newest commit.
    epoch: AtomicI64,
    /// The checkpoint whose ids the next one need not write.
    base: Mutex<Option<Id>>,
    /// No checkpoint needs more increments.
    most_increments: usize,
}

impl Settled {
    /// As of the start of a run that goes on from a checkpoint.
    pub fn resumed(checkpoint: Option<&Manifest>, most_increments: usize) -> Settled {
        let settled = Settled { most_increments, ..Settled::default() };
        let base = checkpoint.and_then(|checkpoint| settled.as_base(checkpoint));
        *settled.base() = base;
        settled
    }

    /// A checkpoint was published.
    pub fn publish(&self, checkpoint: &Manifest) {
        *self.base() = self.as_base(checkpoint);
        self.settle(checkpoint.id.number);
    }

    /// The next checkpoint is not to need anything that is there.
    pub fn write_all_ids(&self) {
        *self.base() = None;
    }

    /// A checkpoint was published or given up.
    pub fn settle(&self, number: u64) {
        self.number.fetch_max(number, Ordering::AcqRel);
    }

    /// The checkpoint since which the next one writes ids; `None`: it writes all.
    pub fn ids_since(&self) -> Option<Id> {
        *self.base()
    }

    fn as_base(&self, checkpoint: &Manifest) -> Option<Id> {
        (checkpoint.increments.len() < self.most_increments).then_some(checkpoint.id)
    }

    fn base(&self) -> std::sync::MutexGuard<'_, Option<Id>> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit was made.
    pub fn committed(&self, epoch: i64) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
    }
}

/// Decides when to ask.
#[derive(Debug)]
pub struct Schedule {
    /// Microseconds from one to the next, if they are quick.
    every: i64,
    /// How many were asked for.
    number: u64,
    asked_at: Monotonic,
    pending: bool,
    next: Monotonic,
    /// The newest commit when the last one was settled: without another there is nothing new to save.
    epoch: i64,
}

impl Schedule {
    /// The first is due one interval after the last one of an earlier run, if there was one, so that runs that die early still save
    /// what they have done. `last` is by the wall clock, which may have been stepped since: at most one interval is waited.
    pub fn new(every: i64, now: Reading, last: Option<Micros>) -> Schedule {
        let ago = last.map_or(0, |last| now.wall.0.saturating_sub(last.0).clamp(0, every));
        let next = Monotonic(now.at.0.saturating_add(every - ago));
        Schedule { every, number: 0, asked_at: now.at, pending: false, next, epoch: 0 }
    }

    /// Whether a checkpoint is to be asked for now; the caller then asks.
    pub fn due(&mut self, now: Monotonic, settled: &Settled) -> bool {
        let epoch = settled.epoch.load(Ordering::Acquire);
        if self.pending {
            if settled.number.load(Ordering::Acquire) < self.number {
                return false;
            }
            self.pending = false;
            self.epoch = epoch;
            let took = now.since(self.asked_at).max(0);
            self.next = Monotonic(self.asked_at.0.saturating_add(self.every.max(took.saturating_mul(SHARE))));
        }
        if now < self.next || epoch <= self.epoch {
            return false;
        }
        self.number += 1;
        self.asked_at = now;
        self.pending = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wall clock is at 1,000 when the other one is at 0.
    fn at(now: i64) -> Reading {
        Reading { at: Monotonic(now), wall: Micros(1_000 + now) }
    }

    #[test]
    fn a_slow_one_stretches_the_interval_and_nothing_new_needs_none() {
        let settled = Settled::default();
        let mut schedule = Schedule::new(100, at(0), None);
        assert!(!schedule.due(Monotonic(100), &settled), "nothing was committed");
        settled.committed(1);
        assert!(!schedule.due(Monotonic(99), &settled));
        assert!(schedule.due(Monotonic(100), &settled));
        settled.committed(2);
        assert!(!schedule.due(Monotonic(300), &settled), "the first is not settled");
        settled.settle(1);
        assert!(!schedule.due(Monotonic(150), &settled), "it took 50, so the next is due 500 after it was asked for");
        settled.committed(3);
        assert!(!schedule.due(Monotonic(599), &settled));
        assert!(schedule.due(Monotonic(600), &settled));
    }
    #[test]
    fn a_run_that_takes_over_need_not_wait_for_the_first() {
        let settled = Settled::default();
        let mut schedule = Schedule::new(100, at(500), Some(Micros(1_420)));
        assert!(!schedule.due(Monotonic(520), &settled), "nothing was committed yet");
        settled.committed(7);
        assert!(!schedule.due(Monotonic(519), &settled));
        assert!(schedule.due(Monotonic(520), &settled));
        let mut schedule = Schedule::new(100, at(500), Some(Micros(9_000)));
        assert!(schedule.due(Monotonic(600), &settled), "the clock was set back");
    }
}
