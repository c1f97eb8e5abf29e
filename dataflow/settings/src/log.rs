//! Where the events are: a Kafka topic, or the file log under the data directory.

use crate::kafka::{Properties, Role};
use crate::{SettingsError, non_empty, secret};
use std::path::PathBuf;

/// Flags and environment of the log.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// Kafka brokers, as host:port,host:port. Unset: the file log under DATA_DIR/log
    #[arg(long, env = "KAFKA_BOOTSTRAP", value_name = "HOST:PORT")]
    pub kafka_bootstrap: Option<String>,
    /// Topic of the events; TOPIC is another name of the variable [default: stream.events]
    #[arg(long, env = "KAFKA_TOPIC", value_name = "NAME")]
    pub topic: Option<String>,
    #[arg(long = "topic-other-name", env = "TOPIC", hide = true)]
    topic_other_name: Option<String>,
    /// A file of librdkafka properties, one key=value a line; # starts a comment. A property can also be set in the environment,
    /// which wins: sasl.password as KAFKA__SASL_PASSWORD, or as KAFKA__SASL_PASSWORD_FILE, a file that holds it. Properties on which
    /// exactly-once rests are refused
    #[arg(long, env = "KAFKA_PROPERTIES", value_name = "FILE")]
    pub kafka_properties: Option<PathBuf>,
    /// Directory of the embedded log, store and checkpoints
    #[arg(long, env = "DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
}

/// Where the events are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Log {
    /// A topic of a Kafka cluster.
    Kafka(KafkaTopic),
    /// A topic of the file log.
    File {
        /// The directory that holds topics.
        dir: PathBuf,
        /// The topic.
        topic: String,
    },
}

/// A topic of a Kafka cluster, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaTopic {
    /// `bootstrap.servers`.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// librdkafka properties that the user set; they win over ours, and none of them is one on which a promise rests.
    pub properties: Properties,
}

impl Log {
    /// The topic's name.
    pub fn topic(&self) -> &str {
        match self {
            Log::Kafka(kafka) => &kafka.topic,
            Log::File { topic, .. } => topic,
        }
    }
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Log::Kafka(kafka) => write!(f, "Kafka topic {} at {}", kafka.topic, kafka.bootstrap),
            Log::File { dir, topic } => write!(f, "file log {}", dir.join(topic).display()),
        }
    }
}

impl LogArgs {
    /// Decides where the log is, for a program of this role. `other_bootstrap` is another program's name for the brokers (the generator's `BOOTSTRAP`).
    pub fn resolve(&self, role: Role, other_bootstrap: &Option<String>) -> Result<Log, SettingsError> {
        let topic = match (non_empty(&self.topic), non_empty(&self.topic_other_name)) {
            (Some(one), Some(other)) if one != other => {
                return Err(SettingsError::Conflict(format!("KAFKA_TOPIC={one} and TOPIC={other} differ: set one of them")));
            }
            (one, other) => one.or(other).unwrap_or("stream.events"),
        };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if topic.len() > 249 || topic == "." || topic == ".." || !topic.bytes().all(legal) {
            return Err(SettingsError::Invalid {
                name: "KAFKA_TOPIC".to_owned(),
                value: topic.to_owned(),
                allowed: "allowed: 1 to 249 of A-Z a-z 0-9 . _ - (but not . or ..)".to_owned(),
            });
        }
        let topic = topic.to_owned();
        for (name, brokers) in [("KAFKA_BOOTSTRAP", &self.kafka_bootstrap), ("BOOTSTRAP", other_bootstrap)] {
            if non_empty(brokers).is_some_and(secret::may_be) {
                let login = "user and password are set by KAFKA__SASL_USERNAME and KAFKA__SASL_PASSWORD";
                let allowed = format!("allowed: HOST:PORT,HOST:PORT; {login}");
                return Err(SettingsError::Hidden { name: name.to_owned(), allowed });
            }
        }
        match (non_empty(&self.kafka_bootstrap), non_empty(other_bootstrap)) {
            (Some(one), Some(other)) if one != other => {
                Err(SettingsError::Conflict(format!("KAFKA_BOOTSTRAP={one} and BOOTSTRAP={other} differ: set one of them")))
            }
            (None, None) => Ok(Log::File { dir: self.data_dir.join("log"), topic }),
            (one, other) => {
                let bootstrap = one.or(other).expect("one is set").to_owned();
                let file = self.kafka_properties.as_deref().filter(|path| !path.as_os_str().is_empty());
                let properties = Properties::read(role, &bootstrap, file, std::env::vars_os())?;
                Ok(Log::Kafka(KafkaTopic { bootstrap, topic, properties }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(bootstrap: Option<&str>, topic: Option<&str>) -> LogArgs {
        LogArgs {
            kafka_bootstrap: bootstrap.map(str::to_owned),
            topic: topic.map(str::to_owned),
            data_dir: "d".into(),
            ..LogArgs::default()
        }
    }

    #[test]
    fn without_brokers_it_is_the_file_log() {
        let log = args(Some(""), None).resolve(Role::Consumer, &None).unwrap();
        assert_eq!(log, Log::File { dir: "d/log".into(), topic: "stream.events".to_owned() });
    }

    #[test]
    fn a_login_among_the_brokers_is_refused_and_not_shown() {
        for (ours, other) in [(Some("me:hunter2@broker:9092"), None), (None, Some("broker:9092,password=hunter2".to_owned()))] {
            let told = args(ours, None).resolve(Role::Producer, &other).unwrap_err().to_string();
            assert!(told.contains("BOOTSTRAP: allowed: HOST:PORT") && !told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn names_that_differ_or_are_illegal_are_refused() {
        assert!(args(Some("a:1"), None).resolve(Role::Consumer, &Some("b:1".to_owned())).is_err());
        for topic in ["..", "a/b", "ä"] {
            let error = args(None, Some(topic)).resolve(Role::Consumer, &None).unwrap_err().to_string();
            assert!(error.contains("KAFKA_TOPIC") && error.contains("allowed"), "{error}");
        }
    }
}
