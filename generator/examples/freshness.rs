//! How fresh the numbers are: the time from handing an event to the Kafka client until the api's answer has it.
//!
//! ```sh
//! KAFKA_BOOTSTRAP=localhost:9092 cargo run --release -p tidemark-generator --example freshness -- --api http://127.0.0.1:8000
//! ```
//!
//! Marked events go into the topic beside whatever else does, in a few streams of their own, and `/metrics?stream_id=…` is asked how
//! many of a stream it has. The load is open: events are due by a schedule, spread evenly over the phases of a slice, whatever became of
//! the ones before, and time counts from when an event was due. So a stall is seen by every event that was due in it. The questions cost
//! the machine the same however late the answers are: a stream has one at a time.

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidemark_model::Micros;
use tidemark_settings::duration;
use tidemark_settings::kafka::Role;
use tidemark_settings::log::{Log, LogArgs};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The shortest pause between two questions about a stream.
const SHORTEST_POLL: Duration = Duration::from_millis(2);
/// An event that is not readable by then is lost, and the run has failed.
const LOST: Duration = Duration::from_secs(60);
/// The golden ratio's fraction: its multiples fall evenly into an interval.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// Publishes marked events and measures when the api shows them.
#[derive(Parser)]
struct Args {
    /// The api.
    #[arg(long, value_name = "URL")]
    api: String,
    /// How long events are published.
    #[arg(long, default_value = "60s", value_parser = duration::parse_positive)]
    time: Duration,
    /// Marked events per second.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Streams that they are of, in turn.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    streams: u32,
    /// Between two questions about one stream; at least 2ms. An event is seen half of it too late, on average.
    #[arg(long, default_value = "10ms", value_parser = duration::parse_positive)]
    poll_every: Duration,
    /// Where the events go.
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> anyhow::Result<()> {
    tidemark_settings::unset_empty_variables();
    let args = Args::parse();
    let Log::Kafka(kafka) = args.log.resolve(Role::Producer, &None)? else { bail!("set KAFKA_BOOTSTRAP") };
    ensure!(args.poll_every >= SHORTEST_POLL, "--poll-every: allowed: at least {SHORTEST_POLL:?}");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap).set("enable.idempotence", "true").set("linger.ms", "0");
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    let producer: ThreadedProducer<Acknowledged> = config.create_with_context(Acknowledged::default())?;
    // The first event shall not wait for the connection.
    producer.client().fetch_metadata(Some(&kafka.topic), Duration::from_secs(10)).context("Kafka does not answer")?;
    // Nor for the producer's id, for which the client waits 400 ms.
    send(&producer, &kafka.topic, "freshness-first", 0, Instant::now())?;
    producer.flush(LOST).context("Kafka acknowledges nothing")?;
    producer.context().after.lock().expect("nobody panics with it").clear();
    let start = Instant::now() + Duration::from_millis(100);
    let schedule = Schedule { start, end: start + args.time, rate: f64::from(args.rate) };
    // Streams of earlier runs are not ours.
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let names: Vec<String> = (0..args.streams).map(|stream| format!("freshness-{run}-{stream}")).collect();
    let mut readable = std::thread::scope(|scope| {
        let (args, names) = (&args, &names);
        let watch = |stream: usize| scope.spawn(move || watch(args, &names[stream], schedule.of(stream, names.len())));
        let watching: Vec<_> = (0..names.len()).map(watch).collect();
        publish(&producer, &kafka.topic, names, schedule)?;
        let watched = watching.into_iter().map(|thread| thread.join().expect("a thread does not panic"));
        watched.collect::<anyhow::Result<Vec<_>>>().map(|samples| samples.concat())
    })?;
    producer.flush(LOST).context("Kafka acknowledges no more")?;
    let mut acknowledged = producer.context().after.lock().expect("nobody panics with it").clone();
    ensure!(acknowledged.len() == readable.len(), "of {} events Kafka took {}", readable.len(), acknowledged.len());
    let (kafka, all) = (Quantiles::of(&mut acknowledged), Quantiles::of(&mut readable));
    let Quantiles { p50, p99, p999, max } = all;
    write!(std::io::stdout(), "samples={} p50_ms={p50:.1} p99_ms={p99:.1} p999_ms={p999:.1} max_ms={max:.1}", readable.len())?;
    writeln!(std::io::stdout(), " kafka_p50_ms={:.1} kafka_p99_ms={:.1} kafka_max_ms={:.1}", kafka.p50, kafka.p99, kafka.max)?;
    Ok(())
}

/// Of some durations, in milliseconds.
struct Quantiles {
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Quantiles {
    fn of(samples: &mut [Duration]) -> Quantiles {
        samples.sort();
        let at = |per_mille: usize| samples[(samples.len() * per_mille).div_ceil(1_000) - 1].as_secs_f64() * 1e3;
        Quantiles { p50: at(500), p99: at(990), p999: at(999), max: at(1_000) }
    }
}

/// When events are due.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    end: Instant,
    rate: f64,
}

impl Schedule {
    /// One in each interval, at ever another place of it: the pipeline's own beat must not meet the schedule's.
    fn due(self, number: u32) -> Instant {
        let number = f64::from(number);
        self.start + Duration::from_secs_f64((number + (number * GOLDEN).fract()) / self.rate)
    }

    /// When the events of a stream are due, of so many that take turns.
    fn of(self, stream: usize, streams: usize) -> impl Iterator<Item = Instant> {
        (0..).map(move |number| self.due(number)).take_while(move |&due| due < self.end).skip(stream).step_by(streams)
    }
}

/// How long after they were due Kafka had acknowledged events.
#[derive(Default)]
struct Acknowledged {
    after: Mutex<Vec<Duration>>,
}

impl ClientContext for Acknowledged {}

impl ProducerContext<NoCustomPartitioner> for Acknowledged {
    type DeliveryOpaque = Box<Instant>;

    fn delivery(&self, result: &DeliveryResult<'_>, due: Box<Instant>) {
        if result.is_ok() {
            self.after.lock().expect("nobody panics with it").push(due.elapsed());
        }
    }
}

fn publish(producer: &ThreadedProducer<Acknowledged>, topic: &str, names: &[String], schedule: Schedule) -> anyhow::Result<()> {
    for ((number, due), name) in (0u32..).zip(schedule.of(0, 1)).zip(names.iter().cycle()) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        send(producer, topic, name, number, due)?;
    }
    Ok(())
}

fn send(producer: &ThreadedProducer<Acknowledged>, topic: &str, name: &str, number: u32, due: Instant) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let ts = Micros(i64::try_from(now.as_micros())?);
    let event =
        format!(r#"{{"event_type":"chat_message","event_id":"{number}","stream_id":"{name}","user_id":"prober","ts":"{ts}"}}"#);
    let record = BaseRecord::with_opaque_to(topic, Box::new(due)).key(name).payload(event.as_str());
    producer.send(record).map_err(|(error, _)| error).context("the Kafka client takes no more")
}

/// Asks for a stream until all its events are readable: how long after it was due each was.
fn watch(args: &Args, name: &str, due: impl Iterator<Item = Instant>) -> anyhow::Result<Vec<Duration>> {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build();
    let agent = ureq::Agent::new_with_config(config);
    let minutes = args.time.as_secs() / 60 + 3;
    let url = format!("{}/metrics?stream_id={name}&minutes={minutes}&limit={minutes}", args.api);
    let mut due = due.peekable();
    let mut samples = Vec::new();
    while let Some(&next) = due.peek() {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let asked = Instant::now();
        let mut answer = agent.get(&url).call().with_context(|| url.clone())?;
        let answer: serde_json::Value = answer.body_mut().read_json()?;
        let rows = answer["rows"].as_array().context("the api's answer has no rows")?;
        let readable: u64 = rows.iter().filter_map(|row| row["chat_messages"].as_u64()).sum();
        // The first to be published are the first to be readable: they are of one partition.
        for due in due.by_ref().take(usize::try_from(readable)?.saturating_sub(samples.len())) {
            let after = Instant::now().checked_duration_since(due);
            samples.push(after.context("the api tells of events that are not published yet")?);
        }
        ensure!(next.elapsed() < LOST, "an event of stream {name} is not readable after {LOST:?}");
        std::thread::sleep(args.poll_every.saturating_sub(asked.elapsed()).max(SHORTEST_POLL));
    }
    Ok(samples)
}
