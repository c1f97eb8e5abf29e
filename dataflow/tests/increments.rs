//! Checkpoints of ids are incremental: run after run goes on from the one before, with ever other workers, and all events come again
//! and again. None counts twice, and what is on the disk is what the two newest checkpoints need.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::Setup;
use support::random::NOW;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::checkpoint::{Holds, Manifest, PartSet};
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options};
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::memory::MemoryStore;
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_dataflow::telemetry::Metrics;
use tidemark_model::{Metric, Micros};

const SECOND: i64 = 1_000_000;
const START: i64 = 1_700_000_000 * SECOND;
const MOST_INCREMENTS: usize = 4;
const NEW_EVENTS: usize = 50;

#[derive(Default)]
struct World {
    log: MemoryLog,
    store: MemoryStore,
    parts: MemoryParts,
    sent: Vec<(Micros, String)>,
    runs: usize,
}

impl World {
    /// New events of this time, and all that were there before once more, in some of the partitions.
    fn publish(&mut self, at: i64, partitions: impl IntoIterator<Item = usize>) {
        let at = Micros(START + at * SECOND);
        for number in self.sent.len()..self.sent.len() + NEW_EVENTS {
            let user = number % 7;
            let event = format!(
                r#"{{"event_type":"chat_message","event_id":"{number}","stream_id":"s{}","user_id":"{user}","ts":"{at}"}}"#,
                number % 3
            );
            self.sent.push((at, event));
        }
        for partition in partitions {
            let partition = i32::try_from(partition).expect("a few");
            self.sent.iter().for_each(|(at, event)| self.log.append(partition, Some(*at), Some(event.as_bytes())));
        }
    }

    fn setup(workers: usize, checkpoint_every: Duration) -> Setup {
        Setup {
            rules: Rules::default(),
            workers,
            slice: Duration::from_millis(5),
            most_per_read: 7,
            now: NOW,
            max_ahead: Duration::from_secs(3_600),
            checkpoint_every,
            grains: &tidemark_model::Grain::ALL,
            retention: Default::default(),
        }
    }

    /// Runs to the end of the log, with a checkpoint there.
    fn run(&mut self) -> Manifest {
        let setup = World::setup([1, 3, 2][self.runs % 3], Duration::from_secs(3_600));
        self.runs += 1;
        let mut options = setup.options();
        options.most_increments = MOST_INCREMENTS;
        let (log, store, parts) = (Arc::new(self.log.clone()), Box::new(self.store.clone()), Arc::new(self.parts.clone()));
        cluster::run(&options, log, store, parts, &Arc::new(Control::default()), &Metrics::new().0).expect("it ends well");
        let tables = self.store.tables().clone();
        let expected = support::expected(&self.log, &setup.rules, NOW, &tables);
        let differences = support::differences(&tables, &expected);
        assert!(differences.is_empty(), "run {}: {differences:#?}", self.runs);
        let needed: BTreeSet<PartSet> = tables.checkpoints.iter().flat_map(Manifest::sets).map(|(set, _)| set).collect();
        let there: BTreeSet<PartSet> = self.parts.files().keys().map(|(set, _)| *set).collect();
        assert_eq!(there, needed, "run {}", self.runs);
        tables.checkpoints[0].clone()
    }

    fn chats(&self) -> usize {
        self.store.tables().rows.values().map(|row| usize::try_from(row.values[Metric::ChatMessages]).expect("a count")).sum()
    }
}

#[test]
fn each_has_what_came_since_the_one_before() {
    let mut world = World::default();
    for run in 0..2 * MOST_INCREMENTS + 1 {
        world.publish(20 * i64::try_from(run).expect("a few"), [run % 3]);
        let checkpoint = world.run();
        assert_eq!(world.chats(), world.sent.len());
        assert_eq!(checkpoint.increments.len(), run % MOST_INCREMENTS + 1, "after MOST_INCREMENTS all are written anew");
        // A new id takes 16 bytes, and no more is written than those and where they belong.
        let written: u64 = checkpoint.increments.last().expect("a window is open").parts.iter().map(|part| part.bytes).sum();
        let ids = if run % MOST_INCREMENTS == 0 { world.sent.len() } else { NEW_EVENTS } as u64;
        assert!((16 * ids..(16 + 24) * ids + 500).contains(&written), "{written} bytes for {ids} ids");
    }
    // Nothing is lost with an old increment but time.
    world.publish(200, [1]);
    let lost = world.run().increments[0].id.set(Holds::Ids);
    world.parts.files().retain(|(set, _), _| *set != lost);
    world.publish(220, [2]);
    assert_eq!(world.run().increments.len(), 1);
    assert_eq!(world.chats(), world.sent.len());
    // When their windows have closed they are not needed any more.
    world.sent.clear();
    world.publish(3_600, 0..3);
    let first = world.run();
    assert_eq!(first.increments.len(), 1);
    world.sent.clear();
    world.publish(3_900, [0]);
    assert_eq!(world.run().increments.len(), 2);
    // Those whose windows are open still are, and have what comes again.
    world.publish(4_320, 0..3);
    let increments = world.run().increments;
    assert_eq!((increments.len(), increments[0].id.fence), (2, first.id.fence + 1));
}

/// Publishes until the newest checkpoint is like this.
fn until(world: &mut World, what: &str, holds: impl Fn(&Manifest) -> bool) -> Manifest {
    let started = Instant::now();
    let start = Clock::System.now().wall.0 - START;
    loop {
        let newest = world.store.tables().checkpoints.first().cloned();
        if let Some(checkpoint) = newest.filter(|checkpoint| holds(checkpoint)) {
            return checkpoint;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "not in time: {what}");
        world.publish(start / SECOND, [0, 1]);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_run_that_misses_one_writes_all_anew() {
    let mut world = World::default();
    let mut options = Options { clock: Clock::System, ..World::setup(2, Duration::from_millis(20)).options() };
    options.wish.until_end = false;
    let control = Arc::new(Control::default());
    let running = {
        let (log, store, parts) = (Arc::new(world.log.clone()), Box::new(world.store.clone()), Arc::new(world.parts.clone()));
        let control = Arc::clone(&control);
        std::thread::spawn(move || cluster::run(&options, log, store, parts, &control, &Metrics::new().0))
    };
    let several = until(&mut world, "several increments", |checkpoint| checkpoint.increments.len() >= 3);
    assert!(several.increments.iter().all(|increment| increment.id.fence == several.id.fence), "all of one run");
    let lost = several.increments[0].id.set(Holds::Ids);
    world.parts.files().retain(|(set, _), _| *set != lost);
    let anew = until(&mut world, "a checkpoint that does not need what is lost", |checkpoint| !checkpoint.needs(lost));
    assert!(anew.id.number < several.id.number + 60, "long before there are too many: {} {}", several.id, anew.id);
    control.stop();
    running.join().expect("it does not panic").expect("it ends well");
    world.publish(Clock::System.now().wall.0 / SECOND - START / SECOND, [2]);
    world.run();
    assert_eq!(world.chats(), world.sent.len());
}
