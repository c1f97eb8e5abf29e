//! Writes the traffic at a steady rate, whatever happens to the brokers; and reads back what is in the topic.

use super::traffic::{Due, PARTITIONS, Script};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidemark_dataflow::oracle;

/// How long the last records may take until they are delivered.
const DELIVERY: Duration = Duration::from_secs(60);
/// A record counts as on time if its broker had it this soon. Less than the lateness of the storm's pipeline by a wide margin, so
/// that a record counts only if nothing but a fault could have closed its window.
const PROMPT: Duration = Duration::from_secs(2);

/// What was written, by partition.
pub type Written = Vec<Vec<Vec<u8>>>;

/// What the brokers have taken.
pub struct Delivered {
    started: Instant,
    ends: Vec<AtomicI64>,
    /// Partition and offset of the records that were in order and on time.
    on_time: Mutex<BTreeSet<(i32, i64)>>,
}

impl Delivered {
    /// By partition, just behind its last record.
    pub fn ends(&self) -> Vec<i64> {
        self.ends.iter().map(|end| end.load(Ordering::Acquire)).collect()
    }

    pub fn was_on_time(&self, at: &(i32, i64)) -> bool {
        self.on_time.lock().expect("nobody panics while holding it").contains(at)
    }
}

/// A record's instant, if it is one of those that are on time.
type OnTime = Option<Duration>;

struct Context(Arc<Delivered>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<OnTime>;

    fn delivery(&self, result: &DeliveryResult<'_>, due: Box<OnTime>) {
        let Ok(message) = result else { return };
        let (partition, offset) = (message.partition(), message.offset());
        let end = &self.0.ends[usize::try_from(partition).expect("not negative")];
        end.fetch_max(offset + 1, Ordering::AcqRel);
        if due.is_some_and(|due| self.0.started.elapsed() < due + PROMPT) {
            self.0.on_time.lock().expect("nobody panics while holding it").insert((partition, offset));
        }
    }
}

pub struct Producer {
    stop: Arc<AtomicBool>,
    pub delivered: Arc<Delivered>,
    thread: std::thread::JoinHandle<Written>,
}

impl Producer {
    /// So many records per second.
    pub fn start(bootstrap: &str, topic: &str, seed: u64, rate: u32) -> Producer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").set("message.timeout.ms", "0");
        config.set("queue.buffering.max.messages", "2000000").set("linger.ms", "20").set("reconnect.backoff.max.ms", "1000");
        let ends = (0..PARTITIONS).map(|_| AtomicI64::new(0)).collect();
        let delivered = Arc::new(Delivered { started: Instant::now(), ends, on_time: Mutex::default() });
        let producer = config.create_with_context(Context(Arc::clone(&delivered))).expect("a producer");
        let (stop, topic) = (Arc::new(AtomicBool::new(false)), topic.to_owned());
        let (stopped, script, started) = (Arc::clone(&stop), Script::new(seed, rate), delivered.started);
        let thread = std::thread::spawn(move || produce(&producer, &topic, script, started, &stopped));
        Producer { stop, delivered, thread }
    }

    /// Ends it; all that it has written is delivered.
    pub fn stop(self) -> Written {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the producer delivers everything")
    }
}

fn produce(producer: &BaseProducer<Context>, topic: &str, mut script: Script, started: Instant, stop: &AtomicBool) -> Written {
    let mut written = vec![Vec::new(); PARTITIONS];
    let mut write = |due: Due| {
        let record: BaseRecord<'_, [u8], [u8], Box<OnTime>> =
            BaseRecord::with_opaque_to(topic, Box::new(due.on_time.then_some(due.at)))
                .partition(i32::try_from(due.partition).expect("few"))
                .timestamp(due.event.sent_at.0 / 1_000)
                .key(due.event.stream.as_bytes())
                .payload(&due.event.payload);
        producer.send(record).map_err(|(error, _)| error).expect("the queue has room for an outage");
        written[due.partition].push(due.event.payload);
    };
    while !stop.load(Ordering::Acquire) {
        script.until(started.elapsed()).into_iter().for_each(&mut write);
        producer.poll(Duration::from_millis(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    script.rest().into_iter().for_each(&mut write);
    producer.flush(DELIVERY).expect("everything is delivered");
    written
}

/// Adds to the log what a topic has behind it, up to these offsets or to its end; where reading stopped.
pub fn read_on(bootstrap: &str, topic: &str, log: &mut oracle::Log, before: Option<&BTreeMap<i32, i64>>) -> BTreeMap<i32, i64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "judge").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    let (mut ends, mut total) = (BTreeMap::new(), 0);
    for partition in 0..i32::try_from(PARTITIONS).expect("few") {
        let (low, high) = consumer.fetch_watermarks(topic, partition, DELIVERY).expect("the broker answers");
        let next = log.entry(partition).or_default().last().map_or(0, |last| last.offset + 1);
        assert!(low <= next, "partition {partition}: what expired was read before");
        let end = before.map_or(high, |before| before[&partition]);
        ends.insert(partition, end);
        total += end - next;
        assignment.add_partition_offset(topic, partition, Offset::Offset(next)).expect("an assignment");
    }
    consumer.assign(&assignment).expect("an assignment");
    let (mut read, until) = (0, Instant::now() + DELIVERY * 5);
    while read < total {
        assert!(Instant::now() < until, "{read} of {total} records could be read back");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.expect("a record");
        if message.offset() >= ends[&message.partition()] {
            continue;
        }
        log.entry(message.partition()).or_default().push(oracle::LogRecord {
            offset: message.offset(),
            record_time: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
        });
        read += 1;
    }
    ends
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
