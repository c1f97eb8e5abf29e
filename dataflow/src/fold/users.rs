//! The users of each hour and day, each with the first minute in which the user counts. A late event moves a user to an earlier
//! minute, which is open, as the later one is. So the users of a window are the sum of those of its minutes, and whatever is made of
//! closed minutes never has to be taken back.
//!
//! An id's lowest bits tell the minute within its window: of an id, which is a hash, 117 bits are left.

use super::ids::{Chunk, Ids};
use crate::keys::{EventKey, RANGES};
use std::collections::BTreeMap;
use tidemark_model::{Grain, Minute};

/// The bits of a minute within the longest window.
const MINUTE: u64 = (Grain::Day.minutes().next_power_of_two() - 1) as u64;

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
#[derive(Debug, Default)]
pub struct Users {
    windows: BTreeMap<(Grain, Minute), Vec<Ids>>,
}

impl Users {
    /// A user counts in a minute.
    pub fn count(&mut self, grain: Grain, minute: Minute, range: usize, id: EventKey) -> First {
        let window = grain.window_of(minute);
        let id = EventKey(id.0 & !MINUTE | u64::from(minute.0 - window.0), id.1);
        let ids = &mut self.lists(grain, window)[range];
        match ids.insert_but(id, MINUTE) {
            None => First::New,
            Some(known) if known.0 > id.0 => {
                ids.replace_but(id, MINUTE);
                First::Instead(minute_of(window, known))
            }
            Some(_) => First::Known,
        }
    }

    /// Whether a user was counted in a window.
    pub fn has(&self, grain: Grain, window: Minute, range: usize, id: EventKey) -> bool {
        self.windows.get(&(grain, window)).is_some_and(|lists| lists[range].find(id, MINUTE).is_some())
    }

    /// Forgets all windows that end before `first_open` or with it.
    pub fn close(&mut self, first_open: Minute) {
        self.windows.retain(|&(grain, window), _| grain.end_of(window) > first_open);
    }

    /// The windows and ranges in which anybody is known.
    pub fn keys(&self) -> impl Iterator<Item = (Grain, Minute, usize)> {
        self.windows.iter().flat_map(|(&(grain, window), lists)| {
            (0..RANGES).filter(|&range| lists[range].count() > 0).map(move |range| (grain, window, range))
        })
    }

    /// The ids of a window and a range, those that must be copied and full chunks. Of two of the same user the earlier minute counts.
    pub fn ids(&self, grain: Grain, window: Minute, range: usize) -> (&[EventKey], &[Chunk]) {
        let (_, full, newest) = self.windows[&(grain, window)][range].after(0);
        (newest, full)
    }

    /// Takes up ids that were saved.
    pub fn restore(&mut self, grain: Grain, window: Minute, range: usize, restored: impl ExactSizeIterator<Item = EventKey>) {
        self.lists(grain, window)[range].reserve(restored.len());
        for id in restored {
            self.count(grain, minute_of(window, id), range, id);
        }
    }

    fn lists(&mut self, grain: Grain, window: Minute) -> &mut Vec<Ids> {
        self.windows.entry((grain, window)).or_insert_with(|| vec![Ids::default(); RANGES])
    }
}

fn minute_of(window: Minute, id: EventKey) -> Minute {
    Minute(window.0 + u32::try_from(id.0 & MINUTE).expect("a few bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minutes of two hours, in any order, closed now and then, and taken up from what was saved.
    #[test]
    fn each_user_of_a_window_counts_in_the_first_minute_of_all() {
        let mut random = super::super::dice();
        for _ in 0..200 {
            let mut users = Users::default();
            // Of each user and hour all minutes, and of each minute how many users count first in it.
            let mut minutes: BTreeMap<(u64, Minute), Vec<Minute>> = BTreeMap::new();
            let mut firsts: BTreeMap<Minute, i64> = BTreeMap::new();
            let mut first_open = 100;
            for _ in 0..random(400) {
                let user = random(9);
                // The range goes with the viewer.
                let (range, id) = (usize::try_from(user % 3).unwrap(), EventKey(user << 40 | 0x7ff, user << 8));
                let minute = Minute(first_open + u32::try_from(random(12)).unwrap());
                match users.count(Grain::Hour, minute, range, id) {
                    First::New => *firsts.entry(minute).or_default() += 1,
                    First::Instead(later) => {
                        assert!(later > minute);
                        *firsts.entry(later).or_default() -= 1;
                        *firsts.entry(minute).or_default() += 1;
                    }
                    First::Known => {}
                }
                let window = Grain::Hour.window_of(minute);
                assert!(users.has(Grain::Hour, window, range, id) && !users.has(Grain::Day, window, range, id));
                minutes.entry((user, window)).or_default().push(minute);
                let mut expected: BTreeMap<Minute, i64> = BTreeMap::new();
                minutes.values().for_each(|minutes| *expected.entry(*minutes.iter().min().unwrap()).or_default() += 1);
                firsts.retain(|_, count| *count != 0);
                assert_eq!(firsts, expected);
                if random(20) == 0 {
                    first_open += u32::try_from(random(9)).unwrap();
                    users.close(Minute(first_open));
                    assert!(users.windows.keys().all(|&(grain, window)| grain.end_of(window) > Minute(first_open)));
                }
                if random(30) == 0 {
                    let mut other = Users::default();
                    for (grain, window, range) in users.keys() {
                        let (newest, full) = users.ids(grain, window, range);
                        let all: Vec<EventKey> = full.iter().flat_map(|chunk| chunk.iter()).chain(newest).copied().collect();
                        other.restore(grain, window, range, all.into_iter());
                    }
                    users = other;
                }
            }
        }
    }
}
