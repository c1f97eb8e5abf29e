//! Plausible live-stream traffic, and its way into Kafka or the file log.
#![forbid(unsafe_code)]

pub mod traffic;
