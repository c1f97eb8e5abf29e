//! Flags of the operator's commands; each doc comment is its help text.

use super::books::{Filter, Position};
use crate::checkpoint::Id;
use crate::config::RunArgs;
use crate::decode::instant;
use std::path::PathBuf;
use tidemark_model::{Micros, Reason};
use tidemark_settings::log::LogArgs;
use tidemark_settings::store::StoreArgs;

/// Which log and which store.
#[derive(Clone, Debug, clap::Args)]
pub struct PlaceArgs {
    /// Name of the pipeline; there is one in a schema
    #[arg(long, env = "PIPELINE", value_name = "NAME", default_value = "tidemark", help_heading = "Store")]
    pub pipeline: String,
    /// Where the events are.
    #[command(flatten)]
    pub log: LogArgs,
    /// Where the metrics are.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Flags of `verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Print at most this many differences; all are counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Print at most this many of the records that are responsible for a difference
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub records: usize,
    /// Judge only windows that begin at this time or later, as 2026-01-01T12:00:00Z, and read no more of the log than they need
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<Micros>,
    /// Judge only the rows and states of these streams
    #[arg(long, value_name = "STREAM", num_args = 1..)]
    pub streams: Vec<String>,
    /// Log and store.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Flags of `recover`.
#[derive(Clone, Debug, clap::Args)]
pub struct RecoverArgs {
    /// Do it; without this only what would be done is printed
    #[arg(long)]
    pub yes: bool,
    /// The records that expired unread were written before this, as 2026-01-01T12:00:00Z: by the topic's retention, for example. Without it they
    /// may be as new as the present time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub lost_before: Option<Micros>,
    /// The pipeline's settings.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of `rebuild`.
#[derive(Clone, Debug, clap::Args)]
pub struct RebuildArgs {
    /// Do it; without this only what would be done is printed
    #[arg(long)]
    pub yes: bool,
    /// Replace all rows, also those that cannot be recomputed because their records have expired: these disappear
    #[arg(long, requires = "yes_drop_history")]
    pub drop_history: bool,
    /// Needed beside --drop-history: final rows are lost for good
    #[arg(long, requires = "drop_history")]
    pub yes_drop_history: bool,
    /// The settings to recompute with.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What to do with checkpoints.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum CheckpointCommand {
    /// All checkpoints: those that the store names, newest first, and what else there is of this pipeline
    List(CheckpointArgs),
    /// All that is known of one, and whether a restart could use it
    ///
    /// Exit status: 0 it can be used, 1 it cannot, 2 not done.
    Inspect(CheckpointNameArgs),
    /// Remove one: the store no longer names it, then its parts go; ids of events when no other one needs them
    ///
    /// If none is left, the next run replays the log from the offsets of progress_history, or from its start. A pipeline that runs may name
    /// it once more with its next checkpoint; a restart then passes it over.
    Rm(CheckpointNameArgs),
}

/// Where checkpoints are.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckpointArgs {
    /// Where checkpoints are kept; default: DATA_DIR/checkpoints
    #[arg(long, env = "CHECKPOINT_DIR", value_name = "DIR")]
    pub checkpoint_dir: Option<PathBuf>,
    /// Log and store.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Which checkpoint.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckpointNameArgs {
    /// Its name, as `checkpoint list` shows it
    #[arg(value_name = "NAME", value_parser = |text: &str| Id::parse(text).ok_or("allowed: a name as `checkpoint list` shows it"))]
    pub id: Id,
    /// Where it is.
    #[command(flatten)]
    pub at: CheckpointArgs,
}

/// What to do with dead letters.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DeadLettersCommand {
    /// Rejected records, by partition and offset
    List(ListArgs),
    /// All that is known of one
    Show(ShowArgs),
    /// Publish rejected records again, each at most once
    ///
    /// Publishes the raw bytes again, or corrected ones, with the key that the record had; without a key into its partition.
    /// A letter is marked (replayed_at) before it is published, and the mark is taken back if it was surely not published. So no
    /// letter is ever published twice; if this is killed between the two, one letter is marked that may not be in the log.
    ///
    /// What is published again is judged again, with the time of now as its record time. A letter that was late stays late, and
    /// a closed one stays closed: filters leave both out. To have them in, recompute with a larger lateness:
    /// tidemark-dataflow rebuild --watermark DURATION --yes
    ///
    /// A file log has one writer per partition: stop the generator first.
    ///
    /// Exit status: 0 all published, 1 some were not, 2 not done.
    Replay(ReplayArgs),
}

/// Flags of `dead-letters list`.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Print one JSON object a line instead of a table, payloads included
    #[arg(long)]
    pub json: bool,
    /// Which ones.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Log and store.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Flags of `dead-letters show`.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// The partition
    #[arg(value_name = "PARTITION", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: i32,
    /// The record's offset
    #[arg(value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    pub offset: i64,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Print just the payload's bytes, as to be corrected and replayed
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
    /// Log and store.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Flags of `dead-letters replay`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    /// Letters, as PARTITION:OFFSET
    #[arg(value_name = "PARTITION:OFFSET", value_parser = position)]
    pub positions: Vec<Position>,
    /// All that were not replayed yet
    #[arg(long)]
    pub all: bool,
    /// Publish the bytes of this file (- for standard input) in place of the letter's; a line end at its end is left out
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,
    /// Publish corrected letters: lines as of list --json, each with partition, offset and its corrected payload (- for standard
    /// input)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["payload", "positions", "all"])]
    pub corrected: Option<PathBuf>,
    /// Say what would be published
    #[arg(long)]
    pub dry_run: bool,
    /// Which ones.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Log and store.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Which letters; all conditions together.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Which letters")]
pub struct FilterArgs {
    /// Of these reasons, as late,bad_ts
    #[arg(long, value_name = "REASON", value_delimiter = ',', value_parser = reason)]
    pub reason: Vec<Reason>,
    /// In this partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// At or after this offset
    #[arg(long, value_name = "OFFSET")]
    pub from_offset: Option<i64>,
    /// Before this offset
    #[arg(long, value_name = "OFFSET")]
    pub to_offset: Option<i64>,
    /// With a record time at or after this, as 2026-01-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<Micros>,
    /// With a record time before this
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<Micros>,
    /// Published again already
    #[arg(long, conflicts_with = "not_replayed")]
    pub replayed: bool,
    /// Not published again yet
    #[arg(long)]
    pub not_replayed: bool,
}

impl FilterArgs {
    /// The filter.
    pub fn filter(&self) -> Filter {
        Filter {
            reasons: self.reason.clone(),
            partition: self.partition,
            from_offset: self.from_offset,
            to_offset: self.to_offset,
            from: self.from,
            to: self.to,
            replayed: if self.replayed || self.not_replayed { Some(self.replayed) } else { None },
            ..Filter::default()
        }
    }
}

fn reason(text: &str) -> Result<Reason, String> {
    let names = Reason::ALL.map(Reason::as_str).join(", ");
    Reason::parse(text).ok_or_else(|| format!("allowed: {names}"))
}

fn time(text: &str) -> Result<Micros, String> {
    let instant = instant(text.as_bytes()).ok_or("allowed: a time as in 2026-01-01T12:00:00Z, from 1970 to 2261")?;
    Ok(instant.to_micros())
}

fn position(text: &str) -> Result<Position, String> {
    let parts = text.split_once(':').and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
    let parts = parts.filter(|&(partition, offset): &(i32, i64)| partition >= 0 && offset >= 0);
    let (partition, offset) = parts.ok_or("allowed: PARTITION:OFFSET, as in 0:4711")?;
    Ok(Position { partition, offset })
}
