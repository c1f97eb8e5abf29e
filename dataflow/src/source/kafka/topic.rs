//! What the brokers say of the topic: its id, its partitions, and their leaders.
//!
//! Asked through librdkafka's admin call, because only that tells the id, by which a topic differs from one of the same name that was
//! made after it was deleted; and because it does not wait: the worker asks in one turn and reads the answer in another.

use super::Context;
use super::admin::{Answer, Answers, text};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka_sys as sys;
use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
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
    /// Its partitions, and the broker that leads each, if one does.
    pub partitions: BTreeMap<i32, Option<i32>>,
}

/// Asks, and hears the answer. To be dropped before the client that it asks through.
pub struct Asker {
    answers: Answers,
    name: CString,
}

impl Asker {
    /// Asks through this client, which outlives it.
    pub fn new(consumer: &BaseConsumer<Context>, name: CString) -> Asker {
        Asker { answers: Answers::new(consumer), name }
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
            sys::rd_kafka_DescribeTopics(client, topics, options, self.answers.raw());
            sys::rd_kafka_AdminOptions_destroy(options);
            sys::rd_kafka_TopicCollection_destroy(topics);
        }
    }

    /// The answer, if it comes within this time to the client that asked.
    pub fn answer(&self, consumer: &BaseConsumer<Context>, wait: Duration) -> Option<Result<Topic, String>> {
        let answer = self.answers.next(wait);
        let bootstrap = &consumer.context().bootstrap;
        match &answer {
            Some(answer) if answer.error().is_none() => bootstrap.answered(),
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
        answer.map(|answer| read(&answer))
    }
}

fn read(answer: &Answer) -> Result<Topic, String> {
    if let Some(error) = answer.error() {
        return Err(error);
    }
    // SAFETY: the event is alive as long as `answer`, and with it all that it lends: the text of an error, the descriptions, their
    // partitions, and the text of an id. None of them is kept.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(answer.raw());
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
            let leader = sys::rd_kafka_TopicPartitionInfo_leader(info);
            let leader = (!leader.is_null()).then(|| sys::rd_kafka_Node_id(leader));
            (sys::rd_kafka_TopicPartitionInfo_partition(info), leader)
        };
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let none = sys::rd_kafka_Uuid_most_significant_bits(id) == 0 && sys::rd_kafka_Uuid_least_significant_bits(id) == 0;
        Ok(Topic {
            id: (!none).then(|| text(sys::rd_kafka_Uuid_base64str(id))),
            partitions: infos.iter().map(partition).collect(),
        })
    }
}

/// Keeps asking, more often while something is wrong.
pub struct Watch {
    asker: Asker,
    /// Whether a question is open.
    open: bool,
    /// When the last answer came, good or bad.
    answered: Option<Instant>,
    /// The last good answer.
    topic: Option<Topic>,
    /// A connection has failed since the last good answer, or there was none.
    doubt: bool,
}

impl Watch {
    /// Asks at once.
    pub fn new(asker: Asker) -> Watch {
        Watch { asker, open: false, answered: None, topic: None, doubt: true }
    }

    /// Asks when it is time, and takes an answer that has come: true if it is a good one. `trouble`: a connection has failed.
    pub fn turn(&mut self, consumer: &BaseConsumer<Context>, trouble: bool) -> bool {
        self.doubt |= trouble;
        if !self.open {
            let pause = if self.doubt { IN_DOUBT } else { EVERY };
            if self.answered.is_none_or(|answered| answered.elapsed() >= pause) {
                self.asker.ask(consumer);
                self.open = true;
            }
            return false;
        }
        let Some(answer) = self.asker.answer(consumer, Duration::ZERO) else { return false };
        self.open = false;
        self.answered = Some(Instant::now());
        match answer {
            Ok(topic) => {
                self.doubt = false;
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

    /// The broker that leads a partition, by the last good answer.
    pub fn leader(&self, partition: i32) -> Option<i32> {
        *self.topic.as_ref()?.partitions.get(&partition)?
    }
}
