//! From admitted events to small differences per (stream, minute): the state of the viewers that this worker owns.
//!
//! One timely operator over three plain structs: [`duplicates`] (which ids were counted), [`presence`] (who is there, by [`movements`]) and
//! [`streams`] (this worker's share of every open row). It stashes its input and takes slices strictly in order, and ends them once both of
//! its frontiers have passed them. Events wait by the range of their viewer, so that of the large tables, viewers and ids, only one
//! range's is in use at a time, and stays in the caches meanwhile. In a slice it
//!
//! 1. opens the windows that any worker's events touched for the first time: each stream's present viewers become its share;
//! 2. folds the events; those of windows that are open already earlier, if the worker is [`idle`];
//! 3. emits the differences at the slice's time t;
//! 4. closes windows by the watermark: takes back its shares of them, at t + 1, and forgets viewers who no longer matter;
//! 5. saves its state, if a checkpoint was asked for at t ([`snapshot`]); its viewers while the next slices go on.
//!
//! Closing at t + 1 is what keeps rows: in the same slice the last events of a window and its closing would cancel to nothing.
//!
//! An activation has a bounded length, but for what grows with the streams: windows that open or close, and the changes of a slice.
//! What is left of a slice's events, of tidying or of a snapshot is done in the next one.

pub mod duplicates;
pub mod idle;
pub mod movements;
pub mod presence;
pub mod snapshot;
pub mod streams;

pub mod windows;

use crate::Slice;
use crate::exchange::Events;
use crate::flow::{Admitted, Request, RowKey, Share, Totals, Watermark};
use crate::keys::{RANGES, owner};
use crate::telemetry::FoldMetrics;
use duplicates::Duplicates;
use idle::Idle;
use movements::{Movement, Steps};
use presence::Presence;
use snapshot::{Saved, Saver, Snapshot};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use streams::Streams;
use tidemark_model::{Kind, Micros, Minute};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{ExchangeCore, Pipeline};
use timely::dataflow::operators::{Capability, Operator};
use timely::dataflow::{Stream, StreamVec};

/// How much an activation does before it leaves the rest to the next one, so that the worker can turn to its source and its peers.
#[derive(Clone, Copy, Debug)]
pub enum Stints {
    /// As much as this time allows.
    Time(Duration),
    /// So many batches of events or pieces of a snapshot.
    Steps(u32),
}

impl Stints {
    /// [`EARLY`]; where activations are counted, any.
    fn early(self) -> usize {
        match self {
            Stints::Time(_) => EARLY,
            Stints::Steps(_) => 1,
        }
    }
}

impl Default for Stints {
    fn default() -> Stints {
        Stints::Time(Duration::from_millis(4))
    }
}

/// What is left of an activation.
pub enum Stint {
    /// Until then.
    Until(Instant),
    /// So many steps.
    Steps(u32),
}

impl Stint {
    fn new(stints: Stints, started: Instant) -> Stint {
        match stints {
            Stints::Time(time) => Stint::Until(started + time),
            Stints::Steps(steps) => Stint::Steps(steps),
        }
    }

    /// Whether the next step is for the next activation.
    fn is_over(&mut self) -> bool {
        match self {
            Stint::Until(deadline) => Instant::now() >= *deadline,
            Stint::Steps(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
        }
    }
}

/// Events that one step folds.
const STEP: usize = 1_024;
/// Events of the open slice that must wait before folding them is worth an activation.
const EARLY: usize = 4 * STEP;
/// How long memory is kept for the next slices, whether they need it or not.
const KEPT: Duration = Duration::from_secs(30);
/// When to look again whether the thread that writes a checkpoint has room.
const DISK_IS_BEHIND: Duration = Duration::from_millis(2);

/// What the operator is at.
enum Stage {
    /// The next slice.
    Waiting,
    /// The events of a slice: of the range in hand some are done.
    Folding(Capability<Slice>, (Vec<Admitted>, usize), std::vec::IntoIter<Vec<Admitted>>, Option<Request>),
    /// Forgetting those who no longer matter after a slice.
    Tidying(Option<Request>),
}

/// The differences of all workers' shares, one per key and slice and worker. What the state holds from a checkpoint is emitted
/// in the first slice.
pub fn shares<'scope>(
    events: Stream<'scope, Slice, Events>,
    watermarks: StreamVec<'scope, Slice, Watermark>,
    mut state: Fold,
    saver: Saver,
    stints: Stints,
    idle: Idle,
) -> StreamVec<'scope, Slice, Share> {
    type Builder = CapacityContainerBuilder<Vec<Share>>;
    let scope = events.scope();
    let workers = scope.peers();
    let by_owner = move |event: &Admitted| owner(event.viewer.range(), workers) as u64;
    let by_owner = ExchangeCore::<CapacityContainerBuilder<Events>, _>::new(by_owner);
    events.binary_frontier::<_, Builder, _, _, _, _>(watermarks, by_owner, Pipeline, "Fold", move |initial, info| {
        let activator = scope.activator_for(info.address);
        let mut first = Some(initial);
        let mut stash: BTreeMap<Slice, (Capability<Slice>, Input)> = BTreeMap::new();
        let mut buffers = Buffers::default();
        let mut stage = Stage::Waiting;
        let mut snapshot: Option<Snapshot> = None;
        let mut look_again: Option<Instant> = None;
        move |(events, event_frontier), (watermarks, watermark_frontier), output| {
            let started = Instant::now();
            buffers.give_back(started);
            let mut granted = idle.granted();
            if let Some(capability) = first.take() {
                let slice = *capability.time();
                output.session(&capability).give_iterator(state.shares().map(|(key, share)| (key, slice, share)));
            }
            // In the order of arrival, which is each partition's own: of two copies in it the first is the one that counts.
            // (`for_each_stamp` sorts unstably.)
            events.for_each(|stamp, batch| {
                let capability = stamp.retain_least(0).expect("a message has a time");
                let input = &mut stash.entry(*capability.time()).or_insert_with(|| (capability, Input::default())).1;
                input.take(batch, &mut buffers);
            });
            watermarks.for_each_stamp(|stamp, data| {
                let capability = stamp.retain_least(0).expect("a message has a time");
                let input = &mut stash.entry(*capability.time()).or_insert_with(|| (capability, Input::default())).1;
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
                        let (capability, mut input) = entry.remove();
                        let request = state.open(std::mem::take(&mut input.watermarks));
                        Stage::Folding(capability, (Vec::new(), 0), input.rest().into_iter(), request)
                    }
                    Stage::Folding(capability, (mut range, mut done), mut ranges, request) => {
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
                            stage = Stage::Folding(capability, (range, done), ranges, request);
                            if !stint.is_over() {
                                continue;
                            }
                            activator.activate();
                            break;
                        }
                        buffers.keep(range);
                        // What this slice has changed goes on its way before anything of the next is begun.
                        granted = false;
                        let slice = *capability.time();
                        let mut session = output.session(&capability);
                        state.changes(|key, change| session.give((key, slice, change)));
                        drop(session);
                        let next = slice + 1;
                        let capability = capability.delayed(&next);
                        let mut session = output.session(&capability);
                        state.close(|key, change| session.give((key, next, change)));
                        drop(session);
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
    })
}

/// What a slice brings to one worker.
#[derive(Debug, Default)]
pub struct Input {
    /// Events by the range of their viewer; none, or of all ranges. Within a range they are in the order in which they came, and so
    /// those of one partition are in the order of its log.
    pub events: Vec<Vec<Admitted>>,
    /// Those of them that came before and whose windows were not open when it was tried to fold them early.
    later: Vec<Vec<Admitted>>,
    /// The range in hand of folding early, and how many of its events are done.
    early: (usize, usize),
    /// Events for which it was not tried yet.
    waiting: usize,
    /// At most one in a slice.
    pub watermarks: Vec<Watermark>,
}

impl Input {
    /// Takes a batch of events as it came.
    pub fn take(&mut self, batch: &mut Events, buffers: &mut Buffers) {
        self.events.resize_with(RANGES, Vec::new);
        self.waiting += batch.0.len();
        for event in batch.0.drain(..) {
            let range = &mut self.events[event.viewer.range()];
            if range.capacity() == 0 {
                *range = buffers.spare.pop().unwrap_or_default();
            }
            range.push(event);
        }
    }

    /// Folds events of windows that are open already, until the stint is over.
    fn fold_early(&mut self, state: &mut Fold, stint: &mut Stint) {
        let Input { events, later, early: (at, done), waiting, .. } = self;
        later.resize_with(RANGES, Vec::new);
        while let Some(range) = events.get_mut(*at) {
            if *done == range.len() {
                range.clear();
                (*at, *done) = (*at + 1, 0);
                continue;
            }
            let step = *done..range.len().min(*done + STEP);
            (*done, *waiting) = (step.end, *waiting - step.len());
            state.fold_early(&range[step], &mut later[*at]);
            if stint.is_over() {
                return;
            }
        }
        *at = 0;
    }

    /// What is not folded, range by range.
    fn rest(self) -> Vec<Vec<Admitted>> {
        let Input { mut events, later, early: (at, done), .. } = self;
        if let Some(range) = events.get_mut(at) {
            range.drain(..done);
        }
        if later.is_empty() {
            return events;
        }
        later.into_iter().zip(events).flat_map(|(later, events)| [later, events]).collect()
    }
}

/// Memory of ranges' events for the next slices. Taken from the system anew it would cost more than what is done with it, because the
/// system clears it first.
#[derive(Default)]
pub struct Buffers {
    spare: Vec<Vec<Admitted>>,
    /// When all were given back.
    emptied: Option<Instant>,
}

impl Buffers {
    /// Two slices' at most, and none that a flood has made large.
    pub fn keep(&mut self, mut buffer: Vec<Admitted>) {
        buffer.clear();
        if self.spare.len() < 2 * RANGES && (1..=STEP).contains(&buffer.capacity()) {
            self.spare.push(buffer);
        }
    }

    /// Gives all back now and then, because less may be needed now than when they grew.
    fn give_back(&mut self, now: Instant) {
        if *self.emptied.get_or_insert(now) + KEPT < now {
            *self = Buffers { spare: Vec::new(), emptied: Some(now) };
        }
    }
}

/// The state of the viewers that one worker owns.
pub struct Fold {
    duplicates: Duplicates,
    presence: Presence,
    streams: Streams,
    watermark: Option<Micros>,
    metrics: FoldMetrics,
}

impl Fold {
    /// Nothing yet.
    pub fn new(viewer_timeout_nanos: i64, metrics: FoldMetrics) -> Fold {
        Fold {
            duplicates: Duplicates::default(),
            presence: Presence::new(viewer_timeout_nanos),
            streams: Streams::default(),
            watermark: None,
            metrics,
        }
    }

    /// Begins a slice: opens the windows that are touched for the first time. Hands back what checkpoint is asked for, if any.
    pub fn open(&mut self, watermarks: Vec<Watermark>) -> Option<Request> {
        let mut request = None;
        for watermark in watermarks {
            self.streams.open(&watermark.opened);
            self.watermark = self.watermark.max(watermark.at);
            request = request.or(watermark.checkpoint);
        }
        request
    }

    /// Folds events of the slice.
    pub fn fold(&mut self, events: &[Admitted]) {
        let duplicates = events.iter().map(|event| u64::from(!self.event(event))).sum();
        self.metrics.events(events.len() as u64, duplicates);
    }

    /// Folds those of the slice's events whose windows are open already, and keeps the others for later.
    fn fold_early(&mut self, events: &[Admitted], later: &mut Vec<Admitted>) {
        let (mut folded, mut duplicates) = (0, 0);
        for event in events {
            if self.streams.is_open(Minute::of(event.ts)) {
                folded += 1;
                duplicates += u64::from(!self.event(event));
            } else {
                later.push(*event);
            }
        }
        self.metrics.events(folded, duplicates);
    }

    /// All shares as they are: at first, what was taken up from a checkpoint.
    pub fn shares(&self) -> impl Iterator<Item = (RowKey, Totals)> {
        self.streams.shares(0..self.streams.places())
    }

    /// Hands out what changed in the slice. Call [`Fold::close`] next.
    pub fn changes(&mut self, emit: impl FnMut(RowKey, Totals)) {
        self.streams.take_changes(emit);
    }

    /// Closes all windows that the watermark has passed; hands out what that takes back.
    pub fn close(&mut self, emit: impl FnMut(RowKey, Totals)) {
        let Some(watermark) = self.watermark else { return };
        let first_open = Minute::first_open(watermark);
        self.duplicates.close(first_open);
        self.presence.close(first_open);
        self.streams.close(first_open, emit);
        self.metrics.keeps(self.streams.open_windows(), self.presence.viewers());
    }

    /// Forgets some of those who no longer matter; `false` if there was nothing left to look at. Changes no answer, only memory.
    pub fn tidy(&mut self) -> bool {
        self.presence.tidy()
    }

    /// Folds one event; `false` for a copy of one that counts already.
    fn event(&mut self, event: &Admitted) -> bool {
        let minute = Minute::of(event.ts);
        assert!(self.streams.is_open(minute), "an event of {minute} met a window that is not open");
        if let Some(id) = event.id
            && !self.duplicates.first(minute, event.viewer.range(), id)
        {
            return false;
        }
        let steps = match event.kind {
            Kind::ViewerJoin => self.presence.insert(event.viewer, event.ts, Movement::Join),
            Kind::ViewerLeave => self.presence.insert(event.viewer, event.ts, Movement::Leave),
            _ => Steps::default(),
        };
        self.streams.count((event.stream, minute), u32::from(event.kind == Kind::ChatMessage), event.amount, &steps);
        true
    }
}

/// Numbers below a bound, the same in each test run.
#[cfg(test)]
fn dice() -> impl FnMut(u64) -> u64 {
    let mut seed = 1u64;
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{EventKey, StreamKey, ViewerKey};
    use crate::telemetry::Metrics;
    use tidemark_model::{Cents, Nanos};

    fn event(random: &mut impl FnMut(u64) -> u64) -> Admitted {
        let kind = [Kind::ViewerJoin, Kind::ViewerLeave, Kind::ChatMessage][random(3) as usize];
        let (number, viewer, range) = (random(3), random(5), random(3));
        Admitted {
            viewer: ViewerKey::in_range(range as usize, viewer),
            stream: StreamKey(viewer % 2, 0),
            // Its viewer is part of it.
            id: (random(4) > 0).then_some(EventKey(number * 16 + viewer * 3 + range, number)),
            ts: Nanos(random(3 * 60).cast_signed() * 1_000_000_000),
            amount: Cents(0),
            kind,
        }
    }

    /// The first two of three windows are open before the slice ends.
    #[test]
    fn folding_early_changes_nothing() {
        let mut random = dice();
        let (mut early, mut late) = (0, 0);
        for _ in 0..300 {
            let mut folds = [(); 2].map(|()| Fold::new(90_000_000_000, Metrics::new().0.of_worker(0)));
            folds.iter_mut().for_each(|fold| fold.streams.open(&[Minute(0), Minute(1)]));
            folds.iter_mut().for_each(|fold| fold.changes(|_, _| ()));
            let mut inputs = [(); 2].map(|()| Input::default());
            for _ in 0..random(12) {
                let batch = Events((0..random(20)).map(|_| event(&mut random)).collect());
                inputs.iter_mut().for_each(|input| input.take(&mut batch.clone(), &mut Buffers::default()));
                if random(2) == 0 {
                    let before = inputs[0].waiting;
                    inputs[0].fold_early(&mut folds[0], &mut Stint::Steps(1 + random(3) as u32));
                    early += before - inputs[0].waiting;
                }
            }
            late += inputs[0].later.iter().map(Vec::len).sum::<usize>();
            let results = folds.iter_mut().zip(inputs).map(|(fold, input)| {
                fold.streams.open(&[Minute(2)]);
                input.rest().iter().for_each(|range| fold.fold(range));
                let mut changes = Vec::new();
                fold.changes(|key, change| changes.push((key, change)));
                changes.sort_unstable_by_key(|&(key, _)| key);
                let mut movements: Vec<_> = (0..3).flat_map(|range| fold.presence.movements(range)).collect();
                movements.sort_unstable();
                (changes, movements)
            });
            let results: Vec<_> = results.collect();
            assert!(results[0] == results[1]);
        }
        assert!(early > 3_000 && late > 1_000, "{early} were tried early, and {late} of them were kept for later");
    }
}
