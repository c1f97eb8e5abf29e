//! The operator's commands, beside the run: what is in the store is compared, looked at, published again, or made anew.
//!
//! - [`books`]: what they read of a store, and the one mark that they set; Postgres and SQLite
//! - [`past`]: the log up to stored offsets, read once
//! - [`verify`]: is every row what the log says?
//! - [`dead_letters`]: list, show, replay
//! - [`checkpoint`]: list, inspect, remove
//! - [`recover`]: go on after records that are needed have expired
//! - [`rebuild`]: all rows anew from the log, swapped in at once
//!
//! None of them takes part in the dataflow. Only `rebuild` writes rows. It and `recover` need the pipeline to be stopped.

pub mod args;
pub mod books;
pub mod checkpoint;
pub mod dead_letters;
pub mod past;
pub mod rebuild;
pub mod recover;
pub mod verify;

/// How a command ended; the same for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well, or done.
    Fine,
    /// There are differences, or what was asked for is not there or could not be published.
    Differences,
    /// Not done: bad usage, something out of reach, or refused.
    NotDone,
}

impl Outcome {
    /// The exit status that tells it.
    pub fn status(self) -> u8 {
        match self {
            Outcome::Fine => 0,
            Outcome::Differences => 1,
            Outcome::NotDone => 2,
        }
    }
}

/// Why a command did not do what it was to do. One line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The log.
    #[error(transparent)]
    Source(#[from] crate::source::SourceError),
    /// Where to start.
    #[error(transparent)]
    Plan(#[from] crate::plan::PlanError),
    /// The store.
    #[error(transparent)]
    Store(#[from] crate::sink::StoreError),
    /// What was published.
    #[error(transparent)]
    Publish(#[from] tidemark_generator::publish::PublishError),
    /// The run of a rebuild.
    #[error(transparent)]
    Run(#[from] crate::cluster::RunError),
    /// Standard output went away, or its disk is full.
    #[error("standard output: {0}")]
    Output(std::io::Error),
    /// A file.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// It is refused, and why.
    #[error("{0}")]
    Refused(String),
}
