//! The command line and its environment twins. The doc comments are the help text.

use crate::pace::Rate;
use crate::traffic::{FaultShares, numbered_streams};
use clap::{Args, Parser, Subcommand};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use tidemark_model::event::MAX_ID_BYTES;
use tidemark_model::{Micros, Nanos};
use tidemark_settings::duration;
use tidemark_settings::log::LogArgs;

/// Plausible live-stream traffic, seeded, into a Kafka topic or the file log.
///
/// Without a subcommand it generates. Every flag has a twin in the environment; a flag wins. SIGINT, SIGTERM and SIGHUP end a run
/// with everything delivered, within 15 s; a second one ends it at once. Exit status: 0 fine, 1 failures, 2 bad usage. RUST_LOG sets what is logged
/// (default info).
#[derive(Debug, Parser)]
#[command(name = "tidemark-generator", version = tidemark_settings::kafka::VERSION, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of the default subcommand.
    #[command(flatten)]
    pub generate: GenerateArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Generate traffic (the default)
    Generate(Box<GenerateArgs>),
    /// Send the lines of a file as they are, also malformed ones; a line's key is its stream_id, if it has one
    Send(SendArgs),
}

/// Flags of `generate`.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// Events per second, a number above 0, or max
    #[arg(long, env = "EVENTS_PER_SEC", value_name = "NUMBER", default_value = "20", value_parser = parse_rate)]
    pub rate: Rate,
    /// Ids of the streams, separated by commas, the most popular first; or how many: 3 means stream_0001 to stream_0003
    #[arg(long, env = "STREAM_IDS", value_name = "IDS", default_value = "5", value_parser = parse_streams)]
    pub streams: Streams,
    /// Number of users who join and leave
    #[arg(long, env = "USER_COUNT", value_name = "NUMBER", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub users: u32,
    /// Stop after this many events [default: endless]
    #[arg(long, env = "GENERATOR_COUNT", value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Decides the traffic: the same seed and flags yield the same events [default: a new one, which is logged]
    #[arg(long, env = "GENERATOR_SEED", value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Historic time: the first event happens at this instant, in UTC, as in 2024-01-01T00:00:00Z. Record times are then the
    /// traffic's own (a Kafka broker may refuse record times more than an hour ahead of its clock)
    #[arg(long, env = "GENERATOR_START", value_name = "RFC3339", value_parser = parse_start)]
    pub start: Option<Micros>,
    /// With --start and a --rate in numbers: event time runs this many times as fast as real time [default: 1]
    #[arg(long, env = "GENERATOR_SPEED", value_name = "FACTOR", value_parser = parse_speed)]
    pub speed: Option<f64>,
    /// With --start and --count: the event time that the --count events cover, evenly, as in "2 hours". Needed for --rate max
    #[arg(long, env = "GENERATOR_SPAN", value_name = "DURATION", value_parser = duration::parse_positive)]
    pub span: Option<Duration>,
    /// Events are up to this much older than the instant of sending, so a little out of order
    #[arg(long, env = "GENERATOR_OUT_OF_ORDER", value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    pub out_of_order: Duration,
    #[command(flatten)]
    faults: FaultArgs,
    /// Where records go.
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Faults")]
struct FaultArgs {
    /// Share of events that are 15 to 75 minutes late, 0 to 1
    #[arg(long, env = "GENERATOR_LATE", value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    late: f64,
    /// Share of events that repeat one of the last 256 byte by byte
    #[arg(long, env = "GENERATOR_DUPLICATES", value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    duplicates: f64,
    /// Share of payloads that are no event
    #[arg(long, env = "GENERATOR_MALFORMED", value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    malformed: f64,
    /// Share of events that are 10 minutes to 30 days ahead
    #[arg(long, env = "GENERATOR_FUTURE", value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    future: f64,
}

/// Flags of `send`.
#[derive(Clone, Debug, Args)]
pub struct SendArgs {
    /// The file, one record a line; - is the standard input
    pub file: PathBuf,
    /// Where records go.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Where records go.
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    /// Where the log is.
    #[command(flatten)]
    pub log: LogArgs,
    #[arg(long = "bootstrap-other-name", env = "BOOTSTRAP", hide = true)]
    pub(crate) bootstrap: Option<String>,
    /// Partitions of a topic that is created here: a new one of the file log, or one of Kafka with --create-topic
    #[arg(long, env = "GENERATOR_PARTITIONS", value_name = "NUMBER", default_value_t = tidemark_model::file_log::DEFAULT_PARTITIONS,
          value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub partitions: i32,
    /// Create the Kafka topic if it does not exist
    #[arg(long, env = "GENERATOR_CREATE_TOPIC")]
    pub create_topic: bool,
    /// How long to wait for Kafka brokers that are not up yet
    #[arg(long, env = "GENERATOR_WAIT", value_name = "DURATION", default_value = "2m", value_parser = duration::parse)]
    pub wait: Duration,
}

/// Ids of streams, the most popular first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streams(pub Vec<String>);

/// Flags that do not go together, or an input that cannot be read: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// How event time goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EventTime {
    /// With the wall clock.
    Live,
    /// On its own, from an instant on.
    Historic {
        /// The first event's instant.
        start: Micros,
        /// Event time from event to event.
        spacing: Duration,
    },
}

impl GenerateArgs {
    /// What goes wrong.
    pub fn faults(&self) -> Result<FaultShares, UsageError> {
        let FaultArgs { late, duplicates, malformed, future } = self.faults;
        if late + duplicates + malformed + future > 1.0 {
            return Err(UsageError(
                "--late, --duplicates, --malformed and --future add up to more than 1: lower them".to_owned(),
            ));
        }
        Ok(FaultShares { late, duplicates, malformed, future })
    }

    /// How event time goes.
    pub fn event_time(&self) -> Result<EventTime, UsageError> {
        let usage = |text: &str| Err(UsageError(text.to_owned()));
        let Some(start) = self.start else {
            return match (self.speed, self.span) {
                (None, None) => Ok(EventTime::Live),
                _ => usage("--speed and --span need --start, the instant of the first event"),
            };
        };
        let spacing = match (self.span, self.speed, self.count, self.rate) {
            (Some(_), Some(_), ..) => return usage("--span and --speed both say how fast event time goes: pass one of them"),
            (Some(_), None, None, _) => return usage("--span is the event time that --count events cover: pass --count too"),
            (Some(span), None, Some(count), _) => span.div_f64(count as f64),
            (None, _, _, Rate::Max) => {
                return usage("--rate max with --start needs --span and --count: how much event time to cover");
            }
            (None, speed, _, Rate::PerSecond(rate)) => {
                let seconds = speed.unwrap_or(1.0) / rate;
                Duration::try_from_secs_f64(seconds).map_err(|error| UsageError(format!("--speed over --rate: {error}")))?
            }
        };
        Ok(EventTime::Historic { start, spacing })
    }
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    if text.trim().eq_ignore_ascii_case("max") {
        return Ok(Rate::Max);
    }
    match text.trim().parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(Rate::PerSecond(rate)),
        _ => Err("allowed: a number above 0 and up to 1000000000, or max".to_owned()),
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("allowed: a share from 0 to 1, as in 0.05".to_owned()),
    }
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed <= 1e9 => Ok(speed),
        _ => Err("allowed: a number above 0 and up to 1000000000".to_owned()),
    }
}

fn parse_start(text: &str) -> Result<Micros, String> {
    let allowed = "allowed: an instant in UTC, 1970 to 2261, as in 2024-01-01T00:00:00Z";
    let time = humantime::parse_rfc3339(text.trim()).map_err(|_| allowed)?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| allowed)?;
    let micros = i64::try_from(since.as_micros()).map_err(|_| allowed)?;
    if Micros(micros) < Nanos::END.to_micros() { Ok(Micros(micros)) } else { Err(allowed.to_owned()) }
}

fn parse_streams(text: &str) -> Result<Streams, String> {
    const MOST: usize = 1_000_000;
    if let Ok(count) = text.trim().parse::<usize>() {
        let allowed = (1..=MOST).contains(&count);
        return if allowed { Ok(Streams(numbered_streams(count))) } else { Err(format!("allowed: 1 to {MOST} streams")) };
    }
    let ids: Vec<String> = text.split(',').map(|id| id.trim().to_owned()).collect();
    let legal = |id: &String| (1..=MAX_ID_BYTES).contains(&id.len()) && !id.contains('\0');
    if !ids.iter().all(legal) {
        return Err(format!("allowed: ids of 1 to {MAX_ID_BYTES} bytes, separated by commas, or a number of streams"));
    }
    let mut seen = BTreeSet::new();
    match ids.iter().find(|id| !seen.insert(id.as_str())) {
        Some(twice) => Err(format!("the id {twice:?} stands there twice")),
        None => Ok(Streams(ids)),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
