//! How much an activation does before it leaves the rest to the next one.

use super::input::STEP;
use std::time::{Duration, Instant};

/// Events of the open slice that must wait before folding them is worth an activation.
const EARLY: usize = 4 * STEP;

/// How much an activation does before it leaves the rest to the next one, so that the worker can turn to its source and its peers.
#[derive(Clone, Copy, Debug)]
pub enum Stints {
    /// As much as this time allows.
    Time(Duration),
    /// This many steps: batches of events, or pieces of a snapshot.
    Steps(u32),
}

impl Stints {
    /// [`EARLY`]; where activations are counted, any.
    pub(super) fn early(self) -> usize {
        match self {
            Stints::Time(_) => EARLY,
            Stints::Steps(_) => 1,
        }
    }
}

impl Default for Stints {
    fn default() -> Stints {
        Stints::Time(Duration::from_millis(4))
    }
}

/// What is left of an activation.
pub enum Stint {
    /// Until then.
    Until(Instant),
    /// This many steps.
    Steps(u32),
}

impl Stint {
    pub(super) fn new(stints: Stints, started: Instant) -> Stint {
        match stints {
            Stints::Time(time) => Stint::Until(started + time),
            Stints::Steps(steps) => Stint::Steps(steps),
        }
    }

    /// Whether the next step is for the next activation.
    pub(super) fn is_over(&mut self) -> bool {
        match self {
            Stint::Until(deadline) => Instant::now() >= *deadline,
            Stint::Steps(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
        }
    }
}
