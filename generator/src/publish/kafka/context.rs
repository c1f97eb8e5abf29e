//! What librdkafka calls back: delivery reports, errors, log lines.

use super::token::oauth_token;
use crate::publish::Tally;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemark_settings::kafka::{MSK_IAM, Properties};

/// Counts deliveries and keeps the last trouble.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    delivered: AtomicU64,
    failures: Mutex<BTreeMap<String, u64>>,
    trouble: Mutex<Option<String>>,
    /// Their secrets are cut out of librdkafka's words.
    properties: Properties,
}

impl Deliveries {
    /// For a client with these properties of the user's.
    pub(super) fn new(properties: Properties) -> Deliveries {
        Deliveries { properties, ..Deliveries::default() }
    }

    /// What became of the records that have a report.
    pub(super) fn tally(&self) -> Tally {
        Tally { delivered: self.delivered(), failures: lock(&self.failures).clone() }
    }

    /// How many records were delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// The last error that was not taken.
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// The last error, which is then forgotten.
    pub(super) fn take_trouble(&self) -> Option<String> {
        lock(&self.trouble).take()
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = MSK_IAM;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        oauth_token(&self.properties)
    }

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", "{facility} {}", self.properties.redact(message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = self.properties.redact(reason);
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
        let text = if reason.is_empty() { error.to_string() } else { reason };
        let mut trouble = lock(&self.trouble);
        // That all brokers are down says less than why one of them is.
        if trouble.is_none() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *trouble = Some(text);
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => drop(self.delivered.fetch_add(1, Ordering::Relaxed)),
            Err((error, _)) => {
                let reason = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
                *lock(&self.failures).entry(reason).or_default() += 1;
            }
        }
    }
}

/// Counts stay right even if a thread died while it held them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
