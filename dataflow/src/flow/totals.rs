//! Totals of a window, of a stream or of all streams.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize};
use tidemark_model::Values;

/// A worker's share of a row, the difference of two shares, or the sum of all workers' shares: they add.
///
/// Sums are checked: a window would need 9 × 10⁷ donations of the largest amount to overflow, and then it stops the pipeline
/// instead of storing a wrong number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Totals {
    /// Counted events of any kind; a row exists iff there are any.
    pub events: i64,
    /// The metrics.
    pub values: Values,
}

impl IsZero for Totals {
    fn is_zero(&self) -> bool {
        *self == Totals::default()
    }
}

impl Semigroup for Totals {
    fn plus_equals(&mut self, other: &Totals) {
        self.events += other.events;
        for (value, other) in self.values.0.iter_mut().zip(other.values.0) {
            *value = value.checked_add(other).expect("the sums of a window fit 64 bits");
        }
    }
}

impl Monoid for Totals {
    fn zero() -> Totals {
        Totals::default()
    }
}

impl Abelian for Totals {
    fn negate(&mut self) {
        *self = Totals { events: -self.events, values: Values(self.values.0.map(|value| -value)) };
    }
}
