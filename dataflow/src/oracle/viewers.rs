//! Who is in one stream, minute by minute.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use tidemark_model::{Metric, Minute, Values};

/// Nanoseconds in a minute, and in a millisecond.
const MINUTE: i128 = 60_000_000_000;
const MILLISECOND: i128 = 1_000_000;

/// A user of a stream: a hash of the name.
pub(super) type User = u128;

/// A join or leave: who, when in nanoseconds, and whether it is a leave. In this order, for a leave is the later word of two at one instant.
pub(super) type Move = (User, i128, bool);

/// Who is present when a minute begins.
#[derive(Default)]
pub(super) struct Viewers {
    /// When each one's presence began, in nanoseconds.
    since: HashMap<User, i128>,
    /// When each one times out, in nanoseconds.
    ends: BTreeSet<(i128, User)>,
}

impl Viewers {
    pub(super) fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    pub(super) fn users(&self) -> impl Iterator<Item = User> {
        self.since.keys().copied()
    }

    /// Goes on to the end of the minute, in which these are all moves. Writes the metrics of viewers into `row`, and answers who was present
    /// of those that joined, left or timed out.
    ///
    /// `timeout` is in nanoseconds.
    pub(super) fn pass(&mut self, minute: Minute, mut moves: Vec<Move>, timeout: i128, row: &mut Values) -> Vec<User> {
        let from = i128::from(minute.0) * MINUTE;
        let until = from + MINUTE;
        moves.sort_unstable();
        let timed_out = self.ends.iter().take_while(|(end, _)| *end <= until).map(|&(_, user)| (user, Vec::new()));
        let mut moved: BTreeMap<User, Vec<(i128, bool)>> = timed_out.collect();
        for (user, at, leaves) in moves {
            moved.entry(user).or_default().push((at, leaves));
        }
        // Who neither moves nor times out is there from the minute's beginning to its end.
        let before: Vec<Option<i128>> = moved.keys().map(|&user| self.remove(user, timeout)).collect();
        let wholly = i64::try_from(self.since.len()).expect("fewer than 2^63 viewers");
        let (mut unique, mut active, mut watched, mut seen) =
            (wholly, wholly, i128::from(wholly) * MINUTE / MILLISECOND, Vec::new());
        for ((user, moves), mut since) in moved.into_iter().zip(before) {
            let mut presences = Vec::new();
            for (at, leaves) in moves {
                presences.extend(since.map(|since| (since, at.min(since + timeout))));
                since = (!leaves).then_some(at);
            }
            presences.extend(since.map(|since| (since, since + timeout)));
            presences.retain(|(start, end)| start < end && *end > from);
            if presences.is_empty() {
                continue;
            }
            unique += 1;
            seen.push(user);
            for &(start, end) in &presences {
                watched += end.min(until) / MILLISECOND - start.max(from) / MILLISECOND;
                // The instant that counts is the minute's last nanosecond.
                active += i64::from(end >= until);
            }
            if let Some(&(start, end)) = presences.last().filter(|(_, end)| *end > until) {
                self.since.insert(user, start);
                self.ends.insert((end, user));
            }
        }
        row[Metric::UniqueViewers] = unique;
        row[Metric::ActiveViewers] = active;
        row[Metric::WatchMs] = i64::try_from(watched).expect("a minute's milliseconds fit 64 bits");
        seen
    }

    fn remove(&mut self, user: User, timeout: i128) -> Option<i128> {
        let since = self.since.remove(&user)?;
        self.ends.remove(&(since + timeout, user));
        Some(since)
    }
}
