use super::super::movements::Step;
use super::super::windows::WORK;
use super::*;
use differential_dataflow::difference::Semigroup;
use tidemark_model::time::MINUTE_NANOS as MINUTE;

const TIMEOUT: i64 = 3 * MINUTE;
const VIEWER: ViewerKey = ViewerKey(2, 2);

/// The sums of all steps.
#[derive(Default)]
struct Counts(BTreeMap<Minute, Step>);

impl Counts {
    fn add(&mut self, steps: &Steps) {
        for (minute, change) in steps.each() {
            self.0.entry(*minute).or_default().plus_equals(change);
        }
    }

    fn at(&self, minute: u32) -> i64 {
        self.0.range(..=Minute(minute)).map(|(_, change)| i64::from(change.present)).sum()
    }

    /// Present at the end, present at any instant, and milliseconds.
    fn all(&self, minute: u32) -> [i64; 3] {
        let before = minute.checked_sub(1).map_or(0, |before| self.at(before));
        let step = self.0.get(&Minute(minute)).copied().unwrap_or_default();
        [before + i64::from(step.present), before + i64::from(step.fresh[0]), before * 60_000 + step.watched]
    }

    /// Present at any instant of an hour or a day up to a minute's end.
    fn users(&self, grain: Grain, minute: u32) -> i64 {
        let window = grain.window_of(Minute(minute));
        let fresh = self.0.range(window..=Minute(minute)).map(|(_, change)| i64::from(change.fresh[grain as usize]));
        window.0.checked_sub(1).map_or(0, |before| self.at(before)) + fresh.sum::<i64>()
    }
}

/// Closes windows, and tidies up to the end or, as happens if others are closed at once, not at all.
fn close(presence: &mut Presence, first_open: u32, tidy: bool) {
    presence.close(Minute(first_open));
    while tidy && presence.tidy() {}
}

/// The definition, over all movements, from a minute's beginning to another one's end: at the end, at any instant, and in how many of the
/// milliseconds. Presence changes at movements and when they time out only, so it is the same from one of these instants to the next.
fn expected(movements: &[(i64, Movement)], first: u32, minute: u32, timeout: i64) -> [i64; 3] {
    let is_present = |at: i64| {
        let latest = movements.iter().filter(|(ts, _)| *ts <= at).max_by_key(|(ts, m)| (*ts, *m == Movement::Leave));
        latest.is_some_and(|(ts, movement)| *movement == Movement::Join && at - ts < timeout)
    };
    let (start, end) = (i64::from(first) * MINUTE, i64::from(minute + 1) * MINUTE);
    let mut instants: Vec<i64> = movements.iter().flat_map(|(ts, _)| [*ts, *ts + timeout]).chain([start, end]).collect();
    instants.retain(|at| (start..=end).contains(at));
    instants.sort_unstable();
    let (mut any, mut watched) = (false, 0);
    for of in instants.windows(2).filter(|of| of[0] < of[1] && is_present(of[0])) {
        any = true;
        watched += of[1] / 1_000_000 - of[0] / 1_000_000;
    }
    [i64::from(is_present(end - 1)), i64::from(any), watched]
}

/// Another one that takes up what a checkpoint has of a range.
fn restored(presence: &Presence, range: usize, first_open: u32, timeout: i64) -> Presence {
    let movements: Vec<_> = presence.movements(range).collect();
    let leaves = movements.iter().filter(|(_, moved)| moved.is_leave()).count();
    let mut other = Presence::new(timeout, &Grain::ALL);
    other.restore_first_open(Minute(first_open));
    other.restore_movements(range, movements.into_iter());
    for (grain, window, range) in presence.gone().keys() {
        let places = presence.gone().places(grain, window, range);
        other.restore_gone().restore(grain, window, range, places.iter().copied());
    }
    let range = &other.ranges[range];
    assert_eq!(range.left + range.leaves.values().sum::<usize>(), leaves);
    other
}

#[test]
fn any_order_and_any_closing_give_what_the_definition_says() {
    let mut random = super::super::dice();
    let mut made_anew = 0;
    for _ in 0..2_000 {
        // With the second one a join may run out at a minute's very start, and may come there while another one lasts.
        let timeout = [TIMEOUT, TIMEOUT + MINUTE / 2][usize::try_from(random(2)).unwrap()];
        let mut presence = Presence::new(timeout, &Grain::ALL);
        let mut viewers: [(Counts, Vec<(i64, Movement)>); 4] = Default::default();
        // An hour and a day end soon.
        let mut first_open = 1_440 - u32::try_from(random(30)).unwrap();
        for _ in 0..random(40) {
            let number = random(viewers.len() as u64);
            let (counts, movements) = &mut viewers[usize::try_from(number).unwrap()];
            let minute = first_open + u32::try_from(random(6)).unwrap();
            let offsets = [0, 1, 999_999, MINUTE / 3, MINUTE / 2, MINUTE - 1_000_001, MINUTE - 1];
            let offset = offsets[usize::try_from(random(7)).unwrap()];
            let ts = i64::from(minute) * MINUTE + offset;
            let movement = if random(2) == 0 { Movement::Join } else { Movement::Leave };
            movements.push((ts, movement));
            let steps = presence.steps_of(ViewerKey::in_range(3, number), Nanos(ts), movement);
            assert!(steps.each().iter().all(|(changed, _)| changed.0 >= minute), "what was before is as it was");
            counts.add(&steps);
            for minute in first_open..first_open + 10 {
                assert_eq!(counts.all(minute), expected(movements, minute, minute, timeout), "{movements:?} at {minute}");
                for grain in [Grain::Hour, Grain::Day] {
                    let of_window = expected(movements, grain.window_of(Minute(minute)).0, minute, timeout)[1];
                    assert_eq!(counts.users(grain, minute), of_window, "{movements:?} at {minute}, {grain:?}");
                }
            }
            if random(3) == 0 {
                first_open += u32::try_from(random(3)).unwrap();
                close(&mut presence, first_open, random(2) == 0);
            }
            if random(8) == 0 {
                presence = restored(&presence, 3, first_open, timeout);
                made_anew += 1;
            }
        }
        assert!(presence.ranges[3].several.len() <= presence.viewers());
    }
    assert!(made_anew > 2_000);
}

#[test]
fn a_viewer_who_moves_very_often_costs_as_much_a_movement_however_often_it_is() {
    type Movements = fn(i64, i64) -> (i64, bool);
    let orders: [Movements; 4] = [
        |number, _| (number * MINUTE, number % 3 == 0),
        |number, all| ((all - number) * MINUTE, number % 3 == 0),
        // All in one window: leaves before or behind which joins come, and the other way round.
        |number, all| (number, number < all / 2),
        |number, all| (all - number, number >= all / 2),
    ];
    for movements in orders {
        let work = |all: i64| {
            let mut presence = Presence::new(TIMEOUT, &Grain::ALL);
            WORK.set(0);
            for number in 0..all {
                let (ts, leaves) = movements(number, all);
                presence.steps_of(VIEWER, Nanos(ts), if leaves { Movement::Leave } else { Movement::Join });
            }
            WORK.get() / usize::try_from(all).unwrap()
        };
        let (few, many) = (work(1_000), work(16_000));
        assert!((1..100).contains(&few) && many <= few + 1, "{few}, then {many} movements are looked at for one");
    }
}

#[test]
fn a_snapshot_is_of_its_beginning_whatever_happens_until_a_range_is_saved() {
    let mut random = super::super::dice();
    let mut saved_after_changes = 0;
    for _ in 0..500 {
        let (mut presence, mut first_open) = (Presence::new(TIMEOUT, &Grain::ALL), 0);
        // Three ranges, the last of them often empty at first.
        let mut act = |presence: &mut Presence, first_open: &mut u32, times: u64| {
            for _ in 0..times {
                let (range, number) = (usize::try_from(random(9).min(2)).unwrap(), random(6));
                let ts = (i64::from(*first_open) + i64::try_from(random(4)).unwrap()) * MINUTE + 1;
                let movement = if random(2) == 0 { Movement::Join } else { Movement::Leave };
                presence.steps_of(ViewerKey::in_range(range, number), Nanos(ts), movement);
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
        let (mut presence, mut present) = (Presence::new(i64::MAX / 4, &Grain::ALL), 1_000);
        for number in 0..present {
            presence.steps_of(ViewerKey::in_range(3, number), Nanos(0), Movement::Join);
        }
        close(&mut presence, 1, true);
        let mut minute = 1;
        while present > 10 {
            // As many more come and go again in two windows.
            for number in present.saturating_sub(at_a_time)..present {
                let (viewer, guest) = (ViewerKey::in_range(3, number), ViewerKey::in_range(3, 1_000 + number));
                presence.steps_of(guest, Nanos(i64::from(minute) * MINUTE), Movement::Join);
                presence.steps_of(viewer, Nanos(i64::from(minute) * MINUTE), Movement::Leave);
                presence.steps_of(guest, Nanos(i64::from(minute + 1) * MINUTE), Movement::Leave);
                // More than the table itself takes.
                presence.steps_of(guest, Nanos(i64::from(minute + 1) * MINUTE + 1), Movement::Leave);
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
    let mut presence = Presence::new(TIMEOUT, &Grain::ALL);
    let mut expected = Vec::new();
    for number in 0..500 {
        let viewer = ViewerKey::in_range(3, number);
        let stays = number % 25 == 0;
        // More than the table itself takes.
        let minutes = if stays { [5, 7, 8] } else { [0, 1, 2] };
        for (minute, movement) in minutes.into_iter().zip([Movement::Join, Movement::Leave, Movement::Leave]) {
            let ts = Nanos(minute * MINUTE + i64::try_from(number).unwrap());
            presence.steps_of(viewer, ts, movement);
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
    let (mut presence, mut counts) = (Presence::new(TIMEOUT, &Grain::ALL), Counts::default());
    counts.add(&presence.steps_of(VIEWER, Nanos(0), Movement::Join));
    counts.add(&presence.steps_of(VIEWER, Nanos(MINUTE), Movement::Leave));
    counts.add(&presence.steps_of(VIEWER, Nanos(MINUTE + 1), Movement::Leave));
    counts.add(&presence.steps_of(ViewerKey(3, 3), Nanos(0), Movement::Join));
    assert_eq!((presence.viewers(), counts.at(0), counts.at(1)), (2, 2, 1));
    close(&mut presence, 2, true);
    assert_eq!((presence.viewers(), counts.at(2)), (1, 1));
    for minute in 3..SWEEP as u32 + 4 {
        close(&mut presence, minute, true);
    }
    assert_eq!((presence.viewers(), counts.at(70)), (0, 0));
    assert!(presence.ranges.iter().all(|range| range.leaves.is_empty() && range.several.is_empty()));
}
