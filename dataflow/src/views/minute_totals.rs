//! The totals of each minute, over all streams.

use crate::Slice;
use crate::flow::{RowKey, Totals};
use differential_dataflow::operators::CountTotal;
use differential_dataflow::{AsCollection, VecCollection};
use tidemark_model::Minute;
use timely::dataflow::operators::vec::Map;

/// How many streams have a row of a minute, and what all shares add up to: also those of streams in which nothing happened, whose viewers
/// are present all the same. There are totals iff some stream has a row.
pub fn minute_totals<'scope>(
    shares: VecCollection<'scope, Slice, RowKey, Totals>,
    rows: VecCollection<'scope, Slice, (RowKey, Totals), isize>,
) -> VecCollection<'scope, Slice, (Minute, (i64, Totals)), isize> {
    let shares = shares.inner.map(|((_, minute), slice, share)| (minute, slice, (0, share)));
    let streams = rows.inner.map(|(((_, minute), _), slice, change)| (minute, slice, (change as i64, Totals::default())));
    shares.as_collection().concat(streams.as_collection()).count_total().filter(|(_, (streams, _))| *streams > 0)
}
