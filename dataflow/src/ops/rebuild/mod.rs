//! All rows that the log still determines anew, with the settings now given, swapped in at once.
//!
//! If the beginning of the log has expired, reading begins at the oldest entry of the history that the log reaches back to, and windows are
//! swapped in that begin after all that is gone has lost its part in them. Older ones stay as they are.
//!
//! The new rows are made by an ordinary run into empty tables beside the old ones. One transaction then brings the old tables to
//! what the new ones hold, under the lock of the progress row and under this rebuild's fence token: readers see all of the old or
//! all of the new, rows that come out the same are not touched, and the epoch goes on. Killed at any moment before that, a
//! rebuild has changed nothing but the fence; the next one begins with empty tables again.
//!
//! A run holds its store's run lock shared for as long as it is connected, a rebuild holds it alone.

mod postgres;
mod sqlite;

use super::args::RebuildArgs;
use super::{OpsError, Outcome};
use crate::checkpoint::history::{self, Determined, Entry, StoredEntry};
use crate::checkpoint::{self, manifest::ReadTo};
use crate::cluster;
use crate::keys::{HashKey, Keys};
use crate::plan::{self, StartingOffsets, Wish};
use crate::rules::Rules;
use crate::run::Control;
use crate::sink::retention::Retention;
use crate::sink::{Store, StoreError};
use crate::source::{Bounds, Description};
use crate::telemetry::Metrics;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use tidemark_model::{Grain, Micros, Minute};
use tidemark_settings::kafka::Role;
use tidemark_settings::{SettingsError, store};

/// Where a rebuild takes place: the tables that are there, and room beside them.
trait Site {
    /// What the tables hold now; none if there is no pipeline in them.
    fn before(&mut self, pipeline: &str, topic: &str) -> Result<Option<Before>, StoreError>;

    /// Takes the run lock alone and the next fence token. Refuses while a run is connected.
    fn take_over(&mut self, pipeline: &str) -> Result<(), StoreError>;

    /// Empty tables beside the old ones, in which each partition starts at its offset.
    fn prepare(&mut self, pipeline: &str, topic: &str, starts: &BTreeMap<i32, i64>) -> Result<Box<dyn Store>, StoreError>;

    /// Brings the old tables to what the new ones hold, as far as that was recomputed, and drops those.
    fn swap(&mut self, pipeline: &str, topic: &str, recomputed: &Recomputed) -> Result<Changes, StoreError>;
}

/// What a rebuild recomputes.
struct Recomputed {
    determined: Determined,
    /// The windows that rows are made of.
    grains: &'static [Grain],
    rules: Rules,
    /// Windows that begin before it were given up by a `recover`.
    inexact_until: Option<Minute>,
    /// What is older goes.
    drops_history: bool,
}

impl Recomputed {
    /// The run after this one goes on with all windows that are not final by this watermark: reading must begin before all that matters to
    /// them.
    fn refuse_open_windows(&self, watermark: Option<Micros>) -> Result<(), String> {
        let kept = [Grain::Hour, Grain::Day].map(|grain| self.grains.contains(&grain).then_some(Minute(0)));
        let old_enough = history::old_enough(watermark, kept, self.rules.viewer_timeout_nanos(), self.inexact_until);
        if self.determined.entry.as_ref().and_then(Entry::highest).is_none_or(|highest| highest <= old_enough) {
            return Ok(());
        }
        Err(format!(
            "the log no longer has what windows are made of that are not final: they would be wrong from now on; {DROP_HISTORY}"
        ))
    }
}

/// What the tables hold before a rebuild.
#[derive(Clone, Debug)]
struct Before {
    epoch: i64,
    watermark: Option<Micros>,
    fingerprint: String,
    /// Of the old tables: their checkpoints are called by it.
    hash_key: [u8; 16],
    rows: i64,
    letters: i64,
    /// Of each partition: first offset that was read, and the next one.
    partitions: BTreeMap<i32, (i64, i64)>,
    /// `progress_history`, from old to new.
    history: Vec<StoredEntry>,
    /// Windows that begin before it were given up by a `recover`.
    inexact_until: Option<Minute>,
}

/// What a swap changed.
#[derive(Clone, Copy, Debug, Default)]
struct Changes {
    epoch: i64,
    rows_written: u64,
    rows_removed: u64,
    letters_written: u64,
    letters_removed: u64,
}

/// Runs the command.
pub fn run(args: &RebuildArgs, control: &Arc<Control>, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    let refused = |error: SettingsError| OpsError::Refused(error.to_string());
    let mut options = args.run.options().map_err(OpsError::Refused)?;
    options.wish.until_end = true;
    // The rows beside are all made; those that were dropped before are left out when they are swapped in.
    options.retention = Retention::default();
    options.wish.starting_offsets = StartingOffsets::Earliest;
    let pipeline = options.wish.pipeline.clone();
    let log_place = args.run.log.resolve(Role::Consumer, &None).map_err(refused)?;
    let store_place = args.run.store.resolve(&args.run.log.data_dir).map_err(refused)?;
    let parts = args.run.checkpoints().map_err(OpsError::Refused)?;
    let log = crate::source::open(log_place.clone());
    let mut site: Box<dyn Site> = match &store_place {
        store::Store::Postgres { connection, shown } => Box::new(postgres::PostgresSite::open(connection, shown, control)?),
        store::Store::Sqlite(path) => Box::new(sqlite::SqliteSite::open(path)?),
    };
    let before = site.before(&pipeline, log.topic())?.ok_or_else(|| {
        OpsError::Refused(format!("{store_place} holds no pipeline {pipeline}: check PIPELINE, or start tidemark-dataflow"))
    })?;
    let description = log.describe()?;
    let fingerprint = plan::fingerprint(&description, &options.wish.rules);
    let recomputed = before.recomputed(&description, &options.wish, args.drop_history).map_err(OpsError::Refused)?;
    let read_from = &recomputed.determined.read_from;
    let starts = read_from.iter().map(|(&partition, read_to)| (partition, read_to.next_offset)).collect();
    options.wish.known = recomputed.determined.entry.is_some().then(|| read_from.clone());
    let mut text = format!("rebuild of pipeline {pipeline} in {store_place} from {log_place}\n");
    text += &before.plan(&description, &recomputed, &fingerprint);
    if !args.yes {
        text += "nothing was done; to do it, give --yes\n";
    }
    say(out, &text)?;
    if !args.yes {
        return Ok(Outcome::NotDone);
    }
    let stopped = || OpsError::Refused("stopped: the old rows are as they were".to_owned());
    if control.stopping() {
        return Err(stopped());
    }
    site.take_over(&pipeline)?;
    let store = site.prepare(&pipeline, log.topic(), &starts)?;
    let (metrics, _) = Metrics::new();
    cluster::run(&options, Arc::clone(&log), store, Arc::clone(&parts), control, &metrics)?;
    if control.stopping() {
        return Err(stopped());
    }
    let changes = site.swap(&pipeline, log.topic(), &recomputed)?;
    let after_all = checkpoint::Id { pipeline: Keys::new(HashKey(before.hash_key)).tag(), fence: i64::MAX, number: 0 };
    checkpoint::clean(parts.as_ref(), &[], after_all);
    say(out, &changes.said(metrics.records.get()))?;
    Ok(Outcome::Fine)
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), OpsError> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(OpsError::Output)
}

/// What is left to do if the log does not determine enough.
const DROP_HISTORY: &str = "to replace all rows by what is left, give --drop-history --yes-drop-history";

impl Before {
    /// What can be recomputed from the log as it is: from where the pipeline began to read, or from an entry of the history. Refuses what
    /// would leave a window that is not final without a part of its events.
    fn recomputed(&self, description: &Description, wish: &Wish, drops_history: bool) -> Result<Recomputed, String> {
        let start = |(&partition, bounds): (&i32, &Bounds)| {
            let start = self.partitions.get(&partition).map_or(bounds.low, |&(start, _)| start);
            (partition, if drops_history { start.clamp(bounds.low, bounds.high) } else { start })
        };
        let starts: BTreeMap<i32, i64> = description.partitions.iter().map(start).collect();
        let inexact_until = self.inexact_until.filter(|_| !drops_history);
        let recomputed =
            |determined| Recomputed { determined, grains: wish.grains, rules: wish.rules, inexact_until, drops_history };
        let low = |partition| description.partitions.get(&partition).map_or(0, |bounds| bounds.low);
        let of =
            |history: &[Entry]| Determined::of(&starts, low, history, wish.rules.viewer_timeout_nanos(), inexact_until, None);
        if drops_history {
            return Ok(recomputed(of(&[]).expect("it starts with what is there")));
        }
        self.refuse_another_log(description)?;
        let history = self.history.iter().cloned().filter_map(|entry| entry.entry(self.hash_key, &self.partitions));
        let determined = of(&history.collect::<Vec<_>>()).ok_or_else(|| {
            format!("the log no longer reaches back to any entry of progress_history: nothing tells which windows it determines; {DROP_HISTORY}")
        })?;
        let stored = Rules::of_fingerprint(&self.fingerprint);
        let times_out_later = |stored: Rules| stored.viewer_timeout_nanos() < wish.rules.viewer_timeout_nanos();
        if inexact_until.is_some() && stored.is_none_or(times_out_later) {
            return Err(format!(
                "VIEWER_TIMEOUT is larger than it was when windows were given up by a recover: viewers whose joins are gone would count in more \
                 windows; {DROP_HISTORY}"
            ));
        }
        let knew = stored.is_some_and(|rules| rules.max_future_skew() >= wish.rules.max_future_skew());
        if determined.entry.is_some() && !knew {
            return Err(format!(
                "MAX_FUTURE_SKEW is larger than it was, or the rows were made by another version: expired records may count now in windows \
                 that are to be made anew; {DROP_HISTORY}"
            ));
        }
        let recomputed = recomputed(determined);
        recomputed.refuse_open_windows(self.watermark)?;
        Ok(recomputed)
    }

    /// Rows that were made from another log, or from records that are not there any more behind those that are.
    fn refuse_another_log(&self, description: &Description) -> Result<(), String> {
        let is_cut = |(partition, &(_, next_offset)): (&i32, &(i64, i64))| {
            description.partitions.get(partition).is_none_or(|bounds| bounds.high < next_offset)
        };
        if self.fingerprint.starts_with(&format!("{} ", description.id)) && !self.partitions.iter().any(is_cut) {
            return Ok(());
        }
        Err(format!(
            "the rows were made from another log ({}) than this one ({}), or it was cut: they cannot be recomputed from it; {DROP_HISTORY}",
            self.fingerprint, description.id
        ))
    }

    /// What is going to happen, for people.
    fn plan(&self, description: &Description, recomputed: &Recomputed, fingerprint: &str) -> String {
        const INFALLIBLE: &str = "a string takes all text";
        let mut text = String::new();
        let mut line = |name: &str, value: String| writeln!(text, "  {name:<10} {value}").expect(INFALLIBLE);
        let watermark = self.watermark.map_or_else(|| "none".to_owned(), |watermark| watermark.to_string());
        line("now", format!("{} rows, {} dead letters, epoch {}, watermark {watermark}", self.rows, self.letters, self.epoch));
        line("made with", self.fingerprint.clone());
        line("made anew", fingerprint.to_owned());
        let Determined { read_from, from, .. } = &recomputed.determined;
        for (partition, &ReadTo { next_offset: start, .. }) in read_from {
            let bounds = description.partitions[partition];
            line("reads", format!("partition {partition}, offsets {start} to {}", bounds.high));
            if let Some(&(first, _)) = self.partitions.get(partition).filter(|(first, _)| *first < start) {
                let what = format!("partition {partition}, offsets {first} to {start} have expired");
                match recomputed.drops_history {
                    true => line("LOST", format!("{what}: what came from them disappears")),
                    false => line("kept", format!("{what}: windows that begin before {} stay as they are", from.start())),
                }
            }
        }
        for partition in self.partitions.keys().filter(|partition| !read_from.contains_key(partition)) {
            line("LOST", format!("partition {partition} is not in the topic any more: what came from it disappears"));
        }
        if recomputed.determined.entry.is_some() {
            let what = "dead letters are made anew from there on: of records in windows that stay, some may come or go";
            line("", what.to_owned());
        }
        line("then", format!("replaces these rows, dead letters and progress in one transaction, as epoch {}", self.epoch + 1));
        line(
            "",
            "final rows may change once; verdicts that a clock had a part in are taken anew; old checkpoints are dropped"
                .to_owned(),
        );
        text
    }
}

impl Changes {
    fn said(&self, records: u64) -> String {
        let Changes { epoch, rows_written, rows_removed, letters_written, letters_removed } = self;
        format!(
            "rebuilt from {records} records, epoch {epoch}: {rows_written} rows new or changed, {rows_removed} removed; \
             {letters_written} dead letters new or changed, {letters_removed} removed\n"
        )
    }
}

/// The refusal of a rebuild while a run is there.
fn held(place: &str, pipeline: &str) -> StoreError {
    StoreError::Fatal(format!("a run of pipeline {pipeline} holds {place}: stop it (and what starts it again), then rebuild"))
}

/// Somebody took over in spite of the lock, so what was made is not swapped in.
fn refuse_other_fence(pipeline: &str, theirs: i64, ours: i64) -> Result<(), StoreError> {
    if theirs == ours {
        return Ok(());
    }
    Err(StoreError::Fenced { pipeline: pipeline.to_owned(), theirs, ours })
}
