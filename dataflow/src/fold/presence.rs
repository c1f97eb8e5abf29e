//! Who is present: per viewer the joins and leaves that still matter, and what each changes of its stream's present count.
//!
//! A viewer is present at instant t iff the latest join or leave at or before t is a join (equal times: leave wins) and
//! t − its time < the timeout. Only the ends of windows are asked for, so per viewer one movement per window is kept, the latest;
//! a viewer's presence is then a few intervals of windows, and each interval is a step up at its first window and a step down at
//! the first window after it, which is the next movement's or the join's expiry. The present count of a stream at the end of a
//! window is the sum of all steps up to it. So order of arrival does not matter, a late movement changes all later windows, and
//! a timeout needs neither a timer nor a scan of viewers: it is a step that is already there when its window comes.
//!
//! Of a viewer's movements in closed windows only the last matters; a viewer whose last movement is a leave, or a join that has timed
//! out, is dropped: of a range's viewers those who left once they are one in so many, and all others in turn.
//!
//! A snapshot of all viewers may take its time, range by range, while more happens: of those who move before their range is saved it is
//! remembered how they had moved when the snapshot was begun, and nobody is dropped. How much may happen meanwhile is the caller's to
//! bound.

use super::movements::{History, Moved, Movement, Steps, place};
use crate::keys::{KeyMap, RANGES, ViewerKey, give_back_room};
use hashbrown::hash_map::Entry;
use slab::Slab;
use smallvec::smallvec;
use std::collections::BTreeMap;
use tidemark_model::{Minute, Nanos};

/// Closed windows in which all ranges are swept once.
const SWEEP: usize = 64;
/// A range is swept when its leaves in closed windows are one for so many of its viewers, or for up to twice as many: ranges differ, so that
/// they are not all swept when the same window closes. So a sweep looks at no more than twice as many for a leave, and those who left are
/// no more than that part of the viewers.
const LEAVERS: usize = 8;

/// What the table has of a viewer: the one movement that matters, or where in [`Range::several`] they are, in a word that no movement has.
#[derive(Clone, Copy, Debug)]
struct Slot(Moved);

/// The least such word. Event times end a hundred days before the words do.
const SEVERAL: u64 = u64::MAX - u32::MAX as u64;

const _: () = assert!(Nanos::END.0.cast_unsigned() << 1 <= SEVERAL);

impl Slot {
    fn several(place: usize) -> Slot {
        Slot(Moved(SEVERAL + u64::from(u32::try_from(place).expect("fewer viewers in a range than 32 bits count"))))
    }

    /// The place, if there are several.
    fn place(self) -> Option<usize> {
        self.0.0.checked_sub(SEVERAL).map(|place| place as usize)
    }

    /// The movements.
    fn history<'a>(&'a self, several: &'a Slab<History>) -> &'a [Moved] {
        self.place().map_or(std::slice::from_ref(&self.0), |place| &several[place])
    }
}

/// Viewers of one range. Most have one movement that matters; it stands in the table itself.
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
    timeout: i64,
    ranges: Vec<Range>,
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
    /// Nobody is there yet. `timeout` is in nanoseconds.
    pub fn new(timeout: i64) -> Presence {
        Presence {
            timeout,
            ranges: std::iter::repeat_with(Range::default).take(RANGES).collect(),
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

    /// A movement in an open window: how the present counts of the viewer's stream change.
    pub fn insert(&mut self, viewer: ViewerKey, ts: Nanos, movement: Movement) -> Steps {
        let moved = Moved::new(ts, movement);
        self.meanwhile += 1;
        let range = &mut self.ranges[viewer.range()];
        self.remembered += usize::from(range.remember(viewer));
        range.insert(viewer, moved, self.timeout)
    }

    /// Windows before `first_open` are closed. Who no longer matters is dropped by [`Presence::tidy`].
    pub fn close(&mut self, first_open: Minute) {
        if first_open <= self.first_open {
            return;
        }
        let windows = (first_open.0 - self.first_open.0) as usize;
        self.first_open = first_open;
        self.to_look_at = RANGES;
        self.to_sweep = (self.to_sweep + windows.min(SWEEP) * (RANGES / SWEEP)).min(RANGES);
    }

    /// Drops some of those who no longer matter since windows closed; `false` if there was nothing left to look at. It changes no
    /// answer, only memory, so that it can be done in small steps.
    ///
    /// First come ranges that many have left. Of the others, for joins that have timed out, some are swept per closed window. While a
    /// snapshot is being saved there is nothing to do.
    pub fn tidy(&mut self) -> bool {
        let Presence { ranges, first_open, timeout, to_look_at, next_look, to_sweep, next_sweep, unsaved, .. } = self;
        if *unsaved > 0 {
            return false;
        }
        while *to_look_at > 0 {
            let number = *next_look;
            let range = &mut ranges[number];
            *next_look = (number + 1) % RANGES;
            *to_look_at -= 1;
            if range.many_left(*first_open, LEAVERS + number % LEAVERS) {
                range.sweep(*first_open, *timeout);
                return true;
            }
        }
        if *to_sweep == 0 {
            return false;
        }
        ranges[*next_sweep].sweep(*first_open, *timeout);
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
    /// other, in the order of their windows.
    pub fn movements(&self, range: usize) -> impl Iterator<Item = (ViewerKey, Moved)> {
        let Range { viewers, several, before, .. } = &self.ranges[range];
        let before = before.as_ref().filter(|before| !before.is_empty());
        viewers.iter().flat_map(move |(&viewer, slot)| {
            let history = match before.and_then(|before| before.get(&viewer)) {
                Some(before) => before,
                None => slot.history(several),
            };
            history.iter().map(move |&moved| (viewer, moved))
        })
    }

    /// How many movements a range has, if no viewer has more than two.
    pub fn about_as_many_movements(&self, range: usize) -> usize {
        let Range { viewers, several, .. } = &self.ranges[range];
        viewers.len() + several.len()
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
                    entry.insert(Slot(moved));
                }
                Entry::Occupied(mut entry) => match entry.get().place() {
                    Some(place) => several[place].push(moved),
                    None => {
                        let both = smallvec![entry.get().0, moved];
                        entry.insert(Slot::several(several.insert(both)));
                    }
                },
            }
        }
    }

    /// The state is as of this first open window.
    pub fn restore_first_open(&mut self, first_open: Minute) {
        self.first_open = first_open;
    }
}

impl Range {
    /// While the range waits to be saved: remembers how a viewer has moved who is about to move. `false` if that was known.
    fn remember(&mut self, viewer: ViewerKey) -> bool {
        let Range { viewers, several, before: Some(before), .. } = self else { return false };
        let Entry::Vacant(entry) = before.entry(viewer) else { return false };
        entry.insert(viewers.get(&viewer).map_or(Vec::new(), |slot| slot.history(several).to_vec()));
        true
    }

    fn insert(&mut self, viewer: ViewerKey, moved: Moved, timeout: i64) -> Steps {
        let Range { viewers, several, leaves, .. } = self;
        let mut steps = Steps::default();
        if moved.is_leave() {
            *leaves.entry(moved.minute()).or_default() += 1;
        }
        match viewers.entry(viewer) {
            Entry::Vacant(entry) => {
                entry.insert(Slot(moved));
                steps.interval(moved.minute(), moved.until(timeout), 1);
            }
            Entry::Occupied(mut entry) => match entry.get().place() {
                Some(at) => place(&mut several[at], moved, timeout, &mut steps),
                None => {
                    let mut history = smallvec![entry.get().0];
                    place(&mut history, moved, timeout, &mut steps);
                    entry.insert(if history.len() == 1 { Slot(history[0]) } else { Slot::several(several.insert(history)) });
                }
            },
        }
        steps
    }

    /// Whether one for so many of the viewers left in closed windows.
    fn many_left(&mut self, first_open: Minute, viewers: usize) -> bool {
        while let Some(window) = self.leaves.first_entry().filter(|window| *window.key() < first_open) {
            self.left += window.remove();
        }
        self.left * viewers > self.viewers.len()
    }

    /// Forgets what no longer matters of all viewers, and gives back room that is not needed.
    fn sweep(&mut self, first_open: Minute, timeout: i64) {
        let Range { viewers, several, left, .. } = self;
        viewers.retain(|_, slot| collapse(slot, several, first_open, timeout));
        *left = 0;
        give_back_room(viewers);
        if several.len() < several.capacity() / 4 {
            let mut kept = Slab::with_capacity(several.len() * 2);
            for slot in viewers.values_mut() {
                if let Some(place) = slot.place() {
                    *slot = Slot::several(kept.insert(several.remove(place)));
                }
            }
            *several = kept;
        }
    }
}

/// Keeps of the movements in closed windows only the last, and that only if it still matters. `false`: nothing is left.
fn collapse(slot: &mut Slot, several: &mut Slab<History>, first_open: Minute, timeout: i64) -> bool {
    let matters = |moved: Moved| moved.minute() >= first_open || moved.until(timeout) > first_open;
    let Some(place) = slot.place() else { return matters(slot.0) };
    let history = &mut several[place];
    let closed = history.partition_point(|moved| moved.minute() < first_open);
    let keep_last = closed > 0 && matters(history[closed - 1]);
    history.drain(..closed - usize::from(keep_last));
    if history.len() > 1 {
        return true;
    }
    let last = several.remove(place).first().copied();
    if let Some(last) = last {
        *slot = Slot(last);
    }
    last.is_some()
}

#[cfg(test)]
mod tests {
    use super::super::movements::MINUTE;
    use super::*;

    const TIMEOUT: i64 = 3 * MINUTE;
    const VIEWER: ViewerKey = ViewerKey(2, 2);

    /// The sums of all steps.
    #[derive(Default)]
    struct Counts(BTreeMap<Minute, i64>);

    impl Counts {
        fn add(&mut self, steps: &Steps) {
            for &(minute, change) in steps.each() {
                *self.0.entry(minute).or_default() += change;
            }
        }

        fn at(&self, minute: u32) -> i64 {
            self.0.range(..=Minute(minute)).map(|(_, change)| change).sum()
        }
    }

    /// Closes windows, and tidies up to the end or, as happens if others are closed at once, not at all.
    fn close(presence: &mut Presence, first_open: u32, tidy: bool) {
        presence.close(Minute(first_open));
        while tidy && presence.tidy() {}
    }

    /// The definition, over all movements.
    fn expected(movements: &[(i64, Movement)], minute: u32) -> i64 {
        let at = Minute(minute).last_nanosecond().0;
        let latest = movements.iter().filter(|(ts, _)| *ts <= at).max_by_key(|(ts, m)| (*ts, *m == Movement::Leave));
        i64::from(latest.is_some_and(|(ts, movement)| *movement == Movement::Join && at - ts < TIMEOUT))
    }

    /// Another one that takes up what a checkpoint has of a range.
    fn restored(presence: &Presence, range: usize, first_open: u32) -> Presence {
        let movements: Vec<_> = presence.movements(range).collect();
        let leaves = movements.iter().filter(|(_, moved)| moved.is_leave()).count();
        let mut other = Presence::new(TIMEOUT);
        other.restore_first_open(Minute(first_open));
        other.restore_movements(range, movements.into_iter());
        let range = &other.ranges[range];
        assert_eq!(range.left + range.leaves.values().sum::<usize>(), leaves);
        other
    }

    #[test]
    fn any_order_and_any_closing_give_what_the_definition_says() {
        let mut random = super::super::dice();
        let mut made_anew = 0;
        for _ in 0..2_000 {
            let mut presence = Presence::new(TIMEOUT);
            let mut viewers: [(Counts, Vec<(i64, Movement)>); 4] = Default::default();
            let mut first_open = 0u32;
            for _ in 0..random(40) {
                let number = random(viewers.len() as u64);
                let (counts, movements) = &mut viewers[usize::try_from(number).unwrap()];
                let minute = first_open + u32::try_from(random(6)).unwrap();
                let offset = [0, 1, MINUTE / 2, MINUTE - 1][usize::try_from(random(4)).unwrap()];
                let ts = i64::from(minute) * MINUTE + offset;
                let movement = if random(2) == 0 { Movement::Join } else { Movement::Leave };
                movements.push((ts, movement));
                let windows = first_open..first_open + 10;
                let before: Vec<i64> = windows.clone().map(|minute| counts.at(minute)).collect();
                let steps = presence.insert(ViewerKey::in_range(3, number), Nanos(ts), movement);
                counts.add(&steps);
                for (minute, before) in windows.zip(before) {
                    assert_eq!(counts.at(minute), expected(movements, minute), "{movements:?} at {minute}");
                    assert_eq!(before + steps.up_to(Minute(minute)), counts.at(minute));
                }
                if random(3) == 0 {
                    first_open += u32::try_from(random(3)).unwrap();
                    close(&mut presence, first_open, random(2) == 0);
                }
                if random(8) == 0 {
                    presence = restored(&presence, 3, first_open);
                    made_anew += 1;
                }
            }
            assert!(presence.ranges[3].several.len() <= presence.viewers());
        }
        assert!(made_anew > 2_000);
    }

    #[test]
    fn a_snapshot_is_of_its_beginning_whatever_happens_until_a_range_is_saved() {
        let mut random = super::super::dice();
        let mut saved_after_changes = 0;
        for _ in 0..500 {
            let (mut presence, mut first_open) = (Presence::new(TIMEOUT), 0);
            // Three ranges, the last of them often empty at first.
            let mut act = |presence: &mut Presence, first_open: &mut u32, times: u64| {
                for _ in 0..times {
                    let (range, number) = (usize::try_from(random(9).min(2)).unwrap(), random(6));
                    let ts = (i64::from(*first_open) + i64::try_from(random(4)).unwrap()) * MINUTE + 1;
                    let movement = if random(2) == 0 { Movement::Join } else { Movement::Leave };
                    presence.insert(ViewerKey::in_range(range, number), Nanos(ts), movement);
                    if random(5) == 0 {
                        *first_open += 1;
                        close(presence, *first_open, true);
                    }
                }
                random(10)
            };
            let all = |presence: &Presence, range| {
                let mut all: Vec<_> = presence.movements(range).collect();
                all.sort_unstable();
                all
            };
            let times = act(&mut presence, &mut first_open, 10);
            let expected: Vec<_> = (0..3).map(|range| all(&presence, range)).collect();
            let unsaved = presence.begin_snapshot();
            assert_eq!(unsaved, (0..3).filter(|&range| !expected[range].is_empty()).collect::<Vec<_>>());
            for range in unsaved {
                act(&mut presence, &mut first_open, times);
                assert_eq!(all(&presence, range), expected[range]);
                presence.saved(range);
                saved_after_changes += usize::from(all(&presence, range) != expected[range]);
            }
            // Who is forgotten at last is whom no window needs.
            close(&mut presence, first_open + 100, true);
            let forgotten = |range: &Range| range.leaves.is_empty() && range.left == 0 && range.before.is_none();
            assert!(presence.ranges.iter().all(forgotten) && (presence.unsaved, presence.remembered) == (0, 0));
        }
        assert!(saved_after_changes > 500);
    }

    #[test]
    fn who_left_keeps_little_memory_however_few_leave_at_a_time() {
        for at_a_time in [1, 7, 300] {
            let (mut presence, mut present) = (Presence::new(i64::MAX / 4), 1_000);
            for number in 0..present {
                presence.insert(ViewerKey::in_range(3, number), Nanos(0), Movement::Join);
            }
            close(&mut presence, 1, true);
            let mut minute = 1;
            while present > 10 {
                // As many more come and go again in two windows.
                for number in present.saturating_sub(at_a_time)..present {
                    let (viewer, guest) = (ViewerKey::in_range(3, number), ViewerKey::in_range(3, 1_000 + number));
                    presence.insert(guest, Nanos(i64::from(minute) * MINUTE), Movement::Join);
                    presence.insert(viewer, Nanos(i64::from(minute) * MINUTE), Movement::Leave);
                    presence.insert(guest, Nanos(i64::from(minute + 1) * MINUTE), Movement::Leave);
                }
                present = present.saturating_sub(at_a_time);
                minute += 2;
                close(&mut presence, minute, true);
                let (kept, range) = (presence.viewers() as u64, &presence.ranges[3]);
                assert!(kept * 7 <= present * 8, "{kept} are kept of whom {present} are present");
                assert!(range.several.len() <= presence.viewers() / LEAVERS && range.several.capacity() <= 4 * 300 + 4);
            }
            let range = &presence.ranges[3];
            assert!(range.viewers.capacity() < 100 && range.several.capacity() < 100);
        }
    }

    #[test]
    fn movements_stay_with_their_viewer_when_the_list_of_them_is_made_anew() {
        let mut presence = Presence::new(TIMEOUT);
        let mut expected = Vec::new();
        for number in 0..500 {
            let viewer = ViewerKey::in_range(3, number);
            let stays = number % 25 == 0;
            let minutes = if stays { [5, 7] } else { [0, 1] };
            for (minute, movement) in minutes.into_iter().zip([Movement::Join, Movement::Leave]) {
                let ts = Nanos(minute * MINUTE + i64::try_from(number).unwrap());
                presence.insert(viewer, ts, movement);
                if stays {
                    expected.push((viewer, Moved::new(ts, movement)));
                }
            }
        }
        assert!(presence.ranges[3].several.capacity() >= 500);
        close(&mut presence, 3, true);
        assert_eq!((presence.ranges[3].several.len(), presence.viewers()), (20, 20));
        assert!(presence.ranges[3].several.capacity() < 50);
        let mut movements: Vec<_> = presence.movements(3).collect();
        movements.sort_unstable();
        expected.sort_unstable();
        assert_eq!(movements, expected);
    }

    #[test]
    fn who_left_and_whose_time_ran_out_is_forgotten() {
        let (mut presence, mut counts) = (Presence::new(TIMEOUT), Counts::default());
        counts.add(&presence.insert(VIEWER, Nanos(0), Movement::Join));
        counts.add(&presence.insert(VIEWER, Nanos(MINUTE), Movement::Leave));
        counts.add(&presence.insert(ViewerKey(3, 3), Nanos(0), Movement::Join));
        assert_eq!((presence.viewers(), counts.at(0), counts.at(1)), (2, 2, 1));
        close(&mut presence, 2, true);
        assert_eq!((presence.viewers(), counts.at(2)), (1, 1));
        for minute in 3..SWEEP as u32 + 4 {
            close(&mut presence, minute, true);
        }
        assert_eq!((presence.viewers(), counts.at(70)), (0, 0));
        assert!(presence.ranges.iter().all(|range| range.leaves.is_empty() && range.several.is_empty()));
    }
}
