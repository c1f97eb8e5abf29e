//! A partition that comes into being while the pipeline runs, in memory, with several workers: it announces itself before it is read,
//! so its events count although the others are far ahead, and no window closes past it unseen.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::Setup;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options};
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::memory::{MemoryStore, Tables};
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_dataflow::telemetry::Metrics;
use tidemark_model::{Micros, Reason};

const MINUTE: i64 = 60_000_000;

fn until(store: &MemoryStore, what: &str, holds: impl Fn(&Tables) -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds(&store.tables()) {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn it_is_read_by_its_owner_from_its_beginning() {
    let rules = Rules::default();
    let setup = Setup {
        checkpoint_every: Duration::from_millis(20),
        grains: &tidemark_model::Grain::ALL,
        retention: Default::default(),
        rules,
        workers: 3,
        slice: Duration::from_millis(5),
        most_per_read: 0,
        now: Micros(0),
        max_ahead: Duration::from_secs(3_600),
    };
    let mut options = Options { clock: Clock::System, ..setup.options() };
    options.wish.until_end = false;
    let now = Clock::System.now().wall;
    let log = MemoryLog::default();
    let append = |partition: i32, stream: &str, at: i64| {
        let payload = format!(r#"{{"event_type":"chat_message","stream_id":"{stream}","ts":"{}"}}"#, Micros(at));
        log.append(partition, Some(now), Some(payload.as_bytes()));
    };
    append(0, "first", now.0 - 60 * MINUTE);
    append(0, "first", now.0);
    let store = MemoryStore::default();
    let control = Arc::new(Control::default());
    let running = {
        let (options, log, store, control) = (options.clone(), log.clone(), store.clone(), Arc::clone(&control));
        std::thread::spawn(move || {
            cluster::run(&options, Arc::new(log), Box::new(store), Arc::new(MemoryParts::default()), &control, &Metrics::new().0)
        })
    };
    until(&store, "the first partition's rows and watermark", |tables| {
        tables.rows.len() == 2 && tables.watermark.is_some_and(|watermark| watermark.0 > now.0 - 11 * MINUTE)
    });
    // One event in a window that is closed, one in an open one; the first sets no watermark that would reject the other.
    append(4, "second", now.0 - 30 * MINUTE);
    append(4, "second", now.0 - 5 * MINUTE);
    until(&store, "the new partition's row", |tables| tables.rows.keys().any(|(_, stream)| stream == "second"));
    control.stop();
    running.join().expect("it does not panic").expect("it ends well");
    let tables = store.tables().clone();
    let seconds = tables.rows.keys().filter(|(_, stream)| stream == "second").count();
    assert_eq!((seconds, tables.dead_letters.clone()), (1, BTreeMap::from([((4, 0), Reason::Closed)])));
    assert_eq!((tables.partitions[&4].start_offset, tables.partitions[&4].next_offset), (0, 2));
    // And a later run goes on with it.
    append(4, "second", now.0);
    options.wish.until_end = true;
    let (metrics, _) = Metrics::new();
    cluster::run(
        &options,
        Arc::new(log.clone()),
        Box::new(store.clone()),
        Arc::new(MemoryParts::default()),
        &Arc::new(Control::default()),
        &metrics,
    )
    .expect("it ends well");
    let tables = store.tables().clone();
    assert_eq!(tables.partitions[&4].next_offset, 3);
    assert!(support::differences(&tables, &support::expected(&log, &rules, now, &tables)).is_empty());
}
