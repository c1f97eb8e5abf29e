//! Minutes, hours and days: what is answered about windows of each length, and that none is taken for another.

use crate::metrics::{minimum, shown};
use crate::paging::walk;
use crate::support::{Api, Of, TestStore, column, minute, on_every_store};
use serde_json::{Value, json};
use tidemark_api::params::Choice;
use tidemark_model::metrics::RollUp;
use tidemark_model::{Grain, Metric, Micros};

const LONGER: [Grain; 2] = [Grain::Hour, Grain::Day];
/// Numbered from 1. Three rows are of windows that have ended.
const ROWS: [(i64, &str); 4] = [(2, "a"), (1, "a"), (1, "b"), (0, "a")];

fn length(grain: Grain) -> i64 {
    i64::from(grain.minutes()) * 60_000_000
}

/// The start of the window that began so many windows before the running one.
fn start(grain: Grain, ago: i64) -> i64 {
    minute(0) - minute(0).rem_euclid(length(grain)) - ago * length(grain)
}

fn time(micros: i64) -> Value {
    json!(Micros(micros).to_string())
}

/// A row's value, which no other row, metric or length has. Neighbouring metrics put the rows in different orders.
fn value(grain: Grain, row: i64, metric: Metric) -> i64 {
    let place = row * (metric as i64 % 3 + 1) % 5;
    (grain as i64 + 1) * 10_000 + place * 100 + metric as i64
}

/// Of the totals of so many streams.
fn total(grain: Grain, streams: i64, metric: Metric) -> i64 {
    value(grain, streams, metric) + 5_000
}

fn values(grain: Grain, value: impl Fn(Metric) -> i64) -> Vec<Option<i64>> {
    Metric::of(grain).iter().map(|metric| Some(value(*metric))).collect()
}

fn write_rows(store: &mut TestStore) {
    for grain in Grain::ALL {
        for (row, (ago, stream_id)) in (1..).zip(ROWS) {
            let values = values(grain, |metric| value(grain, row, metric));
            store.write_row(grain, start(grain, ago), Of::Stream(stream_id), &values);
        }
        for (streams, ago) in [(1, 2), (2, 1)] {
            let values = values(grain, |metric| total(grain, streams, metric));
            store.write_row(grain, start(grain, ago), Of::All(streams), &values);
        }
    }
}

/// Asks about windows of this length.
fn ask(api: &Api, grain: Grain, path: &str, query: &str) -> Value {
    api.json(&format!("{path}?grain={}&{query}", grain.as_str()))
}

#[test]
fn each_answer_has_every_metric_of_its_windows() {
    on_every_store(|store| {
        write_rows(store);
        let api = store.api();
        for (epoch, grain) in (1..).zip(Grain::ALL) {
            store.write_progress(epoch, start(grain, 1), "kafka:x");
            let (ask, metrics) = (|path, query| ask(&api, grain, path, query), Metric::of(grain));
            let page = ask("/metrics", "direction=asc");
            let rows = page["rows"].as_array().unwrap();
            assert_eq!(column(&page, "stream_id"), ["a", "a", "b", "a"]);
            assert_eq!(column(&page, "final"), [true, false, false, false]);
            assert_eq!((&rows[0]["window_start"], &rows[0]["window_end"]), (&time(start(grain, 2)), &time(start(grain, 1))));
            assert_eq!(rows[0].as_object().unwrap().len(), 4 + metrics.len());
            for &metric in metrics {
                assert_eq!(column(&page, metric.name()), [1, 2, 3, 4].map(|row| shown(metric, value(grain, row, metric))));
            }
            assert_eq!(ask("/metrics/latest", "")["row"], rows[1]);
            assert_eq!(ask("/metrics/latest", "stream_id=b")["row"], rows[2]);
            let seen = |stream_id: &str, ago| json!({"stream_id": stream_id, "last_seen": time(start(grain, ago))});
            assert_eq!(ask("/streams", "")["rows"], json!([seen("a", 0), seen("b", 1)]));

            let totals = ask("/metrics/totals", "");
            assert_eq!(column(&totals, "streams"), [2, 1]);
            assert_eq!(column(&totals, "final"), [false, true]);
            for &metric in metrics {
                assert_eq!(column(&totals, metric.name()), [2, 1].map(|streams| shown(metric, total(grain, streams, metric))));
            }

            let stream = ask("/streams/a", "");
            assert_eq!(stream["rows"], json!([rows[3], rows[1], rows[0]]));
            let peak = if grain == Grain::Minute { Metric::ActiveViewers } else { Metric::PeakViewers };
            let of = |metric| [1, 2, 4].map(|row| value(grain, row, metric)).into_iter();
            let mut expected = json!({"peak_viewers": of(peak).max()});
            for &metric in metrics.iter().filter(|metric| metric.declared().roll_up == RollUp::Sum) {
                expected[metric.name()] = shown(metric, of(metric).sum());
            }
            assert_eq!(stream["totals"], expected);

            let names: Vec<_> = metrics.iter().map(|metric| metric.name()).collect();
            let mut csv = format!("window_start,window_end,stream_id,{},final\r\n", names.join(","));
            for (row, (ago, stream_id)) in (1..).zip(ROWS) {
                let (start, end) = (Micros(start(grain, ago)), Micros(start(grain, ago - 1)));
                let cells: Vec<_> = metrics.iter().map(|metric| metric.shown(value(grain, row, *metric))).collect();
                csv += &format!("{start},{end},{stream_id},{},{}\r\n", cells.join(","), row == 1);
            }
            let export = format!("/metrics?grain={}&direction=asc&format", grain.as_str());
            assert_eq!(api.get(&format!("{export}=csv")).body, csv);
            let lines = api.get(&format!("{export}=ndjson")).body;
            let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines, *rows);

            // Answers about minutes are as old clients know them.
            let told = (grain != Grain::Minute).then(|| json!(grain.as_str()));
            for answer in [&page["filters"], &stream, &ask("/streams/top", "")] {
                assert_eq!(answer.get("grain"), told.as_ref());
            }
        }
        assert_eq!(api.json("/metrics")["rows"], ask(&api, Grain::Minute, "/metrics", "")["rows"]);
    });
}

#[test]
fn rows_are_ordered_scored_and_filtered_by_every_metric() {
    on_every_store(|store| {
        write_rows(store);
        let api = store.api();
        for grain in Grain::ALL {
            for &metric in Metric::of(grain) {
                let (name, of) = (metric.name(), |row| value(grain, row, metric));
                let mut rows = [1, 2, 3, 4];
                rows.sort_by_key(|row| -of(*row));
                let expected = rows.map(|row| shown(metric, of(row)));
                assert_eq!(column(&ask(&api, grain, "/metrics", &format!("order_by={name}")), name), expected);
                let least = format!("order_by={name}&{}={}", minimum(metric), metric.shown(of(rows[1])));
                assert_eq!(column(&ask(&api, grain, "/metrics", &least), name), expected[..2]);

                let sums = metric.declared().roll_up == RollUp::Sum;
                let score = |rows: &[i64]| -> i64 {
                    let values = rows.iter().map(|row| of(*row));
                    if sums { values.sum() } else { values.max().unwrap() }
                };
                let mut scores = [("a", score(&[1, 2, 4])), ("b", score(&[3]))];
                scores.sort_by_key(|(_, score)| -score);
                let top = ask(&api, grain, "/streams/top", &format!("by={name}"));
                assert_eq!(column(&top, "stream_id"), scores.map(|(stream_id, _)| stream_id), "{name}");
                assert_eq!(column(&top, "value"), scores.map(|(_, score)| shown(metric, score)), "{name}");
            }
        }
    });
}

#[test]
fn a_metric_that_minutes_do_not_have_is_refused_with_what_is_allowed() {
    on_every_store(|store| {
        let api = store.api();
        let mut by = Metric::MINUTE.map(Metric::name);
        by.reverse();
        let by = by.join(", ");
        let (order_by, by) = (format!("one of window_start, {by}"), format!("one of {by}"));
        for (path, parameter, value, allowed) in [
            ("/metrics?", "order_by", "peak_viewers", &*order_by),
            ("/metrics?format=csv&grain=minute&", "order_by", "peak_viewers", &order_by),
            ("/streams/top?", "by", "peak_viewers", &by),
            ("/metrics?", "min_peak_viewers", "7", "left out with grain minute"),
            ("/metrics?", "grain", "week", "one of minute, hour, day"),
            ("/live?", "grain", "week", "one of minute, hour, day"),
        ] {
            let problem = api.get(&format!("{path}{parameter}={value}")).problem(422);
            assert_eq!(
                (&problem["parameter"], &problem["value"], &problem["allowed"]),
                (&json!(parameter), &json!(value), &json!(allowed))
            );
        }
    });
}

#[test]
fn live_tells_what_changes_in_windows_of_its_length() {
    on_every_store(|store| {
        store.write_progress(5, minute(0), "kafka:x");
        write_rows(store);
        let api = store.api();
        for (epoch, grain) in (6..).zip(Grain::ALL) {
            let path = format!("/live?grain={}&minutes={}", grain.as_str(), 3 * grain.minutes());
            let rows = ask(&api, grain, "/metrics", &format!("direction=asc&minutes={}", 3 * grain.minutes()))["rows"].take();
            let mut live = api.live(&path, None);
            let picture = live.until(epoch - 1);
            assert_eq!(picture.last().unwrap().data["rows"], rows, "{path}");
            // A row of each length changes, and what is told is the one that was asked for.
            let now = Grain::ALL.map(|of| {
                let (name, start) = (of.as_str(), store.time(start(of, 0)));
                format!("update stream_metrics_{name} set epoch = {epoch}, chat_messages = {epoch} where window_start = {start}")
            });
            // Hours and days change only when a minute closes.
            let watermark = store.time(minute(5 - epoch));
            let progress = format!("update progress set epoch = {epoch}, watermark = {watermark}");
            store.execute(&format!("begin; {}; {progress}; commit", now.join("; ")));
            let changed = json!({"rows": live.until(epoch).last_mut().unwrap().data["rows"].take()});
            assert_eq!(column(&changed, "window_start"), [time(start(grain, 0))], "{path}");
            assert_eq!(column(&changed, "chat_messages"), [epoch], "{path}");
        }
    });
}

#[test]
fn minutes_reach_further_back_for_longer_windows() {
    on_every_store(|store| {
        let api = store.api();
        for (grain, default, most) in [(Grain::Hour, 24, 44_640), (Grain::Day, 30, 527_040)] {
            for of in [Of::Stream("a"), Of::All(1)] {
                for ago in [default - 1, default] {
                    store.write_row(grain, start(grain, ago), of, &values(grain, |_| 1));
                }
            }
            for path in ["/metrics", "/metrics/totals", "/streams/a", "/stream", "/streams", "/streams/top"] {
                let query = |minutes: i64| format!("{path}?stream_id=a&grain={}&minutes={minutes}", grain.as_str());
                let rows = |answer: Value| answer["rows"].as_array().unwrap().len();
                let by_window = !["/streams", "/streams/top"].contains(&path);
                assert_eq!(rows(ask(&api, grain, path, "stream_id=a")), 1, "{path}");
                let longer = api.json(&query((default + 1) * i64::from(grain.minutes())));
                assert_eq!(rows(longer), if by_window { 2 } else { 1 }, "{path}");
                api.json(&query(most));
                for minutes in [i64::from(grain.minutes()) - 1, most + 1] {
                    let problem = api.get(&query(minutes)).problem(422);
                    let allowed = format!("an integer from {} to {most}", grain.minutes());
                    assert_eq!((&problem["parameter"], &problem["allowed"]), (&json!("minutes"), &json!(allowed)), "{path}");
                }
            }
        }
    });
}

#[test]
fn a_row_is_final_once_the_watermark_has_passed_its_end() {
    on_every_store(|store| {
        write_rows(store);
        store.write_progress(1, minute(5_000), "kafka:x");
        let api = store.api();
        for grain in Grain::ALL {
            for (behind, count) in [(-1, 1), (0, 3), (length(grain) - 1, 3), (length(grain), 4)] {
                let epoch = store.commit(&[], start(grain, 0) + behind);
                for (is_final, count) in [(true, count), (false, 4 - count)] {
                    let page = ask(&api, grain, "/metrics", &format!("final={is_final}&min_epoch={epoch}"));
                    assert_eq!(column(&page, "final"), vec![json!(is_final); count], "{} {behind}", grain.as_str());
                }
            }
        }
    });
}

#[test]
fn a_day_has_24_hours_wherever_the_server_is() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    // The 9th of March 2025, which has 23 hours in New York.
    let start = 1_741_478_400_000_000;
    store.write_row(Grain::Day, start, Of::Stream("a"), &values(Grain::Day, |_| 1));
    store.write_progress(1, start + length(Grain::Day) - 1, "kafka:x");
    let api = Api::start(&["--database-url", &format!("{}?options=-ctimezone%3DAmerica%2FNew_York", store.url())]);
    let finals = |is_final: bool| ask(&api, Grain::Day, "/metrics", &format!("from=2025-03-01T00:00:00Z&final={is_final}"));
    assert_eq!((column(&finals(true), "final"), column(&finals(false), "final")), (vec![], vec![json!(false)]));
}

#[test]
fn a_walk_through_hours_or_days_is_the_whole_in_pieces() {
    on_every_store(|store| {
        for grain in LONGER {
            let cells = (0..5).flat_map(|ago| ["a", "b", "ä"].map(|stream_id| (ago, stream_id)));
            for (n, (ago, stream_id)) in (0..).zip(cells) {
                // Many equal values, and nulls where they may be.
                let nullable = (n % 4 > 0).then_some(n % 4 - 1);
                let cell = |metric: &Metric| if metric.declared().first { Some(n % 3) } else { nullable };
                let cells: Vec<_> = Metric::of(grain).iter().map(cell).collect();
                store.write_row(grain, start(grain, ago), Of::Stream(stream_id), &cells);
            }
        }
        let api = store.api();
        for grain in LONGER {
            for order in ["window_start"].into_iter().chain(Metric::of(grain).iter().map(|metric| metric.name())) {
                for direction in ["asc", "desc"] {
                    let query = format!("grain={}&order_by={order}&direction={direction}", grain.as_str());
                    let whole = api.json(&format!("/metrics?{query}"));
                    assert_eq!(column(&whole, order).len(), 15);
                    assert_eq!(Value::Array(walk(&api, &format!("{query}&limit=4"), |_| {})), whole["rows"], "{query}");
                }
            }
            // No sums of rows take the place of totals.
            assert_eq!(ask(&api, grain, "/metrics/totals", "")["rows"], json!([]));
        }
    });
}

#[test]
fn a_cursor_belongs_to_windows_of_one_length() {
    on_every_store(|store| {
        write_rows(store);
        let api = store.api();
        let query = |grain: &str| format!("/metrics?{grain}&limit=1&from=2020-01-01T00:00:00Z");
        let cursor = |grain: &str| api.json(&query(grain))["next_cursor"].as_str().unwrap().to_owned();
        let words = ["", "grain=hour", "grain=day"];
        for of in words {
            for with in words {
                let answer = api.get(&format!("{}&cursor={}", query(with), cursor(of)));
                if of == with {
                    assert_eq!(column(&answer.json(), "stream_id").len(), 1, "{of}");
                } else {
                    assert_eq!(answer.problem(422)["parameter"], "cursor", "{of} {with}");
                }
            }
        }
        assert_eq!(cursor("grain=minute"), cursor(""));
    });
}
