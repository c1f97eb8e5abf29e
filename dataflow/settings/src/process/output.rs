//! Log output through a bounded queue and a thread of its own.
//!
//! Standard error may be a pipe whose reader is gone or has stopped reading, a file on a full disk, or closed. Then a line is lost, and
//! the number of lost lines is logged once lines are taken again; the thread that logs neither fails nor waits. The crate
//! `tracing-appender` does the same, but prints with `eprintln!` when its writer fails, which panics, and does not log what was lost.

use rustix::io::Errno;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes that wait in the queue. As many again may be on their way.
const MOST_BYTES: usize = 1 << 20;
/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How long to wait for a descriptor that another program has made non-blocking, and that is full.
const FULL: Duration = Duration::from_millis(10);

type Sink = Box<dyn Write + Send>;

struct Queue {
    lines: Vec<u8>,
    /// Lines that were lost since the last time that their number was logged.
    lost: u64,
    /// Whether the thread has taken lines that are not written yet.
    writing: bool,
    /// The thread takes it with the next lines.
    sink: Option<Sink>,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { lines: Vec::new(), lost: 0, writing: false, sink: None });
/// There are lines to write.
static MORE: Condvar = Condvar::new();
/// All lines are written.
static DONE: Condvar = Condvar::new();

/// Takes log lines. A write never fails and never waits for whoever reads them.
#[derive(Clone, Copy, Debug)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut queue = queue();
        if queue.lines.len() + line.len() > MOST_BYTES {
            queue.lost += count_lines(line);
        } else {
            queue.lines.extend_from_slice(line);
            MORE.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One line that is no log event, as a program's last word is.
pub fn tell(line: &str) {
    let line = format!("{}\n", line.trim_end());
    LogWriter.write_all(line.as_bytes()).expect("a log writer takes everything");
}

/// Lines go through this writer from now on, instead of straight to standard error.
pub fn write_to(sink: impl Write + Send + 'static) {
    queue().sink = Some(Box::new(sink));
}

/// Waits until all lines are written, but not for longer than a second.
pub fn flush() {
    let all_written = |queue: &mut Queue| !queue.lines.is_empty() || queue.writing;
    drop(DONE.wait_timeout_while(queue(), LAST_LINES, all_written).unwrap_or_else(PoisonError::into_inner));
}

/// Starts the thread.
pub(super) fn start() {
    let thread = std::thread::Builder::new().name("log".to_owned());
    thread.spawn(write_lines).expect("the system has room for one more thread");
}

/// Standard error's descriptor itself: the lock of [`std::io::Stderr`] would be held for as long as a write waits.
pub struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stderr(), bytes)?)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write_lines() {
    let mut sink: Sink = Box::new(StandardError);
    let mut taken = Vec::new();
    let mut silent_since: Option<Instant> = None;
    loop {
        {
            let mut queue = queue();
            queue.writing = false;
            if queue.lines.is_empty() {
                DONE.notify_all();
            }
            queue = MORE.wait_while(queue, |queue| queue.lines.is_empty()).unwrap_or_else(PoisonError::into_inner);
            queue.writing = true;
            std::mem::swap(&mut queue.lines, &mut taken);
            sink = queue.sink.take().unwrap_or(sink);
        }
        let started = Instant::now();
        let lost = write_all(sink.as_mut(), &taken);
        let any_written = lost < count_lines(&taken);
        taken.clear();
        let lost = {
            let mut queue = queue();
            queue.lost += lost;
            if any_written { std::mem::take(&mut queue.lost) } else { 0 }
        };
        if !any_written {
            silent_since.get_or_insert(started);
            continue;
        }
        let since = silent_since.take().unwrap_or(started);
        if lost > 0 {
            tracing::warn!(lines = lost, within = ?since.elapsed(), "log lines were lost: standard error did not take them");
        }
    }
}

/// Writes line by line, so that lines of several processes do not mix in a pipe. Returns the number of lines that were lost.
fn write_all(sink: &mut dyn Write, lines: &[u8]) -> u64 {
    let mut lost = 0;
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        lost += u64::from(!write_line(sink, line));
    }
    lost
}

/// Whether a line could be written. May wait for as long as the descriptor makes it wait.
fn write_line(sink: &mut dyn Write, mut line: &[u8]) -> bool {
    while !line.is_empty() {
        match sink.write(line) {
            Ok(0) => return false,
            Ok(written) => line = &line[written..],
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::INTR) => {}
                Some(Errno::AGAIN) => std::thread::sleep(FULL),
                _ => return false,
            },
        }
    }
    true
}

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count_lines(text: &[u8]) -> u64 {
    text.split_inclusive(|&byte| byte == b'\n').count() as u64
}
