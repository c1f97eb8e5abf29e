//! What every program does first, so that no thread's end, no reader's end and no low limit leaves a process that only seems alive.
//!
//! - a panic of any thread is logged and ends the process with status [`PANICKED`]
//! - log lines go through `output`, which neither fails nor waits when standard error takes nothing
//! - the soft limit of open descriptors is raised to the hard one
//!
//! `SIGPIPE` stays ignored, as Rust's runtime sets it: a socket whose peer is gone must not end the process. A command whose reader
//! of standard output went away ends with [`READER_GONE`] and without a word.

mod output;

pub use output::{LogWriter, StandardError, flush, tell, write_to};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

/// Exit status after a panic of any thread, as Rust has it for the main thread.
pub const PANICKED: i32 = 101;

/// Exit status of a command whose reader of standard output went away before the command was done: what a shell reports for `SIGPIPE`.
/// It is not 0, because `verify | head -1` must not say that all rows are right.
pub const READER_GONE: u8 = 141;

/// Held by `main` to its end: the last log lines are written when it is dropped, within a bound.
#[must_use = "it writes the last log lines when `main` drops it"]
pub struct Process {
    descriptors: Descriptors,
}

/// Sets the process up. Call it first in `main`: no other thread may run yet, because empty environment variables are removed.
pub fn begin() -> Process {
    crate::unset_empty_variables();
    output::start();
    std::panic::set_hook(Box::new(end_of_a_panic));
    Process { descriptors: raise_descriptors() }
}

impl Process {
    /// A writer for log lines.
    pub fn log_writer(&self) -> LogWriter {
        LogWriter
    }

    /// Says what was set up, once there is a log.
    pub fn log_is_ready(&self) {
        match &self.descriptors {
            Descriptors::Raised { soft, hard } => {
                tracing::debug!(?soft, ?hard, "the soft limit of open files is raised to the hard one")
            }
            Descriptors::AtTheLimit(hard) => tracing::debug!(?hard, "the soft limit of open files is the hard one"),
            Descriptors::Refused(soft, error) => tracing::warn!(?soft, %error, "the soft limit of open files cannot be raised"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        flush();
    }
}

/// Ends the process at once, with the last log lines written. Threads that still run do not notice, and nothing of theirs is torn down.
pub fn exit(status: i32) -> ! {
    flush();
    // SAFETY: it ends the process, runs no handlers and returns never.
    unsafe { libc::_exit(status) }
}

enum Descriptors {
    Raised { soft: Option<u64>, hard: Option<u64> },
    AtTheLimit(Option<u64>),
    Refused(Option<u64>, std::io::Error),
}

/// The soft limit is low for the sake of programs that use `select`, which none of ours does.
fn raise_descriptors() -> Descriptors {
    let Rlimit { current: soft, maximum: hard } = getrlimit(Resource::Nofile);
    if soft == hard {
        return Descriptors::AtTheLimit(hard);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }) {
        Ok(()) => Descriptors::Raised { soft, hard },
        Err(error) => Descriptors::Refused(soft, error.into()),
    }
}

/// A thread that is gone leaves others that wait for it. So the process ends, and whoever supervises it starts it again.
fn end_of_a_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let said = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
    let told = format!("the thread {thread} panicked{place}: {said}; the process ends");
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{told}");
    } else {
        tell(&told);
    }
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tell(&backtrace.to_string());
    }
    exit(PANICKED)
}
