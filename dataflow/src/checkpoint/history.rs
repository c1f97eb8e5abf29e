//! Where the log stood, minute by minute: what a run goes on from when no checkpoint can be used.
//!
//! A commit that closes a minute stores an [`Entry`]. An entry is *old enough* when no record below its offsets matters any more to what
//! is not final: none of them lies in a window that is not final, and every viewer who joined in them has timed out before the first such
//! window begins. A run that starts at its offsets with empty state then makes the same rows as one that has read the whole log, but for
//! final rows, and those are not written again. The newest entry that is old enough is kept, and all newer ones. Of older ones the first of
//! each hour is kept for 8 days and the first of each day for 400: `verify` and `rebuild` recompute from them.

use super::manifest::ReadTo;
use std::collections::BTreeMap;
use tidemark_model::time::MINUTE_NANOS;
use tidemark_model::{Grain, Micros, Minute, Nanos};

/// Where the log stood as of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The pipeline's watermark.
    pub watermark: Micros,
    /// Every partition.
    pub partitions: BTreeMap<i32, ReadTo>,
}

impl Entry {
    /// The highest event time below its offsets; none if there was no event.
    pub fn highest(&self) -> Option<Nanos> {
        self.partitions.values().filter_map(|read_to| read_to.highest).max()
    }

    fn checksum(&self, hash_key: [u8; 16]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&hash_key);
        hasher.update(&self.watermark.0.to_le_bytes());
        for (partition, read_to) in &self.partitions {
            hasher.update(&partition.to_le_bytes());
            hasher.update(&read_to.next_offset.to_le_bytes());
            hasher.update(&read_to.highest.map_or(i64::MIN, |highest| highest.0).to_le_bytes());
        }
        hasher.finalize()
    }
}

/// An entry as `progress_history` has it.
#[derive(Clone, Debug)]
pub struct StoredEntry {
    /// The pipeline's watermark.
    pub watermark: Micros,
    /// The highest event time of all partitions, in nanoseconds.
    pub highest: Option<i64>,
    /// The partitions, in JSON.
    pub partitions: String,
    /// CRC-32 (IEEE) of the pipeline's hash key, the watermark and the partitions. It reveals an edited row, and one that is left from before
    /// the pipeline was created anew or rebuilt.
    pub checksum: i64,
}

impl StoredEntry {
    /// An entry of the pipeline with this hash key.
    pub fn new(entry: &Entry, hash_key: [u8; 16]) -> StoredEntry {
        StoredEntry {
            watermark: entry.watermark,
            highest: entry.highest().map(|highest| highest.0),
            partitions: serde_json::to_string(&entry.partitions).expect("plain data"),
            checksum: entry.checksum(hash_key).into(),
        }
    }

    /// The entry, if it is as it was written, and by the pipeline with this hash key and these partitions (of each its first and its next
    /// offset).
    pub fn entry(self, hash_key: [u8; 16], partitions: &BTreeMap<i32, (i64, i64)>) -> Option<Entry> {
        let StoredEntry { watermark, highest, .. } = self;
        let entry = serde_json::from_str(&self.partitions).ok().map(|partitions| Entry { watermark, partitions })?;
        let as_written =
            i64::from(entry.checksum(hash_key)) == self.checksum && entry.highest().map(|highest| highest.0) == highest;
        let is_ahead = |(partition, read_to): (&i32, &ReadTo)| {
            read_to.next_offset > partitions.get(partition).map_or(0, |&(_, next_offset)| next_offset)
        };
        (as_written && !entry.partitions.iter().any(is_ahead)).then_some(entry)
    }
}

/// Those that can be used, in the same order.
pub fn usable(stored: Vec<StoredEntry>, hash_key: [u8; 16], partitions: &BTreeMap<i32, (i64, i64)>) -> Vec<Entry> {
    let (all, newest) = (stored.len(), stored.last().map(|entry| entry.watermark));
    let usable: Vec<Entry> = stored.into_iter().filter_map(|stored| stored.entry(hash_key, partitions)).collect();
    if let Some(newest) = newest.filter(|_| usable.len() < all) {
        let entries = all - usable.len();
        tracing::error!(
            entries, %newest,
            "entries of progress_history cannot be used: they were edited, are ahead of the stored offsets, or were written before the \
             pipeline was created anew or rebuilt; only the others are looked at"
        );
    }
    usable
}

/// What the log still determines of a pipeline's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Determined {
    /// The entry from which the log is read; none if it has all that was ever read.
    pub entry: Option<Entry>,
    /// From where each partition is read, and its highest event time before that.
    pub read_from: BTreeMap<i32, ReadTo>,
    /// Windows that begin here or later.
    pub from: Minute,
}

impl Determined {
    /// The first window of a length that is determined.
    pub fn first(&self, grain: Grain) -> Minute {
        let window = grain.window_of(self.from);
        if window == self.from { window } else { grain.end_of(window) }
    }

    /// By the first offset that was ever read of each partition, the first one that the log still has, and the history from old to new. None
    /// if the log no longer reaches back to any entry. Windows that begin before `inexact_until` were given up by a `recover`. With `since`,
    /// it is the newest entry that still determines all windows from there on.
    pub fn of(
        starts: &BTreeMap<i32, i64>,
        low: impl Fn(i32) -> i64,
        history: &[Entry],
        viewer_timeout_nanos: i64,
        inexact_until: Option<Minute>,
        since: Option<Minute>,
    ) -> Option<Determined> {
        let start = |(&partition, &next_offset): (&i32, &i64)| (partition, ReadTo { next_offset, highest: None });
        let all: BTreeMap<i32, ReadTo> = starts.iter().map(start).collect();
        // A partition that an entry lacks was found later.
        let from_entry = |entry: &Entry| {
            let read_to =
                |(&partition, &start): (&i32, &ReadTo)| (partition, entry.partitions.get(&partition).copied().unwrap_or(start));
            all.iter().map(read_to).collect::<BTreeMap<i32, ReadTo>>()
        };
        let is_there = |read_from: &BTreeMap<i32, ReadTo>| {
            read_from.iter().all(|(&partition, read_to)| read_to.next_offset >= low(partition))
        };
        let from = |read_from: &BTreeMap<i32, ReadTo>| {
            let highest = read_from.values().filter_map(|read_to| read_to.highest).max();
            let from = highest.map_or(Minute(0), |highest| forgotten_from(highest, viewer_timeout_nanos));
            from.max(inexact_until.unwrap_or(Minute(0))).max(since.unwrap_or(Minute(0)))
        };
        let places =
            std::iter::once((None, all.clone())).chain(history.iter().map(|entry| (Some(entry.clone()), from_entry(entry))));
        let mut places = places.filter(|(_, read_from)| is_there(read_from)).map(|(entry, read_from)| {
            let from = from(&read_from);
            Determined { entry, read_from, from }
        });
        let oldest = places.next()?;
        Some(places.take_while(|newer| since.is_some() && newer.from == oldest.from).last().unwrap_or(oldest))
    }
}

/// From this window on, events up to this time have no part in anything.
pub fn forgotten_from(highest: Nanos, viewer_timeout_nanos: i64) -> Minute {
    let gone = highest.0.saturating_add(viewer_timeout_nanos.max(1));
    let first = gone.div_euclid(MINUTE_NANOS) + i64::from(gone.rem_euclid(MINUTE_NANOS) > 0);
    Minute(u32::try_from(first).unwrap_or(u32::MAX))
}

/// The latest event time that an entry which is old enough may have. `rolled_up` are the first hour and the first day that are kept, if any;
/// windows that begin before `inexact_until` were given up by a `recover`.
pub fn old_enough(
    watermark: Option<Micros>,
    rolled_up: [Option<Minute>; Grain::ALL.len() - 1],
    viewer_timeout_nanos: i64,
    inexact_until: Option<Minute>,
) -> Nanos {
    let first_open = watermark.map_or(Minute(0), Minute::first_open);
    let longer = Grain::ALL[1..].iter().zip(rolled_up);
    let first_not_final = longer.filter_map(|(grain, from)| Some(grain.window_of(first_open).max(from?)));
    let first_not_final = first_not_final.fold(first_open, Minute::min).max(inexact_until.unwrap_or(Minute(0)));
    Nanos((i64::from(first_not_final.0) * MINUTE_NANOS).saturating_sub(viewer_timeout_nanos.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_determined_after_the_last_viewer_of_what_is_gone_has_timed_out() {
        let read_to = |next_offset, highest| ReadTo { next_offset, highest };
        let entry = |watermark, next_offset, highest: i64| Entry {
            watermark: Micros(watermark),
            partitions: BTreeMap::from([(0, read_to(next_offset, Some(Nanos(highest)))), (1, read_to(next_offset, None))]),
        };
        let history = [entry(1, 10, 90 * MINUTE_NANOS), entry(2, 20, 100 * MINUTE_NANOS + 1)];
        // Partition 2 was found later.
        let starts = BTreeMap::from([(0, 0), (1, 0), (2, 0)]);
        let determined = |low: [i64; 3]| {
            let low = |partition: i32| low[usize::try_from(partition).unwrap()];
            let determined = Determined::of(&starts, low, &history, 5 * MINUTE_NANOS, None, None)?;
            Some((determined.read_from.values().map(|read_to| read_to.next_offset).collect::<Vec<_>>(), determined.from.0))
        };
        assert_eq!(determined([0, 0, 0]), Some((vec![0, 0, 0], 0)));
        assert_eq!(determined([0, 1, 0]), Some((vec![10, 10, 0], 95)));
        assert_eq!(determined([11, 0, 0]), Some((vec![20, 20, 0], 106)));
        assert_eq!(determined([21, 0, 0]), None);
        assert_eq!(determined([0, 0, 1]), None);
    }

    #[test]
    fn an_entry_is_old_enough_once_its_viewers_have_timed_out_before_all_that_is_not_final() {
        let (day, hour) = (24 * 60, 60);
        let at = |minute: u32| Some(Minute(minute).start());
        let cut = |watermark, rolled_up: [Option<u32>; 2]| old_enough(watermark, rolled_up.map(|from| from.map(Minute)), 1, None);
        let before = |minute: u32| Nanos(i64::from(minute) * MINUTE_NANOS - 1);
        let now = 3 * day + 5 * hour + 7;
        assert_eq!(cut(at(now), [None, None]), before(now));
        assert_eq!(cut(at(now), [Some(0), None]), before(3 * day + 5 * hour));
        assert_eq!(cut(at(now), [Some(0), Some(0)]), before(3 * day));
        // Hours and days that are kept from the next ones on ask for nothing of the present ones.
        assert_eq!(cut(at(now), [Some(3 * day + 6 * hour), Some(4 * day)]), before(now));
        assert_eq!(cut(None, [Some(0), Some(0)]), before(0));
        // What was given up asks for nothing.
        let given_up = |until: u32| old_enough(at(now), [Some(Minute(0)); 2], 1, Some(Minute(until)));
        assert_eq!((given_up(now + 3), given_up(7)), (before(now + 3), before(3 * day)));
    }
}
