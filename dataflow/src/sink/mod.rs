//! From changes of closed slices to one transaction: rows, dead letters, progress.
//!
//! The operator collects what each slice changed, on worker 0. Once the frontier has passed a slice it goes to the commit thread,
//! through a bounded queue; until the thread acknowledges it, the operator holds a capability of the slice, so a probe behind this
//! operator is everybody's acknowledgement. [`commit`] is the thread; [`Store`] is what a store promises.

mod assembly;
pub mod columns;
pub mod commit;
mod judge;
pub mod memory;
mod own;
mod partitioning;
pub(crate) mod partitions;
pub mod postgres;
mod publication;
pub mod retention;
pub(crate) mod schema;
pub(crate) mod session;
mod settle;
pub mod sqlite;
pub(crate) mod tables;
pub(crate) mod transaction;
mod upserts;

use crate::Slice;
use crate::checkpoint::Manifest;
use crate::checkpoint::history::Entry;
use crate::checkpoint::schedule::Settled;
use crate::flow::{Change, DeadLetter, PartitionMark, Totals};
use crate::keys::{KeySet, StreamKey};
use assembly::Assembly;
use commit::Committer;
use retention::{Retention, Sweep, Swept};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tidemark_model::metrics::Whole;
use tidemark_model::{Grain, Micros, Minute, Nanos, Reason, Window};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::{Capability, Operator};

/// A row as the store has it. Values are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The window.
    pub window: Window,
    /// The stream.
    pub stream: StreamKey,
    /// The stream's name.
    pub stream_id: Arc<str>,
    /// The metrics; `events` is not stored.
    pub totals: Totals,
}

impl Row {
    /// The order of rows in a commit: the table's key but for the name.
    fn key(&self) -> (Window, StreamKey) {
        (self.window, self.stream)
    }
}

/// The totals of a window as the store has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// The window.
    pub window: Window,
    /// Streams with a row of it.
    pub streams: i64,
    /// The metrics of all streams; `events` is not stored.
    pub totals: Totals,
}

/// What one transaction writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// Changed rows, by window and stream, each once.
    pub rows: Vec<Row>,
    /// Changed totals, by window, each once.
    pub totals: Vec<Total>,
    /// Rejected records.
    pub dead_letters: Vec<DeadLetter>,
    /// Where partitions stand now.
    pub partitions: BTreeMap<i32, PartitionMark>,
    /// The pipeline's watermark; `None` changes nothing.
    pub watermark: Option<Micros>,
    /// How far the wall clocks by which verdicts were taken were ahead of worker 0's monotonic clock: the least and the most. In
    /// microseconds; `None`: no clock had a part in a verdict.
    pub judged_by: Option<(i64, i64)>,
    /// The valid checkpoints from now on, newest first; `None` changes nothing.
    pub checkpoints: Option<Vec<Manifest>>,
    /// Where the log stood when minutes closed, from old to new.
    pub history: Vec<Entry>,
    /// An entry of the history is old enough if no event below it is later than this. The newest such entry stays in the store, and of older
    /// ones the first of each hour or day; `None`: all stay.
    pub old_enough: Option<Nanos>,
    /// How much further back the log reaches than a run without a checkpoint needs, if that has changed: as
    /// [`crate::checkpoint::reach::Reach::news`] says it.
    pub reach: Option<Option<i64>>,
    /// What has become old enough to be dropped, once this is in the store; no part of the transaction.
    pub sweep: Option<Sweep>,
    /// Rows here whose stream has a newer one.
    pub corrections: u64,
    /// Windows that cannot be exact any more.
    pub inexact: Option<Inexact>,
    /// Values of windows that begin before it only rise, but for those of a window's end: a `recover` gave them up, so not all of what they
    /// are made of is known any more.
    pub inexact_until: Option<Minute>,
    /// Which of the rows' values are stored; null is in place of the others.
    pub whole: Whole,
}

/// Windows that a `recover` gave up: those that end after `from` and begin before `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inexact {
    /// Windows that end here or earlier are final.
    pub from: Minute,
    /// Nothing of what is missing has a part in windows that begin here or later.
    pub until: Minute,
    /// What is missing, for people.
    pub why: String,
}

/// The range that holds both.
pub(crate) fn widest(one: Option<(i64, i64)>, other: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (one, other) {
        (Some((least, most)), Some(other)) => Some((least.min(other.0), most.max(other.1))),
        (one, other) => one.or(other),
    }
}

impl Commit {
    /// Takes in what a later slice changed.
    pub fn absorb(&mut self, later: Commit) {
        // The later of two rows goes first, and stays.
        let earlier = std::mem::replace(&mut self.rows, later.rows);
        self.rows.extend(earlier);
        self.rows.sort_by_key(Row::key);
        self.rows.dedup_by_key(|row| row.key());
        let earlier = std::mem::replace(&mut self.totals, later.totals);
        self.totals.extend(earlier);
        self.totals.sort_by_key(|total| total.window);
        self.totals.dedup_by_key(|total| total.window);
        self.dead_letters.extend(later.dead_letters);
        self.partitions.extend(later.partitions);
        self.watermark = self.watermark.max(later.watermark);
        self.judged_by = widest(self.judged_by, later.judged_by);
        self.checkpoints = later.checkpoints.or(self.checkpoints.take());
        self.history.extend(later.history);
        self.old_enough = later.old_enough.or(self.old_enough);
        self.reach = later.reach.or(self.reach);
        self.sweep = later.sweep.or(self.sweep.take());
        self.inexact = later.inexact.or(self.inexact.take());
        self.corrections += later.corrections;
    }

    /// Bytes of what the dead letters keep.
    fn letter_bytes(&self) -> usize {
        let bytes = |letter: &DeadLetter| letter.payload.as_ref().map_or(0, Vec::len) + letter.key.as_ref().map_or(0, Vec::len);
        self.dead_letters.iter().map(bytes).sum()
    }

    /// For each stream the newest of its minutes here.
    pub fn newest_rows(&self) -> Vec<&Row> {
        let mut seen = KeySet::default();
        self.rows_of(Grain::Minute).iter().rev().filter(|row| seen.insert(row.stream)).collect()
    }

    /// Those of windows that begin before all are exact again, and the others. The list is in the order of its windows, of one length.
    fn split<'a, T>(&self, sorted: &'a [T], window: impl Fn(&T) -> Window) -> (&'a [T], &'a [T]) {
        sorted.split_at(sorted.partition_point(|of| !self.is_exact(window(of))))
    }

    /// Whether all is known that the window is made of.
    fn is_exact(&self, window: Window) -> bool {
        self.inexact_until.is_none_or(|until| window.first >= until)
    }

    /// The rows of windows of a length.
    pub fn rows_of(&self, grain: Grain) -> &[Row] {
        of_grain(&self.rows, grain, |row| row.window)
    }

    /// The totals of windows of a length.
    pub fn totals_of(&self, grain: Grain) -> &[Total] {
        of_grain(&self.totals, grain, |total| total.window)
    }
}

/// What a run must know of the pipeline to go on with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// This run's token.
    pub fence: i64,
    /// Number of the last commit.
    pub epoch: i64,
    /// The key of the pipeline's hashes.
    pub hash_key: [u8; 16],
    /// The stored watermark.
    pub watermark: Option<Micros>,
    /// First offset ever read and next offset to read (exclusive end of what is in the tables), of each partition.
    pub partitions: BTreeMap<i32, (i64, i64)>,
    /// Letters below this offset have been dropped, of each partition of which there were any.
    pub letters_from: BTreeMap<i32, i64>,
    /// The own watermark of each partition that has one.
    pub watermarks: BTreeMap<i32, Micros>,
    /// Verdicts that a clock had a part in: `future` and `closed`, by partition and offset.
    pub verdicts: BTreeMap<(i32, i64), Reason>,
    /// Streams that have rows which are not final, and a window of these: the newest minute, if there is one.
    pub open_rows: Vec<(Minute, String)>,
    /// The checkpoints that commits have named, newest first, as they stand in the table.
    pub checkpoints: serde_json::Value,
    /// The entries of the history that can be used, from old to new.
    pub history: Vec<Entry>,
    /// Windows that begin before it cannot be exact, because a `recover` gave them up.
    pub inexact_until: Option<Minute>,
    /// The first hour, and the first day, from which on all are there as far as they are closed; none of which no rows are kept.
    pub rolled_up: [Option<Minute>; Grain::ALL.len() - 1],
    /// The store's own wall clock; none if that is this machine's.
    pub clock: Option<Micros>,
}

impl Stored {
    /// The first offset from which a partition can be replayed whose log begins with `low`: what lies below it has expired, or its dead
    /// letters have been dropped, and with them verdicts that are taken once.
    pub fn first_replayable(&self, partition: i32, low: i64) -> i64 {
        self.letters_from.get(&partition).map_or(low, |&letters_from| low.max(letters_from))
    }
}

/// What was decided from what is stored, and what else a start needs to read for it.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Verdicts are read from these offsets on. A partition that is not named needs none.
    pub replay_from: BTreeMap<i32, i64>,
    /// The new fence token is higher than this one, too. It is the highest that ever left a checkpoint: a database that was restored
    /// has forgotten tokens that it gave.
    pub above_fence: i64,
}

/// Decides where a run starts from what is stored; an error ends this attempt to start.
pub type Decide<'a> = dyn FnMut(&Stored) -> Result<Decision, StoreError> + 'a;

/// A commit that is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its number.
    pub epoch: i64,
    /// The store's own wall clock at that moment; none if that is this machine's.
    pub clock: Option<Micros>,
}

/// What a run says of itself when it takes over.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The pipeline's name.
    pub pipeline: String,
    /// The topic.
    pub topic: String,
    /// What must not change between runs.
    pub fingerprint: String,
    /// Where to start partitions when the store knows none.
    pub start_offsets: BTreeMap<i32, i64>,
    /// Where to start those that have come since: all of their records are new, wherever the first run began.
    pub new_offsets: BTreeMap<i32, i64>,
    /// A hash key, in case that the pipeline has none yet.
    pub hash_key: [u8; 16],
    /// This run's random name. A restored database may give a fence token for the second time, but never this.
    pub run: String,
    /// This process has run the pipeline before: tables and progress must be there, and are not made. While they are being restored
    /// they are waited for.
    pub again: bool,
    /// The windows that rows are kept of. Rows of others that are not final are deleted: nothing would complete them.
    pub grains: &'static [Grain],
}

/// The part of a list that is of windows of one length. The list is in the order of its windows.
fn of_grain<T>(sorted: &[T], grain: Grain, window: impl Fn(&T) -> Window) -> &[T] {
    let first = sorted.partition_point(|of| window(of).grain < grain);
    &sorted[first..sorted.partition_point(|of| window(of).grain <= grain)]
}

/// The last window of a length that is final starts here at the latest.
fn last_final(grain: Grain, watermark: Option<Micros>) -> Micros {
    let first_open = watermark.map_or(Minute(0), Minute::first_open);
    Minute(first_open.0.saturating_sub(grain.minutes())).start()
}

/// The first hour or day of those that were not kept so far: the next one, because nothing tells the names of streams that are in the
/// present one.
pub fn first_kept(grain: Grain, watermark: Option<Micros>) -> Minute {
    watermark.map(Minute::first_open).map_or(Minute(0), |first_open| grain.end_of(grain.window_of(first_open)))
}

impl Begin {
    /// Where to start partitions that the store does not know; `first` if it has not known the pipeline.
    fn starts(&self, first: bool) -> &BTreeMap<i32, i64> {
        if first { &self.start_offsets } else { &self.new_offsets }
    }

    /// The hours and days of which rows are there and kept no longer. From then on nothing is said of them.
    fn given_up(&self, rolled_up: &mut [Option<Minute>; Grain::ALL.len() - 1]) -> Vec<Grain> {
        let stored = Grain::ALL[1..].iter().zip(rolled_up).filter(|(grain, _)| !self.grains.contains(grain));
        stored.filter_map(|(&grain, from)| from.take().map(|_| grain)).collect()
    }
}

/// A fault of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It may pass: try again. Whether the last commit was applied is unknown; the retry finds out.
    #[error("{0}")]
    Transient(String),
    /// A newer run has taken over: this one may write nothing any more.
    #[error("another run of pipeline {pipeline} took over (its fence token is {theirs}, ours is {ours}); this one stops")]
    Fenced {
        /// The pipeline's name.
        pipeline: String,
        /// The token in the store.
        theirs: i64,
        /// The token of this run.
        ours: i64,
    },
    /// The store does not hold what this run wrote last: it went back, or was replaced. This run may write nothing any more, but
    /// another one may go on from what the store holds.
    #[error("{0}")]
    Superseded(String),
    /// It will not go away by waiting.
    #[error("{0}")]
    Fatal(String),
}

/// Waits for somebody's word, without which nothing is to be committed. It is told the store's own wall clock, if it has one.
pub type LastWord<'a> = Box<dyn FnOnce(Option<Micros>) -> Result<(), StoreError> + 'a>;

/// Where commits go. Each method is one transaction.
pub trait Store: Send {
    /// Takes the run lock alone, for as long as this lives; `false` while a run of the pipeline is connected. The default is for stores
    /// of one process.
    fn try_alone(&mut self) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Makes the tables if there are none, takes the next fence token and reads what the store holds.
    ///
    /// `decide` sees what is stored, but for the verdicts, before anything is changed; its objection ends the run and leaves the store
    /// as it was. The verdicts that its decision needs are in the answer.
    fn begin(&mut self, begin: &Begin, decide: &mut Decide<'_>) -> Result<Stored, StoreError>;

    /// Writes a commit, unless another run has taken over or the store is not as this run left it. After [`StoreError::Transient`]
    /// the same commit is given again, and is applied once in all.
    fn commit(&mut self, commit: &Commit) -> Result<Receipt, StoreError>;

    /// The same, but only if `last_word` says so when all but the end of the transaction is done. Its answer may be on its way
    /// meanwhile; the default waits for it first.
    fn commit_if(&mut self, commit: &Commit, last_word: LastWord<'_>) -> Result<Receipt, StoreError> {
        last_word(None)?;
        self.commit(commit)
    }

    /// What holds the run up; commits write it too.
    fn trouble(&mut self, trouble: Option<&str>) {
        let _ = trouble;
    }

    /// Drops a bounded number of rows that are old enough, as a commit of its own that writes nothing else. After
    /// [`StoreError::Transient`] it is tried again. The default is for stores that keep everything.
    fn sweep(&mut self, sweep: &Sweep) -> Result<Swept, StoreError> {
        let _ = sweep;
        Ok(Swept::default())
    }

    /// A sign of life, with what holds the run up. Finds out whether another run has taken over and whether the store is as this run
    /// left it. Answers the store's clock.
    fn heartbeat(&mut self, trouble: Option<&str>) -> Result<Option<Micros>, StoreError>;
}

/// One pipeline per schema, and always by the same rules: what the tables hold would otherwise be a mixture.
fn refuse_other_pipeline(begin: &Begin, pipeline: &str, fingerprint: &str) -> Result<(), StoreError> {
    if begin.pipeline != pipeline {
        let what = format!("the tables belong to pipeline {pipeline}, not to {}", begin.pipeline);
        return Err(StoreError::Fatal(format!("{what}: set PIPELINE={pipeline}, or use another schema or database")));
    }
    let log = |fingerprint: &str| fingerprint.split_once(" window=").map(|(log, _)| log.to_owned());
    if let (Some(stored), Some(present)) = (log(fingerprint), log(&begin.fingerprint))
        && stored != present
    {
        return Err(StoreError::Fatal(format!(
            "pipeline {pipeline} was made from the log {stored}, but now the log is {present}: if its topic was deleted and made \
             anew, start afresh under another PIPELINE and schema, or replace all rows with: tidemark-dataflow rebuild --drop-history"
        )));
    }
    if begin.fingerprint != fingerprint {
        return Err(StoreError::Fatal(format!(
            "pipeline {pipeline} was made with ({fingerprint}) and is now to run with ({}): set what differs back, or recompute all rows \
             with: tidemark-dataflow rebuild",
            begin.fingerprint
        )));
    }
    Ok(())
}

/// Rows that a pipeline has written, where its progress is not: a backup on its way back. Rows of the replaced pipeline are of epoch 0.
const ROWS_WITHOUT_PROGRESS: &str = "select exists (select 1 from stream_metrics_minute where epoch > 0)
    or exists (select 1 from stream_metrics_hour) or exists (select 1 from stream_metrics_day)";

fn refuse_rows_without_progress(are_there: bool) -> Result<(), StoreError> {
    if are_there {
        return Err(StoreError::Transient(
            "the tables have rows of a pipeline, and progress has none: waiting for the rest of a backup to be restored; to \
             start afresh, empty all tables"
                .to_owned(),
        ));
    }
    Ok(())
}

/// What the sink starts with.
pub struct Resume {
    /// The stored watermark.
    pub watermark: Option<Micros>,
    /// Names of streams that have rows in open windows, and the newest of these.
    pub names: Vec<(Minute, StreamKey, String)>,
    /// Every partition as it stands before its owner has spoken.
    pub partitions: Vec<PartitionMark>,
    /// Checkpoints that are valid, newest first.
    pub checkpoints: Vec<Manifest>,
    /// The entries of the history, from old to new.
    pub history: Vec<Entry>,
    /// Windows that begin before it were given up by a `recover`.
    pub inexact_until: Option<Minute>,
    /// Which values can be stored.
    pub whole: Whole,
    /// How long a viewer is present.
    pub viewer_timeout_nanos: i64,
    /// How long rows are kept.
    pub retention: Retention,
    /// What this run's checkpoints are called.
    pub pipeline: u32,
    /// The run's fence token.
    pub fence: i64,
    /// All workers.
    pub workers: usize,
    /// Where it is said that a checkpoint was given up.
    pub settled: Arc<Settled>,
}

/// Collects changes by slice and hands closed slices to the commit thread. The stream carries nothing: it is there to be probed.
pub fn commits<'scope>(
    changes: StreamVec<'scope, Slice, (Slice, Change)>,
    resume: Resume,
    committer: Option<Committer>,
) -> StreamVec<'scope, Slice, ()> {
    type Builder = CapacityContainerBuilder<Vec<()>>;
    let scope = changes.scope();
    let to_worker_0 = Exchange::new(|_: &(Slice, Change)| 0);
    changes.unary_frontier::<Builder, _, _, _>(to_worker_0, "Sink", move |initial, info| {
        drop(initial);
        let mut committer = committer.inspect(|committer| {
            committer.wake_on_acknowledgement(scope.worker().sync_activator_for(info.address.to_vec()));
        });
        let mut stash: BTreeMap<Slice, (Capability<Slice>, Vec<Change>)> = BTreeMap::new();
        let mut unacknowledged: VecDeque<Capability<Slice>> = VecDeque::new();
        let mut assembly = Assembly::new(resume);
        move |(input, frontier), _output| {
            input.for_each_stamp(|stamp, data| {
                let capability = stamp.retain_least(0).expect("a message has a time");
                for (slice, change) in data.flat_map(|batch| batch.drain(..)) {
                    let entry = stash.entry(slice).or_insert_with(|| (capability.delayed(&slice), Vec::new()));
                    entry.1.push(change);
                }
            });
            let Some(committer) = &mut committer else { return };
            while committer.has_room()
                && let Some(entry) = stash.first_entry().filter(|entry| !frontier.less_equal(entry.key()))
            {
                let (slice, (capability, changes)) = entry.remove_entry();
                if let Some(commit) = assembly.slice(changes) {
                    committer.send(slice, commit);
                    unacknowledged.push_back(capability);
                }
            }
            let acknowledged = committer.acknowledged();
            while unacknowledged.front().is_some_and(|capability| *capability.time() < acknowledged) {
                unacknowledged.pop_front();
            }
        }
    })
}
