//! Every sentence of the design that the oracle covers, by hand; then the oracle against other readings of the same sentences.

mod decoding;
mod duplicates;
mod explaining;
mod hours_and_days;
mod json_judge;
mod random_logs;
mod time;
mod viewers;

use super::*;
use serde_json::{Value, json};
use tidemark_model::Metric::{
    ActiveViewers, ChatMessages, Donations, DonationsUsd, Donors, UniqueChatters, UniqueViewers, WatchMs,
};
use tidemark_model::{Cents, Nanos};

/// A small log under construction. Offsets in a partition are 0, 1, 2 …; all times are of one day; the stream is "s" and the
/// clock is unknown unless a test says otherwise.
#[derive(Default)]
struct Case {
    log: Log,
    rules: Rules,
    verdicts: Verdicts,
}

impl Case {
    fn put(&mut self, partition: i32, payload: &Value) -> Position {
        self.put_record(partition, None, Some(payload.to_string().as_bytes()))
    }

    fn put_record(&mut self, partition: i32, record_time: Option<i64>, payload: Option<&[u8]>) -> Position {
        let records = self.log.entry(partition).or_default();
        let offset = i64::try_from(records.len()).unwrap();
        records.push(LogRecord { offset, record_time, key: None, payload: payload.map(<[u8]>::to_vec) });
        (partition, offset)
    }

    fn join(&mut self, user: &str, time: &str) -> Position {
        self.put(0, &json!({"event_type": "viewer_join", "stream_id": "s", "user_id": user, "ts": on_the_day(time)}))
    }

    fn leave(&mut self, user: &str, time: &str) -> Position {
        self.put(0, &json!({"event_type": "viewer_leave", "stream_id": "s", "user_id": user, "ts": on_the_day(time)}))
    }

    fn chat(&mut self, partition: i32, time: &str) -> Position {
        self.put(partition, &json!({"event_type": "chat_message", "stream_id": "s", "ts": on_the_day(time)}))
    }

    /// An event that makes a row in this minute and changes no total.
    fn start(&mut self, time: &str) -> Position {
        self.put(0, &json!({"event_type": "stream_start", "stream_id": "s", "ts": on_the_day(time)}))
    }

    fn answer(&self) -> Answer {
        answer(&self.log, &self.rules, Clock::Stored, &self.verdicts, None)
    }

    fn row(&self, time: &str) -> Option<Values> {
        self.answer().rows.get(&(minute(time), "s".to_owned())).copied()
    }

    fn viewers(&self, time: &str) -> i64 {
        self.row(time).expect("a row")[ActiveViewers]
    }
}

/// The records behind a row.
fn explain(log: &Log, rules: &Rules, verdicts: &Verdicts, minute: Minute, stream: &str) -> Vec<Evidence> {
    let question = Question::Row(minute..Minute(minute.0 + 1), stream.to_owned());
    let mut witness = Witness::new(log.keys().copied(), &Highest::new(), rules, Clock::Stored, vec![question]);
    for (&partition, records) in log {
        for record in records {
            let at = (partition, record.offset);
            witness.take(at, record.as_record(), verdicts.get(&at).copied());
        }
    }
    witness.answers().remove(0)
}

fn on_the_day(time: &str) -> String {
    format!("2024-05-01T{time}Z")
}

/// The instant of a time on the day, by the calendar that judges ours.
fn instant(time: &str) -> Nanos {
    let nanos = on_the_day(time).parse::<jiff::Timestamp>().unwrap().as_nanosecond();
    Nanos(i64::try_from(nanos).unwrap())
}

fn micros(time: &str) -> Micros {
    Micros(instant(time).0 / 1_000)
}

fn minute(time: &str) -> Minute {
    Minute(u32::try_from(instant(time).0 / 60_000_000_000).unwrap())
}

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
