//! The producer against librdkafka's mock cluster.

use super::*;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use tidemark_model::Micros;
use tidemark_settings::kafka::Properties;

const TOPIC: &str = "t";

fn cluster() -> (MockCluster<'static, DefaultProducerContext>, KafkaTopic) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 3, 1).unwrap();
    let kafka = topic(&cluster.bootstrap_servers());
    (cluster, kafka)
}

fn topic(bootstrap: &str) -> KafkaTopic {
    KafkaTopic { bootstrap: bootstrap.to_owned(), topic: TOPIC.to_owned(), properties: Properties::default() }
}

fn options() -> KafkaOptions {
    KafkaOptions { wait: Duration::from_secs(20), create_with_partitions: None, stop: Arc::default() }
}

/// Partition, key, payload and record time of each record.
type Seen = (i32, Option<Vec<u8>>, Vec<u8>, Option<i64>);

fn consume(bootstrap: &str, records: usize) -> Vec<Seen> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "g");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut all = TopicPartitionList::new();
    (0..3).for_each(|partition| all.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap());
    consumer.assign(&all).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut seen = Vec::new();
    while seen.len() < records && Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let key = message.key().map(<[u8]>::to_owned);
            let payload = message.payload().unwrap_or_default().to_owned();
            seen.push((message.partition(), key, payload, message.timestamp().to_millis()));
        }
    }
    seen
}

#[test]
fn records_arrive_once_keyed_and_with_their_time() {
    let (_cluster, kafka) = cluster();
    let mut publisher = KafkaPublisher::open(&kafka, &options()).unwrap();
    let config = crate::traffic::TrafficConfig { streams: crate::traffic::numbered_streams(20), ..Default::default() };
    let sent: Vec<_> = crate::traffic::Traffic::new(config).take(2_000).collect();
    for one in &sent {
        publisher
            .publish(Record {
                key: Some(one.stream.as_bytes()),
                payload: &one.payload,
                time: Some(Micros(5_000)),
                partition: None,
            })
            .unwrap();
    }
    publisher.finish().unwrap();
    assert_eq!(publisher.tally(), Tally { delivered: 2_000, failures: BTreeMap::new() });

    let seen = consume(&kafka.bootstrap, sent.len());
    assert_eq!(seen.len(), sent.len());
    assert!(seen.iter().all(|(_, _, _, time)| *time == Some(5)));
    let records: BTreeSet<_> = seen.iter().map(|(_, key, payload, _)| (key.clone().unwrap(), payload.clone())).collect();
    assert_eq!(records, sent.iter().map(|one| (one.stream.as_bytes().to_owned(), one.payload.clone())).collect());
    let places: BTreeSet<_> = seen.iter().map(|(partition, key, ..)| (key, partition)).collect();
    assert_eq!(places.len(), 20, "a stream has one partition");
}

#[test]
fn a_missing_topic_is_named() {
    let (_cluster, mut kafka) = cluster();
    kafka.topic = "nowhere".to_owned();
    let Err(error) = KafkaPublisher::open(&kafka, &options()) else { panic!("the topic does not exist") };
    let error = error.to_string();
    assert!(error.contains("nowhere") && error.contains("--create-topic"), "{error}");
}

#[test]
fn missing_brokers_are_waited_for_and_then_named() {
    let options = KafkaOptions { wait: Duration::from_millis(300), ..options() };
    let Err(error) = KafkaPublisher::open(&topic("127.0.0.1:1"), &options) else { panic!("nobody is there") };
    let error = error.to_string();
    assert!(error.contains("127.0.0.1:1") && error.contains("KAFKA_BOOTSTRAP") && error.contains("refused"), "{error}");
}

#[test]
fn a_value_that_librdkafka_does_not_take_is_told_by_its_name() {
    for (name, value, allowed) in [("linger.ms", "-5417", "0..900000"), ("compression.type", "rot13", "CONFIGURATION.md")] {
        let mut kafka = topic("127.0.0.1:1");
        kafka.properties.set_default(name, value);
        let Err(error) = KafkaPublisher::open(&kafka, &options()) else { panic!("it is not allowed") };
        let told = format!("{error} {error:?}");
        assert!(told.contains(name) && told.contains(allowed) && !told.contains(value), "{told}");
    }
}

#[test]
fn deliveries_that_fail_for_good_are_counted_with_their_reason() {
    let (cluster, mut kafka) = cluster();
    kafka.properties.set_default("message.timeout.ms", "1500");
    let mut publisher = KafkaPublisher::open(&kafka, &options()).unwrap();
    publisher.publish(Record { payload: b"before", ..Record::default() }).unwrap();
    publisher.finish().unwrap();
    cluster.broker_down(1).unwrap();
    for _ in 0..5 {
        publisher.publish(Record { key: Some(b"k"), payload: b"lost", ..Record::default() }).unwrap();
    }
    publisher.publish(Record { payload: &vec![0; 2_000_000], ..Record::default() }).unwrap();
    publisher.finish().unwrap();
    let tally = publisher.tally();
    assert_eq!((tally.delivered, tally.failed()), (1, 6), "{tally:?}");
    assert_eq!(tally.failures.len(), 2, "{tally:?}");
}
