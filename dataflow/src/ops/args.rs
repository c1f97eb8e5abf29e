//! Flags of the operator's commands; each doc comment is its help text.

use super::books::{Filter, Position};
use crate::config::RunArgs;
use crate::decode::instant;
use std::path::PathBuf;
use tidemark_model::{Micros, Reason};
use tidemark_settings::log::LogArgs;
use tidemark_settings::store::StoreArgs;

/// Which log and which store.
#[derive(Clone, Debug, clap::Args)]
pub struct PlaceArgs {
    /// Where the events are.
    #[command(flatten)]
    pub log: LogArgs,
    /// Where the metrics are.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Name of the pipeline; there is one in a schema
    #[arg(long, env = "PIPELINE", value_name = "NAME", default_value = "tidemark")]
    pub pipeline: String,
}

/// Recompute everything from the log and compare it with the store.
///
/// Reads one consistent state of the store, also while the pipeline runs, then the log up to just the offsets that this state
/// stands for, with the settings that its rows were made with; recomputes all by a second, naive implementation; and compares
/// every row of stream_metrics_minute, stream_state and dead_letters and the partitions' watermarks. Verdicts in which a clock
/// had a part (closed, future) are taken from the store. The log is held in memory meanwhile.
///
/// Exit status: 0 no difference, 1 differences, 2 not done (bad usage, something out of reach, records expired).
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct VerifyArgs {
    /// Log and store.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Print at most this many differences; all are counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Print at most this many of the records that are responsible for a difference
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub records: usize,
}

/// Recompute all rows from the log and replace what the store holds, at once.
///
/// Reads the log from its beginning to its present end with the settings now given (a larger WATERMARK lets late events in)
/// into empty tables, dead letters included, and then replaces rows, states, dead letters and progress in one transaction:
/// readers see all of the old or all of the new. Rows that come out the same are not touched, the epoch goes on from where it
/// was, and letters that were replayed stay marked. Verdicts in which a clock had a part (closed, future) are taken anew, and
/// checkpoints are dropped. What has expired from the log cannot be recomputed and disappears from the store.
///
/// The pipeline must be stopped; a run that is started meanwhile waits. After a kill the old rows are still there: start again.
///
/// Exit status: 0 done, 2 not done.
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RebuildArgs {
    /// The settings to recompute with.
    #[command(flatten)]
    pub run: RunArgs,
    /// Do it; without this only what would be done is printed
    #[arg(long)]
    pub yes: bool,
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
    #[command(verbatim_doc_comment)]
    Replay(ReplayArgs),
}

/// Flags of `dead-letters list`.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Log and store.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Which ones.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Print one JSON object a line instead of a table, payloads included
    #[arg(long)]
    pub json: bool,
}

/// Flags of `dead-letters show`.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// Log and store.
    #[command(flatten)]
    pub place: PlaceArgs,
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
}

/// Flags of `dead-letters replay`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    /// Log and store.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Letters, as PARTITION:OFFSET
    #[arg(value_name = "PARTITION:OFFSET", value_parser = position)]
    pub positions: Vec<Position>,
    /// Which ones.
    #[command(flatten)]
    pub filter: FilterArgs,
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
