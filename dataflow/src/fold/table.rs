//! A table of ids with a few bits of each. A look at one touches one or two lines of the caches, and in a table of a thousand or more
//! an id takes 20 to 25 bytes.
//!
//! The ids stand in the order of their hashes, each at the place that its hash names or as little after it as possible: linear probing,
//! of which each run is in order (Amble and Knuth, "Ordered hash tables"). So a larger table is filled from the first place to the last.
//!
//! A checkpoint shares the places with the thread that writes them. The first change after that is made in a copy.

use super::windows::work;
use crate::keys::EventKey;
use std::cmp::Ordering;
use std::sync::Arc;

/// These bits of an id's first word are the caller's note, which is never zero. 106 bits of the hash are left to tell ids apart.
pub(super) const NOTE: u64 = (1 << 22) - 1;

/// No id.
const EMPTY: EventKey = EventKey(0, 0);

/// Places that hashes can name, at least, in a table that has any.
const FEWEST: usize = 5;

/// The table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The places that a hash can name, and some behind them for what they cannot hold.
    places: Arc<[EventKey]>,
    /// How many places a hash can name.
    named: usize,
    count: usize,
}

impl Default for Table {
    fn default() -> Table {
        Table { places: Arc::new([]), named: 0, count: 0 }
    }
}

impl Table {
    /// How many ids there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// All places; those without an id are zero.
    pub(super) fn places(&self) -> &Arc<[EventKey]> {
        &self.places
    }

    /// The note of an id.
    pub(super) fn note(&self, id: EventKey) -> Option<u64> {
        self.find(id).ok().map(|at| self.note_at(at))
    }

    /// The note at a place.
    pub(super) fn note_at(&self, at: usize) -> u64 {
        self.places[at].0 & NOTE
    }

    /// Sets the note of an id, which is or would be where [`Table::find`] says.
    pub(super) fn set(&mut self, found: Result<usize, usize>, id: EventKey, note: u64) {
        debug_assert!(note & NOTE == note && note > 0);
        let id = EventKey(id.0 & !NOTE | note, id.1);
        match found {
            Ok(at) => Arc::make_mut(&mut self.places)[at] = id,
            Err(at) => {
                // A full table keeps a fifth of its places for quick looks.
                let free = (self.count < self.named / 5 * 4).then(|| self.free(at)).flatten();
                match free {
                    Some(free) => {
                        let places = Arc::make_mut(&mut self.places);
                        places.copy_within(at..free, at + 1);
                        places[at] = id;
                        self.count += 1;
                    }
                    None => {
                        self.grow();
                        self.set(self.find(id), id, note);
                    }
                }
            }
        }
    }

    /// Has a quarter more places.
    fn grow(&mut self) {
        let named = (self.named + self.named.div_ceil(4)).max(FEWEST);
        let places = std::iter::repeat_n(EMPTY, named + named / 32 + FEWEST).collect();
        let smaller = std::mem::replace(self, Table { places, named, count: 0 });
        for id in smaller.places.iter().filter(|id| id.0 & NOTE > 0) {
            self.set(self.find(*id), *id, id.0 & NOTE);
        }
    }

    /// Where an id is, or would be.
    pub(super) fn find(&self, id: EventKey) -> Result<usize, usize> {
        let named = (u128::from(id.1) * self.named as u128) >> u64::BITS;
        let from = named as usize;
        for (at, other) in (from..).zip(&self.places[from..]) {
            work(1);
            if other.0 & NOTE == 0 {
                return Err(at);
            }
            match (other.1, other.0 & !NOTE).cmp(&(id.1, id.0 & !NOTE)) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(at),
                Ordering::Greater => return Err(at),
            }
        }
        Err(self.places.len())
    }

    /// The first place without an id from this one on.
    fn free(&self, from: usize) -> Option<usize> {
        self.places[from..].iter().position(|id| id.0 & NOTE == 0).map(|after| from + after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Few different hashes, so that runs are long and reach the end, and ids that differ in one word only.
    #[test]
    fn a_table_is_a_map_and_what_is_shared_stays() {
        let mut random = super::super::dice();
        for _ in 0..100 {
            let (mut table, mut expected) = (Table::default(), BTreeMap::new());
            let mut shared: Option<(Arc<[EventKey]>, Vec<EventKey>)> = None;
            let hashes = 1 + random(60);
            for _ in 0..random(600) {
                let id = EventKey(random(4) << 22, u64::MAX - random(hashes) * (u64::MAX / 60));
                let note = 1 + random(NOTE);
                assert_eq!(table.note(id), expected.get(&(id.1, id.0)).copied());
                if random(3) > 0 {
                    table.set(table.find(id), id, note);
                    expected.insert((id.1, id.0), note);
                }
                if random(20) == 0 {
                    assert!(shared.is_none_or(|(places, then)| places[..] == then[..]));
                    shared = Some((Arc::clone(table.places()), table.places().to_vec()));
                }
            }
            assert_eq!(table.count(), expected.len());
            let all = table.places().iter().filter(|id| id.0 & NOTE > 0).map(|id| ((id.1, id.0 & !NOTE), id.0 & NOTE));
            assert!(all.eq(expected), "in order, each once");
        }
    }

    #[test]
    fn an_id_takes_less_than_25_bytes_on_average_and_a_look_at_one_a_few_places() {
        let mut random = super::super::dice();
        let mut word = || random(1 << 31) << 33 | random(1 << 31) << 2;
        let (mut table, mut bytes, mut steps) = (Table::default(), 0, 0);
        let ids = 100_000;
        for count in 1..=ids {
            let id = EventKey(word(), word());
            let named = ((u128::from(id.1) * table.named as u128) >> u64::BITS) as usize;
            steps += table.find(id).unwrap_err() - named;
            table.set(table.find(id), id, 1);
            if count >= 1_000 {
                assert!(table.places.len() * size_of::<EventKey>() <= count * 27);
            }
            bytes += table.places.len() * size_of::<EventKey>() / count;
        }
        assert!(table.count() == ids && bytes < ids * 25 && steps < ids * 3, "{bytes} {steps}");
    }
}
