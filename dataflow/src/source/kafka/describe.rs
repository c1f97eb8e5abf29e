//! What a start must know of the topic, and whether it can be read at all: "not authorized" is told apart from "no such topic" and "no
//! answer", and a topic that is compacted is refused.

use super::admin::{Answer, Answers, text};
use super::topic::Asker;
use super::{ASK, Context, DESCRIBE, KafkaLog, log_id};
use crate::source::{Bounds, Description, SourceError};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::Metadata;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka_sys as sys;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Once;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tidemark_generator::publish::explain;
use tidemark_settings::kafka::{Remedy, remedy};

/// Events of the client that are served before an error is judged: with KAFKA__DEBUG there are many log lines among them.
const MOST_EVENTS: usize = 1_000;
/// How soon it is looked whether the brokers refuse; from then on at ever longer intervals.
const SOON: Duration = Duration::from_millis(500);

impl KafkaLog {
    /// Asks the brokers, each question for a bounded time.
    pub(super) fn describe_topic(&self) -> Result<Description, SourceError> {
        let consumer = self.consumer(0)?;
        consumer.context().asks_only.store(true, Ordering::Relaxed);
        let (name, bootstrap) = (&self.settings.topic, &self.settings.bootstrap);
        let no_answer = |error: &dyn std::fmt::Display| {
            let told = refusal(&consumer).unwrap_or_else(|| error.to_string());
            self.not_yet(&explain(&told, &self.client_config(0)))
        };
        let metadata = self.metadata(&consumer).map_err(|error| no_answer(&error))?;
        let topic = metadata.topics().first();
        match topic.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from) {
            None | Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {}
            Some(error) => return Err(self.not_yet(&error)),
        }
        let Some(topic) = topic.filter(|topic| topic.error().is_none() && !topic.partitions().is_empty()) else {
            let what = format!("Kafka at {bootstrap} has no topic {name}: create it, or set KAFKA_TOPIC");
            return Err(SourceError::NotYet(what));
        };
        let (mut partitions, until) = (BTreeMap::new(), Instant::now() + DESCRIBE);
        for partition in topic.partitions() {
            let wait = ASK.min(until.saturating_duration_since(Instant::now()));
            let bounds = consumer.fetch_watermarks(name, partition.id(), wait).map_err(|error| no_answer(&error))?;
            partitions.insert(partition.id(), Bounds { low: bounds.0, high: bounds.1 });
        }
        self.refuse_compaction(&consumer)?;
        let asker = Asker::new(&consumer, self.name()?);
        asker.ask(&consumer);
        let topic =
            asker.answer(&consumer, ASK).unwrap_or_else(|| Err("no answer".to_owned())).map_err(|error| no_answer(&error))?;
        Ok(Description { id: log_id(name, &topic), partitions })
    }

    /// A refusal by which waiting does not help cuts it short.
    fn metadata(&self, consumer: &BaseConsumer<Context>) -> KafkaResult<Metadata> {
        let started = Instant::now();
        loop {
            let wait = SOON.max(started.elapsed()).min(ASK.saturating_sub(started.elapsed()));
            let answer = consumer.fetch_metadata(Some(&self.settings.topic), wait);
            let lasting = || refusal(consumer).and_then(|told| remedy(&told)).is_some_and(|remedy| remedy.lasting);
            if answer.is_ok() || started.elapsed() >= ASK || lasting() {
                return answer;
            }
        }
    }

    /// The brokers' word for a fault, with what to do about it.
    fn not_yet(&self, error: &dyn std::fmt::Display) -> SourceError {
        let (topic, bootstrap) = (&self.settings.topic, &self.settings.bootstrap);
        let error = error.to_string();
        match remedy(&error) {
            Some(Remedy { advice, lasting: true }) => {
                SourceError::Fatal(format!("Kafka at {bootstrap} does not let this program in: {error}; {advice}"))
            }
            Some(Remedy { advice, .. }) => {
                SourceError::NotYet(format!("Kafka at {bootstrap} refuses topic {topic} to this program: {error}; {advice}"))
            }
            None => SourceError::NotYet(format!(
                "Kafka at {bootstrap} does not answer for topic {topic}: {error}; check KAFKA_BOOTSTRAP"
            )),
        }
    }

    /// A start after a failure reads records again. Of a compacted topic some of them are gone, and their rows would come out smaller.
    fn refuse_compaction(&self, consumer: &BaseConsumer<Context>) -> Result<(), SourceError> {
        static TOLD: Once = Once::new();
        let topic = &self.settings.topic;
        match cleanup_policy(consumer, &self.name()?) {
            Ok(policy) if policy.split(',').any(|word| word.trim() == "compact") => Err(SourceError::Fatal(format!(
                "topic {topic} has cleanup.policy={policy}: compaction removes records that a restart reads again, and rows would lose \
                 them; set cleanup.policy=delete"
            ))),
            Ok(_) => Ok(()),
            Err(why) => {
                TOLD.call_once(|| {
                    tracing::warn!(
                        "cannot see whether topic {topic} is compacted ({why}); if its cleanup.policy contains compact, rows are lost \
                         after a restart; to have it checked, grant DescribeConfigs on the topic"
                    );
                });
                Ok(())
            }
        }
    }
}

/// Why the brokers do not let this client in. Serves the error callback, which knows more than "timed out".
fn refusal(consumer: &BaseConsumer<Context>) -> Option<String> {
    (0..MOST_EVENTS).for_each(|_| drop(consumer.poll(Duration::ZERO)));
    consumer.context().refusal()
}

/// The topic's `cleanup.policy`, or why it is not told.
fn cleanup_policy(consumer: &BaseConsumer<Context>, topic: &CString) -> Result<String, String> {
    let client = consumer.client().native_ptr();
    let answers = Answers::new(consumer);
    // SAFETY: client, queue and topic are alive; librdkafka copies resource and options before the call returns, and what was made
    // here is destroyed once.
    unsafe {
        let mut resource =
            sys::rd_kafka_ConfigResource_new(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, topic.as_ptr());
        let options = sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
        let wait_ms = i32::try_from(ASK.as_millis()).unwrap_or(i32::MAX);
        // The value is within the allowed range, so there is no error to be read.
        sys::rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, std::ptr::null_mut(), 0);
        sys::rd_kafka_DescribeConfigs(client, &mut resource, 1, options, answers.raw());
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_ConfigResource_destroy(resource);
    }
    policy_of(&answers.next(ASK).ok_or("no answer")?)
}

fn policy_of(answer: &Answer) -> Result<String, String> {
    if let Some(error) = answer.error() {
        return Err(error);
    }
    // SAFETY: the event is alive as long as `answer`, and with it all that it lends. None of it is kept.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConfigs_result(answer.raw());
        if result.is_null() {
            return Err("the answer is none to our question".to_owned());
        }
        let mut count = 0;
        let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
        if count != 1 {
            return Err(format!("the answer is about {count} topics"));
        }
        let resource = *resources;
        let error = sys::rd_kafka_ConfigResource_error(resource);
        if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(RDKafkaErrorCode::from(error).to_string());
        }
        let entries = sys::rd_kafka_ConfigResource_configs(resource, &mut count);
        let entries = if count == 0 { &[] } else { std::slice::from_raw_parts(entries, count) };
        let policy = entries.iter().find(|&&entry| text(sys::rd_kafka_ConfigEntry_name(entry)) == "cleanup.policy");
        policy.map(|&entry| text(sys::rd_kafka_ConfigEntry_value(entry))).ok_or_else(|| "the answer does not tell it".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Log as _;
    use rdkafka::error::KafkaError;
    use rdkafka::mocking::MockCluster;
    use tidemark_settings::kafka::Properties;
    use tidemark_settings::log::KafkaTopic;

    #[test]
    fn a_topic_that_may_not_be_read_is_not_called_missing() {
        let cluster = MockCluster::new(1).expect("a cluster");
        let told = |topic: &str| {
            let (bootstrap, topic) = (cluster.bootstrap_servers(), topic.to_owned());
            match KafkaLog::new(KafkaTopic { bootstrap, topic, properties: Properties::default() }).describe() {
                Err(SourceError::NotYet(told)) => told,
                other => panic!("{other:?}"),
            }
        };
        cluster.create_topic("secret", 1, 1).expect("a topic");
        cluster.topic_error("secret", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).expect("an error");
        let refused = told("secret");
        assert!(refused.contains("refuses topic secret") && refused.contains("grant its user Read"), "{refused}");
        cluster.topic_error("secret", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).expect("an error");
        let missing = told("secret");
        assert!(missing.contains("has no topic secret: create it"), "{missing}");
    }

    #[test]
    fn a_refusal_is_told_apart_from_silence() {
        let advised =
            |told: &str, advised: &str| assert!(remedy(told).is_some_and(|remedy| remedy.advice.contains(advised)), "{told}");
        let error = |code| KafkaError::MetadataFetch(code).to_string();
        advised(&error(RDKafkaErrorCode::TopicAuthorizationFailed), "Describe on the topic");
        advised(&error(RDKafkaErrorCode::GroupAuthorizationFailed), "group");
        advised(&error(RDKafkaErrorCode::ClusterAuthorizationFailed), "cluster");
        advised(&error(RDKafkaErrorCode::SaslAuthenticationFailed), "KAFKA__SASL_PASSWORD");
        advised(&error(RDKafkaErrorCode::Authentication), "KAFKA__SASL_PASSWORD");
        advised("SASL authentication error: Authentication failed", "KAFKA__SASL_PASSWORD");
        for code in [RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::UnknownTopicOrPartition] {
            assert_eq!(remedy(&error(code)), None);
        }
    }
}
