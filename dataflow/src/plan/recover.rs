//! Going on after a gap in the log: records that are needed have expired, so no start is possible any more.
//!
//! There are two kinds. Records that were never read have expired: the pipeline stood still for longer than the topic keeps them. Or the
//! state is lost, and the log no longer reaches back to where it could be made anew from. In both cases a run goes on from what is left.
//! Rows that are final stay. Of the others, those of windows in which a record that is gone may have a part are marked as inexact; windows
//! after these are exact again.

use super::{PlanError, Wish, check_offsets, known, newest_fence, usable_checkpoints};
use crate::checkpoint::Parts;
use crate::checkpoint::history::{Determined, Entry, forgotten_from};
use crate::checkpoint::manifest::ReadTo;
use crate::clock::Clock;
use crate::flow::{PartitionMark, Standing};
use crate::rules::Rules;
use crate::sink::{Commit, Decision, Inexact, Store, StoreError, Stored};
use crate::source::{Asked, Description, Log, SourceError};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};
use tidemark_model::metrics::Whole;
use tidemark_model::{Micros, Minute, Nanos};

/// How long the first record of a partition is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause when nothing is at hand.
const NAP: Duration = Duration::from_millis(5);

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
}

/// Decides from what a pipeline goes on whose log has expired, and stores it if `confirmed`. Refuses while a start is possible.
pub fn recover(
    wish: &Wish,
    log: &dyn Log,
    store: &mut dyn Store,
    parts: &dyn Parts,
    confirmed: bool,
) -> Result<Recovered, PlanError> {
    let description = log.describe()?;
    let begin = wish.begin(log, &description)?;
    let mut outcome: Option<Result<Recovered, PlanError>> = None;
    let began = store.begin(&begin, &mut |stored| {
        let recovered = from_what_is_left(wish, log, &description, parts, stored);
        let goes_on = confirmed && recovered.is_ok();
        outcome = Some(recovered);
        // An error leaves the store as it was.
        let nothing = || StoreError::Fatal("nothing was done".to_owned());
        goes_on.then(|| Decision { above_fence: newest_fence(parts, stored), ..Decision::default() }).ok_or_else(nothing)
    });
    let recovered = match (outcome, &began) {
        (Some(recovered), _) if !confirmed => return recovered,
        (Some(recovered), _) => recovered?,
        (None, _) => return Err(began.expect_err("it was not asked").into()),
    };
    store.commit(&recovered.commit(&began?, &description))?;
    Ok(recovered)
}

fn from_what_is_left(
    wish: &Wish,
    log: &dyn Log,
    description: &Description,
    parts: &dyn Parts,
    stored: &Stored,
) -> Result<Recovered, PlanError> {
    if stored.epoch == 0 {
        return Err(StoreError::Fatal("nothing was committed yet: there is nothing to recover".to_owned()).into());
    }
    let checkpoints = usable_checkpoints(stored, description, parts, wish.ignore_checkpoints)?;
    if check_offsets(stored, known(wish, stored, checkpoints.first()), description, log.topic()).is_ok() {
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
    for &partition in unread.keys() {
        until = until.max(forgotten_from(latest_unread(&wish.rules, log, description, partition)?, timeout));
    }
    let from = stored.watermark.map_or(Minute(0), Minute::first_open);
    let entry = Entry { watermark: stored.watermark.unwrap_or(Micros(0)), partitions: read_from };
    let inexact = Inexact { from, until: until.max(from), why: why(stored, &unread, &entry) };
    Ok(Recovered { epoch: stored.epoch, watermark: stored.watermark, unread, entry, inexact })
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
    let low_of_read = |partition: i32| if unread.contains_key(&partition) { 0 } else { low(partition) };
    let known = Determined::of(&starts, low_of_read, &stored.history, rules.viewer_timeout_nanos(), None);
    let of = |(&partition, &(_, next_offset)): (&i32, &(i64, i64))| {
        let read_to = match &known {
            Some(known) if !unread.contains_key(&partition) => known.read_from[&partition],
            _ => ReadTo { next_offset: next_offset.max(low(partition)), highest: highest(partition) },
        };
        (partition, read_to)
    };
    stored.partitions.iter().map(of).collect()
}

/// The latest event time that counts of the records which expired unread. An event is at most the future skew ahead of its record's time;
/// that is taken to be at most the lateness behind the time of the first record that is left. Without one it is at most the present time.
fn latest_unread(rules: &Rules, log: &dyn Log, description: &Description, partition: i32) -> Result<Nanos, SourceError> {
    let time = match first_record_time(log, description, partition)? {
        Some(time) => time.0.saturating_add(rules.lateness()),
        None => Clock::System.glance().wall.0,
    };
    Ok(Nanos(time.saturating_add(rules.max_future_skew()).saturating_mul(1_000)))
}

fn first_record_time(log: &dyn Log, description: &Description, partition: i32) -> Result<Option<Micros>, SourceError> {
    let bounds = description.partitions[&partition];
    let mut source = log.open(&BTreeMap::from([(partition, bounds.low)]))?;
    let started = Instant::now();
    let mut first = None;
    while first.is_none() && source.position(partition)?.next_offset < bounds.high {
        if started.elapsed() > PATIENCE {
            let topic = log.topic();
            return Err(SourceError::NotYet(format!("topic {topic} partition {partition} delivers nothing for {PATIENCE:?}")));
        }
        source.read(partition, Some(bounds.high), 1, &mut |record| {
            first = Some(record.time);
            ControlFlow::Continue(())
        })?;
        source.serve(Asked { at: Clock::System.now().at, worker_0: None })?;
        std::thread::sleep(NAP);
    }
    Ok(first.flatten())
}

/// What is missing, for people.
fn why(stored: &Stored, unread: &BTreeMap<i32, Range<i64>>, entry: &Entry) -> String {
    let of = |(&partition, &(start, _)): (&i32, &(i64, i64))| match unread.get(&partition) {
        Some(Range { start, end }) => {
            Some(format!("partition {partition}: offsets {start} to {end} expired before they were read"))
        }
        None => {
            let from = entry.partitions[&partition].next_offset;
            (from > start)
                .then(|| format!("partition {partition}: the state of before offset {from} is lost, and its records expired"))
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
