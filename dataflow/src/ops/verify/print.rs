//! What `verify` says, as text or as one JSON object.

use super::compare::{Counts, Difference, Findings, Name};
use crate::ops::books::Progress;
use crate::oracle::{Evidence, Fate, Presence};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;
use tidemark_model::Minute;

/// All that there is to tell.
pub(super) struct Report<'a> {
    pub(super) progress: &'a Progress,
    pub(super) findings: &'a Findings,
    pub(super) counts: Counts,
    /// The records behind each difference that is shown, in their order; none if they were not asked for, or could not be read.
    pub(super) evidence: &'a [Option<Vec<Evidence>>],
    /// Records of the log that were read.
    pub(super) records: u64,
    /// The first windows that are judged, and how many rows of all tables are from before that, if any.
    pub(super) judged_from: Option<(Minute, u64)>,
    /// Whether windows from a time on were asked for.
    pub(super) since: bool,
    /// How many streams were asked for; none: all.
    pub(super) streams: Option<usize>,
    pub(super) took: Duration,
}

const INFALLIBLE: &str = "a string takes all text";

impl Report<'_> {
    /// One line if nothing differs.
    pub(super) fn text(&self, most_records: usize) -> String {
        let Report { progress, findings, counts, evidence, records, judged_from, since, streams, took } = self;
        let Counts { rows, totals, states, letters, partitions } = counts;
        let epoch = progress.epoch;
        let compared = streams.map_or_else(
            || {
                format!(
                    "{rows} rows, {totals} totals, {states} stream states, {letters} dead letters and {partitions} partition \
                     watermarks as of epoch {epoch}"
                )
            },
            |streams| format!("{rows} rows and {states} stream states of {streams} streams as of epoch {epoch}"),
        );
        let unknown = match findings.unknown {
            0 => String::new(),
            values => format!("; {values} values were not compared: they are null, in rows that an older version wrote"),
        };
        let not_judged = judged_from.map_or_else(String::new, |(from, rows)| {
            let (from, why) =
                (from.start(), if *since { "are not judged" } else { "cannot be judged, for records have expired" });
            format!("; {rows} older rows {why}: windows are judged that begin at {from} or later")
        });
        let unknown = unknown + &not_judged;
        let log = format!("{records} records of the log ({:.1} s)", took.as_secs_f64());
        if findings.total == 0 {
            return format!("ok: {compared} are what {log} give{unknown}\n");
        }
        let mut text = String::new();
        for (difference, evidence) in findings.shown.iter().zip(*evidence) {
            say(difference, evidence.as_deref(), most_records, &mut text);
        }
        let shown = findings.shown.len();
        let of = if shown as u64 == findings.total { String::new() } else { format!(", of which {shown} are shown") };
        writeln!(text, "DIFFERENT: {} differences{of}, between {compared} and {log}{unknown}", findings.total).expect(INFALLIBLE);
        text
    }

    /// The same as one object.
    pub(super) fn json(&self, most_records: usize) -> String {
        let Report { progress, findings, counts, evidence, records, judged_from, since: _, streams, took } = self;
        let shown = |(difference, evidence): (&Difference, &Option<Vec<Evidence>>)| {
            let Difference { name, column, stored, computed, in_log } = difference;
            let mut object = json!({
                "table": name.table(),
                "column": column,
                "stored": stored,
                "computed": computed,
                "records": evidence.iter().flatten().take(most_records).map(object).collect::<Vec<_>>(),
                "records_in_all": evidence.as_ref().map(Vec::len),
            });
            let fields = object.as_object_mut().expect("it was just made as one");
            fields.extend(key(name).into_iter().map(|(name, value)| (name.to_owned(), value)));
            if let Name::Letter(_) = name {
                fields.insert("payload_in_log".to_owned(), json!(in_log));
            }
            object
        };
        let object = json!({
            "ok": findings.total == 0,
            "epoch": progress.epoch,
            "watermark": progress.watermark.map(|watermark| watermark.to_string()),
            "rows": counts.rows,
            "totals": counts.totals,
            "stream_states": counts.states,
            "dead_letters": counts.letters,
            "partitions": counts.partitions,
            "streams_asked_for": streams,
            "records": records,
            "seconds": took.as_secs_f64(),
            "differences": findings.total,
            "unknown_values": findings.unknown,
            "not_judged": judged_from.map_or(0, |(_, rows)| rows),
            "judged_from": judged_from.map(|(from, _)| from.start().to_string()),
            "shown": findings.shown.iter().zip(*evidence).map(shown).collect::<Vec<_>>(),
        });
        format!("{object}\n")
    }
}

fn say(difference: &Difference, evidence: Option<&[Evidence]>, most_records: usize, text: &mut String) {
    let Difference { name, column, stored, computed, in_log } = difference;
    let none = || "no such row".to_owned();
    let column = column.map(|column| format!(" {column}")).unwrap_or_default();
    let (stored, computed) = (stored.clone().unwrap_or_else(none), computed.clone().unwrap_or_else(none));
    writeln!(text, "{} {name}{column}: the store has {stored}, the log gives {computed}", name.table()).expect(INFALLIBLE);
    let records = evidence.unwrap_or_default();
    for record in records.iter().take(most_records) {
        writeln!(text, "    {}", sentence(record)).expect(INFALLIBLE);
    }
    if records.len() > most_records {
        writeln!(text, "    and {} more records", records.len() - most_records).expect(INFALLIBLE);
    }
    if let Name::Letter(_) = name {
        writeln!(text, "    the log has there: {}", in_log.as_deref().unwrap_or("no record")).expect(INFALLIBLE);
    } else if evidence.is_some_and(<[_]>::is_empty) && !matches!(name, Name::Total(..)) {
        writeln!(text, "    no record of the log has to do with it").expect(INFALLIBLE);
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
