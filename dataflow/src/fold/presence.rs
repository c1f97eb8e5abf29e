//! Who is present: per viewer the joins and leaves that still matter, and what each changes of its stream's presence.
//!
//! A viewer is present at instant t iff the latest join or leave at or before t is a join (equal times: leave wins) and
//! t − its time < the timeout. So a viewer's presence is a few intervals, each from a join to the next movement or to the join's expiry,
//! and an interval is a step up at the window of its beginning and a step down at that of its end ([`Step`](super::movements::Step)). How
//! many of a stream are present at the end of a window is the sum of all steps up to it; how many at any instant of the window, and how
//! long in all, follows from that sum before the window and the step at it. So order of arrival does not matter, a late movement changes
//! all later windows, and a timeout needs neither a timer nor a scan of viewers: it is a step that is already there when its window comes.
//!
//! Of a viewer's movements those in open windows are kept, and the last one before them; a viewer whose last movement is a leave, or a join that has timed
//! out, is dropped: of a range's viewers those who left once they are one in so many, and all others in turn. That such a viewer was there
//! in the present hour and day is kept, because nobody counts twice in them.
//!
//! A snapshot of all viewers may take its time, range by range, while more happens: of those who move before their range is saved it is
//! remembered how they had moved when the snapshot was begun, and nobody is dropped. How much may happen meanwhile is the caller's to
//! bound.

use super::movements::{History, Moved, Movement, Rules, Steps, place};
use super::users::Users;
use crate::keys::{KeyMap, RANGES, ViewerKey, give_back_room};
use hashbrown::hash_map::Entry;
use slab::Slab;
use std::collections::BTreeMap;
use tidemark_model::{Grain, Kind, Minute, Nanos};

/// Closed windows in which all ranges are swept once.
const SWEEP: usize = 64;
/// A range is swept when its leaves in closed windows are one for so many of its viewers, or for up to twice as many: ranges differ, so that
/// they are not all swept when the same window closes. So a sweep looks at no more than twice as many for a leave, and those who left are
/// no more than that part of the viewers.
const LEAVERS: usize = 8;

/// What the table has of a viewer: one or two movements that matter, in their order, or where in [`Range::several`] they are, in a word
/// that no movement has.
#[derive(Clone, Copy, Debug)]
struct Slot(Moved, Moved);

/// No second movement: the least word.
const NONE: Moved = Moved(0);

/// The least word of a place. Event times end a hundred days before the words do.
const SEVERAL: u64 = u64::MAX - u32::MAX as u64;

const _: () = assert!(Nanos::END.0.cast_unsigned() << 1 <= SEVERAL);

impl Slot {
    fn of(history: History, several: &mut Slab<History>) -> Slot {
        if let Some((first, second)) = history.one_or_two() {
            return Slot(first, second.unwrap_or(NONE));
        }
        let place = u32::try_from(several.insert(history)).expect("fewer viewers in a range than 32 bits count");
        Slot(Moved(SEVERAL + u64::from(place)), NONE)
    }

    /// The place, if there are more than two.
    fn place(self) -> Option<usize> {
        self.0.0.checked_sub(SEVERAL).map(|place| place as usize)
    }

    fn second(self) -> Option<Moved> {
        Some(self.1).filter(|second| *second != NONE)
    }

    /// One or two movements, if there is no place.
    fn one_or_two(self) -> History {
        History::of(self.0, self.second())
    }

    /// The movements.
    fn history(self, several: &Slab<History>) -> impl Iterator<Item = Moved> {
        let (few, several) = match self.place() {
            None => ([Some(self.0), self.second()], None),
            Some(place) => ([None; 2], Some(&several[place])),
        };
        few.into_iter().flatten().chain(several.into_iter().flat_map(History::each))
    }
}

/// Viewers of one range. Most have one or two movements that matter; they stand in the table itself.
#[derive(Debug, Default)]
struct Range {
    viewers: KeyMap<ViewerKey, Slot>,
    /// The movements of the others.
    several: Slab<History>,
    /// Leaves of each window, until it is closed.
    leaves: BTreeMap<Minute, usize>,
    /// Leaves of windows that were closed since the range was swept. So many viewers at most can be dropped for having left.
    left: usize,
    /// While the range waits to be saved: of those who have moved since the snapshot was begun, their movements until then.
    before: Option<KeyMap<ViewerKey, Vec<Moved>>>,
}

/// All viewers that this worker owns.
#[derive(Debug)]
pub struct Presence {
    rules: Rules,
    ranges: Vec<Range>,
    /// Who was there in an hour or a day that is not over, by movements that are forgotten.
    gone: Users,
    first_open: Minute,
    /// Ranges that are still to be looked at since a window closed, whether many have left, and the first of them.
    to_look_at: usize,
    next_look: usize,
    /// Ranges that are still to be swept, and the first of them.
    to_sweep: usize,
    next_sweep: usize,
    /// Ranges that wait to be saved.
    unsaved: usize,
    /// Viewers whose movements until the snapshot was begun are remembered.
    remembered: usize,
    /// Movements since then.
    meanwhile: usize,
}

impl Presence {
    /// Nobody is there yet. `timeout` is in nanoseconds; users are counted by minutes and these.
    pub fn new(timeout: i64, grains: &'static [Grain]) -> Presence {
        Presence {
            rules: Rules { timeout, grains },
            ranges: std::iter::repeat_with(Range::default).take(RANGES).collect(),
            gone: Users::new(grains),
            first_open: Minute(0),
            to_look_at: 0,
            next_look: 0,
            to_sweep: 0,
            next_sweep: 0,
            unsaved: 0,
            remembered: 0,
            meanwhile: 0,
        }
    }

    /// A movement in an open window: adds to `steps` how the presence in the viewer's stream changes.
    pub fn insert(&mut self, viewer: ViewerKey, ts: Nanos, movement: Movement, steps: &mut Steps) {
        // With a timeout of zero nobody is ever present, so a join counts as a leave.
        let movement = if self.rules.timeout > 0 { movement } else { Movement::Leave };
        let moved = Moved::new(ts, movement);
        self.meanwhile += 1;
        let number = viewer.range();
        let Presence { ranges, gone, rules, remembered, .. } = self;
        let range = &mut ranges[number];
        *remembered += usize::from(range.remember(viewer));
        let counted = |grain, window| gone.has(grain, window, number, viewer.in_common(Kind::ViewerJoin));
        range.insert(viewer, moved, *rules, counted, steps);
    }

    /// The steps of one movement.
    #[cfg(test)]
    pub fn steps_of(&mut self, viewer: ViewerKey, ts: Nanos, movement: Movement) -> Steps {
        let mut steps = Steps::default();
        self.insert(viewer, ts, movement, &mut steps);
        steps
    }

    /// Windows before `first_open` are closed. Who no longer matters is dropped by [`Presence::tidy`].
    pub fn close(&mut self, first_open: Minute) {
        if first_open <= self.first_open {
            return;
        }
        let windows = (first_open.0 - self.first_open.0) as usize;
        self.first_open = first_open;
        self.gone.close(first_open);
        self.to_look_at = RANGES;
        self.to_sweep = (self.to_sweep + windows.min(SWEEP) * (RANGES / SWEEP)).min(RANGES);
    }

    /// Drops some of those who no longer matter since windows closed; `false` if there was nothing left to look at. It changes no
    /// answer, only memory, so that it can be done in small steps.
    ///
    /// First come ranges that many have left. Of the others, for joins that have timed out, some are swept per closed window. While a
    /// snapshot is being saved there is nothing to do.
    pub fn tidy(&mut self) -> bool {
        let Presence { ranges, gone, first_open, rules, to_look_at, next_look, to_sweep, next_sweep, unsaved, .. } = self;
        if *unsaved > 0 {
            return false;
        }
        while *to_look_at > 0 {
            let number = *next_look;
            let range = &mut ranges[number];
            *next_look = (number + 1) % RANGES;
            *to_look_at -= 1;
            if range.many_left(*first_open, LEAVERS + number % LEAVERS) {
                range.sweep(number, *first_open, *rules, gone);
                return true;
            }
        }
        if *to_sweep == 0 {
            return false;
        }
        ranges[*next_sweep].sweep(*next_sweep, *first_open, *rules, gone);
        *next_sweep = (*next_sweep + 1) % RANGES;
        *to_sweep -= 1;
        true
    }

    /// Viewers that are remembered, present or not.
    pub fn viewers(&self) -> usize {
        self.ranges.iter().map(|range| range.viewers.len()).sum()
    }

    /// Begins a snapshot of all viewers as they are now, and tells the ranges that have any. One that was begun before is given up.
    pub fn begin_snapshot(&mut self) -> Vec<usize> {
        self.ranges.iter_mut().for_each(|range| range.before = (!range.viewers.is_empty()).then(KeyMap::default));
        let unsaved: Vec<usize> = (0..RANGES).filter(|&range| self.ranges[range].before.is_some()).collect();
        self.unsaved = unsaved.len();
        (self.remembered, self.meanwhile) = (0, 0);
        unsaved
    }

    /// Viewers of ranges that are not saved who have moved since the snapshot was begun.
    pub fn remembered(&self) -> usize {
        self.remembered
    }

    /// Movements since the snapshot was begun.
    pub fn meanwhile(&self) -> usize {
        self.meanwhile
    }

    /// The movements of a range's viewers, as of the beginning of a snapshot if the range is not saved: those of one viewer follow each
    /// other, in their order.
    pub fn movements(&self, range: usize) -> impl Iterator<Item = (ViewerKey, Moved)> {
        let Range { viewers, several, before, .. } = &self.ranges[range];
        let before = before.as_ref().filter(|before| !before.is_empty());
        viewers.iter().flat_map(move |(&viewer, slot)| {
            let before = before.and_then(|before| before.get(&viewer));
            let now = before.is_none().then(|| slot.history(several));
            before.into_iter().flatten().copied().chain(now.into_iter().flatten()).map(move |moved| (viewer, moved))
        })
    }

    /// How many movements a range has, if half of its viewers have two.
    pub fn about_as_many_movements(&self, range: usize) -> usize {
        self.ranges[range].viewers.len() / 2 * 3
    }

    /// A range is saved.
    pub fn saved(&mut self, range: usize) {
        if let Some(before) = self.ranges[range].before.take() {
            self.unsaved -= 1;
            self.remembered -= before.len();
        }
    }

    /// Takes up the movements of a range as they were saved. Their steps are saved apart.
    pub fn restore_movements(&mut self, range: usize, movements: impl ExactSizeIterator<Item = (ViewerKey, Moved)>) {
        let Presence { ranges, first_open, .. } = self;
        let Range { viewers, several, leaves, left, .. } = &mut ranges[range];
        viewers.reserve(movements.len());
        for (viewer, moved) in movements {
            if moved.is_leave() {
                let count = if moved.minute() < *first_open { &mut *left } else { leaves.entry(moved.minute()).or_default() };
                *count += 1;
            }
            match viewers.entry(viewer) {
                Entry::Vacant(entry) => {
                    entry.insert(Slot(moved, NONE));
                }
                Entry::Occupied(mut entry) => match entry.get().place() {
                    Some(place) => several[place].put(moved),
                    None => {
                        let mut history = entry.get().one_or_two();
                        history.put(moved);
                        entry.insert(Slot::of(history, several));
                    }
                },
            }
        }
    }

    /// Who was there and is forgotten, for a snapshot.
    pub fn gone(&self) -> &Users {
        &self.gone
    }

    /// Takes up who was there and is forgotten, as it was saved.
    pub fn restore_gone(&mut self) -> &mut Users {
        &mut self.gone
    }

    /// The state is as of this first open window.
    pub fn restore_first_open(&mut self, first_open: Minute) {
        self.first_open = first_open;
        self.gone.close(first_open);
    }
}

impl Range {
    /// While the range waits to be saved: remembers how a viewer has moved who is about to move. `false` if that was known.
    fn remember(&mut self, viewer: ViewerKey) -> bool {
        let Range { viewers, several, before: Some(before), .. } = self else { return false };
        let Entry::Vacant(entry) = before.entry(viewer) else { return false };
        entry.insert(viewers.get(&viewer).map_or(Vec::new(), |slot| slot.history(several).collect()));
        true
    }

    fn insert(
        &mut self,
        viewer: ViewerKey,
        moved: Moved,
        rules: Rules,
        counted: impl Fn(Grain, Minute) -> bool,
        steps: &mut Steps,
    ) {
        let Range { viewers, several, leaves, .. } = self;
        if moved.is_leave() {
            *leaves.entry(moved.minute()).or_default() += 1;
        }
        match viewers.entry(viewer) {
            Entry::Vacant(entry) => {
                place(&mut History::none(), moved, rules, counted, steps);
                entry.insert(Slot(moved, NONE));
            }
            Entry::Occupied(mut entry) => match entry.get().place() {
                Some(at) => place(&mut several[at], moved, rules, counted, steps),
                None => {
                    let mut history = entry.get().one_or_two();
                    place(&mut history, moved, rules, counted, steps);
                    entry.insert(Slot::of(history, several));
                }
            },
        }
    }

    /// Whether one for so many of the viewers left in closed windows.
    fn many_left(&mut self, first_open: Minute, viewers: usize) -> bool {
        while let Some(window) = self.leaves.first_entry().filter(|window| *window.key() < first_open) {
            self.left += window.remove();
        }
        self.left * viewers > self.viewers.len()
    }

    /// Forgets what no longer matters of all viewers, and gives back room that is not needed. Who is dropped has `gone`.
    fn sweep(&mut self, number: usize, first_open: Minute, rules: Rules, gone: &mut Users) {
        let Range { viewers, several, left, .. } = self;
        viewers.retain(|viewer, slot| {
            let forgets = |history: &History| {
                for &grain in &rules.grains[1..] {
                    let window = grain.window_of(first_open);
                    if history.was_present(window, first_open, rules.timeout) {
                        // Any minute of the window that is closed.
                        gone.count(grain, window, number, viewer.in_common(Kind::ViewerJoin));
                    }
                }
            };
            collapse(slot, several, first_open, rules.timeout, forgets)
        });
        *left = 0;
        give_back_room(viewers);
        if several.len() < several.capacity() / 4 {
            let mut kept = Slab::with_capacity(several.len() * 2);
            for slot in viewers.values_mut() {
                if let Some(place) = slot.place() {
                    *slot = Slot::of(several.remove(place), &mut kept);
                }
            }
            *several = kept;
        }
    }
}

/// Keeps of the movements in closed windows only the last, and that only if it still matters; otherwise `forgets` is told all of them.
/// `false`: nothing is left.
fn collapse(
    slot: &mut Slot,
    several: &mut Slab<History>,
    first_open: Minute,
    timeout: i64,
    forgets: impl FnOnce(&History),
) -> bool {
    let matters = |moved: Moved| moved.matters_to(timeout) >= first_open;
    if slot.second().is_none() && slot.place().is_none() && matters(slot.0) {
        return true;
    }
    let mut history = slot.place().map_or_else(|| slot.one_or_two(), |place| several.remove(place));
    if history.last_before(first_open).is_some_and(|last| !matters(last)) {
        forgets(&history);
    }
    let any = history.forget(first_open, matters);
    if any {
        *slot = Slot::of(history, several);
    }
    any
}

#[cfg(test)]
mod tests;
