//! What the threads of one run share: the wish to stop, and the first failure.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Stops a run, cleanly or because something failed.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    failure: OnceLock<String>,
    changed: Condvar,
    lock: Mutex<()>,
}

impl Control {
    /// Asks the run to stop reading, to commit what it has read, and to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.notify();
    }

    /// Whether the run was asked to stop.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Ends the run at once. The first failure is the one that is told.
    pub fn fail(&self, error: String) {
        let _ = self.failure.set(error);
        self.notify();
    }

    /// Under the lock, so that nobody who is about to wait misses it.
    fn notify(&self) {
        let guard = self.lock.lock().expect("nobody panics while holding it");
        self.changed.notify_all();
        drop(guard);
    }

    /// The failure, if there is one.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Sleeps; `true` if the run has failed meanwhile.
    pub fn wait_unless_failed(&self, pause: Duration) -> bool {
        self.wait_until(pause, || self.failure().is_some());
        self.failure().is_some()
    }

    /// Sleeps until the run is asked to stop, but not longer than this.
    pub fn wait_for_stop(&self, pause: Duration) {
        self.wait_until(pause, || self.stopping());
    }

    fn wait_until(&self, pause: Duration, ended: impl Fn() -> bool) {
        let until = Instant::now() + pause;
        let mut guard = self.lock.lock().expect("nobody panics while holding it");
        while !ended() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            guard = self.changed.wait_timeout(guard, left).expect("nobody panics while holding it").0;
        }
        drop(guard);
    }
}
