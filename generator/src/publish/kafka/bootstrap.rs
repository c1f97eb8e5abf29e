//! Reminds a client of its bootstrap servers.
//!
//! A broker that is fenced for a moment, because its controller has not heard of it, tells of topics and names no brokers. Then librdkafka
//! 2.10 to 2.13 forgets all brokers, the bootstrap servers too, and if another answer comes while it begins anew, it never connects again
//! (its issue 5301). No setting prevents that, and it cannot be told from brokers that are down.

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::config::ClientConfig;
use rdkafka_sys as sys;
use std::ffi::CString;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long brokers may be silent, and the pause between two reminders. While they are down the client keeps each, so a day's outage costs
/// half a megabyte.
const SILENCE: Duration = Duration::from_secs(10);

/// What one client was told at first.
#[derive(Debug)]
pub struct Bootstrap {
    servers: CString,
    silence: Duration,
    /// When brokers were last heard, or their addresses given.
    heard: Mutex<Instant>,
}

impl Bootstrap {
    /// Those of a client with these settings.
    pub fn of(config: &ClientConfig) -> Bootstrap {
        // The client itself refuses a text that is no C string.
        let servers = CString::new(config.get("bootstrap.servers").unwrap_or_default()).unwrap_or_default();
        Bootstrap { servers, silence: SILENCE, heard: Mutex::new(Instant::now()) }
    }

    /// A broker has answered.
    pub fn answered(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// A broker should have answered by now and has not. If that has been so for a while, the client is told the addresses again, and it
    /// is answered for how long.
    #[expect(unsafe_code, reason = "the safe client has no such call")]
    pub fn unanswered<C: ClientContext>(&self, client: &Client<C>) -> Option<Duration> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = heard.elapsed();
        if silent < self.silence {
            return None;
        }
        *heard = Instant::now();
        // SAFETY: the client is alive, and copies the text before the call returns.
        unsafe { sys::rd_kafka_brokers_add(client.native_ptr(), self.servers.as_ptr()) };
        Some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};

    #[test]
    fn a_client_that_reaches_nobody_is_reminded_after_a_while_and_comes_back() {
        let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
        let (mut settings, mut nowhere) = (ClientConfig::new(), ClientConfig::new());
        settings.set("bootstrap.servers", cluster.bootstrap_servers());
        nowhere.set("bootstrap.servers", "127.0.0.1:1");
        let producer: BaseProducer = nowhere.create().unwrap();
        let answers = || (0..5).any(|_| producer.client().fetch_metadata(None, Duration::from_secs(1)).is_ok());
        let bootstrap = Bootstrap::of(&settings);
        assert_eq!(bootstrap.unanswered(producer.client()), None);
        assert!(!answers());

        let bootstrap = Bootstrap { silence: Duration::from_millis(100), ..bootstrap };
        std::thread::sleep(Duration::from_millis(200));
        bootstrap.answered();
        assert_eq!(bootstrap.unanswered(producer.client()), None);
        std::thread::sleep(Duration::from_millis(200));
        assert!(bootstrap.unanswered(producer.client()) > Some(bootstrap.silence));
        assert_eq!(bootstrap.unanswered(producer.client()), None, "not again at once");
        assert!(answers());
    }
}
