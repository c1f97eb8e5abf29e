//! The service as its clients see it: over HTTP, the same cases on SQLite and on Postgres.
//!
//! Postgres cases need `TIDEMARK_TEST_POSTGRES`, the URL of a superuser; each makes a database of its own and drops it.
//! Without it they are skipped, unless `TIDEMARK_TEST_REQUIRE=1`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests stand outside of test functions")]

mod answers;
mod conformance;
mod dashboard;
mod errors;
mod exports;
mod freshness;
mod gate;
mod going_back;
mod grains;
mod health;
mod https;
mod live;
mod metrics;
mod outages;
mod paging;
mod parameters;
mod partitions;
mod program;
mod streams;
mod support;
