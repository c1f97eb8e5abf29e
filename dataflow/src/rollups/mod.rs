//! Hours and days of streams, made of closed minutes. They only grow, and depend only on offsets and watermark.
//!
//! A stream's viewers are on all workers, and the most of them who were there at once do not follow from each worker's most. So a
//! stream's hours and days have one owner, who gets all workers' shares of what has closed ([`Past`]).

pub mod operator;

pub use operator::{Saved, rolled};

use crate::flow::past::OF_USERS;
use crate::flow::{Past, RowKey, Run, Totals};
use crate::keys::{KeyMap, StreamKey};
use differential_dataflow::difference::{Abelian, IsZero, Semigroup};
use tidemark_model::{Grain, Metric, Minute, Window};

/// What a window has that is not over.
#[derive(Clone, Copy, Debug)]
struct Present {
    window: Window,
    totals: Totals,
}

/// The hours and days that are not over of the streams that this worker owns.
pub struct RollUps {
    grains: &'static [Grain],
    streams: KeyMap<StreamKey, [Option<Present>; Grain::ALL.len() - 1]>,
    /// Those that are over, to be taken back.
    ended: Vec<(RowKey, Totals)>,
    first_open: Minute,
    /// Hours, and days, that begin earlier are not known in full, and have no rows.
    whole_from: [Option<Minute>; Grain::ALL.len() - 1],
}

impl RollUps {
    /// Nothing yet, of the windows of these lengths that are longer than a minute: of hours, and of days, that
    /// begin at these minutes at the earliest.
    pub fn new(grains: &'static [Grain], whole_from: [Option<Minute>; Grain::ALL.len() - 1]) -> RollUps {
        RollUps { grains, streams: KeyMap::default(), ended: Vec::new(), first_open: Minute(0), whole_from }
    }

    /// Takes what has closed, in any order, of all workers, and hands out what it changes of rows.
    pub fn take(&mut self, mut closed: Vec<(StreamKey, Run, Past)>, mut emit: impl FnMut(RowKey, Totals)) {
        closed.sort_unstable_by_key(|&(stream, run, _)| (stream, run));
        for of_stream in closed.chunk_by(|one, other| one.0 == other.0) {
            let stream = of_stream[0].0;
            let windows = self.streams.entry(stream).or_default();
            for of_run in of_stream.chunk_by(|one, other| one.1 == other.1) {
                let mut all = Past::default();
                of_run.iter().for_each(|(_, _, of)| all.add(of));
                for (at, &grain) in self.grains[1..].iter().enumerate() {
                    let (run, window) = (of_run[0].1, Window::of(grain, of_run[0].1.first));
                    // Several hours of which no minute was touched are of the day only.
                    if run.end > window.end_minute() || !is_whole(self.whole_from[at], window) {
                        continue;
                    }
                    if let Some(over) = windows[at].take_if(|present| present.window != window) {
                        self.ended.push(((stream, over.window), over.totals));
                    }
                    let Present { totals, .. } = windows[at].get_or_insert(Present { window, totals: Totals::default() });
                    let before = *totals;
                    add(totals, &all, run.first == window.first, &all.firsts[at]);
                    // There is no row before a minute of it has one.
                    let change = if before.events == 0 { *totals } else { difference(*totals, before) };
                    if totals.events > 0 && !change.is_zero() {
                        emit((stream, window), change);
                    }
                }
            }
        }
    }

    /// All rows as they are: at first, what was taken up from a checkpoint.
    pub fn rows(&self) -> impl Iterator<Item = (RowKey, Totals)> {
        self.all().filter(|(_, totals)| totals.events > 0)
    }

    /// All windows that are not over, also those that have no row yet.
    pub fn all(&self) -> impl Iterator<Item = (RowKey, Totals)> {
        let present = |(&stream, windows): (&StreamKey, &[Option<Present>; 2])| {
            windows.map(|present| present.map(|Present { window, totals }| ((stream, window), totals)))
        };
        self.streams.iter().flat_map(present).flatten()
    }

    /// Takes up a window as it was saved, if it has a row.
    pub fn restore(&mut self, (stream, window): RowKey, totals: Totals) {
        let at = self.grains[1..].iter().position(|&grain| grain == window.grain);
        if let Some(at) = at.filter(|&at| is_whole(self.whole_from[at], window)) {
            self.streams.entry(stream).or_default()[at] = Some(Present { window, totals });
        }
    }

    /// The state is as of this first open window.
    pub fn restore_first_open(&mut self, first_open: Minute) {
        self.first_open = first_open;
    }

    /// Takes back the rows of all windows that are over: nothing changes them any more.
    pub fn close(&mut self, first_open: Minute, mut emit: impl FnMut(RowKey, Totals)) {
        if self.grains[1..].iter().any(|grain| grain.window_of(first_open) > grain.window_of(self.first_open)) {
            let RollUps { streams, ended, .. } = self;
            streams.retain(|&stream, windows| {
                for present in windows.iter_mut() {
                    if let Some(over) = present.take_if(|present| present.window.end_minute() <= first_open) {
                        ended.push(((stream, over.window), over.totals));
                    }
                }
                windows.iter().any(Option::is_some)
            });
        }
        self.first_open = self.first_open.max(first_open);
        for (key, mut totals) in self.ended.drain(..).filter(|(_, totals)| totals.events > 0) {
            totals.negate();
            emit(key, totals);
        }
    }
}

fn is_whole(from: Option<Minute>, window: Window) -> bool {
    from.is_some_and(|from| from <= window.first)
}

/// A run closed. `from_the_start`: it begins with the window.
fn add(totals: &mut Totals, past: &Past, from_the_start: bool, firsts: &[i64; OF_USERS.len()]) {
    let peak = totals.values[Metric::PeakViewers].max(past.most);
    totals.values[Metric::ActiveViewers] = 0;
    totals.plus_equals(&past.totals);
    totals.values[Metric::PeakViewers] = peak;
    OF_USERS.into_iter().zip(firsts).for_each(|(metric, first)| totals.values[metric] += first);
    if from_the_start {
        totals.values[Metric::UniqueViewers] += past.before;
    }
}

fn difference(mut now: Totals, mut before: Totals) -> Totals {
    before.negate();
    now.plus_equals(&before);
    now
}

#[cfg(test)]
mod tests;
