//! Publishing letters again, each at most once.
//!
//! A letter is marked in the store before it is published, and that mark is durable first. So no letter is ever published twice,
//! whenever this is killed and however many of it run. The price: killed between the two, one letter is marked that may not be in
//! the log; likewise if the log does not tell what became of it. The mark is taken back only if the record was refused before it
//! was sent. Letters go one by one, so it is never more than one.

use super::{OpsError, Outcome, output_failed};
use crate::ops::args::ReplayArgs;
use crate::ops::books::{Books, Filter, Letter, Position};
use crate::run::Control;
use serde::Deserialize;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidemark_generator::publish::{FileLog, KafkaOptions, KafkaPublisher, PublishError, Publisher, Record};
use tidemark_model::Reason;
use tidemark_settings::log::Log;

/// Letters that are read from the store at once.
const PAGE: u32 = 200;
/// How long brokers that do not answer are waited for.
const WAIT: Duration = Duration::from_secs(15);

/// What is done about the lateness of these reasons, said wherever one is met.
const STAYS: &str = "a late or closed letter stays so when it is published again; to have them in, recompute with a larger lateness: \
                     tidemark-dataflow rebuild --watermark DURATION --yes";

pub(super) fn run(args: &ReplayArgs, control: &Arc<Control>, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    let choice = Choice::of(args)?;
    let (log, books) = super::open(&args.place, Some(control))?;
    let publisher = if args.dry_run { None } else { Some(open_publisher(&log, control)?) };
    let topic = log.topic().to_owned();
    let mut replay = Replay { books, publisher, topic, control: Arc::clone(control), out, counts: Counts::default() };
    let outcome = match choice {
        Choice::Positions(positions) => positions.iter().try_for_each(|&at| replay.position(at, None)),
        Choice::Corrected(letters) => letters.into_iter().try_for_each(|(at, payload)| replay.position(at, Some(payload))),
        Choice::Filter(filter) => replay.all_of(filter, &args.place.pipeline),
    };
    outcome.and_then(|()| replay.end())
}

/// Which letters, and with which bytes.
enum Choice {
    Positions(Vec<Position>),
    Corrected(Vec<(Position, Vec<u8>)>),
    Filter(Filter),
}

impl Choice {
    fn of(args: &ReplayArgs) -> Result<Choice, OpsError> {
        let filter = args.filter.filter();
        let filtered = filter != Filter::default();
        if let Some(file) = &args.corrected {
            return Ok(Choice::Corrected(corrected_letters(file)?));
        }
        match (&args.payload, args.positions.as_slice()) {
            (Some(file), &[at]) if !filtered && !args.all => Ok(Choice::Corrected(vec![(at, corrected_payload(file)?)])),
            (Some(_), _) => Err(refused("--payload is for one letter: give its PARTITION:OFFSET and no filter")),
            (None, []) if filtered || args.all => Ok(Choice::Filter(filter)),
            (None, []) => Err(refused("say which letters: PARTITION:OFFSET, or filters, or --all")),
            (None, _) if filtered || args.all => Err(refused("give either PARTITION:OFFSET or filters")),
            (None, positions) => Ok(Choice::Positions(positions.to_vec())),
        }
    }
}

fn refused(why: &str) -> OpsError {
    OpsError::Refused(why.to_owned())
}

fn open_input(file: &Path) -> Result<Box<dyn Read>, OpsError> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let opened = std::fs::File::open(file).map_err(|error| OpsError::File(file.display().to_string(), error))?;
    Ok(Box::new(opened))
}

fn corrected_payload(file: &Path) -> Result<Vec<u8>, OpsError> {
    let mut payload = Vec::new();
    let read = open_input(file)?.read_to_end(&mut payload);
    read.map_err(|error| OpsError::File(file.display().to_string(), error))?;
    if payload.last() == Some(&b'\n') {
        payload.pop();
        if payload.last() == Some(&b'\r') {
            payload.pop();
        }
    }
    Ok(payload)
}

/// A line of `list --json`, of which the payload was corrected.
#[derive(Deserialize)]
struct CorrectedLetter {
    partition: i32,
    offset: i64,
    /// Null if it is no text: such a letter is left as it is.
    payload: Option<String>,
}

fn corrected_letters(file: &Path) -> Result<Vec<(Position, Vec<u8>)>, OpsError> {
    let mut letters = Vec::new();
    for (number, line) in BufReader::new(open_input(file)?).lines().enumerate() {
        let line = line.map_err(|error| OpsError::File(file.display().to_string(), error))?;
        if line.trim().is_empty() {
            continue;
        }
        let letter: CorrectedLetter = serde_json::from_str(&line).map_err(|error| {
            let place = format!("{} line {}", file.display(), number + 1);
            OpsError::Refused(format!("{place}: {error}; allowed: lines of dead-letters list --json with corrected payloads"))
        })?;
        let CorrectedLetter { partition, offset, payload } = letter;
        letters.extend(payload.map(|payload| (Position { partition, offset }, payload.into_bytes())));
    }
    Ok(letters)
}

fn open_publisher(log: &Log, control: &Control) -> Result<Box<dyn Publisher>, OpsError> {
    Ok(match log {
        Log::Kafka(topic) => {
            let mut topic = topic.clone();
            // One record at a time: nothing else is worth waiting for.
            for (name, value) in [("client.id", "tidemark-dataflow-replay"), ("linger.ms", "0")] {
                topic.properties.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
            let options = KafkaOptions { wait: WAIT, create_with_partitions: None, stop: control.stop_flag() };
            Box::new(KafkaPublisher::open(&topic, &options)?)
        }
        // A topic that is not there has no letters; it is not made here.
        Log::File { dir, topic } => Box::new(FileLog::open_existing(dir, topic)?),
    })
}

#[derive(Debug, Default)]
struct Counts {
    published: u64,
    replayed_before: u64,
    stay_late: u64,
    unchanged: u64,
    without_payload: u64,
    missing: u64,
    refused: u64,
}

struct Replay<'a> {
    books: Box<dyn Books>,
    /// None for a dry run.
    publisher: Option<Box<dyn Publisher>>,
    topic: String,
    control: Arc<Control>,
    out: &'a mut dyn Write,
    counts: Counts,
}

impl Replay<'_> {
    /// A letter that was asked for by its position.
    fn position(&mut self, at: Position, corrected: Option<Vec<u8>>) -> Result<(), OpsError> {
        let Some(letter) = self.books.letters(&self.topic, &Filter::only(at), 1)?.pop() else {
            self.counts.missing += 1;
            return self.say(&format!("{at}: topic {} has no such dead letter", self.topic));
        };
        match corrected {
            Some(payload) if letter.payload.as_ref() == Some(&payload) => {
                self.counts.unchanged += 1;
                self.say(&format!("{at}: the payload is as it was; not published"))
            }
            Some(payload) => self.publish(&letter, Some(&payload)),
            None => {
                if stays_late(&letter) {
                    self.say(&format!("{at} is {}: {STAYS}", letter.reason))?;
                }
                self.publish(&letter, letter.payload.as_deref())
            }
        }
    }

    /// All letters that a filter lets through, as of now: what is rejected again meanwhile is not published again.
    fn all_of(&mut self, mut filter: Filter, pipeline: &str) -> Result<(), OpsError> {
        filter.replayed = filter.replayed.or(Some(false));
        filter.up_to_epoch = Some(self.books.epoch(pipeline)?);
        loop {
            let letters = self.books.letters(&self.topic, &filter, PAGE)?;
            let Some(last) = letters.last() else { return Ok(()) };
            filter.after = Some(last.at);
            for letter in &letters {
                if stays_late(letter) {
                    self.counts.stay_late += 1;
                } else {
                    self.publish(letter, letter.payload.as_deref())?;
                }
            }
        }
    }

    fn publish(&mut self, letter: &Letter, payload: Option<&[u8]>) -> Result<(), OpsError> {
        let at = letter.at;
        let Some(payload) = payload else {
            self.counts.without_payload += 1;
            return self.say(&format!("{at}: the record has no payload; give it one with --payload"));
        };
        if let Some(replayed_at) = letter.replayed_at {
            self.counts.replayed_before += 1;
            return self.say(&format!("{at}: was replayed at {replayed_at}; a letter is never published twice"));
        }
        let Some(publisher) = &mut self.publisher else {
            self.counts.published += 1;
            return self.say(&format!("{at} ({}) would be published", letter.reason));
        };
        if self.control.stopping() {
            let published = self.counts.published;
            return Err(OpsError::Refused(format!(
                "stopped before {at}: {published} dead letters published, the rest is as it was"
            )));
        }
        if !self.books.claim(&self.topic, at)? {
            self.counts.replayed_before += 1;
            return self.say(&format!("{at}: another replay has taken it"));
        }
        match send(publisher.as_mut(), letter, payload) {
            Ok(Sent::Delivered) => self.counts.published += 1,
            Ok(Sent::Refused(why)) => {
                self.books.release(&self.topic, at)?;
                self.counts.refused += 1;
                return self.say(&format!("{at}: not published: {why}"));
            }
            Err(why) => {
                return Err(OpsError::Refused(format!(
                    "{at}: {why}; whether it was published is not known, so it stays marked as replayed"
                )));
            }
        }
        Ok(())
    }

    fn say(&mut self, line: &str) -> Result<(), OpsError> {
        writeln!(self.out, "{line}").map_err(output_failed)
    }

    fn end(mut self) -> Result<Outcome, OpsError> {
        let Counts { published, replayed_before, stay_late, unchanged, without_payload, missing, refused } = self.counts;
        if stay_late > 0 {
            self.say(&format!("{stay_late} letters were left out: {STAYS}"))?;
        }
        let verb = if self.publisher.is_none() { "would be published" } else { "published" };
        let others = [
            (replayed_before, "replayed before"),
            (stay_late, "late or closed"),
            (unchanged, "unchanged"),
            (without_payload, "without payload"),
            (missing, "not found"),
            (refused, "refused by the log"),
        ];
        let others = others.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
        self.say(&format!("{published} dead letters {verb}{}", others.collect::<String>()))?;
        let all = replayed_before + stay_late + without_payload + missing + refused == 0;
        Ok(if all { Outcome::Fine } else { Outcome::Differences })
    }
}

fn stays_late(letter: &Letter) -> bool {
    [Reason::Late, Reason::Closed].iter().any(|reason| reason.as_str() == letter.reason)
}

/// What surely became of a record.
enum Sent {
    Delivered,
    /// It never left.
    Refused(String),
}

/// Publishes one record and waits until the log has it for good. An error: nobody knows.
fn send(publisher: &mut dyn Publisher, letter: &Letter, payload: &[u8]) -> Result<Sent, PublishErrorText> {
    let before = publisher.tally();
    // With a key the log's partitioner decides, as it did for the record; without one it was its sender's choice.
    let partition = if letter.key.is_none() { Some(letter.at.partition) } else { None };
    publisher.publish(Record { key: letter.key.as_deref(), partition, payload, time: None })?;
    let refused = publisher.tally();
    if refused.failed() > before.failed() {
        let new = refused.failures.into_iter().find(|(reason, count)| before.failures.get(reason) != Some(count));
        return Ok(Sent::Refused(new.map_or_else(String::new, |(reason, _)| reason)));
    }
    publisher.finish()?;
    let after = publisher.tally();
    if after.delivered == before.delivered + 1 {
        return Ok(Sent::Delivered);
    }
    let new = after.failures.into_iter().find(|(reason, count)| before.failures.get(reason) != Some(count));
    Err(PublishErrorText(new.map_or_else(|| "the log did not say what became of it".to_owned(), |(reason, _)| reason)))
}

/// Why nothing is known of a record.
struct PublishErrorText(String);

impl From<PublishError> for PublishErrorText {
    fn from(error: PublishError) -> PublishErrorText {
        PublishErrorText(error.to_string())
    }
}

impl std::fmt::Display for PublishErrorText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
