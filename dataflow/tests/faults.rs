//! The built program while the world goes wrong in one way: it stands still, its broker is late, its clock steps. Events come in order
//! and on time meanwhile: all of them are counted, none is rejected, and a stop is obeyed.
//!
//! `scripts/storm.sh` does all of this at once and at random.

mod support;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rustix::process::Signal;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use support::clock::Shim;
use support::process::Process;
use support::services::Services;
use tidemark_model::{Micros, file_log};

const TOPIC: &str = "faults";
/// Events per second.
const RATE: u32 = 20;
/// How long it may take until all is counted, and until a stop is obeyed.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);
const STOPS_WITHIN: Duration = Duration::from_secs(20);
/// How long the broker may take to accept all records after it stood still. It does not measure the program.
const DELIVERED_WITHIN: Duration = Duration::from_secs(120);

/// The process is stopped for 12 s, and its broker answers nothing for the first 17 s after that. A minute ends meanwhile, over records
/// that wait to be read: not even what the process had in its buffers tells it of them.
#[test]
fn a_pause_rejects_nothing_that_was_on_time() {
    let Some(services) = Services::start(1) else { return };
    let (mut process, chats, _scratch) = on_services(&services, |_| Vec::new());
    wait_until_second(57);
    process.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(12));
    let late = services.pause_broker(0);
    process.signal(Signal::CONT);
    std::thread::sleep(Duration::from_secs(17));
    drop(late);
    std::thread::sleep(Duration::from_secs(5));
    all_is_counted(chats.stop(), || in_postgres(&services), &process);
    stops(&mut process);
}

/// A virtual machine resumes with a clock that is 10 minutes behind, and is set right 10 s later.
#[test]
fn a_clock_that_is_behind_for_a_while_rejects_nothing() {
    let Some(services) = Services::start(1) else { return };
    let mut clock = None;
    let (mut process, chats, _scratch) =
        on_services(&services, |dir| clock.insert(Shim::build(dir).clock("it")).settings().to_vec());
    let clock = clock.expect("it was made");
    clock.step_to(-600_000_000);
    std::thread::sleep(Duration::from_secs(10));
    clock.step_to(0);
    std::thread::sleep(Duration::from_secs(3));
    all_is_counted(chats.stop(), || in_postgres(&services), &process);
    assert!(process.said().contains("clock was set"), "a step of the clock is told:\n{}", process.said());
    clock.step_to(-300_000_000);
    stops(&mut process);
}

/// It runs ahead by 300 s when the process starts, and is set back while it runs.
#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let scratch = tempfile::tempdir().expect("a directory");
    let clock = Shim::build(scratch.path()).clock("it");
    clock.step_to(300_000_000);
    let log = scratch.path().join("log");
    std::fs::create_dir_all(file_log::topic_dir(&log, TOPIC)).expect("a directory");
    let file = std::fs::File::create(file_log::partition_path(&log, TOPIC, 0)).expect("a file");
    let chats = Chats::start(move |time, payload| {
        let mut line = Vec::new();
        file_log::write_line(time.cast_unsigned(), payload, &mut line).expect("no line end in it");
        (&file).write_all(&line).expect("the file takes it");
    });
    let settings = [("DATA_DIR", scratch.path().display().to_string()), ("KAFKA_TOPIC", TOPIC.to_owned())];
    let settings = [settings.as_slice(), &clock.settings()].concat();
    let mut process = Process::start(&["--metrics-addr".to_owned(), "off".to_owned()], &settings);
    let counts = || in_sqlite(&scratch.path().join("tidemark.db"));
    wait_for(|| counts().0 > 0, &process);
    std::thread::sleep(Duration::from_secs(2));
    clock.step_to(0);
    std::thread::sleep(Duration::from_secs(10));
    all_is_counted(chats.stop(), counts, &process);
    assert!(process.said().contains("clock was set"), "a step of the clock is told:\n{}", process.said());
    stops(&mut process);
}

/// A run that has begun to count, on these services; `settings` are more of its settings, given a directory of its own.
fn on_services(
    services: &Services,
    settings: impl FnOnce(&Path) -> Vec<(&'static str, String)>,
) -> (Process, Chats, tempfile::TempDir) {
    let scratch = tempfile::tempdir().expect("a directory");
    services.brokers.create_topic(TOPIC, 1);
    services.create_database(TOPIC);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", services.brokers.addresses()).set("enable.idempotence", "true").set("linger.ms", "5");
    let producer: BaseProducer = config.create().expect("a producer");
    let chats = Chats::start(move |time, payload| {
        let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(TOPIC).partition(0).timestamp(time).payload(payload);
        producer.send(record).map_err(|(error, _)| error).expect("the queue has room for an outage");
        producer.poll(Duration::ZERO);
        if payload == LAST {
            producer.flush(DELIVERED_WITHIN).expect("all is delivered");
        }
    });
    let more = settings(scratch.path());
    let settings = [
        ("KAFKA_BOOTSTRAP", services.brokers.addresses()),
        ("KAFKA_TOPIC", TOPIC.to_owned()),
        ("DATABASE_URL", services.database(&services.postgres, TOPIC)),
        ("DATA_DIR", scratch.path().display().to_string()),
        ("WATERMARK", "5s".to_owned()),
        ("IDLE_AFTER", "5s".to_owned()),
    ];
    let settings = [settings.as_slice(), &more].concat();
    let process = Process::start(&["--metrics-addr".to_owned(), "off".to_owned()], &settings);
    wait_for(|| in_postgres(services).0 > 0, &process);
    (process, chats, scratch)
}

/// An event of a type that is only counted: the last one.
const LAST: &[u8] = br#"{"event_type":"last"}"#;

/// Chat messages at a steady rate, each with the time of its sending.
struct Chats {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<i64>,
}

impl Chats {
    fn start(mut send: impl FnMut(i64, &[u8]) + Send + 'static) -> Chats {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (started, mut sent) = (Instant::now(), 0);
            while !stopped.load(Ordering::Acquire) {
                let now = now();
                let payload = format!(r#"{{"event_type":"chat_message","stream_id":"s","ts":"{now}"}}"#);
                send(now.0 / 1_000, payload.as_bytes());
                sent += 1;
                std::thread::sleep((started + Duration::from_secs(1) / RATE * sent).saturating_duration_since(Instant::now()));
            }
            send(now().0 / 1_000, LAST);
            i64::from(sent)
        });
        Chats { stop, thread }
    }

    /// How many there were. All are in the log.
    fn stop(self) -> i64 {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("all is sent")
    }
}

fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Micros(i64::try_from(since.as_micros()).expect("before 2262"))
}

/// Of a minute.
fn wait_until_second(second: u64) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    std::thread::sleep(Duration::from_secs((60 + second - since.as_secs() % 60) % 60));
}

/// Chat messages that were counted, and dead letters by reason.
type Counts = (i64, Vec<(String, i64)>);

fn in_postgres(services: &Services) -> Counts {
    let url = services.database(&services.postgres, TOPIC);
    let mut client = postgres::Client::connect(&url, postgres::NoTls).expect("it answers");
    let chats = "select coalesce(sum(chat_messages), 0)::bigint from stream_metrics_minute";
    // The tables may not be there yet.
    let chats = client.query_one(chats, &[]).map_or(0, |row| row.get(0));
    let letters = client.query("select reason, count(*) from dead_letters group by reason", &[]).unwrap_or_default();
    (chats, letters.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn in_sqlite(path: &Path) -> Counts {
    let read = || -> rusqlite::Result<Counts> {
        let connection = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let chats = "select coalesce(sum(chat_messages), 0) from stream_metrics_minute";
        let chats = connection.query_row(chats, [], |row| row.get(0))?;
        let mut letters = connection.prepare("select reason, count(*) from dead_letters group by reason")?;
        let letters = letters.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        Ok((chats, letters))
    };
    // The file or its tables may not be there yet.
    read().unwrap_or_default()
}

fn wait_for(done: impl Fn() -> bool, process: &Process) {
    let until = Instant::now() + COUNTED_WITHIN;
    while !done() {
        assert!(Instant::now() < until, "not within {COUNTED_WITHIN:?}:\n{}", process.said());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn all_is_counted(sent: i64, counts: impl Fn() -> Counts, process: &Process) {
    let until = Instant::now() + COUNTED_WITHIN;
    let known = |(chats, letters): &Counts| chats + letters.iter().map(|(_, count)| count).sum::<i64>();
    while known(&counts()) < sent && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(counts(), (sent, Vec::new()), "chat messages counted, and dead letters:\n{}", process.said());
}

fn stops(process: &mut Process) {
    process.signal(Signal::TERM);
    let ended = process.ends_within(STOPS_WITHIN);
    assert!(ended.is_some_and(|status| status.success()), "after SIGTERM: {ended:?}\n{}", process.said());
}
