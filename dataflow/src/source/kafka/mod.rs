//! Kafka, by `assign`: every partition has a queue of its own that is read in batches through librdkafka's native calls.
//!
//! A call per record costs more than half of librdkafka's price; and a queue per partition lets the worker choose which one to read,
//! so that holding one back neither throws away what was fetched nor stops the others. `describe` asks what a start must know of
//! the topic, [`topic`] what the brokers know of it from then on, [`ends`] asks the leaders where their partitions end, [`group`] tells
//! the brokers how far we are.

mod admin;
mod describe;
pub mod ends;
pub mod group;
pub mod topic;

use super::{Asked, Description, Log, Position, Record, Source, SourceError, Take};
use ends::Ends;
use group::Group;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use rdkafka_sys as sys;
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tidemark_generator::publish::{Bootstrap, give_token, oauth_token};
use tidemark_model::Micros;
use tidemark_settings::kafka::{MSK_IAM, Properties, Remedy, fault, remedy};
use tidemark_settings::log::KafkaTopic;
use topic::{Asker, Topic, Watch};

/// How long a question to the brokers may take.
const ASK: Duration = Duration::from_secs(5);
/// How long all questions about a topic may take together: one for each partition, which a slow broker answers slowly.
const DESCRIBE: Duration = Duration::from_secs(60);
/// How long the brokers may take to confirm the topic before they are asked again.
const CONFIRM: Duration = Duration::from_secs(1);

/// What a client's partitions may have fetched ahead together; each has its share, but not less than a fetch is worth.
const QUEUED_KIB: usize = 32_768;
const QUEUED_MESSAGES: usize = 80_000;

/// The leader of a partition that has delivered nothing for this long is asked where its end is.
const QUIET: Duration = Duration::from_millis(250);

/// How often it is told that the brokers do not let a client in: each of its connections hears it at each try.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// How often what librdkafka has freed goes back to the system.
const GIVE_BACK: Duration = Duration::from_secs(30);

/// A topic.
pub struct KafkaLog {
    settings: KafkaTopic,
    /// A client that reads nothing, so that its questions wait for no records; started by the first commit of this process.
    side: Mutex<Option<Arc<BaseConsumer<Context>>>>,
    /// Started by the first commit of this process; none if it could not be started.
    group: OnceLock<Option<Group>>,
}

impl KafkaLog {
    /// The topic of these settings.
    pub fn new(settings: KafkaTopic) -> KafkaLog {
        KafkaLog { settings, side: Mutex::default(), group: OnceLock::new() }
    }

    /// What a client of ours is set to that reads this many partitions; the user's properties win, and those on which a promise rests were
    /// refused when they were read.
    pub fn client_config(&self, partitions: usize) -> ClientConfig {
        let share = |of_all: usize, least: usize, most: usize| (of_all / partitions.max(1)).clamp(least, most).to_string();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.settings.bootstrap)
            // The client insists on a group; offsets are kept with the rows, and the group is for lag tools only.
            .set("group.id", format!("tidemark-{}", self.settings.topic))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // An offset that is not there must stop us: reading on elsewhere would lose records silently.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            // At the end of a partition this tells the position behind a transaction's marker, which no record does.
            .set("enable.partition.eof", "true")
            // Its default of 1,000 ms makes catching up stall each time that the queue was full.
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.wait.max.ms", "50")
            // Bounds the memory of what was fetched ahead, of which librdkafka itself needs several times as much: each partition has
            // a queue of its own, so these are for one. Less stays in the caches; with the defaults (64 MiB and 100,000) catching up took
            // a third longer.
            .set("queued.max.messages.kbytes", share(QUEUED_KIB, 512, 8_192))
            .set("queued.min.messages", share(QUEUED_MESSAGES, 2_000, 20_000))
            .set("topic.metadata.refresh.interval.ms", "10000")
            // A connection that something in between has forgotten is given up after this. The default is a minute.
            .set("socket.timeout.ms", "15000")
            // Azure asks for it. How soon an idle connection is probed is the system's setting.
            .set("socket.keepalive.enable", "true")
            .set_log_level(RDKafkaLogLevel::Error);
        for (name, value) in self.settings.properties.iter() {
            config.set(name, value);
        }
        config
    }

    fn consumer(&self, partitions: usize) -> Result<BaseConsumer<Context>, SourceError> {
        let config = self.client_config(partitions);
        let properties = self.settings.properties.clone();
        let (bootstrap, trouble, refusal) = (Bootstrap::of(&config), AtomicBool::default(), Mutex::default());
        let context = Context { bootstrap, properties, trouble, refusal, asks_only: AtomicBool::default() };
        let consumer: BaseConsumer<Context> = config.create_with_context(context).map_err(|error| {
            let properties = &self.settings.properties;
            let other = |said: &str| SourceError::Fatal(format!("Kafka client: {}", properties.redact(said)));
            match error {
                KafkaError::ClientConfig(_, said, name, _) => {
                    SourceError::Setting(format!("Kafka property {name}: {}", fault(&said)))
                }
                KafkaError::ClientCreation(said) => {
                    properties.no_client(&said).map_or_else(|| other(&said), |setting| SourceError::Setting(setting.to_string()))
                }
                error => other(&error.to_string()),
            }
        })?;
        // If there is none, the client asks for it and tells why.
        let _ = give_token(consumer.client(), &self.settings.properties);
        Ok(consumer)
    }

    fn side(&self) -> Result<Arc<BaseConsumer<Context>>, SourceError> {
        let mut side = self.side.lock().expect("nobody panics while holding the client");
        if side.is_none() {
            *side = Some(Arc::new(self.consumer(0)?));
        }
        Ok(side.as_ref().map(Arc::clone).expect("it was just made"))
    }

    fn name(&self) -> Result<CString, SourceError> {
        let name = self.settings.topic.as_str();
        CString::new(name).map_err(|error| SourceError::Fatal(format!("KAFKA_TOPIC {name:?}: {error}")))
    }
}

impl Log for KafkaLog {
    fn describe(&self) -> Result<Description, SourceError> {
        self.describe_topic()
    }

    fn open(&self, start: &BTreeMap<i32, i64>) -> Result<Box<dyn Source>, SourceError> {
        let consumer = self.consumer(start.len())?;
        let topic = self.name()?;
        let mut partitions = BTreeMap::new();
        let mut assignment = TopicPartitionList::new();
        for (&partition, &offset) in start {
            // Before the assignment: from then on fetched records go to this queue and not to the consumer's own.
            partitions.insert(partition, Partition::new(&consumer, &topic, partition, offset)?);
            assignment
                .add_partition_offset(&self.settings.topic, partition, Offset::Offset(offset))
                .map_err(|error| SourceError::Fatal(format!("partition {partition}: {error}")))?;
        }
        consumer.assign(&assignment).map_err(|error| SourceError::Fatal(format!("assign: {error}")))?;
        let watch = Watch::new(Asker::new(&consumer, topic.clone()));
        let ends = Ends::new(&consumer, topic.clone());
        Ok(Box::new(KafkaSource { partitions, watch, ends, id: None, others: Vec::new(), topic, consumer }))
    }

    /// librdkafka itself reads on in a topic that was made anew, and the reader's own [`Watch`] may see that seconds later. But a
    /// topic's id never comes back: if the brokers still give it after the last record was read, that record is of this topic.
    /// Without that word nothing can be said, also if they know no such topic at the moment: it may have been another one before.
    fn confirm<'a>(&'a self, id: &'a str) -> Box<dyn FnOnce() -> Result<(), SourceError> + 'a> {
        let asked = self.side().and_then(|consumer| {
            let asker = Asker::new(&consumer, self.name()?);
            asker.ask(&consumer);
            Ok((consumer, asker))
        });
        let unconfirmed = |why: &str| {
            let name = &self.settings.topic;
            SourceError::NotYet(format!("the brokers do not confirm that topic {name} is still the one that was read: {why}"))
        };
        Box::new(move || {
            let (consumer, asker) = asked?;
            match asker.answer(&consumer, CONFIRM) {
                Some(Ok(topic)) => same_topic(&self.settings.topic, id, &topic),
                Some(Err(error)) => Err(unconfirmed(&error)),
                None => Err(unconfirmed(&format!("no answer within {CONFIRM:?}"))),
            }
        })
    }

    fn committed(&self, next_offsets: &[(i32, i64)]) {
        let start = || {
            let group = self.side().and_then(|consumer| {
                Group::start(consumer, self.settings.topic.clone()).map_err(|error| SourceError::Fatal(error.to_string()))
            });
            group.inspect_err(|error| tracing::warn!(%error, "the consumer group's offsets will not be committed")).ok()
        };
        if let Some(group) = self.group.get_or_init(start) {
            group.committed(next_offsets);
        }
    }

    fn topic(&self) -> &str {
        &self.settings.topic
    }
}

/// What tells a topic from another one of the same name.
fn log_id(name: &str, topic: &Topic) -> String {
    topic.id.as_ref().map_or_else(|| format!("kafka:{name}"), |id| format!("kafka:{name}#{id}"))
}

fn same_topic(name: &str, id: &str, topic: &Topic) -> Result<(), SourceError> {
    let now = log_id(name, topic);
    if now == id {
        return Ok(());
    }
    Err(SourceError::Fatal(format!(
        "topic {name} was deleted and made anew while it was read ({id} became {now}): start afresh under another PIPELINE and \
         schema, or replace all rows with: tidemark-dataflow rebuild --drop-history"
    )))
}

/// Passes librdkafka's own words on to our log.
pub struct Context {
    /// Lets it come back when it has forgotten all brokers.
    bootstrap: Bootstrap,
    /// Their secrets are cut out of librdkafka's words.
    properties: Properties,
    /// A connection has failed since it was last asked: who leads a partition may have changed.
    trouble: AtomicBool,
    /// Why the brokers do not let this client in, if they do not, and when that was last told.
    refusal: Mutex<Option<(String, Instant)>>,
    /// A start asks through this client, and tells the refusal itself.
    asks_only: AtomicBool,
}

impl Context {
    /// Why the brokers do not let this client in, if they have said so.
    fn refusal(&self) -> Option<String> {
        self.refusal.lock().expect("nobody panics while holding the reason").as_ref().map(|(reason, _)| reason.clone())
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = MSK_IAM;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        oauth_token(&self.properties)
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message = self.properties.redact(message), "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.store(true, Ordering::Relaxed);
        let reason = self.properties.redact(reason);
        if let Some(Remedy { advice, .. }) = remedy(&format!("{error}: {reason}")) {
            let mut refusal = self.refusal.lock().expect("nobody panics while holding the reason");
            let due = refusal.as_ref().is_none_or(|(_, told)| told.elapsed() >= TELL_AGAIN);
            if due && !self.asks_only.load(Ordering::Relaxed) {
                tracing::warn!(reason, "Kafka does not let this program in; {advice}");
            }
            let told = refusal.as_ref().filter(|_| !due).map_or_else(Instant::now, |&(_, told)| told);
            *refusal = Some((reason, told));
            return;
        }
        // That all brokers are down is repeated endlessly, and says less than why each of them is.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            tracing::debug!(%error, reason, "Kafka client");
        } else {
            tracing::warn!(%error, reason, "Kafka client");
        }
    }
}

impl ConsumerContext for Context {}

/// A partition's queue in librdkafka.
struct Queue(NonNull<sys::rd_kafka_queue_t>);

impl Queue {
    fn of_partition(consumer: &BaseConsumer<Context>, topic: &CString, partition: i32) -> Result<Queue, SourceError> {
        // SAFETY: the client outlives the handle (fields of `KafkaSource` are dropped in order), and the topic is a C string.
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition);
            // Not forwarded anywhere: its records wait here until they are read.
            if !queue.is_null() {
                sys::rd_kafka_queue_forward(queue, std::ptr::null_mut());
            }
            queue
        };
        let none = || SourceError::Fatal(format!("librdkafka gives no queue for partition {partition}"));
        NonNull::new(queue).map(Queue).ok_or_else(none)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the handle came from librdkafka, is released once and not used after.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// A record, or an event of its partition, that librdkafka handed out.
struct Message(NonNull<sys::rd_kafka_message_t>);

impl Message {
    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: librdkafka's message stays valid and unchanged until it is destroyed, which only `drop` does.
        unsafe { self.0.as_ref() }
    }

    fn record(&self) -> Record<'_> {
        let raw = self.raw();
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: both pointers are valid for the call.
        let millis = unsafe { sys::rd_kafka_message_timestamp(self.0.as_ptr(), &mut kind) };
        let has_time = kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && millis >= 0;
        Record {
            offset: raw.offset,
            time: has_time.then(|| Micros(millis.saturating_mul(1_000))),
            // SAFETY: key and payload are `len` bytes that live as long as the message, or null.
            key: unsafe { bytes(raw.key, raw.key_len) },
            // SAFETY: as above.
            payload: unsafe { bytes(raw.payload, raw.len) },
        }
    }
}

/// # Safety
/// `data` is null, or points to `length` bytes that stay valid and unchanged for `'a`.
unsafe fn bytes<'a>(data: *const std::ffi::c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: by the caller's promise.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) })
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: the message came from librdkafka, is destroyed once and not used after.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

struct Partition {
    queue: Queue,
    /// Taken from the queue, but at or after an offset that must not be passed yet.
    ready: VecDeque<Message>,
    next_offset: i64,
    /// When it last handed out a record.
    delivered: Instant,
}

/// The reader. The order of its fields is the order in which they are dropped: queues and messages before the client.
struct KafkaSource {
    partitions: BTreeMap<i32, Partition>,
    watch: Watch,
    ends: Ends,
    /// What the topic was when it was first described.
    id: Option<String>,
    /// Partitions that the last description has and that are not read here.
    others: Vec<i32>,
    topic: CString,
    consumer: BaseConsumer<Context>,
}

impl Partition {
    fn new(
        consumer: &BaseConsumer<Context>,
        topic: &CString,
        partition: i32,
        next_offset: i64,
    ) -> Result<Partition, SourceError> {
        let queue = Queue::of_partition(consumer, topic, partition)?;
        Ok(Partition { queue, ready: VecDeque::new(), next_offset, delivered: Instant::now() })
    }

    /// Takes what librdkafka has at hand.
    fn fetch(&mut self, max: usize) {
        let mut batch: Vec<*mut sys::rd_kafka_message_t> = vec![std::ptr::null_mut(); max];
        // SAFETY: the queue is alive, and `batch` has room for as many pointers as are asked for.
        let got = unsafe { sys::rd_kafka_consume_batch_queue(self.queue.0.as_ptr(), 0, batch.as_mut_ptr(), batch.len()) };
        let got = usize::try_from(got).unwrap_or(0);
        self.ready.extend(batch[..got].iter().filter_map(|&message| NonNull::new(message)).map(Message));
    }
}

/// Now and then, in one thread of the process: gives memory back that librdkafka has freed. It has its memory from the C library, which by
/// itself keeps most of what full queues have taken, because little of it lies at its end.
fn give_back() {
    static GIVEN_BACK: Mutex<Option<Instant>> = Mutex::new(None);
    let Ok(mut last) = GIVEN_BACK.try_lock() else { return };
    if last.get_or_insert_with(Instant::now).elapsed() < GIVE_BACK {
        return;
    }
    // SAFETY: it may be called at any time; it touches nothing that is in use.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
    *last = Some(Instant::now());
}

/// What an event of a partition means to us.
fn judge_event(partition: i32, message: &sys::rd_kafka_message_t, next_offset: i64) -> Result<i64, SourceError> {
    match message.err {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => Ok(next_offset.max(message.offset)),
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET | RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => {
            Err(SourceError::Fatal(format!(
                "partition {partition}: offset {next_offset} is not in the topic any more, so records were lost before they were \
                 read; the next start says what can be done"
            )))
        }
        error => {
            let error = RDKafkaErrorCode::from(error);
            match remedy(&error.to_string()) {
                Some(Remedy { advice, .. }) => {
                    tracing::warn!(partition, %error, "Kafka does not let this program read the partition; {advice}")
                }
                None => tracing::warn!(partition, %error, "Kafka partition"),
            }
            Ok(next_offset)
        }
    }
}

impl Source for KafkaSource {
    fn read(&mut self, partition: i32, before: Option<i64>, max: usize, take: Take<'_>) -> Result<(), SourceError> {
        let state = self.partitions.get_mut(&partition).expect("a partition that was opened");
        if state.ready.is_empty() {
            state.fetch(max);
        }
        let from = state.next_offset;
        for _ in 0..max {
            let Some(message) = state.ready.front() else { break };
            if message.raw().err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                state.next_offset = judge_event(partition, message.raw(), state.next_offset)?;
            } else if let Some(before) = before.filter(|&before| message.raw().offset >= before) {
                // Nothing is left below it, also if the offsets up to it are a hole.
                state.next_offset = state.next_offset.max(before);
                break;
            } else if take(message.record()).is_break() {
                break;
            } else {
                state.next_offset = message.raw().offset + 1;
            }
            state.ready.pop_front();
        }
        if state.next_offset > from {
            state.delivered = Instant::now();
            self.ends.delivered(partition);
        }
        Ok(())
    }

    fn position(&mut self, partition: i32) -> Result<Position, SourceError> {
        let next_offset = self.partitions[&partition].next_offset;
        let (mut low, mut high) = (0, 0);
        let client = self.consumer.client().native_ptr();
        // SAFETY: client and topic are alive, and both results are valid for the call. It asks nobody: it is what the last fetch
        // told, however long ago that was.
        let known = unsafe {
            sys::rd_kafka_get_watermark_offsets(client, self.topic.as_ptr(), partition, &mut low, &mut high)
                == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
        };
        let confirmed = self.ends.known(partition);
        let end = confirmed.map(|(end, _)| end).max((known && high >= 0).then_some(high));
        Ok(Position {
            next_offset,
            end_offset: end.map_or(next_offset, |end| end.max(next_offset)),
            at_end: end.is_some_and(|end| next_offset >= end),
            confirmed: confirmed.and_then(|(end, asked)| (next_offset >= end).then_some(asked)),
            low_offset: if known { low.max(0) } else { 0 },
        })
    }

    fn serve(&mut self, now: Asked) -> Result<(), SourceError> {
        give_back();
        let mut trouble = false;
        match self.consumer.poll(Duration::ZERO) {
            Some(Err(error)) if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) => {
                // The context has told it.
                trouble = true;
                tracing::debug!(%error, "Kafka consumer");
            }
            _ => {}
        }
        trouble |= self.consumer.context().trouble.swap(false, Ordering::Relaxed);
        if self.watch.turn(&self.consumer, trouble)
            && let Some(topic) = self.watch.topic()
        {
            let name = self.topic.to_string_lossy();
            same_topic(&name, self.id.get_or_insert_with(|| log_id(&name, topic)), topic)?;
            self.others = topic.partitions.keys().filter(|other| !self.partitions.contains_key(other)).copied().collect();
        }
        let quiet = self.partitions.iter().filter(|(_, state)| state.delivered.elapsed() >= QUIET);
        let quiet: Vec<_> =
            quiet.map(|(&partition, _)| ends::Partition { partition, leader: self.watch.leader(partition) }).collect();
        self.ends.turn(&self.consumer, now, &quiet);
        Ok(())
    }

    fn trouble(&self) -> Option<String> {
        self.ends.trouble()
    }

    fn others(&mut self) -> Result<Vec<i32>, SourceError> {
        Ok(std::mem::take(&mut self.others))
    }

    fn add(&mut self, partition: i32) -> Result<(), SourceError> {
        let state = Partition::new(&self.consumer, &self.topic, partition, 0)?;
        let mut more = TopicPartitionList::new();
        more.add_partition_offset(&self.topic.to_string_lossy(), partition, Offset::Offset(0))
            .and_then(|()| self.consumer.incremental_assign(&more))
            .map_err(|error| SourceError::Fatal(format!("partition {partition}: {error}")))?;
        self.partitions.insert(partition, state);
        Ok(())
    }
}
