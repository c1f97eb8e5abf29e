//! The Kafka producer: idempotent, all replicas acknowledge, and every delivery is counted.
//!
//! librdkafka's queue is the only buffer. While it is full, `publish` waits, for a bounded time; librdkafka's own log lines go
//! to the debug level, and what they mean is said once every few seconds.

pub(super) mod bootstrap;
mod connect;
mod context;
#[cfg(feature = "msk-iam")]
mod msk_iam;
pub(super) mod probe;
pub(super) mod token;

use super::{PublishError, Publisher, Record, Tally};
use bootstrap::Bootstrap;
use context::Deliveries;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tidemark_settings::kafka::fault;
use tidemark_settings::log::KafkaTopic;

/// How the topic is reached.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// How long to wait for brokers that are not up yet.
    pub wait: Duration,
    /// The number of partitions with which to create the topic if it does not exist; absent: do not create it.
    pub create_with_partitions: Option<i32>,
    /// Set when the program is asked to stop: ends all waiting.
    pub stop: Arc<AtomicBool>,
}

/// Producer of one topic.
pub struct KafkaPublisher {
    producer: BaseProducer<Deliveries>,
    kafka: KafkaTopic,
    bootstrap: Bootstrap,
    /// Records that were delivered when it was last looked.
    delivered: u64,
    stop: Arc<AtomicBool>,
    /// Records that never came to a delivery report.
    refused: Tally,
    notices: Notices,
}

/// librdkafka gives a record up after this long.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(120);
/// A full queue that takes nothing for longer than this is an error: by then records must have been given up.
const FULL_QUEUE_TIMEOUT: Duration = Duration::from_secs(150);
/// How long the end of a run waits for outstanding deliveries, and how long if it was asked to stop.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);
const FINISH_AT_STOP: Duration = Duration::from_secs(10);
/// How long a full queue holds up a run that was asked to stop.
const FULL_QUEUE_AT_STOP: Duration = Duration::from_secs(1);
/// How often the end of a run looks whether it was asked to stop.
const LOOK: Duration = Duration::from_millis(500);
/// Between two notices of the same trouble.
const NOTICE_EVERY: Duration = Duration::from_secs(5);

impl KafkaPublisher {
    /// Connects, waiting for brokers that are not up yet, and makes sure that the topic exists.
    pub fn open(kafka: &KafkaTopic, options: &KafkaOptions) -> Result<KafkaPublisher, PublishError> {
        let config = client_config(kafka);
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(Deliveries::new(kafka.properties.clone()))
            .map_err(|error| refused_config(kafka, error))?;
        // If there is none, the client asks for it and tells why.
        let _ = token::give_token(producer.client(), &kafka.properties);
        let bootstrap = Bootstrap::of(&config);
        connect::ensure_topic(&producer, &bootstrap, &config, kafka, options)?;
        // What delayed the connection is over.
        drop(producer.context().take_trouble());
        Ok(KafkaPublisher {
            producer,
            kafka: kafka.clone(),
            bootstrap,
            delivered: 0,
            stop: Arc::clone(&options.stop),
            refused: Tally::default(),
            notices: Notices::default(),
        })
    }

    /// Takes all reports that are there: one call takes one, which may tell of many records.
    fn take_reports(&self) {
        let mut left = i32::MAX;
        while self.producer.in_flight_count() < left {
            left = self.producer.in_flight_count();
            self.producer.poll(Duration::ZERO);
        }
    }

    /// Says at most every few seconds what librdkafka last complained of, and reminds it of the brokers if records wait and none of them
    /// is delivered.
    fn look_after(&mut self) {
        let delivered = self.producer.context().delivered();
        if delivered > self.delivered || self.producer.in_flight_count() == 0 {
            self.delivered = delivered;
            self.bootstrap.answered();
        } else {
            self.bootstrap.unanswered(self.producer.client());
        }
        if let Some(trouble) = self.producer.context().take_trouble()
            && self.notices.due()
        {
            let (bootstrap, waiting) = (&self.kafka.bootstrap, self.producer.in_flight_count());
            tracing::warn!("Kafka at {bootstrap}: {trouble}; still trying, {waiting} records are waiting");
        }
    }

    /// One try; whether the queue had room.
    fn try_publish(&mut self, record: Record<'_>) -> Result<bool, PublishError> {
        let mut message = BaseRecord::<[u8], [u8]>::to(&self.kafka.topic).payload(record.payload);
        message.key = record.key;
        message.partition = record.partition;
        message.timestamp = record.time.map(|time| time.0 / 1_000);
        match self.producer.send(message) {
            Ok(()) => Ok(true),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
            Err((KafkaError::MessageProduction(code @ RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                self.refused.fail(&code.to_string(), 1);
                Ok(true)
            }
            Err((error, _)) => Err(refusal(&self.kafka, "publish", error.to_string())),
        }
    }
}

impl Publisher for KafkaPublisher {
    fn publish(&mut self, record: Record<'_>) -> Result<(), PublishError> {
        // The clock is read only if the queue is full: at high rates reading it is a twentieth of the generator's work.
        let mut full_since = None;
        while !self.try_publish(record)? {
            let started = *full_since.get_or_insert_with(Instant::now);
            if self.stop.load(Ordering::Relaxed) && started.elapsed() > FULL_QUEUE_AT_STOP {
                self.refused.fail("stopped while the queue was full", 1);
                return Ok(());
            }
            if started.elapsed() > FULL_QUEUE_TIMEOUT {
                let why = format!("the queue has been full for {FULL_QUEUE_TIMEOUT:?} and no broker takes records");
                return Err(refusal(&self.kafka, "publish", why));
            }
            self.producer.poll(Duration::from_millis(10));
            self.look_after();
        }
        Ok(())
    }

    fn serve(&mut self, at_least: Duration) -> Result<(), PublishError> {
        // The client waits in whole milliseconds, and keeps a core busy for what is left of one.
        std::thread::sleep(at_least);
        self.take_reports();
        self.look_after();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), PublishError> {
        let started = Instant::now();
        let patience = loop {
            let patience = if self.stop.load(Ordering::Relaxed) { FINISH_AT_STOP } else { FINISH_TIMEOUT };
            let left = patience.saturating_sub(started.elapsed());
            match self.producer.flush(left.min(LOOK)) {
                Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) if !left.is_zero() => self.look_after(),
                Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => break patience,
                result => {
                    result.map_err(|error| refusal(&self.kafka, "flush", error.to_string()))?;
                    break patience;
                }
            }
        };
        // What came in the midst of it.
        self.take_reports();
        let outstanding = u64::try_from(self.producer.in_flight_count()).unwrap_or(0);
        if outstanding > 0 {
            self.refused.fail(&format!("not acknowledged within {patience:?} of the end"), outstanding);
        }
        Ok(())
    }

    fn tally(&self) -> Tally {
        let mut tally = self.producer.context().tally();
        for (reason, records) in &self.refused.failures {
            tally.fail(reason, *records);
        }
        tally
    }
}

/// Lets a notice through every few seconds.
#[derive(Debug, Default)]
struct Notices {
    last: Option<Instant>,
}

impl Notices {
    fn due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= NOTICE_EVERY);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}

/// Every option says why; the user's properties win, and those on which a promise rests were refused when they were read.
fn client_config(kafka: &KafkaTopic) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.bootstrap)
        .set("client.id", "tidemark-generator")
        // No duplicates and no reordering by retries: what we count as delivered is in the log once and in order.
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Small batches wait a little for company and no longer.
        .set("linger.ms", "5")
        .set("compression.type", "none")
        // The same partition for a key as Java's clients choose.
        .set("partitioner", "murmur2_random")
        // A mistyped topic is an error and not a new topic.
        .set("allow.auto.create.topics", "false")
        .set("message.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string())
        // After an outage, come back within seconds.
        .set("reconnect.backoff.max.ms", "2000")
        // Azure asks for it. How soon an idle connection is probed is the system's setting.
        .set("socket.keepalive.enable", "true");
    for (name, value) in kafka.properties.iter() {
        config.set(name, value);
    }
    config
}

fn refused_config(kafka: &KafkaTopic, error: KafkaError) -> PublishError {
    match error {
        KafkaError::ClientConfig(_, said, name, _) => PublishError::Property { name, why: fault(&said) },
        KafkaError::ClientCreation(said) => match kafka.properties.no_client(&said) {
            Some(setting) => setting.into(),
            None => refusal(kafka, "create a client", kafka.properties.redact(&said)),
        },
        other => refusal(kafka, "create a client", kafka.properties.redact(&other.to_string())),
    }
}

fn refusal(kafka: &KafkaTopic, action: &'static str, why: String) -> PublishError {
    PublishError::Kafka { topic: kafka.topic.clone(), bootstrap: kafka.bootstrap.clone(), action, why }
}

#[cfg(test)]
mod tests;
