//! Presence and totals of each (minute, stream).

use super::decode::Event;
use std::collections::BTreeMap;
use tidemark_model::{Kind, Metric, Minute, Values};

/// The rows of the counted events: one for each minute of a stream in which at least one of them falls.
///
/// `viewer_timeout` is in microseconds.
pub(super) fn rows(counted: &[&Event], viewer_timeout: i64) -> BTreeMap<(Minute, String), Values> {
    let mut streams: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in counted {
        streams.entry(&event.stream).or_default().push(event);
    }
    let mut rows = BTreeMap::new();
    for (stream, events) in streams {
        let presences = Presences::of(&events, viewer_timeout);
        for (minute, mut row) in totals(&events) {
            row[Metric::ActiveViewers] = presences.at(i128::from(minute.last_nanosecond().0));
            rows.insert((minute, stream.to_owned()), row);
        }
    }
    rows
}

/// Rows of one stream without their viewers.
fn totals(events: &[&Event]) -> BTreeMap<Minute, Values> {
    let mut totals: BTreeMap<Minute, Values> = BTreeMap::new();
    for event in events {
        let row = totals.entry(Minute::of(event.ts)).or_default();
        row[Metric::ChatMessages] += i64::from(event.kind == Kind::ChatMessage);
        let donations = row[Metric::DonationsUsd].checked_add(event.amount.0);
        // One amount is at most 10^11 cents: it takes more than 9 × 10^7 of the largest in one window to get here.
        row[Metric::DonationsUsd] = donations.expect("a minute's donations fit 64 bits");
    }
    totals
}

/// The intervals `[start, end)` in which the viewers of one stream are present, in nanoseconds since 1970.
///
/// Who is present at t has come at or before t and not gone at or before t, so two sorted lists answer for all.
struct Presences {
    starts: Vec<i128>,
    ends: Vec<i128>,
}

impl Presences {
    fn of(events: &[&Event], viewer_timeout: i64) -> Presences {
        let mut moves_by_user: BTreeMap<&str, Vec<(i128, bool)>> = BTreeMap::new();
        for event in events {
            let leaves = match event.kind {
                Kind::ViewerJoin => false,
                Kind::ViewerLeave => true,
                _ => continue,
            };
            let user = event.user.as_deref().expect("joins and leaves have a user");
            moves_by_user.entry(user).or_default().push((i128::from(event.ts.0), leaves));
        }
        let mut presences = Presences { starts: Vec::new(), ends: Vec::new() };
        for mut moves in moves_by_user.into_values() {
            // A leave sorts behind a join of the same instant, and so is the later word.
            moves.sort_unstable();
            for (index, &(start, leaves)) in moves.iter().enumerate() {
                if leaves {
                    continue;
                }
                let timeout = start + i128::from(viewer_timeout) * 1_000;
                let end = moves.get(index + 1).map_or(timeout, |&(next, _)| next.min(timeout));
                presences.starts.push(start);
                presences.ends.push(end);
            }
        }
        presences.starts.sort_unstable();
        presences.ends.sort_unstable();
        presences
    }

    fn at(&self, t: i128) -> i64 {
        let come = self.starts.partition_point(|&start| start <= t);
        let gone = self.ends.partition_point(|&end| end <= t);
        i64::try_from(come - gone).expect("fewer than 2^63 viewers")
    }
}
