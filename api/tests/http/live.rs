//! `/live`: what is sent first, what follows, how a client resumes, and what it never misses.

use crate::support::{Event, Live, NULLS, OTHERS, Row, TestStore, minute, on_every_store, row};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const STREAMS: [&str; 5] = ["a", "B", "ä", "d", "😀"];

/// What a client knows: the last row that it was told, by window and stream.
#[derive(Default)]
struct Picture {
    rows: BTreeMap<(String, String), Value>,
    position: Option<i64>,
    resets: usize,
}

impl Picture {
    fn take(&mut self, event: &Event) {
        match event.name.as_str() {
            "reset" => {
                self.rows.clear();
                self.resets += 1;
            }
            "rows" => {
                for row in event.data["rows"].as_array().unwrap() {
                    let key = ["window_start", "stream_id"].map(|name| row[name].as_str().unwrap().to_owned());
                    self.rows.insert(key.into(), row.clone());
                }
            }
            _ => assert!(["", "slow"].contains(&event.name.as_str()), "{event:?}"),
        }
        self.position = event.id.or(self.position);
    }

    /// Its rows without `final`, which changes with the watermark only.
    fn values(&self) -> Vec<Value> {
        let values = self.rows.values().cloned();
        values.map(|mut row| row.as_object_mut().unwrap().remove("final").map(|_| row).unwrap()).collect()
    }
}

fn stored(api: &crate::support::Api) -> Vec<Value> {
    let mut picture = Picture::default();
    let rows = api.json("/metrics?minutes=1440&limit=5000&direction=asc")["rows"].take();
    picture.take(&Event { name: "rows".to_owned(), data: json!({"rows": rows}), ..Event::default() });
    picture.values()
}

fn streams(event: &Event) -> Vec<&str> {
    event.data["rows"].as_array().unwrap().iter().map(|row| row["stream_id"].as_str().unwrap()).collect()
}

#[test]
fn first_a_full_picture_then_every_change() {
    on_every_store(|store| {
        store.write_progress(5, minute(20), "kafka:x");
        store.commit(&[row(30, "old", 1, 1, 1), row(19, "open", 2, 2, 250), row(1, "new", 3, 3, 3)], 0);
        let api = store.api();
        let mut live = api.live("/live", None);
        assert_eq!(live.status, 200);
        let head = live.head.to_lowercase();
        assert!(head.contains("content-type: text/event-stream") && head.contains("cache-control: no-store"), "{head}");
        let reset = live.next().unwrap();
        assert_eq!((reset.name.as_str(), &reset.data), ("reset", &json!({"epoch": 6})));
        let picture = live.next().unwrap();
        assert_eq!((picture.name.as_str(), picture.id, streams(&picture)), ("rows", Some(6), vec!["open", "new"]));
        assert_eq!(picture.data["epoch"], 6);
        assert_eq!(picture.data["watermark"], tidemark_model::Micros(minute(20)).to_string());
        let row_of = |start: i64, stream: &str, viewers: i64, last: bool| {
            let time = |micros| tidemark_model::Micros(micros).to_string();
            let mut row = row(0, "", viewers, 2, 250).members();
            row.extend(
                [("window_start", start), ("window_end", start + 60_000_000)]
                    .map(|(name, at)| (name.to_owned(), json!(time(at)))),
            );
            row.extend([("stream_id".to_owned(), json!(stream)), ("final".to_owned(), json!(last))]);
            Value::Object(row)
        };
        assert_eq!(picture.data["rows"][0], row_of(minute(19), "open", 2, false));
        let epoch = store.commit(&[row(19, "open", 7, 2, 250)], minute(18));
        let events = live.until(epoch);
        let changed = events.last().unwrap();
        assert_eq!((changed.id, &changed.data["rows"]), (Some(7), &json!([row_of(minute(19), "open", 7, true)])));
        // A commit without rows tells the watermark.
        let epoch = store.commit(&[], minute(10));
        let events = live.until(epoch);
        let moved = events.last().unwrap();
        assert_eq!(
            (&moved.data["rows"], &moved.data["watermark"]),
            (&json!([]), &json!(tidemark_model::Micros(minute(10)).to_string()))
        );
        let wide = api.live("/live?minutes=40", None).until(epoch);
        assert_eq!(streams(wide.last().unwrap()), ["old", "open", "new"]);
    });
}

#[test]
fn a_client_of_some_streams_hears_of_no_others() {
    on_every_store(|store| {
        store.write_progress(1, minute(20), "kafka:x");
        store.commit(&[row(1, "a", 1, 1, 1), row(1, "b", 1, 1, 1), row(1, "ä", 1, 1, 1)], 0);
        let api = store.api();
        let mut live = api.live("/live?stream_id=a&stream_id=%C3%A4&stream_id=", None);
        assert_eq!(streams(live.until(2).last().unwrap()), ["a", "ä"]);
        store.commit(&[row(1, "b", 2, 1, 1)], 0);
        let epoch = store.commit(&[row(1, "b", 3, 1, 1), row(1, "ä", 2, 1, 1)], 0);
        let events = live.until(epoch);
        assert!(events.iter().all(|event| !streams(event).contains(&"b")), "{events:?}");
        assert_eq!(streams(events.last().unwrap()), ["ä"]);
        // It still hears how far the pipeline is.
        let epoch = store.commit(&[row(1, "b", 4, 1, 1)], minute(15));
        assert_eq!(streams(live.until(epoch).last().unwrap()), [""; 0]);
    });
}

#[test]
fn resuming_brings_the_newest_value_of_what_changed_since() {
    on_every_store(|store| {
        store.write_progress(10, minute(20), "kafka:x");
        store.commit(&[row(2, "a", 1, 1, 1), row(2, "b", 1, 1, 1)], 0);
        let api = store.api();
        api.live("/live", None).until(11);
        store.commit(&[row(2, "a", 2, 1, 1)], 0);
        store.commit(&[row(2, "a", 3, 1, 1), row(1, "c", 1, 1, 1)], 0);
        // Windows that closed meanwhile are not left out.
        let epoch = store.commit(&[], minute(0));
        let events = api.live("/live", Some(11)).until(epoch);
        let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!((names, streams(&events[0])), (vec!["rows"], vec!["a", "c"]));
        assert_eq!(events[0].data["rows"][0]["active_viewers"], 3);
        let nothing = api.live("/live", Some(epoch)).next().unwrap();
        assert_eq!((nothing.name.as_str(), nothing.id, streams(&nothing).len()), ("rows", Some(epoch), 0));
    });
}

#[test]
fn an_id_that_cannot_be_resumed_from_is_reset_and_a_bad_one_refused() {
    on_every_store(|store| {
        store.write_progress(10, minute(20), "kafka:x");
        store.commit(&[row(2, "a", 1, 1, 1)], 0);
        let api = store.api();
        api.live("/live", None).until(11);
        // Before what the service remembers, and after what there is.
        for id in [0, 10, 12, i64::MAX] {
            let events = api.live("/live", Some(id)).until(11);
            assert_eq!((events[0].name.as_str(), streams(&events[1])), ("reset", vec!["a"]), "{id}");
        }
        for bad in [
            "",
            "x",
            "-1",
            "+1",
            "1.0",
            "0x1",
            "9223372036854775808",
            "1 2",
            "1-",
            "-a",
            "1-g",
            "1-+1",
            "1-00000000000000000",
            "\u{e4}",
        ] {
            let live = Live::open_with(api.port(), "/live", &format!("last-event-id: {bad}\r\n"));
            assert_eq!(live.status, 422, "{bad:?}");
            assert!(live.head.contains("problem+json"), "{}", live.head);
        }
        for (path, parameter) in [("/live?minutes=0", "minutes"), ("/live?stream_id=%ff", "stream_id")] {
            assert_eq!(api.get(path).problem(422)["parameter"], parameter);
        }
        let many: String = (0..101).map(|number| format!("stream_id={number}&")).collect();
        assert_eq!(api.get(&format!("/live?{many}")).problem(422)["parameter"], "stream_id");
    });
}

#[test]
fn tables_made_anew_are_a_reset() {
    on_every_store(|store| {
        store.write_progress(10, minute(20), "kafka:x");
        store.commit(&[row(2, "a", 1, 1, 1)], 0);
        let api = store.api();
        let mut live = api.live("/live", None);
        live.until(11);
        store.execute("delete from stream_metrics_minute");
        store.write(&[row(3, "other", 1, 1, 1)]);
        store.write_progress(2, minute(20), "kafka:x");
        let reset = std::iter::from_fn(|| live.next()).find(|event| event.name == "reset").unwrap();
        assert_eq!(reset.data["epoch"], 2);
        assert_eq!(streams(&live.next().unwrap()), ["other"]);
        let epoch = store.commit(&[row(1, "b", 1, 1, 1)], 0);
        assert_eq!(streams(live.until(epoch).last().unwrap()), ["b"]);
    });
}

#[test]
fn a_client_may_come_before_the_pipeline() {
    on_every_store(|store| {
        let api = store.api();
        let mut live = api.live("/live", None);
        assert_eq!(live.next().unwrap().data, json!({"epoch": null}));
        let nothing = live.next().unwrap();
        assert_eq!((nothing.id, streams(&nothing).len()), (None, 0));
        store.write_progress(1, 0, "kafka:x");
        let epoch = store.commit(&[row(1, "b", 1, 1, 1)], 0);
        assert!(live.until(epoch).iter().any(|event| streams_or_none(event).contains(&"b")));
    });
}

fn streams_or_none(event: &Event) -> Vec<&str> {
    if event.name == "rows" { streams(event) } else { Vec::new() }
}

/// Commits at random until told to stop, for a minute at most; the watermark follows from one time to the other, so windows close
/// all the time.
fn commit_at_random(store: &mut TestStore, done: &AtomicBool, seed: u64, (mut now, last): (i64, i64)) -> i64 {
    let mut dice = Dice(seed);
    let (mut epoch, started) = (0, Instant::now());
    while !done.load(Ordering::SeqCst) && started.elapsed() < Duration::from_secs(60) {
        let count = dice.below(4);
        let rows = (0..count).map(|_| Row {
            start: now - 60_000_000 * dice.below(3),
            stream_id: STREAMS[usize::try_from(dice.below(5)).unwrap()],
            viewers: dice.below(1_000),
            chats: dice.below(1_000),
            cents: dice.below(100_000),
            others: [OTHERS, NULLS][usize::try_from(dice.below(2)).unwrap()],
        });
        let rows: Vec<_> = rows.collect();
        // The watermark of this commit leaves open only the three windows that the next one may change.
        now += if dice.below(4) == 0 && now < last { 60_000_000 } else { 0 };
        let mut unique = BTreeMap::new();
        unique.extend(rows.into_iter().map(|row| ((row.start, row.stream_id), row)));
        let rows: Vec<_> = unique.into_values().collect();
        epoch = store.commit(&rows, now - 120_000_000);
        std::thread::sleep(Duration::from_millis(u64::try_from(dice.below(12)).unwrap()));
    }
    epoch
}

/// Numbers that look random and are the same in each run (an LCG's upper bits).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % end
    }
}

#[test]
fn a_client_that_is_cut_a_hundred_times_misses_no_value() {
    on_every_store(|store| {
        store.write_progress(1, minute(45), "kafka:x");
        let api = store.api();
        let mut dice = Dice(7);
        let (done, times) = (AtomicBool::new(false), (minute(40), minute(1)));
        let (mut all, mut some) = (Picture::default(), Picture::default());
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| commit_at_random(store, &done, 1, times));
            // Once the first picture is complete, all else must come by resuming.
            for cut in 0..100 {
                for (picture, path) in [(&mut all, "/live?minutes=60"), (&mut some, "/live?minutes=60&stream_id=a&stream_id=d")] {
                    let mut live = api.live(path, picture.position);
                    let until = Instant::now() + Duration::from_millis(u64::try_from(dice.below(40)).unwrap());
                    while (Instant::now() < until || picture.position.is_none()) && cut < 100 {
                        picture.take(&live.next().unwrap());
                    }
                    live.cut();
                }
            }
            done.store(true, Ordering::SeqCst);
            let epoch = writer.join().unwrap();
            for (picture, path) in [(&mut all, "/live"), (&mut some, "/live?stream_id=a&stream_id=d")] {
                let events = api.live(path, picture.position).until(epoch);
                events.iter().for_each(|event| picture.take(event));
                assert_eq!(picture.resets, 1);
            }
        });
        let expected = stored(&api);
        assert!(expected.len() > 30, "{}", expected.len());
        assert_eq!(all.values(), expected);
        let some_expected: Vec<_> =
            expected.into_iter().filter(|row| row["stream_id"] == "a" || row["stream_id"] == "d").collect();
        assert_eq!(some.values(), some_expected);
    });
}

#[test]
fn a_slow_client_is_told_and_catches_up() {
    on_every_store(|store| {
        store.write_progress(1, minute(45), "kafka:x");
        let names: Vec<&'static str> = (0..1_000).map(|n| &*Box::leak(format!("{n:0>200}").into_boxed_str())).collect();
        let api = store.api();
        let mut live = api.live("/live", None);
        live.until(1);
        // More than the pages that wait, and than what the sockets hold.
        let mut epoch = 0;
        // One minute, although the running one changes meanwhile.
        let start = minute(3);
        for round in 0..150 {
            let rows: Vec<_> = names
                .iter()
                .map(|name| Row { start, stream_id: name, viewers: round, chats: 1, cents: 1, others: OTHERS })
                .collect();
            epoch = store.commit(&rows, 0);
            // Each commit is read by itself.
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut picture = Picture::default();
        let events = live.until(epoch);
        events.iter().for_each(|event| picture.take(event));
        assert_eq!(picture.rows.len(), 1_000);
        assert!(picture.rows.values().all(|row| row["active_viewers"] == 149));
        assert!(events.len() < 150, "{} events", events.len());
        assert!(events.iter().any(|event| event.name == "slow"), "it was not told");
    });
}

#[test]
fn a_client_that_was_there_before_the_reader_first_looked_misses_nothing() {
    on_every_store(|store| {
        store.write_progress(1, minute(20), "kafka:x");
        for _ in 0..3 {
            store.execute("alter table progress rename to aside");
            let api = store.api();
            // The reader fails, and rests each time before it looks again.
            assert_eq!(api.get("/live").status, 503);
            store.execute("alter table aside rename to progress");
            let mut live = api.live("/live", None);
            let epoch = store.commit(&[row(2, "a", 1, 1, 1)], 0);
            assert_eq!(streams(live.until(epoch).last().unwrap()), ["a"]);
        }
    });
}

#[test]
fn silence_is_broken_by_comments() {
    let mut store = TestStore::sqlite();
    store.create_tables();
    store.write_progress(1, 0, "kafka:x");
    let api = store.api();
    let mut live = api.live("/live", None);
    live.until(1);
    let started = Instant::now();
    let comment = live.next().unwrap();
    assert_eq!(comment.name, "");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[test]
fn a_thousand_clients_hear_the_same() {
    on_every_store(|store| {
        store.write_progress(1, minute(45), "kafka:x");
        store.commit(&[row(2, "a", 1, 1, 1)], 0);
        let api = store.api_with(&["--api-live-clients", "1000"]);
        let mut clients: Vec<_> =
            (0..1_000).map(|number| api.live(if number % 2 == 0 { "/live" } else { "/live?stream_id=a" }, None)).collect();
        clients.iter_mut().for_each(|live| assert_eq!(streams(live.until(2).last().unwrap()), ["a"]));
        let refused = Live::open(api.port(), "/live", None);
        assert_eq!(refused.status, 503);
        let mut last = 0;
        for round in 0..20 {
            last = store.commit(&[row(2, "a", round, 1, 1), row(1, "b", round, 1, 1)], 0);
            std::thread::sleep(Duration::from_millis(20));
        }
        let started = Instant::now();
        for live in &mut clients {
            let mut picture = Picture::default();
            live.until(last).iter().for_each(|event| picture.take(event));
            assert_eq!(picture.rows.values().next().unwrap()["active_viewers"], 19);
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        // Their places are free again once they are gone.
        drop(clients);
        let waited = Instant::now();
        while Live::open(api.port(), "/live", None).status != 200 {
            assert!(waited.elapsed() < Duration::from_secs(25), "places are not given back");
            // A client that is gone is noticed when it is written to.
            store.commit(&[], 0);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
}

#[test]
fn a_live_answer_lasts_through_an_outage_of_the_store() {
    let mut store = TestStore::sqlite();
    store.create_tables();
    store.write_progress(1, minute(45), "kafka:x");
    let api = store.api();
    let mut live = api.live("/live", None);
    live.until(1);
    let (path, aside) = (store.path(), store.path().with_extension("aside"));
    std::fs::rename(&path, &aside).unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(Live::open(api.port(), "/live", None).status, 503);
    std::fs::rename(&aside, &path).unwrap();
    let epoch = store.commit(&[row(2, "a", 1, 1, 1)], 0);
    assert_eq!(streams(live.until(epoch).last().unwrap()), ["a"]);
    let mut rest = String::new();
    drop(api);
    drop(live.body.read_to_string(&mut rest));
}
