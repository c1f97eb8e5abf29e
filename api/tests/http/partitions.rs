//! Minute rows that are partitioned by day: a question about a time reads the partitions of that time only.

use crate::support::{NULLS, Row, TestStore, minute};
use std::time::{Duration, Instant};

/// How many days before today have a partition each, with a row.
const DAYS: i64 = 6;
const DAY: i64 = 86_400_000_000;

/// How often partitions of days before yesterday were read, and whether a newer one was.
fn looked_into(store: &TestStore) -> (i64, bool) {
    let select = "select sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0)) filter (where relname < $1)::bigint,
            sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0)) filter (where relname >= $1)::bigint
        from pg_stat_user_tables where relname ~ '^stream_metrics_minute_[0-9]'";
    let row = store.client().query_one(select, &[&name(1)]).unwrap();
    (row.get(0), row.get::<_, i64>(1) > 0)
}

fn start_of(days_ago: i64) -> i64 {
    minute(0) - minute(0).rem_euclid(DAY) - days_ago * DAY
}

fn name(days_ago: i64) -> String {
    let date = tidemark_model::Micros(start_of(days_ago)).to_string();
    format!("stream_metrics_minute_{}", date[..10].replace('-', ""))
}

#[test]
fn a_question_about_a_time_reads_the_partitions_of_that_time() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    for days_ago in 0..=DAYS {
        let (from, to) = (store.time(start_of(days_ago)), store.time(start_of(days_ago - 1)));
        let (from, to) = (from.replace("timestamptz ", ""), to.replace("timestamptz ", ""));
        let name = name(days_ago);
        store.execute(&format!("create table {name} partition of stream_metrics_minute for values from ({from}) to ({to})"));
    }
    let row = |start| Row { start, stream_id: "s", viewers: 1, chats: 1, cents: 1, others: NULLS };
    let rows: Vec<Row> = (0..=DAYS).map(|days_ago| row(start_of(days_ago))).chain((1..30).map(|ago| row(minute(ago)))).collect();
    store.write(&rows);
    store.write_progress(1, minute(0), "f");
    let yesterday = tidemark_model::Micros(start_of(1));
    let questions = [
        "/metrics".to_owned(),
        "/metrics?stream_id=s&minutes=120".to_owned(),
        "/metrics?order_by=chat_messages&minutes=1440".to_owned(),
        "/metrics?direction=asc&final=true".to_owned(),
        "/metrics?final=false".to_owned(),
        "/metrics?min_chat_messages=1".to_owned(),
        "/metrics?format=csv".to_owned(),
        format!("/metrics?from={yesterday}"),
        format!("/metrics?from={yesterday}&to={}&order_by=active_viewers", tidemark_model::Micros(minute(0))),
        "/metrics/totals".to_owned(),
        "/streams".to_owned(),
        "/streams/top?by=chat_messages".to_owned(),
        "/streams/top?by=watch_ms&minutes=1440".to_owned(),
        "/streams/s".to_owned(),
    ];
    for question in questions {
        assert_eq!(older_ones_read(&mut store, &question), 0, "{question}");
    }
    let all = format!("/metrics?from={}", tidemark_model::Micros(start_of(DAYS)));
    assert!(older_ones_read(&mut store, &all) > 0, "it would be seen");
}

/// How often partitions of days before yesterday were read for an answer.
fn older_ones_read(store: &mut TestStore, question: &str) -> i64 {
    store.execute("select pg_stat_reset()");
    let api = store.api();
    // More often than a server plans a prepared statement for its values only; each answer is a new one.
    for _ in 0..8 {
        store.commit(&[], 0);
        assert_eq!(api.get(question).status, 200, "{question}");
    }
    drop(api);
    // Postgres tells what a connection did a moment after it.
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let (older, newer) = looked_into(store);
        if newer {
            return older;
        }
        assert!(Instant::now() < until, "{question}: no partition was read");
        std::thread::sleep(Duration::from_millis(100));
    }
}
