//! The timely operator around [`Fold`]. It stashes its input and takes slices strictly in order, and ends them once both of
//! its frontiers have passed them. Events wait by the range of their viewer, so that of the large tables, viewers and ids, only one
//! range's is in use at a time, and stays in the caches meanwhile. In a slice it
//!
//! 1. opens the windows that any worker's events touched for the first time: each stream's present viewers become its share;
//! 2. folds the events; those of windows that are open already earlier, if the worker is [`idle`](super::idle);
//! 3. emits the differences at the slice's time t;
//! 4. closes windows by the watermark: hands on at t what they give to hours and days, takes back its shares of them, at t + 1, and
//!    forgets viewers who no longer matter;
//! 5. saves its state, if a checkpoint was asked for at t ([`super::snapshot`]); its viewers while the next slices go on.
//!
//! Closing at t + 1 is what keeps rows: in the same slice the last events of a window and its closing would cancel to nothing.
//!
//! An activation has a bounded length, but for what grows with the streams: windows that open or close, and the changes of a slice.
//! What is left of a slice's events, of tidying or of a snapshot is done in the next one.

use super::idle::Idle;
use super::input::STEP;
use super::snapshot::{Saved, Saver, Snapshot};
use super::streams::MinuteKey;
use super::{Buffers, Fold, Input, Stint, Stints};
use crate::Slice;
use crate::exchange::Events;
use crate::flow::{Admitted, Closed, Request, RowKey, Share, Watermark};
use crate::keys::owner;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{ExchangeCore, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, InputCapability};
use timely::dataflow::{Stream, StreamVec};

/// When to look again whether the thread that writes a checkpoint has room.
const DISK_IS_BEHIND: Duration = Duration::from_millis(2);

/// What the operator is at.
enum Stage {
    /// The next slice.
    Waiting,
    /// The events of a slice: of the range in hand some are done.
    Folding(Capabilities, (Vec<Admitted>, usize), std::vec::IntoIter<Vec<Admitted>>, Option<Request>),
    /// Forgetting those who no longer matter after a slice.
    Tidying(Option<Request>),
}

/// To send at a slice: differences of shares, and what has closed.
struct Capabilities {
    shares: Capability<Slice>,
    closed: Capability<Slice>,
}

/// The differences of all workers' shares, one per key and slice and worker, and what closes in a slice gives to hours and days. What the
/// state holds from a checkpoint is emitted in the first slice.
pub fn shares<'scope>(
    events: Stream<'scope, Slice, Events>,
    watermarks: StreamVec<'scope, Slice, Watermark>,
    mut state: Fold,
    saver: Saver,
    stints: Stints,
    idle: Idle,
) -> (StreamVec<'scope, Slice, Share>, StreamVec<'scope, Slice, Closed>) {
    let scope = events.scope();
    let workers = scope.peers();
    let by_owner = move |event: &Admitted| owner(event.viewer.range(), workers) as u64;
    let by_owner = ExchangeCore::<CapacityContainerBuilder<Events>, _>::new(by_owner);
    let mut builder = OperatorBuilder::new("Fold".to_owned(), scope);
    let info = builder.operator_info();
    let mut events = builder.new_input(events, by_owner);
    let mut watermarks = builder.new_input(watermarks, Pipeline);
    let (shares, share_stream) = builder.new_output();
    let mut shares = OutputBuilder::<_, CapacityContainerBuilder<Vec<Share>>>::from(shares);
    let (closed, closed_stream) = builder.new_output();
    let mut closed = OutputBuilder::<_, CapacityContainerBuilder<Vec<Closed>>>::from(closed);
    builder.build(move |mut initial| {
        let activator = scope.activator_for(info.address);
        let mut first = Some(initial.swap_remove(0));
        drop(initial);
        let mut stash: BTreeMap<Slice, (Capabilities, Input)> = BTreeMap::new();
        let mut buffers = Buffers::default();
        let mut stage = Stage::Waiting;
        let mut snapshot: Option<Snapshot> = None;
        let mut look_again: Option<Instant> = None;
        move |frontiers| {
            let [event_frontier, watermark_frontier] = frontiers else { unreachable!("it has two inputs") };
            let (mut output, mut past) = (shares.activate(), closed.activate());
            let started = Instant::now();
            buffers.give_back(started);
            let mut granted = idle.granted();
            if let Some(capability) = first.take() {
                let slice = *capability.time();
                let mut session = output.session(&capability);
                state.shares(|key, share| session.give((row_key(key), slice, share)));
            }
            // In the order of arrival, which is each partition's own: of two copies in it the first is the one that counts.
            // (`for_each_stamp` sorts unstably.)
            events.for_each(|stamp, batch| {
                let capabilities = Capabilities::of(&stamp);
                let input = &mut stash.entry(*capabilities.shares.time()).or_insert_with(|| (capabilities, Input::default())).1;
                input.take(batch, &mut buffers);
            });
            watermarks.for_each_stamp(|stamp, data| {
                let capabilities = Capabilities::of(&stamp);
                let input = &mut stash.entry(*capabilities.shares.time()).or_insert_with(|| (capabilities, Input::default())).1;
                input.watermarks.extend(data.flat_map(|batch| batch.drain(..)));
            });
            let mut stint = Stint::new(stints, started);
            loop {
                stage = match std::mem::replace(&mut stage, Stage::Waiting) {
                    Stage::Waiting => {
                        if snapshot.as_ref().is_some_and(|snapshot| snapshot.holds_up(&state)) {
                            break;
                        }
                        let Some(mut entry) = stash.first_entry() else { break };
                        let slice = entry.key();
                        if event_frontier.less_than(slice) || watermark_frontier.less_than(slice) {
                            break;
                        }
                        if event_frontier.less_equal(slice) || watermark_frontier.less_equal(slice) {
                            // It is open, and all before it are done.
                            let (_, input) = entry.get_mut();
                            if granted {
                                input.fold_early(&mut state, &mut stint);
                            }
                            if input.waiting >= stints.early() {
                                idle.wait(&activator);
                            }
                            break;
                        }
                        let (capabilities, mut input) = entry.remove();
                        let request = state.open(std::mem::take(&mut input.watermarks));
                        Stage::Folding(capabilities, (Vec::new(), 0), input.rest().into_iter(), request)
                    }
                    Stage::Folding(capabilities, (mut range, mut done), mut ranges, request) => {
                        while done == range.len()
                            && let Some(next) = ranges.next()
                        {
                            buffers.keep(std::mem::replace(&mut range, next));
                            done = 0;
                        }
                        if done < range.len() {
                            let step = done..range.len().min(done + STEP);
                            done = step.end;
                            state.fold(&range[step]);
                            stage = Stage::Folding(capabilities, (range, done), ranges, request);
                            if !stint.is_over() {
                                continue;
                            }
                            activator.activate();
                            break;
                        }
                        buffers.keep(range);
                        // What this slice has changed goes on its way before anything of the next is begun.
                        granted = false;
                        let Capabilities { shares, closed } = capabilities;
                        let slice = *shares.time();
                        let mut session = output.session(&shares);
                        state.changes(|key, change| session.give((row_key(key), slice, change)));
                        drop(session);
                        let next = slice + 1;
                        let shares = shares.delayed(&next);
                        let (mut session, mut past) = (output.session(&shares), past.session(&closed));
                        state.close(
                            |key, change| session.give((row_key(key), next, change)),
                            |stream, run, of| past.give((stream, run, of)),
                        );
                        drop((session, past));
                        Stage::Tidying(request)
                    }
                    Stage::Tidying(request) => {
                        if state.tidy() {
                            stage = Stage::Tidying(request);
                            if !stint.is_over() {
                                continue;
                            }
                            activator.activate();
                            break;
                        }
                        if let Some(request) = request {
                            // Whoever asks anew has given up the one before.
                            snapshot = Some(saver.begin(&mut state, &request));
                        }
                        Stage::Waiting
                    }
                }
            }
            if let Some(saving) = snapshot.take() {
                // Of what nothing waits for a piece at a time, because a slice goes through several activations.
                let mut stint = if saving.holds_up(&state) { stint } else { Stint::Steps(1) };
                match saving.save(&mut state, &mut stint) {
                    // The next slice may have waited for it.
                    Saved::All => activator.activate(),
                    Saved::Some(left) => {
                        snapshot = Some(left);
                        activator.activate();
                    }
                    Saved::Full(left) => {
                        snapshot = Some(left);
                        // One timer at a time: slices go on meanwhile, with activations of their own.
                        if look_again.is_none_or(|at| at <= started) {
                            look_again = Some(started + DISK_IS_BEHIND);
                            activator.activate_after(DISK_IS_BEHIND);
                        }
                    }
                }
            }
            state.metrics.activation(started.elapsed());
        }
    });
    (share_stream, closed_stream)
}

fn row_key((stream, minute): MinuteKey) -> RowKey {
    (stream, minute.into())
}

impl Capabilities {
    fn of(stamp: &InputCapability<Slice>) -> Capabilities {
        let of = |output| stamp.retain_least(output).expect("a message has a time");
        Capabilities { shares: of(0), closed: of(1) }
    }
}
