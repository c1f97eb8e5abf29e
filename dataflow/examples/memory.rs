//! What a present viewer takes of memory, and an open window.
//!
//! ```sh
//! cargo run --release --example memory -- viewers 10000000 1000    # 10,000,000 present viewers in 1,000 streams
//! cargo run --release --example memory -- windows 240 10000        # 240 open minutes of 10,000 streams
//! ```
//!
//! The production loop with checkpoints, from a log that is made up while it is read into a store that keeps nothing. First a small
//! part of the log is read and the resident memory noted, then the rest: the figure is the difference, so it has none of the
//! program itself in it, but all of what allocator, duplicates, differential and sink take besides. The joins are spread over two
//! hours with the default lateness, so the ids of the last minutes' events are in it, as they are in a pipeline that runs.

mod common;
#[path = "common/made_up_log.rs"]
mod made_up_log;
#[path = "common/nowhere.rs"]
mod nowhere;

use anyhow::{Context as _, bail, ensure};
use common::say;
use made_up_log::{MadeUpLog, Script};
use nowhere::Nowhere;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tidemark_dataflow::checkpoint::directory::Directory;
use tidemark_dataflow::cluster::{self, Options};
use tidemark_dataflow::run::Control;
use tidemark_dataflow::telemetry::{Metrics, resident_bytes};
use tidemark_model::Micros;

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000_000;
const MINUTE: i64 = 60_000_000;
/// Over how much event time the joins are spread.
const JOINS: i64 = 120 * MINUTE;
/// How long reading may take.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// How long it is waited until commits, a checkpoint and the merging of traces are done.
const SETTLE: Duration = Duration::from_secs(15);
const SETTLE_STEPS: u32 = 150;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: i64| arguments.get(index).map_or(Ok(default), |text| text.parse());
    match arguments.first().map(String::as_str) {
        Some("viewers") => viewers(number(1, 10_000_000)?, number(2, 1_000)?),
        Some("windows") => windows(number(1, 240)?, number(2, 10_000)?),
        _ => bail!("allowed: viewers [NUMBER [STREAMS]], or windows [MINUTES [STREAMS]]"),
    }
}

fn viewers(viewers: i64, streams: i64) -> anyhow::Result<()> {
    ensure!(viewers >= 1_000 && streams >= 1, "allowed: at least 1000 viewers and 1 stream");
    let joins = Joins { viewers, streams, end: Arc::default() };
    let few = viewers / 1_000;
    let grown = measure(&joins, &joins.end, (few, viewers), 200, &[])?;
    say(&format!("viewers={} streams={streams} {grown} bytes_per_viewer={:.1}", viewers - few, grown.per(viewers - few)));
    Ok(())
}

fn windows(minutes: i64, streams: i64) -> anyhow::Result<()> {
    ensure!(minutes >= 2 && streams >= 1, "allowed: at least 2 minutes and 1 stream");
    let chats = Chats { streams, end: Arc::default() };
    let lateness = format!("{} minutes", minutes + 1);
    let grown = measure(&chats, &chats.end, (streams, streams * minutes), 0, &["--watermark", &lateness])?;
    let rows = streams * (minutes - 1);
    say(&format!("windows={} streams={streams} {grown} bytes_per_row={:.1}", minutes - 1, grown.per(rows)));
    Ok(())
}

/// Resident memory after a part of the log and after all of it.
struct Grown {
    from: u64,
    to: u64,
}

impl Grown {
    fn per(&self, number: i64) -> f64 {
        (self.to as f64 - self.from as f64) / number as f64
    }
}

impl std::fmt::Display for Grown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "from_kib={} to_kib={}", self.from >> 10, self.to >> 10)
    }
}

/// `trickle`: events that come at each step of the last settling.
fn measure(script: &impl Script, end: &AtomicI64, ends: (i64, i64), trickle: i64, arguments: &[&str]) -> anyhow::Result<Grown> {
    let dir = tempfile::tempdir()?;
    let parts = Arc::new(Directory::open(dir.path())?);
    let log = Arc::new(MadeUpLog(script.clone()));
    let (metrics, _registry) = Metrics::new();
    let options: Options = common::options(arguments)?;
    let control = Arc::new(Control::default());
    end.store(ends.0, Ordering::Release);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| cluster::run(&options, log, Box::new(Nowhere::default()), parts, &control, &metrics));
        let after = |records: i64| -> anyhow::Result<u64> {
            let until = Instant::now() + PATIENCE;
            while metrics.admitted.get() < records.unsigned_abs() && Instant::now() < until && !run.is_finished() {
                std::thread::sleep(Duration::from_millis(50));
            }
            let admitted = metrics.admitted.get();
            ensure!(admitted == records.unsigned_abs(), "{admitted} of {records} events were admitted");
            // A pipeline that runs has something to do, which is when its allocator gives back what a table left that has grown.
            for step in 1..=SETTLE_STEPS {
                std::thread::sleep(SETTLE / SETTLE_STEPS);
                if records == ends.1 {
                    end.store(records + i64::from(step) * trickle, Ordering::Release);
                }
            }
            resident_bytes().context("this system does not say how much memory is resident")
        };
        let grown = after(ends.0).and_then(|from| {
            end.store(ends.1, Ordering::Release);
            Ok(Grown { from, to: after(ends.1)? })
        });
        control.stop();
        run.join().expect("a run does not panic")?;
        grown
    })
}

/// Everybody joins and stays; who has joined writes messages.
#[derive(Clone)]
struct Joins {
    viewers: i64,
    streams: i64,
    end: Arc<AtomicI64>,
}

impl Script for Joins {
    fn end(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }

    fn event(&self, number: i64, text: &mut String) {
        let (ts, stream) = (Micros(START + number * (JOINS / 1_000) / self.viewers * 1_000), number % self.streams);
        let (kind, user) = if number < self.viewers { ("viewer_join", number) } else { ("chat_message", number % self.viewers) };
        write!(
            text,
            r#"{{"event_type":"{kind}","event_id":"e{number}","stream_id":"stream-{stream}","user_id":"u{user}","ts":"{ts}"}}"#
        )
        .expect("a string takes all text");
    }
}

/// One message in each stream and minute.
#[derive(Clone)]
struct Chats {
    streams: i64,
    end: Arc<AtomicI64>,
}

impl Script for Chats {
    fn end(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }

    fn event(&self, number: i64, text: &mut String) {
        let (ts, stream) = (Micros(START + number / self.streams * MINUTE), number % self.streams);
        write!(text, r#"{{"event_type":"chat_message","event_id":"e{number}","stream_id":"stream-{stream}","ts":"{ts}"}}"#)
            .expect("a string takes all text");
    }
}
