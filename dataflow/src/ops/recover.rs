//! Going on after records that the pipeline needs have expired: what [`crate::plan::recover()`] decides, for people to confirm.

use super::args::RecoverArgs;
use super::{OpsError, Outcome};
use crate::clock::Clock;
use crate::plan::{self, Recovered};
use crate::sink::Store;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};
use tidemark_settings::SettingsError;
use tidemark_settings::kafka::Role;

/// How long the run lock is waited for: the session of a program that was killed may hold it for a moment.
const LOCK_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs the command.
pub fn run(args: &RecoverArgs, store: &mut dyn Store, place: &str, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    let options = args.run.options().map_err(OpsError::Refused)?;
    let pipeline = &options.wish.pipeline;
    let refused = |error: SettingsError| OpsError::Refused(error.to_string());
    let log_place = args.run.log.resolve(Role::Consumer, &None).map_err(refused)?;
    let parts = args.run.checkpoints().map_err(OpsError::Refused)?;
    let started = Instant::now();
    while !store.try_alone()? {
        if started.elapsed() > LOCK_WITHIN {
            let what = format!("a run of pipeline {pipeline} holds {place}: it can go on by itself, or stop it first");
            return Err(OpsError::Refused(what));
        }
        std::thread::sleep(PAUSE);
    }
    let log = crate::source::open(log_place.clone());
    let recovered = plan::recover(
        &options.wish,
        log.as_ref(),
        store,
        parts.as_ref(),
        plan::How { now: Clock::System.glance().wall, lost_before: args.lost_before, confirmed: args.yes },
    )?;
    let mut text = format!("recover of pipeline {pipeline} in {place} from {log_place}\n") + &recovered.said();
    text += match args.yes {
        true => "done: start tidemark-dataflow\n",
        false => "nothing was done; to do it, give --yes\n",
    };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(OpsError::Output)?;
    Ok(if args.yes { Outcome::Fine } else { Outcome::NotDone })
}

impl Recovered {
    /// What is going to happen, for people.
    fn said(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| writeln!(text, "  {name:<10} {value}").expect("a string takes all text");
        let watermark = self.watermark.map_or_else(|| "none".to_owned(), |watermark| watermark.to_string());
        line("now", format!("epoch {}, watermark {watermark}: rows of windows that end by then are final and stay", self.epoch));
        line("missing", self.inexact.why.clone());
        for (partition, read_to) in &self.entry.partitions {
            line("reads", format!("partition {partition} from offset {}", read_to.next_offset));
        }
        let (from, until) = (self.inexact.from.start(), self.inexact.until.start());
        line("inexact", format!("windows that end after {from} and begin before {until}: minutes, hours and days"));
        line("", "their rows are made of what is left, and are marked in the table inexact_windows".to_owned());
        line("exact", format!("windows that begin at {until} or later"));
        if !self.unread.is_empty() {
            let hint = "the missing records may be as new as the present time; if you know that they were written before a time, give --lost-before";
            line("", hint.to_owned());
        }
        if self.lacks_checkpoints {
            line(
                "WARNING",
                "CHECKPOINT_DIR has nothing of this pipeline: if its checkpoints are elsewhere, give that directory".to_owned(),
            );
        }
        line("first", "lengthen the topic's retention, or more expires before the next run has read it".to_owned());
        text
    }
}
