//! Changed rows as server-sent events. Each row is written in JSON once, whatever the number of clients.

use crate::rows::{Answer, Epoch, MetricRow, Moment};
use actix_web::web::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Some of the rows that commits changed.
pub struct Page {
    /// The rows of all pages with the same `to` are all that changed after this commit, and their values then or later.
    pub since: Option<Epoch>,
    /// What is known once all of these pages are.
    pub to: Moment,
    /// Whether this is the first of them.
    pub first: bool,
    /// Whether this is the last of them.
    pub last: bool,
    /// The snapshot of this page.
    at: Moment,
    rows: Vec<(String, Box<RawValue>)>,
    whole: OnceLock<Bytes>,
    by_stream: OnceLock<HashMap<String, Vec<usize>>>,
}

/// The data of an event.
#[derive(Serialize)]
struct Data<'a, Row> {
    epoch: Option<Epoch>,
    watermark: Option<crate::rows::UtcTime>,
    rows: &'a [Row],
}

impl Page {
    /// The rows of one snapshot.
    pub fn new(since: Option<Epoch>, to: Moment, first: bool, last: bool, answer: Answer<MetricRow>) -> Page {
        let write = |row: &MetricRow| serde_json::value::to_raw_value(row).expect("a row always serializes");
        let rows = answer.rows.into_iter().map(|row| (write(&row), row.stream_id)).map(|(json, stream)| (stream, json));
        let (whole, by_stream) = (OnceLock::new(), OnceLock::new());
        Page { since, to, first, last, at: answer.at, rows: rows.collect(), whole, by_stream }
    }

    /// The event for those who want all streams.
    pub fn whole(&self) -> Bytes {
        let write = || event(self.id(), &self.moment(), &self.rows.iter().map(|(_, json)| json).collect::<Vec<_>>());
        self.whole.get_or_init(write).clone()
    }

    /// The event for those who want these streams only, and whether it has rows.
    pub fn of(&self, streams: &[String]) -> (Bytes, bool) {
        let by_stream = self.by_stream.get_or_init(|| {
            let mut by_stream: HashMap<String, Vec<usize>> = HashMap::new();
            for (number, (stream, _)) in self.rows.iter().enumerate() {
                by_stream.entry(stream.clone()).or_default().push(number);
            }
            by_stream
        });
        let found = streams.iter().filter_map(|stream| by_stream.get(stream)).flatten();
        let rows: Vec<_> = found.map(|number| &self.rows[*number].1).collect();
        (event(self.id(), &self.moment(), &rows), !rows.is_empty())
    }

    fn id(&self) -> Option<Epoch> {
        self.to.epoch.filter(|_| self.last)
    }

    /// The last event says what its id says.
    fn moment(&self) -> Moment {
        if self.last { self.to } else { self.at }
    }
}

/// An event of changed rows. Only the last one of a commit has the commit as its id, as its epoch and the life of the tables: a client
/// that was cut off before that asks for the rest again.
pub fn event(id: Option<Epoch>, at: &Moment, rows: &[impl Serialize]) -> Bytes {
    let data = Data { epoch: at.epoch, watermark: at.watermark, rows };
    let data = serde_json::to_string(&data).expect("rows always serialize");
    let id = id.map(|Epoch(epoch)| format!("id: {epoch}-{:016x}\n", at.life)).unwrap_or_default();
    format!("event: rows\n{id}data: {data}\n\n").into()
}
