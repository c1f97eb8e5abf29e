//! Which event ids were counted, per window. An id is forgotten when its window closes: no admitted event can meet it again.
//!
//! Ids are kept in the order of their arrival, and most of them in chunks that never change again. A checkpoint shares those with
//! the thread that writes them, and so it takes no time however many they are.

use crate::keys::{EventKey, RANGES};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidemark_model::Minute;

/// Ids in a chunk. A checkpoint copies less than that of each window and range.
const CHUNK: usize = 512;

/// Ids that do not change any more.
pub type Chunk = Arc<[EventKey]>;

/// The ids of all open windows, each window's by the range of its viewer.
#[derive(Debug, Default)]
pub struct Duplicates {
    counted: BTreeMap<Minute, Vec<Ids>>,
}

/// The ids of a window and a range. They are numbered as they came.
#[derive(Clone, Debug, Default)]
struct Ids {
    full: Vec<Chunk>,
    /// Those after the full chunks, fewer than one takes.
    newest: Vec<EventKey>,
    numbers: HashTable<u32>,
}

impl Ids {
    /// Adds an id; `false` if it is there.
    fn insert(&mut self, id: EventKey) -> bool {
        let Ids { full, newest, numbers } = self;
        // An id is a hash already.
        match numbers.entry(id.1, |&number| numbered(full, newest, number) == id, |&number| numbered(full, newest, number).1) {
            Entry::Occupied(_) => return false,
            Entry::Vacant(slot) => {
                let number = full.len() * CHUNK + newest.len();
                slot.insert(
                    u32::try_from(number).expect("fewer ids in a range than 32 bits count, or memory were out long before"),
                );
            }
        }
        newest.push(id);
        if newest.len() == CHUNK {
            full.push(Chunk::from(newest.as_slice()));
            newest.clear();
        }
        true
    }
}

/// The id of a number.
fn numbered(full: &[Chunk], newest: &[EventKey], number: u32) -> EventKey {
    let (chunk, place) = (number as usize / CHUNK, number as usize % CHUNK);
    full.get(chunk).map_or(newest, |chunk| chunk)[place]
}

impl Duplicates {
    /// Whether this is the first event of its id in the window.
    pub fn first(&mut self, minute: Minute, range: usize, id: EventKey) -> bool {
        self.of_window(minute)[range].insert(id)
    }

    /// The windows and ranges of which ids are remembered.
    pub fn keys(&self) -> impl Iterator<Item = (Minute, usize)> {
        self.counted.iter().flat_map(|(&minute, ranges)| {
            let filled = (0..).zip(ranges).filter(|(_, ids)| !ids.numbers.is_empty());
            filled.map(move |(range, _)| (minute, range))
        })
    }

    /// The ids of a window and a range: full chunks, and the rest.
    pub fn ids(&self, minute: Minute, range: usize) -> (&[Chunk], &[EventKey]) {
        let Ids { full, newest, .. } = &self.counted[&minute][range];
        (full, newest)
    }

    /// Takes up ids that were saved.
    pub fn restore(&mut self, minute: Minute, range: usize, restored: impl ExactSizeIterator<Item = EventKey>) {
        let ids = &mut self.of_window(minute)[range];
        let Ids { full, newest, numbers } = ids;
        numbers.reserve(restored.len(), |&number| numbered(full, newest, number).1);
        restored.for_each(|id| {
            ids.insert(id);
        });
    }

    fn of_window(&mut self, minute: Minute) -> &mut Vec<Ids> {
        self.counted.entry(minute).or_insert_with(|| vec![Ids::default(); RANGES])
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

    #[test]
    fn many_ids_are_known_in_their_order_and_again_where_they_are_taken_up() {
        let ids: Vec<EventKey> = (0..3 * CHUNK as u64 + 7).map(|number| EventKey(number, (number / 2) << 50)).collect();
        let (mut duplicates, mut other) = (Duplicates::default(), Duplicates::default());
        let mut saved = Vec::new();
        for (at, &id) in ids.iter().enumerate() {
            assert!(duplicates.first(Minute(5), 3, id));
            assert!(!duplicates.first(Minute(5), 3, ids[at / 2]));
            if at == 2 * CHUNK + 1 {
                let (full, newest) = duplicates.ids(Minute(5), 3);
                saved = full.to_vec();
                saved.push(newest.into());
            }
        }
        assert_eq!(saved.concat(), ids[..2 * CHUNK + 2], "what was saved does not change");
        let (full, newest) = duplicates.ids(Minute(5), 3);
        assert_eq!((full.concat(), newest), (ids[..3 * CHUNK].to_vec(), &ids[3 * CHUNK..]));
        assert_eq!(duplicates.keys().collect::<Vec<_>>(), [(Minute(5), 3)]);
        // A section at a time.
        for section in ids.chunks(1_000) {
            other.restore(Minute(5), 3, section.iter().copied());
        }
        assert!(ids.iter().all(|&id| !other.first(Minute(5), 3, id)));
        assert!(other.first(Minute(5), 3, EventKey(0, 1)) && other.first(Minute(5), 4, ids[0]));
    }
}
