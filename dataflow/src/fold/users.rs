//! The users of each hour and day, each with the first minute in which the user counts. A late event moves a user to an earlier
//! minute, which is open, as the later one is. So the users of a window are the sum of those of its minutes, and whatever is made of
//! closed minutes never has to be taken back.
//!
//! Each user has one place in the day's table, with two minutes: the first in which the user counts in the day, and the first in the
//! latest hour in which the user counts. An earlier hour that is still open has a table of its own, with those users whose latest hour is a
//! later one. Without days each hour has a table, with one minute for each user.

use super::table::{NOTE, Table};
use crate::keys::{EventKey, RANGES};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidemark_model::{Grain, Minute};

/// Bits of a minute in a note. The first minute of the table's window is 1, and 0 is none.
const BITS: u32 = (Grain::Day.minutes() + 1).next_power_of_two().ilog2();
const MINUTE: u64 = (1 << BITS) - 1;

/// Of places that are taken up, those so far apart come after each other.
const STRIDE: usize = 64;

const _: () = assert!(NOTE == MINUTE << BITS | MINUTE);

/// What an event changes of the number of users who count first in its minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The user did not count in the window before.
    New,
    /// The user counted first in this later minute.
    Instead(Minute),
    /// The user counts already.
    Known,
}

/// The users of all hours and days that are not over, by the range of the viewer.
#[derive(Debug)]
pub struct Users {
    /// The windows that are counted.
    grains: &'static [Grain],
    first_open: Minute,
    /// One for each of the longest windows, and one for each open hour in which users count whose latest hour is a later one.
    tables: BTreeMap<(Grain, Minute), Vec<Table>>,
}

/// By how many bits the minute of one length of windows is shifted, in the notes of a table of windows of this length.
fn shift(table: Grain, grain: Grain) -> u32 {
    if table == grain { 0 } else { BITS }
}

/// The minute in a note, if there is one. `window` is the table's.
fn first(window: Minute, note: u64, shift: u32) -> Option<Minute> {
    let minute = u32::try_from(note >> shift & MINUTE).expect("a few bits").checked_sub(1);
    minute.map(|minute| Minute(window.0 + minute))
}

impl Users {
    /// Nobody yet. Users are counted in windows of these lengths, the longest last.
    pub fn new(grains: &'static [Grain]) -> Users {
        Users { grains, first_open: Minute(0), tables: BTreeMap::new() }
    }

    /// The table of the longest window that the minute lies in.
    fn home(&self, minute: Minute) -> (Grain, Minute) {
        let longest = *self.grains.last().expect("there are minutes at least");
        (longest, longest.window_of(minute))
    }

    /// A user counts in a minute.
    pub fn count(&mut self, grain: Grain, minute: Minute, range: usize, id: EventKey) -> First {
        self.count_in(self.home(minute), grain, minute, range, id)
    }

    /// A user counts in a minute, and stands in this table or, for an hour that is not the latest, in that hour's own.
    fn count_in(&mut self, home: (Grain, Minute), grain: Grain, minute: Minute, range: usize, id: EventKey) -> First {
        let table = &mut self.tables.entry(home).or_insert_with(|| vec![Table::default(); RANGES])[range];
        let (shift, found) = (shift(home.0, grain), table.find(id));
        let note = found.map_or(0, |at| table.note_at(at));
        let known = first(home.1, note, shift);
        let window = grain.window_of(minute);
        let (of_known, to_keep) = match known.map(|known| (known, grain.window_of(known))) {
            Some((_, later)) if later > window => return self.count_in((grain, window), grain, minute, range, id),
            Some((known, same)) if same == window && known <= minute => return First::Known,
            Some((known, same)) if same == window => (First::Instead(known), None),
            Some((known, earlier)) => (First::New, Some((known, earlier))),
            None => (First::New, None),
        };
        table.set(found, id, note & !(MINUTE << shift) | u64::from(minute.0 - home.1.0 + 1) << shift);
        if let Some((known, earlier)) = to_keep.filter(|&(_, earlier)| grain.end_of(earlier) > self.first_open) {
            self.count_in((grain, earlier), grain, known, range, id);
        }
        of_known
    }

    /// Whether a user was counted in a window.
    pub fn has(&self, grain: Grain, window: Minute, range: usize, id: EventKey) -> bool {
        let has = |table: (Grain, Minute)| {
            let note = self.tables.get(&table).and_then(|ranges| ranges[range].note(id));
            let first = note.and_then(|note| first(table.1, note, shift(table.0, grain)));
            first.is_some_and(|first| grain.window_of(first) == window)
        };
        let home = self.home(window);
        has(home) || (home.0 != grain && has((grain, window)))
    }

    /// Forgets all windows that end before `first_open` or with it.
    pub fn close(&mut self, first_open: Minute) {
        self.first_open = first_open;
        self.tables.retain(|&(grain, window), _| grain.end_of(window) > first_open);
    }

    /// The tables that there are, and of each the ranges in which anybody is known.
    pub fn keys(&self) -> impl Iterator<Item = (Grain, Minute, usize)> {
        self.tables.iter().flat_map(|(&(grain, window), ranges)| {
            (0..RANGES).filter(|&range| ranges[range].count() > 0).map(move |range| (grain, window, range))
        })
    }

    /// The places of one of them, for a checkpoint.
    pub fn places(&self, grain: Grain, window: Minute, range: usize) -> &Arc<[EventKey]> {
        self.tables[&(grain, window)][range].places()
    }

    /// Takes up places that were saved, of windows that are counted now and not over.
    pub fn restore(&mut self, grain: Grain, window: Minute, range: usize, places: impl Iterator<Item = EventKey>) {
        let places: Vec<EventKey> = places.collect();
        // They are in the order of their hashes. In that order the first of them would crowd in a table that is still small.
        for id in (0..STRIDE).flat_map(|from| places.iter().skip(from).step_by(STRIDE)) {
            for &counted in &self.grains[1..] {
                if counted <= grain
                    && let Some(minute) = first(window, id.0, shift(grain, counted))
                    && counted.end_of(counted.window_of(minute)) > self.first_open
                {
                    self.count(counted, minute, range, *id);
                }
            }
        }
    }

    /// Takes up ids as checkpoints of version 6 have them: each list is of one window, and its minutes count from 0.
    pub fn restore_list(&mut self, grain: Grain, window: Minute, range: usize, ids: impl Iterator<Item = EventKey>) {
        for id in ids.filter(|_| self.grains.contains(&grain)) {
            let minute = u32::try_from(id.0 & MINUTE).expect("a few bits");
            self.count(grain, Minute(window.0 + minute), range, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::windows::WORK;
    use super::*;

    /// Takes all up as it was saved.
    fn taken_up(users: &Users, grains: &'static [Grain]) -> Users {
        let mut other = Users::new(grains);
        for (grain, window, range) in users.keys() {
            other.restore(grain, window, range, users.places(grain, window, range).iter().copied());
        }
        other
    }

    /// Minutes of some hours of two days, in any order, closed now and then, and taken up from what was saved.
    #[test]
    fn each_user_of_a_window_counts_in_the_first_minute_of_all() {
        let mut random = super::super::dice();
        let mut aside = 0;
        for _ in 0..200 {
            let grains = [&Grain::ALL[..], &Grain::ALL[..2]][random(2) as usize];
            let mut users = Users::new(grains);
            // Of each user and window all minutes, and of each minute how many users count first in it.
            let mut minutes: BTreeMap<(u64, Grain, Minute), Vec<Minute>> = BTreeMap::new();
            let mut firsts: BTreeMap<(Grain, Minute), i64> = BTreeMap::new();
            let mut first_open = 1_250;
            for _ in 0..random(400) {
                let user = random(9);
                // The range goes with the viewer.
                let (range, id) = (usize::try_from(user % 3).unwrap(), EventKey(user << 40 | 0x7ff, user << 60));
                let minute = Minute(first_open + u32::try_from(random(150)).unwrap());
                for &grain in &grains[1..] {
                    match users.count(grain, minute, range, id) {
                        First::New => *firsts.entry((grain, minute)).or_default() += 1,
                        First::Instead(later) => {
                            assert!(later > minute);
                            *firsts.entry((grain, later)).or_default() -= 1;
                            *firsts.entry((grain, minute)).or_default() += 1;
                        }
                        First::Known => {}
                    }
                    let window = grain.window_of(minute);
                    minutes.entry((user, grain, window)).or_default().push(minute);
                    let later = grain.end_of(window);
                    for window in [window, later] {
                        assert_eq!(users.has(grain, window, range, id), minutes.contains_key(&(user, grain, window)));
                    }
                }
                let mut expected: BTreeMap<(Grain, Minute), i64> = BTreeMap::new();
                let first =
                    |(&(_, grain, _), minutes): (&(u64, Grain, Minute), &Vec<Minute>)| (grain, *minutes.iter().min().unwrap());
                minutes.iter().map(first).for_each(|first| *expected.entry(first).or_default() += 1);
                firsts.retain(|_, count| *count != 0);
                assert_eq!(firsts, expected);
                aside += users.tables.keys().filter(|(grain, _)| grain != grains.last().unwrap()).count();
                if random(20) == 0 {
                    first_open += u32::try_from(random(40)).unwrap();
                    users.close(Minute(first_open));
                    assert!(users.tables.keys().all(|&(grain, window)| grain.end_of(window) > Minute(first_open)));
                }
                if random(30) == 0 {
                    users = taken_up(&users, grains);
                }
            }
        }
        assert!(aside > 1_000, "hours have tables of their own");
    }

    #[test]
    fn many_are_taken_up_as_quickly_as_they_came() {
        let mut random = super::super::dice();
        let mut word = || random(1 << 31) << 33 | random(1 << 31) << 2;
        let (mut users, count) = (Users::new(&Grain::ALL), 20_000);
        for _ in 0..count {
            let id = EventKey(word(), word());
            for grain in [Grain::Hour, Grain::Day] {
                users.count(grain, Minute(7), 3, id);
            }
        }
        for grains in [&Grain::ALL[..], &Grain::ALL[..2]] {
            WORK.set(0);
            assert_eq!(taken_up(&users, grains).keys().count(), 1);
            assert!(WORK.get() < 100 * count, "{} places were looked at", WORK.get());
        }
    }

    #[test]
    fn what_was_saved_is_taken_up_for_other_windows() {
        let (id, hour) = (EventKey(1 << 40, 7), Minute(60));
        let mut users = Users::new(&Grain::ALL);
        for (grain, minute) in [(Grain::Hour, 61), (Grain::Hour, 125), (Grain::Day, 61)] {
            assert_eq!(users.count(grain, Minute(minute), 3, id), First::New);
        }
        let has = |users: &Users, grain, window| users.has(grain, window, 3, id);
        let mut hours = taken_up(&users, &Grain::ALL[..2]);
        assert!(has(&hours, Grain::Hour, hour) && has(&hours, Grain::Hour, Minute(120)) && !has(&hours, Grain::Hour, Minute(0)));
        assert_eq!(hours.count(Grain::Hour, Minute(60), 3, id), First::Instead(Minute(61)));
        let all = taken_up(&hours, &Grain::ALL);
        assert!(has(&all, Grain::Hour, hour) && has(&all, Grain::Hour, Minute(120)) && !has(&all, Grain::Day, Minute(0)));
        assert!(taken_up(&users, &Grain::ALL[..1]).tables.is_empty());
        let mut listed = Users::new(&Grain::ALL);
        listed.restore_list(Grain::Hour, hour, 3, [EventKey(id.0 | 5, id.1), EventKey(id.0 | 2, id.1)].into_iter());
        assert_eq!(listed.count(Grain::Hour, Minute(60), 3, id), First::Instead(Minute(62)));
        assert!(!has(&listed, Grain::Day, Minute(0)));
    }
}
