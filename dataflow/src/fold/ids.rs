//! A list of ids, each once, of which a checkpoint writes some or all without holding anything up.
//!
//! Ids are kept in the order of their arrival, and most of them in chunks that never change again. A checkpoint shares the chunks with the
//! thread that writes them, so it takes no time however many they are.

use crate::keys::EventKey;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::sync::Arc;

/// Numbers that a chunk takes.
const NUMBERS: usize = 128;

/// Ids in a chunk: one fewer, because it has its reference counts with it, and is to take no more than a power of two of bytes. A
/// checkpoint copies less than twice that of each window and range.
pub(super) const CHUNK: usize = NUMBERS - 1;

/// Ids that do not change any more.
pub type Chunk = Arc<[EventKey]>;

/// A list of ids, each of them once. They are numbered as they came, those of each chunk from the next multiple of [`NUMBERS`].
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    full: Vec<Chunk>,
    /// Those after the full chunks, fewer than one takes.
    newest: Vec<EventKey>,
    numbers: HashTable<u32>,
}

impl Ids {
    pub(super) fn count(&self) -> usize {
        self.full.len() * CHUNK + self.newest.len()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = EventKey> {
        self.full.iter().flat_map(|chunk| chunk.iter()).chain(&self.newest).copied()
    }

    pub(super) fn nth(&self, place: usize) -> EventKey {
        self.full.get(place / CHUNK).map_or(&self.newest[..], |chunk| chunk)[place % CHUNK]
    }

    /// Those after the first `count`: such as must be copied, and full chunks.
    pub(super) fn after(&self, count: usize) -> (&[EventKey], &[Chunk], &[EventKey]) {
        let Ids { full, newest, .. } = self;
        let (chunk, place) = (count / CHUNK, count % CHUNK);
        match full.get(chunk) {
            Some(begun) if place > 0 => (&begun[place..], &full[chunk + 1..], newest),
            Some(_) => (&[], &full[chunk..], newest),
            None => (&[], &[], &newest[place..]),
        }
    }

    /// Makes room for this many more ids.
    pub(super) fn reserve(&mut self, more: usize) {
        let Ids { full, newest, numbers } = self;
        numbers.reserve(more, |&number| numbered(full, newest, number).1);
    }

    /// Adds an id; `false` if it is there already.
    pub(super) fn insert(&mut self, id: EventKey) -> bool {
        let Ids { full, newest, numbers } = self;
        // An id is a hash already.
        match numbers.entry(id.1, |&number| numbered(full, newest, number) == id, |&number| numbered(full, newest, number).1) {
            Entry::Occupied(_) => return false,
            Entry::Vacant(slot) => slot.insert(next_number(full, newest)),
        };
        self.push(id);
        true
    }

    fn push(&mut self, id: EventKey) {
        self.newest.push(id);
        if self.newest.len() == CHUNK {
            self.full.push(Chunk::from(self.newest.as_slice()));
            self.newest.clear();
        }
    }
}

fn next_number(full: &[Chunk], newest: &[EventKey]) -> u32 {
    let number = full.len() * NUMBERS + newest.len();
    u32::try_from(number).expect("fewer ids in a range than 32 bits count, or memory were out long before")
}

/// The id of a number.
fn numbered(full: &[Chunk], newest: &[EventKey], number: u32) -> EventKey {
    let (chunk, place) = (number as usize / NUMBERS, number as usize % NUMBERS);
    full.get(chunk).map_or(newest, |chunk| chunk)[place]
}
