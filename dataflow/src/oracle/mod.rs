//! The answer by naive batch recomputation, written from the design and not from the dataflow.
//!
//! Nothing of `decode`, `admit` or `fold` is used here, not even their JSON reader or their calendar: the two judge each other
//! in tests, and `verify` judges the store. Everything is in memory and in one thread; clearness goes before speed. The oracle
//! never reads a clock: what a clock decided is given to it.
//!
//! - [`decode`]: a payload to an event, over `json`, `decimal` and `instant`
//! - `judge`: each partition's own watermark; `future`, `late`, `closed`; duplicates
//! - `rows`: presence and totals of each (minute, stream)
//! - `rolled_up`: the same of each (hour, stream) and (day, stream)
//! - [`explain()`]: the records behind one row

pub mod decode;

mod decimal;
mod explain;
mod instant;
mod json;
mod judge;
mod rolled_up;
mod rows;
#[cfg(test)]
mod tests;

pub use explain::{Evidence, Presence, Witness, explain};
pub use judge::Fate;

use std::collections::BTreeMap;
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

/// Recomputes everything from the log.
///
/// Copies of an event in different partitions are taken to be equal; where they are not, the lowest partition's counts here,
/// and the dataflow is free to count another.
///
/// Hours and days are as the pipeline's watermark makes them.
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
    let judgement = judge::judge(log, before, rules, clock, verdicts);
    let counted: Vec<_> =
        judgement.events.iter().filter(|judged| judged.fate == Fate::Counted).map(|judged| &judged.event).collect();
    let duplicates = judgement.events.iter().filter(|judged| matches!(judged.fate, Fate::Duplicate { .. })).count();
    let (rows, totals) = rows::rows(&counted, rules.viewer_timeout);
    // Rows come in the order of their minutes, so the last one of a stream stays.
    let stream_state =
        rows.iter().map(|((minute, stream), row)| (stream.clone(), (*minute, row[Metric::ActiveViewers]))).collect();
    Answer {
        rows,
        totals,
        rolled_up: rolled_up::rolled_up(&counted, rules.viewer_timeout, watermark),
        stream_state,
        dead_letters: judgement.dead_letters,
        watermarks: judgement.watermarks,
        other_types: judgement.other_types,
        duplicates: count(duplicates),
        admitted: count(counted.len() + duplicates),
    }
}

fn count(records: usize) -> u64 {
    u64::try_from(records).expect("fewer than 2^64 records")
}
