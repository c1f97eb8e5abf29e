//! From admitted events to small differences per (stream, minute): the state of the viewers that this worker owns.
//!
//! One timely operator over three plain structs: [`duplicates`] (which ids were counted), [`presence`] (who is there) and
//! [`totals`] (this worker's share of every open row). It stashes its input and takes slices strictly in order, once both of its
//! frontiers have passed them. In a slice it
//!
//! 1. opens the windows that any worker's events touched for the first time: each stream's present viewers become its share;
//! 2. folds the events;
//! 3. emits the differences at the slice's time t;
//! 4. closes windows by the watermark: takes back its shares of them, at t + 1.
//!
//! Closing at t + 1 is what keeps rows: in the same slice the last events of a window and its closing would cancel to nothing.

pub mod duplicates;
pub mod presence;
pub mod totals;

use crate::Slice;
use crate::keys::{EventKey, StreamKey, ViewerKey};
use crate::telemetry::FoldMetrics;
use crate::watermark::Watermark;
use duplicates::Duplicates;
use presence::{Movement, Presence};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidemark_model::{Cents, Kind, Micros, Minute, Nanos};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::{Capability, Operator};
use totals::{Shares, Totals};

/// An event that counts, on its way to the worker that owns its viewer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Admitted {
    /// Whose event it is; names the owner.
    pub viewer: ViewerKey,
    /// The stream.
    pub stream: StreamKey,
    /// What copies of the event share, if it has an id.
    pub id: Option<EventKey>,
    /// When it happened.
    pub ts: Nanos,
    /// Zero unless a donation.
    pub amount: Cents,
    /// What happened.
    pub kind: Kind,
}

/// A row's key inside the dataflow.
pub type RowKey = (StreamKey, Minute);

/// A share of a row that changed: data, time, difference.
pub type Share = (RowKey, Slice, Totals);

/// The differences of all workers' shares, one per key and slice and worker.
pub fn shares<'scope>(
    events: StreamVec<'scope, Slice, Admitted>,
    watermarks: StreamVec<'scope, Slice, Watermark>,
    mut state: Fold,
) -> StreamVec<'scope, Slice, Share> {
    type Builder = CapacityContainerBuilder<Vec<Share>>;
    let by_owner = Exchange::new(|event: &Admitted| event.viewer.0);
    events.binary_frontier::<_, Builder, _, _, _, _>(watermarks, by_owner, Pipeline, "Fold", move |initial, _| {
        drop(initial);
        let mut stash: BTreeMap<Slice, (Capability<Slice>, Input)> = BTreeMap::new();
        move |(events, event_frontier), (watermarks, watermark_frontier), output| {
            // In the order of arrival, which is each partition's own: of two copies in it the first is the one that counts.
            // (`for_each_stamp` sorts unstably.)
            events.for_each(|stamp, batch| {
                let capability = stamp.retain_least(0).expect("a message has a time");
                let input = &mut stash.entry(*capability.time()).or_insert_with(|| (capability, Input::default())).1;
                input.events.push(std::mem::take(batch));
            });
            watermarks.for_each_stamp(|stamp, data| {
                let capability = stamp.retain_least(0).expect("a message has a time");
                let input = &mut stash.entry(*capability.time()).or_insert_with(|| (capability, Input::default())).1;
                input.watermarks.extend(data.flat_map(|batch| batch.drain(..)));
            });
            while let Some(entry) = stash.first_entry() {
                let slice = *entry.key();
                if event_frontier.less_equal(&slice) || watermark_frontier.less_equal(&slice) {
                    break;
                }
                let (capability, input) = entry.remove();
                let changed = state.slice(input);
                output.session(&capability).give_iterator(changed.map(|(key, change)| (key, slice, change)));
                let closed = state.close();
                if !closed.is_empty() {
                    let next = slice + 1;
                    let capability = capability.delayed(&next);
                    output.session(&capability).give_iterator(closed.into_iter().map(|(key, change)| (key, next, change)));
                }
            }
        }
    })
}

/// What a slice brings to one worker.
#[derive(Debug, Default)]
pub struct Input {
    /// Events, in the batches and the order in which they came: those of one partition are in the order of its log.
    pub events: Vec<Vec<Admitted>>,
    /// At most one in a slice.
    pub watermarks: Vec<Watermark>,
}

/// The state of the viewers that one worker owns.
pub struct Fold {
    duplicates: Duplicates,
    presence: Presence,
    shares: Shares,
    watermark: Option<Micros>,
    metrics: FoldMetrics,
}

impl Fold {
    /// Nothing yet.
    pub fn new(viewer_timeout_nanos: i64, metrics: FoldMetrics) -> Fold {
        Fold {
            duplicates: Duplicates::default(),
            presence: Presence::new(viewer_timeout_nanos),
            shares: Shares::default(),
            watermark: None,
            metrics,
        }
    }

    /// Opens and folds; hands out what changed. Call [`Fold::close`] next.
    pub fn slice(&mut self, input: Input) -> impl Iterator<Item = (RowKey, Totals)> {
        for watermark in &input.watermarks {
            for &minute in &watermark.opened {
                self.open(minute);
            }
            self.watermark = self.watermark.max(watermark.at);
        }
        let (mut events, mut duplicates) = (0, 0);
        for event in input.events.into_iter().flatten() {
            events += 1;
            duplicates += u64::from(!self.event(&event));
        }
        self.metrics.events(events, duplicates);
        self.shares.take_changes()
    }

    /// Closes all windows that the watermark has passed; hands out what that takes back.
    pub fn close(&mut self) -> Vec<(RowKey, Totals)> {
        let Some(watermark) = self.watermark else { return Vec::new() };
        let first_open = Minute::first_open(watermark);
        self.duplicates.close(first_open);
        self.presence.close(first_open);
        let closed = self.shares.close(first_open);
        self.metrics.keeps(self.shares.open_windows(), self.presence.viewers());
        closed
    }

    fn open(&mut self, minute: Minute) {
        if self.shares.open(minute) {
            for (stream, viewers) in self.presence.present_at_end_of(minute) {
                self.shares.add((stream, minute), Totals { viewers, ..Totals::default() });
            }
        }
    }

    /// Folds one event; `false` for a copy of one that counts already.
    fn event(&mut self, event: &Admitted) -> bool {
        let minute = Minute::of(event.ts);
        assert!(self.shares.is_open(minute), "an event of {minute} met a window that is not open");
        if let Some(id) = event.id
            && !self.duplicates.first(minute, id)
        {
            return false;
        }
        let counted = Totals { events: 1, viewers: 0, chats: i64::from(event.kind == Kind::ChatMessage), cents: event.amount.0 };
        self.shares.add((event.stream, minute), counted);
        let movement = match event.kind {
            Kind::ViewerJoin => Movement::Join,
            Kind::ViewerLeave => Movement::Leave,
            _ => return true,
        };
        let steps = self.presence.insert(event.stream, event.viewer, event.ts, movement);
        self.shares.add_steps(event.stream, &steps);
        true
    }
}
