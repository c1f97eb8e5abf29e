//! From a log of live-stream events to per-minute metrics. The modules stand in the order of the data's path:
//!
//! - [`source`]: the log: Kafka, the file log, or memory
//! - [`decode`]: bytes to an event, or a reason why not; pure
//! - [`admit`]: whether an event counts, by its partition's own watermark; pure
//! - [`names`]: streams' names to their keys
//! - [`reader`]: the four above for one partition, and where it stands
//! - [`watermark`]: marks of all partitions to the pipeline's watermark of each slice
//! - [`exchange`]: events on their way to the worker that owns their viewer
//! - [`fold`]: duplicates, presence, totals: small differences per (stream, minute), at the viewer's owner
//! - [`rollups`]: hours and days of streams, made of closed minutes
//! - [`views`]: differential collections: the sum of all differences is a row
//! - [`sink`]: changes of closed slices to one transaction: Postgres, SQLite, or memory
//!
//! What travels between them is in [`flow`], which knows none of them. What holds them together:
//!
//! - [`pipeline`]: the assembly of the dataflow; [`worker`]: the loop of one worker; [`cluster`]: all workers of a run;
//!   [`net`]: several processes as one
//! - [`checkpoint`]: the state of `fold`, saved, so that a restart replays little
//! - [`cli`], [`config`]: flags and settings; [`plan`]: where a run starts; [`run`]: how it ends;
//!   [`resume`]: how it goes on when the store went back; [`rules`], [`reading`], [`clock`], [`keys`], [`background`]; [`telemetry`];
//!   [`allocator`]
//! - [`trouble`]: what holds the run up at the moment, for the log and for `/health`
//! - [`fail_points`]: where tests end the process
//! - [`oracle`]: the same answer by naive recomputation, for tests and `verify`
//! - [`ops`]: the operator's commands beside the run: `verify`, `dead-letters`, `rebuild`
//!
//! Invariants:
//!
//! 1. Rows are a function of the set of records below the stored offsets, and of the stored verdicts that a clock had a part in;
//!    not of batch size, worker count, interleaving or crashes.
//! 2. Event time is data. The dataflow's time is a slice of wall-clock time, and everything that a commit needs travels at it.
//! 3. Rows, dead letters and progress of a slice are written in one transaction, or not at all.
//! 4. No admitted event meets a closed window; a closed window's row never changes.
//! 5. Every queue has a bound, and who is behind holds the source back.
//! 6. A record's fault is data and is kept; the world's fault is retried, with a bound, or ends the run with one clear line.

pub mod admit;
pub mod allocator;
pub mod background;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod decode;
pub mod exchange;
pub mod fail_points;
pub mod flow;
pub mod fold;
pub mod keys;
pub mod names;
pub mod net;
pub mod ops;
pub mod oracle;
pub mod pipeline;
pub mod plan;
pub mod reader;
pub mod reading;
pub mod resume;
pub mod rollups;
pub mod rules;
pub mod run;
pub mod sink;
pub mod source;
pub mod telemetry;
pub mod trouble;
pub mod views;
pub mod watermark;
pub mod worker;

/// The dataflow's time: slices of wall-clock time, each called by the tick in which it was opened, counted from the run's base.
pub type Slice = u64;
