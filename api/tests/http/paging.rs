//! Walks by cursor.

use crate::support::{Api, Row, column, on_every_store, row};
use serde_json::Value;
use std::collections::BTreeSet;
use tidemark_model::Metric;

const STREAMS: [&str; 7] = ["a", "B", "ä", "a b", "'", "😀", "z"];

/// All that rows can be ordered by.
fn orders() -> Vec<&'static str> {
    [&["window_start"], &Metric::MINUTE.map(Metric::name)[..]].concat()
}

/// Many equal values, so that every tie-break is met, and nulls where they may be.
fn rows() -> Vec<Row> {
    let cells = (1..=9).flat_map(|ago| STREAMS.iter().map(move |stream| (ago, stream)));
    cells
        .enumerate()
        .map(|(n, (ago, stream))| (i64::try_from(n).unwrap(), ago, stream))
        .map(|(n, ago, stream)| row(ago, stream, n % 3, n % 2, n % 4 * 50).with_others((n % 4 > 0).then_some(n % 4 - 1)))
        .collect()
}

fn key(row: &Value) -> (String, String) {
    (row["window_start"].as_str().unwrap().to_owned(), row["stream_id"].as_str().unwrap().to_owned())
}

/// All rows of a walk, page by page; `between` runs after each page.
pub fn walk(api: &Api, query: &str, mut between: impl FnMut(&Value)) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.json(&format!("/metrics?{query}{cursor}"));
        all.extend(page["rows"].as_array().unwrap().iter().cloned());
        between(&page);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[test]
fn a_walk_is_the_whole_in_pieces() {
    on_every_store(|store| {
        let rows = rows();
        store.write(&rows);
        let api = store.api();
        for order in orders() {
            for direction in ["asc", "desc"] {
                for filter in ["", "&stream_id=%C3%A4", "&from=2020-01-01T00:00:00Z", "&to=2100-01-01T00:00:00Z"] {
                    let query = format!("order_by={order}&direction={direction}{filter}");
                    let whole = api.json(&format!("/metrics?{query}&limit=5000"));
                    let expected = if filter.contains("stream_id") { 9 } else { rows.len() };
                    assert_eq!(column(&whole, "stream_id").len(), expected);
                    for limit in [1, 7, 9, 62, 63] {
                        let walked = walk(&api, &format!("{query}&limit={limit}"), |page| {
                            assert!(page["rows"].as_array().unwrap().len() <= limit);
                        });
                        assert_eq!(Value::Array(walked), whole["rows"], "{query}&limit={limit}");
                    }
                }
            }
        }
    });
}

#[test]
fn rows_whose_key_does_not_change_are_seen_exactly_once() {
    on_every_store(|store| {
        for order in orders() {
            for direction in ["asc", "desc"] {
                let rows = rows();
                store.write(&rows);
                let api = store.api();
                // Every third row changes all its values after each page, and new rows appear.
                let mut rounds = 0;
                let walked = walk(&api, &format!("order_by={order}&direction={direction}&limit=5"), |_| {
                    rounds += 1;
                    let changed = rows.iter().step_by(3).cloned();
                    let others = (rounds % 2 == 0).then_some(rounds % 3);
                    let changed = changed
                        .map(|row| Row { viewers: rounds % 5, chats: rounds % 4, cents: rounds % 3 * 70, ..row })
                        .map(|row| row.with_others(others));
                    store.write(&changed.chain([row(rounds % 9, "new", rounds, rounds, rounds)]).collect::<Vec<_>>());
                });
                for (number, row) in rows.iter().enumerate().filter(|(number, _)| order == "window_start" || number % 3 != 0) {
                    let found = walked
                        .iter()
                        .filter(|found| key(found) == (tidemark_model::Micros(row.start).to_string(), row.stream_id.to_owned()));
                    assert_eq!(found.count(), 1, "{order} {direction}: row {number}");
                }
                store.execute("delete from stream_metrics_minute");
            }
        }
    });
}

#[test]
fn a_walk_keeps_its_lower_bound() {
    on_every_store(|store| {
        store.write(&rows());
        let api = store.api();
        let first = api.json("/metrics?minutes=6&limit=3&direction=asc");
        let cursor = first["next_cursor"].as_str().unwrap();
        let text: Vec<u8> = (0..cursor.len()).step_by(2).map(|at| u8::from_str_radix(&cursor[at..at + 2], 16).unwrap()).collect();
        let content: Value = serde_json::from_slice(&text).unwrap();
        let lower = tidemark_model::Micros(content["l"].as_i64().unwrap() - 1 + 6 * 60_000_000);
        assert_eq!(first["server_time_utc"], lower.to_string());
        let next = api.json(&format!("/metrics?minutes=6&limit=3&direction=asc&cursor={cursor}"));
        let again = &next["next_cursor"].as_str().unwrap();
        assert_eq!(&again[..50], &cursor[..50], "hash and bound stay the same");
    });
}

#[test]
fn a_cursor_belongs_to_its_filters() {
    on_every_store(|store| {
        store.write(&rows());
        let api = store.api();
        let page = api.json("/metrics?limit=3");
        let cursor = page["next_cursor"].as_str().unwrap();
        // The size of a page may change, and what says the same is the same.
        api.json(&format!("/metrics?limit=9&minutes=60&stream_id=&cursor={cursor}"));
        for other in ["minutes=61", "direction=asc", "order_by=donations_usd", "stream_id=a", "to=2100-01-01T00:00:00Z"] {
            let problem = api.get(&format!("/metrics?{other}&cursor={cursor}")).problem(422);
            assert_eq!(problem["parameter"], "cursor");
        }
        let damaged: BTreeSet<_> = (0..cursor.len()).map(|at| format!("{}0{}", &cursor[..at], &cursor[at + 1..])).collect();
        for text in damaged {
            let status = api.get(&format!("/metrics?limit=3&cursor={text}")).status;
            assert!(status == 200 || status == 422, "{text}: {status}");
        }
    });
}
