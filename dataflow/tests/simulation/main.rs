//! Crashes and faults, simulated: the production loop on in-memory twins of log, store and checkpoints. A seed decides everything,
//! the order of threads too, so a seed that fails fails again.
//!
//! In one schedule a pipeline is run several times, with other numbers of workers, over a log that grows. Runs crash at any turn,
//! are stopped, or hold still while a successor takes over and then go on as zombies. Commits fail, or are applied although they
//! seem to fail; parts of checkpoints cannot be written, or are lost or damaged later; partitions come into being, and lose their leader;
//! a process is paused while others write, its wall clock is stepped, and what it last heard of the log's ends is old; a backup of the
//! store is restored under a run; rows that are old enough are dropped; all checkpoints vanish, or are of a version that nobody reads; and the log expires as far as a run
//! without a checkpoint can do without it. Every commit
//! is judged (nothing goes back, what is final stays), some by the oracle over all records below the stored offsets, and so is
//! the end.
//!
//! `TIDEMARK_SIMULATIONS=FIRST..END` chooses the seeds.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod script;

use faults::{Chance, FaultyLog, FaultyParts, FaultyStore, Judge, Written, damage};
use rand::RngExt;
use script::{End, Simulation, Turn};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::random::{NOW, Random, pick};
use support::{Setup, Watchdog};
use tidemark_dataflow::background::Background;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::checkpoint::{MOST_INCREMENTS, history, manifest};
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options, RunError};
use tidemark_dataflow::fold::Stints;
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::sink::memory::{MemoryStore, Tables};
use tidemark_dataflow::sink::retention::Retention;
use tidemark_dataflow::source::memory::{MemoryLog, Stored};
use tidemark_dataflow::telemetry::Metrics;
use tidemark_dataflow::worker::MOST_UNFOLDED;
use tidemark_model::Grain;

/// How a run may end with an error: anything else, a panic above all, is a fault of ours.
const EXPECTED_ENDS: [&str; 5] = [
    "a simulated crash",
    "took over",
    "ended while waiting to commit",
    "were judged by a clock that is",
    "the store does not hold what this run",
];

/// What all runs of one schedule share.
#[derive(Clone)]
struct World {
    rules: Rules,
    /// How long rows are kept, in all runs.
    retention: Retention,
    log: MemoryLog,
    /// Records that are still to be written, in their order.
    unwritten: Arc<Mutex<VecDeque<(i32, Stored)>>>,
    store: MemoryStore,
    parts: MemoryParts,
    backup: Arc<Mutex<Option<Tables>>>,
    judge: Judge,
    /// The clock when the last run ended.
    now: i64,
}

impl World {
    fn new(random: &mut Random) -> World {
        let rules = random.rules();
        let partitions = i32::try_from(1 + random.below(4)).unwrap();
        let most = if random.one_in(10) { 800 } else { 150 };
        let mut unwritten = VecDeque::new();
        let mut records = random.log(partitions, most);
        // In any mixture of the partitions.
        while records.values().any(|records| !records.is_empty()) {
            let partition = i32::try_from(random.below(usize::try_from(partitions).unwrap())).unwrap();
            let records = records.get_mut(&partition).unwrap();
            if !records.is_empty() {
                unwritten.push_back((partition, records.remove(0)));
            }
        }
        // The others come into being with their first record.
        let at_first = i32::try_from(1 + random.below(usize::try_from(partitions).unwrap())).unwrap();
        let log = MemoryLog::new((0..at_first).map(|partition| (partition, Vec::new())).collect());
        let written = Written::default();
        let counted_partitions = if random.one_in(2) { at_first } else { 0 };
        for partition in 0..counted_partitions {
            log.extend(BTreeMap::from([(partition, vec![random.first_event()])]));
            written.note(&log, partition, NOW.0);
        }
        let store = MemoryStore::default();
        store.tables().given_hash_key = Some([random.random.random(); 16]);
        let judge = Judge { log: log.clone(), rules, written, counted_partitions, differences: Arc::default() };
        let (parts, unwritten) = (MemoryParts::default(), Arc::new(Mutex::new(unwritten)));
        // From what has just become final to more than a log is long.
        let kept = |random: &mut Random| random.one_in(2).then(|| *pick(&mut random.random, &[0, 0, 60_000_000, 3_600_000_000]));
        let retention = Retention { minutes: kept(random), dead_letters: kept(random) };
        World { rules, retention, log, unwritten, store, parts, backup: Arc::default(), judge, now: NOW.0 }
    }

    /// Runs once, by a seed of its own.
    fn run(&mut self, random: &mut Random, faults: bool, end: End) -> Result<(), RunError> {
        let seed = random.random.random();
        let chance = Chance::new(seed, faults);
        let ends_by_itself = matches!(end, End::ByItself);
        // Microseconds or seconds to a turn: with seconds, partitions fall idle.
        let most_per_turn: u64 = *pick(&mut random.random, &[50, 20_000, 5_000_000]);
        let turns_per_slice = *pick(&mut random.random, &[1, 3, 20]);
        let setup = Setup {
            rules: self.rules,
            workers: *pick(&mut random.random, &[1, 1, 2, 3]),
            slice: Duration::from_micros(most_per_turn / 2 * turns_per_slice),
            most_per_read: *pick(&mut random.random, &[0, 1, 3, 17]),
            now: NOW,
            max_ahead: Duration::from_secs(*pick(&mut random.random, &[1, 3_600])),
            checkpoint_every: Duration::from_micros(*pick(&mut random.random, &[1, 1, 1_000_000, 60_000_000])),
            grains: &Grain::ALL[..*pick(&mut random.random, &[3, 3, 3, 2, 1])],
            retention: self.retention,
        };
        let (unwritten, write_to, written) = (Arc::clone(&self.unwritten), self.log.clone(), self.judge.written.clone());
        let write = move |(partition, record): (i32, Stored), now: i64| {
            write_to.extend(BTreeMap::from([(partition, vec![Stored { offset: 0, ..record }])]));
            written.note(&write_to, partition, now);
        };
        let pace = *pick(&mut random.random, &[1, 4, 30]);
        let write_between = write.clone();
        let between_turns = move |random: &mut rand_xoshiro::Xoshiro256PlusPlus, now: i64, turn: Turn| {
            let mut unwritten = unwritten.lock().unwrap();
            if turn == Turn::Usual {
                if random.random_range(0..pace) == 0 {
                    unwritten.pop_front().into_iter().for_each(|record| write_between(record, now));
                }
                return;
            }
            // While the process stands still, all partitions go on.
            for partition in 0..4 {
                let next = unwritten.iter().position(|(of, _)| *of == partition);
                next.and_then(|at| unwritten.remove(at)).into_iter().for_each(|record| write_between(record, now));
            }
        };
        if ends_by_itself {
            self.unwritten.lock().unwrap().drain(..).for_each(|record| write(record, self.now));
        }
        let most_per_turn = most_per_turn.cast_signed();
        let simulation = Simulation::new(seed, setup.workers, self.now, most_per_turn, faults, end, Box::new(between_turns));
        let mut options: Options = setup.options();
        options.wish.until_end = ends_by_itself;
        options.clock = Clock::Scripted(simulation.clone());
        options.background = Background::Scripted(simulation.clone());
        options.most_unfolded = *pick(&mut random.random, &[1, 5, MOST_UNFOLDED]);
        options.most_increments = *pick(&mut random.random, &[1, 3, MOST_INCREMENTS]);
        options.stints = Stints::Steps(*pick(&mut random.random, &[3, 30, 1_000_000]));
        let mut log = self.log.clone();
        log.most_per_read = setup.most_per_read;
        let log = Arc::new(FaultyLog { log, chance: chance.clone() });
        let store = Box::new(FaultyStore {
            store: self.store.clone(),
            chance: chance.clone(),
            judge: self.judge.clone(),
            backup: Arc::clone(&self.backup),
            now: Box::new({
                let simulation = Arc::clone(&simulation);
                move || simulation.world()
            }),
            crash: simulation.crash_in_step(),
            control: Arc::clone(simulation.control()),
        });
        let parts = Arc::new(FaultyParts { parts: self.parts.clone(), chance });
        let (metrics, _) = Metrics::new();
        let outcome = cluster::run(&options, log, store, parts, simulation.control(), &metrics);
        self.now = simulation.world();
        if simulation.overran() {
            let what =
                format!("a run does not come to its end ({ends_by_itself}): {setup:?}, {:?}", self.store.tables().partitions);
            self.judge.differences.lock().unwrap().push(what);
        }
        outcome
    }

    /// All checkpoints vanish, or the next run knows nothing of their version.
    fn lose_checkpoints(&self, chance: &Chance) {
        if chance.one_in(2) {
            self.parts.files().clear();
        } else {
            self.store.tables().checkpoints.iter_mut().for_each(|checkpoint| checkpoint.version = *manifest::READ.end() + 1);
        }
    }

    /// Records expire that no run needs, even without a checkpoint: neither with the tables as they are nor with the backup.
    fn expire(&self) {
        let backup = self.backup.lock().unwrap();
        let mut low: Option<BTreeMap<i32, i64>> = None;
        for tables in [&*self.store.tables()].into_iter().chain(backup.as_ref()) {
            let old_enough =
                history::old_enough(tables.watermark, tables.rolled_up_from, self.rules.viewer_timeout_nanos(), None);
            let Some(entry) = tables.newest_entry(old_enough) else { return };
            let from = |partition: &i32| entry.partitions.get(partition).map_or(0, |read_to| read_to.next_offset);
            let before = low.take().unwrap_or_else(|| entry.partitions.keys().map(|&partition| (partition, i64::MAX)).collect());
            low = Some(before.into_iter().map(|(partition, low)| (partition, low.min(from(&partition)))).collect());
        }
        self.log.expire(low.unwrap_or_default());
    }

    fn differences(&self) -> Vec<String> {
        std::mem::take(&mut self.judge.differences.lock().unwrap())
    }
}

/// One schedule; the differences, each with where it was seen.
fn differences(seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut world = World::new(&mut random);
    // Who is stopped saves once more, what came since the checkpoint before: only so there are many of them.
    let mostly_stopped = random.one_in(3);
    for run in 0..1 + random.below(if mostly_stopped { 12 } else { 5 }) {
        let most_turns = *pick(&mut random.random, &[30, 300, 1_500]);
        let turns = u64::try_from(1 + random.below(most_turns)).unwrap();
        let end = match random.below(6) {
            2.. if mostly_stopped => End::Stop(turns),
            0 => End::Stop(turns),
            1 => {
                let (mut successor, mut random) = (world.clone(), Random::new(seed ^ 0x5eed_0000 ^ run as u64));
                let successors_turns = u64::try_from(1 + random.below(300)).unwrap();
                let meanwhile = move |now| {
                    successor.now = now;
                    let run = move || {
                        drop(successor.run(&mut random, true, End::Crash(successors_turns)));
                        successor.now
                    };
                    // In a thread of its own: the one that asks is a worker of the other run.
                    std::thread::spawn(run).join().unwrap()
                };
                End::Zombie { turns, meanwhile: Box::new(meanwhile), more: 200 }
            }
            _ => End::Crash(turns),
        };
        if let Err(error) = world.run(&mut random, true, end).map_err(|error| error.to_string())
            && !EXPECTED_ENDS.iter().any(|expected| error.contains(expected))
        {
            return vec![format!("seed {seed}, run {run}: {error}")];
        }
        let chance = Chance::new(random.random.random(), true);
        if chance.one_in(8) {
            damage(&world.parts, &chance);
        }
        if chance.one_in(8) {
            world.lose_checkpoints(&chance);
        }
        if chance.one_in(3) {
            world.expire();
        }
        let found = world.differences();
        if !found.is_empty() {
            return [vec![format!("seed {seed}, run {run}")], found].concat();
        }
    }
    if let Err(error) = world.run(&mut random, false, End::ByItself) {
        return [vec![format!("seed {seed}, last run: {error}")], world.differences()].concat();
    }
    let tables = world.store.tables().clone();
    world.judge.tables(&tables);
    let mut found = world.differences();
    if !found.is_empty() {
        found.insert(0, format!("seed {seed}, at the end"));
    }
    found
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("TIDEMARK_SIMULATIONS") else { return 0..500 };
    let (first, end) = text.split_once("..").expect("TIDEMARK_SIMULATIONS=FIRST..END");
    first.parse().expect("a number")..end.parse().expect("a number")
}

#[test]
fn no_crash_and_no_fault_changes_a_number() {
    let mut failed = Vec::new();
    for seed in seeds() {
        let watchdog = Watchdog::start(seed);
        let differences = differences(seed);
        drop(watchdog);
        if !differences.is_empty() {
            eprintln!("{}", differences[..differences.len().min(12)].join("\n  "));
            failed.push(seed);
        }
        assert!(failed.len() < 5, "seeds {failed:?} differ");
    }
    assert!(failed.is_empty(), "seeds {failed:?} differ");
}
