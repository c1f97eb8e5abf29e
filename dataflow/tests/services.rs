//! The same 200,000 events through every source and store, with one worker and two: all rows equal the oracle's.
//!
//! The file log and SQLite are always there. `TIDEMARK_TEST_KAFKA` (with `TIDEMARK_TEST_KAFKA_SH`, the broker's script) and
//! `TIDEMARK_TEST_POSTGRES` say where real ones are; with `TIDEMARK_TEST_REQUIRE=1` their absence is a failure.

mod support;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options};
use tidemark_dataflow::oracle;
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::{Store, postgres::PostgresStore, sqlite::SqliteStore};
use tidemark_dataflow::source::{Log, file_log::FileLog, kafka::KafkaLog};
use tidemark_dataflow::telemetry::Metrics;
use tidemark_generator::traffic::{FaultShares, Traffic, TrafficConfig, numbered_streams};
use tidemark_model::{Micros, file_log};
use tidemark_settings::log::KafkaTopic;

const EVENTS: usize = 200_000;
const PARTITIONS: usize = 4;

/// A row: window_start in microseconds, stream, viewers, chats, cents.
type Row = (i64, String, i64, i64, i64);

struct Event {
    partition: usize,
    time_ms: i64,
    payload: Vec<u8>,
}

/// Events of the last half hour, a share of them late, copied or broken.
fn events() -> Vec<Event> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_micros();
    let start = Micros(i64::try_from(now).expect("before 2262") - 1_800_000_000);
    let config = TrafficConfig {
        seed: 3,
        streams: numbered_streams(50),
        users: 5_000,
        start,
        spacing: Duration::from_micros(1_700_000_000 / EVENTS as u64),
        faults: FaultShares { late: 0.02, duplicates: 0.02, malformed: 0.01, future: 0.0 },
        ..TrafficConfig::default()
    };
    let partition = |stream: &str| stream.bytes().map(usize::from).sum::<usize>() % PARTITIONS;
    let event = |event: tidemark_generator::traffic::Generated| Event {
        partition: partition(&event.stream),
        time_ms: event.sent_at.0 / 1_000,
        payload: event.payload,
    };
    // The file log has no line ends in its records; both logs are to hold the same.
    Traffic::new(config).map(event).filter(|event| !event.payload.contains(&b'\n')).take(EVENTS).collect()
}

/// The log by partition, each record at the offset that `width` of its predecessors makes.
fn oracle_log(events: &[Event], width: impl Fn(&Event) -> i64) -> oracle::Log {
    let mut log = oracle::Log::new();
    let mut next = [0; PARTITIONS];
    for event in events {
        let record = oracle::LogRecord {
            offset: next[event.partition],
            record_time: Some(event.time_ms),
            key: None,
            payload: Some(event.payload.clone()),
        };
        next[event.partition] += width(event);
        log.entry(i32::try_from(event.partition).expect("few")).or_default().push(record);
    }
    log
}

fn expected(log: &oracle::Log) -> (Vec<Row>, usize) {
    let answer = oracle::answer(log, &support::oracle_rules(&Rules::default()), oracle::Clock::Stored, &BTreeMap::new());
    let row = |((minute, stream), row): ((tidemark_model::Minute, String), oracle::Row)| {
        (minute.start().0, stream, row.active_viewers, row.chat_messages, row.donations.0)
    };
    (answer.rows.into_iter().map(row).collect(), answer.dead_letters.len())
}

fn run(log: Arc<dyn Log>, store: Box<dyn Store>, workers: usize) {
    let setup = support::Setup {
        rules: Rules::default(),
        workers,
        slice: Duration::from_millis(100),
        most_per_read: 0,
        now: Micros(0),
        max_ahead: Duration::from_secs(3_600),
        checkpoint_every: Duration::from_millis(500),
    };
    let options = Options { clock: Clock::System, patience: Duration::from_secs(30), ..setup.options() };
    let (metrics, _) = Metrics::new();
    let parts = Arc::new(MemoryParts::default());
    cluster::run(&options, log, store, parts, &Arc::new(Control::default()), &metrics).expect("the run ends cleanly");
}

fn required(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    assert!(value.is_some() || std::env::var("TIDEMARK_TEST_REQUIRE").as_deref() != Ok("1"), "{name} is not set");
    if value.is_none() {
        eprintln!("skipped: {name} is not set");
    }
    value
}

fn into_sqlite(log: Arc<dyn Log>, workers: usize, expected: &(Vec<Row>, usize)) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tidemark.db");
    run(log, Box::new(SqliteStore::open(&path).expect("a store")), workers);
    let connection = rusqlite::Connection::open(&path).expect("the store is there");
    let select = "select window_start, stream_id, active_viewers, chat_messages, donations_cents from stream_metrics_minute";
    let mut rows = connection.prepare(&format!("{select} order by 1, 2")).expect("the table is there");
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
    let rows: Vec<Row> = rows.and_then(Iterator::collect).expect("rows");
    let letters: i64 = connection.query_row("select count(*) from dead_letters", [], |row| row.get(0)).expect("a count");
    assert_same(&(rows, usize::try_from(letters).expect("a count")), expected);
}

fn into_postgres(log: Arc<dyn Log>, workers: usize, url: &str, expected: &(Vec<Row>, usize)) {
    let name = format!("tidemark_services_{}_{workers}_{}", std::process::id(), log.topic().replace(['.', '-'], "_"));
    let mut admin = postgres::Client::connect(url, postgres::NoTls).expect("TIDEMARK_TEST_POSTGRES answers");
    admin.batch_execute(&format!("create database {name}")).expect("it may create databases");
    let (server, _) = url.rsplit_once('/').expect("postgres://…/database");
    let database = format!("{server}/{name}");
    run(log, Box::new(PostgresStore::new(&database, "under test").expect("a store")), workers);
    let mut client = postgres::Client::connect(&database, postgres::NoTls).expect("it answers");
    let select = "select (extract(epoch from window_start) * 1000000)::bigint, stream_id, active_viewers, chat_messages,
        (donations_usd * 100)::bigint from stream_metrics_minute order by window_start, stream_id";
    let rows = client.query(select, &[]).expect("rows");
    let rows = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect();
    let letters: i64 = client.query_one("select count(*) from dead_letters", &[]).expect("a count").get(0);
    assert_same(&(rows, usize::try_from(letters).expect("a count")), expected);
    drop(client);
    admin.batch_execute(&format!("drop database {name}")).expect("nobody uses it any more");
}

fn assert_same(found: &(Vec<Row>, usize), expected: &(Vec<Row>, usize)) {
    let first = found.0.iter().zip(&expected.0).find(|(found, expected)| found != expected);
    assert_eq!(first, None, "the first row that differs: found, expected");
    assert_eq!((found.0.len(), found.1), (expected.0.len(), expected.1), "rows and dead letters");
    assert!(expected.0.len() > 500, "the events make rows");
}

fn into_all_stores(log: &Arc<dyn Log>, expected: &(Vec<Row>, usize)) {
    for workers in [1, 2] {
        into_sqlite(Arc::clone(log), workers, expected);
        if let Some(url) = required("TIDEMARK_TEST_POSTGRES") {
            into_postgres(Arc::clone(log), workers, &url, expected);
        }
    }
}

fn write_file_log(dir: &Path, topic: &str, events: &[Event]) {
    std::fs::create_dir_all(file_log::topic_dir(dir, topic)).expect("a directory");
    for partition in 0..PARTITIONS {
        let mut lines = Vec::new();
        for event in events.iter().filter(|event| event.partition == partition) {
            file_log::write_line(event.time_ms.cast_unsigned(), &event.payload, &mut lines).expect("no line end in it");
        }
        let path = file_log::partition_path(dir, topic, i32::try_from(partition).expect("few"));
        std::fs::File::create(path).and_then(|mut file| file.write_all(&lines)).expect("a file");
    }
}

#[test]
fn the_file_log_into_every_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let events = events();
    write_file_log(dir.path(), "file.events", &events);
    let width = |event: &Event| i64::try_from(event.time_ms.to_string().len() + event.payload.len() + 2).expect("small");
    let expected = expected(&oracle_log(&events, width));
    let log: Arc<dyn Log> = Arc::new(FileLog::new(dir.path().to_owned(), "file.events".to_owned()));
    into_all_stores(&log, &expected);
}

#[test]
fn real_kafka_into_every_store() {
    let (Some(bootstrap), Some(script)) = (required("TIDEMARK_TEST_KAFKA"), required("TIDEMARK_TEST_KAFKA_SH")) else { return };
    let topic = format!("services-{}", std::process::id());
    let port = bootstrap.rsplit_once(':').expect("HOST:PORT").1;
    let create = ["topics", port, "--create", "--topic", &topic, "--partitions", &PARTITIONS.to_string()].map(str::to_owned);
    assert!(Command::new(script).args(create).status().expect("the broker's script runs").success());
    let events = events();
    produce(&bootstrap, &topic, &events);
    let expected = expected(&oracle_log(&events, |_| 1));
    let settings = KafkaTopic { bootstrap, topic, properties: BTreeMap::new() };
    let log: Arc<dyn Log> = Arc::new(KafkaLog::new(settings));
    into_all_stores(&log, &expected);
}

fn produce(bootstrap: &str, topic: &str, events: &[Event]) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").set("queue.buffering.max.messages", "1000000");
    let producer: BaseProducer = config.create().expect("a producer");
    for event in events {
        let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic)
            .partition(i32::try_from(event.partition).expect("few"))
            .timestamp(event.time_ms)
            .payload(&event.payload);
        producer.send(record).map_err(|(error, _)| error).expect("the queue has room for all");
    }
    producer.flush(Duration::from_secs(60)).expect("all is delivered");
}
