//! How much further back the log reaches than a run without a checkpoint needs.
//!
//! Retention removes the log's beginning, and [`super::history`] says from where a run without a checkpoint reads. Both move on. The
//! distance between them, in event time, is what an operator has left before lost checkpoints cannot be made good from the log.

use super::history::Entry;
use std::collections::{BTreeMap, VecDeque};
use tidemark_model::{Micros, Nanos};

/// In microseconds.
const HOUR: i64 = 3_600_000_000;
/// Most entries. Beyond that all but the oldest and these newest are forgotten.
const MOST: usize = 1_000;

/// The history, as far as it matters here: the first entry of each hour, and the one that a run began with. So what is said is true to within
/// an hour.
#[derive(Debug, Default)]
pub struct Reach {
    /// First offset that was ever read of each partition.
    starts: BTreeMap<i32, i64>,
    /// Of the oldest record of each partition that the log still has.
    low: BTreeMap<i32, i64>,
    entries: VecDeque<Entry>,
    /// What was said is true no longer.
    moved: bool,
}

impl Reach {
    /// Of a pipeline with this history, from old to new.
    pub fn new(history: Vec<Entry>) -> Reach {
        let mut reach = Reach::default();
        let last = history.last().cloned();
        history.into_iter().for_each(|entry| reach.push(entry));
        // It may be that of a `recover`, from which everything begins, perhaps with less than had been read before.
        if let Some(last) = last {
            while reach.entries.back().is_some_and(|entry| entry.highest() > last.highest() || *entry == last) {
                reach.entries.pop_back();
            }
            reach.entries.push_back(last);
        }
        reach
    }

    /// The log of a partition begins here now.
    pub fn partition(&mut self, partition: i32, start_offset: i64, low_offset: i64) {
        self.starts.insert(partition, start_offset);
        self.moved |= self.low.insert(partition, low_offset) != Some(low_offset);
    }

    /// An entry is stored.
    pub fn push(&mut self, entry: Entry) {
        self.moved = true;
        let hour = |entry: &Entry| entry.watermark.0.div_euclid(HOUR);
        if self.entries.back().is_none_or(|last| hour(last) < hour(&entry)) {
            self.entries.push_back(entry);
        }
        if self.entries.len() > MOST {
            self.entries.remove(1);
        }
    }

    /// If that has changed, how much further back than needed the log reaches by this watermark, in microseconds of event time. Negative: it
    /// does not reach so far. None: nothing has expired.
    pub fn news(&mut self, now: Micros, old_enough: Nanos) -> Option<Option<i64>> {
        std::mem::take(&mut self.moved).then(|| self.reach(now, old_enough))
    }

    fn reach(&mut self, now: Micros, old_enough: Nanos) -> Option<i64> {
        let low = |partition: &i32| self.low.get(partition).copied().unwrap_or(0);
        if self.starts.iter().all(|(partition, &start)| start >= low(partition)) {
            return None;
        }
        let is_old_enough = |entry: &Entry| entry.highest().is_none_or(|highest| highest <= old_enough);
        // A partition that an entry lacks was found later.
        let is_there = |entry: &Entry| {
            let from = |partition, start| entry.partitions.get(partition).map_or(start, |read_to| read_to.next_offset);
            self.starts.iter().all(|(partition, &start)| from(partition, start) >= low(partition))
        };
        let (needed, there) =
            (self.entries.partition_point(is_old_enough), self.entries.partition_point(|entry| !is_there(entry)));
        let at = |index: usize| self.entries.get(index).map_or(now, |entry| entry.watermark);
        // Before all entries is the start, which is not there.
        let needed_at = if needed == 0 { Micros(at(0).0.saturating_sub(HOUR)) } else { at(needed - 1) };
        let reach = needed_at.0.saturating_sub(at(there).0);
        // What is older than both is not asked for again.
        self.entries.drain(..needed.saturating_sub(1).min(there));
        Some(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::manifest::ReadTo;

    /// Where the log stood at this hour and minute: an event a minute, each a record.
    fn entry(hour: i64, minute: i64) -> Entry {
        let minutes = hour * 60 + minute;
        let read_to = ReadTo { next_offset: minutes, highest: Some(Nanos(minutes * 60_000_000_000)) };
        Entry { watermark: Micros(minutes * 60_000_000), partitions: BTreeMap::from([(0, read_to)]) }
    }

    #[test]
    fn the_distance_from_what_is_there_to_what_is_needed_is_told_in_hours() {
        let mut reach = Reach::new((0..10).flat_map(|hour| [entry(hour, 0), entry(hour, 30)]).collect());
        reach.partition(0, 0, 0);
        // What is older than five hours does not matter any more.
        let mut after = |hour: i64, low: i64| {
            reach.partition(0, 0, low);
            reach.push(entry(hour, 0));
            let reached = reach.news(entry(hour, 0).watermark, Nanos((hour - 5) * 3_600_000_000_000)).expect("news");
            (reached.map(|micros| micros / HOUR), reach.entries.len())
        };
        assert_eq!(after(10, 0), (None, 12), "nothing has expired");
        assert_eq!(after(11, 2 * 60), (Some(4), 11), "from 2 on it is there, and 6 is needed");
        assert_eq!(after(12, 7 * 60), (Some(0), 7));
        assert_eq!(after(13, 9 * 60 + 31), (Some(-2), 7), "8 is needed, and 10 is there");
        assert_eq!(after(14, 14 * 60 + 1), (Some(-5), 7), "nothing is there");
        assert_eq!(after(15, 14 * 60 + 1), (Some(-5), 6));
        assert_eq!(after(20, 14 * 60 + 1), (Some(0), 2), "the pipeline stood still for a while");
        assert_eq!(reach.news(Micros(20 * HOUR), Nanos(0)), None);
        // The log expires while the watermark stands still.
        reach.partition(0, 0, 21 * 60);
        assert_eq!(reach.news(Micros(20 * HOUR), Nanos(15 * 3_600_000_000_000)), Some(Some(-5 * HOUR)));
    }

    #[test]
    fn a_young_pipeline_whose_start_has_expired_lacks_it() {
        let mut reach = Reach::new(Vec::new());
        reach.partition(0, 0, 1);
        let needs_the_start = Nanos(-1);
        for hour in 3..5 {
            reach.push(entry(hour, 0));
            assert_eq!(reach.news(Micros(hour * HOUR), needs_the_start), Some(Some(-HOUR)));
        }
        // A partition that was found later, and whose beginning has expired.
        let mut reach = Reach::new(vec![entry(1, 0), entry(2, 0)]);
        reach.partition(0, 0, 0);
        reach.partition(1, 0, 1);
        assert_eq!(reach.news(Micros(3 * HOUR), Nanos(3_600_000_000_000)), Some(Some(-2 * HOUR)));
    }

    #[test]
    fn entries_are_bounded_and_that_of_a_recover_stays() {
        let mut reach = Reach::new(vec![entry(1, 0), entry(1, 30)]);
        assert_eq!(reach.entries, [entry(1, 0), entry(1, 30)]);
        for hour in 2..2_000 {
            reach.push(entry(hour, 0));
        }
        assert_eq!((reach.entries.len(), &reach.entries[0]), (MOST, &entry(1, 0)));
    }
}
