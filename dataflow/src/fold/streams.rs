//! What this worker knows of each stream: the steps of its presence, and its shares of the open rows.
//!
//! Each stream has a place in a list; one of which nothing is left gives it back. What a slice's events change is summed first, by
//! place and window, in a table whose size is the slice's and not that of all that is known. Only the sums, in order of the places
//! when the slice is over, touch what is known of a stream, all of which stands together.
//!
//! A slice costs what it changes, and a look at each stream if it opens windows; not what is open. So it does not matter how many
//! windows are open, nor in which order they were opened.

use super::movements::{Step, Steps};
use super::windows::{ByWindow, Value, work};
use crate::flow::past::OF_USERS;
use crate::flow::{Admitted, Past, Run, Totals};
use crate::keys::{KeyMap, StreamKey};
use differential_dataflow::difference::{Abelian, IsZero, Semigroup};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use tidemark_model::{Cents, Grain, Kind, Metric, Minute, Values};

/// Milliseconds in a window.
const WINDOW_MS: i64 = 60_000;

/// Places that may be free before the list is made anew.
const FREE: usize = 1_024;

/// Entries of the sums' table that are not given back between slices.
const SUMS: usize = 1 << 16;

/// A stream's minute.
pub type MinuteKey = (StreamKey, Minute);

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

/// What events add to their window, beside what their steps do. Of events a slice has at most
/// [`MOST_UNFOLDED`](crate::worker::MOST_UNFOLDED) and a batch of each worker, so 32 bits count them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Of any kind.
    pub events: u32,
    /// How many more users count first in this window, of its hour and of its day; below zero if they now count first in an earlier one.
    pub firsts: Firsts,
    /// Chat messages.
    pub chats: u32,
    /// Those that are their user's first one in the window.
    pub chatters: u32,
    /// Donations.
    pub donations: u32,
    /// Their sum.
    pub amount: Cents,
    /// Those that are their user's first one in the window.
    pub donors: u32,
}

// Two tables are quicker than one of both.
const _: () = assert!(size_of::<(Of, Counted)>() <= 56 && size_of::<(Of, Step)>() == 32);

impl Counted {
    /// One event. `is_first`: it is its user's first one of its kind in the window.
    pub fn of(event: &Admitted, is_first: bool, firsts: Firsts) -> Counted {
        let (events, users) = (1, u32::from(is_first));
        match event.kind {
            Kind::ChatMessage => Counted { events, firsts, chats: 1, chatters: users, ..Counted::default() },
            Kind::Donation => Counted { events, firsts, donations: 1, amount: event.amount, donors: users, ..Counted::default() },
            _ => Counted { events, ..Counted::default() },
        }
    }

    fn add(&mut self, other: Counted) {
        self.events += other.events;
        self.firsts.plus_equals(&other.firsts);
        self.chats += other.chats;
        self.chatters += other.chatters;
        self.donations += other.donations;
        let cents = self.amount.0.checked_add(other.amount.0);
        self.amount = Cents(cents.expect("the donations of a slice fit 64 bits of cents"));
        self.donors += other.donors;
    }

    fn totals(&self) -> Totals {
        let counts = [
            (Metric::ChatMessages, self.chats),
            (Metric::UniqueChatters, self.chatters),
            (Metric::Donations, self.donations),
            (Metric::Donors, self.donors),
        ];
        let mut values = Values::of(counts.map(|(metric, count)| (metric, count.into())));
        values[Metric::DonationsUsd] = self.amount.0;
        Totals { events: self.events.into(), values }
    }
}

/// Users whose first chat message or first donation of the hour or the day is in a window: of each by hour and day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Firsts {
    /// Of chat messages.
    pub chatters: [i32; Grain::ALL.len() - 1],
    /// Of donations.
    pub donors: [i32; Grain::ALL.len() - 1],
}

impl IsZero for Firsts {
    fn is_zero(&self) -> bool {
        *self == Firsts::default()
    }
}

impl Semigroup for Firsts {
    fn plus_equals(&mut self, other: &Firsts) {
        let add = |to: &mut [i32], from: [i32; 2]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        add(&mut self.chatters, other.chatters);
        add(&mut self.donors, other.donors);
    }
}

impl Value for Firsts {
    fn weight(&self) -> i64 {
        0
    }
}

/// What presence makes of a window. `before`: viewers who are present at the end of the window before it.
fn presence(before: i64, step: Step) -> Totals {
    let values = Values::of([
        (Metric::ActiveViewers, before + i64::from(step.present)),
        (Metric::UniqueViewers, before + i64::from(step.fresh[Grain::Minute as usize])),
        (Metric::WatchMs, before * WINDOW_MS + step.watched),
    ]);
    Totals { events: 0, values }
}

/// One stream.
#[derive(Debug)]
struct Known {
    key: StreamKey,
    /// Present viewers at the end of the last closed window.
    base: i64,
    /// With the base their present counts sum up to zero: each presence has an end.
    steps: ByWindow<Step>,
    /// This worker's shares of its open rows, as they are handed out.
    shares: ByWindow<Totals>,
    /// Users who count first in open windows, for their hours and days.
    firsts: ByWindow<Firsts>,
    /// Whether its place is free.
    free: bool,
}

/// All streams that this worker has anything of.
#[derive(Debug)]
pub struct Streams {
    places: KeyMap<StreamKey, u32>,
    streams: Vec<Known>,
    free: Vec<u32>,
    /// What the present slice's events change, and what their steps do, which are mostly of other windows.
    sums: KeyMap<Of, Counted>,
    steps: KeyMap<Of, Step>,
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
            steps: KeyMap::default(),
            open: Vec::new(),
            opened: Vec::new(),
            first_open: Minute(0),
        }
    }
}

impl Known {
    fn new(key: StreamKey) -> Known {
        Known { key, base: 0, steps: ByWindow::default(), shares: ByWindow::default(), firsts: ByWindow::default(), free: false }
    }

    fn is_nothing(&self) -> bool {
        self.base == 0 && self.steps.is_empty() && self.shares.is_empty() && self.firsts.is_empty()
    }

    /// Applies a slice's sums, in order of their windows, and hands out what that changes of its shares.
    fn apply(
        &mut self,
        sums: &[(Of, (Counted, Step))],
        open: &[Minute],
        opened: &[Minute],
        emit: &mut impl FnMut(MinuteKey, Totals),
    ) {
        let Known { key, base, steps, shares, firsts, .. } = self;
        let mut present = presences(*base, steps, opened).peekable();
        let (mut viewers, mut left, mut windows) = (0, sums.iter().peekable(), open);
        loop {
            if viewers == 0 {
                // Nothing changes before the next window that has something of its own.
                let next =
                    left.peek().map(|(of, _)| of.minute).into_iter().chain(present.peek().map(|&(minute, _)| minute)).min();
                let Some(next) = next else { break };
                windows = &windows[windows.partition_point(|&open| open < next)..];
            }
            let Some((&minute, later)) = windows.split_first() else { break };
            windows = later;
            work(1);
            while let Some((_, (_, step))) = left.next_if(|(of, _)| of.minute < minute) {
                viewers += i64::from(step.present);
            }
            let here = left.next_if(|(of, _)| of.minute == minute);
            let (sum, step) = here.map(|&(_, here)| here).unwrap_or_default();
            let mut change = sum.totals();
            change.plus_equals(&presence(viewers, step));
            viewers += i64::from(step.present);
            if let Some((_, totals)) = present.next_if(|&(at, _)| at == minute) {
                change.plus_equals(&totals);
            }
            if !change.is_zero() {
                shares.add(minute, &change);
                emit((*key, minute), change);
            }
        }
        drop(present);
        for (of, (sum, step)) in sums {
            if !step.is_zero() {
                steps.add(of.minute, step);
            }
            if !sum.firsts.is_zero() {
                firsts.add(of.minute, &sum.firsts);
            }
        }
    }

    /// Hands out what these runs are, the first of which begins with the first window that is not closed, or after it.
    fn past(&self, runs: &[Run], past: &mut impl FnMut(StreamKey, Run, Past)) {
        let Known { key, base, steps, shares, firsts, .. } = self;
        let mut present = *base;
        let (mut steps, mut shares, mut firsts) = (steps.iter().peekable(), shares.iter().peekable(), firsts.iter().peekable());
        for &run in runs {
            while let Some((_, step)) = steps.next_if(|&(minute, _)| minute < run.first) {
                present += i64::from(step.present);
            }
            let mut of = Past { before: present, most: present, ..Past::default() };
            let mut watched = present * WINDOW_MS * i64::from(run.end.0 - run.first.0);
            while let Some((minute, step)) = steps.next_if(|&(minute, _)| minute < run.end) {
                present += i64::from(step.present);
                watched += step.watched + i64::from(step.present) * WINDOW_MS * i64::from(run.end.0 - minute.0 - 1);
                if minute == run.first {
                    of.most = present;
                }
                for (firsts, fresh) in of.firsts.iter_mut().zip(&step.fresh[1..]) {
                    firsts[0] += i64::from(*fresh);
                }
            }
            if let Some((_, share)) = shares.next_if(|&(minute, _)| minute == run.first) {
                of.totals = share;
            }
            if let Some((_, Firsts { chatters, donors })) = firsts.next_if(|&(minute, _)| minute == run.first) {
                for (grain, firsts) in of.firsts.iter_mut().enumerate() {
                    (firsts[1], firsts[2]) = (chatters[grain].into(), donors[grain].into());
                }
            }
            OF_USERS.into_iter().for_each(|metric| of.totals.values[metric] = 0);
            of.totals.values[Metric::ActiveViewers] = present;
            of.totals.values[Metric::WatchMs] = watched;
            if !of.is_nothing() {
                past(*key, run, of);
            }
        }
    }
}

/// What presence makes of these windows, without zeros. Nobody is there before the first step, but for those who came in closed windows,
/// nor after the window of the last one.
fn presences(base: i64, steps: &ByWindow<Step>, windows: &[Minute]) -> impl Iterator<Item = (Minute, Totals)> {
    let first = if base == 0 { steps.first() } else { None };
    let first = first.map_or(0, |step| windows.partition_point(|&minute| minute < step));
    let until = steps.last().map_or(first, |step| windows.partition_point(|&minute| minute <= step));
    let of = move |&minute: &Minute| {
        let (before, step) = steps.at(minute);
        (minute, presence(base + before, step.unwrap_or_default()))
    };
    windows[first.min(until)..until].iter().map(of).filter(|(_, totals)| !totals.is_zero())
}

impl Streams {
    /// Opens windows, which are in order: each stream's present viewers become this worker's share of them. Those that are open stay as
    /// they are.
    pub fn open(&mut self, minutes: &[Minute]) {
        let opened = self.opened.len();
        self.opened.extend(minutes.iter().filter(|&&minute| self.open.binary_search(&minute).is_err()));
        if self.opened.len() > opened {
            self.open.extend(&self.opened[opened..]);
            // Two lists in order, which it merges.
            self.open.sort();
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

    /// Adds to a window's share, and with the steps to the presence in all open windows from them on. What it adds is handed out with the
    /// next changes; who counts first in an hour or a day, when the window closes.
    pub fn count(&mut self, place: u32, minute: Minute, event: Counted, steps: &Steps) {
        for (at, change) in steps.each() {
            self.steps.entry(Of { place, minute: *at }).or_default().plus_equals(change);
        }
        self.sums.entry(Of { place, minute }).or_default().add(event);
    }

    /// The sums in order, each with its step.
    fn take_sums(&mut self) -> Vec<(Of, (Counted, Step))> {
        let sums = self.sums.drain().map(|(of, sum)| (of, (sum, Step::default())));
        let steps = self.steps.drain().map(|(of, step)| (of, (Counted::default(), step)));
        let mut all: Vec<(Of, (Counted, Step))> = sums.chain(steps).collect();
        self.sums.shrink_to(SUMS);
        self.steps.shrink_to(SUMS);
        all.sort_unstable_by_key(|&(of, _)| of);
        // Of two one is of each table.
        all.dedup_by(|(other, (sum, step)), (of, (first, of_first))| {
            let same = other == of;
            if same {
                first.add(*sum);
                of_first.plus_equals(step);
            }
            same
        });
        all
    }

    /// Applies the sums to what is known, and hands out what changed since the last call: a difference per key, none of them zero.
    pub fn take_changes(&mut self, mut emit: impl FnMut(MinuteKey, Totals)) {
        let mut opened = std::mem::take(&mut self.opened);
        opened.sort_unstable();
        let sums = self.take_sums();
        let mut by_stream = sums.chunk_by(|(one, _), (other, _)| one.place == other.place).peekable();
        if opened.is_empty() {
            for sums in by_stream {
                self.streams[sums[0].0.place as usize].apply(sums, &self.open, &opened, &mut emit);
            }
        } else {
            // A window's opening concerns all streams.
            for (place, stream) in (0..).zip(&mut self.streams) {
                let sums = by_stream.next_if(|sums| sums[0].0.place == place).unwrap_or_default();
                stream.apply(sums, &self.open, &opened, &mut emit);
            }
        }
    }

    /// Closes all windows before `first_open`: hands out the negation of all that was emitted for them, and what they give to hours and
    /// days. Call it when no change is pending.
    pub fn close(
        &mut self,
        first_open: Minute,
        mut emit: impl FnMut(MinuteKey, Totals),
        mut past: Option<impl FnMut(StreamKey, Run, Past)>,
    ) {
        assert!(
            self.sums.is_empty() && self.steps.is_empty() && self.opened.is_empty(),
            "the sums are by places, which may be given back now"
        );
        if first_open <= self.first_open && self.open.first().is_none_or(|&minute| minute >= first_open) {
            return;
        }
        let closed = self.open.partition_point(|&minute| minute < first_open);
        let runs = match past {
            Some(_) => Run::of(self.first_open, first_open, &self.open[..closed]),
            None => Vec::new(),
        };
        self.first_open = self.first_open.max(first_open);
        self.open.drain(..closed);
        for (place, stream) in (0..).zip(&mut self.streams).filter(|(_, stream)| !stream.free) {
            if let Some(past) = &mut past {
                stream.past(&runs, past);
            }
            let Known { key, base, steps, shares, firsts, .. } = &mut *stream;
            steps.take_before(first_open, |_, change| *base += i64::from(change.present));
            firsts.take_before(first_open, |_, _| ());
            shares.take_before(first_open, |minute, mut share| {
                share.negate();
                emit((*key, minute), share);
            });
            if stream.is_nothing() {
                self.places.remove(&stream.key);
                self.free.push(place);
                *stream = Known { free: true, ..Known::new(stream.key) };
            }
        }
        if self.free.len() > FREE.max(self.streams.len() / 4 * 3) {
            self.make_anew();
        }
    }

    /// Gives back the memory of streams of which nothing is left.
    fn make_anew(&mut self) {
        self.streams.retain(|stream| !stream.free);
        self.streams.shrink_to_fit();
        self.free = Vec::new();
        self.places = (0..).zip(&self.streams).map(|(place, stream)| (stream.key, place)).collect();
    }

    /// The place of a stream until windows close; a new one gets one.
    pub fn place(&mut self, key: StreamKey) -> u32 {
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

    /// How many places there are, for the functions that follow. Some are free. Call them when no change is pending.
    pub fn places(&self) -> usize {
        self.streams.len()
    }

    /// Places from this one on: no more than so many, and none after those whose streams have so many shares and steps.
    pub fn some_places(&self, from: usize, most: usize, mut rows: usize) -> Range<usize> {
        let has_room = |stream: &&Known| {
            let left = rows.saturating_sub(stream.shares.count() + stream.steps.count());
            std::mem::replace(&mut rows, left) > 0
        };
        from..from + self.streams[from..].iter().take(most).take_while(has_room).count()
    }

    /// How many shares the streams in some places have.
    pub fn open_rows(&self, places: Range<usize>) -> usize {
        self.streams[places].iter().map(|stream| stream.shares.count()).sum()
    }

    /// The shares of the streams in some places.
    pub fn shares(&self, places: Range<usize>) -> impl Iterator<Item = (MinuteKey, Totals)> {
        debug_assert!(self.sums.is_empty() && self.steps.is_empty() && self.opened.is_empty());
        let streams = self.streams[places].iter();
        streams.flat_map(|stream| stream.shares.iter().map(|(minute, share)| ((stream.key, minute), share)))
    }

    /// Their steps.
    pub fn steps(&self, places: Range<usize>) -> impl Iterator<Item = (MinuteKey, Step)> {
        let streams = self.streams[places].iter();
        streams.flat_map(|stream| stream.steps.iter().map(|(minute, change)| ((stream.key, minute), change)))
    }

    /// Who of them counts first in open windows.
    pub fn firsts(&self, places: Range<usize>) -> impl Iterator<Item = (MinuteKey, Firsts)> {
        let streams = self.streams[places].iter();
        streams.flat_map(|stream| stream.firsts.iter().map(|(minute, firsts)| ((stream.key, minute), firsts)))
    }

    /// The sums of their present counts in closed windows.
    pub fn bases(&self, places: Range<usize>) -> impl Iterator<Item = (StreamKey, i64)> {
        self.streams[places].iter().filter(|stream| stream.base != 0).map(|stream| (stream.key, stream.base))
    }

    /// The state is as of this first open window, with these windows open. Call it first.
    pub fn restore_open(&mut self, first_open: Minute, mut open: Vec<Minute>) {
        open.sort_unstable();
        (self.first_open, self.open) = (first_open, open);
    }

    /// Takes up a share as it was saved: it adds to what is there. Its window is open. Nothing hands it out as a change.
    pub fn restore_share(&mut self, (stream, minute): MinuteKey, share: Totals) {
        let place = self.place(stream);
        self.streams[place as usize].shares.add(minute, &share);
    }

    /// Takes up a step as it was saved, likewise.
    pub fn restore_step(&mut self, (stream, minute): MinuteKey, change: Step) {
        let place = self.place(stream);
        self.streams[place as usize].steps.add(minute, &change);
    }

    /// Takes up who counts first in open windows, likewise.
    pub fn restore_firsts(&mut self, (stream, minute): MinuteKey, change: Firsts) {
        let place = self.place(stream);
        self.streams[place as usize].firsts.add(minute, &change);
    }

    /// Takes up a sum as it was saved, likewise.
    pub fn restore_base(&mut self, stream: StreamKey, count: i64) {
        let place = self.place(stream);
        self.streams[place as usize].base += count;
    }
}

#[cfg(test)]
mod tests;
