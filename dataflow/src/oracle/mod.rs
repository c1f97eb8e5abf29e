//! The answer by naive recomputation, written from the design and not from the dataflow.
//!
//! Nothing of `decode`, `admit` or `fold` is used here, not even their JSON reader or their calendar: the two judge each other
//! in tests, and `verify` judges the store. All is in one thread, and clearness goes before speed. Held in memory are open windows and
//! present viewers, not the log. The oracle never reads a clock: what a clock decided is given to it.
//!
//! - [`decode`]: a payload to an event, over `json`, `decimal` and `instant`
//! - `judge`: each partition's own watermark; `future`, `late`, `closed`; duplicates
//! - `viewers`: who is in one stream, minute by minute
//! - `rows`: the metrics of minutes, hours and days, each when nothing will be added to it any more
//! - [`Witness`]: the records behind one row

pub mod decode;

mod decimal;
mod explain;
mod instant;
mod json;
mod judge;
mod rows;
#[cfg(test)]
mod tests;
mod viewers;

pub use explain::{Evidence, Presence, Question, Witness};
pub use judge::Fate;
pub use rows::Completed;

use judge::{Judge, Verdict};
use rows::Rows;
use std::collections::{BTreeMap, BTreeSet};
use tidemark_model::{Grain, Metric, Micros, Minute, Nanos, Reason, Values};

/// A record's place in the topic: partition and offset.
pub type Position = (i32, i64);

/// A topic: the records of each partition in the order of their offsets, from the first that the pipeline read.
pub type Log = BTreeMap<i32, Vec<LogRecord>>;

/// Of each partition the highest event time before the log's first record, if the log is not there from its beginning.
pub type Highest = BTreeMap<i32, Nanos>;

/// Verdicts that a clock had a part in, as stored. Only `closed` and `future` are looked at; other reasons may stand in it.
pub type Verdicts = BTreeMap<Position, Reason>;

/// One record of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRecord {
    /// Its offset, larger than that of the record before it.
    pub offset: i64,
    /// The record time in milliseconds since 1970, if it has one.
    pub record_time: Option<i64>,
    /// Its key, on which nothing depends.
    pub key: Option<Vec<u8>>,
    /// The bytes that should be an event.
    pub payload: Option<Vec<u8>>,
}

impl LogRecord {
    /// What it is judged by.
    pub fn as_record(&self) -> Record<'_> {
        Record { record_time: self.record_time, payload: self.payload.as_deref() }
    }
}

/// The parts of a record that decide what becomes of it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The record time in milliseconds since 1970, if it has one.
    pub record_time: Option<i64>,
    /// The bytes that should be an event.
    pub payload: Option<&'a [u8]>,
}

/// The settings that numbers depend on, each in microseconds and not negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `WATERMARK`: how far a partition's watermark trails its highest event time.
    pub lateness: i64,
    /// `MAX_FUTURE_SKEW`: how far an event may be ahead of the record time.
    pub max_future_skew: i64,
    /// `VIEWER_TIMEOUT`: how long a join lasts.
    pub viewer_timeout: i64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { lateness: 600_000_000, max_future_skew: 300_000_000, viewer_timeout: 12 * 3_600_000_000 }
    }
}

/// How `future` is judged where the reader's clock has a part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The reader's clock stood still at this instant; a stored `future` is not looked at, so that it is judged too.
    At(Micros),
    /// The clock is unknown: an event is `future` if it is too far ahead of its record time, or if the verdicts say so.
    Stored,
}

/// What the tables must hold after a log, and the counts that go with it.
///
/// Every record is one of `dead_letters`, `other_types` and `admitted`, and `duplicates` is a part of the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// `stream_metrics_minute`.
    pub rows: BTreeMap<(Minute, String), Values>,
    /// `stream_totals_minute`: streams with a row, and the metrics.
    pub totals: BTreeMap<Minute, (i64, Values)>,
    /// Hours and days.
    pub rolled_up: RolledUp,
    /// `dead_letters`.
    pub dead_letters: BTreeMap<Position, Reason>,
    /// Each partition's own watermark after its last record; nothing if it never had a valid event.
    pub watermarks: BTreeMap<i32, Option<Micros>>,
    /// `stream_state`: the newest row's `window_start` and `active_viewers`.
    pub stream_state: BTreeMap<String, (Minute, i64)>,
    /// Records whose `event_type` is none of the six.
    pub other_types: u64,
    /// Admitted records that repeat an earlier one and so are not counted.
    pub duplicates: u64,
    /// Admitted records, duplicates included: neither rejected nor of another type.
    pub admitted: u64,
}

impl Answer {
    /// Leaves out what lies in windows that begin before this minute.
    pub fn drop_before(&mut self, from: Minute) {
        self.rows.retain(|(minute, _), _| *minute >= from);
        self.totals.retain(|minute, _| *minute >= from);
        self.rolled_up.rows.retain(|(_, first, _), _| *first >= from);
        self.rolled_up.totals.retain(|(_, first), _| *first >= from);
        self.stream_state.retain(|_, (minute, _)| *minute >= from);
    }
}

/// What the tables of hours and days must hold after a log, by a watermark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolledUp {
    /// `stream_metrics_hour` and `stream_metrics_day`.
    pub rows: BTreeMap<(Grain, Minute, String), Values>,
    /// `stream_totals_hour` and `stream_totals_day`: streams with a row, and the metrics.
    pub totals: BTreeMap<(Grain, Minute), (i64, Values)>,
}

/// Recomputes rows from records, which are read once: of each partition in the order of their offsets.
///
/// Copies of an event in different partitions are taken to be equal; where they are not, the one that is read first counts here, and the
/// dataflow is free to count another.
pub struct Oracle {
    judge: Judge,
    rows: Rows,
    /// Only rows of these streams are made; none: of all.
    streams: Option<BTreeSet<String>>,
    /// Records whose `event_type` is none of the six.
    pub other_types: u64,
    /// Admitted records that repeat an earlier one and so are not counted.
    pub duplicates: u64,
    /// Admitted records, duplicates included: neither rejected nor of another type.
    pub admitted: u64,
}

impl Oracle {
    /// Of these partitions, with `before` what is not read of them. Hours and days are as the pipeline's watermark makes them.
    pub fn new(
        partitions: impl IntoIterator<Item = i32>,
        before: &Highest,
        rules: &Rules,
        clock: Clock,
        watermark: Option<Micros>,
    ) -> Oracle {
        let closed = watermark.map_or(Minute(0), Minute::first_open);
        Oracle {
            judge: Judge::new(partitions, before, rules, clock, random_key()),
            rows: Rows::new(rules.viewer_timeout, closed, random_key()),
            streams: None,
            other_types: 0,
            duplicates: 0,
            admitted: 0,
        }
    }

    /// Makes rows of these streams only; totals are not of all streams then.
    pub fn only(&mut self, streams: BTreeSet<String>) {
        self.streams = Some(streams);
    }

    /// The next record of a partition; answers why it is a dead letter, if it is one. `stored`: why the store says that it is.
    pub fn take(&mut self, at: Position, record: Record<'_>, stored: Option<Reason>) -> Option<Reason> {
        let judged = match self.judge.judge(at, record, stored) {
            Verdict::Event(judged) => judged,
            Verdict::OtherType => {
                self.other_types += 1;
                return None;
            }
            Verdict::Undecodable(reason) => return Some(reason),
        };
        match judged.fate {
            Fate::Rejected(reason) => return Some(reason),
            Fate::Duplicate { .. } => self.duplicates += 1,
            Fate::Counted if self.streams.as_ref().is_none_or(|streams| streams.contains(&judged.event.stream)) => {
                self.rows.count(&judged.event);
            }
            Fate::Counted => {}
        }
        self.admitted += 1;
        None
    }

    /// All of a partition has been taken.
    pub fn end_of(&mut self, partition: i32) {
        self.judge.end_of(partition);
    }

    /// The partitions of which more is to be taken next: those that are not far ahead of others. None: all has been taken.
    pub fn behind(&self) -> Vec<i32> {
        self.judge.behind()
    }

    /// Hands out the windows to which nothing will be added any more; when all has been taken, all that are left. They come in the order of
    /// their ends; of those that end together the shorter first.
    pub fn complete(&mut self, out: &mut dyn FnMut(Completed)) {
        match self.judge.completed_before() {
            Some(minute) => self.rows.complete_before(minute, out),
            None => self.rows.complete_all(out),
        }
    }

    /// Each partition's own watermark after its last record; none if it never had a valid event.
    pub fn watermarks(&self) -> BTreeMap<i32, Option<Micros>> {
        self.judge.watermarks()
    }
}

/// A key for hashes that nobody can foresee.
fn random_key() -> (u64, u64) {
    let random = || getrandom::u64().expect("the system has random numbers");
    (random(), random())
}

/// Recomputes everything from a log in memory.
pub fn answer(log: &Log, rules: &Rules, clock: Clock, verdicts: &Verdicts, watermark: Option<Micros>) -> Answer {
    answer_from(log, &Highest::new(), rules, clock, verdicts, watermark)
}

/// The same from a log of which the beginning is gone. Rows that its records had a part in are not what the whole log gives.
pub fn answer_from(
    log: &Log,
    before: &Highest,
    rules: &Rules,
    clock: Clock,
    verdicts: &Verdicts,
    watermark: Option<Micros>,
) -> Answer {
    let mut oracle = Oracle::new(log.keys().copied(), before, rules, clock, watermark);
    let mut answer = Answer::default();
    let mut unread: BTreeMap<i32, _> = log.iter().map(|(&partition, records)| (partition, records.iter())).collect();
    loop {
        let behind = oracle.behind();
        for &partition in &behind {
            let Some(record) = unread.get_mut(&partition).and_then(Iterator::next) else {
                oracle.end_of(partition);
                continue;
            };
            let at = (partition, record.offset);
            let reason = oracle.take(at, record.as_record(), verdicts.get(&at).copied());
            answer.dead_letters.extend(reason.map(|reason| (at, reason)));
        }
        oracle.complete(&mut |completed| answer.add(completed));
        if behind.is_empty() {
            break;
        }
    }
    answer.watermarks = oracle.watermarks();
    Answer { other_types: oracle.other_types, duplicates: oracle.duplicates, admitted: oracle.admitted, ..answer }
}

impl Answer {
    fn add(&mut self, completed: Completed) {
        let Completed { grain, first, rows, totals } = completed;
        for (stream, row) in rows {
            if grain == Grain::Minute {
                self.stream_state.insert(stream.clone(), (first, row[Metric::ActiveViewers]));
                self.rows.insert((first, stream), row);
            } else {
                self.rolled_up.rows.insert((grain, first, stream), row);
            }
        }
        if grain == Grain::Minute {
            self.totals.insert(first, totals);
        } else {
            self.rolled_up.totals.insert((grain, first), totals);
        }
    }
}
