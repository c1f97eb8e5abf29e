//! The commit thread: one transaction at a time, of all slices that are waiting when the last one is done.

use super::retention::Sweep;
use super::{Commit, Receipt, Store, StoreError, Total};
use crate::Slice;
use crate::background::{Background, Haste, Started, Step};
use crate::checkpoint::schedule::Settled;
use crate::checkpoint::{self, Manifest, Parts};
use crate::clock::{Clock, MOST_APART};
use crate::fail_points::fail_point;
use crate::flow::PartitionMark;
use crate::run::Control;
use crate::source::{Log, SourceError};
use crate::telemetry::Metrics;
use crate::trouble::Kind;
use crate::trouble::STANDSTILL;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidemark_model::{Grain, Metric, Micros, Minute};
use timely::scheduling::SyncActivator;

/// Slices that may wait for the thread. More wait in the dataflow, where they hold the sources back.
const QUEUE: usize = 32;
/// Most rows and dead letters that one transaction takes together when slices are waiting, and how few they become on a slow store. One
/// slice is never parted, however large.
const PER_COMMIT: (usize, usize) = (200_000, 2_000);
/// Most bytes of dead letters that it takes together.
const BYTES_PER_COMMIT: usize = 64 << 20;
/// A commit that took longer halves what the next ones take together; one that was quicker than the first of these doubles it.
const QUICK_SLOW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// A sweep waits until no slice does, but for no more commits than this.
const COMMITS_BEFORE_SWEEP: u32 = 20;
/// Each is an epoch of its own, of which readers hear.
const BETWEEN_SWEEPS: Duration = Duration::from_millis(200);
/// Most sweeps after the last commit of a run that ends by itself.
const LAST_SWEEPS: u32 = 100;
/// How often the store hears of this run, if no commit says more. With it the run finds out whether it was fenced off, or whether
/// the store went back.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// How long a store that is out of reach is waited for before the run ends.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How long it is waited for once the run is to stop.
const PATIENCE_AT_STOP: Duration = Duration::from_secs(10);
/// The first pause before a retry, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The dataflow's end of the commit thread.
pub struct Committer {
    queue: SyncSender<(Slice, Commit)>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: AtomicUsize,
    /// Exclusive: all slices below are committed.
    acknowledged: AtomicU64,
    activator: Mutex<Option<SyncActivator>>,
}

impl Committer {
    /// Starts the thread on a store that has begun, for a log that has this id. It ends when the committer is dropped and all that was
    /// sent is written, or
    /// when the run fails.
    pub fn start(
        store: Box<dyn Store>,
        (log, log_id): (Arc<dyn Log>, String),
        keeper: Keeper,
        control: Arc<Control>,
        metrics: Arc<Metrics>,
        clock: Clock,
        background: &Background,
    ) -> (Committer, Started) {
        let (queue, slices) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let last_beat = None;
        let background = background.clone();
        let (queue_end, to_start) = (Arc::clone(&shared), background.clone());
        let mut thread = Thread {
            store,
            log,
            log_id,
            confirmed: BTreeMap::new(),
            slices,
            shared: queue_end,
            keeper,
            control,
            metrics,
            clock,
            background,
            last_beat,
            per_commit: PER_COMMIT.0,
            waits_for_log: false,
            totals: BTreeMap::new(),
            sweep: None,
            commits_since_sweep: 0,
        };
        let started = to_start.start("commit", Haste::Urgent, Box::new(move |wait| thread.step(wait)));
        (Committer { queue, shared }, started)
    }

    /// Has the sink operator scheduled whenever slices are acknowledged.
    pub fn wake_on_acknowledgement(&self, activator: SyncActivator) {
        *self.shared.activator.lock().expect("nobody panics while holding the activator") = Some(activator);
    }

    /// Whether [`Committer::send`] would not block.
    pub fn has_room(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire) < QUEUE
    }

    /// Hands over a slice, in order. Of a run that has failed nobody takes it, and nobody needs to.
    pub fn send(&mut self, slice: Slice, commit: Commit) {
        self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        let _ = self.queue.send((slice, commit));
    }

    /// Exclusive: all slices below are in the store.
    pub fn acknowledged(&self) -> Slice {
        self.shared.acknowledged.load(Ordering::Acquire)
    }
}

/// What the commit thread does for checkpoints once a commit has named them.
pub struct Keeper {
    /// Where their parts are.
    pub parts: Arc<dyn Parts>,
    /// Who waits for them.
    pub settled: Arc<Settled>,
    /// The removal of those that are not needed any more: large files, for which no commit is to wait.
    pub removal: Option<JoinHandle<()>>,
}

impl Keeper {
    /// The checkpoint that the commit has made valid, if any.
    fn committed<'a>(&mut self, epoch: i64, commit: &'a Commit, background: &Background) -> Option<&'a Manifest> {
        self.settled.committed(epoch);
        let checkpoints = commit.checkpoints.as_ref()?;
        let newest = checkpoints.first()?;
        self.settled.publish(newest);
        fail_point!("checkpoint-named");
        self.end_removal();
        let (parts, settled) = (Arc::clone(&self.parts), Arc::clone(&self.settled));
        let (kept, last) = (checkpoints.clone(), newest.id);
        let remove = move || {
            if !checkpoint::clean(parts.as_ref(), &kept, last) {
                tracing::error!(
                    "files of checkpoints are missing: a restart could not use them; the next checkpoint writes all anew"
                );
                settled.write_all_ids();
            }
        };
        self.removal = background.beside("remove", remove);
        Some(newest)
    }

    fn end_removal(&mut self) {
        if self.removal.take().is_some_and(|removal| removal.join().is_err()) {
            tracing::error!("the removal of old checkpoints panicked; its message is above");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end_removal();
    }
}

struct Thread {
    store: Box<dyn Store>,
    log: Arc<dyn Log>,
    /// Of the log that this run started on.
    log_id: String,
    /// Up to where it has confirmed what was read, by partition.
    confirmed: BTreeMap<i32, i64>,
    slices: Receiver<(Slice, Commit)>,
    shared: Arc<Shared>,
    keeper: Keeper,
    control: Arc<Control>,
    metrics: Arc<Metrics>,
    clock: Clock,
    background: Background,
    /// When the store last heard of this run, or was last told and did not answer; each commit is a sign of life too. `None`: not yet.
    last_beat: Option<Instant>,
    /// Most rows and dead letters that one transaction takes together.
    per_commit: usize,
    /// The last attempt waited in vain for the log's word, not for the store.
    waits_for_log: bool,
    /// Totals of the newest minute that is over, and of later ones.
    totals: BTreeMap<Minute, Total>,
    /// What is old enough to be dropped and has not all been.
    sweep: Option<Sweep>,
    commits_since_sweep: u32,
}

impl Thread {
    fn step(&mut self, wait: Duration) -> Step {
        // At first, so that the store's clock is known before anything is judged.
        let wait = if self.sweep.is_some() { wait.min(BETWEEN_SWEEPS) } else { wait };
        let outcome = match self.last_beat.map(|_| self.slices.recv_timeout(wait)) {
            None => self.with_patience(Thread::beat),
            Some(Ok(first)) => {
                let (slice, commit, slices) = self.gather(first);
                let written = self.write(&commit).map(|()| self.acknowledge(slice, slices));
                written.and_then(|()| if self.commits_since_sweep > COMMITS_BEFORE_SWEEP { self.sweep() } else { Ok(()) })
            }
            Some(Err(RecvTimeoutError::Timeout)) if self.sweep.is_some() && !self.beat_is_due() => self.sweep(),
            Some(Err(RecvTimeoutError::Timeout)) if !self.beat_is_due() => Ok(()),
            Some(Err(RecvTimeoutError::Timeout)) => self.with_patience(Thread::beat),
            Some(Err(RecvTimeoutError::Disconnected)) => {
                for _ in 0..LAST_SWEEPS {
                    if self.control.stopping() || self.control.failure().is_some() || self.sweep().is_err() {
                        break;
                    }
                }
                return Step::Done;
            }
        };
        match outcome {
            Ok(()) => return Step::Again,
            Err(StoreError::Superseded(error)) => self.control.supersede(error),
            Err(error) => self.control.fail(format!("commit: {error}")),
        }
        Step::Done
    }

    /// Drops a bounded number of rows that are older than they are to be kept.
    fn sweep(&mut self) -> Result<(), StoreError> {
        let Some(sweep) = self.sweep.take() else { return Ok(()) };
        let swept = self.with_patience(|thread| thread.store.sweep(&sweep))?;
        self.commits_since_sweep = 0;
        if swept.rows + swept.letters > 0 {
            tracing::debug!(rows = swept.rows, dead_letters = swept.letters, "dropped what is older than it is to be kept");
        }
        self.sweep = swept.left.then_some(sweep);
        Ok(())
    }

    /// Tells the store that this run lives, and what holds it up.
    fn beat(&mut self) -> Result<(), StoreError> {
        self.last_beat = Some(Instant::now());
        // The worker itself cannot say so. It takes the word back with its next turn.
        if let Some(still) = self.control.since_turn(self.clock.glance().at).filter(|&still| still >= STANDSTILL) {
            let sentence = format!("the worker that reads and counts has stood still for {} s", still / 1_000_000);
            self.control.troubles().tell(Kind::Standstill, sentence);
        }
        let trouble = self.control.troubles().sentence();
        let clock = self.store.heartbeat(trouble.as_deref())?;
        self.compare_clocks(clock);
        Ok(())
    }

    fn beat_is_due(&self) -> bool {
        self.last_beat.is_none_or(|beat| beat.elapsed() >= BEAT_EVERY)
    }

    /// Hears the store's clock, which it showed a moment ago.
    fn compare_clocks(&self, store: Option<Micros>) {
        let now = self.clock.glance();
        let troubles = self.control.troubles();
        if self.control.store_clock().told(store, now) {
            return troubles.over(Kind::Clock);
        }
        let apart = now.wall.0.saturating_sub(store.map_or(0, |store| store.0)) / 1_000_000;
        let (seconds, way) = (apart.abs(), if apart < 0 { "behind" } else { "ahead of" });
        let held = "records on which only a clock can decide are held back until both agree";
        troubles.tell(Kind::Clock, format!("this machine's clock is {seconds} s {way} the store's: {held}"));
    }

    /// All slices that wait, up to a bound, as one commit: the last of them, and how many they are.
    fn gather(&self, (mut last, mut commit): (Slice, Commit)) -> (Slice, Commit, usize) {
        let mut slices = 1;
        let mut bytes = commit.letter_bytes();
        while commit.rows.len() + commit.totals.len() + commit.dead_letters.len() < self.per_commit
            && bytes < BYTES_PER_COMMIT
            && let Ok((slice, later)) = self.slices.try_recv()
        {
            last = slice;
            bytes += later.letter_bytes();
            commit.absorb(later);
            slices += 1;
        }
        (last, commit, slices)
    }

    /// The log has to confirm that what is to be committed is of it, unless nothing was read since it last did. Its answer comes while
    /// the store works, once; after a fault it is heard first, so that what cannot be confirmed is not written again and again.
    fn write(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let started = Instant::now();
        let is_new = |mark: &PartitionMark| self.confirmed.get(&mark.partition).is_none_or(|&to| to < mark.next_offset);
        let news = commit.partitions.values().any(is_new);
        let mut first = true;
        let Receipt { epoch, clock: store_clock } = self.with_patience(|thread| {
            let Thread { store, log, log_id, control, clock, waits_for_log, .. } = thread;
            *waits_for_log = false;
            store.trouble(control.troubles().sentence().as_deref());
            if !news {
                return store.commit(commit);
            }
            let word = log.confirm(log_id);
            let log_confirms = || {
                word().map_err(|error| match error {
                    SourceError::NotYet(what) => {
                        *waits_for_log = true;
                        StoreError::Transient(what)
                    }
                    SourceError::Fatal(what) | SourceError::Setting(what) => StoreError::Fatal(what),
                })
            };
            if std::mem::take(&mut first) {
                let last_word = |store_clock| {
                    refuse_other_clock(commit, store_clock, clock)?;
                    log_confirms()
                };
                return store.commit_if(commit, Box::new(last_word));
            }
            log_confirms()?;
            store.commit_if(commit, Box::new(|store_clock| refuse_other_clock(commit, store_clock, clock)))
        })?;
        self.compare_clocks(store_clock);
        self.confirmed.extend(commit.partitions.values().map(|mark| (mark.partition, mark.next_offset)));
        self.last_beat = Some(Instant::now());
        let took = started.elapsed();
        if took > QUICK_SLOW.1 {
            self.per_commit = (self.per_commit / 2).max(PER_COMMIT.1);
        } else if took < QUICK_SLOW.0 {
            self.per_commit = (self.per_commit * 2).min(PER_COMMIT.0);
        }
        let (rows, letters) = (commit.rows.len() as u64, commit.dead_letters.len());
        self.metrics.committed(epoch, rows, commit.corrections, commit.watermark, took);
        if let Some(reach) = commit.reach {
            self.metrics.reaches(reach);
        }
        self.tell_totals(commit);
        self.sweep = commit.sweep.clone().or(self.sweep.take());
        self.commits_since_sweep += 1;
        let watermark = commit.watermark.map(|watermark| watermark.to_string());
        tracing::debug!(epoch, rows, dead_letters = letters, watermark, "committed");
        if let Some(newest) = self.keeper.committed(epoch, commit, &self.background) {
            self.metrics.checkpointed(newest);
        }
        let next_offsets: Vec<_> = commit.partitions.values().map(|mark| (mark.partition, mark.next_offset)).collect();
        self.log.committed(&next_offsets);
        Ok(())
    }

    /// Tells of the newest minute that is over by the clock. Late events may change it still.
    fn tell_totals(&mut self, commit: &Commit) {
        self.totals.extend(commit.totals_of(Grain::Minute).iter().map(|total| (total.window.first, *total)));
        let over = self.totals.range(..Minute::first_open(self.clock.glance().wall)).next_back();
        let Some((&minute, Total { streams, totals, .. })) = over else { return };
        self.metrics.minute(minute.start(), *streams, Metric::MINUTE.into_iter().zip(commit.whole.of(minute, &totals.values)));
        self.totals = self.totals.split_off(&minute);
    }

    /// Tries until it succeeds, for a bounded time, as long as the fault may pass. Meanwhile the store hears of this run if it can.
    fn with_patience<T>(&mut self, mut attempt: impl FnMut(&mut Thread) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let started = Instant::now();
        let mut pause = PAUSES.0;
        let mut said = String::new();
        loop {
            let error = match attempt(self) {
                Ok(done) => {
                    self.control.troubles().over(Kind::Store);
                    return Ok(done);
                }
                Err(StoreError::Transient(error)) if started.elapsed() < self.patience() => error,
                Err(error) => return Err(error),
            };
            self.metrics.commit_retries.inc();
            if said != error {
                tracing::warn!(error, "a commit failed");
                said = error;
            }
            // Not the error itself: `/health` shows this to everybody.
            let sentence = "commits fail and are tried again, the sources are held back meanwhile";
            self.control.troubles().tell(Kind::Store, sentence.to_owned());
            if self.control.wait_unless_failed(self.background.pause(pause)) {
                return Err(StoreError::Fatal("ended while waiting to commit".to_owned()));
            }
            pause = (pause * 2).min(PAUSES.1);
            // A store that does not answer commits would only be waited for twice.
            if self.waits_for_log && self.beat_is_due() {
                match self.beat() {
                    Ok(()) | Err(StoreError::Transient(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.control.stopping() { PATIENCE_AT_STOP } else { PATIENCE }
    }

    fn acknowledge(&self, slice: Slice, slices: usize) {
        self.shared.acknowledged.store(slice + 1, Ordering::Release);
        self.shared.waiting.fetch_sub(slices, Ordering::AcqRel);
        if let Some(activator) = &*self.shared.activator.lock().expect("nobody panics while holding the activator") {
            // It fails only when the worker is gone, and then nobody waits.
            let _ = activator.activate();
        }
    }
}

/// A verdict in which a wall clock had a part is committed only if the store's clock agrees with that clock. A clock that was wrong when
/// the verdict was taken may be right again by now, so both are compared by the monotonic clock.
fn refuse_other_clock(commit: &Commit, store: Option<Micros>, clock: &Clock) -> Result<(), StoreError> {
    let (Some(store), Some((least, most))) = (store, commit.judged_by) else { return Ok(()) };
    let ahead = store.0.saturating_sub(clock.glance().at.0);
    let apart = (ahead - least).max(most - ahead);
    // Twice as much as where a reader holds back: it hears of the store's clock a moment late, and a run must not be refused for a
    // difference that its readers could not see.
    if apart <= 2 * MOST_APART {
        return Ok(());
    }
    let seconds = apart / 1_000_000;
    Err(StoreError::Superseded(format!(
        "records were judged by a clock that is {seconds} s away from the store's: nothing of it is written, and they are judged again"
    )))
}
