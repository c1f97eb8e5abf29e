//! Answers of the newest epoch. Never stale: an entry belongs to a life of the tables, a commit and a minute, and nothing is
//! looked up but by the newest that is known. When the store goes back to an earlier epoch, all answers are forgotten. Never larger than its bounds, and each question is asked once at a time.

use crate::error::ApiError;
use crate::feed::Known;
use crate::rows::{Epoch, Moment, UtcTime};
use actix_web::web::Bytes;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Most answers; beyond it all are forgotten and the memory begins again.
const ENTRIES: usize = 1_000;
/// Most bytes of answers.
const BYTES: usize = 64 << 20;

/// The last member of the answers that have it.
const SERVER_TIME: &str = "\"server_time_utc\":\"";

/// The answers of one epoch.
#[derive(Default)]
pub struct Memory {
    generation: Mutex<Generation>,
    /// Answers given from memory.
    pub hits: Counter,
    /// Answers that the store was asked for.
    pub misses: Counter,
}

/// What an answer depends on.
#[derive(Debug)]
pub struct Key {
    life: u64,
    age: Age,
    minute: i64,
    question: String,
}

/// How often the store went back, and the epoch since then: it only rises within a life.
type Age = (u64, Epoch);

#[derive(Default)]
struct Generation {
    life: u64,
    age: Option<Age>,
    entries: HashMap<(i64, String), Entry>,
    bytes: usize,
}

type Entry = Arc<OnceCell<Arc<Written>>>;

/// How an answer depends on the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// By whole minutes.
    Minutes,
    /// Not at all, but for the time that it tells.
    Unused,
}

/// An answer as it is sent, but for the time.
pub struct Written {
    pub(crate) at: Moment,
    before_time: Bytes,
    after_time: Bytes,
}

impl Written {
    /// Writes an answer whose member `server_time_utc` is the moment's.
    pub fn new(at: Moment, answer: &impl Serialize) -> Written {
        let text = Bytes::from(serde_json::to_vec(answer).expect("answers always serialize"));
        // A name or value cannot hold these characters: its quotation marks would be escaped.
        let needle = SERVER_TIME.as_bytes();
        let found = text.windows(needle.len()).rposition(|part| part == needle);
        let start = found.expect("every such answer tells the time") + needle.len();
        let end = start + text[start..].iter().position(|byte| *byte == b'"').expect("a text has an end");
        Written { at, before_time: text.slice(..start), after_time: text.slice(end..) }
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.before_time.len() + self.after_time.len()
    }

    pub(crate) fn body(&self, now: UtcTime) -> Vec<u8> {
        let time = now.max(self.at.now).0.to_string();
        [&self.before_time, time.as_bytes(), &self.after_time].concat()
    }
}

impl Clock {
    /// The minute of the store's clock, as far as the answer depends on it.
    pub fn minute(self, at: &Moment) -> i64 {
        match self {
            Clock::Minutes => at.now.0.0.div_euclid(60_000_000),
            Clock::Unused => 0,
        }
    }
}

impl Key {
    /// `None` before the first commit: then nothing tells whether an answer has changed.
    pub fn new(question: &str, known: &Known, clock: Clock) -> Option<Key> {
        let (at, age) = (&known.at, (known.times_back, known.at.epoch?));
        Some(Key { life: at.life, age, minute: clock.minute(at), question: question.to_owned() })
    }
}

impl Memory {
    /// The answer, asked for once however many want it. A failure is nobody's but the asker's: the next one asks again.
    pub async fn get_or_ask<Asked>(&self, key: Key, ask: impl FnOnce() -> Asked) -> Result<Arc<Written>, ApiError>
    where
        Asked: Future<Output = Result<Written, ApiError>>,
    {
        let (life, age) = (key.life, key.age);
        let entry = self.entry(key);
        let mut asked = false;
        let written = entry.get_or_try_init(|| {
            asked = true;
            async { ask().await.map(Arc::new) }
        });
        let written = written.await?.clone();
        if asked {
            self.misses.inc();
            self.count_bytes(life, age, written.size());
        } else {
            self.hits.inc();
        }
        Ok(written)
    }

    fn entry(&self, key: Key) -> Entry {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        // Another request may have seen the next commit already: its answers are newer, so they serve this one too.
        let newer = generation.life == key.life && generation.age > Some(key.age);
        if !newer && (generation.life, generation.age) != (key.life, Some(key.age)) {
            *generation = Generation { life: key.life, age: Some(key.age), ..Generation::default() };
        }
        if generation.entries.len() >= ENTRIES {
            generation.forget();
        }
        generation.entries.entry((key.minute, key.question)).or_default().clone()
    }

    fn count_bytes(&self, life: u64, age: Age, bytes: usize) {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        if (generation.life, generation.age) == (life, Some(age)) {
            generation.bytes += bytes;
        }
        if generation.bytes > BYTES {
            generation.forget();
        }
    }
}

impl Generation {
    fn forget(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}
