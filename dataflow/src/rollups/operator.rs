//! The timely operator around [`RollUps`]: takes slices in order, hands out at t what rows are then, and at t + 1 takes back those that are
//! final.

use super::RollUps;
use crate::Slice;
use crate::flow::{Closed, RowKey, Share, Totals, Watermark};
use crate::keys::owner;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tidemark_model::Minute;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::{Capability, Operator};

/// What the operator has saved for the checkpoint of a number: `fold` writes it with what it saves itself.
pub type Saved = Rc<RefCell<Option<(u64, Vec<(RowKey, Totals)>)>>>;

/// What a slice brings.
type Input = (Capability<Slice>, Vec<Closed>, Vec<Watermark>);

/// The rows of hours and days, of each stream and of all together, as differences. What the state holds from a checkpoint is emitted in the
/// first slice.
pub fn rolled<'scope>(
    closed: StreamVec<'scope, Slice, Closed>,
    watermarks: StreamVec<'scope, Slice, Watermark>,
    mut state: RollUps,
    saved: Saved,
) -> StreamVec<'scope, Slice, Share> {
    type Builder = CapacityContainerBuilder<Vec<Share>>;
    let workers = closed.scope().peers();
    let by_owner = Exchange::new(move |&(stream, ..): &Closed| owner(stream.range(), workers) as u64);
    closed.binary_frontier::<_, Builder, _, _, _, _>(watermarks, by_owner, Pipeline, "Roll up", move |initial, _| {
        let mut first = Some(initial);
        let mut stash: BTreeMap<Slice, Input> = BTreeMap::new();
        move |(closed, closed_frontier), (watermarks, watermark_frontier), output| {
            if let Some(capability) = first.take() {
                let slice = *capability.time();
                output.session(&capability).give_iterator(state.rows().map(|(key, row)| (key, slice, row)));
            }
            closed.for_each_stamp(|stamp, data| {
                let capability = stamp.retain_least(0).expect("a message has a time");
                let input = stash.entry(*capability.time()).or_insert_with(|| (capability, Vec::new(), Vec::new()));
                input.1.extend(data.flat_map(|batch| batch.drain(..)));
            });
            watermarks.for_each_stamp(|stamp, data| {
                let capability = stamp.retain_least(0).expect("a message has a time");
                let input = stash.entry(*capability.time()).or_insert_with(|| (capability, Vec::new(), Vec::new()));
                input.2.extend(data.flat_map(|batch| batch.drain(..)));
            });
            while let Some(entry) = stash.first_entry() {
                let slice = *entry.key();
                if closed_frontier.less_equal(&slice) || watermark_frontier.less_equal(&slice) {
                    break;
                }
                let (capability, closed, watermarks) = entry.remove();
                let mut session = output.session(&capability);
                state.take(closed, |key, change| session.give((key, slice, change)));
                drop(session);
                let (next, first_open) = (slice + 1, watermarks.iter().filter_map(|watermark| watermark.at).max());
                if let Some(first_open) = first_open.map(Minute::first_open) {
                    let capability = capability.delayed(&next);
                    let mut session = output.session(&capability);
                    state.close(first_open, |key, change| session.give((key, next, change)));
                }
                if let Some(request) = watermarks.iter().find_map(|watermark| watermark.checkpoint.as_ref()) {
                    *saved.borrow_mut() = Some((request.number, state.all().collect()));
                }
            }
        }
    })
}
