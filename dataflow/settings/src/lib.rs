//! Settings that several of the programs share, so that one name means one thing everywhere.
//!
//! - [`duration`]: durations as people write them
//! - [`kafka`]: the user's properties of librdkafka, and which of them are allowed
//! - [`log`]: where the events are: a Kafka topic or the file log
//! - [`store`]: where the metrics are: Postgres or SQLite
//! - [`process`]: what every program does first
//! - [`bounded`]: a connection with a deadline
//! - [`secret`]: values that may stand in a file; [`mod@file`]: how files are read
//! - [`signals`]: which signals ask a program to end
//! - [`usage`]: what is said of a command line that cannot be used
//!
//! An environment variable that is set but empty counts as unset, as compose files make them.

pub mod bounded;
pub mod duration;
pub mod file;
pub mod kafka;
pub mod log;
pub mod process;
pub mod secret;
pub mod signals;
pub mod store;
pub mod usage;

use std::path::PathBuf;

/// A setting that cannot be used: says which, what it was, and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value that is not allowed.
    #[error("{name}={value:?}: {allowed}")]
    Invalid {
        /// The environment name of the setting.
        name: String,
        /// What it was set to.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A value that is not allowed, and that may be a password or hold one: it is not told.
    #[error("{name}: {allowed} (its value is not shown: it may hold a password)")]
    Hidden {
        /// The environment name of the setting.
        name: String,
        /// What is wrong, and what is allowed.
        allowed: String,
    },
    /// A property of librdkafka that cannot be set, or not to this value. Its value is not told.
    #[error("Kafka property {name} (set by {place}): {allowed}")]
    Property {
        /// The property.
        name: String,
        /// Where it was set.
        place: String,
        /// What is allowed, and why.
        allowed: String,
    },
    /// Two settings that exclude each other.
    #[error("{0}")]
    Conflict(String),
    /// A file named by a setting that cannot be read.
    #[error("{name}={path}: cannot be read: {source}")]
    Unreadable {
        /// The environment name of the setting.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// `None` for an unset or empty value.
pub(crate) fn non_empty(value: &Option<String>) -> Option<&str> {
    value.as_deref().map(str::trim).filter(|value| !value.is_empty())
}

/// Removes environment variables that are set but empty, so that they count as unset and defaults apply.
///
/// Call it before any thread is started and before the command line is parsed; [`process::run`] does.
pub fn unset_empty_variables() {
    for (name, value) in std::env::vars_os() {
        if value.is_empty() {
            // SAFETY: the caller promises that no other thread runs yet, so nobody reads the environment meanwhile.
            unsafe { std::env::remove_var(name) };
        }
    }
}
