//! The domain's words, shared by all programs. No I/O, no clock, no configuration.
//!
//! - [`time`]: instants ([`Nanos`], [`Micros`]) and windows ([`Minute`])
//! - [`money`]: exact amounts ([`Cents`])
//! - [`metrics`]: what is counted in a window: each metric ([`Metric`]) is declared there, once
//! - [`tables`]: where rows of metrics are kept ([`Table`])
//! - [`event`]: the kinds of events and the JSON that the generator writes
//! - [`reason`]: why a record is rejected
//! - [`file_log`]: the line format of the file log
#![forbid(unsafe_code)]

pub mod event;
pub mod file_log;
pub mod metrics;
pub mod money;
pub mod reason;
pub mod tables;
pub mod time;

pub use event::Kind;
pub use metrics::{Metric, Values};
pub use money::Cents;
pub use reason::Reason;
pub use tables::{Of, Table};
pub use time::{Grain, Micros, Minute, Nanos, Window};
