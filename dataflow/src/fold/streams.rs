//! What this worker knows of each stream: the steps of its present count, and its shares of the open rows.
//!
//! What a slice's events change is summed first, by stream and window, in a table that is small enough for the caches however much
//! is known. Only the sums, when the slice is over, touch what is known of a stream, all of which stands together. Each stream has a
//! place in a list; one of which nothing is left gives it back.

use super::RowKey;
use super::presence::Steps;
use super::totals::Totals;
use crate::keys::{KeyMap, StreamKey};
use differential_dataflow::difference::{Abelian, IsZero, Semigroup};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use tidemark_model::Minute;

/// Places that may be free before the list is made anew.
const FREE: usize = 1_024;

/// Entries of the sums' table that are not given back between slices.
const SUMS: usize = 1 << 16;

/// Of which stream and window a sum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Of(StreamKey, Minute);

impl Hash for Of {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A stream's key is a hash already; windows are spread by the golden ratio, which is odd.
        state.write_u64(self.0.1.wrapping_add(u64::from(self.1.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    }
}

/// What a slice's events change.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    counted: Totals,
    /// Of the present count at the window's end, against the window before it.
    step: i64,
}

/// A worker's share of an open row.
#[derive(Clone, Copy, Debug)]
struct Share {
    minute: Minute,
    /// What was emitted.
    emitted: Totals,
    /// What has changed since.
    changed: Totals,
}

/// One stream. Its lists are in the order of their windows, and have no zeros between slices.
#[derive(Debug)]
struct Known {
    key: StreamKey,
    /// Present viewers at the end of the last closed window.
    base: i64,
    /// Changes of the present count at the end of a window, against the window before it.
    steps: Vec<(Minute, i64)>,
    shares: Vec<Share>,
    /// Whether a share has changed since changes were taken.
    changed: bool,
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
    /// Streams of which a share has changed since changes were taken.
    changed: Vec<u32>,
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
            changed: Vec::new(),
            open: Vec::new(),
            first_open: Minute(0),
        }
    }
}

impl Known {
    fn new(key: StreamKey) -> Known {
        Known { key, base: 0, steps: Vec::new(), shares: Vec::new(), changed: false, free: false }
    }

    fn is_nothing(&self) -> bool {
        self.base == 0 && self.steps.is_empty() && self.shares.is_empty()
    }

    fn share(&mut self, minute: Minute) -> &mut Share {
        // Most events are of the newest window.
        let newest = self.shares.len().wrapping_sub(1);
        let at = match self.shares.get(newest) {
            Some(share) if share.minute == minute => newest,
            _ => self.shares.binary_search_by_key(&minute, |share| share.minute).unwrap_or_else(|at| {
                self.shares.insert(at, Share { minute, emitted: Totals::default(), changed: Totals::default() });
                at
            }),
        };
        &mut self.shares[at]
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
        for (place, stream) in (0..).zip(&mut self.streams) {
            let viewers = stream.present_at_end_of(minute);
            if viewers != 0 {
                change(place, stream, minute, Totals { viewers, ..Totals::default() }, &mut self.changed);
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
    pub fn count(&mut self, (stream, minute): RowKey, counted: Totals, steps: &Steps) {
        let mut step = 0;
        for &(at, change) in steps.each() {
            if at == minute {
                step += change;
            } else {
                self.sums.entry(Of(stream, at)).or_default().step += change;
            }
        }
        let sum = self.sums.entry(Of(stream, minute)).or_default();
        sum.counted.plus_equals(&counted);
        sum.step += step;
    }

    /// Applies the sums to what is known.
    fn settle(&mut self) {
        let mut sums = std::mem::take(&mut self.sums);
        let mut steps = Vec::with_capacity(sums.len());
        for (Of(stream, minute), Sum { counted, step }) in sums.drain() {
            if counted.is_zero() && step == 0 {
                continue;
            }
            let place = self.place(stream);
            if !counted.is_zero() {
                change(place, &mut self.streams[place as usize], minute, counted, &mut self.changed);
            }
            if step != 0 {
                steps.push((place, minute, step));
            }
        }
        sums.shrink_to(SUMS);
        self.sums = sums;
        steps.sort_unstable();
        for steps in steps.chunk_by(|one, other| one.0 == other.0) {
            let (place, first, _) = steps[0];
            let stream = &mut self.streams[place as usize];
            steps.iter().for_each(|&(_, minute, step)| stream.step(minute, step));
            let (mut viewers, mut steps) = (0, steps.iter().peekable());
            for &minute in &self.open[self.open.partition_point(|&open| open < first)..] {
                while let Some((_, _, step)) = steps.next_if(|(_, at, _)| *at <= minute) {
                    viewers += step;
                }
                if viewers != 0 {
                    change(place, stream, minute, Totals { viewers, ..Totals::default() }, &mut self.changed);
                }
            }
        }
    }

    /// Hands out what changed since the last call, a difference per key, none of them zero.
    pub fn take_changes(&mut self) -> Vec<(RowKey, Totals)> {
        self.settle();
        let mut changes = Vec::with_capacity(self.changed.len());
        for place in self.changed.drain(..) {
            let stream = &mut self.streams[place as usize];
            stream.changed = false;
            let key = stream.key;
            stream.shares.retain_mut(|share| {
                let change = std::mem::take(&mut share.changed);
                if !change.is_zero() {
                    share.emitted.plus_equals(&change);
                    changes.push(((key, share.minute), change));
                }
                !share.emitted.is_zero()
            });
        }
        changes
    }

    /// Closes all windows before `first_open`: sums up their steps, and hands out the negation of all that was emitted for them.
    /// Call it when no change is pending.
    pub fn close(&mut self, first_open: Minute) -> Vec<(RowKey, Totals)> {
        debug_assert!(self.sums.is_empty() && self.changed.is_empty());
        let mut closed = Vec::new();
        if first_open <= self.first_open && self.open.first().is_none_or(|&minute| minute >= first_open) {
            return closed;
        }
        self.first_open = self.first_open.max(first_open);
        self.open.retain(|&minute| minute >= first_open);
        for (place, stream) in (0..).zip(&mut self.streams).filter(|(_, stream)| !stream.free) {
            let steps = stream.steps.partition_point(|&(minute, _)| minute < first_open);
            stream.base += stream.steps.drain(..steps).map(|(_, change)| change).sum::<i64>();
            let shares = stream.shares.partition_point(|share| share.minute < first_open);
            closed.extend(stream.shares.drain(..shares).map(|Share { minute, mut emitted, .. }| {
                emitted.negate();
                ((stream.key, minute), emitted)
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
        debug_assert!(self.sums.is_empty() && self.changed.is_empty());
        let streams = self.streams[places].iter();
        streams.flat_map(|stream| stream.shares.iter().map(|share| ((stream.key, share.minute), share.emitted)))
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
        change(place, &mut self.streams[place as usize], minute, share, &mut self.changed);
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

fn change(place: u32, stream: &mut Known, minute: Minute, by: Totals, changed: &mut Vec<u32>) {
    stream.share(minute).changed.plus_equals(&by);
    if !stream.changed {
        stream.changed = true;
        changed.push(place);
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
        counted: BTreeMap<RowKey, i64>,
        steps: Vec<(RowKey, i64)>,
        open: std::collections::BTreeSet<Minute>,
    }

    impl Model {
        fn rows(&self) -> BTreeMap<RowKey, Totals> {
            let keys = self.open.iter().flat_map(|&minute| (0..STREAMS).map(move |s| (StreamKey(s, s), minute)));
            let totals = |key: RowKey| {
                let up_to = self.steps.iter().filter(|((stream, from), _)| *stream == key.0 && *from <= key.1);
                let viewers = up_to.map(|(_, change)| change).sum();
                Totals { events: self.counted.get(&key).copied().unwrap_or(0), viewers, ..Totals::default() }
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
                streams.count(key, Totals { events: 1, ..Totals::default() }, &steps);
                *model.counted.entry(key).or_default() += 1;
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
            streams.count((StreamKey(number, number), Minute(1)), Totals { events: 1, ..Totals::default() }, &Steps::default());
        }
        streams.take_changes();
        streams.open(Minute(2));
        streams.count((StreamKey(7, 7), Minute(2)), Totals { events: 1, ..Totals::default() }, &Steps::default());
        streams.take_changes();
        assert_eq!(streams.close(Minute(2)).len(), 3 * FREE);
        assert_eq!((streams.places(), streams.free.len()), (1, 0));
        streams.count((StreamKey(7, 7), Minute(2)), Totals { events: 1, ..Totals::default() }, &Steps::default());
        assert_eq!(streams.take_changes(), [((StreamKey(7, 7), Minute(2)), Totals { events: 1, ..Totals::default() })]);
    }
}
