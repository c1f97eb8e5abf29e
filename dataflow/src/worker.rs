//! The loop of one worker: read → close the slice when its time is over, or earlier when it is full or has nothing to wait for → step,
//! and never more in flight than is bounded.

use crate::Slice;
use crate::checkpoint::PartNotice;
use crate::checkpoint::schedule::{Schedule, Settled};
use crate::clock::Clock;
use crate::exchange::Events;
use crate::flow::{Admitted, Change, Clocks, Mark, Tally};
use crate::fold::idle::Idle;
use crate::reader::{Desk, Outlet, Reader, StoreTime, Turn};
use crate::reading::{Monotonic, Reading, SecondOpinion};
use crate::run::Control;
use crate::source::{Asked, Source, SourceError};
use crate::telemetry::Metrics;
use crate::trouble::{Kind, STANDSTILL};
use crate::watermark::Known;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use tidemark_model::{Micros, Minute};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::worker::Worker;

/// Records that one reading of a partition takes.
const BATCH: usize = 4_096;
/// In so many parts of its time a slice that ends early may end: all workers' slices end at few instants, so that what they change is
/// committed together.
const TICKS: u64 = 8;
/// So many slices' time the oldest uncommitted slice may lie back; no new one is opened beyond.
const MOST_SLICES: u64 = 64;
/// Records that a worker may have sent which are not folded; nothing is read beyond, and a slice that has so many is full. Most memory of
/// catching up is theirs.
pub const MOST_UNFOLDED: u64 = 200_000;
/// Records that it may have uncommitted, likewise. Of those that are folded only the changed rows are kept, and slices that wait for a
/// slow store are committed together.
const MOST_UNCOMMITTED: u64 = 600_000;
/// Bytes of rejected records that it may have uncommitted, likewise.
const MOST_REJECTED_BYTES: u64 = 64 << 20;
/// How long the last checkpoint is waited for when a run ends by itself, and when it is stopped: then the one before it has to do.
const LAST_CHECKPOINT: Duration = Duration::from_secs(60);
const LAST_CHECKPOINT_AT_STOP: Duration = Duration::from_secs(10);
/// A change of the wall clock that is told, in microseconds: more than it is corrected by when it is only slewed.
const STEP: i64 = 1_000_000;
/// How long a worker that has nothing to do sleeps before it looks again.
const NAP: Duration = Duration::from_millis(5);

type Input<D> = InputHandle<Slice, CapacityContainerBuilder<Vec<D>>>;

/// The worker's ends of the dataflow's inputs. They move together.
pub struct Senders {
    /// Events that count.
    pub events: InputHandle<Slice, CapacityContainerBuilder<Events>>,
    /// Where partitions stand.
    pub marks: Input<Mark>,
    /// Names and dead letters.
    pub changes: Input<Change>,
}

impl Outlet for Senders {
    fn event(&mut self, event: Admitted) {
        self.events.send(event);
    }
    fn change(&mut self, change: Change) {
        self.changes.send(change);
    }
}

/// How a worker's loop goes.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Tells slices apart, and judges events.
    pub clock: Clock,
    /// When the first tick began; the same for all workers of a process.
    pub base: Monotonic,
    /// Microseconds in a slice that does not end early.
    pub slice: i64,
    /// When the run was started, by another clock: how long recovering took is told from there.
    pub started: Instant,
    /// [`MOST_UNFOLDED`].
    pub most_unfolded: u64,
    /// How far a partition may be ahead of the pipeline's watermark, in microseconds.
    pub max_ahead: i64,
    /// End once all partitions have reached the offsets at which they are to stop.
    pub until_end: bool,
}

/// One worker's loop and all that it owns.
pub struct Loop {
    /// Its index among all workers.
    pub index: usize,
    /// Its partitions' source.
    pub source: Box<dyn Source>,
    /// Its partitions.
    pub readers: Vec<Reader>,
    /// What they share.
    pub desk: Desk,
    /// Where they send.
    pub senders: Senders,
    /// Tells the fold that there is nothing to read.
    pub idle: Idle,
    /// The pipeline's watermark as far as it has arrived here.
    pub known: Rc<RefCell<Known>>,
    /// Its pace.
    pub pace: Pace,
    /// The run's wish to stop and its failure.
    pub control: Arc<Control>,
    /// The process's counters.
    pub metrics: Arc<Metrics>,
    /// Slices that were sent and that not all workers have folded.
    pub unfolded: InFlight,
    /// Slices that were sent and are not committed.
    pub uncommitted: InFlight,
    /// When worker 0 asks for the next checkpoint, and what it knows of those it asked for.
    pub schedule: Option<(Schedule, Arc<Settled>)>,
    /// Parts of this worker that are on the disk.
    pub notices: Receiver<PartNotice>,
    /// How far it is with ending.
    pub ending: Ending,
    /// What it notices between its turns.
    pub lookout: Lookout,
}

/// What a worker notices between its turns.
#[derive(Debug, Default)]
pub struct Lookout {
    /// Whether it speaks for its process.
    speaks: bool,
    /// Whether worker 0 is in the same process, and reads the same clocks.
    beside_worker_0: bool,
    /// The least by which this process's monotonic clock was ahead of what was heard of worker 0's: the wait until it is heard is in it.
    ahead_of_worker_0: Option<i64>,
    last_turn: Option<Reading>,
    /// The newest slice from which the store's clock is known, what it showed then, and when that was heard here.
    store: Option<(Slice, SecondOpinion, Monotonic)>,
    /// The store's clock at the end of that slice.
    store_wall: Option<Micros>,
    /// What keeps it from reading, as it was last said.
    trouble: Option<String>,
    /// When that was.
    said: Option<Monotonic>,
}

/// How far a worker is with ending.
#[derive(Debug, Default)]
pub struct Ending {
    /// It has said that it reads nothing any more.
    said: bool,
    /// The newest of its parts of which it gave notice.
    noticed: u64,
    /// Since when no worker reads any more.
    since: Option<Instant>,
}

/// What a worker has sent with which a stage of the dataflow is not done.
pub struct InFlight {
    /// How far the stage is.
    probe: ProbeHandle<Slice>,
    slices: VecDeque<(Slice, u64, u64)>,
    records: u64,
    rejected_bytes: u64,
}

impl Loop {
    /// Runs until the end is reached or wished, or the run fails; then all that was sent is committed, unless it failed.
    pub fn run(mut self, worker: &mut Worker) {
        if let Err(error) = self.turns(worker) {
            self.control.fail(format!("source: {error}"));
        }
        let Loop { senders, control, pace, .. } = self;
        if worker.index() == 0 {
            control.turns_no_more();
        }
        drop(senders);
        while worker.has_dataflows() && control.failure().is_none() {
            worker.step_or_park(Some(pace.clock.sleep(NAP)));
        }
        if control.failure().is_some() {
            drop_dataflows(worker);
        }
    }

    fn turns(&mut self, worker: &mut Worker) -> Result<(), SourceError> {
        let first_worker = worker.index() == 0;
        let mut slice = 0;
        let mut recovering = first_worker;
        while self.control.failure().is_none() {
            self.unfolded.forget_done();
            self.uncommitted.forget_done();
            let now = self.pace.clock.now();
            self.lookout.turn(now, &self.known.borrow());
            if first_worker {
                self.control.turn(now.at);
                self.tell_standstill(now.at);
            }
            self.source.serve(Asked { at: now.at, worker_0: self.known.borrow().worker_0() })?;
            self.give_notice();
            if recovering && self.known.borrow().live() {
                self.metrics.recovered(self.pace.started.elapsed());
                recovering = false;
            }
            let due = self.pace.next_slice(slice, now.at, self.ends_early());
            let bounded = self.uncommitted.oldest().is_none_or(|oldest| due - oldest < MOST_SLICES * TICKS);
            if due > slice && bounded {
                let over = self.has_ended();
                self.close_slice(slice, now, first_worker)?;
                if over {
                    return Ok(());
                }
                slice = due;
                self.senders.advance_to(slice);
            }
            let read = match self.control.stopping() {
                true => 0,
                false => self.read(slice, now)?,
            };
            self.take_up_new_partitions(worker, now.at)?;
            if read > 0 {
                worker.step();
            } else {
                self.idle.grant();
                let nap = self.pace.nap(now.at, self.ends_early());
                worker.step_or_park(Some(self.pace.clock.sleep(nap)));
            }
        }
        Ok(())
    }

    /// Whether the open slice is to end before its time: it is full, or this worker has nothing to add to it, and others may wait for its
    /// end. Until all have read what the store has nobody reads anything else.
    fn ends_early(&self) -> bool {
        let full = self.desk.tally.records >= self.pace.most_unfolded;
        let replayed = || !self.known.borrow().live() && !self.readers.iter().any(Reader::replaying);
        full || self.reads_no_more() || replayed()
    }

    /// Whether this worker has read all that it is going to read.
    fn reads_no_more(&self) -> bool {
        self.control.stopping() || (self.pace.until_end && self.readers.iter().all(Reader::done))
    }

    /// Tells the sink which parts of checkpoints are on the disk.
    fn give_notice(&mut self) {
        for notice in self.notices.try_iter() {
            self.ending.noticed = self.ending.noticed.max(notice.number);
            self.senders.changes.send(Change::Part(Box::new(notice)));
        }
    }

    /// Whether nothing is left to be sent: nobody reads, and this worker's part of the last checkpoint is on the disk.
    fn has_ended(&mut self) -> bool {
        let known = self.known.borrow();
        if !known.ended() {
            return false;
        }
        let waited = self.ending.since.get_or_insert_with(Instant::now).elapsed();
        let patience = if self.control.stopping() { LAST_CHECKPOINT_AT_STOP } else { LAST_CHECKPOINT };
        if self.ending.noticed < known.checkpoint && waited > patience {
            tracing::warn!(?waited, "ending without the last checkpoint: its part is not on the disk yet");
            return true;
        }
        self.ending.noticed >= known.checkpoint
    }

    /// Partitions that came into being: their owner reads them, once all that is stored has been replayed.
    fn take_up_new_partitions(&mut self, worker: &Worker, now: Monotonic) -> Result<(), SourceError> {
        if self.pace.until_end || !self.known.borrow().live() {
            return Ok(());
        }
        for partition in self.source.others()? {
            if usize::try_from(partition).is_ok_and(|p| p % worker.peers() == worker.index()) {
                tracing::info!(partition, "a new partition: it is read from its beginning");
                self.source.add(partition)?;
                self.readers.push(Reader::of_new_partition(partition, now));
            }
        }
        Ok(())
    }

    /// Reads from each partition, the one that is furthest behind first.
    fn read(&mut self, slice: Slice, now: Reading) -> Result<u64, SourceError> {
        let Loop { source, readers, desk, senders, known, unfolded, uncommitted, pace, lookout, .. } = self;
        let store = lookout.store_time(now.at);
        let ahead_of_worker_0 = if lookout.beside_worker_0 { 0 } else { lookout.ahead_of_worker_0.unwrap_or(0) };
        let known = known.borrow();
        let before = desk.tally.records;
        readers.sort_by_key(|reader| reader.watermark(&desk.rules));
        for reader in readers {
            let in_slice = desk.tally.records;
            if unfolded.records + in_slice >= pace.most_unfolded
                || uncommitted.records + in_slice >= MOST_UNCOMMITTED
                || uncommitted.rejected_bytes + desk.tally.rejected_bytes >= MOST_REJECTED_BYTES
            {
                break;
            }
            reader.read(
                source.as_mut(),
                BATCH,
                Turn { now, ahead_of_worker_0, store, slice, known: &known, max_ahead: pace.max_ahead },
                desk,
                senders,
            )?;
        }
        Ok(desk.tally.records - before)
    }

    /// A slice that not all workers end: one of them, or a whole process, stands still.
    fn tell_standstill(&self, now: Monotonic) {
        let since = self.unfolded.oldest().map(|slice| self.pace.began(slice));
        let waits = since.map(|since| now.since(since)).filter(|&waits| waits >= STANDSTILL);
        match waits {
            Some(waits) if self.uncommitted.oldest() == self.unfolded.oldest() => {
                let seconds = waits / 1_000_000;
                let sentence = format!("a worker or process of this run has not done its part of the numbers for {seconds} s");
                self.control.troubles().tell(Kind::Standstill, sentence);
            }
            _ => self.control.troubles().over(Kind::Standstill),
        }
    }

    /// Says where each partition stands, and what was counted.
    fn close_slice(&mut self, slice: Slice, now: Reading, first_worker: bool) -> Result<(), SourceError> {
        let reads_no_more = self.reads_no_more();
        let Loop { source, readers, desk, senders, metrics, .. } = self;
        for reader in readers.iter_mut() {
            if let Some(mark) = reader.mark(source.as_mut(), now.at, desk)? {
                metrics.partition(&mark);
                senders.marks.send(Mark::Partition(mark));
            }
        }
        if first_worker {
            senders.marks.send(Mark::Clock(Clocks { now, store: self.control.store_clock().opinion() }));
        }
        if let Some(sentence) = self.lookout.news(source.trouble(), now.at) {
            senders.marks.send(Mark::Trouble { worker: self.index, sentence });
        }
        if let Some((schedule, settled)) = &mut self.schedule
            && self.known.borrow().live()
            && schedule.due(now.at, settled)
        {
            senders.marks.send(Mark::Checkpoint { ids_since: settled.ids_since() });
        }
        if !self.ending.said && reads_no_more {
            self.ending.said = true;
            senders.marks.send(Mark::Ended);
        }
        if let Some(watermark) = self.known.borrow().watermark() {
            desk.names.close(Minute::first_open(watermark));
        }
        let tally = std::mem::take(&mut desk.tally);
        self.unfolded.add(slice, &tally);
        self.uncommitted.add(slice, &tally);
        self.metrics.read(&tally);
        Ok(())
    }
}

/// Leaves what a failed run has in flight: nobody will commit it, and timely would wait for it.
pub fn drop_dataflows(worker: &mut Worker) {
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

impl Senders {
    fn advance_to(&mut self, slice: Slice) {
        self.events.advance_to(slice);
        self.marks.advance_to(slice);
        self.changes.advance_to(slice);
    }
}

impl Lookout {
    /// Of the worker with this index, with this many in each process. The first of them speaks for the process.
    pub fn new(index: usize, workers: usize) -> Lookout {
        Lookout { speaks: index.is_multiple_of(workers), beside_worker_0: index < workers, ..Lookout::default() }
    }

    /// Told in the log: that the process stood still, and that its wall clock was stepped.
    fn turn(&mut self, now: Reading, known: &Known) {
        if let Some(before) = self.last_turn.filter(|_| self.speaks) {
            let stood_still = now.at.since(before.at);
            if stood_still >= STANDSTILL {
                tracing::warn!(seconds = stood_still / 1_000_000, "this process stood still: it was paused, or had no core");
            }
            let step = now.wall_ahead().saturating_sub(before.wall_ahead());
            if step.abs() >= STEP {
                let seconds = step / 1_000_000;
                tracing::warn!(seconds, "this machine's wall clock was set: forward if the number is positive, else back");
            }
        }
        self.last_turn = Some(now);
        let newest = known.latest.as_ref().and_then(|(slice, watermark)| Some((*slice, watermark.clock?)));
        if let Some((slice, clocks)) = newest.filter(|(slice, _)| self.store.is_none_or(|(heard, ..)| heard < *slice)) {
            let ahead = now.at.since(clocks.now.at);
            self.ahead_of_worker_0 = Some(self.ahead_of_worker_0.map_or(ahead, |least| least.min(ahead)));
            self.store = Some((slice, clocks.store, now.at));
            self.store_wall = match clocks.store {
                SecondOpinion::Ahead(ahead) => Some(Micros(clocks.now.at.0.saturating_add(ahead))),
                SecondOpinion::Unheard | SecondOpinion::None => None,
            };
        }
    }

    /// What the store's clock shows now. It is heard a moment late, which is little beside what makes clocks disagree.
    fn store_time(&self, now: Monotonic) -> StoreTime {
        match (self.store, self.store_wall) {
            (Some((_, _, heard)), Some(wall)) => StoreTime::At(Micros(wall.0.saturating_add(now.since(heard)))),
            (Some((_, SecondOpinion::None, _)), _) => StoreTime::None,
            _ => StoreTime::Unheard,
        }
    }

    /// What keeps the worker from reading, if that is to be said now: when it begins, ends, and every second.
    fn news(&mut self, trouble: Option<String>, now: Monotonic) -> Option<Option<String>> {
        let pause = self.said.is_some_and(|said| now.since(said) < 1_000_000);
        if trouble == self.trouble || (pause && trouble.is_some() == self.trouble.is_some()) {
            return None;
        }
        self.said = Some(now);
        self.trouble.clone_from(&trouble);
        Some(trouble)
    }
}

impl Pace {
    /// When a slice began.
    fn began(&self, slice: Slice) -> Monotonic {
        Monotonic(self.base.0.saturating_add(self.tick_length().saturating_mul(slice.cast_signed())))
    }

    /// Which tick it is.
    fn tick(&self, now: Monotonic) -> u64 {
        (self.since_base(now) / self.tick_length()).unsigned_abs()
    }

    fn since_base(&self, now: Monotonic) -> i64 {
        now.since(self.base).max(0)
    }

    fn tick_length(&self) -> i64 {
        (self.slice / TICKS.cast_signed()).max(1)
    }

    /// The slice that is open now, if it is not this one any more. A slice is called by the tick in which it was opened.
    fn next_slice(&self, slice: Slice, now: Monotonic, early: bool) -> Slice {
        let tick = self.tick(now);
        if early || tick / TICKS > slice / TICKS { tick.max(slice) } else { slice }
    }

    /// Until the slice's time is over, or the next tick if it ends early; but never long.
    fn nap(&self, now: Monotonic, early: bool) -> Duration {
        let length = self.tick_length() * if early { 1 } else { TICKS.cast_signed() };
        let left = length - self.since_base(now) % length;
        NAP.min(Duration::from_micros(left.unsigned_abs()))
    }
}

impl InFlight {
    /// Nothing yet; the probe is behind the stage.
    pub fn until(probe: ProbeHandle<Slice>) -> InFlight {
        InFlight { probe, slices: VecDeque::new(), records: 0, rejected_bytes: 0 }
    }

    fn add(&mut self, slice: Slice, tally: &Tally) {
        self.slices.push_back((slice, tally.records, tally.rejected_bytes));
        self.records += tally.records;
        self.rejected_bytes += tally.rejected_bytes;
    }

    fn oldest(&self) -> Option<Slice> {
        self.slices.front().map(|&(slice, ..)| slice)
    }

    fn forget_done(&mut self) {
        while let Some(&(slice, records, rejected_bytes)) = self.slices.front() {
            if self.probe.less_equal(&slice) {
                break;
            }
            self.records -= records;
            self.rejected_bytes -= rejected_bytes;
            self.slices.pop_front();
        }
    }
}
