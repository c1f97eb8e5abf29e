//! What the clocks of a process show.

use serde::{Deserialize, Serialize};
use tidemark_model::Micros;

/// A reading of the monotonic clock of one process: microseconds since an instant that nobody knows. Readings of two processes cannot be
/// compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Monotonic(pub i64);

impl Monotonic {
    /// Microseconds since an earlier reading; negative if that one was later.
    pub fn since(self, earlier: Monotonic) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// By the monotonic clock.
    pub at: Monotonic,
    /// By the wall clock.
    pub wall: Micros,
}

impl Reading {
    /// How far the wall clock is ahead of the monotonic one, in microseconds. It changes when the wall clock is stepped, and by nothing
    /// else but its small corrections.
    pub fn wall_ahead(self) -> i64 {
        self.wall.0.saturating_sub(self.at.0)
    }
}

/// What the store's clock says of worker 0's: a second opinion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecondOpinion {
    /// The store was not heard yet.
    #[default]
    Unheard,
    /// The store has no clock of its own.
    None,
    /// How far the store's wall clock is ahead of worker 0's monotonic clock, in microseconds.
    Ahead(i64),
}
