//! From `kill -9` to fresh rows, with many viewers present and a long topic.

use super::cluster::{Cluster, Ground, Shape};
use super::watcher::Watcher;
use super::{TOPIC, number, say};
use crate::support::services::Services;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rustix::process::Signal;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tidemark_model::Micros;

const EVENTS: i64 = 5_000_000;
/// They join first and stay.
const PRESENT: i64 = 1_000_000;
const STREAMS: i64 = 10_000;
const PARTITIONS: usize = 6;
/// Event time that they cover, in microseconds.
const SPAN: i64 = 30 * 60_000_000;
/// Events per second that go on coming.
const RATE: i64 = 5_000;
/// What it is to be, without the replay.
const TARGET: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(300);

#[test]
#[ignore = "minutes, and a release build: scripts/storm.sh --recovery"]
fn fresh_rows_after_a_kill() {
    let Some(services) = Services::start(1) else { return };
    let (runs, seed) = (number("TIDEMARK_STORM_RUNS", 5), number("TIDEMARK_STORM_SEED", 1));
    services.brokers.create_topic(TOPIC, PARTITIONS);
    services.create_database("storm");
    let started = Instant::now();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let now = i64::try_from(now.as_micros()).expect("before 2262");
    let events = Events { base: now - SPAN, producer: producer(&services.brokers.addresses()) };
    (0..EVENTS).for_each(|number| events.send(number, now - SPAN + number * SPAN / EVENTS));
    events.producer.flush(LONG).expect("everything is delivered");
    say(&format!("{EVENTS} events in the topic, {PRESENT} viewers present, {STREAMS} streams ({:.0?})\n", started.elapsed()));

    let scratch = tempfile::tempdir().expect("a directory");
    let url = services.database(&services.postgres, "storm");
    let settings = [
        ("KAFKA_BOOTSTRAP", services.brokers.addresses()),
        ("KAFKA_TOPIC", TOPIC.to_owned()),
        ("DATABASE_URL", url.clone()),
        ("DATA_DIR", scratch.path().display().to_string()),
    ];
    let ground = Ground::new(scratch.path().to_owned(), &settings, None);
    let mut client = postgres::Client::connect(&url, postgres::NoTls).expect("it answers");
    let watcher = Watcher::glancing(&url);
    let stop = AtomicBool::new(false);
    let table = std::thread::scope(|scope| {
        scope.spawn(|| go_on(&events, now, &stop));
        let table = kill_again_and_again(&ground, &watcher, &mut client, runs, seed);
        stop.store(true, Ordering::Release);
        table
    });
    say(&table.text);
    assert!(table.longest < TARGET, "{:.2?} without the replay, and {TARGET:?} is the target", table.longest);
}

struct Table {
    text: String,
    /// From a kill to fresh rows, without the replay.
    longest: Duration,
}

fn kill_again_and_again(ground: &Ground, watcher: &Watcher, client: &mut postgres::Client, runs: u64, seed: u64) -> Table {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let shape = Shape { processes: 1, workers: 2 };
    let caught_up = Instant::now();
    let mut cluster = Cluster::start(ground, shape, 0);
    wait_for(client, "the log's end", "select coalesce(sum(next_offset), 0) >= 5000000 from progress_partitions");
    say(&format!("caught up with them in {:.1?}\n", caught_up.elapsed()));
    wait_for(client, "a checkpoint of all", &format!("select {READ_BY_CHECKPOINT} >= 5000000 from progress"));
    let mut table = Table { text: HEAD.to_owned(), longest: Duration::ZERO };
    for run in 1..=runs {
        std::thread::sleep(Duration::from_millis(random.random_range(0..10_000)));
        let seen = watcher.seen();
        let killed = Instant::now();
        cluster.signal(Signal::KILL);
        assert!(cluster.ends_within(LONG).is_empty());
        let number = usize::try_from(run).expect("few");
        cluster = Cluster::start(ground, shape, number);
        let since = |ready: &dyn Fn(&Cluster) -> bool, cluster: &Cluster| {
            while !ready(cluster) {
                assert!(killed.elapsed() < LONG, "it does not recover:\n{}", cluster.processes[0].said());
                std::thread::sleep(Duration::from_millis(2));
            }
            killed.elapsed()
        };
        let took_over = since(&Cluster::took_over, &cluster);
        let reading = since(&|cluster| cluster.processes[0].said().matches(READING).count() >= shape.workers, &cluster);
        let live = since(&Cluster::live, &cluster);
        let fresh = since(&|_| watcher.seen().fence > seen.fence && watcher.seen().epoch > seen.epoch, &cluster);
        let without_replay = fresh - (live - reading);
        table.longest = table.longest.max(without_replay);
        let [took_over, reading, live, fresh, without_replay] =
            [took_over, reading, live, fresh, without_replay].map(|time| time.as_secs_f64());
        let replayed = cluster.replayed();
        writeln!(
            table.text,
            "{run:>3}{took_over:>11.2}{reading:>10.2}{live:>10.2}{fresh:>12.2}{replayed:>12}{without_replay:>16.2}"
        )
        .expect("a string takes all text");
    }
    cluster.signal(Signal::TERM);
    assert!(cluster.ends_within(LONG).is_empty());
    table
}

const READING: &str = " reading worker=";
const HEAD: &str = "seconds after kill -9:\nrun  took over   reading      live  fresh rows    replayed  without replay\n";
const READ_BY_CHECKPOINT: &str = "(select coalesce(sum((read_to.value ->> 'next_offset')::bigint), 0)
    from jsonb_each(checkpoints -> 0 -> 'partitions') as read_to)";

fn wait_for(client: &mut postgres::Client, what: &str, condition: &str) {
    let until = Instant::now() + LONG;
    while !client.query_one(condition, &[]).is_ok_and(|row| row.get(0)) {
        assert!(Instant::now() < until, "no {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Events {
    base: i64,
    producer: BaseProducer,
}

fn producer(bootstrap: &str) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("linger.ms", "20").set("queue.buffering.max.messages", "500000");
    config.create().expect("a producer")
}

impl Events {
    /// Event `number`, which happens at `ts`: everybody joins; then most chat, some donate, and as many come as go.
    fn send(&self, number: i64, ts: i64) {
        let (kind, user) = match (number < PRESENT, number % 20) {
            (true, _) => ("viewer_join", number),
            (false, 0 | 1) => ("viewer_join", number),
            (false, 2 | 3) => ("viewer_leave", number - 2),
            (false, 4) => ("donation", number % PRESENT),
            (false, _) => ("chat_message", number % PRESENT),
        };
        let stream = user % STREAMS;
        let (ts, time) = (Micros(ts.max(self.base)), ts / 1_000);
        let payload = format!(
            r#"{{"event_type":"{kind}","event_id":"e{number}","stream_id":"stream_{stream:05}","user_id":"user_{user}","ts":"{ts}","amount_usd":2.50}}"#
        );
        let partition = i32::try_from(stream % i64::try_from(PARTITIONS).expect("few")).expect("few");
        let mut record: BaseRecord<'_, (), [u8]> =
            BaseRecord::to(TOPIC).partition(partition).timestamp(time).payload(payload.as_bytes());
        while let Err((error, again)) = self.producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            self.producer.poll(Duration::from_millis(10));
            record = again;
        }
    }
}

/// Events by the clock, until it is to stop.
fn go_on(events: &Events, now: i64, stop: &AtomicBool) {
    let (started, mut number) = (Instant::now(), 0);
    while !stop.load(Ordering::Acquire) {
        let since = i64::try_from(started.elapsed().as_micros()).expect("not for ever");
        while number < since * RATE / 1_000_000 {
            events.send(EVENTS + number, now + number * 1_000_000 / RATE);
            number += 1;
        }
        events.producer.poll(Duration::from_millis(5));
        std::thread::sleep(Duration::from_millis(5));
    }
}
