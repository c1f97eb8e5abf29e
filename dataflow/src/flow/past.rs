//! What closed minutes give to the hours and days that are made of them.

use super::Totals;
use differential_dataflow::difference::Semigroup;
use serde::{Deserialize, Serialize};
use tidemark_model::{Grain, Metric, Minute};

/// Closed minutes that follow each other: one with events, or several without. Those without lie in one hour, or are whole hours of one
/// day. Days without events have no run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run {
    /// The first of them.
    pub first: Minute,
    /// The one after the last.
    pub end: Minute,
}

/// Metrics that count each user of a window once.
pub const OF_USERS: [Metric; 3] = [Metric::UniqueViewers, Metric::UniqueChatters, Metric::Donors];

/// What a worker's viewers and users make of a run's minutes of a stream. The shares of all workers add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Past {
    /// Viewers who are present just before the run.
    pub before: i64,
    /// Those at the end of its first minute. Nobody comes in minutes that no event touched, so there are never more at the end of another.
    pub most: i64,
    /// Its totals as if it were one window, but for the metrics of users.
    pub totals: Totals,
    /// Users who count in these minutes and not before in the hour and in the day: of each by [`OF_USERS`]. Viewers who were present just
    /// before the hour or the day are not among them.
    pub firsts: [[i64; OF_USERS.len()]; Grain::ALL.len() - 1],
}

impl Past {
    /// Whether it says nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Past::default()
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &Past) {
        self.before += other.before;
        self.most += other.most;
        self.totals.plus_equals(&other.totals);
        for (firsts, others) in self.firsts.iter_mut().zip(other.firsts) {
            firsts.iter_mut().zip(others).for_each(|(first, other)| *first += other);
        }
    }
}

impl Run {
    /// The runs of `[from, until)`, of which these minutes were open.
    pub fn of(from: Minute, until: Minute, open: &[Minute]) -> Vec<Run> {
        let (mut runs, mut next) = (Vec::new(), from);
        for &minute in open {
            Run::untouched(next, minute, &mut runs);
            next = Minute(minute.0 + 1);
            runs.push(Run { first: minute, end: next });
        }
        Run::untouched(next, until, &mut runs);
        runs
    }

    /// Those of minutes that no event touched: the rest of the first hour, the rest of the first day, the hours of the last day, and the
    /// minutes of the last hour.
    fn untouched(from: Minute, until: Minute, runs: &mut Vec<Run>) {
        let ends = |grain: Grain| grain.end_of(grain.window_of(from));
        let begins = |grain: Grain| grain.window_of(until);
        let day_ends = ends(Grain::Day).min(until);
        let last_day_begins = begins(Grain::Day).max(day_ends);
        let last_hour_begins = begins(Grain::Hour).max(from);
        let first_hour_ends = ends(Grain::Hour).min(until);
        let pieces = [
            (from, first_hour_ends),
            (first_hour_ends, day_ends.min(last_hour_begins.max(first_hour_ends))),
            (last_day_begins, last_hour_begins),
            (last_hour_begins.max(first_hour_ends), until),
        ];
        runs.extend(pieces.into_iter().filter(|(first, end)| first < end).map(|(first, end)| Run { first, end }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_in_order_and_have_all_minutes_but_those_of_days_that_nothing_touched() {
        let mut random = crate::fold::dice();
        for _ in 0..3_000 {
            let from = u32::try_from(random(4_000)).unwrap();
            let most = [3, 100, 3_000, 9_000][random(4) as usize];
            let until = from + u32::try_from(random(most)).unwrap();
            let mut open: Vec<Minute> =
                (0..random(4)).map(|_| Minute(from + random(u64::from(until - from) + 1) as u32)).collect();
            open.retain(|minute| minute.0 < until);
            open.sort_unstable();
            open.dedup();
            let runs = Run::of(Minute(from), Minute(until), &open);
            assert!(runs.iter().all(|run| run.first < run.end) && runs.is_sorted_by(|one, other| one.end <= other.first));
            // The days of open minutes, and those in which what nothing touched begins or ends.
            let ends = open.iter().flat_map(|minute| [*minute, Minute(minute.0 + 1)]);
            let days: Vec<_> = ends.chain([Minute(from), Minute(until)]).map(|minute| Grain::Day.window_of(minute)).collect();
            let expected = (from..until).map(Minute).filter(|&minute| days.contains(&Grain::Day.window_of(minute)));
            assert!(runs.iter().flat_map(|run| run.first.0..run.end.0).map(Minute).eq(expected), "{from} {until} {open:?}");
            for run in runs.iter().filter(|run| !open.contains(&run.first)) {
                let last = Minute(run.end.0 - 1);
                let same = |grain: Grain| grain.window_of(run.first) == grain.window_of(last);
                let whole = |at: Minute| Grain::Hour.window_of(at) == at;
                assert!(same(Grain::Hour) || (same(Grain::Day) && whole(run.first) && whole(run.end)), "{run:?}");
            }
        }
    }
}
