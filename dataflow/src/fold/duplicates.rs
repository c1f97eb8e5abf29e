//! Which event ids were counted, per window. An id is forgotten when its window closes: no admitted event can meet it again.

use crate::keys::{EventKey, KeySet, RANGES};
use std::collections::BTreeMap;
use tidemark_model::Minute;

/// The ids of all open windows, each window's by the range of its viewer.
#[derive(Debug, Default)]
pub struct Duplicates {
    counted: BTreeMap<Minute, Vec<KeySet<EventKey>>>,
}

impl Duplicates {
    /// Whether this is the first event of its id in the window.
    pub fn first(&mut self, minute: Minute, range: usize, id: EventKey) -> bool {
        self.of_window(minute)[range].insert(id)
    }

    /// What is remembered: ids by window and range.
    pub fn sets(&self) -> impl Iterator<Item = (Minute, usize, &KeySet<EventKey>)> {
        self.counted.iter().flat_map(|(&minute, sets)| {
            let filled = sets.iter().enumerate().filter(|(_, set)| !set.is_empty());
            filled.map(move |(range, set)| (minute, range, set))
        })
    }

    /// The ids of a window and a range.
    pub fn set(&self, minute: Minute, range: usize) -> &KeySet<EventKey> {
        &self.counted[&minute][range]
    }

    /// Takes up ids that were saved.
    pub fn restore(&mut self, minute: Minute, range: usize, ids: impl ExactSizeIterator<Item = EventKey>) {
        let set = &mut self.of_window(minute)[range];
        set.reserve(ids.len());
        set.extend(ids);
    }

    fn of_window(&mut self, minute: Minute) -> &mut Vec<KeySet<EventKey>> {
        self.counted.entry(minute).or_insert_with(|| vec![KeySet::default(); RANGES])
    }

    /// Forgets all windows before `first_open`.
    pub fn close(&mut self, first_open: Minute) {
        if self.counted.first_key_value().is_some_and(|(&minute, _)| minute < first_open) {
            self.counted = self.counted.split_off(&first_open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_counts_once_a_window_and_is_forgotten_with_it() {
        let mut duplicates = Duplicates::default();
        assert!(duplicates.first(Minute(5), 3, EventKey(1, 2)));
        assert!(!duplicates.first(Minute(5), 3, EventKey(1, 2)));
        assert!(duplicates.first(Minute(6), 3, EventKey(1, 2)));
        duplicates.close(Minute(6));
        assert!(!duplicates.first(Minute(6), 3, EventKey(1, 2)));
        assert_eq!(duplicates.counted.len(), 1);
    }
}
