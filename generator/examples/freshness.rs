//! How fresh the numbers are: the time from handing an event to the Kafka client until the api's answer has it.
//!
//! ```sh
//! KAFKA_BOOTSTRAP=localhost:9092 cargo run --release -p tidemark-generator --example freshness -- --api http://127.0.0.1:8000
//! ```
//!
//! Marked events go into the topic beside whatever else does, each in a stream of its own, and `/metrics?stream_id=…` is asked until
//! it has the row. The load is open: events are due by a schedule, spread evenly over the phases of a slice, whatever became of the ones
//! before, and time counts from when an event was due. So a stall is seen by every event that was due in it.

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidemark_model::Micros;
use tidemark_settings::duration;
use tidemark_settings::log::{Log, LogArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The shortest pause between two questions about one event.
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
    /// Events that may be waited for at once; when more are due, they start late, and that counts.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    threads: u32,
    /// Between two questions about one event; at least 2ms.
    #[arg(long, default_value = "5ms", value_parser = duration::parse_positive)]
    poll_every: Duration,
    /// Where the events go.
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> anyhow::Result<()> {
    tidemark_settings::unset_empty_variables();
    let args = Args::parse();
    let Log::Kafka(kafka) = args.log.resolve(&None)? else { bail!("set KAFKA_BOOTSTRAP") };
    ensure!(args.poll_every >= SHORTEST_POLL, "--poll-every: allowed: at least {SHORTEST_POLL:?}");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap).set("acks", "all").set("linger.ms", "0");
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
    // The first event shall not wait for the connection.
    producer.client().fetch_metadata(Some(&kafka.topic), Duration::from_secs(10)).context("Kafka does not answer")?;
    let schedule = Schedule { start: Instant::now() + Duration::from_millis(100), rate: f64::from(args.rate) };
    let end = schedule.start + args.time;
    // Streams of earlier runs are not ours.
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let (probe, threads) = (Probe { args: &args, producer: &producer, topic: &kafka.topic, run }, args.threads);
    let mut samples = std::thread::scope(|scope| {
        let probe = &probe;
        let mine = move |thread: u32| (thread..).step_by(threads as usize).take_while(move |&number| schedule.due(number) < end);
        let start = |thread| scope.spawn(move || probe.measure(schedule, mine(thread)));
        let threads: Vec<_> = (0..threads).map(start).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("a thread does not panic"));
        joined.collect::<anyhow::Result<Vec<_>>>().map(|samples| samples.concat())
    })?;
    samples.sort();
    let at = |per_mille: usize| samples[(samples.len() * per_mille).div_ceil(1_000) - 1].as_secs_f64() * 1e3;
    let (p50, p99, p999, max) = (at(500), at(990), at(999), at(1_000));
    let samples = samples.len();
    writeln!(std::io::stdout(), "samples={samples} p50_ms={p50:.1} p99_ms={p99:.1} p999_ms={p999:.1} max_ms={max:.1}")?;
    Ok(())
}

/// When events are due.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    rate: f64,
}

impl Schedule {
    /// One in each interval, at ever another place of it: the pipeline's own beat must not meet the schedule's.
    fn due(&self, number: u32) -> Instant {
        let number = f64::from(number);
        self.start + Duration::from_secs_f64((number + (number * GOLDEN).fract()) / self.rate)
    }
}

struct Probe<'a> {
    args: &'a Args,
    producer: &'a ThreadedProducer<DefaultProducerContext>,
    topic: &'a str,
    run: u128,
}

impl Probe<'_> {
    fn measure(&self, schedule: Schedule, events: impl Iterator<Item = u32>) -> anyhow::Result<Vec<Duration>> {
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build();
        let agent = ureq::Agent::new_with_config(config);
        events.map(|number| self.sample(&agent, schedule.due(number), number)).collect()
    }

    fn sample(&self, agent: &ureq::Agent, due: Instant, number: u32) -> anyhow::Result<Duration> {
        let stream = format!("freshness-{}-{number}", self.run);
        let url = format!("{}/metrics?stream_id={stream}&minutes=5&limit=1", self.args.api);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        self.publish(&stream)?;
        loop {
            let asked = Instant::now();
            let mut answer = agent.get(&url).call().with_context(|| url.clone())?;
            let answer: serde_json::Value = answer.body_mut().read_json()?;
            if answer["rows"][0]["chat_messages"] == 1 {
                return Ok(due.elapsed());
            }
            ensure!(due.elapsed() < LOST, "the event of stream {stream} is not readable after {LOST:?}");
            std::thread::sleep(self.args.poll_every.saturating_sub(asked.elapsed()).max(SHORTEST_POLL));
        }
    }

    fn publish(&self, stream: &str) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let ts = Micros(i64::try_from(now.as_micros())?);
        let event = format!(
            r#"{{"event_type":"chat_message","event_id":"{stream}","stream_id":"{stream}","user_id":"prober","ts":"{ts}"}}"#
        );
        let record = BaseRecord::to(self.topic).key(stream).payload(event.as_str());
        self.producer.send(record).map_err(|(error, _)| error).context("the Kafka client takes no more")
    }
}
