//! The row of each window and stream, and of each window and all streams.

use crate::Slice;
use crate::flow::{RowKey, Totals};
use differential_dataflow::VecCollection;
use differential_dataflow::operators::CountTotal;

/// Shares are differences of totals, so a row is their sum; it exists iff an event was counted in its window.
///
/// A worker that has viewers present in a minute without events has a share of it all the same: should an event come late, the
/// row appears with everybody counted.
pub fn rows<'scope>(
    shares: VecCollection<'scope, Slice, RowKey, Totals>,
) -> VecCollection<'scope, Slice, (RowKey, Totals), isize> {
    shares.count_total().filter(|(_, totals)| totals.events > 0)
}
