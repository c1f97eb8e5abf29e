//! Program × state × signal: how long until it ends, and how. Prints the table; every end has a bound.
//!
//! `cargo test --workspace` builds all three programs. To see the table: `cargo test -p tidemark-dataflow --test signals -- --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rustix::process::Signal;
use std::any::Any;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use support::process::Process;
use support::proxy::{Proxy, Way, silent_server};
use tidemark_generator::publish::{KafkaOptions, KafkaPublisher, Publisher as _, Record};
use tidemark_model::file_log;
use tidemark_settings::kafka::Properties;
use tidemark_settings::log::KafkaTopic;

const SIGNALS: [(&str, Signal); 4] = [("TERM", Signal::TERM), ("INT", Signal::INT), ("HUP", Signal::HUP), ("PIPE", Signal::PIPE)];
/// Within which a program ends after a signal; what the machine needs besides.
const DATAFLOW: Duration = Duration::from_secs(25);
const API: Duration = Duration::from_secs(30);
const GENERATOR: Duration = Duration::from_secs(15);
const MACHINE: Duration = Duration::from_secs(5);
/// A second signal, or one that arrives while nothing is to be finished.
const AT_ONCE: Duration = Duration::from_secs(3);
/// How long the state may take to come about.
const STATE: Duration = Duration::from_secs(60);
const TOPIC: &str = "stream.events";

/// A program in a state, and what keeps it there.
struct Scene {
    process: Process,
    _around: Vec<Box<dyn Any>>,
}

/// One line of the table.
struct Line {
    program: &'static str,
    state: &'static str,
    end: End,
    bound: Duration,
    make: fn() -> Option<Scene>,
}

/// How a program is to end after a signal that ends it.
#[derive(Clone, Copy)]
enum End {
    Status(i32),
    /// With status 0, or by the signal: it only reads.
    AsAsked,
    /// With the number of its second signal.
    BySecond,
    /// In time.
    Somehow,
}

#[test]
fn every_program_ends_in_time_in_every_state() {
    let line = |program, state, status, bound, make| Line { program, state, end: End::Status(status), bound, make };
    let lines = [
        line("dataflow", "starting, store silent", 0, AT_ONCE, dataflow_before_a_silent_store as fn() -> Option<Scene>),
        line("dataflow", "starting, brokers silent", 0, AT_ONCE, dataflow_before_silent_brokers),
        line("dataflow", "running", 0, AT_ONCE, dataflow_running),
        line("dataflow", "store away: SQLite locked", 1, DATAFLOW, dataflow_with_a_locked_store),
        line("dataflow", "store away: Postgres stands still", 1, DATAFLOW, dataflow_with_a_store_that_stands_still),
        line("dataflow", "brokers away", 0, DATAFLOW, dataflow_without_brokers),
        line("dataflow", "the disk of the log hangs", 1, DATAFLOW, dataflow_whose_disk_hangs),
        Line { end: End::BySecond, ..line("dataflow", "stopping, store away", 0, AT_ONCE, dataflow_stopping) },
        Line { end: End::AsAsked, ..line("api", "running", 0, API, api_running) },
        Line { end: End::AsAsked, ..line("api", "store away", 0, API, api_without_a_store) },
        Line { end: End::Somehow, ..line("api", "stopping, half a request", 0, API, api_stopping) },
        line("generator", "starting, brokers silent", 1, AT_ONCE, generator_before_silent_brokers),
        line("generator", "running", 0, AT_ONCE, generator_running),
        line("generator", "brokers away", 1, GENERATOR, generator_without_brokers),
        line("generator", "no input", 0, AT_ONCE, generator_without_input),
        line("generator", "stopping, brokers away", 1, AT_ONCE, generator_stopping),
    ];
    let mut wrong = Vec::new();
    let mut table = format!("{:<10} {:<34} {:<5} {:>8}  {}\n", "program", "state", "sign", "ends", "how");
    std::thread::scope(|scope| {
        let case = |line| SIGNALS.map(|(name, signal)| scope.spawn(move || Line::run(line, name, signal)));
        let cases: Vec<_> = lines.iter().flat_map(case).collect();
        for case in cases {
            // It panics if the state does not come about.
            let (row, fault) = case.join().unwrap_or_else(|_| ("?\n".to_owned(), Some("see the panic above".to_owned())));
            table += &row;
            wrong.extend(fault);
        }
    });
    std::io::stdout().write_all(table.as_bytes()).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Line {
    /// Brings the state about and sends the signal: a row of the table, and what is wrong with it.
    fn run(&self, name: &str, signal: Signal) -> (String, Option<String>) {
        let row = |ends: &str, how: &str| format!("{:<10} {:<34} {name:<5} {ends:>8}  {how}\n", self.program, self.state);
        let Some(mut scene) = (self.make)() else { return (row("-", "not tried: it needs what is not here"), None) };
        let sent = Instant::now();
        scene.process.signal(signal);
        if signal == Signal::PIPE {
            // A reader that goes away must not end a program that has work to do.
            let ended = scene.process.ends_within(Duration::from_secs(2));
            // What is stopping already may end meanwhile.
            let ended = ended.filter(|_| !matches!(self.end, End::Somehow));
            let fault = ended.map(|status| format!("{} {}: PIPE ended it: {status}", self.program, self.state));
            return (row("-", if fault.is_none() { "goes on" } else { "ended" }), fault);
        }
        let status = scene.process.ends_within(self.bound + MACHINE);
        let took = sent.elapsed();
        let ends = format!("{:.1} s", took.as_secs_f64());
        let how = status.map_or_else(|| "is still there".to_owned(), |status| status.to_string());
        let right = status.is_some_and(|status| match self.end {
            End::Status(expected) => status.code() == Some(expected),
            End::AsAsked => status.code() == Some(0) || status.signal() == Some(signal.as_raw()),
            End::BySecond => status.code() == Some(128 + signal.as_raw()),
            End::Somehow => true,
        });
        let fault = (!right).then(|| {
            let said = scene.process.said();
            format!("{} {} {name}: after {ends} {how}:\n{said}", self.program, self.state)
        });
        (row(&ends, &how), fault)
    }
}

impl Scene {
    fn of(process: Process) -> Scene {
        Scene { process, _around: Vec::new() }
    }

    /// Keeps something as long as the program runs.
    fn with(mut self, around: impl Any) -> Scene {
        self._around.push(Box::new(around));
        self
    }

    fn says(self, what: &str) -> Scene {
        self.until(what, |process| process.said().contains(what))
    }

    fn until(self, what: &str, holds: impl Fn(&Process) -> bool) -> Scene {
        let until = Instant::now() + STATE;
        let mut scene = self;
        while !holds(&scene.process) {
            let ended = scene.process.ended();
            assert!(ended.is_none() && Instant::now() < until, "{ended:?}, not {what:?}: {}", scene.process.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        scene
    }

    fn then(self, pause: Duration) -> Scene {
        std::thread::sleep(pause);
        self
    }

    /// It was asked to stop already.
    fn stopping(mut self) -> Scene {
        self.process.signal(Signal::TERM);
        self.then(Duration::from_millis(700))
    }
}

/// A program of this build; none if it was not built.
fn program(name: &str, dir: &Path, args: &[&str], settings: &[(&str, &str)], input: Stdio) -> Option<Process> {
    let path = Path::new(env!("CARGO_BIN_EXE_tidemark-dataflow")).with_file_name(name);
    if !path.exists() {
        assert!(std::env::var("TIDEMARK_TEST_REQUIRE").as_deref() != Ok("1"), "{} is not built", path.display());
        return None;
    }
    let mut command = Command::new(path);
    command.args(args).env_clear().env("DATA_DIR", dir).envs(settings.iter().copied());
    Some(Process::of(command.stdin(input)))
}

fn dataflow(dir: &Path, settings: &[(&str, &str)]) -> Option<Process> {
    program("tidemark-dataflow", dir, &["run", "--metrics-addr", "off"], settings, Stdio::null())
}

fn a_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(file_log::topic_dir(&dir.path().join("log"), TOPIC)).unwrap();
    std::fs::write(file_log::partition_path(&dir.path().join("log"), TOPIC, 0), b"").unwrap();
    dir
}

/// Up to where the only partition is committed, once the store is there.
fn next_offset(dir: &Path) -> Option<i64> {
    let store = rusqlite::Connection::open_with_flags(dir.join("tidemark.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
    store.ok()?.query_row("select next_offset from progress_partitions", [], |row| row.get(0)).ok()
}

/// Something that is to be committed.
fn append_record(dir: &Path) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = tidemark_model::Micros(i64::try_from(since.as_micros()).unwrap());
    let event = format!(r#"{{"event_type":"chat_message","stream_id":"s","ts":"{now}"}}"#);
    let mut line = Vec::new();
    file_log::write_line((now.0 / 1_000).cast_unsigned(), event.as_bytes(), &mut line).unwrap();
    let mut file = OpenOptions::new().append(true).open(file_log::partition_path(&dir.join("log"), TOPIC, 0)).unwrap();
    file.write_all(&line).unwrap();
}

/// Brokers that can be silenced.
fn brokers() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    cluster
}

/// They still accept, and answer nothing for as long as the test takes.
fn silence(cluster: &MockCluster<'static, DefaultProducerContext>) {
    cluster.broker_round_trip_time(1, Duration::from_secs(3_600)).unwrap();
}

fn dataflow_before_a_silent_store() -> Option<Scene> {
    let dir = a_dir();
    let url = format!("postgres://someone@{}/db", silent_server());
    let scene = Scene::of(dataflow(dir.path(), &[("DATABASE_URL", &url)])?);
    Some(scene.says("starting").then(Duration::from_secs(1)).with(dir))
}

fn dataflow_before_silent_brokers() -> Option<Scene> {
    let dir = a_dir();
    let scene = Scene::of(dataflow(dir.path(), &[("KAFKA_BOOTSTRAP", &silent_server())])?);
    Some(scene.says("starting").then(Duration::from_secs(1)).with(dir))
}

fn dataflow_running() -> Option<Scene> {
    let dir = a_dir();
    append_record(dir.path());
    Some(Scene::of(dataflow(dir.path(), &[])?).says("reading").then(Duration::from_secs(1)).with(dir))
}

fn dataflow_with_a_locked_store() -> Option<Scene> {
    let dir = a_dir();
    let scene = Scene::of(dataflow(dir.path(), &[])?).says("reading").then(Duration::from_secs(1));
    let lock = rusqlite::Connection::open(dir.path().join("tidemark.db")).unwrap();
    lock.busy_timeout(Duration::from_secs(10)).unwrap();
    lock.execute_batch("begin immediate").unwrap();
    append_record(dir.path());
    Some(scene.then(Duration::from_secs(1)).with(lock).with(dir))
}

fn dataflow_with_a_store_that_stands_still() -> Option<Scene> {
    let url = std::env::var("TIDEMARK_TEST_POSTGRES").ok().filter(|url| !url.is_empty())?;
    let (server, _) = url.rsplit_once('/')?;
    let (user, place) = server.rsplit_once('@')?;
    let dir = a_dir();
    let name = format!("tidemark_signal_{}", dir.path().file_name()?.to_str()?.trim_start_matches('.').to_lowercase());
    let database = Database { server: server.to_owned(), name };
    database.admin("create database");
    let network = Proxy::to(place);
    let url = format!("{user}@{}/{}", network.address(), database.name);
    let scene = Scene::of(dataflow(dir.path(), &[("DATABASE_URL", &url)])?).says("reading").then(Duration::from_secs(1));
    network.set(Way::Stalled);
    append_record(dir.path());
    Some(scene.then(Duration::from_secs(1)).with(network).with(database).with(dir))
}

/// Dropped at the end.
struct Database {
    server: String,
    name: String,
}

impl Database {
    fn admin(&self, what: &str) {
        let client = postgres::Client::connect(&format!("{}/postgres", self.server), postgres::NoTls);
        client.unwrap().batch_execute(&format!("{what} {}", self.name)).unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.name += " with (force)";
        self.admin("drop database");
    }
}

fn dataflow_without_brokers() -> Option<Scene> {
    let broker = std::env::var("TIDEMARK_TEST_KAFKA").ok().filter(|broker| !broker.is_empty())?;
    let (dir, network) = (a_dir(), Proxy::to_broker(&broker));
    let topic = format!("signals-{}", dir.path().file_name()?.to_str()?.trim_start_matches('.'));
    let place = KafkaTopic { bootstrap: broker, topic: topic.clone(), properties: Properties::default() };
    let options = KafkaOptions { wait: STATE, create_with_partitions: Some(1), stop: Arc::default() };
    let mut publisher = KafkaPublisher::open(&place, &options).unwrap();
    publisher.publish(Record { payload: b"{}", ..Record::default() }).unwrap();
    publisher.finish().unwrap();
    let settings = [("KAFKA_BOOTSTRAP", network.address()), ("KAFKA_TOPIC", topic.as_str())];
    // What is not committed yet could not be any more: then it ends with status 1.
    let committed = |_: &Process| next_offset(dir.path()) == Some(1);
    let scene = Scene::of(dataflow(dir.path(), &settings)?).until("it has committed the record", committed);
    network.set(Way::Stalled);
    publisher.publish(Record { payload: b"{}", ..Record::default() }).unwrap();
    publisher.finish().unwrap();
    Some(scene.then(Duration::from_secs(1)).with(network).with(dir))
}

/// Opening the file waits for a writer that never comes, in the midst of a worker.
fn dataflow_whose_disk_hangs() -> Option<Scene> {
    let dir = a_dir();
    let scene = Scene::of(dataflow(dir.path(), &[])?).says("reading");
    let path = file_log::partition_path(&dir.path().join("log"), TOPIC, 1);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    Some(scene.says("a new partition").then(Duration::from_secs(1)).with(dir))
}

fn dataflow_stopping() -> Option<Scene> {
    dataflow_with_a_locked_store().map(Scene::stopping)
}

fn api(dir: &Path, settings: &[(&str, &str)]) -> Option<Process> {
    program("tidemark-api", dir, &[], &[settings, &[("API_ADDR", "127.0.0.1:0")]].concat(), Stdio::null())
}

fn api_running() -> Option<Scene> {
    let dir = a_dir();
    let process = api(dir.path(), &[])?;
    Some(Scene::of(process).then(Duration::from_secs(2)).with(dir))
}

fn api_without_a_store() -> Option<Scene> {
    let dir = a_dir();
    let url = format!("postgres://someone@{}/db", silent_server());
    let process = api(dir.path(), &[("DATABASE_URL", &url)])?;
    Some(Scene::of(process).then(Duration::from_secs(2)).with(dir))
}

fn api_stopping() -> Option<Scene> {
    let dir = a_dir();
    let process = api(dir.path(), &[])?;
    let scene = Scene::of(process).says("listening");
    let said = scene.process.said();
    let port = said.split("127.0.0.1:").nth(1).unwrap().split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let mut client = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    client.write_all(b"GET /health HTTP/1.1\r\n").unwrap();
    Some(scene.then(Duration::from_secs(1)).stopping().with(client).with(dir))
}

fn generator_before_silent_brokers() -> Option<Scene> {
    let dir = a_dir();
    let process = program("tidemark-generator", dir.path(), &[], &[("KAFKA_BOOTSTRAP", &silent_server())], Stdio::null())?;
    Some(Scene::of(process).says("publishing to").then(Duration::from_secs(1)).with(dir))
}

fn generator_running() -> Option<Scene> {
    let dir = tempfile::tempdir().unwrap();
    let process = program("tidemark-generator", dir.path(), &[], &[], Stdio::null())?;
    Some(Scene::of(process).says("generating").then(Duration::from_secs(1)).with(dir))
}

fn generator_without_brokers() -> Option<Scene> {
    let (dir, cluster) = (a_dir(), brokers());
    let servers = cluster.bootstrap_servers();
    let process = program("tidemark-generator", dir.path(), &[], &[("KAFKA_BOOTSTRAP", &servers)], Stdio::null())?;
    let scene = Scene::of(process).says("generating").then(Duration::from_secs(1));
    silence(&cluster);
    Some(scene.then(Duration::from_secs(1)).with(cluster).with(dir))
}

fn generator_without_input() -> Option<Scene> {
    let dir = tempfile::tempdir().unwrap();
    let (input, end) = std::io::pipe().unwrap();
    let process = program("tidemark-generator", dir.path(), &["send", "-"], &[], input.into())?;
    Some(Scene::of(process).says("publishing to").then(Duration::from_secs(1)).with(end).with(dir))
}

fn generator_stopping() -> Option<Scene> {
    generator_without_brokers().map(Scene::stopping)
}
