//! `verify`: one line if all is well, and otherwise what differs, with both values and the records.

use super::stack::{START, Stack};
use std::time::{Duration, Instant};
use tidemark_dataflow::sink::columns::Dialect;
use tidemark_model::{Metric, Micros};

#[test]
fn a_healthy_store_is_one_line_and_a_changed_cell_is_named_with_its_records() {
    for stack in Stack::all("verify") {
        stack.publish_hostile_hour(4_000);
        stack.catch_up(&["--workers", "2"]);
        let said = stack.run(&["verify"]).expect(0);
        assert_eq!(said.out.lines().count(), 1, "{said:#?}");
        assert!(said.out.starts_with("ok: ") && said.out.contains("4000 records"), "{said:#?}");

        // A donation of the log, and the row that it is in.
        stack.publish([donation("7.25", "2026-01-01T00:58:30Z")]);
        stack.catch_up(&[]);
        stack.run(&["verify"]).expect(0);
        let minute = START.0 + 58 * 60_000_000;
        let changed = stack.sql(
            "update stream_metrics_minute set donations_usd = donations_usd + 0.01
             where stream_id = 'by hand' and window_start = '2026-01-01T00:58:00Z'",
            &format!(
                "update stream_metrics_minute set donations_cents = donations_cents + 1
                 where stream_id = 'by hand' and window_start = {minute}"
            ),
        );
        assert_eq!(changed, 1);
        let said = stack.run(&["verify"]).expect(1);
        let row = "stream_metrics_minute 2026-01-01T00:58:00Z by hand donations_usd: the store has 7.26, the log gives 7.25";
        assert!(said.out.contains(row), "{said:#?}");
        assert!(said.out.contains(": donation of 7.25 at 2026-01-01T00:58:30Z by ann, id d1: counts"), "{said:#?}");
        assert!(said.out.contains("DIFFERENT: 1 differences"), "{said:#?}");
        let json = stack.run(&["verify", "--json"]).expect(1).json().remove(0);
        let shown = &json["shown"][0];
        assert_eq!((json["ok"].as_bool(), json["differences"].as_i64()), (Some(false), Some(1)));
        assert_eq!((shown["stored"].as_str(), shown["computed"].as_str()), (Some("7.26"), Some("7.25")));
        assert_eq!(shown["records"][0]["event_id"], "d1");
    }
}

#[test]
fn every_table_is_compared() {
    for stack in Stack::all("tables") {
        stack.publish_hostile_hour(2_000);
        stack.catch_up(&[]);
        let both = |sql: &str| assert_eq!(stack.sql(sql, sql), 1, "{sql}");
        both("update stream_state set active_viewers = active_viewers + 1 where stream_id = 'stream_0001'");
        both("delete from stream_state where stream_id = 'stream_0002'");
        let first = r#"(partition, "offset") = (select partition, "offset" from dead_letters where reason = 'late' limit 1)"#;
        both(&format!("update dead_letters set reason = 'bad_ts' where {first}"));
        let broken =
            r#"(partition, "offset") = (select partition, "offset" from dead_letters where reason = 'invalid_json' limit 1)"#;
        assert_eq!(
            stack.sql(
                &format!("update dead_letters set payload = 'x' where {broken}"),
                &format!("update dead_letters set payload = x'78' where {broken}")
            ),
            1
        );
        assert_eq!(
            stack.sql(
                "update progress_partitions set watermark = watermark + interval '1 second' where partition = 0",
                "update progress_partitions set watermark = watermark + 1000000 where partition = 0"
            ),
            1
        );
        let said = stack.run(&["verify"]).expect(1);
        for part in [
            "stream_state stream_0001 active_viewers: the store has ",
            "stream_state stream_0002: the store has no such row, the log gives active_viewers ",
            " reason: the store has bad_ts, the log gives late",
            " payload: the store has x, the log gives ",
            "progress_partitions partition 0 watermark: the store has ",
            "DIFFERENT: 5 differences",
        ] {
            assert!(said.out.contains(part), "{part} is not in {said:#?}");
        }
        let bounded = stack.run(&["verify", "--limit", "1", "--records", "0"]).expect(1);
        assert!(bounded.out.contains("DIFFERENT: 5 differences, of which 1 are shown"), "{bounded:#?}");
    }
}

#[test]
fn each_metric_is_compared_and_nulls_of_an_earlier_program_are_counted() {
    for stack in Stack::all("metrics") {
        stack.publish([donation("7.25", "2026-01-01T00:58:30Z")]);
        stack.catch_up(&[]);
        let update = |set: &dyn Fn(&str) -> String| {
            let of = |metric: Metric, dialect: Dialect| {
                let column = dialect.column(metric);
                format!("update stream_metrics_minute set {column} = {} where stream_id = 'by hand'", set(&column))
            };
            Metric::MINUTE.map(|metric| (metric, [Dialect::Postgres, Dialect::Sqlite].map(|dialect| of(metric, dialect))))
        };
        for (metric, [postgres, sqlite]) in update(&|column| format!("{column} + 1")) {
            assert_eq!(stack.sql(&postgres, &sqlite), 1);
            let said = stack.run(&["verify"]).expect(1);
            let name = metric.name();
            assert!(said.out.contains(&format!("by hand {name}: the store has ")), "{said:#?}");
            assert!(said.out.contains("DIFFERENT: 1 differences"), "{said:#?}");
            let (_, [postgres, sqlite]) = update(&|column| format!("{column} - 1"))[metric as usize].clone();
            assert_eq!(stack.sql(&postgres, &sqlite), 1);
        }
        for (metric, [postgres, sqlite]) in update(&|_| "null".to_owned()) {
            if !metric.declared().first {
                assert_eq!(stack.sql(&postgres, &sqlite), 1);
            }
        }
        let said = stack.run(&["verify"]).expect(0);
        assert!(
            said.out.contains("; 5 values were not compared: they are null, in rows that an older version wrote"),
            "{said:#?}"
        );
        assert_eq!(stack.run(&["verify", "--json"]).expect(0).json()[0]["unknown_values"], 5);
    }
}

#[test]
fn the_pipeline_may_run_meanwhile() {
    for stack in Stack::all("meanwhile") {
        let mut publisher = stack.publisher();
        let running = stack.start();
        let mut verified = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut event = 0_i64;
        while verified < 3 {
            assert!(Instant::now() < deadline, "there is never a commit to verify");
            for _ in 0..200 {
                let payload = format!(
                    r#"{{"event_type":"chat_message","stream_id":"s{}","ts":"{}"}}"#,
                    event % 7,
                    Micros(START.0 + event * 100_000)
                );
                let record = tidemark_generator::publish::Record { payload: payload.as_bytes(), ..Default::default() };
                publisher.publish(record).unwrap();
                event += 1;
            }
            publisher.serve(Duration::from_millis(60)).unwrap();
            let said = stack.run(&["verify", "--json"]);
            match said.code {
                // The tables may not be there yet.
                2 => std::thread::sleep(Duration::from_millis(50)),
                _ => verified += i32::from(said.expect(0).json()[0]["records"].as_i64().unwrap() > 0),
            }
        }
        running.stop().expect(0);
    }
}

#[test]
fn what_cannot_be_verified_is_one_clear_line_and_status_2() {
    let stack = Stack::all("refusals").remove(0);
    let line = |said: super::stack::Said, part: &str| {
        let last = said.err.lines().last().unwrap_or_default();
        assert!(said.code == 2 && last.contains("ERROR") && last.contains(part) && said.out.is_empty(), "{part}: {said:#?}");
    };
    line(stack.run(&["verify"]), "has no tables of a pipeline");
    stack.publish([donation("1", "2026-01-01T00:00:00Z")]);
    stack.catch_up(&[]);
    line(stack.run(&["verify", "--pipeline", "other"]), "holds no pipeline other");
    line(stack.run(&["verify", "--database-url", "postgres://127.0.0.1:1/x"]), "Connection refused");
    line(stack.run(&["verify", "--topic", "other"]), "no such topic");
    line(stack.run(&["verify", "--kafka-bootstrap", "127.0.0.1:1"]), "does not answer");
    stack.file("log/t/0.log", b"");
    line(stack.run(&["verify"]), "was cut or made anew");
    stack.sql("", "update progress set fingerprint = replace(fingerprint, 'rules=', 'rules=9')");
    line(stack.run(&["verify"]), "by another version");
    let usage = stack.run(&["verify", "--limit", "many"]);
    assert!(usage.code == 2 && usage.err.contains("--limit"), "{usage:#?}");
}

fn donation(amount: &str, ts: &str) -> (String, Vec<u8>, Micros) {
    let payload = format!(
        r#"{{"event_type":"donation","stream_id":"by hand","user_id":"ann","event_id":"d1","ts":"{ts}","amount_usd":{amount}}}"#
    );
    ("by hand".to_owned(), payload.into_bytes(), Micros(START.0 + 3_600_000_000))
}

#[test]
fn less_is_judged_if_that_is_asked_for() {
    for stack in Stack::all("less") {
        stack.publish_hostile_hour(4_000);
        stack.publish([donation("7.25", "2026-01-01T00:58:30Z")]);
        stack.catch_up(&[]);
        let change = |table: &str, stream: &str, minute: i64| {
            let sql = |start: &str| {
                format!(
                    "update {table} set chat_messages = chat_messages + 1 where stream_id = '{stream}' and window_start = {start}"
                )
            };
            let start = Micros(START.0 + minute * 60_000_000);
            assert_eq!(stack.sql(&sql(&format!("timestamptz '{start}'")), &sql(&start.0.to_string())), 1);
        };
        change("stream_metrics_minute", "stream_0001", 10);
        change("stream_metrics_minute", "by hand", 58);
        let said = |arguments: &[&str], code: i32| stack.run(&[&["verify"], arguments].concat()).expect(code);
        assert!(said(&[], 1).out.contains("DIFFERENT: 2 differences"));
        let since = said(&["--since", "2026-01-01T00:10:01Z"], 1).out;
        assert!(since.contains("DIFFERENT: 1 differences") && since.contains(" by hand chat_messages: "), "{since}");
        assert!(
            since.contains("older rows are not judged: windows are judged that begin at 2026-01-01T00:11:00Z or later"),
            "{since}"
        );
        said(&["--since", "2026-01-01T00:59:00Z"], 0);
        let streams = said(&["--streams", "stream_0001", "stream_0002"], 1).out;
        assert!(streams.contains("DIFFERENT: 1 differences") && streams.contains(" stream states of 2 streams "), "{streams}");
        assert!(streams.contains(" stream_0001 chat_messages: the store has "), "{streams}");
        let fine = said(&["--streams", "stream_0002", "--json"], 0).json().remove(0);
        assert_eq!((fine["stream_states"].as_i64(), fine["totals"].as_i64()), (Some(1), Some(0)), "{fine}");
        assert!(said(&["--since", "yesterday"], 2).err.contains("--since"));
    }
}

/// A row, a state and a letter of which the log knows nothing, each behind the last of what it gives and before the first.
#[test]
fn what_only_the_store_has_is_named() {
    for stack in Stack::all("surplus") {
        stack.publish_hostile_hour(1_000);
        stack.catch_up(&[]);
        let both = |sql: &str| assert!(stack.sql(sql, sql) > 0, "{sql}");
        for stream in ["!", "~"] {
            both(&format!(
                "insert into stream_state (stream_id, active_viewers, window_start, updated_at, epoch)
                select '{stream}', 1, max(window_start), max(updated_at), 1 from stream_state"
            ));
        }
        for (partition, offset) in [(0, 100_000), (77, 5)] {
            both(&format!(
                r#"insert into dead_letters (topic, partition, "offset", reason, error, epoch)
                select min(topic), {partition}, {offset}, 'late', 'by hand', 1 from dead_letters"#
            ));
        }
        let metrics = |dialect: Dialect| dialect.columns(&Metric::MINUTE, |column| column.to_owned());
        for (stream, which) in [("!", "min"), ("~", "max")] {
            let copy = |dialect: Dialect| {
                let metrics = metrics(dialect);
                format!(
                    "insert into stream_metrics_minute (window_start, window_end, stream_id, {metrics}, epoch)
                    select window_start, window_end, '{stream}', {metrics}, epoch from stream_metrics_minute
                    where window_start = (select {which}(window_start) from stream_metrics_minute) limit 1"
                )
            };
            assert_eq!(stack.sql(&copy(Dialect::Postgres), &copy(Dialect::Sqlite)), 1);
        }
        let said = stack.run(&["verify"]).expect(1).out;
        for part in [
            "stream_state !: the store has ",
            "stream_state ~: the store has ",
            "dead_letters partition 0 offset 100000: the store has late, the log gives no such row\n    the log has there: no record",
            "dead_letters partition 77 offset 5: the store has late, the log gives no such row",
            " !: the store has active_viewers ",
            " ~: the store has active_viewers ",
            "DIFFERENT: 6 differences",
        ] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }
}
