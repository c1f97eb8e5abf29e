//! The two clocks that the pipeline reads, together, so that they are never mistaken for each other.
//!
//! - [`Monotonic`] only goes forward, at its own rate, also while the machine is suspended. Slices, silence, patience and every other
//!   duration are measured by it.
//! - The wall clock is compared with the times of records, and with nothing else. It may be wrong, and it may be stepped.

use crate::background::Script;
use crate::reading::{Monotonic, Reading, SecondOpinion};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tidemark_model::Micros;

/// Wall clocks that are further apart than this disagree. In microseconds: more than any well-kept clock is wrong.
pub const MOST_APART: i64 = 60_000_000;

/// The store's clock, from the thread that hears of it to the worker that passes it on.
#[derive(Debug, Default)]
pub struct StoreClock(Mutex<SecondOpinion>);

impl StoreClock {
    /// The store's wall clock shows this, at this reading of our own clocks; `None`: it has no clock of its own. Whether both agree.
    pub fn told(&self, wall: Option<Micros>, now: Reading) -> bool {
        let opinion = wall.map_or(SecondOpinion::None, |wall| SecondOpinion::Ahead(wall.0.saturating_sub(now.at.0)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = opinion;
        wall.is_none_or(|wall| wall.0.abs_diff(now.wall.0) <= MOST_APART.unsigned_abs())
    }

    /// The newest opinion.
    pub fn opinion(&self) -> SecondOpinion {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where both clocks are read.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clocks.
    System,
    /// Clocks that a test moves; each reading moves them on by `step` microseconds.
    Manual {
        /// The monotonic clock.
        now: Arc<AtomicI64>,
        /// Microseconds per reading.
        step: i64,
        /// How far the wall clock is ahead of the monotonic one, in microseconds.
        wall_ahead: Arc<AtomicI64>,
    },
    /// A simulation's clocks; a worker that reads them waits until the simulation lets it go on.
    Scripted(Arc<dyn Script>),
}

impl Clock {
    /// Clocks that a test moves, both at this instant.
    pub fn manual(now: &Arc<AtomicI64>, step: i64) -> Clock {
        Clock::Manual { now: Arc::clone(now), step, wall_ahead: Arc::default() }
    }

    /// The present instant.
    pub fn now(&self) -> Reading {
        match self {
            Clock::System => Reading { at: Monotonic(read(MONOTONIC)), wall: wall() },
            Clock::Manual { now, step, wall_ahead } => manual(now.fetch_add(*step, Ordering::Relaxed), wall_ahead),
            Clock::Scripted(script) => script.now(),
        }
    }

    /// The present instant, for a thread that is no worker.
    pub fn glance(&self) -> Reading {
        match self {
            Clock::Scripted(script) => script.glance(),
            Clock::Manual { now, wall_ahead, .. } => manual(now.load(Ordering::Relaxed), wall_ahead),
            Clock::System => self.now(),
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

fn manual(now: i64, wall_ahead: &AtomicI64) -> Reading {
    Reading { at: Monotonic(now), wall: Micros(now.saturating_add(wall_ahead.load(Ordering::Relaxed))) }
}

/// It goes on while the machine is suspended.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MONOTONIC: rustix::time::ClockId = rustix::time::ClockId::Boottime;
/// On other systems this is the one that goes on, or the only one that there is.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const MONOTONIC: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// By the C library, so that a library that is loaded before it can step the clock of this process, as tests do. Before 1970 counts
/// as 1970.
fn wall() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Microseconds.
fn read(clock: rustix::time::ClockId) -> i64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec.max(0).saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_clocks_are_what_they_say() {
        let (first, second) = (Clock::System.now(), Clock::System.now());
        assert!(second.at >= first.at);
        let by_std = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert!(by_std.as_micros().abs_diff(u128::from(second.wall.0.unsigned_abs())) < 60_000_000, "{second:?} {by_std:?}");
        assert!((first.wall_ahead() - second.wall_ahead()).abs() < 60_000_000);
    }
}
