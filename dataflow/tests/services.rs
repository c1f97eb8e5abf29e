//! The same 200,000 events through every source and store, with one worker and two: all rows equal the oracle's.
//!
//! The file log and SQLite are always there. `TIDEMARK_TEST_KAFKA` (with `TIDEMARK_TEST_KAFKA_SH`, the broker's script) and
//! `TIDEMARK_TEST_POSTGRES` say where real ones are; with `TIDEMARK_TEST_REQUIRE=1` their absence is a failure.

mod support;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use support::logs::{
    PARTITIONS, Row, assert_same, events, expected, oracle_log, produce, read_sqlite, required, width, write_file_log,
};
use support::tables::values;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options};
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::columns::Dialect;
use tidemark_dataflow::sink::{Store, postgres::PostgresStore, sqlite::SqliteStore};
use tidemark_dataflow::source::{Log, file_log::FileLog, kafka::KafkaLog};
use tidemark_dataflow::telemetry::Metrics;
use tidemark_model::{Metric, Micros};
use tidemark_settings::kafka::Properties;
use tidemark_settings::log::KafkaTopic;

fn run(log: Arc<dyn Log>, store: Box<dyn Store>, workers: usize) {
    let setup = support::Setup {
        rules: Rules::default(),
        workers,
        slice: Duration::from_millis(100),
        most_per_read: 0,
        now: Micros(0),
        max_ahead: Duration::from_secs(3_600),
        checkpoint_every: Duration::from_millis(500),
        grains: &tidemark_model::Grain::ALL,
        retention: Default::default(),
    };
    let options = Options { clock: Clock::System, patience: Duration::from_secs(30), ..setup.options() };
    let (metrics, _) = Metrics::new();
    let parts = Arc::new(MemoryParts::default());
    cluster::run(&options, log, store, parts, &Arc::new(Control::default()), &metrics).expect("the run ends cleanly");
}

fn into_sqlite(log: Arc<dyn Log>, workers: usize, expected: &(Vec<Row>, usize)) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tidemark.db");
    run(log, Box::new(SqliteStore::open(&path).expect("a store")), workers);
    assert_same(&read_sqlite(&path), expected);
}

fn into_postgres(log: Arc<dyn Log>, workers: usize, url: &str, expected: &(Vec<Row>, usize)) {
    let name = format!("tidemark_services_{}_{workers}_{}", std::process::id(), log.topic().replace(['.', '-'], "_"));
    let mut admin = postgres::Client::connect(url, postgres::NoTls).expect("TIDEMARK_TEST_POSTGRES answers");
    admin.batch_execute(&format!("create database {name}")).expect("it may create databases");
    let (server, _) = url.rsplit_once('/').expect("postgres://…/database");
    let database = format!("{server}/{name}");
    run(log, Box::new(PostgresStore::new(&database, "under test").expect("a store")), workers);
    let mut client = postgres::Client::connect(&database, postgres::NoTls).expect("it answers");
    let select = format!(
        "select (extract(epoch from window_start) * 1000000)::bigint, stream_id, {} from stream_metrics_minute
         order by window_start, stream_id",
        Dialect::Postgres.integers(&Metric::MINUTE)
    );
    let rows = client.query(&select, &[]).expect("rows");
    let rows = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), values(&Metric::MINUTE, |_, metric| row.get::<_, i64>(metric.name()))))
        .collect();
    let letters: i64 = client.query_one("select count(*) from dead_letters", &[]).expect("a count").get(0);
    assert_same(&(rows, usize::try_from(letters).expect("a count")), expected);
    drop(client);
    admin.batch_execute(&format!("drop database {name}")).expect("nobody uses it any more");
}

fn into_all_stores(log: &Arc<dyn Log>, expected: &(Vec<Row>, usize)) {
    for workers in [1, 2] {
        into_sqlite(Arc::clone(log), workers, expected);
        if let Some(url) = required("TIDEMARK_TEST_POSTGRES") {
            into_postgres(Arc::clone(log), workers, &url, expected);
        }
    }
}

#[test]
fn the_file_log_into_every_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let events = events();
    write_file_log(dir.path(), "file.events", &events);
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
    let settings = KafkaTopic { bootstrap, topic, properties: Properties::default() };
    let log: Arc<dyn Log> = Arc::new(KafkaLog::new(settings));
    into_all_stores(&log, &expected);
}
