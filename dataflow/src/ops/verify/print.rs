//! What `verify` says, as text or as one JSON object.

use super::compare::{Difference, Findings, Name, record, shown_bytes, window};
use crate::ops::books::{Position, Snapshot};
use crate::oracle::{self, Evidence, Fate, Presence, Witness};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;
use tidemark_model::{Grain, Metric, Minute, Window};

/// All that there is to tell.
pub(super) struct Report<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) findings: &'a Findings,
    pub(super) past: &'a oracle::Log,
    /// Records of the log that were read.
    pub(super) records: usize,
    /// The first windows that the log determines, and how many rows of all tables are from before that, if any.
    pub(super) judged_from: Option<(Minute, usize)>,
    pub(super) took: Duration,
}

const INFALLIBLE: &str = "a string takes all text";

impl Report<'_> {
    /// One line if nothing differs.
    pub(super) fn text(&self, witness: impl FnOnce() -> Witness, most_records: usize) -> String {
        let Report { snapshot, findings, records, judged_from, took, .. } = self;
        let compared = format!(
            "{} rows, {} totals, {} stream states, {} dead letters and {} partition watermarks as of epoch {}",
            snapshot.rows.len(),
            snapshot.totals.len(),
            snapshot.states.len(),
            snapshot.letters.len(),
            snapshot.partitions.len(),
            snapshot.epoch
        );
        let unknown = match findings.unknown {
            0 => String::new(),
            values => format!("; {values} values were not compared: they are null, in rows that an older version wrote"),
        };
        let not_judged = judged_from.map_or_else(String::new, |(from, rows)| {
            format!(
                "; {rows} older rows cannot be judged, for records have expired: windows are judged that begin at {} or later",
                from.start()
            )
        });
        let unknown = unknown + &not_judged;
        let log = format!("{records} records of the log ({:.1} s)", took.as_secs_f64());
        if findings.total == 0 {
            return format!("ok: {compared} are what {log} give{unknown}\n");
        }
        let witness = witness();
        let mut text = String::new();
        for difference in &findings.shown {
            self.difference(difference, &witness, most_records, &mut text);
        }
        let shown = findings.shown.len();
        let of = if shown as u64 == findings.total { String::new() } else { format!(", of which {shown} are shown") };
        writeln!(text, "DIFFERENT: {} differences{of}, between {compared} and {log}{unknown}", findings.total).expect(INFALLIBLE);
        text
    }

    fn difference(&self, difference: &Difference, witness: &Witness, most_records: usize, text: &mut String) {
        let Difference { name, column, stored, computed } = difference;
        let none = || "no such row".to_owned();
        let column = column.map(|column| format!(" {column}")).unwrap_or_default();
        let (stored, computed) = (stored.clone().unwrap_or_else(none), computed.clone().unwrap_or_else(none));
        writeln!(text, "{} {name}{column}: the store has {stored}, the log gives {computed}", name.table()).expect(INFALLIBLE);
        let evidence = self.evidence(difference, witness);
        for record in evidence.iter().take(most_records) {
            writeln!(text, "    {}", sentence(record)).expect(INFALLIBLE);
        }
        if evidence.len() > most_records {
            writeln!(text, "    and {} more records", evidence.len() - most_records).expect(INFALLIBLE);
        }
        if let Name::Letter(at) = name {
            let payload = record(self.past, *at).map(|record| shown_bytes(record.payload.as_deref()));
            writeln!(text, "    the log has there: {}", payload.unwrap_or_else(|| "no record".to_owned())).expect(INFALLIBLE);
        } else if evidence.is_empty() && !matches!(name, Name::Total(..)) {
            writeln!(text, "    no record of the log has to do with it").expect(INFALLIBLE);
        }
    }

    /// The records that are responsible for what differs.
    fn evidence(&self, Difference { name, column, .. }: &Difference, witness: &Witness) -> Vec<Evidence> {
        let of_row = |window: Window, stream: &str| {
            // Hours and days are made of closed minutes.
            let closed = self.snapshot.watermark.map_or(Minute(0), Minute::first_open);
            let end = if window.grain == Grain::Minute { window.end_minute() } else { window.end_minute().min(closed) };
            let minutes = window.first..end;
            let mut evidence = witness.of_row(minutes.clone(), stream);
            evidence.retain(|record| has_to_do_with(record, *column, &minutes));
            evidence
        };
        match name {
            Name::Row(grain, start, stream) => of_row(window(*grain, *start), stream),
            Name::State(stream, start) => of_row(window(Grain::Minute, *start), stream),
            // All records of a window are too many to be of use: the rows that it is made of are compared, too.
            Name::Total(..) => Vec::new(),
            Name::Letter(Position { partition, offset }) => witness.at((*partition, *offset)).into_iter().collect(),
            Name::Partition(partition) => witness.of_watermark(*partition).into_iter().collect(),
        }
    }

    /// The same as one object.
    pub(super) fn json(&self, witness: impl FnOnce() -> Witness, most_records: usize) -> String {
        let Report { snapshot, findings, past, records, judged_from, took } = self;
        let witness = (findings.total > 0).then(witness);
        let shown = |difference: &Difference| {
            let Difference { name, column, stored, computed } = difference;
            let evidence = witness.as_ref().map_or_else(Vec::new, |witness| self.evidence(difference, witness));
            let mut object = json!({
                "table": name.table(),
                "column": column,
                "stored": stored,
                "computed": computed,
                "records": evidence.iter().take(most_records).map(object).collect::<Vec<_>>(),
                "records_in_all": evidence.len(),
            });
            let fields = object.as_object_mut().expect("it was just made as one");
            fields.extend(key(name).into_iter().map(|(name, value)| (name.to_owned(), value)));
            if let Name::Letter(at) = name {
                let payload = record(past, *at).map(|record| shown_bytes(record.payload.as_deref()));
                fields.insert("payload_in_log".to_owned(), json!(payload));
            }
            object
        };
        let object = json!({
            "ok": findings.total == 0,
            "epoch": snapshot.epoch,
            "watermark": snapshot.watermark.map(|watermark| watermark.to_string()),
            "rows": snapshot.rows.len(),
            "totals": snapshot.totals.len(),
            "stream_states": snapshot.states.len(),
            "dead_letters": snapshot.letters.len(),
            "partitions": snapshot.partitions.len(),
            "records": records,
            "seconds": took.as_secs_f64(),
            "differences": findings.total,
            "unknown_values": findings.unknown,
            "not_judged": judged_from.map_or(0, |(_, rows)| rows),
            "judged_from": judged_from.map(|(from, _)| from.start().to_string()),
            "shown": findings.shown.iter().map(shown).collect::<Vec<_>>(),
        });
        format!("{object}\n")
    }
}

/// Whether a record of a row has to do with one of its columns.
fn has_to_do_with(record: &Evidence, column: Option<&str>, minutes: &Range<Minute>) -> bool {
    match column.and_then(Metric::named) {
        Some(metric) => metric.declared().events.contains(&record.kind),
        // That there is a row at all, and its times, is a matter of its minutes' own events.
        None => minutes.contains(&record.minute),
    }
}

fn key(name: &Name) -> Vec<(&'static str, Value)> {
    match name {
        Name::Row(_, start, stream) => vec![("window_start", json!(start.to_string())), ("stream_id", json!(stream))],
        Name::Total(_, start) => vec![("window_start", json!(start.to_string()))],
        Name::State(stream, _) => vec![("stream_id", json!(stream))],
        Name::Letter(at) => vec![("partition", json!(at.partition)), ("offset", json!(at.offset))],
        Name::Partition(partition) => vec![("partition", json!(partition))],
    }
}

/// `partition 0 offset 12: donation of 4.99 at 2026-01-01T12:00:00Z by u1, id e1: counts`
fn sentence(record: &Evidence) -> String {
    let Evidence { partition, offset, kind, ts, user, event_id, amount, .. } = record;
    let mut text = format!("partition {partition} offset {offset}: {}", kind.as_str());
    if amount.0 != 0 {
        text += &format!(" of {amount}");
    }
    text += &format!(" at {}", ts.to_micros());
    if let Some(user) = user {
        text += &format!(" by {user}");
    }
    if let Some(id) = event_id {
        text += &format!(", id {id}");
    }
    text += &match record.fate {
        Fate::Counted => ": counts".to_owned(),
        Fate::Duplicate { first: (partition, offset) } => format!(": a copy of partition {partition} offset {offset}"),
        Fate::Rejected(reason) => format!(": rejected as {reason}"),
    };
    text + match record.presence {
        Some(Presence::Present) => ", so the viewer is present",
        Some(Presence::Left) => ", so the viewer is gone",
        Some(Presence::TimedOut) => ", so long ago that the viewer timed out",
        None => "",
    }
}

fn object(record: &Evidence) -> Value {
    let (fate, first) = match record.fate {
        Fate::Counted => ("counted".to_owned(), None),
        Fate::Duplicate { first } => ("duplicate".to_owned(), Some(first)),
        Fate::Rejected(reason) => (reason.to_string(), None),
    };
    json!({
        "partition": record.partition,
        "offset": record.offset,
        "event_type": record.kind.as_str(),
        "ts": record.ts.to_micros().to_string(),
        "user_id": record.user,
        "event_id": record.event_id,
        "amount_usd": record.amount.to_string(),
        "fate": fate,
        "copy_of": first.map(|(partition, offset)| json!({ "partition": partition, "offset": offset })),
        "presence": record.presence.map(|presence| match presence {
            Presence::Present => "present",
            Presence::Left => "left",
            Presence::TimedOut => "timed_out",
        }),
    })
}
