//! The assembly: from admitted events and partition marks to what one commit needs. Connects; computes nothing.

use crate::Slice;
use crate::exchange::Events;
use crate::flow::{Change, Mark};
use crate::fold::idle::Idle;
use crate::fold::snapshot::Saver;
use crate::fold::{self, Fold, Stints};
use crate::keys::StreamKey;
use crate::rollups::{self, RollUps};
use crate::sink::commit::Committer;
use crate::sink::{self, Resume};
use crate::telemetry::Metrics;
use crate::trouble::Troubles;
use crate::views;
use crate::watermark::{self, Known, Tracker};
use differential_dataflow::AsCollection;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use tidemark_model::{Grain, Window};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::{Broadcast, Map};
use timely::dataflow::operators::{Concat, Operator, Probe};
use timely::dataflow::{ProbeHandle, Stream, StreamVec};

/// What a worker sends in.
pub struct Inputs<'scope> {
    /// Events that count.
    pub events: Stream<'scope, Slice, Events>,
    /// Where partitions stand.
    pub marks: StreamVec<'scope, Slice, Mark>,
    /// Names and dead letters, which go to the sink as they are.
    pub changes: StreamVec<'scope, Slice, Change>,
}

/// The state that a worker's operators start with.
pub struct State {
    /// The watermark's rule; only worker 0's is used.
    pub tracker: Tracker,
    /// The viewers that the worker owns.
    pub fold: Fold,
    /// Begins the worker's parts of checkpoints.
    pub saver: Saver,
    /// The hours and days that the worker owns, and where they are saved.
    pub rollups: (RollUps, rollups::Saved),
    /// How long it folds at once.
    pub stints: Stints,
    /// Tells when there is time to fold an open slice's events.
    pub idle: Idle,
    /// What the sink goes on from.
    pub resume: Resume,
    /// Worker 0's commit thread.
    pub committer: Option<Committer>,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// What holds the run up.
    pub troubles: Arc<Troubles>,
}

/// How far the dataflow is.
pub struct Done {
    /// Which slices all workers have folded.
    pub folded: ProbeHandle<Slice>,
    /// Which slices are committed.
    pub committed: ProbeHandle<Slice>,
}

/// Builds the dataflow.
pub fn build(inputs: Inputs<'_>, state: State, known: Rc<RefCell<Known>>) -> Done {
    let watermark = watermark::of_all_partitions(inputs.marks.clone(), state.tracker, state.metrics, state.troubles);
    let watermarks = watermark.clone().broadcast();
    watermark::observe(watermarks.clone(), known);
    let (shares, closed) = fold::shares(inputs.events, watermarks.clone(), state.fold, state.saver, state.stints, state.idle);
    let (folded, shares) = shares.probe();
    let rolled = rollups::rolled(closed, watermarks, state.rollups.0, state.rollups.1);
    let rows = views::rows(shares.concat(rolled).as_collection());
    let totals = views::totals(rows.clone());

    // In the first slice nothing is read that the store does not have: its rows of minutes are those of a checkpoint, perhaps millions.
    // Hours and days are made of closed minutes, and a replay may close more than before.
    let row = |(((stream, window), totals), slice, diff): (((StreamKey, Window), _), Slice, isize)| {
        let is_new = diff > 0 && (slice > 0 || window.grain > Grain::Minute) && stream != StreamKey::ALL;
        is_new.then_some((slice, Change::Row(stream, window, totals)))
    };
    let rows = rows.inner.flat_map(row);
    let total =
        |((window, (streams, totals)), slice, diff)| (diff > 0).then_some((slice, Change::Total(window, streams, totals)));
    let totals = totals.inner.flat_map(total);
    let marks = with_slice(inputs.marks, |mark| match mark {
        Mark::Partition(mark) => Some(Change::Partition(Box::new(mark))),
        Mark::Clock(_) | Mark::Checkpoint { .. } | Mark::Trouble { .. } | Mark::Ended => None,
    });
    let watermark = with_slice(watermark, |watermark| Some(Change::Watermark(Box::new(watermark))));
    let changes = with_slice(inputs.changes, Some);
    let changes = rows.concat(totals).concat(marks).concat(watermark).concat(changes);
    let (committed, _) = sink::commits(changes, state.resume, state.committer).probe();
    Done { folded, committed }
}

/// What goes to the sink, each with the slice in which it travels.
fn with_slice<'scope, D: Clone + 'static>(
    stream: StreamVec<'scope, Slice, D>,
    change: impl Fn(D) -> Option<Change> + 'static,
) -> StreamVec<'scope, Slice, (Slice, Change)> {
    type Builder = CapacityContainerBuilder<Vec<(Slice, Change)>>;
    stream.unary::<Builder, _, _, _>(Pipeline, "With slice", move |_, _| {
        move |input, output| {
            input.for_each_stamp(|stamp, data| {
                let slice = *stamp.least().expect("a message has a time");
                let changes = data.flat_map(|batch| batch.drain(..)).filter_map(&change);
                output.session(&stamp).give_iterator(changes.map(|change| (slice, change)));
            });
        }
    })
}
