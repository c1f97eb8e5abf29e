//! Random events on several workers, against the definition.

use super::*;
use crate::flow::{Admitted, Watermark};
use crate::fold::{Fold, dice};
use crate::keys::{EventKey, ViewerKey};
use crate::telemetry::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use tidemark_model::time::MINUTE_NANOS;
use tidemark_model::{Cents, Kind, Nanos, Values};

const WORKERS: usize = 2;

/// All events of a run, none of them a copy of another.
struct Model {
    timeout: i64,
    events: Vec<(u64, u64, Kind, Nanos, i64)>,
}

impl Model {
    fn is_present(&self, stream: u64, user: u64, at: i64) -> bool {
        let moves = self.events.iter().filter(|(of, by, kind, ts, _)| {
            (*of, *by) == (stream, user) && ts.0 <= at && matches!(kind, Kind::ViewerJoin | Kind::ViewerLeave)
        });
        let last = moves.max_by_key(|(_, _, kind, ts, _)| (*ts, *kind == Kind::ViewerLeave));
        last.is_some_and(|(_, _, kind, ts, _)| *kind == Kind::ViewerJoin && at - ts.0 < self.timeout)
    }

    /// Instants between which presence is the same.
    fn instants(&self, stream: u64, from: i64, until: i64) -> BTreeSet<i64> {
        let of = self.events.iter().filter(|event| event.0 == stream);
        let all = of.flat_map(|(.., ts, _)| [ts.0, ts.0.saturating_add(self.timeout)]).chain([from, until]);
        all.filter(|at| (from..=until).contains(at)).collect()
    }

    fn row(&self, streams: &[u64], window: Minute, closed: Minute) -> Totals {
        let nanos = |minute: Minute| i64::from(minute.0) * MINUTE_NANOS;
        let (from, until) = (nanos(window), nanos(closed));
        let mut rolled = Totals::default();
        for &stream in streams {
            let within = || self.events.iter().filter(|(of, .., ts, _)| *of == stream && (from..until).contains(&ts.0));
            let of = |kind: Kind| within().filter(move |event| event.2 == kind);
            let users = |kind: Kind| count(of(kind).map(|event| event.1).collect::<BTreeSet<_>>().len());
            let values = [
                (Metric::ChatMessages, count(of(Kind::ChatMessage).count())),
                (Metric::UniqueChatters, users(Kind::ChatMessage)),
                (Metric::Donations, count(of(Kind::Donation).count())),
                (Metric::DonationsUsd, of(Kind::Donation).map(|event| event.4).sum()),
                (Metric::Donors, users(Kind::Donation)),
            ];
            rolled.plus_equals(&Totals { events: count(within().count()), values: Values::of(values) });
            let instants: Vec<i64> = self.instants(stream, from, until).into_iter().collect();
            for user in 0..USERS {
                let there: Vec<_> = instants.windows(2).filter(|of| self.is_present(stream, user, of[0])).collect();
                rolled.values[Metric::UniqueViewers] += i64::from(!there.is_empty());
                rolled.values[Metric::WatchMs] += there.iter().map(|of| of[1] / 1_000_000 - of[0] / 1_000_000).sum::<i64>();
                rolled.values[Metric::ActiveViewers] += i64::from(self.is_present(stream, user, until - 1));
            }
        }
        let at_end = |minute: u32| {
            let at = nanos(Minute(minute + 1)) - 1;
            let users = |&stream: &u64| (0..USERS).filter(|&user| self.is_present(stream, user, at)).count();
            count(streams.iter().map(users).sum())
        };
        rolled.values[Metric::PeakViewers] = (window.0..closed.0).map(at_end).max().unwrap_or(0);
        rolled
    }
}

fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap()
}

const STREAMS: u64 = 2;
const USERS: u64 = 4;

#[test]
fn rows_are_what_the_definition_says_of_closed_minutes() {
    let mut random = dice();
    let mut rows_seen = 0;
    for round in 0..150 {
        let timeout = [3, 70, 2_000][round % 3] * MINUTE_NANOS;
        let mut model = Model { timeout, events: Vec::new() };
        let mut folds: Vec<Fold> =
            (0..WORKERS).map(|worker| Fold::new(timeout, &Grain::ALL, Metrics::new().0.of_worker(worker))).collect();
        let mut rollups: Vec<RollUps> = (0..WORKERS).map(|_| RollUps::new(&Grain::ALL, [Some(Minute(0)); 2])).collect();
        // Before midnight.
        let mut first_open = 3 * 1_440 - 20 + u32::try_from(random(25)).unwrap();
        let mut rows: BTreeMap<RowKey, Totals> = BTreeMap::new();
        let mut number = 0;
        for _ in 0..random(30) {
            let mut opened = BTreeSet::new();
            let mut events = Vec::new();
            for _ in 0..random(5) {
                let minute = first_open + u32::try_from(random(9)).unwrap();
                let offset = [0, 1, 999_999, MINUTE_NANOS / 2, MINUTE_NANOS - 1][random(5) as usize];
                let kind = [Kind::ViewerJoin, Kind::ViewerJoin, Kind::ViewerLeave, Kind::ChatMessage, Kind::Donation]
                    [random(5) as usize];
                let (stream, user, ts) = (1 + random(STREAMS), random(USERS), Nanos(i64::from(minute) * MINUTE_NANOS + offset));
                let cents = if kind == Kind::Donation { random(500).cast_signed() } else { 0 };
                model.events.push((stream, user, kind, ts, cents));
                opened.insert(Minute(minute));
                number += 1;
                events.push(Admitted {
                    viewer: ViewerKey::in_range((user * 200 % 256) as usize, stream * 16 + user),
                    by_user: true,
                    stream: StreamKey(stream, stream),
                    id: (random(2) == 0).then_some(EventKey(number, number)),
                    ts,
                    amount: Cents(cents),
                    kind,
                });
            }
            // Mostly a little, now and then over hours or days without events.
            let most = [3, 3, 3, 3, 90, 4_000][random(6) as usize];
            first_open += u32::try_from(random(most)).unwrap();
            let mut closed: Vec<Vec<(StreamKey, Run, Past)>> = vec![Vec::new(); WORKERS];
            for (worker, fold) in folds.iter_mut().enumerate() {
                fold.open(vec![Watermark {
                    clock: None,
                    at: Some(Minute(first_open).start()),
                    opened: opened.iter().copied().collect(),
                    live: true,
                    alignment: None,
                    checkpoint: None,
                    ended: false,
                }]);
                let mine: Vec<Admitted> =
                    events.iter().filter(|event| crate::keys::owner(event.viewer.range(), WORKERS) == worker).copied().collect();
                fold.fold(&mine);
                fold.changes(|_, _| ());
                let mut past = |stream: StreamKey, run, past| closed[(stream.0 % 2) as usize].push((stream, run, past));
                fold.close(|_, _| (), &mut past);
                while random(2) == 0 && fold.tidy() {}
            }
            let mut absorb = |key, change: Totals| {
                let row = rows.entry(key).or_default();
                row.plus_equals(&change);
            };
            for (owner, closed) in rollups.iter_mut().zip(closed) {
                owner.take(closed, &mut absorb);
            }
            // All windows in which a minute has closed, as far as there is a row.
            let mut expected = BTreeMap::new();
            for grain in [Grain::Hour, Grain::Day] {
                let windows: BTreeSet<Minute> = model.events.iter().map(|event| grain.window_of(Minute::of(event.3))).collect();
                for window in windows {
                    let until = grain.end_of(window).min(Minute(first_open));
                    for streams in [&[1][..], &[2], &[1, 2]] {
                        let stream = if streams.len() > 1 { StreamKey::ALL } else { StreamKey(streams[0], streams[0]) };
                        let row = model.row(streams, window, until.max(window));
                        if row.events > 0 {
                            expected.insert((stream, Window { grain, first: window }), row);
                        }
                    }
                }
            }
            assert_eq!(rows, expected, "{:?}", model.events);
            rows_seen += rows.len();
            let mut taken_back = BTreeMap::new();
            rollups.iter_mut().for_each(|owner| {
                owner.close(Minute(first_open), |key, change| {
                    taken_back.insert(key, change);
                })
            });
            for (key, mut change) in taken_back {
                change.negate();
                assert!(key.1.end_minute() <= Minute(first_open) && rows[&key] == change);
            }
        }
    }
    assert!(rows_seen > 5_000, "{rows_seen}");
}
