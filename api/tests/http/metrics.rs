//! Every metric that is declared, in every question that names one; and nulls, which rows have that an earlier version wrote.

use crate::conformance::DOCUMENT;
use crate::support::{NULLS, Row, TestStore, column, minute, on_every_store, row};
use serde_json::{Value, json};
use tidemark_model::Metric;
use tidemark_model::metrics::{RollUp, Unit};

/// The metrics that may be null.
fn nullable() -> impl Iterator<Item = Metric> {
    Metric::MINUTE.into_iter().filter(|metric| !metric.declared().first)
}

/// Every metric has this value: a count, or cents.
fn all(minutes_ago: i64, stream_id: &'static str, value: i64) -> Row {
    row(minutes_ago, stream_id, value, value, value).with_others(Some(value))
}

fn old(minutes_ago: i64, stream_id: &'static str) -> Row {
    Row { others: NULLS, ..row(minutes_ago, stream_id, 1, 1, 1) }
}

/// A value as JSON has it.
pub fn shown(metric: Metric, value: i64) -> Value {
    serde_json::from_str(&metric.shown(value)).unwrap()
}

/// What `min_` is followed by.
pub fn minimum(metric: Metric) -> String {
    format!("min_{}", metric.name().trim_start_matches("active_"))
}

#[test]
fn a_row_of_an_earlier_version_has_nulls() {
    on_every_store(|store| {
        store.write_progress(1, minute(1), "kafka:x");
        store.write(&[old(2, "a")]);
        let api = store.api();
        let page = api.json("/metrics");
        for metric in Metric::MINUTE {
            let expected = match metric {
                Metric::ActiveViewers | Metric::ChatMessages => json!(1),
                Metric::DonationsUsd => json!(0.01),
                _ => Value::Null,
            };
            assert_eq!(page["rows"][0].get(metric.name()), Some(&expected), "{}", metric.name());
        }
        let row = &page["rows"][0];
        assert_eq!(api.json("/metrics/latest")["row"], *row);
        assert_eq!(api.json("/streams/a")["rows"], page["rows"]);
        let line = api.get("/metrics?format=ndjson").body;
        assert!(line.contains(r#","unique_viewers":null,"watch_ms":null,"chat_messages":1,"#), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), *row);
        let csv = api.get("/metrics?format=csv").body;
        let members = Metric::MINUTE.map(Metric::name).join(",");
        let later = ",".repeat(Metric::MINUTE.len() - 8);
        assert!(csv.contains(&format!(",{members},")) && csv.ends_with(&format!(",a,1,,,1,,,0.01,{later},true\r\n")), "{csv}");
        let live = api.live("/live", None).until(1);
        assert_eq!(live.last().unwrap().data["rows"], page["rows"]);
    });
}

#[test]
fn a_null_in_a_column_of_the_first_tables_is_refused() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    store.write(&[row(2, "a", 1, 1, 1)]);
    for metric in Metric::MINUTE.into_iter().filter(|metric| metric.declared().first) {
        let name = metric.name();
        store.execute(&format!(
            "alter table stream_metrics_minute alter {name} drop not null; update stream_metrics_minute set {name} = null"
        ));
        store.api().get("/metrics").problem(500);
        store.execute(&format!("update stream_metrics_minute set {name} = 1"));
    }
    store.api().json("/metrics");
}

#[test]
fn rows_are_ordered_by_any_metric_and_null_is_the_smallest() {
    on_every_store(|store| {
        store.write(&[
            all(5, "zero", 0),
            all(4, "large", 1_000),
            old(3, "old"),
            old(2, "b, old"),
            old(2, "a, old"),
            all(1, "small", 20),
        ]);
        let api = store.api();
        for metric in Metric::MINUTE {
            let streams = |direction: &str| {
                let order = format!("/metrics?order_by={}&direction={direction}", metric.name());
                column(&api.json(&order), "stream_id")
            };
            if metric.declared().first {
                assert_eq!(streams("desc"), ["large", "small", "a, old", "b, old", "old", "zero"], "{}", metric.name());
                continue;
            }
            assert_eq!(streams("desc"), ["large", "small", "zero", "a, old", "b, old", "old"], "{}", metric.name());
            assert_eq!(streams("asc"), ["a, old", "b, old", "old", "zero", "small", "large"], "{}", metric.name());
        }
    });
}

#[test]
fn a_page_may_end_at_a_null() {
    on_every_store(|store| {
        store.write(&[old(1, "b"), old(1, "a"), old(2, "a"), all(3, "a", 0)]);
        let api = store.api();
        for metric in nullable() {
            let order = format!("/metrics?order_by={}&direction=asc&limit=2", metric.name());
            let first = api.json(&order);
            assert_eq!(column(&first, metric.name()), [Value::Null, Value::Null]);
            let rest = api.json(&format!("{order}&cursor={}", first["next_cursor"].as_str().unwrap()));
            assert_eq!(column(&rest, metric.name()), [Value::Null, json!(0)], "{}", metric.name());
            assert_eq!((column(&rest, "stream_id"), &rest["next_cursor"]), (vec![json!("a"); 2], &Value::Null));
        }
        // No row of another order ends so.
        for metric in Metric::MINUTE.into_iter().filter(|metric| metric.declared().first) {
            let order = format!("/metrics?order_by={}&limit=2", metric.name());
            let cursor = api.json(&order)["next_cursor"].as_str().unwrap().to_owned();
            let text: Vec<u8> =
                (0..cursor.len()).step_by(2).map(|at| u8::from_str_radix(&cursor[at..at + 2], 16).unwrap()).collect();
            let mut content: Value = serde_json::from_slice(&text).unwrap();
            (content["c"], content["m"]) = (Value::Null, Value::Null);
            let forged: String = content.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(api.get(&format!("{order}&cursor={forged}")).problem(422)["parameter"], "cursor");
        }
    });
}

#[test]
fn a_minimum_of_any_metric_leaves_nulls_out() {
    on_every_store(|store| {
        store.write(&[all(4, "a", 1_000), all(3, "b", 2_000), all(2, "c", 0), old(1, "old")]);
        let api = store.api();
        for metric in Metric::MINUTE {
            let parameter = minimum(metric);
            let streams = |least: i64| {
                let answer = api.json(&format!("/metrics?direction=asc&{parameter}={}", metric.shown(least)));
                assert_eq!(answer["filters"][&parameter], shown(metric, least));
                column(&answer, "stream_id")
            };
            assert_eq!(streams(2_000), ["b"], "{parameter}");
            assert_eq!(streams(1_000), ["a", "b"], "{parameter}");
            let all = if metric.declared().first { vec!["a", "b", "c", "old"] } else { vec!["a", "b", "c"] };
            assert_eq!(streams(0), all, "{parameter}");
        }
    });
}

#[test]
fn totals_are_null_where_a_value_is() {
    on_every_store(|store| {
        store.write_progress(1, 0, "kafka:x");
        let mut only_watched = NULLS;
        only_watched[Metric::WatchMs as usize] = Some(5);
        store.write(&[
            all(3, "a", 10),
            all(3, "b", 20),
            all(2, "a", 10),
            Row { others: only_watched, ..row(2, "old", 1, 1, 1) },
            old(1, "old"),
        ]);
        let totals = store.api().json("/metrics/totals");
        assert_eq!(column(&totals, "streams"), [1, 2, 2]);
        for metric in Metric::MINUTE {
            let sums = column(&totals, metric.name());
            let expected = match metric.name() {
                "watch_ms" => vec![Value::Null, json!(15), json!(30)],
                _ if metric.declared().first => vec![shown(metric, 1), shown(metric, 11), shown(metric, 30)],
                _ => vec![Value::Null, Value::Null, json!(30)],
            };
            assert_eq!(sums, expected, "{}", metric.name());
        }
    });
}

#[test]
fn streams_score_by_any_metric_over_the_values_that_are_known() {
    on_every_store(|store| {
        store.write(&[all(4, "often", 30), all(3, "often", 30), all(3, "once", 50), old(2, "once"), old(2, "old")]);
        let api = store.api();
        for metric in Metric::MINUTE {
            let top = api.json(&format!("/streams/top?by={}", metric.name()));
            assert_eq!(top["by"], metric.name());
            let sums = metric.declared().roll_up == RollUp::Sum;
            let (of_often, of_once) = (if sums { 60 } else { 30 }, 50);
            // The row that an earlier version wrote has a value of a metric that it knew.
            let first = metric.declared().first;
            let mut expected = vec![("often", of_often), ("once", if sums && first { 51 } else { of_once })];
            expected.extend(first.then_some(("old", 1)));
            expected.sort_by_key(|(_, value)| -value);
            let expected: Vec<_> =
                expected.iter().map(|(stream, value)| json!({"stream_id": stream, "value": shown(metric, *value)})).collect();
            assert_eq!(top["rows"], Value::Array(expected), "{}", metric.name());
        }
    });
}

#[test]
fn totals_of_a_stream_add_what_can_be_added() {
    on_every_store(|store| {
        store.write_progress(1, 0, "kafka:x");
        store.write(&[all(3, "new", 100), all(2, "new", 300), all(3, "mixed", 100), old(2, "mixed")]);
        let api = store.api();
        // The metrics that were there first; others may come.
        let known = ["peak_viewers", "watch_ms", "chat_messages", "donations", "donations_usd"];
        let totals = |stream: &str| {
            let mut totals = api.json(&format!("/streams/{stream}"))["totals"].take();
            totals.as_object_mut().unwrap().retain(|name, _| known.contains(&name.as_str()));
            totals
        };
        let expected =
            json!({"peak_viewers": 300, "watch_ms": 400, "chat_messages": 400, "donations": 400, "donations_usd": 4.0});
        assert_eq!(totals("new"), expected);
        let expected =
            json!({"peak_viewers": 100, "watch_ms": null, "chat_messages": 101, "donations": null, "donations_usd": 1.01});
        assert_eq!(totals("mixed"), expected);
        // Of no rows.
        let start = if store.name() == "SQLite" { "60000000" } else { "timestamptz '1970-01-01T00:01:00Z'" };
        store.execute(&format!("insert into stream_state values ('silent', 1, {start}, {start}, 1)"));
        let expected = json!({"peak_viewers": 0, "watch_ms": 0, "chat_messages": 0, "donations": 0, "donations_usd": 0.0});
        assert_eq!(totals("silent"), expected);
    });
}

#[test]
fn sums_keep_every_digit_and_may_be_larger_than_one_value() {
    on_every_store(|store| {
        let large = 1 << 61;
        let row = |stream| all(2, stream, 1).with_others(Some(large + 1));
        store.write(&[row("a"), row("b")]);
        let api = store.api();
        for metric in nullable() {
            assert_eq!(column(&api.json("/metrics/totals"), metric.name()), [2 * large + 2], "{}", metric.name());
        }
    });
}

#[test]
fn the_document_says_what_may_be_null() {
    let schemas = &DOCUMENT["components"]["schemas"];
    let described = |schema: &str, member: &str| {
        let property = &schemas[schema]["properties"][member];
        let required = schemas[schema]["required"].as_array().is_some_and(|required| required.contains(&json!(member)));
        (property["type"].clone(), required, property["description"].as_str().unwrap().to_owned())
    };
    for metric in Metric::ALL {
        let (name, declared) = (metric.name(), metric.declared());
        let kind = if declared.unit == Unit::Usd { "number" } else { "integer" };
        let expected = if declared.first { json!(kind) } else { json!([kind, "null"]) };
        let (actual, required, description) = described("MetricValues", name);
        assert_eq!((actual, required), (expected.clone(), Metric::MINUTE.contains(&metric)), "{name}");
        assert!(description.starts_with(declared.meaning), "{description}");
        assert_eq!(description.contains("null"), !declared.first, "{description}");
        match declared.roll_up {
            RollUp::Distinct => assert_eq!(schemas["Totals"]["properties"].get(name), None),
            RollUp::Sum | RollUp::Largest => assert_eq!(described("Totals", name).0, expected, "{name}"),
            RollUp::AtEnd => {}
        }
        // It is left out rather than null.
        let (actual, required, _) = described("Minima", &minimum(metric));
        assert_eq!((actual, required), (json!(kind), false), "{name}");
    }
    let parameter = |path: &str, name: &str| {
        let parameters = DOCUMENT["paths"][path]["get"]["parameters"].as_array().unwrap();
        parameters.iter().find(|parameter| parameter["name"] == name).unwrap()["description"].as_str().unwrap().to_owned()
    };
    let (order_by, by) = (parameter("/metrics", "order_by"), parameter("/streams/top", "by"));
    assert!(Metric::ALL.iter().all(|metric| order_by.contains(metric.name())) && order_by.contains("Null is the smallest"));
    for metric in Metric::ALL {
        let score = if metric.declared().roll_up == RollUp::Sum { "sum" } else { "maximum" };
        assert!(by.contains(&format!("{}: the {score}", metric.name())), "{by}");
        let least = parameter("/metrics", &minimum(metric));
        assert_eq!(least.contains("null"), !metric.declared().first, "{least}");
        assert_eq!(least.contains("only with grain hour or day"), metric == Metric::PeakViewers, "{least}");
    }
    assert!(by.contains("nulls are left out"), "{by}");
}
