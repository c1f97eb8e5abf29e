//! From admitted events to small differences per (stream, minute): the state of the viewers that this worker owns.
//!
//! [`Fold`] is three plain structs with the same few verbs: [`firsts`] (what is counted once a window), [`presence`] (who is there, by
//! [`movements`]) and [`streams`] (this worker's share of every open row). [`operator`] is the timely operator around it, which takes slices in
//! their order; [`input`] is what a slice brings, [`stint`] how much is done of it at once, and [`snapshot`] how all is saved.

pub mod firsts;
pub mod idle;
pub mod input;
pub mod movements;
pub mod operator;
pub mod presence;
pub mod snapshot;
pub mod stint;
pub mod streams;
pub mod windows;

pub use input::{Buffers, Input};
pub use operator::shares;
pub use stint::{Stint, Stints};

use crate::flow::{Admitted, Request, RowKey, Totals, Watermark};
use crate::telemetry::FoldMetrics;
use firsts::Firsts;
use movements::{Movement, Steps};
use presence::Presence;
use streams::{Counted, Streams};
use tidemark_model::{Kind, Micros, Minute};

/// The state of the viewers that one worker owns.
pub struct Fold {
    firsts: Firsts,
    presence: Presence,
    streams: Streams,
    watermark: Option<Micros>,
    metrics: FoldMetrics,
    /// Of the event in hand.
    steps: Steps,
}

impl Fold {
    /// Nothing yet.
    pub fn new(viewer_timeout_nanos: i64, metrics: FoldMetrics) -> Fold {
        Fold {
            firsts: Firsts::default(),
            presence: Presence::new(viewer_timeout_nanos),
            streams: Streams::default(),
            watermark: None,
            metrics,
            steps: Steps::default(),
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
        self.firsts.close(first_open);
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
        let range = event.viewer.range();
        if let Some(id) = event.id
            && !self.firsts.first(minute, range, id)
        {
            return false;
        }
        let mut first = |kind| u32::from(event.by_user && self.firsts.first(minute, range, event.viewer.in_common(kind)));
        let counted = match event.kind {
            Kind::ChatMessage => Counted { chats: 1, chatters: first(Kind::ChatMessage), ..Counted::default() },
            Kind::Donation => Counted { donations: 1, amount: event.amount, donors: first(Kind::Donation), ..Counted::default() },
            _ => Counted::default(),
        };
        let movement = match event.kind {
            Kind::ViewerJoin => Some(Movement::Join),
            Kind::ViewerLeave => Some(Movement::Leave),
            _ => None,
        };
        self.steps.clear();
        if let Some(movement) = movement {
            self.presence.insert(event.viewer, event.ts, movement, &mut self.steps);
        }
        self.streams.count((event.stream, minute), counted, &self.steps);
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
    use crate::exchange::Events;
    use crate::keys::{EventKey, StreamKey, ViewerKey};
    use crate::telemetry::Metrics;
    use tidemark_model::{Cents, Nanos};

    fn event(random: &mut impl FnMut(u64) -> u64) -> Admitted {
        let kind = [Kind::ViewerJoin, Kind::ViewerLeave, Kind::ChatMessage][random(3) as usize];
        let (number, viewer, range) = (random(3), random(5), random(3));
        Admitted {
            viewer: ViewerKey::in_range(range as usize, viewer),
            by_user: true,
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
