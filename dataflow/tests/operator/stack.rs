//! A log and a store of a test's own, and the program on them.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidemark_dataflow::ops::{OpsError, past};
use tidemark_dataflow::oracle;
use tidemark_dataflow::source::{self, Log};
use tidemark_generator::publish::{FileLog, KafkaOptions, KafkaPublisher, Publisher, Record};
use tidemark_generator::traffic::{FaultShares, Traffic, TrafficConfig, numbered_streams};
use tidemark_model::Micros;
use tidemark_settings::kafka::Properties;
use tidemark_settings::log::{self, KafkaTopic};

/// 2026-01-01T00:00:00Z.
pub const START: Micros = Micros(1_767_225_600_000_000);
const PARTITIONS: i32 = 3;

pub struct Stack {
    dir: TempDir,
    kafka: Option<KafkaTopic>,
    /// URL of the server, and the database of this test.
    postgres: Option<(String, String)>,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    #[track_caller]
    pub fn expect(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// The lines of JSON.
    pub fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn required(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    assert!(value.is_some() || std::env::var("TIDEMARK_TEST_REQUIRE").as_deref() != Ok("1"), "{name} is not set");
    if value.is_none() {
        eprintln!("skipped: {name} is not set");
    }
    value
}

impl Stack {
    /// The embedded one, and the one of real services if they are there.
    pub fn all(test: &str) -> Vec<Stack> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{test}_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = || tempfile::tempdir().unwrap();
        let mut stacks = vec![Stack { dir: dir(), kafka: None, postgres: None }];
        if let (Some(bootstrap), Some(url)) = (required("TIDEMARK_TEST_KAFKA"), required("TIDEMARK_TEST_POSTGRES")) {
            let kafka = KafkaTopic { bootstrap, topic: name.replace('_', "."), properties: Properties::default() };
            let database = format!("tidemark_{name}");
            admin(&url).batch_execute(&format!("create database {database}")).unwrap();
            stacks.push(Stack { dir: dir(), kafka: Some(kafka), postgres: Some((url, database)) });
        }
        stacks
    }

    pub fn log(&self) -> Arc<dyn Log> {
        source::open(match &self.kafka {
            Some(topic) => log::Log::Kafka(topic.clone()),
            None => log::Log::File { dir: self.dir.path().join("log"), topic: "t".to_owned() },
        })
    }

    pub fn publisher(&self) -> Box<dyn Publisher> {
        match &self.kafka {
            Some(topic) => {
                let wait = Duration::from_secs(20);
                let options = KafkaOptions { wait, create_with_partitions: Some(PARTITIONS), stop: Arc::default() };
                Box::new(KafkaPublisher::open(topic, &options).unwrap())
            }
            None => Box::new(FileLog::open(&self.dir.path().join("log"), "t", PARTITIONS).unwrap()),
        }
    }

    /// Puts records into the log.
    pub fn publish(&self, records: impl IntoIterator<Item = (String, Vec<u8>, Micros)>) {
        let mut publisher = self.publisher();
        for (key, payload, time) in records {
            publisher
                .publish(Record { key: Some(key.as_bytes()), payload: &payload, time: Some(time), partition: None })
                .unwrap();
        }
        publisher.finish().unwrap();
        assert_eq!(publisher.tally().failed(), 0);
    }

    /// An hour of traffic, a share of it late, copied or broken.
    pub fn publish_hostile_hour(&self, events: usize) {
        self.publish_hour(events, 11);
    }

    /// The same of another seed.
    pub fn publish_hour(&self, events: usize, seed: u64) {
        self.publish_hour_of(0, events, seed);
    }

    /// The same traffic, but this many days later.
    pub fn publish_hour_of(&self, day: i64, events: usize, seed: u64) {
        let config = TrafficConfig {
            seed,
            streams: numbered_streams(8),
            users: 300,
            start: Micros(START.0 + day * 86_400_000_000),
            spacing: Duration::from_micros(3_600_000_000 / events as u64),
            faults: FaultShares { late: 0.05, duplicates: 0.03, malformed: 0.05, future: 0.01 },
            ..TrafficConfig::default()
        };
        let traffic = Traffic::new(config).filter(|event| !event.payload.contains(&b'\n')).take(events);
        self.publish(traffic.map(|event| (event.stream.to_string(), event.payload, event.sent_at)));
    }

    /// The whole log as the oracle takes it.
    pub fn past(&self) -> oracle::Log {
        let log = self.log();
        let description = log.describe().unwrap();
        let ranges: BTreeMap<_, _> =
            description.partitions.iter().map(|(&partition, bounds)| (partition, bounds.low..bounds.high)).collect();
        let mut past =
            Past { unread: ranges.keys().copied().collect(), log: ranges.keys().map(|&of| (of, Vec::new())).collect() };
        past::read(log.as_ref(), &ranges, &mut past).unwrap();
        past.log
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark-dataflow"));
        command.args(arguments).env_clear().env("METRICS_ADDR", "off").env("DATA_DIR", self.dir.path());
        match &self.kafka {
            Some(kafka) => command.env("KAFKA_BOOTSTRAP", &kafka.bootstrap).env("KAFKA_TOPIC", &kafka.topic),
            None => command.env("KAFKA_TOPIC", "t"),
        };
        if let Some(url) = self.database_url() {
            command.env("DATABASE_URL", url);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments).output().unwrap())
    }

    /// The records below these offsets expire, in a topic.
    pub fn expire(&self, below: &BTreeMap<i32, i64>) {
        let topic = self.kafka.as_ref().expect("only a topic's records expire");
        let partition =
            |(of, offset): (&i32, &i64)| format!(r#"{{"topic":"{}","partition":{of},"offset":{offset}}}"#, topic.topic);
        let list = below.iter().map(partition).collect::<Vec<_>>().join(",");
        let file = self.file("expire.json", format!(r#"{{"partitions":[{list}],"version":1}}"#).as_bytes());
        let class = "org.apache.kafka.tools.DeleteRecordsCommand";
        let mut tool = Command::new(required("TIDEMARK_TEST_KAFKA_SH").expect("there is a Kafka, so there is its script"));
        tool.args(["tool", class, "--bootstrap-server", &topic.bootstrap, "--offset-json-file"]).arg(file);
        said(tool.output().unwrap()).expect(0);
    }

    /// Processes what the log holds.
    pub fn catch_up(&self, arguments: &[&str]) {
        self.run(&[&["run", "--until-end"], arguments].concat()).expect(0);
    }

    /// The pipeline, live.
    pub fn start(&self) -> Running {
        let child = self.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
        Running(Some(child))
    }

    /// A path below `DATA_DIR`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file of a test.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn database_url(&self) -> Option<String> {
        let (server, database) = self.postgres.as_ref()?;
        Some(format!("{}/{database}", server.rsplit_once('/').unwrap().0))
    }

    /// Changes tables by hand; how many rows.
    pub fn sql(&self, postgres: &str, sqlite: &str) -> u64 {
        match self.database_url() {
            Some(url) => admin(&url).execute(postgres, &[]).unwrap(),
            None => {
                let connection = rusqlite::Connection::open(self.dir.path().join("tidemark.db")).unwrap();
                connection.busy_timeout(Duration::from_secs(10)).unwrap();
                connection.execute(sqlite, []).unwrap() as u64
            }
        }
    }

    /// A number of the tables.
    pub fn number(&self, select: &str) -> i64 {
        match self.database_url() {
            Some(url) => admin(&url).query_one(select, &[]).unwrap().get(0),
            None => {
                let connection = rusqlite::Connection::open(self.dir.path().join("tidemark.db")).unwrap();
                connection.busy_timeout(Duration::from_secs(10)).unwrap();
                connection.query_row(select, [], |row| row.get(0)).unwrap()
            }
        }
    }

    /// Holds the lock of a rebuild for as long as the answer lives.
    pub fn hold_as_a_rebuild_does(&self) -> Box<dyn std::any::Any> {
        match self.database_url() {
            Some(url) => {
                let mut client = admin(&url);
                let lock = "select pg_try_advisory_lock(x'74696465'::int, hashtext(current_schema()))";
                assert!(client.query_one(lock, &[]).unwrap().get::<_, bool>(0));
                Box::new(client)
            }
            None => {
                let file = std::fs::File::open(self.dir.path().join("tidemark.db-run")).unwrap();
                file.try_lock().unwrap();
                Box::new(file)
            }
        }
    }

    /// The same log, with the embedded store.
    pub fn on_sqlite(mut self) -> Stack {
        if let Some((url, database)) = self.postgres.take() {
            admin(&url).batch_execute(&format!("drop database {database} with (force)")).unwrap();
        }
        self
    }

    pub fn is_kafka(&self) -> bool {
        self.kafka.is_some()
    }

    pub fn is_postgres(&self) -> bool {
        self.postgres.is_some()
    }

    /// Waits until a pipeline has made its tables.
    pub fn wait_for_tables(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.run(&["dead-letters", "list"]).code != 0 {
            assert!(Instant::now() < deadline, "no tables are made");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a number of the tables is reached.
    #[track_caller]
    pub fn wait_for(&self, select: &str, at_least: i64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.number(select) < at_least {
            assert!(Instant::now() < deadline, "{select} does not reach {at_least}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some((url, database)) = &self.postgres {
            // A test that failed says why by itself.
            let _ = admin(url).batch_execute(&format!("drop database {database} with (force)"));
        }
    }
}

fn admin(url: &str) -> postgres::Client {
    postgres::Client::connect(url, postgres::NoTls).expect("Postgres answers")
}

fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// A pipeline that runs until it is stopped.
pub struct Running(Option<Child>);

impl Running {
    /// Sends it SIGTERM; what it said.
    pub fn stop(mut self) -> Said {
        let child = self.0.take().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        said(child.wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Keeps all records.
struct Past {
    unread: BTreeSet<i32>,
    log: oracle::Log,
}

impl past::Reader for Past {
    fn behind(&mut self) -> Vec<i32> {
        self.unread.iter().copied().collect()
    }

    fn take(&mut self, partition: i32, record: source::Record<'_>) -> Result<(), OpsError> {
        let record = oracle::LogRecord {
            offset: record.offset,
            record_time: record.time.map(|time| time.0.div_euclid(1_000)),
            key: record.key.map(<[u8]>::to_vec),
            payload: record.payload.map(<[u8]>::to_vec),
        };
        self.log.get_mut(&partition).unwrap().push(record);
        Ok(())
    }

    fn end_of(&mut self, partition: i32) {
        self.unread.remove(&partition);
    }

    fn pause(&mut self) -> Result<(), OpsError> {
        Ok(())
    }
}
