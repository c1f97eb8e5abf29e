use super::super::windows::WORK;
use super::*;
use std::collections::BTreeMap;
use tidemark_model::Nanos;
use tidemark_model::time::MINUTE_NANOS as MINUTE;

const STREAMS: u64 = 5;

/// From one minute to another one's beginning, wholly.
fn whole(from: Minute, until: Minute) -> (Nanos, Nanos) {
    (Nanos(i64::from(from.0) * MINUTE), Nanos(i64::from(until.0) * MINUTE))
}

fn chat(chats: u32) -> Counted {
    Counted { events: 1, chats, ..Counted::default() }
}

/// The definition: totals per window that was opened, and all presences, in whole minutes.
#[derive(Default)]
struct Model {
    counted: BTreeMap<MinuteKey, Totals>,
    presences: Vec<(StreamKey, Minute, Minute, i64)>,
    open: std::collections::BTreeSet<Minute>,
}

impl Model {
    fn fresh(&self, (stream, minute): MinuteKey) -> i64 {
        let before =
            |(of, from, until, _): &&(StreamKey, Minute, Minute, i64)| *of == stream && *from < minute && minute <= *until;
        self.presences.iter().filter(before).map(|(.., sign)| sign).sum()
    }

    fn rows(&self) -> BTreeMap<MinuteKey, Totals> {
        let keys = self.open.iter().flat_map(|&minute| (0..STREAMS).map(move |s| (StreamKey(s, s), minute)));
        let totals = |key: MinuteKey| {
            let there =
                self.presences.iter().filter(|(stream, from, until, _)| *stream == key.0 && (*from..*until).contains(&key.1));
            let viewers: i64 = there.map(|(.., sign)| sign).sum();
            let mut totals = self.counted.get(&key).copied().unwrap_or_default();
            totals.values[Metric::ActiveViewers] = viewers;
            totals.values[Metric::WatchMs] = viewers * 60_000;
            // Steps do not tell who is fresh of themselves.
            totals.values[Metric::UniqueViewers] = self.fresh(key);
            totals
        };
        keys.map(|key| (key, totals(key))).filter(|(_, totals)| !totals.is_zero()).collect()
    }
}

/// All changes, in order of the streams' places.
fn changes(streams: &mut Streams) -> Vec<(MinuteKey, Totals)> {
    let mut changes = Vec::new();
    streams.take_changes(|key, change| changes.push((key, change)));
    changes
}

/// All that is taken back.
fn close(streams: &mut Streams, first_open: Minute) -> Vec<(MinuteKey, Totals)> {
    let mut closed = Vec::new();
    streams.close(first_open, |key, change| closed.push((key, change)), None::<fn(StreamKey, Run, Past)>);
    closed
}

fn absorb(rows: &mut BTreeMap<MinuteKey, Totals>, changes: Vec<(MinuteKey, Totals)>) {
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
            streams.open(&[minute]);
            model.open.insert(minute);
            assert!(streams.is_open(minute));
            let stream = random(STREAMS);
            let key = (StreamKey(stream, stream), minute);
            let mut steps = Steps::default();
            let mut interval = |until, sign: i32| {
                steps.presence(whole(minute, until), sign);
                model.presences.push((key.0, minute, until, sign.into()));
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
            let counted =
                Counted { events: 1, chats, chatters: 2 * chats, amount: Cents(cents), donors: chats, ..Counted::default() };
            count(&mut streams, key, counted, &steps);
            let chats = i64::from(chats);
            let values = Values::of([
                (Metric::ChatMessages, chats),
                (Metric::UniqueChatters, 2 * chats),
                (Metric::DonationsUsd, cents),
                (Metric::Donors, chats),
            ]);
            model.counted.entry(key).or_default().plus_equals(&Totals { events: 1, values });
            if random(3) == 0 {
                absorb(&mut rows, changes(&mut streams));
                assert_eq!(rows, model.rows());
                let saved: Vec<_> = streams.shares(0..streams.places()).collect();
                assert_eq!(saved.iter().copied().collect::<BTreeMap<_, _>>(), rows);
                assert!(saved.len() == rows.len() && streams.steps(0..streams.places()).all(|(_, step)| !step.is_zero()));
            }
            if random(4) == 0 {
                absorb(&mut rows, changes(&mut streams));
                first_open += u32::try_from(random(4)).unwrap();
                absorb(&mut rows, close(&mut streams, Minute(first_open)));
                model.open.retain(|minute| minute.0 >= first_open);
                assert_eq!(rows, model.rows());
                assert_eq!(streams.open_windows(), model.open.len());
            }
        }
        absorb(&mut rows, changes(&mut streams));
        absorb(&mut rows, close(&mut streams, Minute(first_open + 100)));
        assert!(rows.is_empty() && streams.places.is_empty());
        assert_eq!(streams.free.len(), streams.places());
    }
}

fn count(streams: &mut Streams, (stream, minute): MinuteKey, counted: Counted, steps: &Steps) {
    let place = streams.place(stream);
    streams.count(place, minute, counted, steps);
}

/// Windows that come in order, backwards, or in none.
fn order(windows: u32, order: u32) -> Vec<Minute> {
    let mut random = super::super::dice();
    let mut minutes: Vec<Minute> = (0..windows).map(Minute).collect();
    match order {
        0 => {}
        1 => minutes.reverse(),
        _ => (1..minutes.len()).for_each(|at| minutes.swap(at, usize::try_from(random(at as u64)).unwrap())),
    }
    minutes
}

#[test]
fn a_window_costs_as_much_however_many_are_open_and_in_whatever_order_they_come() {
    let work = |windows, order_of, at_a_time| {
        let (mut streams, mut rows) = (Streams::default(), 0);
        WORK.set(0);
        for some in order(windows, order_of).chunks(at_a_time) {
            let mut opened = some.to_vec();
            opened.sort_unstable();
            streams.open(&opened);
            for &minute in some {
                let mut steps = Steps::default();
                if minute.0 % 10 == 0 {
                    steps.presence(whole(minute, Minute(minute.0 + 25)), 1);
                }
                count(&mut streams, (StreamKey(1, 1), minute), chat(1), &steps);
                // Here nobody is present most of the time.
                let mut steps = Steps::default();
                if minute.0 % 100 == 0 {
                    steps.presence(whole(minute, Minute(minute.0 + 5)), 1);
                }
                count(&mut streams, (StreamKey(2, 2), minute), chat(0), &steps);
            }
            streams.take_changes(|_, _| rows += 1);
        }
        assert!(rows >= 2 * windows);
        (0..windows).for_each(|minute| assert_eq!(close(&mut streams, Minute(minute + 1)).len(), 2));
        WORK.get() / windows as usize
    };
    for (of, at_a_time) in [(0, 1), (1, 1), (2, 1), (0, 60), (1, 60), (2, 60)] {
        let (few, many) = (work(1_000, of, at_a_time), work(16_000, of, at_a_time));
        assert!(many < 3 * few / 2 && many < 1_000, "order {of}, {at_a_time} at a time: {few}, then {many} steps a window");
    }
}

#[test]
fn a_stream_that_has_nobody_in_a_window_costs_nothing_when_it_opens() {
    let (mut streams, windows) = (Streams::default(), 3_000);
    for number in 0..u64::from(windows) {
        let mut steps = Steps::default();
        steps.presence(whole(Minute(windows), Minute(windows + 1)), 1);
        streams.open(&[Minute(windows)]);
        count(&mut streams, (StreamKey(number, number), Minute(windows)), chat(1), &steps);
    }
    changes(&mut streams);
    WORK.set(0);
    let minutes = order(windows, 0);
    streams.open(&minutes);
    minutes.iter().for_each(|&minute| count(&mut streams, (StreamKey(0, 0), minute), chat(1), &Steps::default()));
    assert_eq!(changes(&mut streams).len(), minutes.len());
    assert!(WORK.get() < 200 * minutes.len(), "{} windows and streams were looked at", WORK.get());
}

#[test]
fn what_several_saved_is_taken_up_by_one_as_its_sum() {
    let (one, two) = (StreamKey(1, 1), StreamKey(2, 2));
    let step = |viewers: i32, watched| Step { present: viewers, fresh: [viewers; 3], watched };
    let share = |viewers: i32| presence(0, step(viewers, 7 * i64::from(viewers)));
    let mut streams = Streams::default();
    streams.restore_open(Minute(2), vec![Minute(3), Minute(2)]);
    for (stream, viewers) in [(one, 2), (two, 1), (one, 3), (two, -1)] {
        streams.restore_share((stream, Minute(2)), share(viewers));
        streams.restore_step((stream, Minute(2)), step(viewers, 7 * i64::from(viewers)));
        streams.restore_step((stream, Minute(5)), step(-viewers, -60_000 * i64::from(viewers)));
    }
    assert_eq!(streams.shares(0..streams.places()).collect::<Vec<_>>(), [((one, Minute(2)), share(5))]);
    streams.open(&[Minute(4), Minute(5)]);
    let through = |viewers| presence(viewers, Step::default());
    assert_eq!(changes(&mut streams), [((one, Minute(4)), through(5))]);
    assert_eq!(close(&mut streams, Minute(9)), [((one, Minute(2)), share(-5)), ((one, Minute(4)), through(-5))]);
}

#[test]
fn memory_of_streams_that_are_gone_is_given_back() {
    let mut streams = Streams::default();
    streams.open(&[Minute(1)]);
    for number in 0..3 * FREE as u64 {
        count(&mut streams, (StreamKey(number, number), Minute(1)), chat(0), &Steps::default());
    }
    changes(&mut streams);
    streams.open(&[Minute(2)]);
    count(&mut streams, (StreamKey(7, 7), Minute(2)), chat(0), &Steps::default());
    changes(&mut streams);
    assert_eq!(close(&mut streams, Minute(2)).len(), 3 * FREE);
    assert_eq!((streams.places(), streams.free.len()), (1, 0));
    count(&mut streams, (StreamKey(7, 7), Minute(2)), chat(0), &Steps::default());
    assert_eq!(changes(&mut streams), [((StreamKey(7, 7), Minute(2)), Totals { events: 1, ..Totals::default() })]);
}
