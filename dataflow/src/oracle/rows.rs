//! The metrics of each (minute, stream).

use super::decode::Event;
use std::collections::{BTreeMap, BTreeSet};
use tidemark_model::{Kind, Metric, Minute, Values};

/// Nanoseconds in a minute, and in a millisecond.
pub(super) const MINUTE: i128 = 60_000_000_000;
pub(super) const MILLISECOND: i128 = 1_000_000;

/// By minute and stream.
type Rows = BTreeMap<(Minute, String), Values>;
/// By minute: how many streams have a row, and the metrics of all streams together.
type Totals = BTreeMap<Minute, (i64, Values)>;

/// The rows of the counted events: one for each minute of a stream in which at least one of them falls.
///
/// `viewer_timeout` is in microseconds.
///
/// With them the totals of each minute that has a row.
pub(super) fn rows(counted: &[&Event], viewer_timeout: i64) -> (Rows, Totals) {
    let mut streams: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in counted {
        streams.entry(&event.stream).or_default().push(event);
    }
    let minutes: BTreeSet<Minute> = counted.iter().map(|event| Minute::of(event.ts)).collect();
    let (mut rows, mut all) = (Rows::new(), Totals::new());
    for (stream, events) in streams {
        let presence = Presence::of(&events, viewer_timeout);
        let totals = totals(&events);
        // Before and after these minutes there is nothing of the stream.
        let first = *totals.keys().next().expect("a stream has an event");
        let last = totals.keys().next_back().map_or(0, |minute| i128::from(minute.0)).max(presence.last_minute());
        for &minute in minutes.range(first..).take_while(|minute| i128::from(minute.0) <= last) {
            let counted = totals.get(&minute);
            let mut row = counted.copied().unwrap_or_default();
            presence.tell(minute, &mut row);
            let (streams, sums) = all.entry(minute).or_default();
            for (sum, value) in sums.0.iter_mut().zip(row.0) {
                *sum = sum.checked_add(value).expect("the totals of a minute fit 64 bits");
            }
            if counted.is_some() {
                *streams += 1;
                rows.insert((minute, stream.to_owned()), row);
            }
        }
    }
    (rows, all)
}

/// Rows of one stream without what presence makes of them.
fn totals(events: &[&Event]) -> BTreeMap<Minute, Values> {
    let mut totals: BTreeMap<Minute, (Values, Users)> = BTreeMap::new();
    for event in events {
        let (row, users) = totals.entry(Minute::of(event.ts)).or_default();
        count(event, row, users);
    }
    totals.into_iter().map(|(minute, (row, _))| (minute, row)).collect()
}

/// Who counts already in a window, of which metric.
pub(super) type Users<'a> = BTreeSet<(Metric, &'a str)>;

/// What an event adds to its window, beside what presence makes of it.
pub(super) fn count<'a>(event: &'a Event, row: &mut Values, users: &mut Users<'a>) {
    let (all, distinct) = match event.kind {
        Kind::ChatMessage => (Metric::ChatMessages, Metric::UniqueChatters),
        Kind::Donation => (Metric::Donations, Metric::Donors),
        _ => return,
    };
    row[all] += 1;
    row[distinct] += i64::from(event.user.as_deref().is_some_and(|user| users.insert((all, user))));
    // One amount is at most 10^11 cents: it takes more than 9 × 10^7 of the largest in one window to get here.
    let donations = row[Metric::DonationsUsd].checked_add(event.amount.0);
    row[Metric::DonationsUsd] = donations.expect("the donations of a window fit 64 bits");
}

/// Who is present in one stream: a user and `[start, end)`, in nanoseconds.
pub(super) fn presences<'a>(events: &[&'a Event], viewer_timeout: i64) -> Vec<(&'a str, i128, i128)> {
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
    let mut presences = Vec::new();
    for (user, mut moves) in moves_by_user {
        // A leave sorts behind a join of the same instant, and so is the later word.
        moves.sort_unstable();
        for (index, &(start, leaves)) in moves.iter().enumerate() {
            let timeout = start + i128::from(viewer_timeout) * 1_000;
            let end = moves.get(index + 1).map_or(timeout, |&(next, _)| next.min(timeout));
            if !leaves && start < end {
                presences.push((user, start, end));
            }
        }
    }
    presences
}

/// Who is present in one stream, and for how long, minute by minute.
#[derive(Default)]
struct Presence {
    /// Of each minute in which a presence begins or ends: who is there at any instant of it, and the milliseconds of those presences.
    at_an_end: BTreeMap<i128, (BTreeSet<String>, i128)>,
    /// Presences that a minute is wholly within: the count from this minute on, up to the next one that is told.
    wholly: BTreeMap<i128, i64>,
    /// The instants at which presences begin, and those at which they end, in order.
    starts: Vec<i128>,
    ends: Vec<i128>,
}

impl Presence {
    fn of(events: &[&Event], viewer_timeout: i64) -> Presence {
        let mut presence = Presence::default();
        presences(events, viewer_timeout).into_iter().for_each(|(user, start, end)| presence.add(user, start, end));
        // So far it was how many more than of the minute before.
        presence.wholly.values_mut().fold(0, |before, count| {
            *count += before;
            *count
        });
        presence.starts.sort_unstable();
        presence.ends.sort_unstable();
        presence
    }

    /// A user is present in `[start, end)`.
    fn add(&mut self, user: &str, start: i128, end: i128) {
        self.starts.push(start);
        self.ends.push(end);
        let (first, last) = (start / MINUTE, (end - 1) / MINUTE);
        for minute in BTreeSet::from([first, last]) {
            let (from, until) = (start.max(minute * MINUTE), end.min((minute + 1) * MINUTE));
            let (users, watched) = self.at_an_end.entry(minute).or_default();
            users.insert(user.to_owned());
            *watched += until / MILLISECOND - from / MILLISECOND;
        }
        if first + 1 < last {
            *self.wholly.entry(first + 1).or_default() += 1;
            *self.wholly.entry(last).or_default() -= 1;
        }
    }

    /// The last minute in which somebody is there.
    fn last_minute(&self) -> i128 {
        self.at_an_end.keys().next_back().copied().unwrap_or(0)
    }

    fn tell(&self, minute: Minute, row: &mut Values) {
        let count = |count: usize| i64::try_from(count).expect("fewer than 2^63 viewers");
        // Who is present at t has come at or before t and not gone at or before t, so two sorted lists answer for all.
        let t = i128::from(minute.last_nanosecond().0);
        let come = self.starts.partition_point(|&start| start <= t);
        let gone = self.ends.partition_point(|&end| end <= t);
        row[Metric::ActiveViewers] = count(come) - count(gone);
        // Nobody who is wholly there begins or ends a presence in the minute.
        let wholly = self.wholly.range(..=i128::from(minute.0)).next_back().map_or(0, |(_, count)| *count);
        let (users, watched) = self.at_an_end.get(&i128::from(minute.0)).map_or((0, 0), |(users, ms)| (users.len(), *ms));
        row[Metric::UniqueViewers] = wholly + count(users);
        row[Metric::WatchMs] = wholly * 60_000 + i64::try_from(watched).expect("a minute's milliseconds fit 64 bits");
    }
}
