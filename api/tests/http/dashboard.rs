//! The files of the page at `/`, and `/metrics/totals`, which is what it shows of all streams. What it looks like in a browser is
//! tested in `tests/browser`.

use crate::support::{TestStore, column, minute, on_every_store, row};
use serde_json::{Value, json};
use tidemark_api::params::Choice;
use tidemark_model::Metric;

/// The page's own links into its assets.
fn assets(page: &str) -> Vec<String> {
    page.split('"').filter(|text| text.starts_with("assets/")).map(|path| format!("/{path}")).collect()
}

#[test]
fn the_page_and_its_assets_are_cached_as_long_as_they_hold() {
    let api = TestStore::sqlite().api();
    let page = api.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), "no-cache");
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.body.contains("{{") && !page.body.contains("style=") && !page.body.contains("://"), "{}", page.body);
    // No script and no style but from files.
    assert_eq!(page.body.matches("<script").count(), page.body.matches("<script src=").count() + 1);
    assert_eq!(page.body.matches("<script type=\"module\" src=").count(), 1);
    let known = api.request_with("GET", "/", &[("if-none-match", page.header("etag"))]);
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    assert_eq!(api.request_with("GET", "/", &[("if-none-match", "W/\"other\"")]).status, 200);
    let assets = assets(&page.body);
    assert!(assets.len() >= 6, "{assets:?}");
    for path in &assets {
        let asset = api.request("HEAD", path);
        assert_eq!(asset.status, 200, "{path}");
        assert_eq!(asset.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(asset.header("x-content-type-options"), "nosniff");
    }
    let script = assets.iter().find(|path| path.ends_with("main.js")).unwrap();
    assert_eq!(api.request_with("HEAD", script, &[("accept-encoding", "gzip")]).header("content-encoding"), "gzip");
    let font = assets.iter().find(|path| path.ends_with("woff2")).unwrap();
    assert_ne!(api.request_with("HEAD", font, &[("accept-encoding", "gzip")]).header("content-encoding"), "gzip");
    // Another version's file is not this one's.
    for path in ["/assets/0000000000000000/main.js", "/assets/x/../main.js", &script.replace("main.js", "none.js")] {
        api.get(path).problem(404);
    }
    api.request("POST", "/").problem(405);
}

#[test]
fn the_page_knows_the_metrics_as_they_are_declared() {
    let page = TestStore::sqlite().api().get("/").body;
    let (_, rest) = page.split_once("<meta name=\"metrics\" content='").unwrap();
    let (content, _) = rest.split_once("'>").unwrap();
    let metrics: Vec<Value> = serde_json::from_str(&content.replace("&#39;", "'").replace("&amp;", "&")).unwrap();
    assert_eq!(metrics.len(), Metric::ALL.len());
    for (told, metric) in metrics.iter().zip(Metric::ALL) {
        let declared = metric.declared();
        assert_eq!((&told["name"], &told["meaning"]), (&json!(declared.name), &json!(declared.meaning)));
        assert_eq!(told["first"], declared.first);
        assert!(["count", "milliseconds", "usd"].contains(&told["unit"].as_str().unwrap()));
        assert!(["at_end", "distinct", "sum", "largest"].contains(&told["roll_up"].as_str().unwrap()));
        assert_eq!(told["events"].as_array().unwrap().len(), declared.events.len());
        assert_eq!(told["grains"], json!(declared.grains.iter().map(|grain| grain.as_str()).collect::<Vec<_>>()));
    }
}

#[test]
fn totals_are_exact_sums_by_minute() {
    on_every_store(|store| {
        let api = store.api();
        let empty = api.json("/metrics/totals");
        assert_eq!((&empty["rows"], &empty["present"]), (&json!([]), &json!({"streams": 0, "active_viewers": 0})));
        store.write_progress(9, minute(2), "kafka:x");
        store.write(&[
            row(90, "old", 7, 7, 7),
            row(3, "a", 4, 2, 9_007_199_254_740_993),
            row(3, "b", 5, 3, 20),
            row(2, "b", 6, 1, 1),
        ]);
        let answer = api.get("/metrics/totals?min_epoch=9");
        assert_eq!(answer.header("x-tidemark-epoch"), "9");
        assert!(answer.body.contains(r#""donations_usd":90071992547410.13"#), "{}", answer.body);
        let totals = answer.json();
        assert_eq!(column(&totals, "streams"), [1, 2]);
        assert_eq!(column(&totals, "active_viewers"), [6, 9]);
        assert_eq!(column(&totals, "chat_messages"), [1, 5]);
        assert_eq!(column(&totals, "final"), [false, true]);
        assert_eq!(totals["epoch"], 9);
        assert_eq!(column(&api.json("/metrics/totals?minutes=1440"), "chat_messages"), [1, 5, 7]);
        assert_eq!(column(&api.json("/metrics/totals?limit=1"), "chat_messages"), [1]);
        let start = totals["rows"][0]["window_start"].as_str().unwrap();
        assert_eq!(column(&api.json(&format!("/metrics/totals?to={start}")), "chat_messages"), [5, 7]);
        assert_eq!(column(&api.json(&format!("/metrics/totals?from={start}")), "chat_messages"), [1]);
        for (name, value) in
            [("minutes", "0"), ("minutes", "1441"), ("limit", "5001"), ("from", "x"), ("to", "x"), ("min_epoch", "-1")]
        {
            let problem = api.get(&format!("/metrics/totals?{name}={value}")).problem(422);
            assert_eq!((&problem["parameter"], &problem["value"]), (&Value::from(name), &Value::from(value)));
        }
    });
}

#[test]
fn totals_of_the_pipeline_take_the_place_of_sums_from_the_first_of_them_on() {
    on_every_store(|store| {
        store.write_progress(9, minute(2), "kafka:x");
        store.write(&[row(5, "a", 1, 1, 1), row(4, "a", 2, 2, 2), row(3, "a", 3, 3, 3), row(1, "a", 4, 4, 4)]);
        let money = if store.name() == "SQLite" { "donations_cents" } else { "donations_usd" };
        // Everybody of other streams, too.
        for minutes_ago in [4, 3] {
            let (start, end) = (store.time(minute(minutes_ago)), store.time(minute(minutes_ago - 1)));
            store.execute(&format!(
                "insert into stream_totals_minute (window_start, window_end, streams, active_viewers, chat_messages, {money}, epoch)
                 values ({start}, {end}, 1, 20, 23, 26, 9)"
            ));
        }
        let api = store.api();
        let totals = api.json("/metrics/totals");
        // The newest minute has no totals although earlier ones have: its rows are not summed.
        assert_eq!(column(&totals, "active_viewers"), [20, 20, 1]);
        assert_eq!(column(&totals, "chat_messages"), [23, 23, 1]);
        assert_eq!(column(&totals, "streams"), [1, 1, 1]);
        let money = if store.name() == "SQLite" { "0.26" } else { "26.00" };
        assert!(api.get("/metrics/totals").body.contains(&format!("\"donations_usd\":{money},\"donors\":null")));
        let start = totals["rows"][1]["window_start"].as_str().unwrap();
        assert_eq!(column(&api.json(&format!("/metrics/totals?to={start}")), "active_viewers"), [1]);
        assert_eq!(column(&api.json(&format!("/metrics/totals?from={start}&limit=1")), "active_viewers"), [20]);
    });
}

#[test]
fn what_is_present_are_the_newest_minutes_of_streams_in_the_range() {
    on_every_store(|store| {
        store.write_progress(9, minute(2), "kafka:x");
        for (stream, viewers, minutes_ago) in [("a", 4, 1), ("b", 5, 50), ("old", 6, 70)] {
            let start = minute(minutes_ago);
            let start = if store.name() == "SQLite" { start.to_string() } else { format!("to_timestamp({})", start / 1_000_000) };
            store.execute(&format!("insert into stream_state values ('{stream}', {viewers}, {start}, {start}, 7)"));
        }
        let api = store.api();
        assert_eq!(api.json("/metrics/totals")["present"], json!({"streams": 2, "active_viewers": 9}));
        assert_eq!(api.json("/metrics/totals?minutes=120")["present"], json!({"streams": 3, "active_viewers": 15}));
    });
}
