//! The consumer group's offsets, for tools that show lag. Nothing here reads them back: what counts is in the store.
//!
//! A thread of its own commits the newest offsets, once a second. It never holds up the commit of rows, and what goes wrong
//! is only logged.

use super::Context;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemark_settings::kafka::remedy;

/// The pause between two commits.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the last commit is waited for at the end.
const LAST: Duration = Duration::from_secs(2);

/// Commits the group's offsets.
pub struct Group {
    /// The newest offset of each partition that is not committed yet: never more entries than partitions.
    newest: Arc<Mutex<BTreeMap<i32, i64>>>,
    /// Dropped, it ends the thread, which waits for nothing else.
    running: Option<Sender<Infallible>>,
    /// Disconnected when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

impl Group {
    /// Starts the thread.
    pub fn start(consumer: Arc<BaseConsumer<Context>>, topic: String) -> std::io::Result<Group> {
        let newest = Arc::new(Mutex::new(BTreeMap::new()));
        let (running, runs) = channel();
        let (ending, ended) = sync_channel(1);
        let of_thread = Arc::clone(&newest);
        let run = move || {
            let _ending = ending;
            commit_until_the_end(&consumer, &topic, &of_thread, &runs);
        };
        std::thread::Builder::new().name("group-offsets".to_owned()).spawn(run)?;
        Ok(Group { newest, running: Some(running), ended: Mutex::new(ended) })
    }

    /// These records are in the store, up to these offsets (exclusive).
    pub fn committed(&self, next_offsets: &[(i32, i64)]) {
        self.newest.lock().expect("nobody panics while holding the offsets").extend(next_offsets.iter().copied());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Ok(ended) = self.ended.get_mut() {
            // Disconnected, or out of time: in both cases it is over.
            let _ = ended.recv_timeout(LAST);
        }
    }
}

fn commit_until_the_end(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    newest: &Mutex<BTreeMap<i32, i64>>,
    running: &Receiver<Infallible>,
) {
    let mut told = None;
    loop {
        let end = running.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected);
        // The client's own affairs: its errors are told on the way.
        let _ = consumer.poll(Duration::ZERO);
        let offsets = std::mem::take(&mut *newest.lock().expect("nobody panics while holding the offsets"));
        if !offsets.is_empty() {
            let failed = commit(consumer, topic, &offsets).err().map(|error| error.to_string());
            if let Some(error) = failed.as_ref().filter(|_| failed != told) {
                tracing::warn!(
                    error,
                    advice = remedy(error).map(|remedy| remedy.advice),
                    "the consumer group's offsets, which only lag tools read, are not committed"
                );
            }
            told = failed;
        }
        if end {
            return;
        }
    }
}

fn commit(consumer: &BaseConsumer<Context>, topic: &str, offsets: &BTreeMap<i32, i64>) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    offsets.iter().try_for_each(|(&partition, &next)| list.add_partition_offset(topic, partition, Offset::Offset(next)))?;
    consumer.commit(&list, CommitMode::Sync)
}
