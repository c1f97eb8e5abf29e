//! Answers queries about the metrics over HTTP. It only reads the store and keeps nothing that the store does not
//! have, so any number of copies can run side by side; it knows nothing of the dataflow but the tables.
//!
//! In the order of a request:
//! - [`startup`]: the application that `main` and the tests both start
//! - [`telemetry`], [`scrape`]: one log line per request, and figures for Prometheus
//! - [`gate`]: bounds, token and security headers; [`proxies`]: whose request it is behind a proxy; [`descriptors`]: how many at once
//! - [`routes`]: one file per resource; [`dashboard`]: the page at `/`
//! - [`freshness`], [`memory`]: how new an answer is, and answers that need not be computed again
//! - [`params`], [`windows`], [`instant`], [`cursor`]: strict reading of what clients send
//! - [`feed`]: the one reader of commits for all who wait for them
//! - [`queries`]: the questions, asked of Postgres or SQLite
//! - [`rows`], [`amounts`], [`value`], [`export`]: the answers, as they are written in JSON and in pieces
//! - [`error`]: everything that can go wrong, as a response
#![forbid(unsafe_code)]

pub mod amounts;
pub mod config;
pub mod cursor;
pub mod dashboard;
pub mod descriptors;
pub mod error;
pub mod export;
pub mod feed;
pub mod freshness;
pub mod gate;
pub mod instant;
pub mod memory;
pub mod params;
pub mod proxies;
pub mod queries;
pub mod routes;
pub mod rows;
pub mod scrape;
pub mod startup;
pub mod telemetry;
pub mod value;
pub mod windows;
