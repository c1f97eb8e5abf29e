//! What a slice brings to one worker, by the range of its viewers.

use super::{Fold, Stint};
use crate::exchange::Events;
use crate::flow::{Admitted, Watermark};
use crate::keys::RANGES;
use std::time::{Duration, Instant};

/// Events that one step folds.
pub(super) const STEP: usize = 1_024;
/// How long memory is kept for the next slices, whether they need it or not.
const KEPT: Duration = Duration::from_secs(30);

/// What a slice brings to one worker.
#[derive(Debug, Default)]
pub struct Input {
    /// Events by the range of their viewer; none, or of all ranges. Within a range they are in the order in which they came, and so
    /// those of one partition are in the order of its log.
    pub events: Vec<Vec<Admitted>>,
    /// Events whose window was not yet open when we tried to fold them early.
    pub(super) later: Vec<Vec<Admitted>>,
    /// The range in hand of folding early, and how many of its events are done.
    early: (usize, usize),
    /// Events that we have not yet tried to fold early.
    pub(super) waiting: usize,
    /// At most one in a slice.
    pub watermarks: Vec<Watermark>,
}

impl Input {
    /// Takes a batch of events as it came.
    pub fn take(&mut self, batch: &mut Events, buffers: &mut Buffers) {
        self.events.resize_with(RANGES, Vec::new);
        self.waiting += batch.0.len();
        for event in batch.0.drain(..) {
            let range = &mut self.events[event.viewer.range()];
            if range.capacity() == 0 {
                *range = buffers.spare.pop().unwrap_or_default();
            }
            range.push(event);
        }
    }

    /// Folds events of windows that are open already, until the stint is over.
    pub(super) fn fold_early(&mut self, state: &mut Fold, stint: &mut Stint) {
        let Input { events, later, early: (at, done), waiting, .. } = self;
        later.resize_with(RANGES, Vec::new);
        while let Some(range) = events.get_mut(*at) {
            if *done == range.len() {
                range.clear();
                (*at, *done) = (*at + 1, 0);
                continue;
            }
            let step = *done..range.len().min(*done + STEP);
            (*done, *waiting) = (step.end, *waiting - step.len());
            state.fold_early(&range[step], &mut later[*at]);
            if stint.is_over() {
                return;
            }
        }
        *at = 0;
    }

    /// What is not folded, range by range.
    pub(super) fn rest(self) -> Vec<Vec<Admitted>> {
        let Input { mut events, later, early: (at, done), .. } = self;
        if let Some(range) = events.get_mut(at) {
            range.drain(..done);
        }
        if later.is_empty() {
            return events;
        }
        later.into_iter().zip(events).flat_map(|(later, events)| [later, events]).collect()
    }
}

/// Memory of ranges' events for the next slices. Taken from the system anew it would cost more than what is done with it, because the
/// system clears it first.
#[derive(Default)]
pub struct Buffers {
    spare: Vec<Vec<Admitted>>,
    /// When all were given back.
    emptied: Option<Instant>,
}

impl Buffers {
    /// Two slices' at most, and none that a flood has made large.
    pub fn keep(&mut self, mut buffer: Vec<Admitted>) {
        buffer.clear();
        if self.spare.len() < 2 * RANGES && (1..=STEP).contains(&buffer.capacity()) {
            self.spare.push(buffer);
        }
    }

    /// Gives all back now and then, because less may be needed now than when they grew.
    pub(super) fn give_back(&mut self, now: Instant) {
        if *self.emptied.get_or_insert(now) + KEPT < now {
            *self = Buffers { spare: Vec::new(), emptied: Some(now) };
        }
    }
}
