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
