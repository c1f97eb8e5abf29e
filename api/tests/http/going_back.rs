//! The store goes back to an earlier commit: a backup is restored, or a copy takes over that lacked the last commits.

use crate::support::{Answer, Api, Live, column, minute, on_every_store, row};
use serde_json::json;
use std::time::Duration;

fn epoch_of(answer: &Answer) -> i64 {
    answer.header("x-tidemark-epoch").parse().unwrap_or(0)
}

#[test]
fn a_store_that_went_back_is_not_answered_for_from_memory() {
    on_every_store(|store| {
        store.write_progress(10, minute(20), "kafka:x");
        store.execute("update progress set run = 'a'");
        store.write(&[row(2, "a", 1, 1, 1)]);
        let api = store.api();
        api.wait_for("/metrics?min_epoch=10", 200);
        let before = api.get("/metrics");
        let tag = before.header("etag").to_owned();
        assert_eq!((epoch_of(&before), api.request_with("GET", "/metrics", &[("if-none-match", &tag)]).status), (10, 304));
        // A backup of epoch 5 is restored; the run of then goes on.
        store.execute("update progress set epoch = 5");
        store.write(&[row(2, "a", 2, 1, 1)]);
        std::thread::sleep(Duration::from_millis(1_000));
        for _ in 0..3 {
            let answer = api.get("/metrics");
            assert_eq!((epoch_of(&answer), column(&answer.json(), "active_viewers")), (5, vec![json!(2)]));
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(api.get("/metrics?min_epoch=10").problem(504)["epoch"], 5);
        // Another run reaches the same epoch with other rows.
        store.execute("update progress set run = 'b', epoch = 10");
        store.write(&[row(2, "a", 3, 1, 1)]);
        std::thread::sleep(Duration::from_millis(1_000));
        let answer = api.request_with("GET", "/metrics", &[("if-none-match", &tag)]);
        assert_eq!((answer.status, epoch_of(&answer)), (200, 10));
        assert_eq!(column(&answer.json(), "active_viewers"), [3]);
    });
}

/// Whether the first event is a reset, after which the picture goes up to this epoch.
fn is_reset(api: &Api, last_event: &str, epoch: i64) -> bool {
    let mut live = Live::open_with(api.port(), "/live", &format!("last-event-id: {last_event}\r\n"));
    let events = live.until(epoch);
    assert!(events.iter().skip(1).all(|event| event.name != "reset"), "{events:?}");
    events[0].name == "reset"
}

#[test]
fn an_id_of_a_commit_that_the_store_has_lost_is_a_reset() {
    on_every_store(|store| {
        store.write_progress(10, minute(20), "kafka:x");
        store.execute("update progress set run = 'a'");
        store.commit(&[row(2, "a", 1, 1, 1)], 0);
        let api = store.api();
        let lost = api.live("/live", None).until(11).last().unwrap().whole_id.clone();
        assert!(!is_reset(&api, &lost, 11) && !is_reset(&api, "11", 11), "{lost}");
        // A backup of epoch 5 is restored, and another run passes the lost commit's number with other rows.
        let mut live = api.live("/live", None);
        live.until(11);
        store.execute("update progress set epoch = 5; delete from stream_metrics_minute");
        let reset = std::iter::from_fn(|| live.next()).find(|event| event.name == "reset").unwrap();
        assert_eq!(reset.data["epoch"], 5);
        store.execute("update progress set run = 'b'");
        let mut epoch = 0;
        while epoch < 13 {
            epoch = store.commit(&[row(3, "b", epoch, 1, 1)], 0);
        }
        std::thread::sleep(Duration::from_secs(1));
        for id in [&lost, "11", "8"] {
            assert!(is_reset(&api, id, epoch), "{id}");
        }
        // A copy of the service that saw nothing of it knows the lost one by its life.
        let other = store.api();
        other.wait_for("/metrics", 200);
        assert!(is_reset(&other, &lost, epoch));
        let kept = api.live("/live", None).until(epoch).last().unwrap().whole_id.clone();
        assert!(!is_reset(&other, &kept, epoch) && !is_reset(&api, &kept, epoch), "{kept}");
    });
}

#[test]
fn a_run_that_takes_over_is_a_reset() {
    on_every_store(|store| {
        store.write_progress(10, minute(20), "kafka:x");
        store.execute("update progress set run = 'a'");
        store.commit(&[row(2, "a", 1, 1, 1)], 0);
        let api = store.api();
        let mut live = api.live("/live", None);
        live.until(11);
        // Between two looks the store went back and came further than before.
        store.execute("update progress set run = 'b', epoch = 20");
        store.execute("update stream_metrics_minute set active_viewers = 7");
        let reset = std::iter::from_fn(|| live.next()).find(|event| event.name == "reset").unwrap();
        assert_eq!(reset.data["epoch"], 20);
        assert_eq!(live.next().unwrap().data["rows"][0]["active_viewers"], 7);
    });
}
