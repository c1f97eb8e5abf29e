//! `/health` while the store is up.

use crate::support::{minute, on_every_store};
use serde_json::{Value, json};
use tidemark_model::Micros;

#[test]
fn before_the_first_commit_it_says_so() {
    on_every_store(|store| {
        let health = store.api().json("/health");
        assert_eq!((&health["ok"], &health["db"]), (&json!(true), &json!(true)));
        for member in ["epoch", "watermark", "lag_records", "holder"] {
            assert_eq!(health.get(member), Some(&Value::Null), "{health}");
        }
        assert_eq!(health["detail"], "the pipeline has not committed yet");
    });
}

#[test]
fn it_tells_lag_and_what_holds_the_watermark() {
    on_every_store(|store| {
        store.write_progress(42, minute(12), "kafka:stream.events");
        store.write_partition(0, 10, 15, minute(11), "at_end");
        store.write_partition(1, 7, 1_000, minute(12) + 500_000, "backlogged");
        store.write_partition(2, 9, 5, minute(20), "idle");
        store.write_partition(3, 0, 0, 0, "not_counting");
        let api = store.api();
        let health = api.json("/health");
        assert_eq!((&health["epoch"], &health["lag_records"]), (&json!(42), &json!(998)));
        assert_eq!(health["watermark"], Micros(minute(12)).to_string());
        assert_eq!(health["holder"]["partition"], 2, "the idle one counts with the pipeline's own watermark: {health}");
        store.write_progress(43, minute(12) + 500_000, "kafka:stream.events");
        let holder = &api.json("/health")["holder"];
        assert_eq!((&holder["topic"], &holder["partition"], &holder["state"]), (&json!("t"), &json!(1), &json!("backlogged")));
        assert_eq!(holder["watermark"], Micros(minute(12) + 500_000).to_string());
        assert!((719..=800).contains(&holder["behind_seconds"].as_i64().unwrap()), "{holder}");
        store.execute("update progress_partitions set watermark = null where partition = 1");
        let holder = &api.json("/health")["holder"];
        assert_eq!((&holder["partition"], &holder["watermark"]), (&json!(1), &Value::Null));
    });
}

#[test]
fn offsets_of_a_file_log_are_no_records() {
    on_every_store(|store| {
        store.write_progress(1, 0, "file:stream.events");
        store.write_partition(0, 10, 15, 0, "at_end");
        let health = store.api().json("/health");
        assert_eq!((&health["lag_records"], &health["holder"]), (&Value::Null, &Value::Null));
        assert_eq!(health.get("detail"), None);
    });
}

#[test]
fn a_writer_without_a_sign_of_life_is_told() {
    on_every_store(|store| {
        store.write_progress(42, minute(12), "kafka:stream.events");
        store.write_partition(0, 10, 15, minute(11), "at_end");
        let api = store.api();
        // An idle pipeline has long committed nothing, and is well.
        store.sign_of_life(2, 3_600, "");
        let health = api.json("/health");
        assert_eq!((&health["ok"], &health["trouble"], health.get("error")), (&json!(true), &Value::Null, None));
        assert!(health["heartbeat_at"].is_string(), "{health}");
        store.sign_of_life(9, 0, "");
        let answer = api.get("/health");
        let health = answer.json();
        assert_eq!(
            (answer.status, &health["ok"], &health["db"], &health["epoch"]),
            (503, &json!(false), &json!(true), &json!(42))
        );
        assert_eq!(health["lag_records"], 5, "what is known is told all the same: {health}");
        let since = health["heartbeat_at"].as_str().unwrap();
        assert_eq!(health["error"], format!("the pipeline's writer has given no sign of life since {since}"));
        // Answers are still given: they are as right as they were.
        api.json("/metrics");
        assert_eq!(store.api_with(&["--api-stale-after", "off"]).get("/health").status, 200);
        assert_eq!(store.api_with(&["--api-stale-after", "1m"]).get("/health").status, 200);
        store.sign_of_life(0, 0, "");
        api.json("/health");
    });
}

#[test]
fn what_holds_the_pipeline_up_is_told_and_is_ill_once_nothing_is_committed() {
    on_every_store(|store| {
        store.write_progress(42, minute(12), "kafka:stream.events");
        let api = store.api();
        store.sign_of_life(1, 1, "the leader of partition 3 does not answer");
        assert_eq!(api.json("/health")["trouble"], "the leader of partition 3 does not answer");
        store.sign_of_life(1, 9, "the leader of partition 3 does not answer");
        let answer = api.get("/health");
        let health = answer.json();
        assert_eq!((answer.status, &health["ok"]), (503, &json!(false)));
        assert_eq!(health["trouble"], "the leader of partition 3 does not answer");
        let error = health["error"].as_str().unwrap();
        let since = health["committed_at"].as_str().unwrap();
        assert_eq!(error, format!("the pipeline stands still since {since}: the leader of partition 3 does not answer"));
    });
}

#[test]
fn tables_of_a_dataflow_that_gives_no_sign_of_life_are_read() {
    on_every_store(|store| {
        store.write_progress(42, minute(12), "kafka:stream.events");
        for column in ["run", "heartbeat_at", "trouble"] {
            store.execute(&format!("alter table progress drop column {column}"));
        }
        let api = store.api();
        let health = api.json("/health");
        assert_eq!((&health["heartbeat_at"], &health["trouble"], &health["epoch"]), (&Value::Null, &Value::Null, &json!(42)));
        api.json("/metrics");
    });
}
