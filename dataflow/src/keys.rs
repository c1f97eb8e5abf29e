//! Streams, viewers and event ids inside the dataflow: 128-bit hashes under the pipeline's own key.
//!
//! The key is drawn once per pipeline and kept in `progress`, so nobody outside can craft two names that collide, and every run
//! and every worker computes the same hashes. SipHash-1-3 with 128 bits of output: Aumasson and Bernstein, "SipHash: a fast
//! short-input PRF".

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::{BuildHasherDefault, Hasher};

/// A stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey(pub u64, pub u64);

/// A (stream, user), or what stands in for it: its owner is the worker that this hash names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewerKey(pub u64, pub u64);

/// A (stream, user or none, event id): with the window, what makes two records copies of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// A hasher for keys that are hashes already: it takes their second word, because exchange and shards are chosen by the first.
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

#[cfg(test)]
mod tests {
    use super::*;

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
