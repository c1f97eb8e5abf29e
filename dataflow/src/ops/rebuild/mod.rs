//! All rows anew from the log, with the settings now given, swapped in at once.
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
use super::{OpsError, Outcome, output_failed};
use crate::checkpoint;
use crate::cluster;
use crate::keys::{HashKey, Keys};
use crate::plan::{self, StartingOffsets};
use crate::run::Control;
use crate::sink::{Store, StoreError};
use crate::source::Description;
use crate::telemetry::Metrics;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use tidemark_model::Micros;
use tidemark_settings::{SettingsError, store};

/// Where a rebuild takes place: the tables that are there, and room beside them.
trait Site {
    /// What the tables hold now; none if there is no pipeline in them.
    fn before(&mut self, pipeline: &str, topic: &str) -> Result<Option<Before>, StoreError>;

    /// Takes the run lock alone and the next fence token. Refuses while a run is connected.
    fn take_over(&mut self, pipeline: &str) -> Result<(), StoreError>;

    /// Empty tables beside the old ones, in which each partition starts at its offset.
    fn prepare(&mut self, pipeline: &str, topic: &str, starts: &BTreeMap<i32, i64>) -> Result<Box<dyn Store>, StoreError>;

    /// Brings the old tables to what the new ones hold, and drops those.
    fn swap(&mut self, pipeline: &str, topic: &str) -> Result<Changes, StoreError>;
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
    options.wish.starting_offsets = StartingOffsets::Earliest;
    let pipeline = options.wish.pipeline.clone();
    let log_place = args.run.log.resolve(&None).map_err(refused)?;
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
    let starts = starts(&before, &description);
    let fingerprint = plan::fingerprint(&description, &options.wish.rules);
    let mut text = format!("rebuild of pipeline {pipeline} in {store_place} from {log_place}\n");
    text += &before.plan(&description, &starts, &fingerprint);
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
    let changes = site.swap(&pipeline, log.topic())?;
    let after_all = checkpoint::Id { pipeline: Keys::new(HashKey(before.hash_key)).tag(), fence: i64::MAX, number: 0 };
    checkpoint::clean(parts.as_ref(), &[], after_all);
    say(out, &changes.said(metrics.records.get()))?;
    Ok(Outcome::Fine)
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), OpsError> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(output_failed)
}

/// Where each partition starts: as the pipeline did, or where the log begins by now; new ones at their beginning.
fn starts(before: &Before, description: &Description) -> BTreeMap<i32, i64> {
    let start = |(&partition, bounds): (&i32, &crate::source::Bounds)| {
        let first = before.partitions.get(&partition).map_or(bounds.low, |&(start, _)| start.clamp(bounds.low, bounds.high));
        (partition, first)
    };
    description.partitions.iter().map(start).collect()
}

impl Before {
    /// What is going to happen, for people.
    fn plan(&self, description: &Description, starts: &BTreeMap<i32, i64>, fingerprint: &str) -> String {
        const INFALLIBLE: &str = "a string takes all text";
        let mut text = String::new();
        let mut line = |name: &str, value: String| writeln!(text, "  {name:<10} {value}").expect(INFALLIBLE);
        let watermark = self.watermark.map_or_else(|| "none".to_owned(), |watermark| watermark.to_string());
        line("now", format!("{} rows, {} dead letters, epoch {}, watermark {watermark}", self.rows, self.letters, self.epoch));
        line("made with", self.fingerprint.clone());
        line("made anew", fingerprint.to_owned());
        for (partition, &start) in starts {
            let bounds = description.partitions[partition];
            line("reads", format!("partition {partition}, offsets {start} to {}", bounds.high));
            if let Some(&(first, _)) = self.partitions.get(partition).filter(|(first, _)| *first < start) {
                line(
                    "LOST",
                    format!("partition {partition}, offsets {first} to {start} have expired: what came from them disappears"),
                );
            }
        }
        for partition in self.partitions.keys().filter(|partition| !starts.contains_key(partition)) {
            line("LOST", format!("partition {partition} is not in the topic any more: what came from it disappears"));
        }
        line("then", format!("replaces rows, dead letters and progress in one transaction, as epoch {}", self.epoch + 1));
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
