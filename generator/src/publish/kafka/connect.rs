//! The way to a topic: wait for brokers, look whether it exists, create it if asked to.

use super::bootstrap::Bootstrap;
use super::context::Deliveries;
use super::probe::explain;
use super::token::give_token;
use super::{KafkaOptions, LOOK, Notices, refusal};
use crate::publish::PublishError;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};
use tidemark_settings::kafka::{Remedy, remedy};
use tidemark_settings::log::KafkaTopic;

/// One question to the brokers takes at most this long.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// First and longest pause between questions.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Events of the client that are served before an error is judged: with KAFKA__DEBUG there are many log lines among them.
const MOST_EVENTS: usize = 1_000;
/// Creating a topic takes at most this long.
const CREATE_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes sure that the topic exists, and waits until it does if it is created here.
pub(super) fn ensure_topic(
    producer: &BaseProducer<Deliveries>,
    bootstrap: &Bootstrap,
    config: &ClientConfig,
    kafka: &KafkaTopic,
    options: &KafkaOptions,
) -> Result<(), PublishError> {
    if ask_until(producer, bootstrap, config, kafka, options, |topic| topic != Topic::Unsettled)? == Topic::Exists {
        return Ok(());
    }
    let Some(partitions) = options.create_with_partitions else {
        return Err(PublishError::NoTopic { topic: kafka.topic.clone(), bootstrap: kafka.bootstrap.clone() });
    };
    create(config, kafka, partitions, &options.stop)?;
    tracing::info!("created Kafka topic {} with {partitions} partitions", kafka.topic);
    ask_until(producer, bootstrap, config, kafka, options, |topic| topic == Topic::Exists).map(drop)
}

/// What the brokers say of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    Exists,
    Missing,
    /// A partition has no leader yet, or the cluster is still coming up.
    Unsettled,
}

/// Asks with backoff until the answer will do. Says every few seconds what it waits for.
fn ask_until(
    producer: &BaseProducer<Deliveries>,
    bootstrap: &Bootstrap,
    config: &ClientConfig,
    kafka: &KafkaTopic,
    options: &KafkaOptions,
    will_do: impl Fn(Topic) -> bool,
) -> Result<Topic, PublishError> {
    let (started, mut backoff, mut notices) = (Instant::now(), BACKOFF.0, Notices::default());
    loop {
        let why = match ask(producer, kafka)? {
            Ok(topic) => {
                bootstrap.answered();
                if will_do(topic) {
                    return Ok(topic);
                }
                format!("topic {} is {topic:?}", kafka.topic).to_lowercase()
            }
            Err(why) => {
                bootstrap.unanswered(producer.client());
                let why = explain(&why, config);
                if let Some(Remedy { advice, lasting: true }) = remedy(&why) {
                    return Err(PublishError::Refused { bootstrap: kafka.bootstrap.clone(), why, advice });
                }
                why
            }
        };
        if options.stop.load(Ordering::Relaxed) {
            return Err(PublishError::Stopped(kafka.bootstrap.clone()));
        }
        if started.elapsed() >= options.wait {
            let advice = remedy(&why).map_or("start it, or correct KAFKA_BOOTSTRAP (or BOOTSTRAP)", |remedy| remedy.advice);
            return Err(PublishError::Unreachable { bootstrap: kafka.bootstrap.clone(), waited: options.wait, why, advice });
        }
        if notices.due() {
            let left = options.wait.saturating_sub(started.elapsed()).as_secs();
            let advice = remedy(&why).map_or(String::new(), |remedy| format!("; {}", remedy.advice));
            tracing::warn!("waiting for Kafka at {}, for {left} s more: {why}{advice}", kafka.bootstrap);
        }
        producer.poll(backoff.min(options.wait.saturating_sub(started.elapsed())));
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

/// One question. The inner error is worth another try.
fn ask(producer: &BaseProducer<Deliveries>, kafka: &KafkaTopic) -> Result<Result<Topic, String>, PublishError> {
    let metadata = match producer.client().fetch_metadata(Some(&kafka.topic), ASK_TIMEOUT) {
        Ok(metadata) => metadata,
        Err(error) => {
            // Serves the error callbacks, which know more than "timed out".
            (0..MOST_EVENTS).for_each(|_| producer.poll(Duration::ZERO));
            return Ok(Err(producer.context().trouble().unwrap_or_else(|| error.to_string())));
        }
    };
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == kafka.topic) else {
        return Ok(Ok(Topic::Missing));
    };
    match topic.error().map(RDKafkaErrorCode::from) {
        None if topic.partitions().is_empty() => Ok(Ok(Topic::Unsettled)),
        None => Ok(Ok(Topic::Exists)),
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(Ok(Topic::Missing)),
        Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(Ok(Topic::Unsettled)),
        Some(code) => Err(refusal(kafka, "look up the topic", code.to_string())),
    }
}

fn create(config: &ClientConfig, kafka: &KafkaTopic, partitions: i32, stop: &AtomicBool) -> Result<(), PublishError> {
    let failed = |why: String| refusal(kafka, "create the topic", why);
    // It cuts secrets out of librdkafka's words too.
    let context = Deliveries::new(kafka.properties.clone());
    let admin = AdminClient::from_config_and_context(config, context).map_err(|error| failed(error.to_string()))?;
    // Nobody polls the events of this client, in which it would ask for a token.
    give_token(admin.inner(), &kafka.properties).map_err(failed)?;
    // −1: as many replicas as the brokers make by default.
    let topic = NewTopic::new(&kafka.topic, partitions, TopicReplication::Fixed(-1));
    let options = AdminOptions::new().request_timeout(Some(CREATE_TIMEOUT)).operation_timeout(Some(CREATE_TIMEOUT));
    let Some(results) = block_on(admin.create_topics([&topic], &options), stop) else {
        return Err(PublishError::Stopped(kafka.bootstrap.clone()));
    };
    let results = results.map_err(|error| failed(error.to_string()))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => (),
            Err((_, code)) => return Err(failed(code.to_string())),
        }
    }
    Ok(())
}

/// Runs one future on this thread: a single call of the admin client needs no runtime. None if it was asked to stop meanwhile.
fn block_on<F: Future>(future: F, stop: &AtomicBool) -> Option<F::Output> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return Some(output),
            Poll::Pending if stop.load(Ordering::Relaxed) => return None,
            Poll::Pending => std::thread::park_timeout(LOOK),
        }
    }
}
