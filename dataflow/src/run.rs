//! What the threads of one run share: the wish to stop, and the first failure.

use crate::trouble::Troubles;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Stops a run, cleanly or because something failed.
#[derive(Debug, Default)]
pub struct Control {
    shared: Arc<Shared>,
    failure: OnceLock<Failure>,
}

/// What a run and those that go on after it in the same process share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    changed: Condvar,
    lock: Mutex<()>,
    troubles: Arc<Troubles>,
}

#[derive(Debug)]
struct Failure {
    error: String,
    /// Another run may go on from what the store holds.
    superseded: bool,
}

impl Control {
    /// Of the run that goes on after this one failed: it stops when this one was asked to.
    pub fn of_next_run(&self) -> Control {
        Control { shared: Arc::clone(&self.shared), failure: OnceLock::new() }
    }

    /// What holds the run up.
    pub fn troubles(&self) -> &Arc<Troubles> {
        &self.shared.troubles
    }

    /// Asks the run to stop reading, to commit what it has read, and to end.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.notify();
    }

    /// Whether the run was asked to stop.
    pub fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Ends the run at once. The first failure is the one that is told.
    pub fn fail(&self, error: String) {
        let _ = self.failure.set(Failure { error, superseded: false });
        self.notify();
    }

    /// Ends the run at once because the store does not hold what it wrote.
    pub fn supersede(&self, error: String) {
        let _ = self.failure.set(Failure { error, superseded: true });
        self.notify();
    }

    /// Whether the run failed because the store does not hold what it wrote.
    pub fn superseded(&self) -> bool {
        self.failure.get().is_some_and(|failure| failure.superseded)
    }

    /// Under the lock, so that nobody who is about to wait misses it.
    fn notify(&self) {
        let guard = self.shared.lock.lock().expect("nobody panics while holding it");
        self.shared.changed.notify_all();
        drop(guard);
    }

    /// The failure, if there is one.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(|failure| &*failure.error)
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
        let mut guard = self.shared.lock.lock().expect("nobody panics while holding it");
        while !ended() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            guard = self.shared.changed.wait_timeout(guard, left).expect("nobody panics while holding it").0;
        }
        drop(guard);
    }
}
