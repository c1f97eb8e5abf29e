//! Plausible live-stream traffic, and its way into Kafka or the file log.
//!
//! In the order of the data:
//!
//! - [`traffic`]: a pure, seeded iterator of records
//! - [`pace`]: how many are due
//! - [`publish`]: into Kafka or the file log, every delivery counted
//! - [`generate`]: the run that joins the three
//! - [`mod@send`]: the lines of a file instead of traffic, read by [`input`]
//!
//! and around them [`config`] (the command line), [`progress`] and [`app`].
//!
//! No event is dropped silently: what is not delivered is counted, said, and makes the exit status 1.
#![deny(unsafe_code)]

pub mod app;
pub mod config;
pub mod generate;
pub mod input;
pub mod pace;
pub mod progress;
pub mod publish;
pub mod send;
pub mod traffic;
