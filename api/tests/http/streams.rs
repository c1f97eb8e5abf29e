//! `/streams/{stream_id}` and `/dead-letters`.

use crate::support::{TestStore, column, minute, on_every_store, row};
use serde_json::{Value, json};
use tidemark_model::Micros;

fn write_state(store: &mut TestStore, stream_id: &str, viewers: i64, minutes_ago: i64) {
    let start = minute(minutes_ago);
    let start = if store.name() == "SQLite" { start.to_string() } else { format!("timestamptz '{}'", Micros(start)) };
    store.execute(&format!("insert into stream_state values ('{stream_id}', {viewers}, {start}, {start}, 7)"));
}

#[test]
fn one_stream_has_state_rows_and_exact_totals() {
    on_every_store(|store| {
        store.write_progress(9, minute(2), "kafka:x");
        store.write(&[row(90, "ä/b", 9, 1, 1), row(3, "ä/b", 4, 2, i64::MAX), row(2, "ä/b", 3, 5, 20), row(2, "other", 9, 9, 9)]);
        write_state(store, "ä/b", 3, 2);
        let api = store.api();
        let answer = api.get("/streams/%C3%A4%2Fb");
        let json = answer.json();
        assert_eq!((&json["stream_id"], &json["minutes"], &json["epoch"]), (&json!("ä/b"), &json!(60), &json!(9)));
        assert_eq!(json["watermark"], Micros(minute(2)).to_string());
        let start = Micros(minute(2)).to_string();
        assert_eq!(json["state"], json!({"active_viewers": 3, "window_start": start, "updated_at": start}));
        assert_eq!(column(&json, "active_viewers"), [3, 4]);
        assert_eq!(column(&json, "final"), [false, true]);
        let totals =
            ["peak_viewers", "watch_ms", "chat_messages", "donations"].map(|name| json["totals"][name].as_i64().unwrap());
        assert_eq!(totals, [4, 204, 7, 210], "{}", answer.body);
        assert!(answer.body.contains(r#""donations_usd":92233720368547758.27"#), "{}", answer.body);
        assert_eq!(column(&api.json("/streams/%C3%A4%2Fb?minutes=1440"), "chat_messages"), [5, 2, 1]);
        assert_eq!(api.json("/streams/other")["state"], Value::Null);
        write_state(store, "silent", 0, 2_000);
        let silent = api.json("/streams/silent/");
        assert_eq!((&silent["rows"], &silent["state"]["active_viewers"]), (&json!([]), &json!(0)));
    });
}

#[test]
fn a_stream_has_its_answer_whatever_its_name() {
    const NAMES: [&str; 22] = [
        "top", "totals", "latest", "live", "health", "metrics", "streams", "null", ".", "..", "/", "a/b", "top/", "?", "#a", "%",
        "%2F", " ", "a+b", "a&b=c", "\u{200b}", "😀",
    ];
    let escape = |name: &str| name.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    on_every_store(|store| {
        store.write(&NAMES.map(|name| row(2, name, 4, 1, 1)));
        let api = store.api();
        for name in NAMES {
            let answer = api.json(&format!("/stream?stream_id={}&minutes=30", escape(name)));
            assert_eq!(
                (&answer["stream_id"], &answer["rows"][0]["stream_id"], &answer["minutes"]),
                (&json!(name), &json!(name), &json!(30))
            );
            assert_eq!(api.json(&format!("/metrics?stream_id={}", escape(name)))["rows"].as_array().unwrap().len(), 1, "{name}");
        }
        // By a path too, where the word is escaped. As it is, it is the ranking.
        for path in ["/streams/%74op", "/streams/to%70/", "/streams/%74%6F%70"] {
            assert_eq!(api.json(path)["stream_id"], "top", "{path}");
        }
        for path in ["/streams/top", "/streams/top/", "/streams/top?n=3"] {
            assert_eq!(api.json(path)["by"], "donations_usd", "{path}");
        }
        assert_eq!(api.get("/stream?stream_id=none").problem(404)["detail"], "there is no stream of this name");
        for bad in ["/stream", "/stream?stream_id=", "/stream?stream_id=%00", "/stream?stream_id=a&stream_id=b"] {
            assert_eq!(api.get(bad).problem(422)["parameter"], "stream_id", "{bad}");
        }
    });
}

#[test]
fn a_stream_that_never_was_is_not_found_and_a_bad_name_is_refused() {
    on_every_store(|store| {
        let api = store.api();
        assert_eq!(api.get("/streams/none").problem(404)["detail"], "there is no stream of this name");
        for bad in ["%00", "%ff", "a%zz", &"a".repeat(257)] {
            assert_eq!(api.get(&format!("/streams/{bad}")).problem(422)["parameter"], "stream_id");
        }
        assert_eq!(api.get("/streams/none?minutes=0").problem(422)["parameter"], "minutes");
        store.write(&[row(1, "a+b", 1, 1, 1), row(1, "100%25", 1, 1, 1)]);
        for (path, name) in [("a+b", "a+b"), ("a%2Bb", "a+b"), ("100%2525", "100%25")] {
            assert_eq!(api.json(&format!("/streams/{path}"))["stream_id"], name);
        }
    });
}

#[test]
fn dead_letters_are_counted_by_reason() {
    on_every_store(|store| {
        store.write_progress(9, 0, "kafka:x");
        let time = if store.name() == "SQLite" { "60000000" } else { "timestamptz '1970-01-01T00:01:00Z'" };
        let payload = if store.name() == "SQLite" { "x'00'" } else { "'\\x00'" };
        for (offset, reason, epoch, at, replayed) in
            [(1, "late", 3, time, "null"), (2, "late", 8, "null", time), (3, "empty", 4, "null", "null")]
        {
            store.execute(&format!(
                "insert into dead_letters values ('t', 0, {offset}, '{reason}', 'e', null, {payload}, {at}, {epoch}, {replayed})"
            ));
        }
        let answer = store.api().json("/dead-letters");
        let expected = json!([
            {"reason": "late", "records": 2, "newest_epoch": 8, "newest_record_time": "1970-01-01T00:01:00Z", "replayed": 1},
            {"reason": "empty", "records": 1, "newest_epoch": 4, "newest_record_time": null, "replayed": 0},
        ]);
        assert_eq!(answer["rows"], expected);
        assert_eq!((&answer["records"], &answer["epoch"]), (&json!(3), &json!(9)));
    });
    on_every_store(|store| assert_eq!(store.api().json("/dead-letters")["rows"], json!([])));
}
