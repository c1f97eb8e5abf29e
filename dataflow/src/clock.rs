//! The clocks that the pipeline reads: the wall clock, or one that a test moves.

use crate::background::Script;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};
use tidemark_model::Micros;

/// A source of wall-clock time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that a test sets; each reading moves it on by `step` microseconds.
    Manual {
        /// Microseconds since 1970.
        now: Arc<AtomicI64>,
        /// Microseconds per reading.
        step: i64,
    },
    /// A simulation's clock; who reads it waits until the simulation lets it go on.
    Scripted(Arc<dyn Script>),
}

impl Clock {
    /// The present instant.
    pub fn now(&self) -> Micros {
        match self {
            Clock::System => match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
                Ok(since) => Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
                Err(_) => Micros(0),
            },
            Clock::Manual { now, step } => Micros(now.fetch_add(*step, Ordering::Relaxed)),
            Clock::Scripted(script) => Micros(script.now()),
        }
    }

    /// The calling worker reads the clock no more.
    pub fn leave(&self) {
        if let Clock::Scripted(script) = self {
            script.leave();
        }
    }

    /// How long to really sleep for a nap of this length: a test's clock is moved on instead.
    pub fn sleep(&self, nap: Duration) -> Duration {
        match self {
            Clock::System => nap,
            Clock::Manual { now, .. } => {
                now.fetch_add(i64::try_from(nap.as_micros()).unwrap_or(0), Ordering::Relaxed);
                nap.min(Duration::from_micros(20))
            }
            Clock::Scripted(script) => {
                script.now();
                Duration::ZERO
            }
        }
    }
}
