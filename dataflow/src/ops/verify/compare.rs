//! What is stored against what the log gives, cell by cell. Pure.

use crate::ops::books::{Position, Snapshot, StoredLetter, StoredRow};
use crate::oracle::{self, LogRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tidemark_model::{Grain, Metric, Micros, Minute, Table, Values, Window};

/// The metric that `stream_state` has too.
const VIEWERS: &str = Metric::ActiveViewers.name();

/// What was compared, and where it differs.
#[derive(Debug, Default)]
pub struct Findings {
    /// The first differences, as many as were asked for.
    pub shown: Vec<Difference>,
    /// All of them.
    pub total: u64,
    /// Values that were not compared: they are null, in rows that an older version wrote.
    pub unknown: u64,
    limit: usize,
}

/// A cell, or a whole row, that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which row.
    pub name: Name,
    /// Its column; `None` if the row is there on one side only.
    pub column: Option<&'static str>,
    /// What the store has; `None`: no such row.
    pub stored: Option<String>,
    /// What the log gives; `None`: no such row.
    pub computed: Option<String>,
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Of a stream: how long the window is, `window_start`, and the stream.
    Row(Grain, Micros, String),
    /// Of all streams: how long the window is, and `window_start`.
    Total(Grain, Micros),
    /// Of `stream_state`: the stream, and the window of its newest row by the log, or else by the store.
    State(String, Micros),
    /// Of `dead_letters`.
    Letter(Position),
    /// Of `progress_partitions`.
    Partition(i32),
}

impl Name {
    /// The table.
    pub fn table(&self) -> &'static str {
        match self {
            Name::Row(grain, ..) => Table::rows(*grain).name(),
            Name::Total(grain, _) => Table::totals(*grain).name(),
            Name::State(..) => "stream_state",
            Name::Letter(_) => "dead_letters",
            Name::Partition(_) => "progress_partitions",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Row(_, start, stream) => write!(f, "{start} {stream}"),
            Name::Total(_, start) => write!(f, "{start}"),
            Name::State(stream, _) => f.write_str(stream),
            Name::Letter(at) => write!(f, "partition {} offset {}", at.partition, at.offset),
            Name::Partition(partition) => write!(f, "partition {partition}"),
        }
    }
}

/// Compares everything; keeps at most `limit` differences.
pub fn compare(snapshot: &Snapshot, answer: &oracle::Answer, past: &oracle::Log, limit: usize) -> Findings {
    let mut findings = Findings { limit, ..Findings::default() };
    rows(snapshot, answer, &mut findings);
    totals(snapshot, answer, &mut findings);
    states(snapshot, answer, &mut findings);
    letters(snapshot, answer, past, &mut findings);
    for (&partition, progress) in &snapshot.partitions {
        let computed = answer.watermarks.get(&partition).copied().flatten();
        let name = || Name::Partition(partition);
        findings.cell(&name, "watermark", shown_time(progress.watermark), shown_time(computed));
    }
    findings
}

/// Hours and days are compared from the first one on that the store says is whole.
fn rows(snapshot: &Snapshot, answer: &oracle::Answer, findings: &mut Findings) {
    let minutes = answer.rows.iter().map(|((minute, stream), values)| ((Grain::Minute, minute.start(), stream.as_str()), values));
    let longer =
        answer.rolled_up.rows.iter().map(|((grain, first, stream), values)| ((*grain, first.start(), stream.as_str()), values));
    let is_compared = |(grain, start, _): &(Grain, Micros, &str)| snapshot.is_whole(*grain, *start);
    let computed: BTreeMap<(Grain, Micros, &str), &Values> = minutes.chain(longer).filter(|(key, _)| is_compared(key)).collect();
    let stored = snapshot.rows.iter().map(|((grain, start, stream), row)| ((*grain, *start, stream.as_str()), row));
    let stored: BTreeMap<(Grain, Micros, &str), &StoredRow> = stored.filter(|(key, _)| is_compared(key)).collect();
    for &key in computed.keys().chain(stored.keys()).collect::<BTreeSet<_>>() {
        let (grain, start, stream) = key;
        let name = || Name::Row(grain, start, stream.to_owned());
        match (stored.get(&key), computed.get(&key)) {
            (Some(stored), Some(computed)) => findings.cells(&name, stored, window(grain, start), computed, snapshot.epoch),
            (stored, computed) => findings.row(
                &name,
                stored.map(|stored| shown_row(grain, stored)),
                computed.map(|values| values.shown(Metric::of(grain))),
            ),
        }
    }
}

/// Of minutes from the first one on that has totals: an earlier program wrote none. Of hours and days as their rows.
fn totals(snapshot: &Snapshot, answer: &oracle::Answer, findings: &mut Findings) {
    let minutes = answer.totals.iter().map(|(minute, totals)| ((Grain::Minute, minute.start()), totals));
    let longer = answer.rolled_up.totals.iter().map(|((grain, first), totals)| ((*grain, first.start()), totals));
    let first = snapshot.totals.keys().next().filter(|(grain, _)| *grain == Grain::Minute);
    let is_compared = |key: &(Grain, Micros)| match key.0 {
        Grain::Minute => first.is_some_and(|first| key >= first) && snapshot.is_whole(key.0, key.1),
        Grain::Hour | Grain::Day => snapshot.is_whole(key.0, key.1),
    };
    let computed: BTreeMap<(Grain, Micros), _> = minutes.chain(longer).filter(|(key, _)| is_compared(key)).collect();
    let stored = snapshot.totals.keys().filter(|key| is_compared(key));
    for &(grain, start) in computed.keys().chain(stored).collect::<BTreeSet<_>>() {
        let name = || Name::Total(grain, start);
        match (snapshot.totals.get(&(grain, start)), computed.get(&(grain, start))) {
            (Some(stored), Some((streams, values))) => {
                findings.cell(&name, "streams", stored.streams, *streams);
                findings.cells(&name, &stored.row, window(grain, start), values, snapshot.epoch);
            }
            (stored, computed) => {
                let shown = |streams: i64, row: String| format!("streams {streams}, {row}");
                let stored = stored.map(|stored| shown(stored.streams, shown_row(grain, &stored.row)));
                findings.row(&name, stored, computed.map(|(streams, values)| shown(*streams, values.shown(Metric::of(grain)))));
            }
        }
    }
}

/// A window by its stored start.
pub(super) fn window(grain: Grain, start: Micros) -> Window {
    Window { grain, first: Minute::first_open(start) }
}

fn states(snapshot: &Snapshot, answer: &oracle::Answer, findings: &mut Findings) {
    for stream in answer.stream_state.keys().chain(snapshot.states.keys()).collect::<BTreeSet<_>>() {
        let (stored, computed) = (snapshot.states.get(stream), answer.stream_state.get(stream));
        let window = computed.map(|(minute, _)| minute.start()).or(stored.map(|stored| stored.window_start));
        let name = || Name::State(stream.clone(), window.expect("it is on one side at least"));
        let (Some(stored), Some((minute, viewers))) = (stored, computed) else {
            let shown = |viewers: i64, start: Micros| format!("{VIEWERS} {viewers}, window_start {start}");
            let stored = stored.map(|stored| shown(stored.viewers, stored.window_start));
            findings.row(&name, stored, computed.map(|&(minute, viewers)| shown(viewers, minute.start())));
            continue;
        };
        findings.cell(&name, VIEWERS, stored.viewers, *viewers);
        findings.cell(&name, "window_start", stored.window_start, minute.start());
        findings.epoch(&name, stored.epoch, snapshot.epoch);
    }
}

fn letters(snapshot: &Snapshot, answer: &oracle::Answer, past: &oracle::Log, findings: &mut Findings) {
    let computed = answer.dead_letters.keys().map(|&(partition, offset)| Position { partition, offset });
    for at in computed.chain(snapshot.letters.keys().copied()).collect::<BTreeSet<_>>() {
        let name = || Name::Letter(at);
        let reason = answer.dead_letters.get(&(at.partition, at.offset)).map(|reason| reason.as_str());
        let (Some(stored), Some(reason)) = (snapshot.letters.get(&at), reason) else {
            findings.row(&name, snapshot.letters.get(&at).map(|letter| letter.reason.clone()), reason.map(str::to_owned));
            continue;
        };
        findings.cell(&name, "reason", stored.reason.as_str(), reason);
        let record = record(past, at).expect("the oracle's letters are records of the log");
        findings.bytes(&name, "payload", &stored.payload, &record.payload);
        findings.bytes(&name, "key", &stored.key, &record.key);
        let time = record.record_time.map(|millis| Micros(millis.saturating_mul(1_000)));
        let StoredLetter { record_time, .. } = stored;
        findings.cell(&name, "record_time", shown_time(*record_time), shown_time(time));
    }
}

/// The record at a position of the log.
pub(super) fn record(past: &oracle::Log, at: Position) -> Option<&LogRecord> {
    let records = past.get(&at.partition)?;
    records.binary_search_by_key(&at.offset, |record| record.offset).ok().map(|index| &records[index])
}

impl Findings {
    fn add(&mut self, difference: impl FnOnce() -> Difference) {
        self.total += 1;
        if self.shown.len() < self.limit {
            self.shown.push(difference());
        }
    }

    fn cell<T: PartialEq + fmt::Display>(&mut self, name: &dyn Fn() -> Name, column: &'static str, stored: T, computed: T) {
        if stored != computed {
            let (stored, computed) = (Some(stored.to_string()), Some(computed.to_string()));
            self.add(|| Difference { name: name(), column: Some(column), stored, computed });
        }
    }

    /// The end of a window, and the metrics.
    fn cells(&mut self, name: &dyn Fn() -> Name, stored: &StoredRow, window: Window, computed: &Values, last: i64) {
        self.cell(name, "window_end", stored.window_end, window.end());
        for ((metric, computed), &stored) in computed.iter().zip(&stored.values) {
            if stored.is_none() && !metric.declared().first {
                self.unknown += 1;
            } else if stored != Some(computed) {
                let (column, computed) = (Some(metric.name()), Some(metric.shown(computed)));
                self.add(|| Difference { name: name(), column, stored: shown(metric, stored), computed });
            }
        }
        self.epoch(name, stored.epoch, last);
    }

    fn bytes(&mut self, name: &dyn Fn() -> Name, column: &'static str, stored: &Option<Vec<u8>>, computed: &Option<Vec<u8>>) {
        if stored != computed {
            let (stored, computed) = (Some(shown_bytes(stored.as_deref())), Some(shown_bytes(computed.as_deref())));
            self.add(|| Difference { name: name(), column: Some(column), stored, computed });
        }
    }

    fn row(&mut self, name: &dyn Fn() -> Name, stored: Option<String>, computed: Option<String>) {
        self.add(|| Difference { name: name(), column: None, stored, computed });
    }

    /// The log knows nothing of commits; but none can be before the first or after the last.
    fn epoch(&mut self, name: &dyn Fn() -> Name, stored: i64, last: i64) {
        if !(1..=last).contains(&stored) {
            let computed = Some(format!("1 to {last}"));
            self.add(|| Difference { name: name(), column: Some("epoch"), stored: Some(stored.to_string()), computed });
        }
    }
}

fn shown_row(grain: Grain, row: &StoredRow) -> String {
    let cells = Metric::of(grain).iter().zip(&row.values);
    cells
        .map(|(&metric, &value)| format!("{} {}", metric.name(), shown(metric, value).unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A cell that the store has.
fn shown(metric: Metric, value: Option<i64>) -> Option<String> {
    Some(value.map_or_else(|| "null, or no whole number of cents".to_owned(), |value| metric.shown(value)))
}

fn shown_time(time: Option<Micros>) -> String {
    time.map_or_else(|| "null".to_owned(), |time| time.to_string())
}

/// The beginning of a value, with what is not text escaped.
pub(super) fn shown_bytes(bytes: Option<&[u8]>) -> String {
    const MOST: usize = 200;
    let Some(bytes) = bytes else { return "null".to_owned() };
    let more = if bytes.len() > MOST { format!("… ({} bytes)", bytes.len()) } else { String::new() };
    let shown: String = bytes[..bytes.len().min(MOST)].utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.extend(chunk.valid().chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        text
    });
    shown + &more
}
