//! The answers' contents: which rows, in what order, and their exact form.

use crate::support::{TestStore, column, minute, on_every_store, row};
use serde_json::{Value, json};
use tidemark_model::Micros;

fn time(micros: i64) -> Value {
    json!(Micros(micros).to_string())
}

#[test]
fn a_row_has_all_its_members_in_their_exact_form() {
    on_every_store(|store| {
        store.write(&[row(3, "ä 😀'\"", 7, 8, 2_500), row(2, "b", 0, 1, i64::MAX), row(1, "c", 0, 0, 10)]);
        store.write_progress(5, minute(2), "kafka:x");
        let api = store.api();
        let answer = api.get("/metrics");
        for exact in ["\"donations_usd\":25.00,", "\"donations_usd\":92233720368547758.07,", "\"donations_usd\":0.10,"] {
            assert!(answer.body.contains(exact), "{}", answer.body);
        }
        let json = answer.json();
        let mut expected = json!({"window_start": time(minute(3)), "window_end": time(minute(2)), "stream_id": "ä 😀'\"",
            "active_viewers": 7, "unique_viewers": 101, "watch_ms": 102, "chat_messages": 8, "unique_chatters": 104,
            "donations": 105, "donations_usd": 25.0, "donors": 107, "final": true});
        // And the metrics that came after these.
        let mut members = row(3, "", 7, 8, 2_500).members();
        members.retain(|name, _| expected.get(name).is_none());
        expected.as_object_mut().unwrap().extend(members);
        assert_eq!(json["rows"][2], expected);
        assert_eq!(column(&json, "final"), [false, false, true]);
        assert_eq!(json["latest_window_start"], time(minute(1)));
        assert_eq!(json["next_cursor"], Value::Null);
        assert!(json["server_time_utc"].as_str().unwrap().ends_with('Z'));
        let members: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members.len(), 5, "{members:?}");
    });
}

#[test]
fn nothing_is_an_answer_too() {
    on_every_store(|store| {
        let api = store.api();
        let metrics = api.json("/metrics");
        assert_eq!((&metrics["rows"], &metrics["latest_window_start"]), (&json!([]), &Value::Null));
        assert_eq!(api.json("/metrics/latest")["row"], Value::Null);
        assert_eq!(api.json("/streams")["rows"], json!([]));
        assert_eq!(api.json("/streams/top")["rows"], json!([]));
    });
}

#[test]
fn without_a_watermark_nothing_is_final() {
    on_every_store(|store| {
        store.write(&[row(3, "a", 1, 1, 1)]);
        store.write_progress(1, 0, "kafka:x");
        assert_eq!(column(&store.api().json("/metrics"), "final"), [false]);
    });
}

#[test]
fn minutes_reach_back_from_now_and_far_ahead() {
    on_every_store(|store| {
        // The window that began exactly ten minutes before the running one began more than ten minutes before now.
        store.write(&[row(10, "a", 1, 1, 1), row(9, "b", 1, 1, 1), row(-30, "c", 1, 1, 1)]);
        let api = store.api();
        assert_eq!(column(&api.json("/metrics?minutes=10"), "stream_id"), ["c", "b"]);
        assert_eq!(column(&api.json("/metrics?minutes=11"), "stream_id"), ["c", "b", "a"]);
        assert_eq!(column(&api.json("/streams?minutes=10"), "stream_id"), ["c", "b"]);
        assert_eq!(column(&api.json("/streams/top?minutes=10"), "stream_id"), ["b", "c"]);
    });
}

#[test]
fn from_is_inclusive_and_to_is_not() {
    on_every_store(|store| {
        let rows: Vec<_> = [9_000, 5_001, 5_000, 4_999, 3].map(|ago| row(ago, "a", ago, 1, 1)).to_vec();
        store.write(&rows);
        let api = store.api();
        let viewers = |query: String| column(&api.json(&format!("/metrics?{query}")), "active_viewers");
        let (from, to) = (Micros(minute(5_001)), Micros(minute(4_999)));
        assert_eq!(viewers(format!("from={from}&to={to}")), [5_000, 5_001]);
        assert_eq!(viewers(format!("from={from}&minutes=1")), [3, 4_999, 5_000, 5_001]);
        assert_eq!(viewers(format!("to={to}")), [5_000, 5_001, 9_000]);
        assert_eq!(viewers(format!("from={to}&to={from}")), [0_i64; 0]);
        let nanosecond_later = format!("{}.000000001Z", from.to_string().trim_end_matches('Z'));
        assert_eq!(viewers(format!("from={nanosecond_later}&to={to}")), [5_000]);
        assert_eq!(viewers(format!("from={from}&to={nanosecond_later}")), [5_001]);
    });
}

#[test]
fn rows_are_ordered_by_the_column_then_newest_then_stream_by_bytes() {
    on_every_store(|store| {
        store.write(&[
            row(3, "b", 5, 1, 900),
            row(3, "B", 5, 2, 1_000),
            row(2, "ä", 5, 2, 1_000),
            row(2, "z", 5, 2, 1_000),
            row(2, "Z", 4, 3, 5),
        ]);
        let api = store.api();
        let streams = |query: &str| column(&api.json(&format!("/metrics?{query}")), "stream_id");
        assert_eq!(streams(""), ["Z", "z", "ä", "B", "b"]);
        assert_eq!(streams("direction=asc"), ["B", "b", "Z", "z", "ä"]);
        assert_eq!(streams("order_by=active_viewers"), ["z", "ä", "B", "b", "Z"]);
        assert_eq!(streams("order_by=active_viewers&direction=asc"), ["Z", "z", "ä", "B", "b"]);
        assert_eq!(streams("order_by=chat_messages&direction=desc"), ["Z", "z", "ä", "B", "b"]);
        // By value, not by text: 10.00 is more than 9.00.
        assert_eq!(streams("order_by=donations_usd"), ["z", "ä", "B", "b", "Z"]);
        assert_eq!(streams("order_by=donations_usd&direction=asc&limit=2"), ["Z", "b"]);
        assert_eq!(streams("stream_id=b"), ["b"]);
        assert_eq!(streams("stream_id=%25"), [""; 0]);
        assert_eq!(api.json("/metrics?direction=asc&limit=1")["latest_window_start"], time(minute(3)));
    });
}

#[test]
fn latest_is_the_newest_window_that_has_ended() {
    on_every_store(|store| {
        store.write(&[
            row(-5, "future", 1, 1, 1),
            row(0, "running", 1, 1, 1),
            row(1, "b", 2, 1, 1),
            row(1, "a", 1, 1, 1),
            row(5_000, "old", 1, 1, 30),
        ]);
        let api = store.api();
        assert_eq!(api.json("/metrics/latest")["row"]["stream_id"], "a");
        assert_eq!(api.json("/metrics/latest?stream_id=")["row"]["stream_id"], "a");
        assert_eq!(api.json("/metrics/latest?stream_id=b")["row"]["active_viewers"], 2);
        assert_eq!(api.json("/metrics/latest?stream_id=old")["row"]["window_start"], time(minute(5_000)));
        assert_eq!(api.json("/metrics/latest?stream_id=running")["row"], Value::Null);
        assert_eq!(api.json("/metrics/latest?stream_id=none")["row"], Value::Null);
        let body = api.get("/metrics/latest?stream_id=old").body;
        assert!(body.contains("\"donations_usd\":0.30") && body.contains("\"final\":false"), "{body}");
    });
}

#[test]
fn streams_are_listed_newest_first() {
    on_every_store(|store| {
        store.write(&[row(5, "a", 1, 1, 1), row(2, "a", 1, 1, 1), row(3, "c", 1, 1, 1), row(2, "B", 1, 1, 1)]);
        let api = store.api();
        let expected = json!([{"stream_id": "B", "last_seen": time(minute(2))}, {"stream_id": "a", "last_seen": time(minute(2))},
            {"stream_id": "c", "last_seen": time(minute(3))}]);
        assert_eq!(api.json("/streams")["rows"], expected);
        assert_eq!(column(&api.json("/streams?limit=2"), "stream_id"), ["B", "a"]);
        assert_eq!(column(&api.json("/streams?minutes=3"), "stream_id"), ["B", "a"]);
        store.write(&[row(130, "old", 1, 1, 1)]);
        assert_eq!(column(&api.json("/streams"), "stream_id").len(), 3);
        assert_eq!(column(&api.json("/streams?minutes=1440"), "stream_id").len(), 4);
    });
}

#[test]
fn top_sums_exactly_or_takes_the_maximum() {
    on_every_store(|store| {
        store.write(&[
            row(5, "a", 9, 1, i64::MAX - 10),
            row(4, "a", 3, 1, 10),
            row(4, "b", 4, 5, 20),
            row(3, "b", 5, 5, 10),
            row(3, "c", 5, 2, 30),
        ]);
        let api = store.api();
        let answer = api.get("/streams/top?n=2");
        let rows = r#""rows":[{"stream_id":"a","value":92233720368547758.07},{"stream_id":"b","value":0.30}]"#;
        assert!(answer.body.contains(rows), "{}", answer.body);
        let json = answer.json();
        assert_eq!((&json["by"], &json["minutes"]), (&json!("donations_usd"), &json!(10)));
        let top = |by: &str| {
            let answer = api.json(&format!("/streams/top?by={by}&minutes=60"));
            (column(&answer, "stream_id"), column(&answer, "value"))
        };
        assert_eq!(top("chat_messages"), (vec!["b".into(), "a".into(), "c".into()], vec![10.into(), 2.into(), 2.into()]));
        assert_eq!(top("active_viewers"), (vec!["a".into(), "b".into(), "c".into()], vec![9.into(), 5.into(), 5.into()]));
    });
}

#[test]
fn postgres_keeps_amounts_that_64_bits_of_cents_cannot() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    store.write(&[row(3, "a", 1, 1, 1), row(2, "a", 1, 1, 1), row(2, "b", 1, 1, 1)]);
    store.execute("update stream_metrics_minute set donations_usd = 999999999999999999.99 where stream_id = 'a'");
    let api = store.api();
    let page = api.get("/metrics?order_by=donations_usd&limit=1");
    assert!(page.body.contains("\"donations_usd\":999999999999999999.99"), "{}", page.body);
    let next = format!("/metrics?order_by=donations_usd&limit=5&cursor={}", page.json()["next_cursor"].as_str().unwrap());
    assert_eq!(column(&api.json(&next), "stream_id"), ["a", "b"]);
    let top = api.get("/streams/top");
    assert!(top.body.contains("\"value\":1999999999999999999.98"), "{}", top.body);
}
