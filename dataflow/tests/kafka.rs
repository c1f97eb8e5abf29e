//! What only a real Kafka can show: a topic made anew, a partition that comes, the group's offsets, a broker that dies.
//!
//! `TIDEMARK_TEST_KAFKA` and `TIDEMARK_TEST_KAFKA_SH` say where it is; with `TIDEMARK_TEST_REQUIRE=1` their absence is a failure.

mod support;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::logs::{Event, produce, required};
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options, RunError};
use tidemark_dataflow::reading::Monotonic;
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::sqlite::SqliteStore;
use tidemark_dataflow::source::{Asked, Log, Source, SourceError, kafka::KafkaLog};
use tidemark_dataflow::telemetry::Metrics;
use tidemark_model::Micros;
use tidemark_settings::kafka::Properties;
use tidemark_settings::log::KafkaTopic;

/// How long anything may take here: the brokers are asked for new partitions every 10 s.
const LONG: Duration = Duration::from_secs(60);

/// A broker, its script, and a topic of the test's own.
struct Kafka {
    bootstrap: String,
    script: String,
    topic: String,
}

impl Kafka {
    fn new(name: &str) -> Option<Kafka> {
        let (Some(bootstrap), Some(script)) = (required("TIDEMARK_TEST_KAFKA"), required("TIDEMARK_TEST_KAFKA_SH")) else {
            return None;
        };
        Some(Kafka { bootstrap, script, topic: format!("kafka-{name}-{}", std::process::id()) })
    }

    fn topics(&self, arguments: &[&str]) {
        let port = self.bootstrap.rsplit_once(':').expect("HOST:PORT").1;
        run(&self.script, &[&["topics", port, "--topic", &self.topic], arguments].concat());
    }

    fn log(&self) -> Arc<dyn Log> {
        let (bootstrap, topic) = (self.bootstrap.clone(), self.topic.clone());
        Arc::new(KafkaLog::new(KafkaTopic { bootstrap, topic, properties: Properties::default() }))
    }

    fn produce(&self, partition: usize, count: usize) {
        produce(&self.bootstrap, &self.topic, &(0..count).map(|_| chat(partition)).collect::<Vec<_>>());
    }

    /// The offset that the group of the topic has committed.
    fn group_offset(&self, partition: i32) -> Offset {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("group.id", format!("tidemark-{}", self.topic));
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, partition);
        let known = consumer.committed_offsets(asked, Duration::from_secs(10)).expect("the group's offsets");
        known.find_partition(&self.topic, partition).expect("it was asked for").offset()
    }
}

fn run(script: &str, arguments: &[&str]) -> Output {
    let output = Command::new(script).args(arguments).output().expect("the broker's script runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn chat(partition: usize) -> Event {
    let now = Clock::System.now().wall;
    let payload = format!(r#"{{"event_type":"chat_message","stream_id":"s{partition}","ts":"{now}"}}"#).into_bytes();
    Event { partition, time_ms: now.0 / 1_000, payload }
}

/// A run that goes on until it is stopped.
struct Running {
    control: Arc<Control>,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Running {
    fn start(log: Arc<dyn Log>, store: &Path, workers: usize, until_end: bool) -> Running {
        let setup = support::Setup {
            checkpoint_every: Duration::from_millis(500),
            grains: &tidemark_model::Grain::ALL,
            retention: Default::default(),
            rules: Rules::default(),
            workers,
            slice: Duration::from_millis(50),
            most_per_read: 0,
            now: Micros(0),
            max_ahead: Duration::from_secs(3_600),
        };
        let mut options = Options { clock: Clock::System, patience: Duration::from_secs(30), ..setup.options() };
        options.wish.until_end = until_end;
        let store = Box::new(SqliteStore::open(store).expect("a store"));
        let control = Arc::new(Control::default());
        let of_thread = Arc::clone(&control);
        let thread = std::thread::spawn(move || {
            cluster::run(&options, log, store, Arc::new(MemoryParts::default()), &of_thread, &Metrics::new().0)
        });
        Running { control, thread: Some(thread) }
    }

    fn end(mut self) -> Result<(), RunError> {
        self.thread.take().expect("it ends once").join().expect("it does not panic")
    }

    fn stop(self) {
        self.control.stop();
        self.end().expect("it ends well");
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < until, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One number of the store; 0 while it is not there.
fn number(store: &Path, select: &str) -> i64 {
    let store = rusqlite::Connection::open_with_flags(store, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
    store.and_then(|store| store.query_row(select, [], |row| row.get(0))).unwrap_or(0)
}

fn chats(store: &Path, stream: &str) -> i64 {
    number(store, &format!("select coalesce(sum(chat_messages), 0) from stream_metrics_minute where stream_id = '{stream}'"))
}

#[test]
fn a_partition_that_comes_is_read_and_the_group_shows_how_far() {
    let Some(kafka) = Kafka::new("comes") else { return };
    kafka.topics(&["--create", "--partitions", "2"]);
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("tidemark.db");
    kafka.produce(0, 30);
    let running = Running::start(kafka.log(), &store, 2, false);
    until("rows of partition 0", || chats(&store, "s0") == 30);
    kafka.topics(&["--alter", "--partitions", "3"]);
    kafka.produce(2, 20);
    until("rows of the new partition", || chats(&store, "s2") == 20);
    kafka.produce(2, 5);
    until("more rows of it", || chats(&store, "s2") == 25);
    let of = |column: &str| number(&store, &format!("select {column} from progress_partitions where partition = 2"));
    assert_eq!((of("start_offset"), of("next_offset")), (0, 25));
    running.stop();
    assert_eq!((kafka.group_offset(0), kafka.group_offset(2)), (Offset::Offset(30), Offset::Offset(25)));
    // The next run knows it.
    kafka.produce(2, 1);
    Running::start(kafka.log(), &store, 1, true).end().expect("it ends well");
    assert_eq!((chats(&store, "s0"), chats(&store, "s2")), (30, 26));
}

#[test]
fn a_topic_made_anew_is_refused() {
    let Some(kafka) = Kafka::new("anew") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("tidemark.db");
    kafka.topics(&["--create", "--partitions", "1"]);
    kafka.produce(0, 10);
    Running::start(kafka.log(), &store, 1, true).end().expect("it ends well");
    // While it is read, too.
    let running = Running::start(kafka.log(), &store, 1, false);
    until("the run has begun", || number(&store, "select fence from progress") == 2);
    kafka.topics(&["--delete"]);
    let again = || Command::new(&kafka.script).args(["topics", port(&kafka), "--topic", &kafka.topic, "--create"]).output();
    until("the name is free", || again().expect("the script runs").status.success());
    // With more records than the old one had: no offset gives it away.
    kafka.produce(0, 50);
    let error = running.end().expect_err("it must not go on").to_string();
    assert!(error.contains("made anew") || error.contains("not in the topic any more"), "{error}");
    let error = Running::start(kafka.log(), &store, 1, true).end().expect_err("it must be refused").to_string();
    assert!(
        error.contains("deleted and made anew") && error.contains("another PIPELINE") && error.contains("rebuild"),
        "{error}"
    );
    assert_eq!(chats(&store, "s0"), 10);
}

/// No run here finds a checkpoint of the one before.
#[test]
fn a_run_without_a_checkpoint_goes_on_though_records_that_do_not_matter_have_expired() {
    let Some(kafka) = Kafka::new("forgets") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("tidemark.db");
    kafka.topics(&["--create", "--partitions", "2", "--config", "message.timestamp.type=CreateTime"]);
    let now = Clock::System.now().wall.0;
    let event = |partition: usize, kind: &str, minutes_ago: i64| {
        let ts = Micros(now - minutes_ago * 60_000_000);
        let user = if kind == "viewer_join" { r#","user_id":"u""# } else { "" };
        let payload = format!(r#"{{"event_type":"{kind}","stream_id":"s{partition}","ts":"{ts}"{user}}}"#).into_bytes();
        Event { partition, time_ms: ts.0 / 1_000, payload }
    };
    // Of both partitions.
    let send = |kind: &str, minutes_ago: &[i64]| {
        let events: Vec<Event> = minutes_ago.iter().flat_map(|&ago| [event(0, kind, ago), event(1, kind, ago)]).collect();
        produce(&kafka.bootstrap, &kafka.topic, &events);
    };
    let all = || Running::start(kafka.log(), &store, 2, true).end();
    let day = 24 * 60;
    // Whoever joined three days ago is not there any more today, nor when today began.
    send("viewer_join", &[3 * day]);
    send("chat_message", &[3 * day, 3 * day - 15, 3 * day - 30]);
    all().expect("it ends well");
    send("chat_message", &[30, 20]);
    all().expect("it ends well");
    let rows =
        |table: &str| number(&store, &format!("select sum(chat_messages * 1000 + unique_viewers + epoch * 7) from {table}"));
    let before = ["stream_metrics_minute", "stream_metrics_hour", "stream_metrics_day"].map(rows);
    let delete = |below: [i64; 2]| {
        let partition = |of: usize| format!(r#"{{"topic":"{}","partition":{of},"offset":{}}}"#, kafka.topic, below[of]);
        let list = format!(r#"{{"partitions":[{},{}],"version":1}}"#, partition(0), partition(1));
        let file = dir.path().join("delete.json");
        std::fs::write(&file, list).expect("a file");
        let class = "org.apache.kafka.tools.DeleteRecordsCommand";
        let file = file.display().to_string();
        run(&kafka.script, &["tool", class, "--bootstrap-server", &kafka.bootstrap, "--offset-json-file", &file]);
    };
    delete([4, 4]);
    all().expect("the log reaches back as far as it needs to");
    assert_eq!(["stream_metrics_minute", "stream_metrics_hour", "stream_metrics_day"].map(rows), before, "no row was touched");
    send("viewer_join", &[10, 9]);
    send("chat_message", &[5]);
    all().expect("it ends well");
    assert_eq!((chats(&store, "s0"), chats(&store, "s1")), (6, 6));
    let viewers = |from: i64, until: i64| {
        let of = "select sum(active_viewers) from stream_metrics_minute where window_start";
        number(&store, &format!("{of} > {} and window_start <= {}", now - from * 60_000_000, now - until * 60_000_000))
    };
    assert_eq!((viewers(40, 15), viewers(7, 4)), (0, 2), "viewers of three days ago, and of today");
    // What the open day needs is gone: refused, and nothing is touched.
    delete([5, 5]);
    let error = all().expect_err("it would have to guess").to_string();
    assert!(error.contains("records have expired"), "{error}");
    assert_eq!((chats(&store, "s0"), chats(&store, "s1")), (6, 6));
}

fn port(kafka: &Kafka) -> &str {
    kafka.bootstrap.rsplit_once(':').expect("HOST:PORT").1
}

/// The newest question whose answer showed that everything was read, by this process's clock.
fn confirmed(source: &mut dyn Source) -> Option<Monotonic> {
    let now = Clock::System.now().at;
    source.serve(Asked { at: now, worker_0: Some(now) }).expect("no fault is final");
    source.read(0, None, 100, &mut |_| ControlFlow::Continue(())).expect("no fault is final");
    source.position(0).expect("no fault is final").confirmed.map(|asked| asked.at)
}

#[test]
fn only_the_leader_s_own_word_shows_that_a_partition_is_at_its_end() {
    let Some(Kafka { script, topic, .. }) = Kafka::new("leader") else { return };
    // A broker of our own, because it is killed.
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("broker").display().to_string();
    let started = run(&script, &["start", &data, "0"]);
    let _stop = Stop { script: script.clone(), data: data.clone() };
    let bootstrap = String::from_utf8_lossy(&started.stdout).trim().to_owned();
    let kafka = Kafka { bootstrap, script, topic };
    kafka.topics(&["--create", "--partitions", "1"]);
    kafka.produce(0, 3);
    let mut source = kafka.log().open(&BTreeMap::from([(0, 0)])).expect("it opens");
    let source = source.as_mut();
    let after = |source: &mut dyn Source, earlier| confirmed(source).is_some_and(|asked| asked > earlier);
    until("it is at its end", || confirmed(source).is_some());
    let first = Clock::System.now().at;
    until("its leader says so again and again", || after(source, first));
    run(&kafka.script, &["kill9", &data]);
    let killed = Clock::System.now().at;
    until("it is told that the leader does not answer", || {
        assert!(!after(source, killed), "a broker that is gone has confirmed something");
        source.trouble().is_some_and(|trouble| trouble.contains("partition 0 is silent"))
    });
    run(&kafka.script, &["start", &data, "0"]);
    until("its leader says so again", || after(source, killed) && source.trouble().is_none());
    // What is written while nobody reads is not covered by what the leader said before.
    kafka.produce(0, 1);
    let written = Clock::System.now().at;
    until("the record is read, and its leader says that there are no more", || {
        let confirmed = confirmed(source).filter(|&asked| asked > written);
        let read = source.position(0).expect("no fault is final").next_offset == 4;
        assert!(read || confirmed.is_none(), "the end is confirmed before the record is read");
        confirmed.is_some()
    });
}

struct Stop {
    script: String,
    data: String,
}

impl Drop for Stop {
    fn drop(&mut self) {
        let _ = Command::new(&self.script).args(["stop", &self.data]).output();
    }
}

#[test]
fn a_compacted_topic_is_refused() {
    for (policy, refused) in [("compact", true), ("delete", false)] {
        let Some(kafka) = Kafka::new(policy) else { return };
        kafka.topics(&["--create", "--partitions", "1", "--config", &format!("cleanup.policy={policy}")]);
        // A topic that was just made is not known at once.
        let deadline = Instant::now() + LONG;
        let mut answer = kafka.log().describe();
        while matches!(answer, Err(SourceError::NotYet(_))) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            answer = kafka.log().describe();
        }
        match answer {
            Err(error) => assert!(refused && error.to_string().contains("cleanup.policy=compact"), "{error}"),
            Ok(_) => assert!(!refused, "{policy}"),
        }
    }
}
