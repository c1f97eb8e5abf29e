//! What is counted once a window: event ids, and of each user the first chat message and the first donation, by an id of user and
//! kind. An id is forgotten when its window closes: no admitted event can meet it again.
//!
//! A checkpoint writes the ids that came since an earlier one.
//!
//! A window with many ids has a list and a table for each range; one with few has one of both, because thousands of windows may be open.

use super::ids::{Chunk, Ids};
use crate::checkpoint::Id;
use crate::keys::{EventKey, RANGES};
use std::collections::BTreeMap;
use tidemark_model::Minute;

/// A window with fewer ids than this has few. Lists and tables for each range weigh about as much as so many ids.
const FEW: usize = 8 * RANGES;

/// The ids of all open windows.
#[derive(Debug, Default)]
pub struct Firsts {
    counted: BTreeMap<Minute, Window>,
    /// What the newest snapshot leaves out, because an earlier checkpoint has it.
    base: Mark,
    /// What that snapshot has, together with it.
    newest: Mark,
}

/// How many ids of each window, or of each range of a window with many, a checkpoint has: the first so many.
#[derive(Debug, Default)]
struct Mark {
    /// Its name; `None` for no checkpoint, which has no ids.
    checkpoint: Option<Id>,
    counts: BTreeMap<Minute, Box<[usize]>>,
}

impl Mark {
    /// `list` is 0 in a window with few ids, otherwise the range.
    fn count(&self, minute: Minute, list: usize) -> usize {
        self.counts.get(&minute).map_or(0, |counts| counts[list])
    }
}

/// The ids of one window.
#[derive(Debug)]
enum Window {
    /// Together, and of each the range of its viewer. An id has its viewer in its hash, so it is of one range only.
    Few(Ids, Vec<u8>),
    /// By the range of the viewer.
    Many(Vec<Ids>),
}

impl Window {
    fn lists(&self) -> &[Ids] {
        match self {
            Window::Few(ids, _) => std::slice::from_ref(ids),
            Window::Many(lists) => lists,
        }
    }
}

impl Firsts {
    /// Whether this is the first event of its id in the window.
    pub fn first(&mut self, minute: Minute, range: usize, id: EventKey) -> bool {
        let window = self.counted.entry(minute).or_insert_with(|| Window::Few(Ids::default(), Vec::new()));
        match window {
            Window::Many(lists) => return lists[range].insert(id),
            Window::Few(ids, ranges) => {
                if !ids.insert(id) {
                    return false;
                }
                ranges.push(u8::try_from(range).expect("there are as many ranges as a byte has values"));
                if ranges.len() < FEW {
                    return true;
                }
            }
        }
        self.has_many(minute);
        true
    }

    /// From one list to one for each range. What checkpoints have of a range are its first ids before and after.
    fn has_many(&mut self, minute: Minute) {
        let mut lists = vec![Ids::default(); RANGES];
        let Some(Window::Few(ids, ranges)) = self.counted.get(&minute) else { return };
        for (id, &range) in ids.each().zip(ranges) {
            lists[usize::from(range)].insert(id);
        }
        for mark in [&mut self.base, &mut self.newest] {
            let Some(counts) = mark.counts.get_mut(&minute) else { continue };
            let mut by_range = [0; RANGES];
            ranges[..counts[0]].iter().for_each(|&range| by_range[usize::from(range)] += 1);
            *counts = by_range.into();
        }
        self.counted.insert(minute, Window::Many(lists));
    }

    /// Begins a snapshot for a checkpoint that leaves out what another one has: that of the snapshot before, or the one that was left
    /// out then. The windows and ranges of which it has [`Firsts::news`].
    pub fn begin_snapshot(&mut self, checkpoint: Id, since: Option<Id>) -> Vec<(Minute, usize)> {
        if since == self.newest.checkpoint {
            self.base = std::mem::take(&mut self.newest);
        } else if since.is_none() {
            self.base = Mark::default();
        }
        assert_eq!(self.base.checkpoint, since, "nobody knows any more which ids that checkpoint has");
        self.newest = self.mark(checkpoint);
        let mut news = Vec::new();
        for (&minute, window) in &self.counted {
            match window {
                Window::Few(_, ranges) => {
                    let mut has = [false; RANGES];
                    ranges[self.base.count(minute, 0)..].iter().for_each(|&range| has[usize::from(range)] = true);
                    news.extend((0..RANGES).filter(|&range| has[range]).map(|range| (minute, range)));
                }
                Window::Many(lists) => {
                    let has = |range: &usize| lists[*range].count() > self.base.count(minute, *range);
                    news.extend((0..RANGES).filter(has).map(|range| (minute, range)));
                }
            }
        }
        news
    }

    /// All that is here was taken up from this checkpoint.
    pub fn resumed(&mut self, checkpoint: Id) {
        self.newest = self.mark(checkpoint);
    }

    fn mark(&self, checkpoint: Id) -> Mark {
        let counts = |(&minute, window): (&Minute, &Window)| (minute, window.lists().iter().map(Ids::count).collect());
        Mark { checkpoint: Some(checkpoint), counts: self.counted.iter().map(counts).collect() }
    }

    /// The ids of a window and a range that the newest snapshot has: such as must be copied, and full chunks. No id may have come since
    /// it was begun.
    pub fn news(&self, minute: Minute, range: usize) -> (impl Iterator<Item = EventKey>, &[Chunk]) {
        let (ids, ranges, (begun, shared, newest)) = match &self.counted[&minute] {
            // All that is of the range is copied.
            Window::Few(ids, ranges) => (ids, &ranges[..], (&[][..], &[][..], &[][..])),
            Window::Many(lists) => (&lists[range], &[][..], lists[range].after(self.base.count(minute, range))),
        };
        let first = if ranges.is_empty() { 0 } else { self.base.count(minute, 0) };
        let of_range = memchr::memchr_iter(u8::try_from(range).expect("a range is a byte"), &ranges[first..]);
        let few = of_range.map(move |at| ids.nth(first + at));
        (begun.iter().chain(newest).copied().chain(few), shared)
    }

    /// Takes up ids that were saved.
    pub fn restore(&mut self, minute: Minute, range: usize, restored: impl ExactSizeIterator<Item = EventKey>) {
        if let Some(Window::Many(lists)) = self.counted.get_mut(&minute) {
            lists[range].reserve(restored.len());
        }
        restored.for_each(|id| {
            self.first(minute, range, id);
        });
    }

    /// Forgets all windows before `first_open`.
    pub fn close(&mut self, first_open: Minute) {
        while let Some(window) = self.counted.first_entry().filter(|window| *window.key() < first_open) {
            window.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::CHUNK;
    use super::*;

    fn id(number: u64) -> Id {
        Id { pipeline: 1, fence: 1, number }
    }

    type Counted = (Minute, usize, EventKey);

    #[test]
    fn an_id_counts_once_a_window_and_is_forgotten_with_it() {
        let mut firsts = Firsts::default();
        assert!(firsts.first(Minute(5), 3, EventKey(1, 2)));
        assert!(!firsts.first(Minute(5), 3, EventKey(1, 2)));
        assert!(firsts.first(Minute(6), 3, EventKey(1, 2)));
        firsts.close(Minute(6));
        assert!(!firsts.first(Minute(6), 3, EventKey(1, 2)));
        assert_eq!(firsts.counted.len(), 1);
    }

    #[test]
    fn ids_are_known_and_a_checkpoint_and_those_before_it_have_them_all() {
        let mut random = super::super::dice();
        for _ in 0..20 {
            let mut firsts = Firsts::default();
            // What is counted, and what the checkpoints have that came to their end.
            let mut counted: Vec<Counted> = Vec::new();
            let mut published: Vec<(Option<Id>, Vec<Counted>)> = vec![(None, Vec::new())];
            for checkpoint in (1..12).map(id) {
                for _ in 0..random(5 * CHUNK as u64) {
                    // The first window comes to have many ids, the second always has few.
                    let minute = Minute(u32::from(random(4) == 0));
                    let id = (minute, usize::try_from(random(2)).unwrap(), random(1 << 40));
                    let id = (id.0, id.1, EventKey(id.2, id.2 << 24));
                    assert!(firsts.first(id.0, id.1, id.2));
                    counted.push(id);
                    let before = counted[usize::try_from(random(counted.len() as u64)).unwrap()];
                    assert!(!firsts.first(before.0, before.1, before.2));
                }
                // All of them anew, now and then.
                let since = if random(6) == 0 { 0 } else { published.len() - 1 };
                let (since, mut has) = published[since].clone();
                for (minute, range) in firsts.begin_snapshot(checkpoint, since) {
                    let (others, shared) = firsts.news(minute, range);
                    let news: Vec<EventKey> = others.chain(shared.iter().flat_map(|chunk| chunk.iter().copied())).collect();
                    assert!(!news.is_empty());
                    has.extend(news.into_iter().map(|id| (minute, range, id)));
                }
                let sorted = |ids: &[Counted]| {
                    let mut ids = ids.to_vec();
                    ids.sort_unstable();
                    ids
                };
                assert_eq!(sorted(&has), sorted(&counted), "each once");
                // Some are given up.
                if random(3) > 0 {
                    published.push((Some(checkpoint), has));
                } else if since.is_none() {
                    published.truncate(1);
                }
                if random(6) == 0 {
                    let mut other = Firsts::default();
                    for ids in counted.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
                        other.restore(ids[0].0, ids[0].1, ids.iter().map(|id| id.2));
                    }
                    other.resumed(id(0));
                    assert!(counted.iter().all(|&(minute, range, id)| !other.first(minute, range, id)));
                    (firsts, published) = (other, vec![(None, Vec::new()), (Some(id(0)), counted.clone())]);
                }
            }
        }
    }
}
