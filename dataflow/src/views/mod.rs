//! Differential collections: from all workers' shares to rows. Each view is one small function.
//!
//! `views` never reads a clock, Kafka or SQL, and keeps no state but differential's arrangements.

pub mod minute_metrics;
pub mod minute_totals;

pub use minute_metrics::minute_metrics;
pub use minute_totals::minute_totals;
