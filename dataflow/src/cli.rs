//! The command line of `tidemark-dataflow`; each doc comment is its help text.

use crate::config::RunArgs;
use crate::ops::args::{CheckpointCommand, DeadLettersCommand, RebuildArgs, RecoverArgs, VerifyArgs};

/// Turns a log of live-stream events into per-minute metrics, exactly once.
///
/// Every flag has an environment variable. Without any of them it reads the file log and writes SQLite, both under ./data.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "tidemark-dataflow", version = tidemark_settings::kafka::VERSION, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; the default is run.
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Run the pipeline (the default).
    Run(RunArgs),
    /// Recompute everything from the log and compare it with the store.
    ///
    /// Reads one consistent state of the store, also while the pipeline runs, then the log up to just the offsets that this state
    /// stands for, with the settings that its rows were made with; recomputes all by a second, naive implementation; and compares
    /// every row of stream_metrics_minute, stream_totals_minute (from the first that is there), stream_state and dead_letters and the
    /// partitions' watermarks. Values that are null, because an older version wrote the row, are counted and not compared. Verdicts in
    /// which a clock had a part (closed, future) are taken from the store. The log is held in memory meanwhile.
    ///
    /// Exit status: 0 no difference, 1 differences, 2 not done (bad usage, something out of reach).
    Verify(VerifyArgs),
    /// Rejected records: list them, show one, publish them again.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Saved states: list them, look at one, remove one.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Go on after records that the pipeline needs have expired.
    ///
    /// For a start that is refused because the log no longer has records that were not read yet, or from which a lost state could be made
    /// anew. Without --yes it only says what it would do. Rows that are final stay as they are. The next run goes on from what is left.
    /// Windows that are not final and in which a record that is gone may have a part are stored in inexact_windows: their rows are made of
    /// what is left, so they may be too low. Later windows are exact again. verify and rebuild leave all windows before that alone.
    ///
    /// Give it the settings of the run, CHECKPOINT_DIR too. The pipeline must be stopped. If a start is possible it refuses.
    ///
    /// Exit status: 0 done, 2 not done.
    #[command(mut_arg("until_end", |unused| unused.hide(true)), mut_arg("ignore_checkpoints", |unused| unused.hide(true)))]
    Recover(RecoverArgs),
    /// Recompute all rows that the log determines and replace what the store holds, at once.
    ///
    /// Reads the log from its beginning to its present end with the settings now given (a larger WATERMARK lets late events in)
    /// into empty tables, dead letters included, and then replaces rows, states, dead letters and progress in one transaction:
    /// readers see all of the old or all of the new. Rows that come out the same are not touched, the epoch goes on from where it
    /// was, and letters that were replayed stay marked. Verdicts in which a clock had a part (closed, future) are taken anew, and
    /// old checkpoints are dropped. If the beginning of the log has expired, windows are made anew that begin after all that is gone has
    /// lost its part in them, and older rows stay; if windows that are not final would be wrong, it refuses.
    ///
    /// The pipeline must be stopped; a run that is started meanwhile waits. After a kill the old rows are still there: start again.
    ///
    /// Exit status: 0 done, 2 not done.
    #[command(mut_arg("until_end", |always| always.hide(true)))]
    Rebuild(RebuildArgs),
    /// Ask a run on this machine for its metrics, by HTTPS.
    ///
    /// Exit status: 0 it answers with 200, 2 it does not.
    Healthcheck {
        /// Port of its metrics
        #[arg(default_value_t = 9100)]
        port: u16,
    },
}

impl Cli {
    /// What to do.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}
