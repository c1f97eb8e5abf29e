//! Where records go: Kafka, the file log, or a vector for tests.
//!
//! A publisher takes records in order, may hold them back for a moment, and counts each as delivered only once the log has it
//! for good. It never drops one silently.

mod file_log;
mod kafka;

pub use file_log::FileLog;
pub use kafka::bootstrap::Bootstrap;
pub use kafka::probe::explain;
pub use kafka::token::{give_token, oauth_token};
pub use kafka::{KafkaOptions, KafkaPublisher};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tidemark_model::Micros;
use tidemark_settings::SettingsError;
use tidemark_settings::kafka::variable;

/// A record to publish.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// Decides the partition, if there is one.
    pub key: Option<&'a [u8]>,
    /// The partition, whatever the key; it must exist.
    pub partition: Option<i32>,
    /// The bytes.
    pub payload: &'a [u8],
    /// The record time; the publisher's clock if absent.
    pub time: Option<Micros>,
}

/// What became of the records so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that the log has.
    pub delivered: u64,
    /// Records that it will not get, by reason.
    pub failures: BTreeMap<String, u64>,
}

impl Tally {
    /// Records that the log will not get.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Counts failures of one reason.
    pub fn fail(&mut self, reason: &str, records: u64) {
        *self.failures.entry(reason.to_owned()).or_default() += records;
    }
}

/// A way into a log.
pub trait Publisher {
    /// Takes a record; waits while the log is slower than its source.
    fn publish(&mut self, record: Record<'_>) -> Result<(), PublishError>;

    /// Works on what was taken, for this long; zero does what is due and returns.
    fn serve(&mut self, at_least: Duration) -> Result<(), PublishError>;

    /// Delivers all that was taken, within a bound; what cannot be delivered becomes a failure.
    fn finish(&mut self) -> Result<(), PublishError>;

    /// What became of the records so far.
    fn tally(&self) -> Tally;
}

/// Why nothing can be published any more. One line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A directory or file of the file log that cannot be used.
    #[error("cannot {action} {path}: {source}; set DATA_DIR to a directory that this user may write to and that has room")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another process writes this partition.
    #[error("{0} is locked: another process writes this topic; stop it first, or set KAFKA_TOPIC or DATA_DIR to another log")]
    Locked(PathBuf),
    /// A partition's file that is not the one under its name any more.
    #[error("{0} was removed or replaced while it was written: what was written since is not in the log; start again")]
    Replaced(PathBuf),
    /// A partition that the topic does not have.
    #[error("{dir}: there is no partition {partition}: the topic has {count}")]
    NoPartition {
        /// The topic's directory.
        dir: PathBuf,
        /// The one that was asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// Partition files with a gap.
    #[error("{dir}: partition {missing} of {count} is missing; restore the file, or remove the topic's directory to start anew")]
    MissingPartition {
        /// The topic's directory.
        dir: PathBuf,
        /// The first that is missing.
        missing: i32,
        /// How many there should be.
        count: i32,
    },
    /// A property whose value librdkafka does not take.
    #[error("Kafka property {name}: {why}; set it right in {} or KAFKA_PROPERTIES, or remove it", variable(name))]
    Property {
        /// The property.
        name: String,
        /// What is allowed.
        why: String,
    },
    /// Another setting with which librdkafka makes no client.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The brokers did not answer.
    #[error("no Kafka broker at {bootstrap} within {waited:?}: {why}; {advice}")]
    Unreachable {
        /// `bootstrap.servers`.
        bootstrap: String,
        /// How long was waited.
        waited: Duration,
        /// The last thing that librdkafka said.
        why: String,
        /// What to do.
        advice: &'static str,
    },
    /// What the two sides are set to does not fit, and waiting does not help.
    #[error("Kafka at {bootstrap} does not let this program in: {why}; {advice}")]
    Refused {
        /// `bootstrap.servers`.
        bootstrap: String,
        /// What Kafka or the client says.
        why: String,
        /// What to do.
        advice: &'static str,
    },
    /// The topic does not exist.
    #[error("Kafka topic {topic} does not exist at {bootstrap}; create it, pass --create-topic, or set KAFKA_TOPIC to another")]
    NoTopic {
        /// The topic.
        topic: String,
        /// `bootstrap.servers`.
        bootstrap: String,
    },
    /// Another refusal of Kafka's.
    #[error("Kafka topic {topic} at {bootstrap}: cannot {action}: {why}")]
    Kafka {
        /// The topic.
        topic: String,
        /// `bootstrap.servers`.
        bootstrap: String,
        /// What was tried.
        action: &'static str,
        /// What Kafka says.
        why: String,
    },
    /// Asked to stop before the log was reached.
    #[error("stopped while waiting for Kafka at {0}")]
    Stopped(String),
}

/// The publisher of tests: everything is delivered at once.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Keys and payloads as they came.
    pub records: Vec<(Option<Vec<u8>>, Vec<u8>)>,
}

impl Publisher for Memory {
    fn publish(&mut self, record: Record<'_>) -> Result<(), PublishError> {
        self.records.push((record.key.map(<[u8]>::to_owned), record.payload.to_owned()));
        Ok(())
    }

    fn serve(&mut self, at_least: Duration) -> Result<(), PublishError> {
        std::thread::sleep(at_least);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), PublishError> {
        Ok(())
    }

    fn tally(&self) -> Tally {
        Tally { delivered: self.records.len() as u64, failures: BTreeMap::new() }
    }
}

/// The wall clock, in microseconds since 1970.
pub fn wall_clock() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
