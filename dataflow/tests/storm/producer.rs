//! Writes traffic whose bytes a seed decides, at a steady rate, whatever happens to the broker; and reads back what is in the topic.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tidemark_dataflow::oracle;
use tidemark_generator::traffic::{FaultShares, Generated, Traffic, TrafficConfig, numbered_streams};
use tidemark_model::Micros;

pub const PARTITIONS: usize = 6;
/// Event time runs so much faster than the clock, so that windows close all the time.
const SPEED: i64 = 20;
/// How far behind the clock event time begins: it must not overtake it.
const BEHIND: Duration = Duration::from_secs(4 * 24 * 3_600);
/// This partition is silent for a while, and then its records come late: what falls idle, and what comes too late for a window
/// that only idleness could close.
const WAYWARD: usize = 3;
const WAYWARD_SILENCE: Duration = Duration::from_secs(9);
/// How long the last records may take until they are delivered.
const DELIVERY: Duration = Duration::from_secs(60);

/// What was written, by partition.
pub type Written = Vec<Vec<Vec<u8>>>;

pub struct Producer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Written>,
}

impl Producer {
    /// So many records per second.
    pub fn start(bootstrap: &str, topic: &str, seed: u64, rate: u32) -> Producer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").set("message.timeout.ms", "0");
        config.set("queue.buffering.max.messages", "2000000").set("linger.ms", "20").set("reconnect.backoff.max.ms", "1000");
        let producer: BaseProducer = config.create().expect("a producer");
        let (stop, topic) = (Arc::new(AtomicBool::new(false)), topic.to_owned());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || produce(&producer, &topic, seed, rate, &stopped));
        Producer { stop, thread }
    }

    /// Ends it; all that it has written is delivered.
    pub fn stop(self) -> Written {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the producer delivers everything")
    }
}

fn produce(producer: &BaseProducer, topic: &str, seed: u64, rate: u32, stop: &AtomicBool) -> Written {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let micros = |time: Duration| i64::try_from(time.as_micros()).expect("before 2262");
    let event_time = micros(now - BEHIND);
    let mut traffic = Traffic::new(TrafficConfig {
        seed,
        streams: numbered_streams(40),
        users: 3_000,
        out_of_order: Duration::from_secs(20),
        faults: FaultShares { late: 0.01, duplicates: 0.02, malformed: 0.01, future: 0.002 },
        ..TrafficConfig::default()
    });
    let mut written = vec![Vec::new(); PARTITIONS];
    let mut held: Vec<Generated> = Vec::new();
    let mut write = |event: Generated, partition: usize| {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
            .partition(i32::try_from(partition).expect("few"))
            .timestamp(event.sent_at.0 / 1_000)
            .key(event.stream.as_bytes())
            .payload(&event.payload);
        producer.send(record).map_err(|(error, _)| error).expect("the queue has room for an outage");
        written[partition].push(event.payload);
    };
    let started = Instant::now();
    let (mut sent, mut speaks) = (0_u64, started + WAYWARD_SILENCE);
    while !stop.load(Ordering::Acquire) {
        let due = started.elapsed().as_micros() as u64 * u64::from(rate) / 1_000_000;
        while sent < due {
            let event = traffic.next_at(Micros(event_time + sent.cast_signed() * 1_000_000 * SPEED / i64::from(rate)));
            sent += 1;
            match event.stream.bytes().map(usize::from).sum::<usize>() % PARTITIONS {
                WAYWARD => held.push(event),
                partition => write(event, partition),
            }
        }
        if Instant::now() >= speaks {
            held.drain(..).for_each(|event| write(event, WAYWARD));
            speaks = Instant::now() + WAYWARD_SILENCE;
        }
        producer.poll(Duration::from_millis(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    held.drain(..).for_each(|event| write(event, WAYWARD));
    producer.flush(DELIVERY).expect("everything is delivered");
    written
}

/// All that is in a topic, and where each partition ends.
pub fn read_back(bootstrap: &str, topic: &str, partitions: usize) -> (oracle::Log, BTreeMap<i32, i64>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "judge").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    let mut log = oracle::Log::new();
    for partition in 0..i32::try_from(partitions).expect("few") {
        let bounds = consumer.fetch_watermarks(topic, partition, DELIVERY).expect("the broker answers");
        assert_eq!(bounds.0, 0, "nothing has expired");
        ends.insert(partition, bounds.1);
        log.insert(partition, Vec::new());
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("an assignment");
    }
    consumer.assign(&assignment).expect("an assignment");
    let total: i64 = ends.values().sum();
    let (mut read, until) = (0, Instant::now() + DELIVERY * 5);
    while read < total {
        assert!(Instant::now() < until, "{read} of {total} records could be read back");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.expect("a record");
        log.entry(message.partition()).or_default().push(oracle::LogRecord {
            offset: message.offset(),
            record_time: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
        });
        read += 1;
    }
    (log, ends)
}

/// Every record that was written is there, in its order. How many are there besides: after a crash of the broker the client cannot
/// always know what was kept, and then sends it again. To the pipeline those are records like all others.
pub fn sent_again(log: &oracle::Log, written: &Written) -> usize {
    let mut again = 0;
    for (partition, written) in written.iter().enumerate() {
        let mut records = log[&i32::try_from(partition).expect("few")].iter();
        for sent in written {
            let before = records.len();
            let found = records.any(|found| found.payload.as_ref() == Some(sent));
            assert!(found, "partition {partition} has lost records that were written");
            again += before - records.len() - 1;
        }
        again += records.len();
    }
    again
}
