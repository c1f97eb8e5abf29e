//! How long a worker stands still because its state is saved.
//!
//! ```sh
//! cargo run --release --example checkpoint_pause                    # 2 million present viewers, 10,000 streams, 1 worker, 60 s
//! cargo run --release --example checkpoint_pause -- 500000 1000 2 30
//! ```
//!
//! The production loop with a log whose events are made while they are read: first everybody joins, then traffic goes on at a
//! steady rate by the clock. The same is done without checkpoints and with one every few seconds, and of both are printed: how long
//! the worker's turns take (from one look at its source to the next, the nap of an idle turn included), the longest by the worker's own
//! CPU time (on a machine that others use too, the rest is waiting for a core), and the activations of the operator `Fold`. At last the state is taken up again from the last checkpoint, as a restart does.

mod common;
#[path = "common/made_up_log.rs"]
mod made_up_log;

use common::say;
use made_up_log::{MadeUpLog, Script};
use std::fmt::Write as _;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tidemark_dataflow::checkpoint::directory::Directory;
use tidemark_dataflow::checkpoint::{PartFile, PartSet, Parts};
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options};
use tidemark_dataflow::fold::Fold;
use tidemark_dataflow::rollups::RollUps;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::memory::MemoryStore;
use tidemark_dataflow::telemetry::{Metrics, resident_bytes};
use tidemark_model::metrics::Whole;
use tidemark_model::{Grain, Micros};

/// Events per second once everybody is there.
const RATE: i64 = 20_000;
/// Windows close while it is measured.
const LATENESS: &str = "1 minute";
const EVERY: Duration = Duration::from_secs(5);
/// How long everybody's joins may take to come in.
const GATHERING: Duration = Duration::from_secs(300);
/// The bounds of the histogram, in milliseconds.
const BOUNDS: [u32; 7] = [1, 2, 5, 10, 20, 50, 100];

fn main() -> anyhow::Result<()> {
    let numbers = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<Vec<i64>, _>>()?;
    let number = |index: usize, default: i64| numbers.get(index).copied().unwrap_or(default);
    let (viewers, streams, workers, seconds) = (number(0, 2_000_000), number(1, 10_000), number(2, 1), number(3, 60));
    say(&format!("{viewers} present viewers, {streams} streams, {workers} workers, {RATE} events/s for {seconds} s"));
    for every in [Duration::from_secs(100_000), EVERY] {
        measure(viewers, streams, usize::try_from(workers)?, Duration::from_secs(seconds.unsigned_abs()), every)?;
    }
    Ok(())
}

fn measure(viewers: i64, streams: i64, workers: usize, time: Duration, every: Duration) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let watch = Arc::new(Watch::default());
    let parts = Arc::new(WatchedParts { parts: Directory::open(dir.path())?, watch: Arc::clone(&watch) });
    let live = Arc::new(AtomicI64::new(0));
    let crowd = Crowd {
        viewers,
        streams,
        base: now(),
        live: Arc::clone(&live),
        watch: Arc::clone(&watch),
        last_turn: None,
        begun: 0,
        saving: false,
    };
    let log = Arc::new(MadeUpLog(crowd));
    let (metrics, registry) = Metrics::new();
    let store = MemoryStore::default();
    let options =
        Options { clock: Clock::System, workers, checkpoint_every: every, ..common::options(&["--watermark", LATENESS])? };
    let control = Arc::new(Control::default());
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let run = scope.spawn(|| cluster::run(&options, log.clone(), Box::new(store.clone()), parts.clone(), &control, &metrics));
        let until = Instant::now() + GATHERING;
        while metrics.records.get() < viewers.unsigned_abs() && Instant::now() < until && !run.is_finished() {
            std::thread::sleep(Duration::from_millis(50));
        }
        // Everybody is there. What that cost is over once the first windows have closed.
        live.store(now(), Ordering::Release);
        std::thread::sleep(Duration::from_secs(5));
        let fold = histogram(&registry);
        watch.measuring.store(true, Ordering::Release);
        std::thread::sleep(time);
        watch.measuring.store(false, Ordering::Release);
        print(&watch, every, &fold, &histogram(&registry));
        control.stop();
        Ok(run.join().expect("a run does not panic")?)
    })?;
    say(&format!(
        "  memory {} MB, {} records, {} commits",
        resident_bytes().unwrap_or(0) >> 20,
        metrics.records.get(),
        metrics.commits.get()
    ));
    let Some(newest) = store.tables().checkpoints.first().cloned() else { return Ok(()) };
    let started = Instant::now();
    let next_offsets = newest.partitions.iter().map(|(&partition, read_to)| (partition, read_to.next_offset)).collect();
    newest.check(parts.as_ref(), &next_offsets).map_err(anyhow::Error::msg)?;
    let verified = started.elapsed();
    let mut fold = Fold::new(12 * 3_600 * 1_000_000_000, &Grain::ALL, metrics.of_worker(0));
    fold.restore(&mut RollUps::new(&Grain::ALL, Whole::default().rolled_up), &newest, parts.as_ref(), 0, 1)?;
    say(&format!(
        "  the last checkpoint: {} MB; verified in {verified:.2?}, taken up by one worker in {:.2?}",
        newest.bytes() >> 20,
        started.elapsed() - verified
    ));
    Ok(())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before 2262")
}

/// CPU time that the calling thread has taken.
fn own_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// What is seen of the workers' turns and of the checkpoints.
#[derive(Default)]
struct Watch {
    measuring: AtomicBool,
    /// Parts that are being saved now.
    saving: AtomicUsize,
    /// Parts that were begun.
    begun: AtomicUsize,
    /// Turns during which a part was being saved, and others: by the clock, and by the worker's own CPU time.
    turns: Mutex<[Vec<(Duration, Duration)>; 2]>,
    /// How long parts took from their beginning until they were on the disk, and their bytes.
    parts: Mutex<Vec<(Duration, u64)>>,
}

fn print(watch: &Watch, every: Duration, before: &[(String, u64)], after: &[(String, u64)]) {
    let mut turns = watch.turns.lock().expect("nobody panics while holding it");
    let parts = watch.parts.lock().expect("nobody panics while holding it");
    say(&if parts.is_empty() { "without checkpoints".to_owned() } else { format!("a checkpoint every {every:?}") });
    if let Some(longest) = parts.iter().map(|(took, _)| *took).max() {
        let bytes = parts.iter().map(|(_, bytes)| bytes).max().copied().unwrap_or(0);
        say(&format!("  {} parts, {} MB at most; from begun to on the disk {longest:.2?} at most", parts.len(), bytes >> 20));
    }
    for (of, turns) in ["other turns", "while saving"].into_iter().zip(turns.iter_mut()) {
        if turns.is_empty() {
            continue;
        }
        turns.sort();
        let mut line = format!("  {of:<14}");
        let mut below = 0;
        for bound in BOUNDS {
            let up_to = turns.partition_point(|(turn, _)| *turn < Duration::from_millis(bound.into()));
            write!(line, " <{bound} ms: {}", up_to - below).expect("a string takes all text");
            below = up_to;
        }
        let at = |per_mille: usize| turns[(turns.len() - 1) * per_mille / 1_000].0;
        let cpu = turns.iter().map(|(_, cpu)| *cpu).max().unwrap_or_default();
        let (p50, high, max) = (at(500), at(999), at(1_000));
        say(&format!("{line} more: {}; p50 {p50:.1?} p99.9 {high:.1?} max {max:.1?}, max of CPU {cpu:.1?}", turns.len() - below));
    }
    let mut line = "  activations of Fold:".to_owned();
    let mut below = 0;
    for ((bound, after), (_, before)) in after.iter().zip(before) {
        write!(line, " ≤{bound} s: {}", after - before - below).expect("a string takes all text");
        below = after - before;
    }
    say(&line);
}

/// The histogram of the operator's activations as Prometheus sees it: bounds in seconds, and how many are within.
fn histogram(registry: &prometheus_client::registry::Registry) -> Vec<(String, u64)> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).expect("a string takes all text");
    let buckets = text.lines().filter_map(|line| line.strip_prefix("tidemark_fold_activation_seconds_bucket{le=\""));
    buckets
        .filter_map(|line| line.split_once("\"} "))
        .map(|(bound, count)| (bound.to_owned(), count.parse().unwrap_or(0)))
        .collect()
}

/// First everybody joins, in the minute before the run; then events come by the clock. Watches the turns of the worker that reads it.
#[derive(Clone)]
struct Crowd {
    viewers: i64,
    streams: i64,
    /// When the joins are, in microseconds since 1970.
    base: i64,
    /// Since when events come by the clock; 0: not yet.
    live: Arc<AtomicI64>,
    watch: Arc<Watch>,
    last_turn: Option<(Instant, Duration)>,
    /// What it saw of the checkpoints in the last turn.
    begun: usize,
    saving: bool,
}

impl Script for Crowd {
    fn end(&self) -> i64 {
        let live = self.live.load(Ordering::Acquire);
        let since = if live == 0 { 0 } else { now() - live };
        self.viewers + since * RATE / 1_000_000
    }

    fn event(&self, number: i64, text: &mut String) {
        let Crowd { viewers, streams, base, .. } = self;
        let (ts, kind, user) = if number < *viewers {
            (base - 60_000_000 + number * 60_000_000 / viewers, "viewer_join", number)
        } else {
            let ts = self.live.load(Ordering::Acquire) + (number - viewers) * 1_000_000 / RATE;
            // As many come as go: who goes came that long ago.
            match number % 20 {
                0..7 => (ts, "viewer_join", number),
                7..14 => (ts, "viewer_leave", number - viewers),
                14..19 => (ts, "chat_message", number - viewers),
                _ => (ts, "donation", number - viewers),
            }
        };
        let (stream, ts) = (user % streams, Micros(ts));
        write!(
            text,
            r#"{{"event_type":"{kind}","event_id":"e{number}","stream_id":"stream-{stream}","user_id":"u{user}","ts":"{ts}","amount":1.25}}"#
        )
        .expect("a string takes all text");
    }

    fn turn(&mut self) {
        let watch = &self.watch;
        let (begun, saving) = (watch.begun.load(Ordering::Acquire), watch.saving.load(Ordering::Acquire) > 0);
        let now = (Instant::now(), own_cpu_time());
        let last = self.last_turn.unwrap_or(now);
        let turn = (now.0 - last.0, now.1.saturating_sub(last.1));
        let during_a_checkpoint = saving || self.saving || begun != self.begun;
        if watch.measuring.load(Ordering::Acquire) {
            watch.turns.lock().expect("nobody panics while holding it")[usize::from(during_a_checkpoint)].push(turn);
        }
        (self.last_turn, self.begun, self.saving) = (Some(now), begun, saving);
    }
}

/// A directory of parts that tells when they are written.
struct WatchedParts {
    parts: Directory,
    watch: Arc<Watch>,
}

impl Parts for WatchedParts {
    fn create(&self, set: PartSet, worker: usize) -> io::Result<Box<dyn PartFile>> {
        self.watch.begun.fetch_add(1, Ordering::AcqRel);
        self.watch.saving.fetch_add(1, Ordering::AcqRel);
        let part = self.parts.create(set, worker)?;
        Ok(Box::new(WatchedPart { part, watch: Arc::clone(&self.watch), begun: Instant::now(), bytes: 0 }))
    }

    fn open(&self, set: PartSet, worker: usize) -> io::Result<Box<dyn Read>> {
        self.parts.open(set, worker)
    }

    fn list(&self) -> io::Result<Vec<PartSet>> {
        self.parts.list()
    }

    fn remove(&self, set: PartSet) -> io::Result<()> {
        self.parts.remove(set)
    }
}

struct WatchedPart {
    part: Box<dyn PartFile>,
    watch: Arc<Watch>,
    begun: Instant,
    bytes: u64,
}

impl io::Write for WatchedPart {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.part.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.part.flush()
    }
}

impl PartFile for WatchedPart {
    fn persist(self: Box<Self>) -> io::Result<()> {
        let WatchedPart { part, watch, begun, bytes } = *self;
        let outcome = part.persist();
        watch.saving.fetch_sub(1, Ordering::AcqRel);
        watch.parts.lock().expect("nobody panics while holding it").push((begun.elapsed(), bytes));
        outcome
    }
}
