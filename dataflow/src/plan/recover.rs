//! Going on after a gap in the log: records that are needed have expired, so no start is possible any more.
//!
//! There are two kinds. Records that were never read have expired: the pipeline stood still for longer than the topic keeps them. Or the
//! state is lost, and the log no longer reaches back to where it could be made anew from. In both cases a run goes on from what is left.
//! Rows that are final stay. Of the others, those of windows in which a record that is gone may have a part are marked as inexact; windows
//! after these are exact again.

use super::{PlanError, Wish, check_offsets, known, newest_fence, usable_checkpoints};
use crate::checkpoint::history::{Determined, Entry, forgotten_from};
use crate::checkpoint::manifest::ReadTo;
use crate::checkpoint::{self, Parts};
use crate::flow::{PartitionMark, Standing};
use crate::keys::{HashKey, Keys};
use crate::rules::Rules;
use crate::sink::{Begin, Commit, Decision, Inexact, Receipt, Store, StoreError, Stored};
use crate::source::{Description, Log};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use tidemark_model::metrics::Whole;
use tidemark_model::{Grain, Micros, Minute, Nanos};

/// How often the commit is tried if its outcome is not heard, and the pause between two attempts.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// How a pipeline is to be recovered.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// The present time by this machine's clock.
    pub now: Micros,
    /// The records that expired before they were read were written before this, as somebody knows.
    pub lost_before: Option<Micros>,
    /// Do it.
    pub confirmed: bool,
}

/// From what a pipeline goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Number of the last commit before it.
    pub epoch: i64,
    /// The stored watermark: what is final stays.
    pub watermark: Option<Micros>,
    /// Of each partition the offsets that expired before they were read, if there are any.
    pub unread: BTreeMap<i32, Range<i64>>,
    /// Where the next run reads from, and the highest event times before that.
    pub entry: Entry,
    /// What cannot be exact any more.
    pub inexact: Inexact,
    /// Checkpoints are named, and nothing of this pipeline is where they should be.
    pub lacks_checkpoints: bool,
}

/// Decides from what a pipeline goes on whose log has expired, and stores it if that is confirmed. Refuses while a start is possible.
pub fn recover(wish: &Wish, log: &dyn Log, store: &mut dyn Store, parts: &dyn Parts, how: How) -> Result<Recovered, PlanError> {
    let wish = &Wish { ignore_checkpoints: false, ..wish.clone() };
    let description = log.describe()?;
    // Rows of windows that are kept no longer are the next run's affair.
    let begin = Begin { grains: &Grain::ALL, ..wish.begin(log, &description)? };
    let mut outcome: Option<Result<Recovered, PlanError>> = None;
    let began = store.begin(&begin, &mut |stored| {
        let recovered = from_what_is_left(wish, log, &description, parts, stored, how);
        let goes_on = how.confirmed && recovered.is_ok();
        outcome = Some(recovered);
        // An error leaves the store as it was.
        let nothing = || StoreError::Fatal("nothing was done".to_owned());
        goes_on.then(|| Decision { above_fence: newest_fence(parts, stored), ..Decision::default() }).ok_or_else(nothing)
    });
    let recovered = match (outcome, &began) {
        (Some(recovered), _) if !how.confirmed => return recovered,
        (Some(recovered), _) => recovered?,
        (None, _) => return Err(began.expect_err("it was not asked").into()),
    };
    commit(store, &recovered.commit(&began?, &description))?;
    Ok(recovered)
}

/// If an attempt was applied although nobody heard of it, the next one finds that.
fn commit(store: &mut dyn Store, commit: &Commit) -> Result<Receipt, StoreError> {
    let mut attempt = 1;
    loop {
        match store.commit(commit) {
            Err(StoreError::Transient(why)) if attempt < ATTEMPTS => tracing::warn!(attempt, why, "the commit is tried again"),
            outcome => return outcome,
        }
        attempt += 1;
        std::thread::sleep(PAUSE);
    }
}

fn from_what_is_left(
    wish: &Wish,
    log: &dyn Log,
    description: &Description,
    parts: &dyn Parts,
    stored: &Stored,
    how: How,
) -> Result<Recovered, PlanError> {
    if stored.epoch == 0 {
        let what =
            "nothing was committed yet, so there are no rows to keep: start tidemark-dataflow, or if it refuses, in empty tables";
        return Err(StoreError::Fatal(what.to_owned()).into());
    }
    let checkpoints = usable_checkpoints(stored, description, parts, wish.ignore_checkpoints)?;
    if check_offsets(stored, known(wish, stored, description, checkpoints.first()), description, log.topic()).is_ok() {
        let what = "nothing is missing that a run needs: start tidemark-dataflow, there is nothing to recover";
        return Err(StoreError::Fatal(what.to_owned()).into());
    }
    for (partition, &(_, next_offset)) in &stored.partitions {
        // What is wrong with the end of a log is no matter of records that have expired.
        if description.partitions.get(partition).is_none_or(|bounds| bounds.high < next_offset) {
            let objection = check_offsets(stored, None, description, log.topic()).err().unwrap_or_default();
            return Err(StoreError::Fatal(objection).into());
        }
    }
    let low = |partition: i32| description.partitions[&partition].low;
    let unread: BTreeMap<i32, Range<i64>> = stored
        .partitions
        .iter()
        .filter(|&(&partition, &(_, next_offset))| next_offset < low(partition))
        .map(|(&partition, &(_, next_offset))| (partition, next_offset..low(partition)))
        .collect();
    let read_from = read_from(&wish.rules, description, stored, &unread);
    let timeout = wish.rules.viewer_timeout_nanos();
    let mut until = Minute(0);
    for highest in read_from.values().filter_map(|read_to| read_to.highest) {
        until = until.max(forgotten_from(highest, timeout));
    }
    if !unread.is_empty() {
        // No clock of ours was ahead of the reader's when an event was not rejected as `future`. Its record time is no later bound: times of
        // records may be in any order.
        let now = how.now.max(stored.clock.unwrap_or(Micros(0)));
        let written = how.lost_before.map_or(now, |before| before.min(now));
        let latest = Nanos(written.0.saturating_add(wish.rules.max_future_skew()).saturating_mul(1_000));
        until = until.max(forgotten_from(latest, timeout));
    }
    let from = stored.watermark.map_or(Minute(0), Minute::first_open);
    let entry = Entry { watermark: stored.watermark.unwrap_or(Micros(0)), partitions: read_from };
    let inexact = Inexact { from, until: until.max(from), why: why(stored, &unread, &entry) };
    let is_named = stored.checkpoints.as_array().is_some_and(|named| !named.is_empty());
    let sees = checkpoint::sees_sign(parts, Keys::new(HashKey(stored.hash_key)).tag(), stored.fence);
    let lacks_checkpoints = is_named && matches!(sees, Ok(false));
    Ok(Recovered { epoch: stored.epoch, watermark: stored.watermark, unread, entry, inexact, lacks_checkpoints })
}

/// From the oldest entry of the history that is still in the log. If there is none, from where reading stopped: nobody knows how late the
/// records before that were.
fn read_from(
    rules: &Rules,
    description: &Description,
    stored: &Stored,
    unread: &BTreeMap<i32, Range<i64>>,
) -> BTreeMap<i32, ReadTo> {
    let low = |partition: i32| description.partitions[&partition].low;
    let highest = |partition: i32| {
        let watermark = stored.watermarks.get(&partition)?;
        Some(Nanos(watermark.0.saturating_add(rules.lateness()).saturating_mul(1_000).saturating_add(999)))
    };
    let starts = stored.partitions.iter().map(|(&partition, &(start, _))| (partition, start)).collect();
    let low_of_read = |partition: i32| match unread.contains_key(&partition) {
        true => 0,
        false => stored.first_replayable(partition, low(partition)),
    };
    let known = Determined::of(&starts, low_of_read, &stored.history, rules.viewer_timeout_nanos(), None, None);
    let of = |(&partition, &(_, next_offset)): (&i32, &(i64, i64))| {
        let read_to = match &known {
            Some(known) if !unread.contains_key(&partition) => known.read_from[&partition],
            _ => ReadTo { next_offset: next_offset.max(low(partition)), highest: highest(partition) },
        };
        (partition, read_to)
    };
    stored.partitions.iter().map(of).collect()
}

/// What is missing, for people.
fn why(stored: &Stored, unread: &BTreeMap<i32, Range<i64>>, entry: &Entry) -> String {
    let of = |(&partition, &(start, _)): (&i32, &(i64, i64))| match unread.get(&partition) {
        Some(Range { start, end }) => {
            Some(format!("partition {partition}: offsets {start} to {end} expired before they were read"))
        }
        None => {
            let from = entry.partitions[&partition].next_offset;
            (from > start).then(|| {
                format!(
                    "partition {partition}: the state of before offset {from} is lost, and not all records of before it are left"
                )
            })
        }
    };
    stored.partitions.iter().filter_map(of).collect::<Vec<_>>().join("; ")
}

impl Recovered {
    /// What stores it.
    fn commit(&self, stored: &Stored, description: &Description) -> Commit {
        let mark = |(&partition, &(start_offset, next_offset)): (&i32, &(i64, i64))| {
            let next_offset = self.unread.get(&partition).map_or(next_offset, |unread| unread.end);
            let mark = PartitionMark {
                start_offset,
                end_offset: description.partitions[&partition].high,
                watermark: stored.watermarks.get(&partition).copied(),
                standing: Standing::Backlogged,
                ..PartitionMark::at_end(partition, next_offset)
            };
            (partition, mark)
        };
        Commit {
            partitions: stored.partitions.iter().map(mark).collect(),
            checkpoints: Some(Vec::new()),
            history: vec![self.entry.clone()],
            inexact: Some(self.inexact.clone()),
            whole: Whole { rolled_up: stored.rolled_up, ..Whole::default() },
            ..Commit::default()
        }
    }
}
