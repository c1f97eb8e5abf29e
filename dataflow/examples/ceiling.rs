//! The ceiling: what it costs to consume and parse a log alone, everything thrown away. `scripts/bench.sh catchup` runs it beside the
//! dataflow on the same topic.
//!
//! ```sh
//! KAFKA_BOOTSTRAP=localhost:9092 cargo run --release -p tidemark-dataflow --example ceiling -- poll
//! KAFKA_BOOTSTRAP=localhost:9092 cargo run --release -p tidemark-dataflow --example ceiling -- batch
//! ```
//!
//! - `poll` is the loop that anybody would write: rdkafka's `BaseConsumer::poll`, and serde_json into a struct of borrowed strings. No
//!   id, time or amount is judged. The client is set as ours is, so that it does not lose by its defaults.
//! - `batch` is our own source (a call per batch of records) and our own decoder (every rule of the events).
//!
//! Both read what the log holds at the start, on one thread beside librdkafka's own.

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::decode::{Decoded, Decoder};
use tidemark_dataflow::source::kafka::KafkaLog;
use tidemark_dataflow::source::{self, Asked, Bounds, Log as _};
use tidemark_settings::kafka::Role;
use tidemark_settings::log::{KafkaTopic, Log, LogArgs};

/// Records that are taken at once, as a worker takes them.
const BATCH: usize = 4_096;
/// A log that hands out nothing for this long although its end is not reached will not do so any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads a log to the end that it has now, parses every record and drops it.
#[derive(Parser)]
struct Args {
    /// How it is read.
    #[arg(value_enum)]
    way: Way,
    /// Where the events are.
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Way {
    /// A call per record, serde_json, nothing judged.
    Poll,
    /// Our source and our decoder.
    Batch,
}

/// What was read.
#[derive(Default)]
struct Count {
    records: u64,
    events: u64,
    bytes: u64,
}

fn main() -> anyhow::Result<()> {
    tidemark_settings::unset_empty_variables();
    let args = Args::parse();
    let log = args.log.resolve(Role::Consumer, &None)?;
    let started = Instant::now();
    let count = match (args.way, log) {
        (Way::Poll, Log::Kafka(topic)) => poll(topic)?,
        (Way::Poll, Log::File { .. }) => bail!("poll is a way to read Kafka: set KAFKA_BOOTSTRAP, or use batch"),
        (Way::Batch, log) => batch(log)?,
    };
    let seconds = started.elapsed().as_secs_f64();
    let Count { records, events, bytes } = count;
    ensure!(records > 0, "the log is empty");
    let (rate, mean) = (records as f64 / seconds, bytes / records);
    writeln!(
        std::io::stdout(),
        "{records} records of {mean} bytes, {events} of them events, in {seconds:.3} s: {rate:.0} a second"
    )?;
    Ok(())
}

/// The strings of an event, as they stand there.
#[derive(Deserialize)]
struct Borrowed<'a> {
    event_type: &'a str,
    stream_id: &'a str,
    ts: &'a str,
    event_id: Option<&'a str>,
    user_id: Option<&'a str>,
    amount_usd: Option<f64>,
}

fn poll(topic: KafkaTopic) -> anyhow::Result<Count> {
    let name = topic.topic.clone();
    let log = KafkaLog::new(topic);
    let mut open = unread(log.describe()?.partitions);
    let consumer: BaseConsumer = log.client_config(open.len()).create()?;
    let mut assignment = TopicPartitionList::new();
    for (&partition, bounds) in &open {
        assignment.add_partition_offset(&name, partition, Offset::Offset(bounds.low))?;
    }
    consumer.assign(&assignment)?;
    let mut count = Count::default();
    while !open.is_empty() {
        let message = match consumer.poll(PATIENCE).context("no record came for a long time")? {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(partition)) => {
                open.remove(&partition);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let payload = message.payload().unwrap_or_default();
        if let Ok(Borrowed { event_type, stream_id, ts, event_id, user_id, amount_usd }) = serde_json::from_slice(payload) {
            black_box((event_type, stream_id, ts, event_id, user_id, amount_usd));
            count.events += 1;
        }
        count.records += 1;
        count.bytes += payload.len() as u64;
        if open.get(&message.partition()).is_some_and(|bounds| message.offset() + 1 >= bounds.high) {
            open.remove(&message.partition());
        }
    }
    Ok(count)
}

fn batch(log: Log) -> anyhow::Result<Count> {
    let log = source::open(log);
    let mut open = unread(log.describe()?.partitions);
    let mut source = log.open(&open.iter().map(|(&partition, bounds)| (partition, bounds.low)).collect())?;
    let mut decoder = Decoder::default();
    let mut count = Count::default();
    let mut last_record = Instant::now();
    while !open.is_empty() {
        source.serve(Asked { at: Clock::System.now().at, worker_0: None })?;
        let before = count.records;
        for (&partition, bounds) in &open {
            source.read(partition, Some(bounds.high), BATCH, &mut |record| {
                count.events += u64::from(matches!(black_box(decoder.decode(record.payload)), Ok(Decoded::Event(_))));
                count.records += 1;
                count.bytes += record.payload.map_or(0, <[u8]>::len) as u64;
                ControlFlow::Continue(())
            })?;
        }
        for partition in open.keys().copied().collect::<Vec<_>>() {
            if source.position(partition)?.next_offset >= open[&partition].high {
                open.remove(&partition);
            }
        }
        if count.records > before {
            last_record = Instant::now();
        } else {
            ensure!(last_record.elapsed() < PATIENCE, "no record came for {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(count)
}

/// The partitions that hold anything.
fn unread(partitions: BTreeMap<i32, Bounds>) -> BTreeMap<i32, Bounds> {
    partitions.into_iter().filter(|(_, bounds)| bounds.low < bounds.high).collect()
}
