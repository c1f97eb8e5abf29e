//! Where a run starts: decided once, before any worker reads, and the same for all workers.
//!
//! Two numbers per partition govern it. *Replay from* is where the state of `fold` begins: reading starts there. *Emit from* is
//! the store's next offset: what lies below it is in the tables already, so it is folded but not written again, and no row is
//! ever seen to go back.

mod recover;

pub use recover::{How, Recovered, recover};

use crate::checkpoint::history::{self, Entry};
use crate::checkpoint::manifest::{ReadTo, Unusable};
use crate::checkpoint::{self, Manifest, Parts};
use crate::fail_points::fail_point;
use crate::keys::{HashKey, Keys, StreamKey};
use crate::rules::Rules;
use crate::sink::{Begin, Decision, Store, StoreError, Stored, first_kept};
use crate::source::{Bounds, Description, Log, SourceError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidemark_model::{Grain, Micros, Minute, Nanos, Reason};

/// Where a partition without stored progress starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StartingOffsets {
    /// With the oldest record that is there.
    Earliest,
    /// With the next one to be written.
    Latest,
}

/// A partition's part of the plan. All offsets are exclusive ends of what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPlan {
    /// First offset that the pipeline ever read.
    pub start_offset: i64,
    /// Where this run reads from.
    pub replay_from: i64,
    /// Highest event time below it that was neither undecodable nor `future`.
    pub highest: Option<Nanos>,
    /// Where this run writes from.
    pub emit_from: i64,
    /// Where it ends, if it is to end.
    pub stop_at: Option<i64>,
}

/// Where a run starts. Process 0 decides it and sends it to the others.
#[derive(Clone, Serialize, Deserialize)]
pub struct Plan {
    /// This run's fence token.
    pub fence: i64,
    /// The log that it is for, by its id.
    pub log_id: String,
    /// Hashes of names.
    pub keys: Keys,
    /// The stored watermark.
    pub watermark: Option<Micros>,
    /// Every partition.
    pub partitions: BTreeMap<i32, PartitionPlan>,
    /// Stored verdicts that a clock had a part in.
    pub verdicts: BTreeMap<(i32, i64), Reason>,
    /// Streams that have rows which are not final, and the newest window of these. Only the sink asks for them, so they stay with process 0.
    #[serde(skip)]
    pub names: Vec<(Minute, StreamKey, String)>,
    /// The checkpoint from which the state is taken up, if there is one.
    pub checkpoint: Option<Manifest>,
    /// Without a checkpoint: the watermark of the entry of the history from which the log is replayed, unless that is from its start.
    pub history: Option<Micros>,
    /// The entries of the history, from old to new. Only the sink asks for them.
    #[serde(skip)]
    pub entries: Vec<Entry>,
    /// The checkpoints that stay valid, newest first.
    pub checkpoints: Vec<Manifest>,
    /// Windows that begin before it were given up by a `recover`.
    pub inexact_until: Option<Minute>,
    /// The first hour, and the first day, whose rows are stored or can be: not all earlier ones are there.
    pub rolled_up: [Minute; Grain::ALL.len() - 1],
}

impl Plan {
    /// Offsets (bytes, in a file log) between where reading starts and where writing starts.
    pub fn to_replay(&self) -> i64 {
        self.partitions.values().map(|partition| (partition.emit_from - partition.replay_from).max(0)).sum()
    }
}

/// Why a run cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The log.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The place of the checkpoints.
    #[error("CHECKPOINT_DIR cannot be written: {0}")]
    Checkpoints(std::io::Error),
}

impl PlanError {
    /// Whether it may go away by waiting.
    pub fn may_pass(&self) -> bool {
        match self {
            PlanError::Source(error) => matches!(error, SourceError::NotYet(_)),
            PlanError::Store(error) => matches!(error, StoreError::Transient(_)),
            PlanError::Checkpoints(error) => checkpoint::may_pass(error),
        }
    }
}

/// What decides a plan.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The pipeline's name.
    pub pipeline: String,
    /// The rules, part of the fingerprint.
    pub rules: Rules,
    /// For partitions that the store does not know.
    pub starting_offsets: StartingOffsets,
    /// End where the log ends now.
    pub until_end: bool,
    /// Replay the log from its start, whatever checkpoints there are.
    pub ignore_checkpoints: bool,
    /// For a rebuild from a log whose beginning has expired: where it reads from, and the highest event times before that.
    pub known: Option<BTreeMap<i32, ReadTo>>,
    /// This process has run the pipeline before: it goes on from what the store holds, and makes nothing anew.
    pub again: bool,
    /// The windows that rows are of, from short to long; the first is a minute.
    pub grains: &'static [Grain],
}

impl Wish {
    /// How a run takes over.
    fn begin(&self, log: &dyn Log, description: &Description) -> Result<Begin, SourceError> {
        let start = |bounds: &Bounds| match self.starting_offsets {
            StartingOffsets::Earliest => bounds.low,
            StartingOffsets::Latest => bounds.high,
        };
        Ok(Begin {
            pipeline: self.pipeline.clone(),
            topic: log.topic().to_owned(),
            fingerprint: fingerprint(description, &self.rules),
            start_offsets: description.partitions.iter().map(|(&partition, bounds)| (partition, start(bounds))).collect(),
            new_offsets: description.partitions.keys().map(|&partition| (partition, 0)).collect(),
            hash_key: draw()?,
            run: draw()?.iter().map(|byte| format!("{byte:02x}")).collect(),
            again: self.again,
            grains: self.grains,
        })
    }

    /// The newest entry of the history before which nothing matters any more to what is not final; if there is one, of those that are still in
    /// the log.
    fn old_enough<'a>(&self, stored: &'a Stored, description: &Description) -> Option<&'a Entry> {
        let kept = [0, 1].map(|at| {
            let grain = Grain::ALL[at + 1];
            let from = stored.rolled_up[at].unwrap_or_else(|| first_kept(grain, stored.watermark));
            self.grains.contains(&grain).then_some(from)
        });
        let viewer_timeout = self.rules.viewer_timeout_nanos();
        let old_enough = history::old_enough(stored.watermark, kept, viewer_timeout, stored.inexact_until);
        let is_there = |entry: &&Entry| {
            replay_from(stored, Some(&entry.partitions)).all(|(partition, from)| {
                let low = |bounds: &Bounds| stored.first_replayable(partition, bounds.low);
                description.partitions.get(&partition).is_none_or(|bounds| low(bounds) <= from.next_offset)
            })
        };
        let old_enough = stored.history.iter().rev().filter(|entry| entry.highest().is_none_or(|highest| highest <= old_enough));
        old_enough.clone().find(is_there).or_else(|| old_enough.clone().next())
    }
}

/// Takes over the pipeline and decides where this run starts.
pub fn decide(wish: &Wish, log: &dyn Log, store: &mut dyn Store, parts: &dyn Parts) -> Result<Plan, PlanError> {
    let mut description = log.describe()?;
    let begin = wish.begin(log, &description)?;
    let mut checkpoints = Vec::new();
    let mut unanswered = None;
    let stored = store.begin(&begin, &mut |stored| {
        checkpoints = usable_checkpoints(stored, &description, parts, wish.ignore_checkpoints)?;
        let known = known(wish, stored, &description, checkpoints.first());
        let decision = Decision {
            replay_from: replay_from(stored, known).map(|(partition, from)| (partition, from.next_offset)).collect(),
            above_fence: newest_fence(parts, stored),
        };
        let objection = check_offsets(stored, known, &description, log.topic());
        if objection.is_ok() {
            return Ok(decision);
        }
        // A run that goes on until this one has taken over may have read what came after the log was described. Now it can commit
        // nothing any more, so the log cannot be behind the store for that reason.
        match log.describe() {
            Ok(newer) => description.partitions = newer.partitions,
            Err(error) => {
                unanswered = Some(error);
                objection.map_err(StoreError::Fatal)?;
            }
        }
        check_offsets(stored, known, &description, log.topic()).map(|()| decision).map_err(StoreError::Fatal)
    });
    let stored = stored.map_err(|error| unanswered.map_or_else(|| error.into(), PlanError::from))?;
    fail_point!("took-over");
    let plan = plan(wish, &description, stored, checkpoints);
    // What no commit has named is left of a run that died, and never used. But if this run was paused here and another has taken
    // over meanwhile, those of that run are not ours to judge.
    let own = checkpoint::Id { pipeline: plan.keys.tag(), fence: plan.fence, number: 0 };
    checkpoint::clean(parts, &plan.checkpoints, own);
    checkpoint::leave_sign(parts, plan.keys.tag(), plan.fence).map_err(PlanError::Checkpoints)?;
    Ok(plan)
}

/// Up to where nothing needs to be read again: to the checkpoint, or without one to the entry of the history.
fn known<'a>(
    wish: &'a Wish,
    stored: &'a Stored,
    description: &Description,
    checkpoint: Option<&'a Manifest>,
) -> Option<&'a BTreeMap<i32, ReadTo>> {
    let entry = wish.old_enough(stored, description).filter(|_| !wish.ignore_checkpoints);
    checkpoint.map(|checkpoint| &checkpoint.partitions).or(wish.known.as_ref()).or(entry.map(|entry| &entry.partitions))
}

/// Where each partition is replayed from. What is `known` need not be read again; a partition that is not in it starts at its first offset.
fn replay_from<'a>(stored: &'a Stored, known: Option<&'a BTreeMap<i32, ReadTo>>) -> impl Iterator<Item = (i32, ReadTo)> + 'a {
    stored.partitions.iter().map(move |(&partition, &(start_offset, _))| {
        // A partition that is not there was found later.
        let read_to = known.and_then(|known| known.get(&partition)).copied();
        (partition, read_to.unwrap_or(ReadTo { next_offset: start_offset, highest: None }))
    })
}

/// The highest fence token by which anything of this pipeline is called among the checkpoints. A database that was restored may have
/// forgotten it.
fn newest_fence(parts: &dyn Parts, stored: &Stored) -> i64 {
    let tag = Keys::new(HashKey(stored.hash_key)).tag();
    // Without an answer the run's random name alone tells two runs apart.
    let sets = parts.list().unwrap_or_default();
    sets.iter().filter(|set| set.id.pipeline == tag).map(|set| set.id.fence).max().unwrap_or(0)
}

/// The stored checkpoints that can be used, newest first.
fn usable_checkpoints(
    stored: &Stored,
    description: &Description,
    parts: &dyn Parts,
    ignore: bool,
) -> Result<Vec<Manifest>, StoreError> {
    let next_offsets: BTreeMap<i32, i64> = stored.partitions.iter().map(|(&partition, &(_, next))| (partition, next)).collect();
    let mut usable = Vec::new();
    for value in stored.checkpoints.as_array().into_iter().flatten().filter(|_| !ignore) {
        let (version, read) = (&value["version"], checkpoint::manifest::READ);
        if !version.as_u64().is_some_and(|version| read.contains(&u32::try_from(version).unwrap_or(u32::MAX))) {
            let (oldest, newest) = (read.start(), read.end());
            tracing::error!(%version, "a checkpoint cannot be used: this program reads versions {oldest} to {newest}; trying an older one, then progress_history");
            continue;
        }
        let manifest: Manifest = match serde_json::from_value(value.clone()) {
            Ok(manifest) => manifest,
            Err(error) => {
                tracing::error!(%error, "a checkpoint in progress.checkpoints is damaged; trying an older one, then progress_history");
                continue;
            }
        };
        let expired = |(partition, ReadTo { next_offset, .. })| {
            let low = description.partitions.get(&partition).map_or(0, |bounds| bounds.low);
            next_offset < stored.first_replayable(partition, low) && next_offset < next_offsets[&partition]
        };
        if replay_from(stored, Some(&manifest.partitions)).any(expired) {
            tracing::error!(checkpoint = %manifest.id, "a checkpoint cannot be used: records after it have expired, or dead letters were dropped that it needs; trying progress_history");
            continue;
        }
        match manifest.check(parts, &next_offsets) {
            Ok(()) => usable.push(manifest),
            Err(Unusable::Unread(why)) => return Err(StoreError::Transient(format!("checkpoint {}: {why}", manifest.id))),
            Err(error) => {
                tracing::error!(checkpoint = %manifest.id, %error, "a checkpoint cannot be used; trying an older one, then progress_history")
            }
        }
    }
    Ok(usable)
}

/// What must not change between runs.
pub fn fingerprint(description: &Description, rules: &Rules) -> String {
    format!("{} {}", description.id, rules.fingerprint())
}

fn plan(wish: &Wish, description: &Description, stored: Stored, checkpoints: Vec<Manifest>) -> Plan {
    let keys = Keys::new(HashKey(stored.hash_key));
    let checkpoint = checkpoints.first();
    let starts: BTreeMap<i32, ReadTo> = replay_from(&stored, known(wish, &stored, description, checkpoint)).collect();
    let partition = |(&partition, &(start_offset, next_offset)): (&i32, &(i64, i64))| {
        let high = description.partitions.get(&partition).map(|bounds| bounds.high);
        let stop_at = high.filter(|_| wish.until_end);
        let ReadTo { next_offset: replay_from, highest } = starts[&partition];
        (partition, PartitionPlan { start_offset, replay_from, highest, emit_from: next_offset, stop_at })
    };
    let history = wish.old_enough(&stored, description).filter(|_| checkpoint.is_none() && !wish.ignore_checkpoints);
    let history = history.map(|entry| entry.watermark);
    let partitions: BTreeMap<i32, PartitionPlan> = stored.partitions.iter().map(partition).collect();
    let rolled_up = [0, 1].map(|at| stored.rolled_up[at].unwrap_or_else(|| first_kept(Grain::ALL[at + 1], stored.watermark)));
    let names = stored.open_rows.into_iter().map(|(minute, name)| (minute, keys.stream(&name), name)).collect();
    Plan {
        fence: stored.fence,
        log_id: description.id.clone(),
        watermark: stored.watermark,
        verdicts: stored.verdicts,
        checkpoint: checkpoint.cloned(),
        history,
        entries: stored.history,
        inexact_until: stored.inexact_until,
        partitions,
        names,
        keys,
        checkpoints,
        rolled_up,
    }
}

/// What to do when records that are needed have expired.
const WAYS_ON: &str = "go on from what is left, with rows that are final as they are and others marked as inexact, with: tidemark-dataflow \
     recover; or replace all rows by what is left with: tidemark-dataflow rebuild --drop-history";

/// Never silently lose: what the store expects must still be in the log.
fn check_offsets(
    stored: &Stored,
    known: Option<&BTreeMap<i32, ReadTo>>,
    description: &Description,
    topic: &str,
) -> Result<(), String> {
    for (partition, ReadTo { next_offset: start, .. }) in replay_from(stored, known) {
        let (_, next) = stored.partitions[&partition];
        let Some(bounds) = description.partitions.get(&partition) else {
            return Err(format!(
                "topic {topic} has no partition {partition} any more, of which the store holds records up to offset {next}: it was \
                 made anew; bring the old topic back, or start afresh under another PIPELINE and schema"
            ));
        };
        if next > bounds.high {
            return Err(format!(
                "topic {topic} partition {partition} ends at offset {}, but the store holds records up to {next}: the topic was cut \
                 or made anew; bring the old one back, or start afresh under another PIPELINE and schema",
                bounds.high
            ));
        }
        if start < bounds.low && next > start {
            return Err(format!(
                "topic {topic} partition {partition} begins at offset {} now, but what the store holds can be replayed only from \
                 offset {start}: records have expired; start without --ignore-checkpoints if it was given; if a checkpoint was refused above, restore \
                 its files or run the program that wrote it; otherwise {WAYS_ON}",
                bounds.low
            ));
        }
        if start < stored.first_replayable(partition, bounds.low) && next > start {
            return Err(format!(
                "topic {topic} partition {partition}: a replay from offset {start} needs the verdicts of dead letters that RETENTION_DEAD_LETTERS \
                 has dropped, those below offset {}; start without --ignore-checkpoints if it was given; otherwise {WAYS_ON}",
                stored.letters_from[&partition]
            ));
        }
        if next < bounds.low {
            return Err(format!(
                "topic {topic} partition {partition} begins at offset {} now, but records from {next} on were not read yet: they \
                 have expired; {WAYS_ON}",
                bounds.low
            ));
        }
    }
    Ok(())
}

fn draw() -> Result<[u8; 16], SourceError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|error| SourceError::Fatal(format!("the system gives no random bytes: {error}")))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::manifest::Part;
    use crate::checkpoint::memory::MemoryParts;
    use crate::checkpoint::{PartFile, PartSet};
    use crate::flow::PartitionMark;
    use crate::sink::memory::MemoryStore;
    use crate::sink::{Commit, Store};
    use crate::source::Source;
    use crate::source::memory::MemoryLog;
    use std::sync::Mutex;

    /// No descriptor is left for a part.
    struct NoDescriptor;

    impl NoDescriptor {
        fn error<T>() -> std::io::Result<T> {
            Err(rustix::io::Errno::MFILE.into())
        }
    }

    impl Parts for NoDescriptor {
        fn create(&self, _: PartSet, _: usize) -> std::io::Result<Box<dyn PartFile>> {
            NoDescriptor::error()
        }
        fn open(&self, _: PartSet, _: usize) -> std::io::Result<Box<dyn std::io::Read>> {
            NoDescriptor::error()
        }
        fn list(&self) -> std::io::Result<Vec<PartSet>> {
            NoDescriptor::error()
        }
        fn remove(&self, _: PartSet) -> std::io::Result<()> {
            panic!("a part was removed because it could not be opened")
        }
    }

    /// A log that ends there. While it is described for the first time, the run before commits up to offset 9.
    struct Described {
        ends: Mutex<Vec<i64>>,
        before: Mutex<Option<MemoryStore>>,
    }

    impl Log for Described {
        fn describe(&self) -> Result<Description, SourceError> {
            let high = self.ends.lock().unwrap().pop().ok_or_else(|| SourceError::NotYet("no answer".to_owned()))?;
            let mark = PartitionMark::at_end(0, 9);
            let commit = Commit { partitions: BTreeMap::from([(0, mark)]), ..Commit::default() };
            if let Some(mut before) = self.before.lock().unwrap().take() {
                before.commit(&commit).unwrap();
            }
            Ok(Description { id: "described".to_owned(), partitions: BTreeMap::from([(0, Bounds { low: 0, high })]) })
        }
        fn open(&self, start: &BTreeMap<i32, i64>) -> Result<Box<dyn Source>, SourceError> {
            MemoryLog::default().open(start)
        }
        fn topic(&self) -> &str {
            "described"
        }
        fn committed(&self, _: &[(i32, i64)]) {}
    }

    fn wish() -> Wish {
        Wish {
            pipeline: "memory".to_owned(),
            rules: Rules::default(),
            starting_offsets: StartingOffsets::Earliest,
            until_end: false,
            ignore_checkpoints: false,
            known: None,
            again: false,
            grains: &Grain::ALL,
        }
    }

    /// The ends that the log is described with, one after the other.
    fn take_over(ends: &[i64]) -> Result<Plan, PlanError> {
        let wish = wish();
        let mut before = MemoryStore::default();
        let mut store = before.clone();
        let log = |ends: &[i64], before: Option<MemoryStore>| Described {
            ends: Mutex::new(ends.iter().rev().copied().collect()),
            before: Mutex::new(before),
        };
        decide(&wish, &log(&[9], None), &mut before, &MemoryParts::default())?;
        decide(&wish, &log(ends, Some(before)), &mut store, &MemoryParts::default())
    }

    #[test]
    fn a_lack_of_descriptors_is_waited_for_and_condemns_no_checkpoint() {
        let plan = |checkpoints: serde_json::Value| {
            let stored = Stored { checkpoints, ..Stored::default() };
            let description = Description { id: String::new(), partitions: BTreeMap::new() };
            usable_checkpoints(&stored, &description, &NoDescriptor, false).map_err(PlanError::from)
        };
        let checkpoint = Manifest {
            version: checkpoint::manifest::VERSION,
            metrics: Vec::new(),
            rolled_up: [None; 2],
            id: checkpoint::Id { pipeline: 1, fence: 1, number: 1 },
            taken_at: Micros(0),
            watermark: None,
            open: Vec::new(),
            partitions: BTreeMap::new(),
            parts: vec![Part { bytes: 1, checksum: 1 }],
            increments: Vec::new(),
        };
        let error = plan(serde_json::json!([checkpoint])).expect_err("its part cannot be opened");
        assert!(error.may_pass(), "{error}");
        let log = Described { ends: Mutex::new(vec![9]), before: Mutex::default() };
        let error = decide(&wish(), &log, &mut MemoryStore::default(), &NoDescriptor).err().expect("nothing can be written");
        assert!(error.may_pass() && error.to_string().contains("CHECKPOINT_DIR"), "{error}");
        // Nor does it say that another process has another directory.
        let error = checkpoint::sees_sign(&NoDescriptor, 1, 1).expect_err("nothing can be opened");
        assert!(checkpoint::may_pass(&error), "{error}");
    }

    #[test]
    fn what_the_run_before_read_meanwhile_is_no_cut_of_the_log() {
        let plan = take_over(&[5, 9]).unwrap();
        assert_eq!((plan.fence, plan.partitions[&0].emit_from), (2, 9));
        let cut = take_over(&[5, 5]).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(cut.contains("ends at offset 5, but the store holds records up to 9"), "{cut}");
        assert!(take_over(&[5]).err().is_some_and(|error| error.may_pass()), "the broker did not answer");
    }
}
