//! What this worker knows of each stream: the steps of its present count, and its shares of the open rows.
//!
//! Each stream has a place in a list; one of which nothing is left gives it back. What a slice's events change is summed first, by
//! place and window, in a table that is small enough for the caches however much is known. Only the sums, in order of the places
//! when the slice is over, touch what is known of a stream, all of which stands together.

use super::RowKey;
use super::presence::Steps;
use super::totals::Totals;
use crate::keys::{KeyMap, StreamKey};
use differential_dataflow::difference::{Abelian, IsZero, Semigroup};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use tidemark_model::{Cents, Minute};

/// Places that may be free before the list is made anew.
const FREE: usize = 1_024;

/// Entries of the sums' table that are not given back between slices.
const SUMS: usize = 1 << 16;

/// Of which stream's place and window a sum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Of(u32, Minute);

impl Hash for Of {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Both halves of the product with the golden ratio, which is odd: each bit of place and window is in some of what is left.
        let both = u64::from(self.0) << 32 | u64::from(self.1.0);
        let product = u128::from(both) * 0x9e37_79b9_7f4a_7c15;
        state.write_u64(product as u64 ^ (product >> 64) as u64);
    }
}

/// What a slice's events change: half a cache line with what it is of. A slice has fewer events than 32 bits count.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    events: u32,
    chats: u32,
    cents: i64,
    /// Of the present count at the window's end, against the window before it.
    step: i64,
}

const _: () = assert!(size_of::<(Of, Sum)>() == 32);

/// One stream. Its lists are in the order of their windows, and have no zeros.
#[derive(Debug)]
struct Known {
    key: StreamKey,
    /// Present viewers at the end of the last closed window.
    base: i64,
    /// Changes of the present count at the end of a window, against the window before it.
    steps: Vec<(Minute, i64)>,
    /// This worker's shares of its open rows, as they were handed out.
    shares: Vec<(Minute, Totals)>,
    /// Whether its place is free.
    free: bool,
}

/// All streams that this worker has anything of.
#[derive(Debug)]
pub struct Streams {
    places: KeyMap<StreamKey, u32>,
    streams: Vec<Known>,
    free: Vec<u32>,
    /// What the present slice's events change.
    sums: KeyMap<Of, Sum>,
    /// Changes that are to be handed out before those of the sums.
    changes: Vec<(RowKey, Totals)>,
    /// The open windows, in order.
    open: Vec<Minute>,
    first_open: Minute,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams {
            places: KeyMap::default(),
            streams: Vec::new(),
            free: Vec::new(),
            sums: KeyMap::default(),
            changes: Vec::new(),
            open: Vec::new(),
            first_open: Minute(0),
        }
    }
}

impl Known {
    fn new(key: StreamKey) -> Known {
        Known { key, base: 0, steps: Vec::new(), shares: Vec::new(), free: false }
    }

    fn is_nothing(&self) -> bool {
        self.base == 0 && self.steps.is_empty() && self.shares.is_empty()
    }

    /// Its share of an open row changes.
    fn change(&mut self, minute: Minute, by: &Totals) {
        match self.shares.binary_search_by_key(&minute, |&(minute, _)| minute) {
            Ok(at) => {
                self.shares[at].1.plus_equals(by);
                if self.shares[at].1.is_zero() {
                    self.shares.remove(at);
                }
            }
            Err(at) => self.shares.insert(at, (minute, *by)),
        }
    }

    fn step(&mut self, minute: Minute, change: i64) {
        match self.steps.binary_search_by_key(&minute, |&(minute, _)| minute) {
            Ok(at) => {
                self.steps[at].1 += change;
                if self.steps[at].1 == 0 {
                    self.steps.remove(at);
                }
            }
            Err(at) => self.steps.insert(at, (minute, change)),
        }
    }

    fn present_at_end_of(&self, minute: Minute) -> i64 {
        self.base + self.steps.iter().take_while(|(at, _)| *at <= minute).map(|(_, change)| change).sum::<i64>()
    }
}

impl Streams {
    /// Opens a window: each stream's present viewers become this worker's share of it. Does nothing if it is open. Call it before
    /// anything is counted in a slice.
    pub fn open(&mut self, minute: Minute) {
        let at = self.open.partition_point(|&open| open < minute);
        if self.open.get(at) == Some(&minute) {
            return;
        }
        self.open.insert(at, minute);
        debug_assert!(self.sums.is_empty());
        for stream in &mut self.streams {
            let viewers = stream.present_at_end_of(minute);
            if viewers != 0 {
                let share = Totals { viewers, ..Totals::default() };
                stream.change(minute, &share);
                self.changes.push(((stream.key, minute), share));
            }
        }
    }

    /// Whether a window is open.
    pub fn is_open(&self, minute: Minute) -> bool {
        self.open.last() == Some(&minute) || self.open.binary_search(&minute).is_ok()
    }

    /// How many windows are open.
    pub fn open_windows(&self) -> usize {
        self.open.len()
    }

    /// An event was counted: its window's share changes, and with the steps the viewers of all open windows from them on. It is
    /// seen in the changes that are taken next.
    pub fn count(&mut self, (stream, minute): RowKey, chats: u32, amount: Cents, steps: &Steps) {
        let place = self.place(stream);
        let mut step = 0;
        for &(at, change) in steps.each() {
            if at == minute {
                step += change;
            } else {
                self.sums.entry(Of(place, at)).or_default().step += change;
            }
        }
        let sum = self.sums.entry(Of(place, minute)).or_default();
        sum.events += 1;
        sum.chats += chats;
        sum.cents = sum.cents.checked_add(amount.0).expect("the donations of a slice fit 64 bits of cents");
        sum.step += step;
    }

    /// Applies the sums to what is known, and hands out what changed since the last call: differences that are not zero, one of a
    /// key, besides that of its window's opening.
    pub fn take_changes(&mut self) -> Vec<(RowKey, Totals)> {
        let mut changes = std::mem::take(&mut self.changes);
        let mut sums: Vec<(Of, Sum)> = self.sums.drain().collect();
        self.sums.shrink_to(SUMS);
        sums.sort_unstable_by_key(|&(of, _)| of);
        for sums in sums.chunk_by(|one, other| one.0.0 == other.0.0) {
            let Of(place, first) = sums[0].0;
            let stream = &mut self.streams[place as usize];
            for (Of(_, minute), sum) in sums.iter().filter(|(_, sum)| sum.step != 0) {
                stream.step(*minute, sum.step);
            }
            let (mut viewers, mut sums) = (0, sums.iter().peekable());
            for &minute in &self.open[self.open.partition_point(|&open| open < first)..] {
                if viewers == 0 && sums.peek().is_none() {
                    break;
                }
                let mut change = Totals::default();
                while let Some((_, sum)) = sums.next_if(|(of, _)| of.1 <= minute) {
                    viewers += sum.step;
                    let (events, chats) = (i64::from(sum.events), i64::from(sum.chats));
                    change.plus_equals(&Totals { events, viewers: 0, chats, cents: sum.cents });
                }
                change.viewers = viewers;
                if !change.is_zero() {
                    stream.change(minute, &change);
                    changes.push(((stream.key, minute), change));
                }
            }
        }
        changes
    }

    /// Closes all windows before `first_open`: sums up their steps, and hands out the negation of all that was emitted for them.
    /// Call it when no change is pending.
    pub fn close(&mut self, first_open: Minute) -> Vec<(RowKey, Totals)> {
        debug_assert!(self.sums.is_empty() && self.changes.is_empty());
        let mut closed = Vec::new();
        if first_open <= self.first_open && self.open.first().is_none_or(|&minute| minute >= first_open) {
            return closed;
        }
        self.first_open = self.first_open.max(first_open);
        self.open.retain(|&minute| minute >= first_open);
        for (place, stream) in (0..).zip(&mut self.streams).filter(|(_, stream)| !stream.free) {
            let steps = stream.steps.partition_point(|&(minute, _)| minute < first_open);
            stream.base += stream.steps.drain(..steps).map(|(_, change)| change).sum::<i64>();
            let shares = stream.shares.partition_point(|&(minute, _)| minute < first_open);
            closed.extend(stream.shares.drain(..shares).map(|(minute, mut share)| {
                share.negate();
                ((stream.key, minute), share)
            }));
            if stream.is_nothing() {
                self.places.remove(&stream.key);
                self.free.push(place);
                *stream = Known { free: true, ..Known::new(stream.key) };
            }
        }
        if self.free.len() > FREE.max(self.streams.len() / 4 * 3) {
            self.make_anew();
        }
        closed
    }

    /// Gives back the memory of streams of which nothing is left.
    fn make_anew(&mut self) {
        self.streams.retain(|stream| !stream.free);
        self.streams.shrink_to_fit();
        self.free = Vec::new();
        self.places = (0..).zip(&self.streams).map(|(place, stream)| (stream.key, place)).collect();
    }

    /// The place of a stream; a new one gets one.
    fn place(&mut self, key: StreamKey) -> u32 {
        let Streams { places, streams, free, .. } = self;
        *places.entry(key).or_insert_with(|| {
            let place = free.pop().unwrap_or_else(|| {
                streams.push(Known::new(key));
                u32::try_from(streams.len() - 1).expect("fewer streams than 32 bits count, or memory were out long before")
            });
            streams[place as usize] = Known::new(key);
            place
        })
    }

    /// How many places there are, for the three functions that follow. Some are free. Call them when no change is pending.
    pub fn places(&self) -> usize {
        self.streams.len()
    }

    /// The shares of the streams in some places.
    pub fn shares(&self, places: Range<usize>) -> impl Iterator<Item = (RowKey, Totals)> {
        debug_assert!(self.sums.is_empty() && self.changes.is_empty());
        let streams = self.streams[places].iter();
        streams.flat_map(|stream| stream.shares.iter().map(|&(minute, share)| ((stream.key, minute), share)))
    }

    /// Their steps.
    pub fn steps(&self, places: Range<usize>) -> impl Iterator<Item = (RowKey, i64)> {
        let streams = self.streams[places].iter();
        streams.flat_map(|stream| stream.steps.iter().map(|&(minute, change)| ((stream.key, minute), change)))
    }

    /// The sums of their steps in closed windows.
    pub fn bases(&self, places: Range<usize>) -> impl Iterator<Item = (StreamKey, i64)> {
        self.streams[places].iter().filter(|stream| stream.base != 0).map(|stream| (stream.key, stream.base))
    }

    /// Takes up a share as it was saved, as a change that is to be emitted: it adds to what is there. Its window is open.
    pub fn restore_share(&mut self, (stream, minute): RowKey, share: Totals) {
        let place = self.place(stream);
        self.streams[place as usize].change(minute, &share);
        self.changes.push(((stream, minute), share));
    }

    /// Takes up a step as it was saved, likewise.
    pub fn restore_step(&mut self, (stream, minute): RowKey, change: i64) {
        let place = self.place(stream);
        self.streams[place as usize].step(minute, change);
    }

    /// Takes up a sum as it was saved, likewise.
    pub fn restore_base(&mut self, stream: StreamKey, count: i64) {
        let place = self.place(stream);
        self.streams[place as usize].base += count;
    }

    /// The state is as of this first open window.
    pub fn restore_first_open(&mut self, first_open: Minute) {
        self.first_open = first_open;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const STREAMS: u64 = 5;

    /// The definition: totals per window that was opened, and all steps.
    #[derive(Default)]
    struct Model {
        counted: BTreeMap<RowKey, Totals>,
        steps: Vec<(RowKey, i64)>,
        open: std::collections::BTreeSet<Minute>,
    }

    impl Model {
        fn rows(&self) -> BTreeMap<RowKey, Totals> {
            let keys = self.open.iter().flat_map(|&minute| (0..STREAMS).map(move |s| (StreamKey(s, s), minute)));
            let totals = |key: RowKey| {
                let up_to = self.steps.iter().filter(|((stream, from), _)| *stream == key.0 && *from <= key.1);
                let viewers = up_to.map(|(_, change)| change).sum();
                Totals { viewers, ..self.counted.get(&key).copied().unwrap_or_default() }
            };
            keys.map(|key| (key, totals(key))).filter(|(_, totals)| !totals.is_zero()).collect()
        }
    }

    fn absorb(rows: &mut BTreeMap<RowKey, Totals>, changes: Vec<(RowKey, Totals)>) {
        for (key, change) in changes {
            assert!(!change.is_zero());
            let row = rows.entry(key).or_default();
            row.plus_equals(&change);
            if row.is_zero() {
                rows.remove(&key);
            }
        }
    }

    #[test]
    fn what_is_emitted_sums_to_the_definition_and_nothing_is_left() {
        let mut random = super::super::dice();
        for _ in 0..500 {
            let (mut streams, mut model, mut rows) = (Streams::default(), Model::default(), BTreeMap::new());
            let mut first_open = 0u32;
            for _ in 0..random(40) {
                let minute = Minute(first_open + u32::try_from(random(5)).unwrap());
                if !streams.is_open(minute) {
                    absorb(&mut rows, streams.take_changes());
                }
                streams.open(minute);
                model.open.insert(minute);
                assert!(streams.is_open(minute));
                let stream = random(STREAMS);
                let key = (StreamKey(stream, stream), minute);
                let mut steps = Steps::default();
                if random(2) == 0 {
                    let until = Minute(minute.0 + 1 + u32::try_from(random(6)).unwrap());
                    steps.interval(minute, until, 1);
                    model.steps.extend([(key, 1), ((key.0, until), -1)]);
                }
                let (chats, cents) = (u32::try_from(random(2)).unwrap(), i64::try_from(random(3)).unwrap() - 1);
                streams.count(key, chats, Cents(cents), &steps);
                model.counted.entry(key).or_default().plus_equals(&Totals { events: 1, viewers: 0, chats: chats.into(), cents });
                if random(3) == 0 {
                    absorb(&mut rows, streams.take_changes());
                    assert_eq!(rows, model.rows());
                }
                if random(4) == 0 {
                    absorb(&mut rows, streams.take_changes());
                    first_open += u32::try_from(random(4)).unwrap();
                    absorb(&mut rows, streams.close(Minute(first_open)));
                    model.open.retain(|minute| minute.0 >= first_open);
                    assert_eq!(rows, model.rows());
                    assert_eq!(streams.open_windows(), model.open.len());
                }
            }
            absorb(&mut rows, streams.take_changes());
            absorb(&mut rows, streams.close(Minute(first_open + 100)));
            assert!(rows.is_empty() && streams.places.is_empty());
            assert_eq!(streams.free.len(), streams.places());
        }
    }

    #[test]
    fn memory_of_streams_that_are_gone_is_given_back() {
        let mut streams = Streams::default();
        streams.open(Minute(1));
        for number in 0..3 * FREE as u64 {
            streams.count((StreamKey(number, number), Minute(1)), 0, Cents(0), &Steps::default());
        }
        streams.take_changes();
        streams.open(Minute(2));
        streams.count((StreamKey(7, 7), Minute(2)), 0, Cents(0), &Steps::default());
        streams.take_changes();
        assert_eq!(streams.close(Minute(2)).len(), 3 * FREE);
        assert_eq!((streams.places(), streams.free.len()), (1, 0));
        streams.count((StreamKey(7, 7), Minute(2)), 0, Cents(0), &Steps::default());
        assert_eq!(streams.take_changes(), [((StreamKey(7, 7), Minute(2)), Totals { events: 1, ..Totals::default() })]);
    }
}
