//! Is every row what the log says? One consistent state of the store against the oracle's recomputation.
//!
//! - `compare`: the log and the tables are read once, side by side in the order of time; neither is held in memory
//! - `in_order`: the tables' side of it
//! - `evidence`: only if something differs, the log is read once more, for the records behind it
//! - `print`: what is said

mod compare;
mod evidence;
mod in_order;
mod print;

pub use compare::{Comparison, Counts, Difference, Findings, Name};

use super::args::VerifyArgs;
use super::books::{self, Progress, Tables};
use super::{OpsError, Outcome, past};
use crate::checkpoint::history::Determined;
use crate::oracle::{self, Clock, Evidence, Highest, Oracle, Witness};
use crate::rules::Rules;
use crate::source::Log;
use evidence::Reading;
use in_order::LettersInOrder;
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::time::Instant;
use tidemark_model::{Micros, Minute, Table};
use tidemark_settings::SettingsError;
use tidemark_settings::kafka::Role;

/// Runs the command.
pub fn run(args: &VerifyArgs, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    let refused = |error: SettingsError| OpsError::Refused(error.to_string());
    let log = crate::source::open(args.place.log.resolve(Role::Consumer, &None).map_err(refused)?);
    let store = args.place.store.resolve(&args.place.log.data_dir).map_err(refused)?;
    let started = Instant::now();
    let mut books = books::open(&store, None)?;
    let mut tables = books.tables(&args.place.pipeline, log.topic())?.ok_or_else(|| {
        let pipeline = &args.place.pipeline;
        OpsError::Refused(format!("{store} holds no pipeline {pipeline}: check PIPELINE, or start tidemark-dataflow"))
    })?;
    let (tables, streams) = (tables.as_mut(), (!args.streams.is_empty()).then_some(&*args.streams));
    let progress = tables.progress().clone();
    let judged = Judged::of(&progress, log.as_ref(), args.since)?;
    let not_judged = if streams.is_none() { judged.count_others(tables)? } else { 0 };
    let mut oracle = judged.oracle(&progress);
    if let Some(streams) = streams {
        oracle.only(streams.iter().cloned().collect());
    }
    let mut comparison = Comparison::new(tables, oracle, judged.determined.from, streams, judged.letters(), args.limit)?;
    let records = past::read(log.as_ref(), &judged.ranges, &mut comparison)?;
    let (findings, counts) = comparison.finish()?;
    let evidence = judged.evidence(&findings, tables, log.as_ref(), args.records).unwrap_or_else(|error| {
        tracing::warn!(%error, "the records behind the differences cannot be read");
        vec![None; findings.shown.len()]
    });
    let report = print::Report {
        progress: &progress,
        findings: &findings,
        counts,
        evidence: &evidence,
        records,
        judged_from: (not_judged > 0 || args.since.is_some()).then_some((judged.determined.from, not_judged)),
        since: args.since.is_some(),
        streams: streams.map(<[String]>::len),
        took: started.elapsed(),
    };
    let text = if args.json { report.json(args.records) } else { report.text(args.records) };
    out.write_all(text.as_bytes()).map_err(OpsError::Output)?;
    Ok(if findings.total == 0 { Outcome::Fine } else { Outcome::Differences })
}

/// What is judged, and what is read for it.
struct Judged {
    rules: oracle::Rules,
    determined: Determined,
    /// What is read of each partition, and the highest event time before that.
    ranges: BTreeMap<i32, Range<i64>>,
    before: Highest,
}

impl Judged {
    /// What the log still determines of windows that begin at `since` or later; all from where the pipeline began to read if the log no longer
    /// reaches back to any entry of the history, which is then refused.
    fn of(progress: &Progress, log: &dyn Log, since: Option<Micros>) -> Result<Judged, OpsError> {
        let rules = rules_of(progress, log)?;
        let description = log.describe()?;
        // Below it the letters are gone, and with them verdicts that only they tell.
        let dropped = |partition| progress.letters_from.get(&partition).copied().unwrap_or(0);
        let low = |partition| description.partitions.get(&partition).map_or(0, |bounds| bounds.low).max(dropped(partition));
        let starts = progress.partitions.iter().map(|(&partition, progress)| (partition, progress.start_offset)).collect();
        let viewer_timeout = rules.viewer_timeout.saturating_mul(1_000);
        let since = since.map(first_from);
        let determined = Determined::of(&starts, low, &progress.history, viewer_timeout, progress.inexact_until, since)
            .or_else(|| Determined::of(&starts, |_| 0, &[], viewer_timeout, None, since))
            .expect("a log that begins with 0 has all");
        let read_from = |partition: i32| determined.read_from[&partition].next_offset;
        let range = |(&partition, of): (&i32, &books::PartitionProgress)| (partition, read_from(partition)..of.next_offset);
        let ranges = progress.partitions.iter().map(range).collect();
        let before =
            determined.read_from.iter().filter_map(|(&partition, read_to)| Some((partition, read_to.highest?))).collect();
        Ok(Judged { rules, determined, ranges, before })
    }

    fn oracle(&self, progress: &Progress) -> Oracle {
        Oracle::new(self.ranges.keys().copied(), &self.before, &self.rules, Clock::Stored, progress.watermark)
    }

    /// The dead letters of the records that are read. Letters of earlier records are judged only if the whole log is read.
    fn letters(&self) -> LettersInOrder {
        let from = |range: &Range<i64>| if self.determined.entry.is_some() { range.start } else { i64::MIN };
        LettersInOrder::new(&self.ranges.iter().map(|(&partition, range)| (partition, from(range))).collect())
    }

    /// How many rows of all tables are of before what is judged.
    fn count_others(&self, tables: &mut dyn Tables) -> Result<u64, OpsError> {
        let mut others = 0;
        if self.determined.from > Minute(0) {
            for table in Table::ALL {
                others += tables.count_before(table, self.determined.from.start())?;
            }
        }
        for (&partition, range) in self.ranges.iter().filter(|_| self.determined.entry.is_some()) {
            others += tables.count_letters_below(partition, range.start)?;
        }
        Ok(others)
    }

    /// The records behind each difference that is shown.
    fn evidence(
        &self,
        findings: &Findings,
        tables: &mut dyn Tables,
        log: &dyn Log,
        most_records: usize,
    ) -> Result<Vec<Option<Vec<Evidence>>>, OpsError> {
        let mut of_each = vec![None; findings.shown.len()];
        let watermark = tables.progress().watermark;
        let questions = findings.shown.iter().map(|difference| evidence::question(difference, watermark));
        let asked: Vec<_> = questions.enumerate().filter_map(|(index, question)| Some((index, question?))).collect();
        if asked.is_empty() || most_records == 0 {
            return Ok(of_each);
        }
        let questions = asked.iter().map(|(_, question)| question.clone()).collect();
        let witness = Witness::new(self.ranges.keys().copied(), &self.before, &self.rules, Clock::Stored, questions);
        let mut reading = Reading { tables, letters: self.letters(), witness };
        past::read(log, &self.ranges, &mut reading)?;
        for ((index, question), records) in asked.iter().zip(reading.witness.answers()) {
            of_each[*index] = Some(evidence::that_matter(&findings.shown[*index], question, records));
        }
        Ok(of_each)
    }
}

/// The first window that begins here or later.
fn first_from(time: Micros) -> Minute {
    let first = Minute::first_open(time);
    if first.start() < time { Minute(first.0 + 1) } else { first }
}

/// The rules that the stored rows were made with, if they were made from this log.
fn rules_of(progress: &Progress, log: &dyn Log) -> Result<oracle::Rules, OpsError> {
    let fingerprint = &progress.fingerprint;
    let rules = Rules::of_fingerprint(fingerprint).ok_or_else(|| {
        OpsError::Refused(format!("the rows were made by another version ({fingerprint}): verify with that one, or rebuild"))
    })?;
    let of_this_log = crate::plan::fingerprint(&log.describe()?, &rules);
    if of_this_log != *fingerprint {
        return Err(OpsError::Refused(format!(
            "the rows were made from another log ({fingerprint}) than this one ({of_this_log}): check KAFKA_BOOTSTRAP, KAFKA_TOPIC \
             and DATA_DIR"
        )));
    }
    Ok(rules.for_oracle())
}
