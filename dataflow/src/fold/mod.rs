//! From admitted events to small differences per (stream, minute): the state of the viewers that this worker owns.
//!
//! [`Fold`] is plain structs with the same few verbs: [`firsts`] (what is counted once a minute), [`users`] (who is counted once an hour
//! and a day), [`presence`] (who is there, by [`movements`]) and [`streams`] (this worker's share of every open row). [`operator`] is the timely operator around it, which takes slices in
//! their order; [`input`] is what a slice brings, [`stint`] how much is done of it at once, and [`snapshot`] how all is saved.

pub mod firsts;
pub mod idle;
pub mod ids;
pub mod input;
pub mod movements;
pub mod operator;
pub mod presence;
pub mod snapshot;
pub mod stint;
pub mod streams;
pub mod table;
pub mod users;
pub mod windows;

pub use input::{Buffers, Input};
pub use operator::shares;
pub use stint::{Stint, Stints};

use crate::flow::{Admitted, Past, Request, Run, Totals, Watermark};
use crate::keys::StreamKey;
use crate::telemetry::FoldMetrics;
use differential_dataflow::difference::{IsZero, Semigroup};
use firsts::Firsts;
use movements::{Movement, Steps};
use presence::Presence;
use std::collections::BTreeMap;
use streams::{Counted, MinuteKey, Streams};
use tidemark_model::{Grain, Kind, Micros, Minute};
use users::{First, Users};

/// The state of the viewers that one worker owns.
pub struct Fold {
    /// The windows that rows are of.
    grains: &'static [Grain],
    firsts: Firsts,
    users: Users,
    presence: Presence,
    streams: Streams,
    watermark: Option<Micros>,
    metrics: FoldMetrics,
    /// Of the event in hand.
    steps: Steps,
}

impl Fold {
    /// Nothing yet. Rows are of windows of these lengths, the first of which is a minute.
    pub fn new(viewer_timeout_nanos: i64, grains: &'static [Grain], metrics: FoldMetrics) -> Fold {
        Fold {
            grains,
            firsts: Firsts::default(),
            users: Users::new(grains),
            presence: Presence::new(viewer_timeout_nanos, grains),
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

    /// Hands out all shares as they are: at first, what was taken up from a checkpoint. Each change is of its stream, and their sums are of
    /// [`StreamKey::ALL`].
    pub fn shares(&self, emit: impl FnMut(MinuteKey, Totals)) {
        with_all(emit, |emit| self.streams.shares(0..self.streams.places()).for_each(|(key, share)| emit(key, share)));
    }

    /// Hands out what changed in the slice. Call [`Fold::close`] next.
    pub fn changes(&mut self, emit: impl FnMut(MinuteKey, Totals)) {
        with_all(emit, |emit| self.streams.take_changes(emit));
    }

    /// Closes all windows that the watermark has passed; hands out what that takes back, and what it gives to hours and days.
    pub fn close(&mut self, emit: impl FnMut(MinuteKey, Totals), mut past: impl FnMut(StreamKey, Run, Past)) {
        let Some(watermark) = self.watermark else { return };
        let first_open = Minute::first_open(watermark);
        self.firsts.close(first_open);
        self.users.close(first_open);
        self.presence.close(first_open);
        let mut all: BTreeMap<Run, Past> = BTreeMap::new();
        let mut of_stream = |stream, run, of| {
            all.entry(run).or_default().add(&of);
            past(stream, run, of);
        };
        let of_stream = (self.grains.len() > 1).then_some(&mut of_stream);
        with_all(emit, |emit| self.streams.close(first_open, emit, of_stream));
        all.into_iter().for_each(|(run, of)| past(StreamKey::ALL, run, of));
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
        let is_first = event.by_user
            && matches!(event.kind, Kind::ChatMessage | Kind::Donation)
            && self.firsts.first(minute, range, event.viewer.in_common(event.kind));
        let place = self.streams.place(event.stream);
        let firsts = if is_first { self.user(event, place, minute) } else { streams::Firsts::default() };
        let movement = match event.kind {
            Kind::ViewerJoin => Some(Movement::Join),
            Kind::ViewerLeave => Some(Movement::Leave),
            _ => None,
        };
        self.steps.clear();
        if let Some(movement) = movement {
            self.presence.insert(event.viewer, event.ts, movement, &mut self.steps);
        }
        self.streams.count(place, minute, Counted::of(event, is_first, firsts), &self.steps);
        true
    }

    /// A user's first event of its kind in the minute: whether it is the first of the hour and of the day too.
    fn user(&mut self, event: &Admitted, place: u32, minute: Minute) -> streams::Firsts {
        let Fold { grains, users, streams, .. } = self;
        let id = event.viewer.in_common(event.kind);
        let mut firsts = streams::Firsts::default();
        for &grain in &grains[1..] {
            let change = |firsts: &mut streams::Firsts, count| match event.kind {
                Kind::ChatMessage => firsts.chatters[grain as usize - 1] += count,
                _ => firsts.donors[grain as usize - 1] += count,
            };
            match users.count(grain, minute, event.viewer.range(), id) {
                First::New => change(&mut firsts, 1),
                First::Instead(later) => {
                    change(&mut firsts, 1);
                    let mut no_more = streams::Firsts::default();
                    change(&mut no_more, -1);
                    streams.count(place, later, Counted { firsts: no_more, ..Counted::default() }, &Steps::default());
                }
                // Nor is it the first of the day.
                First::Known => break,
            }
        }
        firsts
    }
}

/// Hands out changes, and at the end the sum of those of each minute.
fn with_all(mut emit: impl FnMut(MinuteKey, Totals), changes: impl FnOnce(&mut dyn FnMut(MinuteKey, Totals))) {
    let mut all: BTreeMap<Minute, Totals> = BTreeMap::new();
    changes(&mut |key, change| {
        all.entry(key.1).or_default().plus_equals(&change);
        emit(key, change);
    });
    all.into_iter().filter(|(_, sum)| !sum.is_zero()).for_each(|(minute, sum)| emit((StreamKey::ALL, minute), sum));
}

/// Numbers below a bound, the same in each test run.
#[cfg(test)]
pub(crate) fn dice() -> impl FnMut(u64) -> u64 {
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
            let mut folds = [(); 2].map(|()| Fold::new(90_000_000_000, &Grain::ALL, Metrics::new().0.of_worker(0)));
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
