//! Streams, viewers and event ids inside the dataflow: 128-bit hashes under the pipeline's own key.
//!
//! The key is drawn once per pipeline and kept in `progress`, so nobody outside can craft two names that collide, and every run
//! and every worker computes the same hashes. SipHash-1-3 with 128 bits of output: Aumasson and Bernstein, "SipHash: a fast
//! short-input PRF".

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use tidemark_model::Kind;

/// A stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey(pub u64, pub u64);

impl StreamKey {
    /// What stands for all streams together. No stream has it but by a chance of one in 2¹²⁸.
    pub const ALL: StreamKey = StreamKey(0, 0);

    /// The range that the stream is in: whose hours and days the range's owner has.
    pub fn range(self) -> usize {
        range_of(self.0)
    }
}

/// A (stream, user), or what stands in for it: its owner is the worker that this hash names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewerKey(pub u64, pub u64);

/// Ranges of hashes: each viewer is in one of them, a worker owns whole ones, and a checkpoint keeps each apart. So a checkpoint
/// of any number of workers can be taken up by any other number, and no hash table grows so large that its rehash stalls a worker.
/// It is also the largest number of workers that have something to own.
pub const RANGES: usize = 256;

/// Cells of equal width, of which ranges are made.
const CELLS: usize = 4_096;

/// The range of each cell. The widest range is almost twice as wide as the narrowest: were they alike, all their tables would be full
/// at the same moment, and be copied to tables twice as large in the same slice. Neighbours differ the most, so that up to some thirty
/// workers own alike.
static RANGE_OF: [u8; CELLS] = {
    // Each width is one of RANGES, RANGES + 1 and so on, and each occurs once.
    let total = RANGES * RANGES + RANGES * (RANGES - 1) / 2;
    let (mut ranges, mut cell, mut until, mut range) = ([0; CELLS], 0, 0, 0);
    while range < RANGES {
        until += RANGES + (range as u8).reverse_bits() as usize;
        while cell * total < until * CELLS {
            ranges[cell] = range as u8;
            cell += 1;
        }
        range += 1;
    }
    ranges
};

fn range_of(hash: u64) -> usize {
    RANGE_OF[(hash >> (u64::BITS - CELLS.ilog2())) as usize].into()
}

impl ViewerKey {
    /// The range that the viewer is in.
    pub fn range(self) -> usize {
        range_of(self.0)
    }

    /// One id for all events of a kind which are this user's, so that only the first counts.
    pub fn in_common(self, kind: Kind) -> EventKey {
        // It must differ from event ids and between kinds.
        EventKey(self.0, self.1 ^ (kind as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A viewer of a range, for tests.
    #[cfg(test)]
    pub fn in_range(range: usize, number: u64) -> ViewerKey {
        let cell = RANGE_OF.iter().position(|&of| usize::from(of) == range).expect("every range has cells");
        // As different as hashes are.
        ViewerKey((cell as u64) << (u64::BITS - CELLS.ilog2()), number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// The worker, of `workers` in all, that owns a range.
pub fn owner(range: usize, workers: usize) -> usize {
    range * workers / RANGES
}

/// A (stream, user or none, event id): with the window, what makes two records copies of one event.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Pod, Zeroable)]
pub struct EventKey(pub u64, pub u64);

/// A pipeline's hash key.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKey(pub [u8; 16]);

/// Computes keys. Each kind of key has its own prefix, and parts of variable length go last or behind a hash, so that no two
/// different inputs are the same bytes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "HashKey", into = "HashKey")]
pub struct Keys {
    key: HashKey,
    seed: SipHasher13,
}

impl From<HashKey> for Keys {
    fn from(key: HashKey) -> Keys {
        Keys::new(key)
    }
}

impl From<Keys> for HashKey {
    fn from(keys: Keys) -> HashKey {
        keys.key
    }
}

impl Keys {
    /// Under this hash key.
    pub fn new(key: HashKey) -> Keys {
        Keys { key, seed: SipHasher13::new_with_key(&key.0) }
    }

    /// The key of a stream's name.
    pub fn stream(&self, stream_id: &str) -> StreamKey {
        let (a, b) = self.hash(b's', (0, 0), stream_id.as_bytes());
        StreamKey(a, b)
    }

    /// The viewer of an event with a valid user id.
    pub fn viewer(&self, stream: StreamKey, user_id: &str) -> ViewerKey {
        let (a, b) = self.hash(b'u', (stream.0, stream.1), user_id.as_bytes());
        ViewerKey(a, b)
    }

    /// What stands in for the viewer of an event without a valid user id, so that copies of it meet at one worker.
    pub fn anonymous(&self, stream: StreamKey, event_id: Option<&str>) -> ViewerKey {
        let (a, b) = self.hash(b'a', (stream.0, stream.1), event_id.unwrap_or_default().as_bytes());
        ViewerKey(a, b)
    }

    /// The identity of an event. `None` for the viewer stands for "no valid user id".
    pub fn event(&self, stream: StreamKey, viewer: Option<ViewerKey>, event_id: &str) -> EventKey {
        let (a, b) = match viewer {
            Some(viewer) => self.hash(b'e', (viewer.0, viewer.1), event_id.as_bytes()),
            None => self.hash(b'n', (stream.0, stream.1), event_id.as_bytes()),
        };
        EventKey(a, b)
    }

    /// What tells this pipeline from others of the same name, without telling its key.
    pub fn tag(&self) -> u32 {
        (self.hash(b't', (0, 0), b"").0 >> 32) as u32
    }

    fn hash(&self, kind: u8, of: (u64, u64), text: &[u8]) -> (u64, u64) {
        let mut hasher = self.seed;
        hasher.write_u64(of.0);
        hasher.write_u64(of.1);
        hasher.write(text);
        hasher.write_u8(kind);
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }
}

/// A hasher for keys that are hashes already: it takes their second word, because owners and ranges are chosen by the first.
#[derive(Clone, Copy, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are made of 64-bit words");
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map whose keys are hashes already.
pub type KeyMap<K, V> = hashbrown::HashMap<K, V, BuildHasherDefault<KeyHasher>>;
/// A set of hashes.
pub type KeySet<K> = hashbrown::HashSet<K, BuildHasherDefault<KeyHasher>>;

/// Gives back room of which most is not needed, after many entries went.
pub fn give_back_room<K: Eq + Hash, V>(map: &mut KeyMap<K, V>) {
    if map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_has_one_owner_and_workers_own_alike() {
        for workers in [1, 2, 3, 5, 64, 255, 256] {
            let mut owned = vec![0; workers];
            (0..RANGES).for_each(|range| owned[owner(range, workers)] += 1);
            let (least, most) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
            assert!(*least > 0 && most - least <= 1, "{workers}: {owned:?}");
        }
        assert_eq!([ViewerKey(0, 9).range(), ViewerKey(u64::MAX, 0).range()], [0, 255]);
        assert!((0..RANGES).all(|range| ViewerKey::in_range(range, 1).range() == range));
    }

    #[test]
    fn workers_own_as_many_viewers_and_tables_do_not_grow_together() {
        let mut cells = vec![0_usize; RANGES];
        RANGE_OF.iter().for_each(|&range| cells[usize::from(range)] += 1);
        for workers in [2, 3, 4, 8, 16] {
            let mut owned = vec![0; workers];
            (0..RANGES).for_each(|range| owned[owner(range, workers)] += cells[range]);
            let (least, most) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
            assert!(most * 100 < least * 106, "{workers}: {owned:?}");
        }
        // While the viewers become twice as many each table is copied once, to one that is twice as large: when it has come to a size.
        let copied = |from: usize, to: usize| cells.iter().filter(|&cells| (cells * from).ilog2() < (cells * to).ilog2()).count();
        for percent in 100..200 {
            assert!(copied(percent * 10, percent * 10 + 30) < RANGES / 6, "{percent}");
        }
    }

    #[test]
    fn different_things_have_different_keys() {
        let keys = Keys::new(HashKey([7; 16]));
        let stream = keys.stream("a");
        let viewer = keys.viewer(stream, "u");
        let all = [
            (stream.0, stream.1),
            (viewer.0, viewer.1),
            (keys.anonymous(stream, Some("u")).0, keys.anonymous(stream, Some("u")).1),
            (keys.event(stream, Some(viewer), "u").0, keys.event(stream, Some(viewer), "u").1),
            (keys.event(stream, None, "u").0, keys.event(stream, None, "u").1),
        ];
        let distinct: std::collections::HashSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(keys.stream("a"), Keys::new(HashKey([7; 16])).stream("a"));
        assert_ne!(keys.stream("a"), Keys::new(HashKey([8; 16])).stream("a"));
    }
}
