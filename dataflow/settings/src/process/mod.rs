//! How every program begins and ends, so that no thread's end, no reader's end and no low limit leaves a process that only seems alive.
//!
//! - a panic of any thread is logged and ends the process with status [`PANICKED`]
//! - log lines go through `output`, which neither fails nor waits when standard error takes nothing
//! - the soft limit of open descriptors is raised to the hard one
//! - the end is [`exit`]'s, which no thread that still runs can spoil
//!
//! `SIGPIPE` stays ignored, as Rust's runtime sets it: a socket whose peer is gone must not end the process. A command whose reader
//! of standard output went away ends with [`READER_GONE`] and without a word.

mod output;

pub use output::{LogWriter, StandardError, flush, tell, write_to};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic::PanicHookInfo;

/// Exit status after a panic of any thread, as Rust has it for the main thread.
pub const PANICKED: i32 = 101;

/// Exit status of a command whose reader of standard output went away before the command was done: what a shell reports for `SIGPIPE`.
/// It is not 0, because `verify | head -1` must not say that all rows are right.
pub const READER_GONE: u8 = 141;

/// What a program finds set up.
pub struct Process {
    descriptors: Descriptors,
}

/// Sets the process up, runs the program, and ends with the status that it returns. Nothing comes before it in `main`: no other thread
/// may run yet, because empty environment variables are removed.
pub fn run(program: impl FnOnce(&Process) -> u8) -> ! {
    crate::unset_empty_variables();
    output::start();
    std::panic::set_hook(Box::new(end_of_a_panic));
    let status = program(&Process { descriptors: raise_descriptors() });
    // A last line without an end; whoever read it may be gone.
    drop(std::io::stdout().flush());
    exit(status.into())
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

/// Ends the process at once, with the last log lines written. No library's exit handlers run: a thread that still runs could meet them.
/// OpenSSL's free what a thread frees itself when it ends, and a process that should end with status 1 was aborted.
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
