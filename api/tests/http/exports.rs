//! Filters beyond those of the replaced system, and answers in pieces.

use crate::support::{Row, column, minute, on_every_store, row};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use tidemark_model::{Metric, Micros};

/// The metrics of a row as CSV has them.
fn cells(row: &Row) -> String {
    let shown = Metric::MINUTE.iter().zip(row.values()).map(|(metric, value)| metric.shown(value.unwrap()));
    shown.collect::<Vec<_>>().join(",")
}

#[test]
fn rows_are_filtered_by_streams_values_and_finality() {
    on_every_store(|store| {
        store.write(&[row(5, "a", 1, 10, 100), row(4, "b", 2, 20, 1_000), row(3, "ä", 3, 30, 950), row(2, "d", 4, 5, 5)]);
        let api = store.api();
        let streams = |query: &str| column(&api.json(&format!("/metrics?direction=asc&{query}")), "stream_id");
        assert_eq!(streams("stream_id=a&stream_id=%C3%A4&stream_id=none&stream_id="), ["a", "ä"]);
        assert_eq!(streams("min_viewers=2"), ["b", "ä", "d"]);
        assert_eq!(streams("min_viewers=2&min_chat_messages=20&min_donations_usd=9.5"), ["b", "ä"]);
        // By value, not by text, and exactly.
        assert_eq!(streams("min_donations_usd=9.51"), ["b"]);
        assert_eq!(streams("min_donations_usd=0.05"), ["a", "b", "ä", "d"]);
        assert_eq!((streams("final=true").len(), streams("final=false").len()), (0, 4));
        store.write_progress(1, minute(3), "kafka:x");
        assert_eq!((streams("final=true"), streams("final=false")), (vec![json!("a"), json!("b")], vec![json!("ä"), json!("d")]));
        let filters =
            api.json("/metrics?stream_id=b&stream_id=a&min_viewers=1&min_donations_usd=2.5&final=true")["filters"].take();
        assert_eq!(filters["stream_id"], json!(["a", "b"]));
        assert_eq!(
            (&filters["min_viewers"], &filters["min_donations_usd"], &filters["final"]),
            (&json!(1), &json!(2.5), &json!(true))
        );
        // A cursor belongs to these filters too.
        let page = api.json("/metrics?limit=1&min_viewers=2");
        let cursor = page["next_cursor"].as_str().unwrap();
        assert_eq!(column(&api.json(&format!("/metrics?limit=5&min_viewers=2&cursor={cursor}")), "stream_id"), ["ä", "b"]);
        for other in
            ["min_viewers=3", "min_viewers=2&final=false", "min_viewers=2&min_chat_messages=0", "min_viewers=2&stream_id=a"]
        {
            assert_eq!(api.get(&format!("/metrics?{other}&cursor={cursor}")).problem(422)["parameter"], "cursor");
        }
    });
}

#[test]
fn csv_and_lines_of_json_say_the_same() {
    on_every_store(|store| {
        store.write_progress(3, minute(2), "kafka:x");
        store.write(&[row(3, "a,\"b\"", 1, 2, 25), row(1, "ä", 4, 5, 100)]);
        let api = store.api();
        let csv = api.get("/metrics?format=csv&direction=asc");
        let (a, b, c) = (Micros(minute(3)), Micros(minute(2)), (Micros(minute(1)), Micros(minute(0))));
        let names = Metric::MINUTE.map(Metric::name).join(",");
        let (of_a, of_b) = (cells(&row(3, "", 1, 2, 25)), cells(&row(1, "", 4, 5, 100)));
        assert!(of_a.starts_with("1,101,102,2,104,105,0.25,107"), "{of_a}");
        let expected = format!(
            "window_start,window_end,stream_id,{names},final\r\n\
             {a},{b},\"a,\"\"b\"\"\",{of_a},true\r\n\
             {},{},ä,{of_b},false\r\n",
            c.0, c.1
        );
        assert_eq!((csv.body.as_str(), csv.header("content-type")), (expected.as_str(), "text/csv; charset=utf-8"));
        assert_eq!((csv.header("x-tidemark-epoch"), csv.header("x-tidemark-watermark")), ("3", &*Micros(minute(2)).to_string()));
        let lines = api.get("/metrics?format=ndjson&direction=asc");
        assert_eq!(lines.header("content-type"), "application/x-ndjson");
        let rows: Vec<Value> = lines.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(Value::Array(rows), api.json("/metrics?direction=asc")["rows"]);
        let none = api.get("/metrics?format=csv&stream_id=none");
        assert_eq!(none.body.lines().count(), 1);
        assert_eq!((api.get("/metrics?format=ndjson&stream_id=none").body, none.status), (String::new(), 200));
        assert_eq!(api.get("/metrics?format=csv&limit=1").body.lines().count(), 2);
        assert_eq!(api.get("/metrics?format=csv&limit=10000001").problem(422)["parameter"], "limit");
        api.get("/metrics?format=csv&limit=5001");
    });
}

#[test]
fn no_cell_of_csv_begins_like_a_formula_and_json_is_exact() {
    const NAMES: [&str; 8] = ["=HYPERLINK(\"x\")", "+1", "-2", "@sum", "\t=1", "'=1", "'plain", "plain=1"];
    on_every_store(|store| {
        store.write(&NAMES.map(|name| row(2, name, 1, 2, 3)));
        let api = store.api();
        let csv = api.get("/metrics?format=csv").body;
        for cell in [",\"'=HYPERLINK(\"\"x\"\")\",", ",'+1,", ",'-2,", ",'@sum,", ",'\t=1,", ",''=1,", ",'plain,", ",plain=1,"] {
            assert!(csv.contains(&format!("{cell}{},false\r\n", cells(&row(2, "", 1, 2, 3)))), "{cell}: {csv}");
        }
        let lines = api.get("/metrics?format=ndjson").body;
        let mut names: Vec<_> =
            lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["stream_id"].clone()).collect();
        names.sort_by_key(|name| NAMES.iter().position(|known| name == known));
        assert_eq!(names, NAMES);
    });
}

fn many(count: i64) -> Vec<Row> {
    (0..count).map(|ago| Row { start: minute(0) - ago * 60_000_000, ..row(0, "a stream", ago, 1, 1) }).collect()
}

#[test]
fn a_large_answer_is_sent_in_pieces_and_is_of_one_snapshot() {
    on_every_store(|store| {
        store.write_progress(1, 0, "kafka:x");
        store.write(&many(120_000));
        let api = store.api();
        let mut socket = TcpStream::connect(("127.0.0.1", api.port())).unwrap();
        let request = "GET /metrics?format=csv&to=2100-01-01T00:00:00Z HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).unwrap();
        let mut first = [0; 4_096];
        let read = socket.read(&mut first).unwrap();
        assert!(String::from_utf8_lossy(&first[..read]).to_lowercase().contains("transfer-encoding: chunked"));
        // While it is being read all rows change.
        store.execute("update stream_metrics_minute set chat_messages = 555555");
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        let text = String::from_utf8(rest).unwrap();
        assert!(!text.contains(",555555,") && text.ends_with("0\r\n\r\n"));
        assert_eq!(text.matches(",a stream,").count() + String::from_utf8_lossy(&first).matches(",a stream,").count(), 120_000);
    });
}

#[test]
fn answers_that_are_not_taken_give_their_connection_back() {
    on_every_store(|store| {
        store.write(&many(60_000));
        let api = store.api();
        for _ in 0..6 {
            let mut socket = TcpStream::connect(("127.0.0.1", api.port())).unwrap();
            let request = "GET /metrics?format=ndjson&to=2100-01-01T00:00:00Z HTTP/1.1\r\nhost: x\r\n\r\n";
            socket.write_all(request.as_bytes()).unwrap();
            let mut first = [0; 512];
            assert_ne!(socket.read(&mut first).unwrap(), 0);
        }
        let whole = api.wait_for("/metrics?format=csv&limit=5", 200);
        assert_eq!(whole.body.lines().count(), 6);
    });
}
