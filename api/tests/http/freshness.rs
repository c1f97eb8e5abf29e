//! How new an answer is, what may come from memory, and that it is never stale.

use crate::support::{Answer, Api, OTHERS, Row, column, minute, on_every_store, row};
use serde_json::json;
use std::time::Duration;
use tidemark_model::Micros;

const PATHS: [&str; 6] = ["/metrics", "/metrics/latest", "/streams", "/streams/top", "/streams/a", "/dead-letters"];

fn get_if_changed(api: &Api, path: &str, tag: &str) -> Answer {
    api.request_with("GET", path, &[("if-none-match", tag)])
}

fn epoch(answer: &Answer) -> i64 {
    answer.header("x-tidemark-epoch").parse().unwrap_or(0)
}

#[test]
fn every_answer_tells_epoch_and_watermark() {
    on_every_store(|store| {
        store.write(&[row(2, "a", 1, 1, 1)]);
        let api = store.api();
        assert_eq!(api.get("/metrics").header("x-tidemark-epoch"), "");
        store.write_progress(7, minute(2), "kafka:x");
        for path in PATHS.iter().chain(&["/health", "/metrics?format=csv"]) {
            let answer = api.get(path);
            assert_eq!(epoch(&answer), 7, "{path}");
            assert_eq!(answer.header("x-tidemark-watermark"), Micros(minute(2)).to_string(), "{path}");
        }
    });
}

#[test]
fn min_epoch_waits_for_the_commit_and_never_answers_with_older_data() {
    on_every_store(|store| {
        store.write_progress(1, minute(20), "kafka:x");
        store.commit(&[row(2, "a", 1, 1, 1)], 0);
        let api = store.api_with(&["--api-request-timeout", "3s"]);
        let late = api.get("/metrics?min_epoch=3");
        let problem = late.problem(504);
        assert_eq!(problem["epoch"], 2);
        assert!((Duration::from_millis(2_900)..Duration::from_secs(6)).contains(&late.took), "{:?}", late.took);
        std::thread::scope(|scope| {
            let asker = &api;
            let waiting: Vec<_> =
                PATHS.iter().map(|path| scope.spawn(move || asker.get(&format!("{path}?min_epoch=3")))).collect();
            std::thread::sleep(Duration::from_millis(300));
            store.commit(&[row(2, "a", 2, 1, 1)], 0);
            for answer in waiting.into_iter().map(|thread| thread.join().unwrap()) {
                assert_eq!((answer.status, epoch(&answer)), (200, 3));
            }
        });
        // Each commit is seen by whoever asks for it, whatever was answered before.
        for round in 3..60 {
            let epoch = store.commit(&[row(2, "a", round, 1, 1)], 0);
            let answer = api.json(&format!("/metrics?min_epoch={epoch}"));
            assert_eq!(column(&answer, "active_viewers"), [round]);
            assert_eq!(api.json(&format!("/metrics/latest?min_epoch={epoch}"))["row"]["active_viewers"], round);
        }
    });
}

#[test]
fn an_epoch_of_one_answer_is_enough_for_the_next() {
    on_every_store(|store| {
        store.write_progress(1, minute(20), "kafka:x");
        let api = store.api();
        let start = minute(2);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 1..150 {
                    // The number of chat messages is the epoch.
                    store.commit(&[Row { start, stream_id: "a", viewers: 1, chats: round + 1, cents: 1, others: OTHERS }], 0);
                    std::thread::sleep(Duration::from_millis(4));
                }
            });
            let mut seen = 1;
            while !writer.is_finished() {
                for path in ["/metrics", "/metrics/latest", "/streams/top?by=chat_messages", "/streams/a", "/streams"] {
                    let mark = if path.contains('?') { '&' } else { '?' };
                    let answer = api.get(&format!("{path}{mark}min_epoch={seen}"));
                    if answer.status == 404 {
                        continue;
                    }
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    assert!(epoch(&answer) >= seen, "{path}: {} is older than {seen}", epoch(&answer));
                    seen = epoch(&answer);
                    let json = answer.json();
                    // What the headers say is what the rows are of.
                    let told = [&json["rows"][0]["chat_messages"], &json["row"]["chat_messages"], &json["rows"][0]["value"]];
                    let told = told.into_iter().find_map(serde_json::Value::as_i64);
                    assert!(seen == 1 || told.is_none_or(|told| told == seen), "{path}: {seen}: {json}");
                }
            }
            assert!(seen > 20, "{seen}");
        });
    });
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    on_every_store(|store| {
        store.write_progress(1, minute(20), "kafka:x");
        store.commit(&[row(2, "a", 1, 1, 1)], 0);
        let api = store.api();
        let known = || drop(api.get("/metrics?min_epoch=1"));
        for path in &PATHS[..5] {
            known();
            let answer = api.get(path);
            let tag = answer.header("etag").to_owned();
            assert!(tag.starts_with("W/\""), "{path}: {tag}");
            assert_eq!(answer.header("cache-control"), "no-cache");
            for sent in [tag.clone(), format!("\"other\", {tag}"), tag.trim_start_matches("W/").to_owned(), "*".to_owned()] {
                let again = get_if_changed(&api, path, &sent);
                assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", tag.as_str()), "{path}");
                assert_eq!(again.header("x-tidemark-epoch"), "2");
            }
            assert_eq!(get_if_changed(&api, path, "W/\"other\"").status, 200);
        }
        let tags = [
            "/metrics",
            "/metrics?minutes=59",
            "/metrics?limit=5",
            "/metrics?final=false",
            "/metrics?stream_id=a",
            "/streams/a",
            "/streams/a?minutes=59",
            "/metrics/latest",
            "/metrics/latest?stream_id=a",
            "/metrics?from=2026-01-01T00:00:00Z",
            "/metrics?from=2026-01-01T00:00:00Z&grain=hour",
            "/metrics/latest?grain=hour",
            "/metrics/totals?from=2026-01-01T00:00:00Z",
            "/metrics/totals?from=2026-01-01T00:00:00Z&grain=hour",
        ]
        .map(|path| api.get(path).header("etag").to_owned());
        let different: std::collections::BTreeSet<_> = tags.iter().collect();
        assert_eq!(different.len(), tags.len(), "{tags:?}");
        // What says the same is the same.
        assert_eq!(api.get("/metrics?minutes=60&x=1&stream_id=").header("etag"), tags[0]);
        let epoch = store.commit(&[row(2, "a", 2, 1, 1)], 0);
        let changed = get_if_changed(&api, &format!("/metrics?min_epoch={epoch}"), &tags[0]);
        assert_eq!((changed.status, column(&changed.json(), "active_viewers")), (200, vec![json!(2)]));
    });
}

#[test]
fn answers_from_memory_tell_the_present_time() {
    on_every_store(|store| {
        store.write_progress(1, minute(20), "kafka:x");
        store.commit(&[row(2, "a\"server_time_utc\":\"x", 1, 1, 1)], 0);
        let api = store.api();
        let times: Vec<_> = (0..3)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(30));
                let answer = api.json("/metrics?min_epoch=2");
                assert_eq!(answer["rows"][0]["stream_id"], "a\"server_time_utc\":\"x");
                answer["server_time_utc"].as_str().unwrap().to_owned()
            })
            .collect();
        assert!(times[0] < times[1] && times[1] < times[2], "{times:?}");
    });
}

#[test]
fn another_minute_is_another_answer() {
    on_every_store(|store| {
        store.write_progress(1, minute(20), "kafka:x");
        // A row that leaves the last three minutes, and enters "ended", when the running minute ends.
        store.commit(&[row(2, "leaving", 1, 1, 1), row(0, "running", 1, 1, 1)], 0);
        let api = store.api();
        assert_eq!(column(&api.json("/metrics?minutes=3&min_epoch=2"), "stream_id"), ["running", "leaving"]);
        assert_eq!(api.json("/metrics/latest")["row"]["stream_id"], "leaving");
        let tag = api.get("/metrics?minutes=3").header("etag").to_owned();
        let fixed = api.get("/metrics?from=2020-01-01T00:00:00Z").header("etag").to_owned();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        std::thread::sleep(Duration::from_secs(61 - now % 60));
        assert_eq!(api.json("/metrics/latest")["row"]["stream_id"], "running");
        assert_eq!(column(&get_if_changed(&api, "/metrics?minutes=3", &tag).json(), "stream_id"), ["running"]);
        assert_eq!(get_if_changed(&api, "/metrics?from=2020-01-01T00:00:00Z", &fixed).status, 304);
    });
}

#[test]
fn tables_made_anew_make_other_tags() {
    on_every_store(|store| {
        store.write_progress(2, minute(20), "kafka:x");
        let api = store.api();
        let tag = api.get("/metrics?min_epoch=2").header("etag").to_owned();
        let key = if store.name() == "SQLite" { "x'01'" } else { "'\\x01'" };
        store.execute(&format!("update progress set hash_key = {key}"));
        std::thread::sleep(Duration::from_millis(700));
        assert_ne!(api.get("/metrics").header("etag"), tag);
        assert_eq!(get_if_changed(&api, "/metrics", &tag).status, 200);
    });
}
