//! Reminds a client of its bootstrap servers.
//!
//! A broker that is fenced for a moment, because its controller has not heard of it, tells of topics and names no brokers. Then librdkafka
//! since 2.10 forgets all brokers, the bootstrap servers too, and if another answer comes while it begins anew, it never connects again
//! (its issue 5301). No setting prevents that, and it cannot be told from brokers that are down.

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::config::ClientConfig;
use rdkafka_sys as sys;
use std::ffi::CString;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long brokers may leave questions unanswered. The pause between two reminders doubles from there.
const SILENCE: Duration = Duration::from_secs(10);
/// The longest pause. The client keeps each reminder as long as it lives: a day's outage costs some 20 KB.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What one client was told at first.
#[derive(Debug)]
pub struct Bootstrap {
    servers: CString,
    silence: Duration,
    /// `None` while brokers answer.
    silent: Mutex<Option<Silent>>,
}

#[derive(Clone, Copy, Debug)]
struct Silent {
    since: Instant,
    reminded: Instant,
    pause: Duration,
}

impl Bootstrap {
    /// Those of a client with these settings.
    pub fn of(config: &ClientConfig) -> Bootstrap {
        // The client itself refuses a text that is no C string.
        let servers = CString::new(config.get("bootstrap.servers").unwrap_or_default()).unwrap_or_default();
        Bootstrap { servers, silence: SILENCE, silent: Mutex::new(None) }
    }

    /// A broker has answered.
    pub fn answered(&self) {
        *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A broker should have answered by now and has not. If that is so again and again, the client is told the addresses again, and it
    /// is handed back for how long it has been so.
    #[expect(unsafe_code, reason = "the safe client has no such call")]
    pub fn unanswered<C: ClientContext>(&self, client: &Client<C>) -> Option<Duration> {
        let silent_for = self.due()?;
        // SAFETY: the client is alive, and copies the text before the call returns.
        unsafe { sys::rd_kafka_brokers_add(client.native_ptr(), self.servers.as_ptr()) };
        Some(silent_for)
    }

    /// Since when it has been silent, if that is to be done something about.
    fn due(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = silent.get_or_insert(Silent { since: now, reminded: now, pause: self.silence });
        if now - silent.reminded < silent.pause {
            return None;
        }
        (silent.reminded, silent.pause) = (now, LONGEST_PAUSE.min(silent.pause * 2));
        Some(now - silent.since)
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
        let answers = || producer.client().fetch_metadata(None, Duration::from_secs(1)).is_ok();
        let bootstrap = Bootstrap { silence: Duration::from_secs(1), ..Bootstrap::of(&settings) };
        let silence = || std::thread::sleep(Duration::from_millis(1_100));
        assert_eq!(bootstrap.unanswered(producer.client()), None);
        silence();
        bootstrap.answered();
        assert_eq!(bootstrap.unanswered(producer.client()), None, "brokers answered meanwhile");
        assert!(!answers());
        silence();
        assert!(bootstrap.unanswered(producer.client()) >= Some(bootstrap.silence));
        silence();
        assert_eq!(bootstrap.unanswered(producer.client()), None, "the second pause is twice as long");
        assert!((0..10).any(|_| answers()));
    }
}
