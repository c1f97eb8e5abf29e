//! What the brokers say of the topic: its id, its partitions, and which of them have a leader.
//!
//! Asked through librdkafka's admin call, because only that tells the id, by which a topic differs from one of the same name that was
//! made after it was deleted; and because it does not wait: the worker asks in one turn and reads the answer in another.

use super::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;
use rdkafka_sys as sys;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// How often the brokers are asked again.
const EVERY: Duration = Duration::from_secs(10);
/// How soon after trouble, and how often while they do not answer well.
const IN_DOUBT: Duration = Duration::from_secs(1);
/// How long they may take to answer.
const PATIENCE_MS: i32 = 5_000;

/// A topic as the brokers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id; brokers before 2.8 have none.
    pub id: Option<String>,
    /// Its partitions, and whether each has a leader.
    pub partitions: BTreeMap<i32, bool>,
}

/// Asks, and hears the answer. To be dropped before the client that it asks through.
pub struct Asker {
    /// Where answers arrive.
    queue: NonNull<sys::rd_kafka_queue_t>,
    name: CString,
}

impl Asker {
    /// Asks through this client, which outlives it.
    pub fn new(consumer: &BaseConsumer<Context>, name: CString) -> Asker {
        // SAFETY: the client is alive; the queue is released once, when this is dropped.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Asker { queue: NonNull::new(queue).expect("librdkafka aborts when memory is out"), name }
    }

    /// Asks about the topic. Does not wait.
    pub fn ask(&self, consumer: &BaseConsumer<Context>) {
        let client = consumer.client().native_ptr();
        let mut names: [*const c_char; 1] = [self.name.as_ptr()];
        // SAFETY: client, queue and name are alive; librdkafka copies names and options before the call returns, and what was made
        // here is destroyed once.
        unsafe {
            let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            let options = sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
            // The value is within the allowed range, so there is no error to be read.
            sys::rd_kafka_AdminOptions_set_request_timeout(options, PATIENCE_MS, std::ptr::null_mut(), 0);
            sys::rd_kafka_DescribeTopics(client, topics, options, self.queue.as_ptr());
            sys::rd_kafka_AdminOptions_destroy(options);
            sys::rd_kafka_TopicCollection_destroy(topics);
        }
    }

    /// The answer, if it comes within this time to the client that asked.
    pub fn answer(&self, consumer: &BaseConsumer<Context>, wait: Duration) -> Option<Result<Topic, String>> {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive; the event is ours from here on.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), wait_ms) };
        let answer = NonNull::new(event).map(Answer);
        let bootstrap = &consumer.context().bootstrap;
        match &answer {
            Some(answer) if !answer.failed() => bootstrap.answered(),
            None if wait.is_zero() => {}
            None | Some(_) => {
                if let Some(silent) = bootstrap.unanswered(consumer.client()) {
                    tracing::warn!(
                        ?silent,
                        "no broker answers questions about the topic; the client is told the bootstrap servers again"
                    );
                }
            }
        }
        answer.map(|answer| answer.topic())
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        // SAFETY: the queue came from librdkafka, is released once and not used after.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

struct Answer(NonNull<sys::rd_kafka_event_t>);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the event came from librdkafka, is destroyed once and not used after.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

impl Answer {
    /// Whether it is none of a broker.
    fn failed(&self) -> bool {
        // SAFETY: the event is alive until `self` is dropped.
        unsafe { sys::rd_kafka_event_error(self.0.as_ptr()) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR }
    }

    fn topic(&self) -> Result<Topic, String> {
        let event = self.0.as_ptr();
        // SAFETY: the event is alive until `self` is dropped, and with it all that it lends: the text of an error, the descriptions,
        // their partitions, and the text of an id. None of them is kept.
        unsafe {
            if self.failed() {
                return Err(text(sys::rd_kafka_event_error_string(event)));
            }
            let result = sys::rd_kafka_event_DescribeTopics_result(event);
            if result.is_null() {
                return Err("the answer is none to our question".to_owned());
            }
            let mut count = 0;
            let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            if count != 1 {
                return Err(format!("the answer is about {count} topics"));
            }
            let topic = *topics;
            let error = sys::rd_kafka_TopicDescription_error(topic);
            if !error.is_null() {
                return Err(text(sys::rd_kafka_error_string(error)));
            }
            let mut count = 0;
            let infos = sys::rd_kafka_TopicDescription_partitions(topic, &mut count);
            let infos = if count == 0 { &[] } else { std::slice::from_raw_parts(infos, count) };
            let partition = |&info: &*const sys::rd_kafka_TopicPartitionInfo_t| {
                let has_leader = !sys::rd_kafka_TopicPartitionInfo_leader(info).is_null();
                (sys::rd_kafka_TopicPartitionInfo_partition(info), has_leader)
            };
            let id = sys::rd_kafka_TopicDescription_topic_id(topic);
            let none = sys::rd_kafka_Uuid_most_significant_bits(id) == 0 && sys::rd_kafka_Uuid_least_significant_bits(id) == 0;
            Ok(Topic {
                id: (!none).then(|| text(sys::rd_kafka_Uuid_base64str(id))),
                partitions: infos.iter().map(partition).collect(),
            })
        }
    }
}

/// # Safety
/// `words` is null or a C string.
unsafe fn text(words: *const c_char) -> String {
    if words.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
}

/// Keeps asking, and knows when what it knows is in doubt.
pub struct Watch {
    asker: Asker,
    /// When a question was sent that is not answered.
    asked: Option<Instant>,
    /// When the last answer came, good or bad.
    answered: Option<Instant>,
    /// The last good answer.
    topic: Option<Topic>,
    /// Something has happened since that answer's question was sent.
    doubt: bool,
    /// Whether that was before the question that is out now, so that its answer ends the doubt.
    asked_in_doubt: bool,
}

impl Watch {
    /// Asks at once.
    pub fn new(asker: Asker) -> Watch {
        Watch { asker, asked: None, answered: None, topic: None, doubt: true, asked_in_doubt: false }
    }

    /// Asks when it is time, and takes an answer that has come: true if it is a good one. `trouble`: a connection has failed.
    pub fn turn(&mut self, consumer: &BaseConsumer<Context>, trouble: bool) -> bool {
        if trouble {
            self.doubt = true;
            self.asked_in_doubt = false;
        }
        if self.asked.is_none() {
            let pause = if self.doubt { IN_DOUBT } else { EVERY };
            if self.answered.is_none_or(|answered| answered.elapsed() >= pause) {
                self.asker.ask(consumer);
                self.asked = Some(Instant::now());
                self.asked_in_doubt = true;
            }
            return false;
        }
        let Some(answer) = self.asker.answer(consumer, Duration::ZERO) else { return false };
        self.asked = None;
        self.answered = Some(Instant::now());
        match answer {
            Ok(topic) => {
                self.doubt = !self.asked_in_doubt;
                self.topic = Some(topic);
                true
            }
            Err(error) => {
                tracing::debug!(error, "the brokers do not describe the topic");
                self.doubt = true;
                false
            }
        }
    }

    /// The last good answer.
    pub fn topic(&self) -> Option<&Topic> {
        self.topic.as_ref()
    }

    /// Whether a partition is known to have a leader now: without one nobody can tell whether it has more to read.
    pub fn has_leader(&self, partition: i32) -> bool {
        let topic = self.topic.as_ref().filter(|_| !self.doubt);
        topic.is_some_and(|topic| topic.partitions.get(&partition) == Some(&true))
    }
}
