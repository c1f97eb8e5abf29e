//! A log with all kinds of events, what the oracle says of it, and where real services are.

use super::oracle_rules;
use super::tables::values;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tidemark_dataflow::oracle;
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::sink::columns::Dialect;
use tidemark_generator::traffic::{FaultShares, Traffic, TrafficConfig, numbered_streams};
use tidemark_model::{Metric, Micros, Values, file_log};

pub const EVENTS: usize = 200_000;
pub const PARTITIONS: usize = 4;

/// A row: window_start in microseconds, stream, metrics.
pub type Row = (i64, String, Values);

pub struct Event {
    pub partition: usize,
    pub time_ms: i64,
    pub payload: Vec<u8>,
}

/// Events of the last half hour, a share of them late, copied or broken.
pub fn events() -> Vec<Event> {
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
pub fn oracle_log(events: &[Event], width: impl Fn(&Event) -> i64) -> oracle::Log {
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

pub fn expected(log: &oracle::Log) -> (Vec<Row>, usize) {
    let answer = oracle::answer(log, &oracle_rules(&Rules::default()), oracle::Clock::Stored, &BTreeMap::new(), None);
    let rows = answer.rows.into_iter().map(|((minute, stream), values)| (minute.start().0, stream, values));
    (rows.collect(), answer.dead_letters.len())
}

pub fn required(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    assert!(value.is_some() || std::env::var("TIDEMARK_TEST_REQUIRE").as_deref() != Ok("1"), "{name} is not set");
    if value.is_none() {
        eprintln!("skipped: {name} is not set");
    }
    value
}

pub fn assert_same(found: &(Vec<Row>, usize), expected: &(Vec<Row>, usize)) {
    let first = found.0.iter().zip(&expected.0).find(|(found, expected)| found != expected);
    assert_eq!(first, None, "the first row that differs: found, expected");
    assert_eq!((found.0.len(), found.1), (expected.0.len(), expected.1), "rows and dead letters");
    assert!(expected.0.len() > 500, "the events make rows");
}

/// What a run has written to SQLite.
pub fn read_sqlite(path: &Path) -> (Vec<Row>, usize) {
    let connection = rusqlite::Connection::open(path).expect("the store is there");
    let select =
        format!("select window_start, stream_id, {} from stream_metrics_minute", Dialect::Sqlite.integers(&Metric::MINUTE));
    let mut rows = connection.prepare(&format!("{select} order by 1, 2")).expect("the table is there");
    let values = |row: &rusqlite::Row<'_>| values(&Metric::MINUTE, |place, _| row.get::<_, i64>(place).expect("an integer"));
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, values(row))));
    let rows: Vec<Row> = rows.and_then(Iterator::collect).expect("rows");
    let letters: i64 = connection.query_row("select count(*) from dead_letters", [], |row| row.get(0)).expect("a count");
    (rows, usize::try_from(letters).expect("a count"))
}

pub fn write_file_log(dir: &Path, topic: &str, events: &[Event]) {
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

/// The bytes of an event's line in the file log: there they are its offsets.
pub fn width(event: &Event) -> i64 {
    i64::try_from(event.time_ms.to_string().len() + event.payload.len() + 2).expect("small")
}

pub fn produce(bootstrap: &str, topic: &str, events: &[Event]) {
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
