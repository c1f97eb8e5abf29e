//! The application: from settings to a run and its one line of summary. `main` and nobody else starts it.

use crate::config::{Command, EventTime, GenerateArgs, SendArgs, TargetArgs, UsageError};
use crate::generate::{Plan, Summary, run};
use crate::input;
use crate::pace::Pace;
use crate::progress::Progress;
use crate::publish::{FileLog, KafkaOptions, KafkaPublisher, Publisher, wall_clock};
use crate::send::send;
use crate::traffic::{Traffic, TrafficConfig};
use anyhow::{Context, Result, bail};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tidemark_settings::log::Log;

/// Runs a command until it is done or `stop` is set. The line is for the standard output; with an error it is printed too.
pub fn execute(command: Command, progress: &mut Progress, stop: &Arc<AtomicBool>) -> (Option<String>, Result<()>) {
    let outcome = match command {
        Command::Generate(args) => generate(&args, progress, stop),
        Command::Send(args) => send_file(&args, progress, stop),
    };
    match outcome {
        Ok((line, result)) => (Some(line), result),
        Err(error) => (None, Err(error)),
    }
}

type Outcome = Result<(String, Result<()>)>;

fn generate(args: &GenerateArgs, progress: &mut Progress, stop: &Arc<AtomicBool>) -> Outcome {
    let seed = args.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let plan = Plan { pace: Pace::new(args.rate), count: args.count, event_time: args.event_time()? };
    let traffic = Traffic::new(traffic_config(args, seed)?);
    let mut publisher = open(&args.target, stop)?;
    tracing::info!("generating with --seed {seed}");
    let (summary, result) = run(&plan, traffic, publisher.as_mut(), progress, stop);
    Ok((format!("{summary}; seed {seed}"), verdict(&summary, result.map_err(Into::into))))
}

fn traffic_config(args: &GenerateArgs, seed: u64) -> Result<TrafficConfig, UsageError> {
    let config = TrafficConfig {
        seed,
        streams: args.streams.0.clone(),
        users: args.users as usize,
        out_of_order: args.out_of_order,
        faults: args.faults()?,
        ..TrafficConfig::default()
    };
    match args.event_time()? {
        EventTime::Live => Ok(config),
        EventTime::Historic { start, spacing } => {
            if start > wall_clock() {
                tracing::warn!("--start {start} lies in the future: readers will reject events that are ahead of their clock");
            }
            Ok(TrafficConfig { start, spacing, ..config })
        }
    }
}

fn send_file(args: &SendArgs, progress: &mut Progress, stop: &Arc<AtomicBool>) -> Outcome {
    // First the file: a wrong name should not cost a wait for brokers.
    let mut lines = lines_of(&args.file, stop)?;
    let mut publisher = open(&args.target, stop)?;
    let (summary, result) = send(lines.as_mut(), publisher.as_mut(), progress, stop);
    let (sent, seconds) = (summary.sent, summary.elapsed.as_secs_f64());
    let (delivered, failed) = (summary.tally.delivered, summary.undelivered());
    let line = format!("{sent} records of {} in {seconds:.1} s: {delivered} delivered, {failed} failed", args.file.display());
    Ok((line, verdict(&summary, result.map_err(Into::into))))
}

fn lines_of(path: &Path, stop: &Arc<AtomicBool>) -> Result<Box<dyn BufRead>> {
    let hint = || format!("cannot open {}: pass a file that exists, or - for the standard input", path.display());
    if path.is_dir() {
        bail!("cannot send {}: it is a directory; pass a file, or - for the standard input", path.display());
    }
    input::open(path, stop).with_context(hint)
}

fn open(args: &TargetArgs, stop: &Arc<AtomicBool>) -> Result<Box<dyn Publisher>> {
    let log = args.log.resolve(&args.bootstrap)?;
    tracing::info!("publishing to {log}");
    match &log {
        Log::File { dir, topic } => {
            let file_log = FileLog::open(dir, topic, args.partitions)?;
            tracing::info!("the topic has {} partitions", file_log.partitions());
            Ok(Box::new(file_log))
        }
        Log::Kafka(kafka) => {
            let create_with_partitions = args.create_topic.then_some(args.partitions);
            let options = KafkaOptions { wait: args.wait, create_with_partitions, stop: Arc::clone(stop) };
            Ok(Box::new(KafkaPublisher::open(kafka, &options)?))
        }
    }
}

/// A run has failed if it stopped early, or if the log did not get all of it.
fn verdict(summary: &Summary, result: Result<()>) -> Result<()> {
    result?;
    match summary.undelivered() {
        0 => Ok(()),
        failed => bail!("{failed} of {} records were not delivered: {}", summary.sent, summary.reasons()),
    }
}
