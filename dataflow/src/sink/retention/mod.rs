//! What has become old enough to be dropped: minute rows, and dead letters.
//!
//! A commit that closes a minute brings a [`Sweep`]. The commit thread carries it out later, when no slice waits: each time a bounded
//! number of rows, in a transaction of its own that is a commit like any other, under the fence and with an epoch. The store remembers
//! what has gone, in `progress.minutes_from` and `progress_partitions.letters_from`, before it deletes anything.
//!
//! - A minute row goes if its window ended before the watermark by more than the retention. It is final then, and no run reads it again:
//!   hours and days are made from the log and from checkpoints, not from minute rows.
//! - Dead letters hold verdicts that a clock had a part in, and a resume reads these back. So letters go only below an entry of
//!   `progress_history` that lies before every place where a resume can begin. From that entry on `verify` can still recompute.
//!
//! No clock is read here: age is counted by the pipeline's watermark.

pub(super) mod postgres;
pub(super) mod sqlite;

use crate::checkpoint::history::{self, Entry};
use crate::checkpoint::manifest::ReadTo;
use serde::Deserialize;
use std::collections::BTreeMap;
use tidemark_model::{Grain, Micros, Minute};

/// Most rows of each table that one sweep deletes.
pub const MOST: i64 = 5_000;

/// How long rows are kept, in microseconds by the watermark. `None`: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Rows and totals of minutes, after the window's end.
    pub minutes: Option<i64>,
    /// Dead letters, after the record was read.
    pub dead_letters: Option<i64>,
}

impl Retention {
    /// Whether all is kept.
    pub fn is_off(self) -> bool {
        self == Retention::default()
    }
}

/// What may be dropped as of a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// How long rows are kept.
    pub retention: Retention,
    /// The pipeline's watermark.
    pub watermark: Micros,
    /// How long a viewer is present.
    pub viewer_timeout_nanos: i64,
    /// The first hour, and the first day, of which rows are kept.
    pub rolled_up: [Option<Minute>; Grain::ALL.len() - 1],
    /// Where the checkpoint begins that is being made, if there is one: a later commit may name it.
    pub pending: Option<BTreeMap<i32, ReadTo>>,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Minute rows and totals that it deleted.
    pub rows: u64,
    /// Dead letters that it deleted.
    pub letters: u64,
    /// There may be more.
    pub left: bool,
}

impl Sweep {
    /// The first minute whose rows stay.
    pub fn minutes_from(&self) -> Option<Minute> {
        let ended = self.watermark.0.saturating_sub(self.retention.minutes?);
        (ended > 0).then(|| Minute::first_open(Micros(ended)))
    }

    /// The first offset of each partition whose letters stay. `history` is from old to new, `checkpoints` as `progress` has them.
    pub fn letters_from(&self, history: &[Entry], checkpoints: &serde_json::Value) -> BTreeMap<i32, i64> {
        self.entry(history, checkpoints).map(offsets).unwrap_or_default()
    }

    /// The newest entry that is older than the retention and below which no resume begins.
    fn entry<'a>(&self, history: &'a [Entry], checkpoints: &serde_json::Value) -> Option<&'a Entry> {
        let read_by = self.watermark.0.saturating_sub(self.retention.dead_letters?);
        let old_enough = history::old_enough(Some(self.watermark), self.rolled_up, self.viewer_timeout_nanos, None);
        // One that cannot be read may be one that another program can.
        let checkpoints = Vec::<Begins>::deserialize(checkpoints).ok()?;
        let later_starts: Vec<_> = checkpoints.iter().map(|begins| &begins.partitions).chain(&self.pending).collect();
        let is_below_all = |at: usize| {
            let mut later = history[at + 1..].iter().map(|entry| &entry.partitions).chain(later_starts.iter().copied());
            later.all(|start| is_below(&history[at], start))
        };
        let is_old = |entry: &Entry| entry.watermark.0 <= read_by && entry.highest().is_none_or(|highest| highest <= old_enough);
        (0..history.len()).rev().find(|&at| is_old(&history[at]) && is_below_all(at)).map(|at| &history[at])
    }
}

/// Where a checkpoint begins.
#[derive(Deserialize)]
struct Begins {
    partitions: BTreeMap<i32, ReadTo>,
}

/// Whether a run that starts there reads nothing from before the entry.
fn is_below(entry: &Entry, start: &BTreeMap<i32, ReadTo>) -> bool {
    let before = |(partition, read_to): (&i32, &ReadTo)| {
        start.get(partition).is_some_and(|start| read_to.next_offset <= start.next_offset)
    };
    entry.partitions.iter().all(before)
}

fn offsets(entry: &Entry) -> BTreeMap<i32, i64> {
    entry.partitions.iter().map(|(&partition, read_to)| (partition, read_to.next_offset)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_model::Nanos;
    use tidemark_model::time::MINUTE_NANOS;

    const HOUR: i64 = 3_600_000_000;

    fn read_to(next_offset: i64, hour: i64) -> BTreeMap<i32, ReadTo> {
        BTreeMap::from([(0, ReadTo { next_offset, highest: Some(Nanos(hour * 60 * MINUTE_NANOS)) })])
    }

    /// Where the log stood at this hour.
    fn entry(hour: i64, next_offset: i64) -> Entry {
        Entry { watermark: Micros(hour * HOUR), partitions: read_to(next_offset, hour) }
    }

    /// At ten o'clock, of a pipeline of minutes only.
    fn sweep(minutes: Option<i64>, dead_letters: Option<i64>) -> Sweep {
        Sweep {
            retention: Retention {
                minutes: minutes.map(|hours| hours * HOUR),
                dead_letters: dead_letters.map(|hours| hours * HOUR),
            },
            watermark: Micros(10 * HOUR + 59_000_000),
            viewer_timeout_nanos: 60 * MINUTE_NANOS,
            rolled_up: [None; 2],
            pending: None,
        }
    }

    #[test]
    fn minutes_go_by_the_watermark_and_never_before_they_are_final() {
        assert_eq!(sweep(Some(3), None).minutes_from(), Some(Minute(7 * 60)));
        assert_eq!(sweep(Some(0), None).minutes_from(), Some(Minute(10 * 60)), "the present minute is not final");
        assert_eq!(sweep(Some(11), None).minutes_from(), None);
        assert_eq!(sweep(None, Some(1)).minutes_from(), None);
    }

    #[test]
    fn letters_go_below_all_from_which_a_resume_may_begin() {
        let history = [entry(5, 50), entry(6, 60), entry(7, 70), entry(8, 80), entry(9, 90), entry(10, 100)];
        let none = serde_json::json!([]);
        let from = |sweep: &Sweep, history: &[Entry], checkpoints: &serde_json::Value| {
            sweep.letters_from(history, checkpoints).get(&0).copied()
        };
        assert_eq!(from(&sweep(None, Some(3)), &history, &none), Some(70));
        assert_eq!(from(&sweep(None, Some(0)), &history, &none), Some(90), "viewers of later entries have not timed out");
        assert_eq!(from(&sweep(None, Some(9)), &history, &none), None, "no entry is that old");
        assert_eq!(from(&sweep(Some(0), None), &history, &none), None);
        let days = Sweep { rolled_up: [None, Some(Minute(0))], ..sweep(None, Some(0)) };
        assert_eq!(from(&days, &history, &none), None, "the day is not final, and all that was read matters to it");
        // A checkpoint, named or being made, and an entry from which a `recover` goes on.
        let named = serde_json::json!([{"partitions": read_to(95, 9)}, {"partitions": read_to(65, 9)}]);
        assert_eq!(from(&sweep(None, Some(0)), &history, &named), Some(60));
        let pending = Sweep { pending: Some(read_to(79, 9)), ..sweep(None, Some(0)) };
        assert_eq!(from(&pending, &history, &none), Some(70));
        let recovered = [&history[..5], &[entry(10, 55)]].concat();
        assert_eq!(from(&sweep(None, Some(0)), &recovered, &none), Some(50));
        // Nothing is known of these.
        assert_eq!(from(&sweep(None, Some(0)), &history, &serde_json::json!([{"version": 99}])), None);
        assert_eq!(from(&sweep(None, Some(0)), &history, &serde_json::Value::Null), None);
    }
}
