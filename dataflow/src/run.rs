//! What the threads of one run share: the wish to stop, and the first failure.

use crate::clock::StoreClock;
use crate::reading::Monotonic;
use crate::trouble::Troubles;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long after a signal the program ends at the latest, whatever does not answer. What takes part of it: an answer of the store 10 s,
/// the last checkpoint 10 s, the other processes' leave and the group's offsets 2 s each.
pub const STOP_WITHIN: Duration = Duration::from_secs(25);

/// Stops a run, cleanly or because something failed.
#[derive(Debug, Default)]
pub struct Control {
    shared: Arc<Shared>,
    failure: OnceLock<Failure>,
    store_clock: StoreClock,
    /// When worker 0 last began a turn, by the monotonic clock; 0: it does not.
    turned: AtomicI64,
}

/// What a run and those that go on after it in the same process share.
#[derive(Debug, Default)]
struct Shared {
    stop: Arc<AtomicBool>,
    /// When the run was first asked to stop, or failed. A run that goes on after it forgets that it failed.
    ending: Mutex<Option<Instant>>,
    /// What is being waited for at the moment, for the one who loses patience.
    waits: Mutex<Vec<&'static str>>,
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
        if !self.stopping() {
            *self.ending() = None;
            // It may have been asked to meanwhile.
            if self.stopping() {
                self.ends();
            }
        }
        self.troubles().forget();
        Control { shared: Arc::clone(&self.shared), ..Control::default() }
    }

    /// What the store's clock says of this process's.
    pub fn store_clock(&self) -> &StoreClock {
        &self.store_clock
    }

    /// Worker 0 begins a turn.
    pub fn turn(&self, now: Monotonic) {
        self.turned.store(now.0, Ordering::Relaxed);
    }

    /// Worker 0 begins no more turns.
    pub fn turns_no_more(&self) {
        self.turned.store(0, Ordering::Relaxed);
    }

    /// How long ago, in microseconds, worker 0 began a turn; `None` if it does not.
    pub fn since_turn(&self, now: Monotonic) -> Option<i64> {
        let turned = self.turned.load(Ordering::Relaxed);
        (turned != 0).then(|| now.since(Monotonic(turned)))
    }

    /// What holds the run up.
    pub fn troubles(&self) -> &Arc<Troubles> {
        &self.shared.troubles
    }

    /// Asks the run to stop reading, to commit what it has read, and to end.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.ends();
        self.notify();
    }

    /// Whether the run was asked to stop.
    pub fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// The wish to stop, for what knows nothing else of a run.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.stop)
    }

    /// Ends the run at once. The first failure is the one that is told.
    pub fn fail(&self, error: String) {
        let _ = self.failure.set(Failure { error, superseded: false });
        self.ends();
        self.notify();
    }

    /// Ends the run at once because the store does not hold what it wrote.
    pub fn supersede(&self, error: String) {
        let _ = self.failure.set(Failure { error, superseded: true });
        self.ends();
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

    /// How long ago it was first asked to stop, or failed.
    pub fn ending_for(&self) -> Option<Duration> {
        self.ending().map(|since| since.elapsed())
    }

    fn ends(&self) {
        self.ending().get_or_insert_with(Instant::now);
    }

    fn ending(&self) -> MutexGuard<'_, Option<Instant>> {
        self.shared.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names what is waited for, until what is handed back is dropped.
    pub fn waiting_for(&self, what: &'static str) -> Waiting<'_> {
        self.waits().push(what);
        Waiting { control: self, what }
    }

    fn waits(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.shared.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the process with status 1 if it still runs this long after it was asked to stop, or failed. What is written is written
    /// whole or not at all, so a restart goes on from there.
    pub fn end_within(self: &Arc<Self>, bound: Duration) -> std::io::Result<()> {
        let control = Arc::clone(self);
        let watch = move || {
            // A run that goes on after one that failed clears the time.
            while control.ending_for().is_none_or(|since| since < bound) {
                match control.ending_for() {
                    None => control.wait_until(Duration::from_secs(3_600), || control.ending_for().is_some()),
                    Some(since) => std::thread::sleep(bound.saturating_sub(since)),
                }
            }
            let waits = control.waits().join(", ");
            let what = if waits.is_empty() { "nothing that has a name" } else { &waits };
            tracing::error!("{bound:?} after it was to end this process still waits for {what}: it ends without that");
            // Not `exit`: what is waited for may hold up its handlers too.
            tidemark_settings::process::exit(1);
        };
        std::thread::Builder::new().name("last-resort".to_owned()).spawn(watch).map(drop)
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

/// Something is waited for.
#[derive(Debug)]
pub struct Waiting<'a> {
    control: &'a Control,
    what: &'static str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waits = self.control.waits();
        if let Some(at) = waits.iter().rposition(|what| *what == self.what) {
            waits.remove(at);
        }
    }
}
