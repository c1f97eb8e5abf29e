//! What the leaders of the partitions say of their ends.
//!
//! librdkafka remembers the end that the last fetch told, and does not say how old that is: after a pause, or while a leader is out of
//! reach, it says nothing about now. So the leader of each partition that delivers nothing is asked, and its answer is dated by the
//! moment in which the question was sent. The same answers tell whether the leaders answer at all.
//!
//! A limit of this evidence: a leader that was deposed while it and this program were cut off together from the other brokers does not
//! know it, and confirms an end that is the end no longer. That lasts until it hears of its successor.

use super::Context;
use super::admin::{Answer, Answers, text};
use crate::source::Asked;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;
use rdkafka_sys as sys;
use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::time::{Duration, Instant};
use tidemark_settings::kafka::{Remedy, remedy};

/// How often a leader is asked.
const EVERY: Duration = Duration::from_millis(500);
/// How long a leader may take to answer. Until then it is not asked again, so there is at most one open question for each.
const PATIENCE_MS: i32 = 3_000;
/// After this long without an answer or a record, a partition's leader counts as out of reach.
const OUT_OF_REACH: Duration = Duration::from_secs(5);
/// Between two turns of the worker at most this much counts as waiting: a process that stood still did not wait for anybody.
const MOST_PER_TURN: Duration = Duration::from_secs(1);
/// Partitions that a message names.
const MOST_NAMED: usize = 8;

/// A partition whose leader is asked when it delivers nothing.
pub struct Partition {
    /// Its number.
    pub partition: i32,
    /// Its leader, as far as is known.
    pub leader: Option<i32>,
}

/// Asks the leaders, and keeps what they answered.
pub struct Ends {
    answers: Answers,
    topic: CString,
    /// Open questions, each with a number of its own.
    questions: BTreeMap<usize, Question>,
    numbers: usize,
    /// When each leader was last asked.
    asked: BTreeMap<Option<i32>, Instant>,
    ends: BTreeMap<i32, End>,
    last_turn: Instant,
}

struct Question {
    leader: Option<i32>,
    asked: Asked,
}

#[derive(Default)]
struct End {
    /// The end, and when the question was sent that it answers.
    known: Option<(i64, Asked)>,
    /// How long neither an answer nor a record has come.
    silent: Duration,
    /// Why there was no answer.
    error: Option<String>,
}

impl Ends {
    /// Asks through this client, which outlives it.
    pub fn new(consumer: &BaseConsumer<Context>, topic: CString) -> Ends {
        let last_turn = Instant::now();
        let (questions, asked, ends) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ends { answers: Answers::new(consumer), topic, questions, numbers: 0, asked, ends, last_turn }
    }

    /// Takes the answers that have come, and asks about partitions that deliver nothing at the moment.
    pub fn turn(&mut self, consumer: &BaseConsumer<Context>, now: Asked, quiet: &[Partition]) {
        let waited = self.last_turn.elapsed().min(MOST_PER_TURN);
        self.last_turn = Instant::now();
        for &Partition { partition, .. } in quiet {
            self.ends.entry(partition).or_default().silent += waited;
        }
        while let Some(answer) = self.answers.next(Duration::ZERO) {
            self.take(&answer);
        }
        let mut by_leader: BTreeMap<Option<i32>, Vec<i32>> = BTreeMap::new();
        for &Partition { partition, leader } in quiet {
            by_leader.entry(leader).or_default().push(partition);
        }
        for (leader, partitions) in by_leader {
            let open = self.questions.values().any(|question| question.leader == leader);
            let due = self.asked.get(&leader).is_none_or(|asked| asked.elapsed() >= EVERY);
            if !open && due {
                self.asked.insert(leader, Instant::now());
                self.ask(consumer, Question { leader, asked: now }, &partitions);
            }
        }
    }

    /// A record of the partition has come.
    pub fn delivered(&mut self, partition: i32) {
        let end = self.ends.entry(partition).or_default();
        (end.silent, end.error) = (Duration::ZERO, None);
    }

    /// The end of a partition as its leader told it, and when it was asked.
    pub fn known(&self, partition: i32) -> Option<(i64, Asked)> {
        self.ends.get(&partition)?.known
    }

    /// Whose leaders do not answer.
    pub fn trouble(&self) -> Option<String> {
        let silent: Vec<_> = self.ends.iter().filter(|(_, end)| end.silent >= OUT_OF_REACH).collect();
        let longest = silent.iter().map(|(_, end)| end.silent).max()?;
        let mut named: Vec<String> = silent.iter().take(MOST_NAMED).map(|(partition, _)| partition.to_string()).collect();
        if silent.len() > MOST_NAMED {
            named.push(format!("{} more", silent.len() - MOST_NAMED));
        }
        let error = silent.iter().find_map(|(_, end)| end.error.as_deref()).unwrap_or("no answer");
        let (topic, seconds) = (self.topic.to_string_lossy(), longest.as_secs());
        let named = named.join(", ");
        Some(match remedy(error) {
            Some(Remedy { advice, .. }) => {
                format!("Kafka refuses topic {topic} partition {named} to this program: {error}; {advice}")
            }
            None => format!("Kafka: the leader of topic {topic} partition {named} is silent for {seconds} s: {error}"),
        })
    }

    fn ask(&mut self, consumer: &BaseConsumer<Context>, question: Question, partitions: &[i32]) {
        self.numbers += 1;
        let client = consumer.client().native_ptr();
        let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
        // SAFETY: client, queue and name are alive; librdkafka copies the list and the options before the call returns, and what was
        // made here is destroyed once. The opaque value is a number that is never used as a pointer.
        unsafe {
            let list = sys::rd_kafka_topic_partition_list_new(count);
            for &partition in partitions {
                let added = sys::rd_kafka_topic_partition_list_add(list, self.topic.as_ptr(), partition);
                (*added).offset = sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64;
            }
            let options = sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS);
            // The values are within the allowed ranges, so there is no error to be read. Uncommitted: the end of the log itself, not
            // the beginning of an open transaction.
            let (none, no_room) = (std::ptr::null_mut(), 0);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, PATIENCE_MS, none, no_room);
            let error = sys::rd_kafka_AdminOptions_set_isolation_level(
                options,
                sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
            );
            if !error.is_null() {
                sys::rd_kafka_error_destroy(error);
            }
            sys::rd_kafka_AdminOptions_set_opaque(options, std::ptr::without_provenance_mut::<c_void>(self.numbers));
            sys::rd_kafka_ListOffsets(client, list, options, self.answers.raw());
            sys::rd_kafka_AdminOptions_destroy(options);
            sys::rd_kafka_topic_partition_list_destroy(list);
        }
        self.questions.insert(self.numbers, question);
    }

    fn take(&mut self, answer: &Answer) {
        // SAFETY: the event is alive; the value is the number that the question was given.
        let number = unsafe { sys::rd_kafka_event_opaque(answer.raw()) }.addr();
        let Some(Question { asked, .. }) = self.questions.remove(&number) else { return };
        if let Some(error) = answer.error() {
            // It does not say which partition it is about.
            self.ends.values_mut().filter(|end| !end.silent.is_zero()).for_each(|end| end.error = Some(error.clone()));
            return;
        }
        // SAFETY: the event is alive until `answer` is dropped, and with it the result and all that it lends. None of it is kept.
        unsafe {
            let result = sys::rd_kafka_event_ListOffsets_result(answer.raw());
            if result.is_null() {
                return;
            }
            let mut count = 0;
            let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
            let infos = if count == 0 { &[] } else { std::slice::from_raw_parts(infos, count) };
            for &info in infos {
                let told = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
                let end = self.ends.entry(told.partition).or_default();
                if told.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && told.offset >= 0 {
                    *end = End { known: Some((told.offset, asked)), ..End::default() };
                } else {
                    let fault = told.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
                    end.error =
                        Some(if fault { text(sys::rd_kafka_err2str(told.err)) } else { "its answer has no end".to_owned() });
                }
            }
        }
    }
}
