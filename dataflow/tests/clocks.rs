//! Clocks that are wrong, and clocks that are set: nothing on time is rejected, nothing closes too early, nothing stands still.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::Setup;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options, RunError};
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::memory::{MemoryStore, Tables};
use tidemark_dataflow::sink::{Begin, Commit, Decide, LastWord, Receipt, Store, StoreError, Stored};
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_dataflow::telemetry::Metrics;
use tidemark_model::{Metric, Micros, Minute};

/// 2026-01-01T12:00:00Z.
const NOON: i64 = 1_767_268_800_000_000;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// How long anything may take here.
const LONG: Duration = Duration::from_secs(30);

/// A machine whose clocks a test moves, a log, and a store with a clock of its own.
#[derive(Clone)]
struct World {
    monotonic: Arc<AtomicI64>,
    /// How far the machine's wall clock is ahead of its monotonic one.
    wall_ahead: Arc<AtomicI64>,
    /// How far the store's clock is ahead of the machine's monotonic one.
    store_ahead: Arc<AtomicI64>,
    /// The same in the moment in which it is asked for the last time before it commits.
    store_ahead_at_commit: Arc<AtomicI64>,
    log: MemoryLog,
    store: MemoryStore,
    control: Arc<Control>,
}

impl World {
    fn new() -> World {
        World {
            monotonic: Arc::new(AtomicI64::new(NOON)),
            wall_ahead: Arc::default(),
            store_ahead: Arc::default(),
            store_ahead_at_commit: Arc::default(),
            log: MemoryLog::default(),
            store: MemoryStore::default(),
            control: Arc::default(),
        }
    }

    fn set_store_ahead(&self, ahead: i64) {
        self.store_ahead.store(ahead, Ordering::Release);
        self.store_ahead_at_commit.store(ahead, Ordering::Release);
    }

    fn store_clock(&self, ahead: &AtomicI64) -> Micros {
        Micros(self.monotonic.load(Ordering::Acquire) + ahead.load(Ordering::Acquire))
    }

    /// Appends a chat message that was written when the true time was that.
    fn chat(&self, partition: i32, at: i64) {
        let payload = format!(r#"{{"event_type":"chat_message","stream_id":"s{partition}","ts":"{}"}}"#, Micros(at));
        self.log.append(partition, Some(Micros(at)), Some(payload.as_bytes()));
    }

    fn start(&self, idle_after: Duration) -> JoinHandle<Result<(), RunError>> {
        let setup = Setup {
            checkpoint_every: Duration::from_millis(500),
            grains: &tidemark_model::Grain::ALL,
            retention: Default::default(),
            rules: Rules::default(),
            workers: 2,
            slice: Duration::from_millis(100),
            most_per_read: 0,
            now: Micros(NOON),
            max_ahead: Duration::from_secs(3_600),
        };
        let options = setup.options();
        let (now, wall_ahead) = (Arc::clone(&self.monotonic), Arc::clone(&self.wall_ahead));
        let wish = tidemark_dataflow::plan::Wish { until_end: false, ..options.wish };
        let clock = Clock::Manual { now, step: 100, wall_ahead };
        let options = Options { wish, clock, idle_after: Some(idle_after), ..options };
        let (log, store, control) = (Arc::new(self.log.clone()), Box::new(self.clone()), Arc::clone(&self.control));
        std::thread::spawn(move || {
            cluster::run(&options, log, store, Arc::new(MemoryParts::default()), &control, &Metrics::new().0)
        })
    }

    fn chats(&self) -> i64 {
        self.store.tables().rows.values().map(|row| row.values[Metric::ChatMessages]).sum()
    }

    /// Waits, for a bounded time, until the tables are like that.
    fn until(&self, what: &str, is_so: impl Fn(&Tables) -> bool) {
        let deadline = Instant::now() + LONG;
        while !is_so(&self.store.tables()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.store.tables());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stop(&self, run: JoinHandle<Result<(), RunError>>) {
        self.control.stop();
        run.join().unwrap().expect("the run ends cleanly");
    }
}

impl Store for World {
    fn begin(&mut self, begin: &Begin, decide: &mut Decide<'_>) -> Result<Stored, StoreError> {
        self.store.begin(begin, decide)
    }
    fn commit(&mut self, commit: &Commit) -> Result<Receipt, StoreError> {
        let clock = Some(self.store_clock(&self.store_ahead));
        Ok(Receipt { clock, ..self.store.commit(commit)? })
    }
    fn commit_if(&mut self, commit: &Commit, last_word: LastWord<'_>) -> Result<Receipt, StoreError> {
        last_word(Some(self.store_clock(&self.store_ahead_at_commit)))?;
        self.commit(commit)
    }
    fn heartbeat(&mut self, trouble: Option<&str>) -> Result<Option<Micros>, StoreError> {
        self.store.heartbeat(trouble)?;
        Ok(Some(self.store_clock(&self.store_ahead)))
    }
}

/// A machine that resumes with a clock that is ten minutes behind would call everything `future` that was written meanwhile.
#[test]
fn a_reader_whose_clock_is_behind_the_store_s_judges_nothing_by_it() {
    let world = World::new();
    world.set_store_ahead(10 * MINUTE);
    for second in 0..20 {
        world.chat(0, NOON + 9 * MINUTE + second * SECOND);
    }
    let run = world.start(Duration::from_secs(3_600));
    let told = Instant::now() + LONG;
    let trouble = || world.control.troubles().sentence().unwrap_or_default();
    while !trouble().contains("s behind the store's") {
        assert!(Instant::now() < told, "it is told: {:?}", trouble());
        std::thread::sleep(Duration::from_millis(1));
    }
    // What its record time shows to be of the past under both clocks is not held up.
    world.chat(1, NOON - MINUTE);
    world.until("what no clock decides on goes on", |tables| tables.rows.len() == 1);
    assert_eq!((world.chats(), world.store.tables().dead_letters.len()), (1, 0), "nothing else is judged");
    world.wall_ahead.store(10 * MINUTE, Ordering::Release);
    world.until("it goes on once both agree", |tables| {
        tables.rows.values().map(|row| row.values[Metric::ChatMessages]).sum::<i64>() == 21
    });
    assert!(world.store.tables().dead_letters.is_empty());
    world.chat(0, NOON + 10 * MINUTE);
    let healed = Instant::now() + LONG;
    while world.control.troubles().sentence().is_some() {
        assert!(Instant::now() < healed, "it is over: {:?}", trouble());
        std::thread::sleep(Duration::from_millis(1));
    }
    world.stop(run);
}

/// The whole machine stood still after the store was last heard: both of its clocks say that no time has passed.
#[test]
fn a_verdict_by_a_clock_that_proves_wrong_before_the_commit_is_not_written() {
    let world = World::new();
    world.store_ahead_at_commit.store(10 * MINUTE, Ordering::Release);
    world.chat(0, NOON + 9 * MINUTE);
    let error = world.start(Duration::from_secs(3_600)).join().unwrap().expect_err("it may not commit that");
    assert!(matches!(error, RunError::Superseded(_)), "{error}");
    // The run's own clock goes on meanwhile.
    let told = ["600 s away", "599 s away"].map(|away| format!("judged by a clock that is {away}"));
    assert!(told.iter().any(|told| error.to_string().contains(told)), "{error}");
    assert_eq!((world.chats(), world.store.tables().dead_letters.len()), (0, 0));
}

#[test]
fn a_wall_clock_that_is_set_back_holds_nothing_up() {
    let world = World::new();
    world.wall_ahead.store(5 * MINUTE, Ordering::Release);
    world.set_store_ahead(5 * MINUTE);
    world.chat(0, NOON + 5 * MINUTE);
    let run = world.start(Duration::from_secs(30));
    world.until("the first", |tables| tables.rows.len() == 1);
    // Both clocks are set, as those of one machine are.
    world.wall_ahead.store(0, Ordering::Release);
    world.set_store_ahead(0);
    world.chat(0, NOON + 10 * SECOND);
    world.until("the second, though the clock is at an earlier minute", |tables| {
        tables.rows.values().map(|row| row.values[Metric::ChatMessages]).sum::<i64>() == 2
    });
    let before = world.monotonic.load(Ordering::Acquire);
    world.stop(run);
    let took = world.monotonic.load(Ordering::Acquire) - before;
    assert!(took < 60 * SECOND, "a stop waits for no wall clock: {took} µs");
}

#[test]
fn a_wall_clock_that_is_set_ahead_closes_nothing_early_and_leaves_nothing_behind() {
    let world = World::new();
    world.chat(0, NOON);
    world.chat(1, NOON);
    let run = world.start(Duration::from_secs(5));
    world.until("both partitions fall idle", |tables| tables.watermark > Some(Micros(NOON - 10 * MINUTE - 5 * SECOND)));
    world.wall_ahead.store(2 * HOUR, Ordering::Release);
    world.set_store_ahead(2 * HOUR);
    let since = world.monotonic.load(Ordering::Acquire);
    let deadline = Instant::now() + LONG;
    while world.monotonic.load(Ordering::Acquire) < since + 60 * SECOND {
        assert!(Instant::now() < deadline, "the run goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
    let passed = world.monotonic.load(Ordering::Acquire) - NOON;
    let watermark = world.store.tables().watermark.unwrap();
    let honest = Micros(NOON - 10 * MINUTE + passed);
    assert!(watermark <= honest, "{watermark} is more than silence allows, {honest}");
    world.wall_ahead.store(0, Ordering::Release);
    world.set_store_ahead(0);
    // An event of now is on time, in a window that is open.
    let now = world.monotonic.load(Ordering::Acquire);
    world.chat(0, now);
    let minute = Minute::of(Micros(now).to_nanos());
    world.until("it is counted", |tables| tables.rows.contains_key(&(minute, "s0".to_owned())));
    assert!(world.store.tables().dead_letters.is_empty(), "{:?}", world.store.tables().dead_letters);
    world.stop(run);
}
