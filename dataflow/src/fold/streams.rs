//! What this worker knows of each stream: the steps of its present count, and its shares of the open rows.
//!
//! Each stream has a place in a list; one of which nothing is left gives it back. What a slice's events change is summed first, by
//! place and window, in a table whose size is the slice's and not that of all that is known. Only the sums, in order of the places
//! when the slice is over, touch what is known of a stream, all of which stands together.

use super::RowKey;
use super::movements::Steps;
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

/// Of which stream, by its place, and of which window a sum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Of {
    place: u32,
    minute: Minute,
}

impl Hash for Of {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Both halves of the product with the golden ratio, which is odd: each bit of place and window is in some of what is left.
        let both = u64::from(self.place) << 32 | u64::from(self.minute.0);
        let product = u128::from(both) * 0x9e37_79b9_7f4a_7c15;
        state.write_u64(product as u64 ^ (product >> 64) as u64);
    }
}

/// What a slice's events change: half a cache line with what it is of. Of events a slice has at most
/// [`MOST_UNFOLDED`](crate::worker::MOST_UNFOLDED) and a batch of each worker, so 32 bits count them.
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
    /// This worker's shares of its open rows, as they are handed out.
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
    /// The open windows, in order.
    open: Vec<Minute>,
    /// Those that were opened since changes were taken.
    opened: Vec<Minute>,
    first_open: Minute,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams {
            places: KeyMap::default(),
            streams: Vec::new(),
            free: Vec::new(),
            sums: KeyMap::default(),
            open: Vec::new(),
            opened: Vec::new(),
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

    /// Applies a slice's sums, in order of their windows, and hands out what that changes of its shares.
    fn apply(&mut self, sums: &[(Of, Sum)], open: &[Minute], opened: &[Minute], changes: &mut Vec<(RowKey, Totals)>) {
        for (of, sum) in sums.iter().filter(|(_, sum)| sum.step != 0) {
            self.step(of.minute, sum.step);
        }
        let Some(first) = sums.first().map(|(of, _)| of.minute).into_iter().chain(opened.first().copied()).min() else { return };
        let (mut viewers, mut sums, mut any_zero) = (0, sums.iter().peekable(), false);
        for &minute in &open[open.partition_point(|&open| open < first)..] {
            if viewers == 0 && sums.peek().is_none() && opened.last() < Some(&minute) {
                break;
            }
            let mut change = Totals::default();
            while let Some((_, sum)) = sums.next_if(|(of, _)| of.minute <= minute) {
                viewers += sum.step;
                let (events, chats) = (i64::from(sum.events), i64::from(sum.chats));
                change.plus_equals(&Totals { events, viewers: 0, chats, cents: sum.cents });
            }
            change.viewers = if opened.contains(&minute) { self.present_at_end_of(minute) } else { viewers };
            if !change.is_zero() {
                any_zero |= self.share(minute, &change).is_zero();
                changes.push(((self.key, minute), change));
            }
        }
        if any_zero {
            self.shares.retain(|(_, share)| !share.is_zero());
        }
    }

    /// Changes its share of an open row, which it answers.
    fn share(&mut self, minute: Minute, change: &Totals) -> Totals {
        let at = self.shares.binary_search_by_key(&minute, |&(minute, _)| minute).unwrap_or_else(|at| {
            self.shares.insert(at, (minute, Totals::default()));
            at
        });
        self.shares[at].1.plus_equals(change);
        self.shares[at].1
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
    /// Opens a window: each stream's present viewers become this worker's share of it. Does nothing if it is open.
    pub fn open(&mut self, minute: Minute) {
        let at = self.open.partition_point(|&open| open < minute);
        if self.open.get(at) != Some(&minute) {
            self.open.insert(at, minute);
            self.opened.push(minute);
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
                self.sums.entry(Of { place, minute: at }).or_default().step += change;
            }
        }
        let sum = self.sums.entry(Of { place, minute }).or_default();
        sum.events += 1;
        sum.chats += chats;
        sum.cents = sum.cents.checked_add(amount.0).expect("the donations of a slice fit 64 bits of cents");
        sum.step += step;
    }

    /// Applies the sums to what is known, and hands out what changed since the last call: a difference per key, none of them zero.
    pub fn take_changes(&mut self) -> Vec<(RowKey, Totals)> {
        let mut changes = Vec::new();
        let mut opened = std::mem::take(&mut self.opened);
        opened.sort_unstable();
        let mut sums: Vec<(Of, Sum)> = self.sums.drain().collect();
        self.sums.shrink_to(SUMS);
        sums.sort_unstable_by_key(|&(of, _)| of);
        let mut by_stream = sums.chunk_by(|(one, _), (other, _)| one.place == other.place).peekable();
        if opened.is_empty() {
            for sums in by_stream {
                self.streams[sums[0].0.place as usize].apply(sums, &self.open, &opened, &mut changes);
            }
        } else {
            // A window's opening concerns all streams.
            for (place, stream) in (0..).zip(&mut self.streams) {
                let sums = by_stream.next_if(|sums| sums[0].0.place == place).unwrap_or_default();
                stream.apply(sums, &self.open, &opened, &mut changes);
            }
        }
        changes
    }

    /// Closes all windows before `first_open`: sums up their steps, and hands out the negation of all that was emitted for them.
    /// Call it when no change is pending.
    pub fn close(&mut self, first_open: Minute) -> Vec<(RowKey, Totals)> {
        assert!(self.sums.is_empty() && self.opened.is_empty(), "the sums are by places, which may be given back now");
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
        debug_assert!(self.sums.is_empty() && self.opened.is_empty());
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

    /// The state is as of this first open window, with these windows open. Call it first.
    pub fn restore_open(&mut self, first_open: Minute, mut open: Vec<Minute>) {
        open.sort_unstable();
        (self.first_open, self.open) = (first_open, open);
    }

    /// Takes up a share as it was saved: it adds to what is there. Its window is open. Nothing hands it out as a change.
    pub fn restore_share(&mut self, (stream, minute): RowKey, share: Totals) {
        let place = self.place(stream);
        let stream = &mut self.streams[place as usize];
        if stream.share(minute, &share).is_zero() {
            stream.shares.retain(|(_, share)| !share.is_zero());
        }
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
        let mut seen = std::collections::BTreeSet::new();
        for (key, change) in changes {
            assert!(!change.is_zero() && seen.insert(key), "one of a key, and none is zero");
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
            let (mut first_open, mut added) = (0u32, Vec::new());
            for _ in 0..random(40) {
                let minute = Minute(first_open + u32::try_from(random(5)).unwrap());
                streams.open(minute);
                model.open.insert(minute);
                assert!(streams.is_open(minute));
                let stream = random(STREAMS);
                let key = (StreamKey(stream, stream), minute);
                let mut steps = Steps::default();
                let mut interval = |until, sign| {
                    steps.interval(minute, until, sign);
                    model.steps.extend([(key, sign), ((key.0, until), -sign)]);
                };
                match random(4) {
                    0 | 1 => {
                        let until = Minute(minute.0 + 1 + u32::try_from(random(6)).unwrap());
                        interval(until, 1);
                        added.push((key, until));
                    }
                    // What an earlier event added is taken back from this one's window on.
                    2 => {
                        if let Some(at) =
                            added.iter().position(|((of, from), until)| *of == key.0 && *from <= minute && minute < *until)
                        {
                            interval(added.swap_remove(at).1, -1);
                        }
                    }
                    _ => {}
                }
                let (chats, cents) = (u32::try_from(random(2)).unwrap(), i64::try_from(random(3)).unwrap() - 1);
                streams.count(key, chats, Cents(cents), &steps);
                model.counted.entry(key).or_default().plus_equals(&Totals { events: 1, viewers: 0, chats: chats.into(), cents });
                if random(3) == 0 {
                    absorb(&mut rows, streams.take_changes());
                    assert_eq!(rows, model.rows());
                    let saved: Vec<_> = streams.shares(0..streams.places()).collect();
                    assert_eq!(saved.iter().copied().collect::<BTreeMap<_, _>>(), rows);
                    assert!(saved.len() == rows.len() && streams.steps(0..streams.places()).all(|(_, change)| change != 0));
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
    fn what_several_saved_is_taken_up_by_one_as_its_sum() {
        let (one, two) = (StreamKey(1, 1), StreamKey(2, 2));
        let share = |viewers| Totals { viewers, ..Totals::default() };
        let mut streams = Streams::default();
        streams.restore_open(Minute(2), vec![Minute(3), Minute(2)]);
        for (stream, viewers) in [(one, 2), (two, 1), (one, 3), (two, -1)] {
            streams.restore_share((stream, Minute(2)), share(viewers));
            streams.restore_step((stream, Minute(2)), viewers);
        }
        assert_eq!(streams.shares(0..streams.places()).collect::<Vec<_>>(), [((one, Minute(2)), share(5))]);
        streams.open(Minute(4));
        assert_eq!(streams.take_changes(), [((one, Minute(4)), share(5))]);
        assert_eq!(streams.close(Minute(9)), [((one, Minute(2)), share(-5)), ((one, Minute(4)), share(-5))]);
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
