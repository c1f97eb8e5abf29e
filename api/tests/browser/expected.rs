//! What the page should show, from the API's own answers, worked out apart from the page's code: amounts in whole cents.

use crate::pipeline::Service;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Texts by what they are, as the page's snapshot has them.
pub type Texts = Vec<(String, String)>;

#[derive(Deserialize)]
struct Rows {
    rows: Vec<Row>,
    epoch: Option<i64>,
    present: Option<Present>,
    state: Option<Present>,
    server_time_utc: String,
}

#[derive(Deserialize)]
struct Row {
    window_start: String,
    window_end: String,
    active_viewers: i64,
    chat_messages: i64,
    donations_usd: Box<RawValue>,
    /// Hours and days have one.
    peak_viewers: Option<i64>,
    #[serde(rename = "final")]
    is_final: bool,
}

#[derive(Deserialize)]
struct Present {
    active_viewers: i64,
}

#[derive(Deserialize)]
struct Top {
    rows: Vec<TopRow>,
    by: String,
}

#[derive(Deserialize)]
struct TopRow {
    stream_id: String,
    value: Box<RawValue>,
}

/// Asks the same questions as the page again and again, and keeps what it should show by the commit.
pub struct Recorder {
    kept: Arc<Mutex<HashMap<(usize, i64), Texts>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Which of the questions.
pub const MINUTES: usize = 0;
/// See [`MINUTES`].
pub const TOP: usize = 1;

impl Recorder {
    /// Of all streams, or of one (its name escaped).
    pub fn start(service: Arc<Service>, stream: Option<String>) -> Recorder {
        let kept: Arc<Mutex<HashMap<_, _>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (keep, stopped) = (kept.clone(), stop.clone());
        let path = stream.as_ref().map_or("/metrics/totals?minutes=60".to_owned(), |name| format!("/streams/{name}?minutes=60"));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let (_, body) = service.get(&path);
                let rows: Rows = serde_json::from_str(&body).unwrap();
                let epoch = rows.epoch.unwrap();
                keep.lock().unwrap().entry((MINUTES, epoch)).or_insert_with(|| rows_of(&rows, stream.is_none()));
                let (headers, body) = service.get("/streams/top?minutes=60&n=10&by=donations_usd");
                let epoch = headers["x-tidemark-epoch"].to_str().unwrap().parse().unwrap();
                keep.lock().unwrap().entry((TOP, epoch)).or_insert_with(|| top(&body));
            }
        });
        Recorder { kept, stop, thread: Some(thread) }
    }

    pub fn at(&self, question: usize, epoch: i64) -> Option<Texts> {
        self.kept.lock().unwrap().get(&(question, epoch)).cloned()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the recorder failed");
    }
}

/// Of the rows of this answer: the figures, then the table.
pub fn rows(body: &str, of_all: bool) -> Texts {
    rows_of(&serde_json::from_str(body).unwrap(), of_all)
}

fn rows_of(answer: &Rows, of_all: bool) -> Texts {
    let longer = answer.rows.iter().any(|row| row.peak_viewers.is_some());
    let cents = |row: &Row| row.donations_usd.get().replace('.', "").parse::<i128>().unwrap();
    // Both are RFC 3339 in UTC, so their texts up to the seconds are ordered as they are.
    let ended = |row: &Row| row.window_end[..19] <= answer.server_time_utc[..19];
    let has_viewers = |row: &&Row| !of_all || longer || ended(row);
    let sums =
        |rows: &mut dyn Iterator<Item = &Row>| rows.fold((0, 0), |sum, row| (sum.0 + row.chat_messages, sum.1 + cents(row)));
    let (chats, donations) = sums(&mut answer.rows.iter());
    let (final_chats, final_donations) = sums(&mut answer.rows.iter().filter(|row| row.is_final));
    let present = answer.present.as_ref().or(answer.state.as_ref()).map(|present| present.active_viewers);
    // What was present in streams that were seen days ago is not present now.
    let present = if longer && of_all { answer.rows.first().map(|row| row.active_viewers) } else { present };
    let highest = answer.rows.iter().filter(has_viewers).map(|row| row.peak_viewers.unwrap_or(row.active_viewers)).max();
    let mut texts = vec![
        ("viewers".to_owned(), present.map_or("–".to_owned(), grouped)),
        ("peak".to_owned(), highest.max(present).map_or("–".to_owned(), grouped)),
        ("chats".to_owned(), grouped(chats)),
        ("chats, final".to_owned(), format!("{} of them final", grouped(final_chats))),
        ("donations".to_owned(), dollars(donations)),
        ("donations, final".to_owned(), format!("{} of it final", dollars(final_donations))),
    ];
    for row in &answer.rows {
        let state = if row.is_final {
            "final"
        } else if longer {
            "growing"
        } else if ended(row) {
            "may change"
        } else {
            "running"
        };
        let viewers = if has_viewers(&row) { grouped(row.active_viewers) } else { "–".to_owned() };
        let peak = row.peak_viewers.map(|peak| format!("|{}", grouped(peak))).unwrap_or_default();
        let text = format!("{viewers}|{}|{}{peak}|{state}", grouped(row.chat_messages), dollars(cents(row)));
        texts.push((row.window_start[..16].to_owned(), text));
    }
    texts
}

/// Of this list by donations.
pub fn top(body: &str) -> Texts {
    let answer: Top = serde_json::from_str(body).unwrap();
    assert_eq!(answer.by, "donations_usd");
    let value = |row: &TopRow| dollars(row.value.get().replace('.', "").parse().unwrap());
    answer.rows.iter().map(|row| (row.stream_id.clone(), value(row))).collect()
}

fn grouped(number: impl Into<i128>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn dollars(cents: i128) -> String {
    format!("${}.{:02}", grouped(cents / 100), cents % 100)
}

#[test]
fn amounts_are_written_as_people_write_them() {
    assert_eq!((grouped(7), grouped(1_234), grouped(1_234_567)), ("7".to_owned(), "1,234".to_owned(), "1,234,567".to_owned()));
    assert_eq!(dollars(9_007_199_254_740_993), "$90,071,992,547,409.93");
}
