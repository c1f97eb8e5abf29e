//! The totals of each window, over all streams.

use crate::Slice;
use crate::flow::{RowKey, Totals};
use crate::keys::StreamKey;
use differential_dataflow::difference::{Abelian, IsZero, Semigroup};
use differential_dataflow::operators::CountTotal;
use differential_dataflow::{AsCollection, VecCollection};
use std::collections::BTreeMap;
use tidemark_model::Window;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

/// How many streams have a row of a window, and the row of all streams: of everybody, also in streams in which nothing happened, whose
/// viewers are present all the same. There are totals iff some stream has a row.
pub fn totals<'scope>(
    rows: VecCollection<'scope, Slice, (RowKey, Totals), isize>,
) -> VecCollection<'scope, Slice, (Window, (i64, Totals)), isize> {
    type Builder = CapacityContainerBuilder<Vec<(Window, Slice, (i64, Totals))>>;
    // A row that changes is one less and one more: most of it comes to nothing before it travels.
    let changes = rows.inner.unary::<Builder, _, _, _>(Pipeline, "Sum by window", |_, _| {
        move |input, output| {
            input.for_each_stamp(|stamp, data| {
                let mut sums: BTreeMap<(Window, Slice), (i64, Totals)> = BTreeMap::new();
                for (((stream, window), mut totals), slice, change) in data.flat_map(|batch| batch.drain(..)) {
                    let (streams, all) = sums.entry((window, slice)).or_default();
                    if stream == StreamKey::ALL {
                        if change < 0 {
                            totals.negate();
                        }
                        all.plus_equals(&totals);
                    } else {
                        *streams += change as i64;
                    }
                }
                let sums = sums.into_iter().filter(|(_, (streams, all))| *streams != 0 || !all.is_zero());
                output.session(&stamp).give_iterator(sums.map(|((window, slice), sum)| (window, slice, sum)));
            });
        }
    });
    changes.as_collection().count_total().filter(|(_, (streams, _))| *streams > 0)
}
