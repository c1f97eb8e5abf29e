//! What is stored against what the log gives, cell by cell.

use super::in_order::{LettersInOrder, PAGE, RowsInOrder};
use crate::ops::OpsError;
use crate::ops::books::{Own, Position, StoredLetter, StoredRow, StoredState, Tables};
use crate::ops::past::Reader;
use crate::oracle::{self, Completed, Oracle};
use crate::sink::StoreError;
use crate::source::Record;
use std::collections::BTreeMap;
use std::fmt;
use tidemark_model::{Grain, Metric, Micros, Minute, Of, Reason, Table, Values, Window};

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
    /// Of a dead letter: the payload of the record that the log has at its place, if there is one.
    pub in_log: Option<String>,
}

impl Difference {
    fn new(name: Name, column: Option<&'static str>, stored: Option<String>, computed: Option<String>) -> Difference {
        Difference { name, column, stored, computed, in_log: None }
    }
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
    fn of(table: Table, row: &StoredRow) -> Name {
        match &row.own {
            Own::Stream(stream) => Name::Row(table.grain, row.window_start, stream.clone()),
            Own::All(_) => Name::Total(table.grain, row.window_start),
        }
    }

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

/// How many rows of the store were compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of streams.
    pub rows: u64,
    /// Of all streams.
    pub totals: u64,
    /// Of `stream_state`.
    pub states: u64,
    /// Of `dead_letters`.
    pub letters: u64,
    /// Of `progress_partitions`.
    pub partitions: usize,
}

/// Goes over the tables while the oracle goes over the log, both in the order of time.
pub struct Comparison<'a> {
    tables: &'a mut dyn Tables,
    oracle: Oracle,
    /// Windows that begin earlier are not judged.
    from: Minute,
    /// Only rows and states of these streams are compared, if any are named.
    streams: Option<&'a [String]>,
    /// Of each table, by its place; none if it is not compared.
    rows: [Option<RowsInOrder>; Table::ALL.len()],
    letters: LettersInOrder,
    /// The newest row of each stream by the log.
    states: BTreeMap<String, (Minute, i64)>,
    findings: Findings,
    counts: Counts,
}

impl<'a> Comparison<'a> {
    /// Keeps at most `limit` differences. Dead letters are compared from those of the first record that is read of each partition.
    pub fn new(
        tables: &'a mut dyn Tables,
        oracle: Oracle,
        from: Minute,
        streams: Option<&'a [String]>,
        letters: LettersInOrder,
        limit: usize,
    ) -> Result<Comparison<'a>, StoreError> {
        let mut rows = Table::ALL.map(|table| {
            let is_compared = streams.is_none() || table.of == Of::Stream;
            let whole_from = tables.progress().whole_from(table.grain).filter(|_| is_compared)?;
            Some(RowsInOrder::new(table, whole_from.max(from.start())))
        });
        // An earlier program wrote no totals of minutes.
        let minutes = &mut rows[Table::totals(Grain::Minute).place()];
        if let Some(in_order) = minutes.take() {
            *minutes = in_order.beginning_at_first(tables)?;
        }
        let (states, findings) = (BTreeMap::new(), Findings { limit, ..Findings::default() });
        Ok(Comparison { tables, oracle, from, streams, rows, letters, states, findings, counts: Counts::default() })
    }

    /// When all has been read: compares what is left, and answers what was found.
    pub fn finish(mut self) -> Result<(Findings, Counts), StoreError> {
        for table in Table::ALL {
            self.surplus_rows(table, None)?;
        }
        self.all_states()?;
        if self.streams.is_none() {
            self.surplus_letters()?;
            self.watermarks();
        }
        Ok((self.findings, self.counts))
    }

    fn windows(&mut self, completed: &Completed) -> Result<(), StoreError> {
        let Completed { grain, first, rows, totals: (streams, totals) } = completed;
        if *first < self.from {
            return Ok(());
        }
        for (stream, values) in rows {
            self.row(Table::rows(*grain), *first, stream, values, None)?;
            if *grain == Grain::Minute {
                self.states.insert(stream.clone(), (*first, values[Metric::ActiveViewers]));
            }
        }
        self.row(Table::totals(*grain), *first, "", totals, Some(*streams))
    }

    /// The next row of a table by the log, after all those that the store has and the log does not give before it.
    fn row(
        &mut self,
        table: Table,
        first: Minute,
        stream: &str,
        computed: &Values,
        streams: Option<i64>,
    ) -> Result<(), StoreError> {
        let (grain, start) = (table.grain, first.start());
        if self.rows[table.place()].as_ref().is_none_or(|rows| start < rows.from) {
            return Ok(());
        }
        let stored = self.surplus_rows(table, Some((start, stream)))?;
        let name = || match table.of {
            Of::Stream => Name::Row(grain, start, stream.to_owned()),
            Of::All => Name::Total(grain, start),
        };
        let Some(stored) = stored else {
            let shown = computed.shown(Metric::of(grain));
            let shown = streams.map_or(shown.clone(), |streams| format!("streams {streams}, {shown}"));
            self.findings.row(&name, None, Some(shown));
            return Ok(());
        };
        if let (Own::All(stored), Some(computed)) = (&stored.own, streams) {
            self.findings.cell(&name, "streams", *stored, computed);
        }
        self.findings.cells(&name, &stored, Window { grain, first }, computed, self.tables.progress().epoch);
        Ok(())
    }

    /// The row at this place, after all before it, which the log does not give.
    fn surplus_rows(&mut self, table: Table, place: Option<(Micros, &str)>) -> Result<Option<StoredRow>, StoreError> {
        let Some(rows) = &mut self.rows[table.place()] else { return Ok(None) };
        while let Some(stored) = rows.next(self.tables, self.streams, place)? {
            match table.of {
                Of::Stream => self.counts.rows += 1,
                Of::All => self.counts.totals += 1,
            }
            if place.is_some_and(|place| stored.place() == place) {
                return Ok(Some(stored));
            }
            let name = || Name::of(table, &stored);
            self.findings.row(&name, Some(shown_row(table, &stored)), None);
        }
        Ok(None)
    }

    fn all_states(&mut self) -> Result<(), StoreError> {
        let mut after = String::new();
        loop {
            let page = self.tables.states(&after, self.streams, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (stream, stored) in page {
                let computed = self.states.remove(&stream);
                // The newest row of a stream may be older than all that is judged.
                if computed.is_some() || stored.window_start >= self.from.start() {
                    self.state(&stream, Some(stored), computed);
                }
            }
        }
        for (stream, computed) in std::mem::take(&mut self.states) {
            self.state(&stream, None, Some(computed));
        }
        Ok(())
    }

    fn state(&mut self, stream: &str, stored: Option<StoredState>, computed: Option<(Minute, i64)>) {
        self.counts.states += u64::from(stored.is_some());
        let window = computed.map(|(minute, _)| minute.start()).or(stored.map(|stored| stored.window_start));
        let name = || Name::State(stream.to_owned(), window.expect("it is on one side at least"));
        let findings = &mut self.findings;
        let (Some(stored), Some((minute, viewers))) = (stored, computed) else {
            let shown = |viewers: i64, start: Micros| format!("{VIEWERS} {viewers}, window_start {start}");
            let stored = stored.map(|stored| shown(stored.viewers, stored.window_start));
            findings.row(&name, stored, computed.map(|(minute, viewers)| shown(viewers, minute.start())));
            return;
        };
        findings.cell(&name, VIEWERS, stored.viewers, viewers);
        findings.cell(&name, "window_start", stored.window_start, minute.start());
        findings.epoch(&name, stored.epoch, self.tables.progress().epoch);
    }

    fn letter(&mut self, at: Position, stored: Option<&StoredLetter>, computed: Option<Reason>, record: Option<Record<'_>>) {
        self.counts.letters += u64::from(stored.is_some());
        let findings = &mut self.findings;
        let name = || Name::Letter(at);
        let reason = computed.map(Reason::as_str);
        let before = findings.shown.len();
        match (stored, reason, record) {
            (None, None, _) => return,
            (Some(stored), Some(reason), Some(record)) => {
                findings.cell(&name, "reason", stored.reason.as_str(), reason);
                findings.bytes(&name, "payload", stored.payload.as_deref(), record.payload);
                findings.bytes(&name, "key", stored.key.as_deref(), record.key);
                findings.cell(&name, "record_time", shown_time(stored.record_time), shown_time(stored_time(record.time)));
            }
            _ => findings.row(&name, stored.map(|stored| stored.reason.clone()), reason.map(str::to_owned)),
        }
        for difference in &mut findings.shown[before..] {
            difference.in_log = record.map(|record| shown_bytes(record.payload));
        }
    }

    /// Those behind the last record, and those of partitions that the pipeline does not know.
    fn surplus_letters(&mut self) -> Result<(), StoreError> {
        let mut partition = i32::MIN;
        while let Some(next) = self.tables.partition_of_letters(partition)? {
            partition = next;
            while let Some((offset, stored)) = self.letters.next(self.tables, partition, None)? {
                self.letter(Position { partition, offset }, Some(&stored), None, None);
            }
        }
        Ok(())
    }

    fn watermarks(&mut self) {
        let computed = self.oracle.watermarks();
        for (&partition, progress) in &self.tables.progress().partitions {
            let computed = computed.get(&partition).copied().flatten();
            self.counts.partitions += 1;
            let name = || Name::Partition(partition);
            self.findings.cell(&name, "watermark", shown_time(progress.watermark), shown_time(computed));
        }
    }
}

impl Reader for Comparison<'_> {
    fn behind(&mut self) -> Vec<i32> {
        self.oracle.behind()
    }

    fn take(&mut self, partition: i32, record: Record<'_>) -> Result<(), OpsError> {
        let offset = record.offset;
        let mut stored = None;
        while let Some((of, letter)) = self.letters.next(self.tables, partition, Some(offset))? {
            if of == offset {
                stored = Some(letter);
            } else if self.streams.is_none() {
                self.letter(Position { partition, offset: of }, Some(&letter), None, None);
            }
        }
        let verdict = stored.as_ref().and_then(|letter| Reason::parse(&letter.reason));
        let computed = self.oracle.take((partition, offset), for_oracle(record), verdict);
        if self.streams.is_none() {
            self.letter(Position { partition, offset }, stored.as_ref(), computed, Some(record));
        }
        Ok(())
    }

    fn end_of(&mut self, partition: i32) {
        self.oracle.end_of(partition);
    }

    fn pause(&mut self) -> Result<(), OpsError> {
        let mut completed = Vec::new();
        self.oracle.complete(&mut |window| completed.push(window));
        Ok(completed.iter().try_for_each(|window| self.windows(window))?)
    }
}

/// What the oracle judges a record by.
pub(super) fn for_oracle(record: Record<'_>) -> oracle::Record<'_> {
    oracle::Record { record_time: record.time.map(|time| time.0.div_euclid(1_000)), payload: record.payload }
}

/// A record's time as the stores keep it: in whole milliseconds.
fn stored_time(time: Option<Micros>) -> Option<Micros> {
    time.map(|time| Micros(time.0.div_euclid(1_000).saturating_mul(1_000)))
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
            self.add(|| Difference::new(name(), Some(column), stored, computed));
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
                self.add(|| Difference::new(name(), column, shown(metric, stored), computed));
            }
        }
        self.epoch(name, stored.epoch, last);
    }

    fn bytes(&mut self, name: &dyn Fn() -> Name, column: &'static str, stored: Option<&[u8]>, computed: Option<&[u8]>) {
        if stored != computed {
            let (stored, computed) = (Some(shown_bytes(stored)), Some(shown_bytes(computed)));
            self.add(|| Difference::new(name(), Some(column), stored, computed));
        }
    }

    fn row(&mut self, name: &dyn Fn() -> Name, stored: Option<String>, computed: Option<String>) {
        self.add(|| Difference::new(name(), None, stored, computed));
    }

    /// The log knows nothing of commits; but none can be before the first or after the last.
    fn epoch(&mut self, name: &dyn Fn() -> Name, stored: i64, last: i64) {
        if !(1..=last).contains(&stored) {
            let computed = Some(format!("1 to {last}"));
            self.add(|| Difference::new(name(), Some("epoch"), Some(stored.to_string()), computed));
        }
    }
}

fn shown_row(table: Table, row: &StoredRow) -> String {
    let cells = table.metrics().iter().zip(&row.values);
    let cells = cells.map(|(&metric, &value)| format!("{} {}", metric.name(), shown(metric, value).unwrap_or_default()));
    let streams = if let Own::All(streams) = row.own { Some(format!("streams {streams}")) } else { None };
    streams.into_iter().chain(cells).collect::<Vec<_>>().join(", ")
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
