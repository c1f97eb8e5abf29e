//! How a run says how it goes: a line that redraws itself on a terminal, otherwise a log line every ten seconds.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use tidemark_settings::process::StandardError;

/// Between two log lines.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Between two draws.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Where a run stands.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Events handed to the publisher.
    pub sent: u64,
    /// Time since the start.
    pub elapsed: Duration,
    /// Events that the log has.
    pub delivered: u64,
    /// Events that it will not get.
    pub failed: u64,
    /// Events that the run is behind its rate.
    pub behind: u64,
    /// Events that it will send in all, if that is bounded.
    pub count: Option<u64>,
}

/// Shows [`Status`] now and then.
#[derive(Debug)]
pub struct Progress {
    /// Hidden unless the standard error is a terminal.
    line: ProgressBar,
    every: Duration,
    last: Instant,
    logs: bool,
}

impl Progress {
    /// On the standard error.
    pub fn new() -> Progress {
        let terminal = io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let line = ProgressBar::with_draw_target(None, target).with_style(ProgressStyle::default_spinner());
        Progress { line, every: if terminal { DRAW_EVERY } else { LOG_EVERY }, last: Instant::now(), logs: !terminal }
    }

    /// Shows nothing.
    pub fn silent() -> Progress {
        Progress { line: ProgressBar::hidden(), every: Duration::MAX, last: Instant::now(), logs: false }
    }

    /// A writer for log lines that does not tear the progress line.
    pub fn log_writer(&self) -> LogWriter {
        LogWriter(self.line.clone())
    }

    /// Shows the status if it is time to; it is not computed otherwise.
    pub fn update(&mut self, status: impl FnOnce() -> Status) {
        if self.last.elapsed() < self.every {
            return;
        }
        self.last = Instant::now();
        let status = status();
        if self.logs {
            tracing::info!("{status}");
        } else {
            self.line.set_message(status.to_string());
            self.line.tick();
        }
    }

    /// Takes the line off the terminal.
    pub fn finish(&self) {
        self.line.finish_and_clear();
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.sent as f64 / self.elapsed.as_secs_f64().max(1e-3);
        write!(f, "{}", self.sent)?;
        if let Some(count) = self.count {
            write!(f, " of {count}")?;
        }
        write!(f, " events sent, {} delivered, {} failed, {rate:.0} events/s", self.delivered, self.failed)?;
        if self.behind > 0 {
            write!(f, ", behind by {} events", self.behind)?;
        }
        Ok(())
    }
}

/// Writes to the standard error, around the progress line.
#[derive(Debug)]
pub struct LogWriter(ProgressBar);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| StandardError.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_how_far_behind_it_is() {
        let elapsed = Duration::from_secs(10);
        let status = Status { sent: 50, elapsed, delivered: 49, failed: 1, behind: 150, count: Some(1_000) };
        let text = "50 of 1000 events sent, 49 delivered, 1 failed, 5 events/s, behind by 150 events";
        assert_eq!(status.to_string(), text);
    }
}
