//! Sends the lines of a file as they are.

use crate::generate::Summary;
use crate::progress::{Progress, Status};
use crate::publish::{PublishError, Publisher, Record};
use std::io::{self, BufRead};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Why a file was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The file cannot be read.
    #[error("cannot read on after line {line}: {source}")]
    Read {
        /// Lines that were read.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// The log takes no more.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Lines between two looks after the publisher.
const GROUP: u64 = 512;
/// How long it is left alone if lines are slow to come.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// Publishes each line, malformed and empty ones too, and delivers all. The summary is true whether it failed or not.
pub fn send(
    lines: &mut dyn BufRead,
    publisher: &mut dyn Publisher,
    progress: &mut Progress,
    stop: &AtomicBool,
) -> (Summary, Result<(), SendError>) {
    let started = Instant::now();
    let mut summary = Summary::default();
    let (mut result, mut served) = (Ok(true), Duration::ZERO);
    while matches!(result, Ok(true)) && !stop.load(Ordering::Relaxed) {
        result = send_line(lines, publisher, &mut summary);
        let (sent, elapsed) = (summary.sent, started.elapsed());
        if matches!(result, Ok(true)) && (sent.is_multiple_of(GROUP) || elapsed - served >= LEFT_ALONE) {
            served = elapsed;
            result = publisher.serve(Duration::ZERO).map(|()| true).map_err(SendError::from);
        }
        progress.update(|| {
            let tally = publisher.tally();
            Status { sent, elapsed, delivered: tally.delivered, failed: tally.failed(), behind: 0, count: None }
        });
    }
    // Lines before one that cannot be read are delivered all the same.
    let finished = publisher.finish();
    progress.finish();
    summary.elapsed = started.elapsed();
    summary.tally = publisher.tally();
    (summary, result.and_then(|_| Ok(finished?)))
}

/// Whether there was a line.
fn send_line(lines: &mut dyn BufRead, publisher: &mut dyn Publisher, summary: &mut Summary) -> Result<bool, SendError> {
    let mut line = Vec::new();
    match lines.read_until(b'\n', &mut line) {
        Ok(0) => return Ok(false),
        Ok(_) => (),
        // Asked to stop. What of a line has come is none.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        Err(source) => return Err(SendError::Read { line: summary.sent, source }),
    }
    let payload = line.strip_suffix(b"\n").unwrap_or(&line);
    let key = stream_id(payload);
    publisher.publish(Record { key: key.as_ref().map(|key| key.as_bytes()), payload, ..Record::default() })?;
    summary.sent += 1;
    Ok(true)
}

/// The `stream_id` of a line that is a JSON object with a text there.
fn stream_id(line: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Keyed {
        stream_id: Option<String>,
    }
    // A derived struct would also take an array.
    let object = line.trim_ascii_start().starts_with(b"{");
    object.then(|| serde_json::from_slice::<Keyed>(line).ok())??.stream_id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::{Memory, Tally};

    #[test]
    fn lines_go_as_they_are_with_their_stream_as_key() {
        let text =
            b"{\"stream_id\":\"a\\u0062\", \"x\":1}\n\nnot json\n[\"c\"]\n{\"stream_id\":7}\n{\"x\":[]}\r\n\xFF" as &[u8];
        let (mut lines, mut memory) = (text, Memory::default());
        let (summary, result) = send(&mut lines, &mut memory, &mut Progress::silent(), &AtomicBool::new(false));
        result.unwrap();
        let payloads: Vec<_> = memory.records.iter().map(|(_, payload)| payload.as_slice()).collect();
        assert_eq!(payloads.join(&b'\n'), text);
        let keys: Vec<_> = memory.records.iter().map(|(key, _)| key.as_deref()).collect();
        assert_eq!(keys, [Some(&b"ab"[..]), None, None, None, None, None, None]);
        assert_eq!((summary.sent, summary.undelivered()), (7, 0));
    }

    #[test]
    fn a_publisher_is_looked_after_however_slowly_lines_come() {
        /// A line each time that it is asked, after most of the time for which a publisher may be left alone.
        struct Slow(u32);

        impl io::Read for Slow {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(LEFT_ALONE * 2 / 3);
                self.0 = self.0.saturating_sub(1);
                if self.0 == 0 { Ok(0) } else { (&b"x\n"[..]).read(into) }
            }
        }

        #[derive(Default)]
        struct Served(u32);

        impl Publisher for Served {
            fn publish(&mut self, _: Record<'_>) -> Result<(), PublishError> {
                Ok(())
            }
            fn serve(&mut self, _: Duration) -> Result<(), PublishError> {
                self.0 += 1;
                Ok(())
            }
            fn finish(&mut self) -> Result<(), PublishError> {
                Ok(())
            }
            fn tally(&self) -> Tally {
                Tally::default()
            }
        }

        let mut served = Served::default();
        let (summary, result) =
            send(&mut io::BufReader::new(Slow(4)), &mut served, &mut Progress::silent(), &AtomicBool::new(false));
        result.unwrap();
        assert!(summary.sent == 3 && served.0 > 0);
    }
}
