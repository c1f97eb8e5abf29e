//! Totals of a (stream, minute), and this worker's shares of them.

use super::RowKey;
use super::presence::Steps;
use crate::keys::{KeyMap, StreamKey};
use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidemark_model::Minute;

/// A worker's share of a row, the difference of two shares, or the sum of all workers' shares: they add.
///
/// Sums are checked: a minute would need 9 × 10⁷ donations of the largest amount to overflow, and then it stops the pipeline
/// instead of storing a wrong number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Totals {
    /// Counted events of any kind; a row exists iff there are any.
    pub events: i64,
    /// Viewers present at the window's last nanosecond.
    pub viewers: i64,
    /// Chat messages.
    pub chats: i64,
    /// Donated cents.
    pub cents: i64,
}

impl IsZero for Totals {
    fn is_zero(&self) -> bool {
        *self == Totals::default()
    }
}

impl Semigroup for Totals {
    fn plus_equals(&mut self, other: &Totals) {
        self.events += other.events;
        self.viewers += other.viewers;
        self.chats += other.chats;
        self.cents = self.cents.checked_add(other.cents).expect("the donations of a minute fit 64 bits of cents");
    }
}

impl Monoid for Totals {
    fn zero() -> Totals {
        Totals::default()
    }
}

impl Abelian for Totals {
    fn negate(&mut self) {
        *self = Totals { events: -self.events, viewers: -self.viewers, chats: -self.chats, cents: -self.cents };
    }
}

/// This worker's share of every open row, and what of it changed in the present slice.
#[derive(Debug, Default)]
pub struct Shares {
    emitted: BTreeMap<Minute, KeyMap<StreamKey, Totals>>,
    changed: BTreeMap<Minute, KeyMap<StreamKey, Totals>>,
}

impl Shares {
    /// Opens a window; `false` if it was open.
    pub fn open(&mut self, minute: Minute) -> bool {
        let new = !self.emitted.contains_key(&minute);
        self.emitted.entry(minute).or_default();
        new
    }

    /// Whether a window is open.
    pub fn is_open(&self, minute: Minute) -> bool {
        self.emitted.contains_key(&minute)
    }

    /// How many windows are open.
    pub fn open_windows(&self) -> usize {
        self.emitted.len()
    }

    /// Changes a share.
    pub fn add(&mut self, (stream, minute): RowKey, change: Totals) {
        self.changed.entry(minute).or_default().entry(stream).or_default().plus_equals(&change);
    }

    /// Changes the viewers of a stream in all open windows: by the sum of all steps up to each of them.
    pub fn add_steps(&mut self, stream: StreamKey, steps: &Steps) {
        let Some(first) = steps.first() else { return };
        let Shares { emitted, changed } = self;
        for &minute in emitted.range(first..).map(|(minute, _)| minute) {
            let viewers = steps.up_to(minute);
            if viewers != 0 {
                let change = Totals { viewers, ..Totals::default() };
                changed.entry(minute).or_default().entry(stream).or_default().plus_equals(&change);
            }
        }
    }

    /// All shares of each open window. Call it when no change is pending.
    pub fn of_windows(&self) -> &BTreeMap<Minute, KeyMap<StreamKey, Totals>> {
        debug_assert!(self.changed.is_empty());
        &self.emitted
    }

    /// Takes up shares as they were saved, as a change that is to be emitted: they add to those that are there.
    pub fn restore(&mut self, minute: Minute, shares: impl Iterator<Item = (StreamKey, Totals)>) {
        self.open(minute);
        shares.for_each(|(stream, share)| self.add((stream, minute), share));
    }

    /// Hands out what changed since the last call, a difference per key, none of them zero.
    pub fn take_changes(&mut self) -> impl Iterator<Item = (RowKey, Totals)> {
        let changed = std::mem::take(&mut self.changed);
        let nonzero = |change: &Totals| !change.is_zero();
        for (minute, streams) in &changed {
            let emitted = self.emitted.get_mut(minute).expect("only open windows change");
            for (&stream, change) in streams.iter().filter(|(_, change)| nonzero(change)) {
                let share = emitted.entry(stream).or_default();
                share.plus_equals(change);
                if share.is_zero() {
                    emitted.remove(&stream);
                }
            }
        }
        changed.into_iter().flat_map(move |(minute, streams)| {
            let streams = streams.into_iter().filter(move |(_, change)| nonzero(change));
            streams.map(move |(stream, change)| ((stream, minute), change))
        })
    }

    /// Closes all windows before `first_open`: hands out the negation of all that was emitted for them.
    pub fn close(&mut self, first_open: Minute) -> Vec<(RowKey, Totals)> {
        if self.emitted.first_key_value().is_none_or(|(&minute, _)| minute >= first_open) {
            return Vec::new();
        }
        let open = self.emitted.split_off(&first_open);
        let closed = std::mem::replace(&mut self.emitted, open);
        let negated = closed.into_iter().flat_map(|(minute, streams)| {
            streams.into_iter().map(move |(stream, mut share)| {
                share.negate();
                ((stream, minute), share)
            })
        });
        negated.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_emitted_sums_to_nothing_once_a_window_closed() {
        let mut shares = Shares::default();
        let key = (StreamKey(1, 1), Minute(3));
        assert!(shares.open(Minute(3)) && !shares.open(Minute(3)));
        shares.add(key, Totals { events: 2, cents: 5, ..Totals::default() });
        shares.add(key, Totals { viewers: 1, ..Totals::default() });
        shares.add((StreamKey(2, 2), Minute(3)), Totals::default());
        let mut sum: Vec<_> = shares.take_changes().collect();
        assert_eq!(sum, [(key, Totals { events: 2, viewers: 1, chats: 0, cents: 5 })]);
        assert_eq!(shares.take_changes().count(), 0);
        let closed = shares.close(Minute(4));
        assert_eq!(closed.len(), 1);
        sum[0].1.plus_equals(&closed[0].1);
        assert!(sum[0].1.is_zero() && !shares.is_open(Minute(3)));
    }
}
