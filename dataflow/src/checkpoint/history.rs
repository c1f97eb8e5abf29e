//! Where the log stood, minute by minute: what a run goes on from when no checkpoint can be used.
//!
//! A commit that closes a minute stores an [`Entry`]. An entry is *old enough* when no record below its offsets matters any more to what
//! is not final: none of them lies in a window that is not final, and every viewer who joined in them has timed out before the first such
//! window begins. A run that begins at its offsets with nothing known then makes the same rows as one that has read all of the log. The
//! newest entry that is old enough is kept, and all newer ones; older ones can never be used again.

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

    /// CRC-32 (IEEE) of all that it says, which is stored beside it: who edits the table by hand is noticed.
    pub fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.watermark.0.to_le_bytes());
        for (partition, read_to) in &self.partitions {
            hasher.update(&partition.to_le_bytes());
            hasher.update(&read_to.next_offset.to_le_bytes());
            hasher.update(&read_to.highest.map_or(i64::MIN, |highest| highest.0).to_le_bytes());
        }
        hasher.finalize()
    }

    /// The entry that was stored so, unless it was changed since, or is of another past of the database than its partitions are (of each its
    /// first and its next offset).
    pub fn stored(
        watermark: Micros,
        highest: Option<i64>,
        partitions: &str,
        checksum: i64,
        stored: &BTreeMap<i32, (i64, i64)>,
    ) -> Option<Entry> {
        let entry = serde_json::from_str(partitions).ok().map(|partitions| Entry { watermark, partitions });
        let entry = entry.filter(|entry| i64::from(entry.checksum()) == checksum && entry.highest() == highest.map(Nanos));
        let is_behind = |(partition, read_to): (&i32, &ReadTo)| {
            read_to.next_offset <= stored.get(partition).map_or(0, |&(_, next_offset)| next_offset)
        };
        let entry = entry.filter(|entry| entry.partitions.iter().all(is_behind));
        if entry.is_none() {
            tracing::error!(%watermark, "an entry of progress_history was changed by hand, or does not belong to progress_partitions: not used");
        }
        entry
    }

    /// Its partitions as they are stored.
    pub fn partitions(&self) -> String {
        serde_json::to_string(&self.partitions).expect("plain data")
    }
}

/// An entry is old enough if its highest event time is not after this. `rolled_up` are the first hour and the first day that are kept, if
/// any.
pub fn old_enough(
    watermark: Option<Micros>,
    rolled_up: [Option<Minute>; Grain::ALL.len() - 1],
    viewer_timeout_nanos: i64,
) -> Nanos {
    let first_open = watermark.map_or(Minute(0), Minute::first_open);
    let longer = Grain::ALL[1..].iter().zip(rolled_up);
    let first_not_final = longer.filter_map(|(grain, from)| Some(grain.window_of(first_open).max(from?)));
    let first_not_final = first_not_final.fold(first_open, Minute::min);
    Nanos((i64::from(first_not_final.0) * MINUTE_NANOS).saturating_sub(viewer_timeout_nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_old_enough_once_its_viewers_have_timed_out_before_all_that_is_not_final() {
        let (day, hour) = (24 * 60, 60);
        let at = |minute: u32| Some(Minute(minute).start());
        let cut = |watermark, rolled_up: [Option<u32>; 2]| old_enough(watermark, rolled_up.map(|from| from.map(Minute)), 1);
        let before = |minute: u32| Nanos(i64::from(minute) * MINUTE_NANOS - 1);
        let now = 3 * day + 5 * hour + 7;
        assert_eq!(cut(at(now), [None, None]), before(now));
        assert_eq!(cut(at(now), [Some(0), None]), before(3 * day + 5 * hour));
        assert_eq!(cut(at(now), [Some(0), Some(0)]), before(3 * day));
        // Hours and days that are kept from the next ones on ask for nothing of the present ones.
        assert_eq!(cut(at(now), [Some(3 * day + 6 * hour), Some(4 * day)]), before(now));
        assert_eq!(cut(None, [Some(0), Some(0)]), before(0));
    }
}
