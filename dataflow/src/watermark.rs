//! From every partition's marks to the pipeline's watermark of each slice.
//!
//! The owner of a partition says once per slice where it stands; one operator, on worker 0 and by worker 0's clock, takes the
//! minimum over the partitions that count and tells all workers, at the same slice. The watermark never goes back.
//!
//! [`Tracker`] is the rule, a plain struct; [`of_all_partitions`] is the operator around it. Neither reads a clock: worker 0 sends
//! its reading as a mark.
//!
//! No record that was on time is closed, whatever stands still. An idle partition counts with what its *evidence* allows: its leader was
//! asked after worker 0's clock showed `e`, and had nothing more. So what is unread was written after `e`, and the partition moves the
//! watermark up to `e` minus lateness at most: measured by the wall clock, and measured from the newest event time by the monotonic one.

use crate::Slice;
use crate::checkpoint::Id;
use crate::flow::{Alignment, Clocks, Holding, Mark, PartitionMark, Request, Standing, Watermark};
use crate::reading::Monotonic;
use crate::rules::Rules;
use crate::telemetry::Metrics;
use crate::trouble::{Kind, Troubles};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use tidemark_model::{Micros, Minute};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::{Capability, Operator};

/// The rule by which the watermark moves.
#[derive(Debug)]
pub struct Tracker {
    lateness: i64,
    idle_after: Option<i64>,
    resume_at: Option<Micros>,
    at: Option<Micros>,
    live: bool,
    partitions: BTreeMap<i32, PartitionMark>,
    clock: Option<Clocks>,
    last_delivery: Option<Monotonic>,
    open: BTreeSet<Minute>,
    checkpoints: u64,
    /// As worker 0 said it last. The last checkpoint of a run is nobody's wish.
    ids_since: Option<Id>,
    reading_workers: usize,
    /// Which partition holds the watermark, and by worker 0's clock since when.
    holder: Option<(i32, Option<Monotonic>)>,
}

/// What the rule goes on from.
pub struct Start {
    /// Every partition that exists: none of them may be overlooked because its owner was slow to speak.
    pub partitions: Vec<PartitionMark>,
    /// The watermark as the restored state had it.
    pub at: Option<Micros>,
    /// The windows that were open then.
    pub open: Vec<Minute>,
    /// The stored watermark, which comes into force once everything is replayed.
    pub resume_at: Option<Micros>,
    /// Since which checkpoint the first one writes ids.
    pub ids_since: Option<Id>,
    /// All workers.
    pub workers: usize,
}

impl Tracker {
    /// The rule as of a start.
    pub fn new(rules: &Rules, idle_after: Option<i64>, start: Start) -> Tracker {
        Tracker {
            lateness: rules.lateness(),
            idle_after,
            resume_at: start.resume_at,
            at: start.at,
            live: false,
            partitions: start.partitions.into_iter().map(|mark| (mark.partition, mark)).collect(),
            clock: None,
            last_delivery: None,
            open: start.open.into_iter().collect(),
            checkpoints: 0,
            ids_since: start.ids_since,
            reading_workers: start.workers,
            holder: None,
        }
    }

    /// The watermark after a slice with these marks.
    pub fn slice(&mut self, marks: impl IntoIterator<Item = Mark>) -> Watermark {
        let mut opened = BTreeSet::new();
        let mut delivered = false;
        let mut wanted = false;
        let ended_before = self.reading_workers == 0;
        for mark in marks {
            match mark {
                // Whoever has heard that all have ended waits for the last one only.
                Mark::Checkpoint { .. } if ended_before => {}
                Mark::Checkpoint { ids_since } => {
                    wanted = true;
                    self.ids_since = ids_since;
                }
                Mark::Ended => {
                    self.reading_workers = self.reading_workers.saturating_sub(1);
                    // The last one, so that the next run replays nothing.
                    wanted |= self.reading_workers == 0;
                }
                Mark::Clock(clocks) => self.clock = Some(clocks),
                Mark::Trouble { .. } => {}
                Mark::Partition(mut mark) => {
                    delivered |= mark.delivered;
                    let touched = std::mem::take(&mut mark.touched);
                    opened.extend(touched.into_iter().filter(|minute| !self.open.contains(minute)));
                    self.partitions.insert(mark.partition, mark);
                }
            }
        }
        if delivered || self.last_delivery.is_none() {
            self.last_delivery = self.clock.map(|clock| clock.now.at);
        }
        self.open.extend(&opened);
        self.advance();
        self.note_holder();
        Watermark {
            clock: self.clock,
            at: self.at,
            opened: opened.into_iter().collect(),
            live: self.live,
            alignment: self.alignment(),
            // While replaying nothing is committed, so nothing could name it.
            checkpoint: (wanted && self.live).then(|| self.request()),
            ended: self.reading_workers == 0,
        }
    }

    fn request(&mut self) -> Request {
        self.checkpoints += 1;
        let taken_at = self.clock.map_or(Micros(0), |clock| clock.now.wall);
        let open = self.open.iter().copied().collect();
        Request { number: self.checkpoints, taken_at, open, ids_since: self.ids_since }
    }

    fn advance(&mut self) {
        if let Some(Some(minimum)) = self.counting().map(|(watermark, _)| watermark).min() {
            self.at = self.at.max(Some(minimum));
        }
        if !self.live && self.partitions.values().all(|mark| mark.replayed) {
            self.live = true;
            self.at = self.at.max(self.resume_at);
        }
        if let Some(at) = self.at {
            self.open = self.open.split_off(&Minute::first_open(at));
        }
    }

    /// Which partition holds the watermark, since when, and how far behind; none while no partition counts.
    pub fn holding(&self) -> Option<Holding> {
        let (partition, since) = self.holder?;
        let held = self.clock.zip(since).map_or(0, |(clock, since)| clock.now.at.since(since));
        let counts_with = self.counting().find(|(_, mark)| mark.partition == partition)?.0;
        let most_advanced = self.partitions.values().filter_map(|mark| mark.watermark).max();
        let behind = counts_with.map(|own| most_advanced.map_or(0, |most| most.0.saturating_sub(own.0).max(0)));
        Some(Holding { partition, held, behind })
    }

    /// Between equals an idle partition is not the one to blame, and the one that held it before still does.
    fn note_holder(&mut self) {
        let before = self.holder.map(|(partition, _)| partition);
        let precedence = |(watermark, mark): &(Option<Micros>, &PartitionMark)| {
            (*watermark, mark.standing == Standing::Idle, Some(mark.partition) != before)
        };
        let holder = self.counting().min_by_key(precedence).map(|(_, mark)| mark.partition);
        if holder != before {
            self.holder = holder.map(|partition| (partition, self.clock.map(|clock| clock.now.at)));
        }
    }

    /// The partitions that count, each with the watermark that it counts with.
    fn counting(&self) -> impl Iterator<Item = (Option<Micros>, &PartitionMark)> {
        let most_advanced = self.partitions.values().filter_map(|mark| mark.watermark).max();
        self.partitions.values().filter_map(move |mark| match mark.standing {
            Standing::NotCounting => None,
            Standing::Idle => Some((mark.watermark.max(self.idle_watermark(mark, most_advanced)), mark)),
            Standing::Backlogged | Standing::AtEnd => Some((mark.watermark, mark)),
        })
    }

    /// What an idle partition may count with: `IDLE_AFTER` behind the most advanced one, and once all are silent, on with the clock at
    /// the clock's speed, though never closer to it than lateness and `IDLE_AFTER`. The clock is worker 0's as of the evidence, which
    /// may be older than the last delivery: then it counts with less than the most advanced one.
    fn idle_watermark(&self, mark: &PartitionMark, most_advanced: Option<Micros>) -> Option<Micros> {
        let (idle_after, clock, last_delivery) = (self.idle_after?, self.clock?, self.last_delivery?);
        let (silent_until, most_advanced) = (mark.silent_until?, most_advanced?);
        let by_wall = silent_until.0.saturating_add(clock.now.wall_ahead()).saturating_sub(self.lateness);
        let by_silence = most_advanced.0.saturating_add(silent_until.since(last_delivery));
        Some(Micros(by_wall.min(by_silence).saturating_sub(idle_after)))
    }

    /// During a replay a partition that has reached its emit-from offset waits for the others: it must not hold them back.
    fn alignment(&self) -> Option<Alignment> {
        let moving = self.counting().filter(|(_, mark)| self.live || !mark.replayed);
        let (watermark, holder) = moving.min_by_key(|(watermark, _)| *watermark)?;
        let alignment = Alignment { holder: holder.partition, base: self.at.max(watermark) };
        (holder.standing == Standing::Backlogged).then_some(alignment)
    }
}

/// The watermark of each slice that has a mark, on worker 0 only: what the sink stores. Broadcast, it tells the others.
pub fn of_all_partitions<'scope>(
    marks: StreamVec<'scope, Slice, Mark>,
    mut tracker: Tracker,
    metrics: Arc<Metrics>,
    troubles: Arc<Troubles>,
) -> StreamVec<'scope, Slice, Watermark> {
    type Builder = CapacityContainerBuilder<Vec<Watermark>>;
    marks.unary_frontier::<Builder, _, _, _>(Exchange::new(|_: &Mark| 0), "Watermark", move |initial, _| {
        drop(initial);
        let mut stash: BTreeMap<Slice, (Capability<Slice>, Vec<Mark>)> = BTreeMap::new();
        move |(input, frontier), output| {
            input.for_each_stamp(|stamp, data| {
                let capability = stamp.retain_least(0).expect("a message has a time");
                let slice = *capability.time();
                let marks = &mut stash.entry(slice).or_insert_with(|| (capability, Vec::new())).1;
                for mark in data.flat_map(|batch| batch.drain(..)) {
                    // Told at once: it may be why the slice does not end.
                    if let Mark::Trouble { worker, sentence } = &mark {
                        match sentence {
                            Some(sentence) => troubles.tell(Kind::Log(*worker), sentence.clone()),
                            None => troubles.over(Kind::Log(*worker)),
                        }
                    }
                    marks.push(mark);
                }
            });
            while let Some(entry) = stash.first_entry().filter(|entry| !frontier.less_equal(entry.key())) {
                let (capability, marks) = entry.remove();
                output.session(&capability).give(tracker.slice(marks));
                metrics.holding(tracker.holding().as_ref());
            }
        }
    })
}

/// What a worker knows of the pipeline's watermark.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The newest slice whose watermark has arrived, and that watermark.
    pub latest: Option<(Slice, Watermark)>,
    /// The number of the newest checkpoint that was asked for; 0: none yet.
    pub checkpoint: u64,
}

impl Known {
    /// Worker 0's clock at the end of the newest slice whose watermark has arrived.
    pub fn worker_0(&self) -> Option<Monotonic> {
        self.latest.as_ref().and_then(|(_, watermark)| watermark.clock).map(|clock| clock.now.at)
    }

    /// The watermark, if that of `slice` or of a later one is known.
    pub fn as_of(&self, slice: Slice) -> Option<Option<Micros>> {
        self.latest.as_ref().filter(|(known, _)| *known >= slice).map(|(_, watermark)| watermark.at)
    }

    /// The watermark.
    pub fn watermark(&self) -> Option<Micros> {
        self.latest.as_ref().and_then(|(_, watermark)| watermark.at)
    }

    /// Whether a partition must wait for a backlogged one that holds the watermark. That bounds state and changes no answer.
    pub fn too_far_ahead(&self, partition: i32, own: Option<Micros>, max_ahead: i64) -> bool {
        let alignment = self.latest.as_ref().and_then(|(_, watermark)| watermark.alignment);
        alignment.is_some_and(|Alignment { holder, base }| {
            holder != partition && own > base.map(|base| Micros(base.0.saturating_add(max_ahead)))
        })
    }

    /// Whether no worker reads any more.
    pub fn ended(&self) -> bool {
        self.latest.as_ref().is_some_and(|(_, watermark)| watermark.ended)
    }

    /// Whether life has begun: everything that the store holds was replayed.
    pub fn live(&self) -> bool {
        self.latest.as_ref().is_some_and(|(_, watermark)| watermark.live)
    }
}

/// Tells the worker's own loop what arrives here.
pub fn observe<'scope>(watermarks: StreamVec<'scope, Slice, Watermark>, known: Rc<RefCell<Known>>) {
    watermarks.sink(Pipeline, "Observe watermark", move |(input, _)| {
        input.for_each_stamp(|stamp, data| {
            let slice = *stamp.least().expect("a message has a time");
            for watermark in data.flat_map(|batch| batch.drain(..)) {
                let mut known = known.borrow_mut();
                known.checkpoint = known.checkpoint.max(watermark.checkpoint.as_ref().map_or(0, |request| request.number));
                if known.latest.as_ref().is_none_or(|(latest, _)| *latest <= slice) {
                    known.latest = Some((slice, watermark));
                }
            }
        });
    });
}
