//! Which event ids were counted, per window. An id is forgotten when its window closes: no admitted event can meet it again.

use crate::keys::{EventKey, KeySet};
use std::collections::BTreeMap;
use tidemark_model::Minute;

/// Sets per window, so that none grows so large that its rehash stalls the worker.
const SHARDS: usize = 16;

/// The ids of all open windows.
#[derive(Debug, Default)]
pub struct Duplicates {
    counted: BTreeMap<Minute, [KeySet<EventKey>; SHARDS]>,
}

impl Duplicates {
    /// Whether this is the first event of its id in the window.
    pub fn first(&mut self, minute: Minute, id: EventKey) -> bool {
        self.counted.entry(minute).or_default()[id.0 as usize % SHARDS].insert(id)
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
        assert!(duplicates.first(Minute(5), EventKey(1, 2)));
        assert!(!duplicates.first(Minute(5), EventKey(1, 2)));
        assert!(duplicates.first(Minute(6), EventKey(1, 2)));
        duplicates.close(Minute(6));
        assert!(!duplicates.first(Minute(6), EventKey(1, 2)));
        assert_eq!(duplicates.counted.len(), 1);
    }
}
