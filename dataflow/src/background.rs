//! Work beside the workers: the commit thread and the writers of checkpoints.
//!
//! A task is a step that is repeated. In production each has a thread of its own; a simulation makes the steps itself, one at a
//! time and in an order that its seed decides.

use crate::reading::Reading;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something may be left to do.
    Again,
    /// The task is over.
    Done,
}

/// A task. A step waits at most that long for something to do.
pub type Task = Box<dyn FnMut(Duration) -> Step + Send>;

/// The longest that a step waits.
const WAIT: Duration = Duration::from_secs(1);

/// How soon a task is to be done where cores are scarce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Like the workers: results wait for it.
    Urgent,
    /// After all else; it still gets a tenth of what a worker gets that never rests.
    Leisurely,
}

impl Haste {
    /// What `nice` adds to a thread whose work has time.
    const NICE: i32 = 10;

    /// A thread of its own for some work. A priority that the system does not lower costs a little time and nothing else.
    fn spawn(self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if self == Haste::Leisurely
                && let Err(error) = rustix::process::nice(Haste::NICE)
            {
                tracing::debug!(%error, "cannot lower a thread's priority");
            }
            work();
        })
    }
}

/// Decides by itself when time passes and when tasks make their steps.
pub trait Script: Send + Sync + std::fmt::Debug {
    /// The present instant. The caller goes on when the script lets it.
    fn now(&self) -> Reading;
    /// The present instant, without waiting for anything: tasks may ask for it in their steps.
    fn glance(&self) -> Reading;
    /// The calling worker reads the clock no more.
    fn leave(&self);
    /// Takes over a task.
    fn start(&self, task: Task);
    /// Makes all steps that are left.
    fn finish(&self);
}

/// Where tasks run.
#[derive(Clone, Debug)]
pub enum Background {
    /// Each in a thread of its own.
    Threads,
    /// In the steps that the script makes.
    Scripted(Arc<dyn Script>),
}

/// A task that was started.
pub enum Started {
    /// Its thread.
    Thread(JoinHandle<()>),
    /// The script that has it.
    Scripted(Arc<dyn Script>),
}

impl Background {
    /// How long a task really pauses that wants to pause for so long.
    pub fn pause(&self, pause: Duration) -> Duration {
        match self {
            Background::Threads => pause,
            Background::Scripted(_) => Duration::ZERO,
        }
    }

    /// Has something done that ends by itself and has time, beside the caller; a script wants it done at once. It is left out if the
    /// system has no thread for it.
    pub fn beside(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
        match self {
            Background::Threads => {
                let thread = Haste::Leisurely.spawn(name, work);
                thread.inspect_err(|error| tracing::warn!(%error, "no thread to {name} anything")).ok()
            }
            Background::Scripted(_) => {
                work();
                None
            }
        }
    }

    /// Starts a task.
    pub fn start(&self, name: &str, haste: Haste, mut task: Task) -> Started {
        match self {
            Background::Threads => {
                let thread = haste.spawn(name, move || while task(WAIT) == Step::Again {});
                Started::Thread(thread.expect("the system can start a thread"))
            }
            Background::Scripted(script) => {
                script.start(task);
                Started::Scripted(Arc::clone(script))
            }
        }
    }
}

impl Started {
    /// Waits for its end; `false` if it panicked.
    pub fn join(self) -> bool {
        match self {
            Started::Thread(thread) => thread.join().is_ok(),
            Started::Scripted(script) => {
                script.finish();
                true
            }
        }
    }
}
