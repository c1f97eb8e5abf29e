//! From a log of live-stream events to per-minute metrics. The modules stand in the order of the data's path:
//!
//! - [`decode`]: bytes to an event, or a reason why not; pure
//! - [`oracle`]: the same answer by naive recomputation, for tests and `verify`

pub mod decode;
pub mod oracle;
