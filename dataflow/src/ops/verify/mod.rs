//! Is every row what the log says? One consistent state of the store against the oracle's recomputation.

mod compare;
mod print;

pub use compare::{Difference, Findings, Name, compare};

use super::args::VerifyArgs;
use super::books::{self, Snapshot};
use super::{OpsError, Outcome, past};
use crate::checkpoint::history::Determined;
use crate::oracle::{self, Clock, Highest, Verdicts, Witness};
use crate::rules::Rules;
use crate::source::Log;
use std::io::Write;
use std::time::Instant;
use tidemark_model::Reason;
use tidemark_settings::SettingsError;
use tidemark_settings::kafka::Role;

/// Runs the command.
pub fn run(args: &VerifyArgs, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    let refused = |error: SettingsError| OpsError::Refused(error.to_string());
    let log = crate::source::open(args.place.log.resolve(Role::Consumer, &None).map_err(refused)?);
    let store = args.place.store.resolve(&args.place.log.data_dir).map_err(refused)?;
    let started = Instant::now();
    let mut snapshot = books::open(&store, None)?.snapshot(&args.place.pipeline, log.topic())?.ok_or_else(|| {
        let pipeline = &args.place.pipeline;
        OpsError::Refused(format!("{store} holds no pipeline {pipeline}: check PIPELINE, or start tidemark-dataflow"))
    })?;
    let rules = rules_of(&snapshot, log.as_ref())?;
    let determined = determined(&snapshot, log.as_ref(), &rules)?;
    let not_judged = snapshot.drop_undetermined(&determined);
    let read_from = |partition: i32| determined.read_from[&partition].next_offset;
    let ranges = snapshot.partitions.iter().map(|(&partition, progress)| (partition, read_from(partition)..progress.next_offset));
    let past = past::read(log.as_ref(), &ranges.collect())?;
    let before =
        determined.read_from.iter().filter_map(|(&partition, read_to)| Some((partition, read_to.highest?))).collect::<Highest>();
    let verdicts = verdicts(&snapshot);
    let mut answer = oracle::answer_from(&past, &before, &rules, Clock::Stored, &verdicts, snapshot.watermark);
    answer.drop_before(determined.from);
    let findings = compare(&snapshot, &answer, &past, args.limit);
    let records = past.values().map(Vec::len).sum();
    let judged_from = (not_judged > 0).then_some((determined.from, not_judged));
    let report =
        print::Report { snapshot: &snapshot, findings: &findings, past: &past, records, judged_from, took: started.elapsed() };
    // Judging the log again is worth it only if there is something to explain.
    let witness = || Witness::new(&past, &before, &rules, Clock::Stored, &verdicts);
    let text = if args.json { report.json(witness, args.records) } else { report.text(witness, args.records) };
    out.write_all(text.as_bytes()).map_err(OpsError::Output)?;
    Ok(if findings.total == 0 { Outcome::Fine } else { Outcome::Differences })
}

/// What the log still determines; all from where the pipeline began to read if it no longer reaches back to any entry of the history,
/// which is then refused.
fn determined(snapshot: &Snapshot, log: &dyn Log, rules: &oracle::Rules) -> Result<Determined, OpsError> {
    let description = log.describe()?;
    // Below it the letters are gone, and with them verdicts that only they tell.
    let dropped = |partition| snapshot.letters_from.get(&partition).copied().unwrap_or(0);
    let low = |partition| description.partitions.get(&partition).map_or(0, |bounds| bounds.low).max(dropped(partition));
    let starts = snapshot.partitions.iter().map(|(&partition, progress)| (partition, progress.start_offset));
    let (starts, viewer_timeout) = (starts.collect(), rules.viewer_timeout.saturating_mul(1_000));
    let determined = Determined::of(&starts, low, &snapshot.history, viewer_timeout, snapshot.inexact_until);
    Ok(determined
        .or_else(|| Determined::of(&starts, |_| 0, &[], viewer_timeout, None))
        .expect("a log that begins with 0 has all"))
}

/// The rules that the stored rows were made with, if they were made from this log.
fn rules_of(snapshot: &Snapshot, log: &dyn Log) -> Result<oracle::Rules, OpsError> {
    let fingerprint = &snapshot.fingerprint;
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

/// What was decided once, with a clock.
fn verdicts(snapshot: &Snapshot) -> Verdicts {
    let verdict = |(at, letter): (&books::Position, &books::StoredLetter)| {
        let reason = Reason::parse(&letter.reason).filter(|reason| matches!(reason, Reason::Future | Reason::Closed))?;
        Some(((at.partition, at.offset), reason))
    };
    snapshot.letters.iter().filter_map(verdict).collect()
}
