//! Differential collections: from all workers' shares to rows. Each view is one small function.
//!
//! ```text
//! shares of minutes, of each stream and of all ──┐
//!                                                ├─ rows ─┬─ of streams
//! the same of hours and days ────────────────────┘        └─ of all, with how many streams have a row: totals
//! ```
//!
//! `views` never reads a clock, Kafka or SQL, and keeps no state but differential's arrangements.

pub mod rows;
pub mod totals;

pub use rows::rows;
pub use totals::totals;
