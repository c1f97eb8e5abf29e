//! A lost connection is shown and healed; old numbers never look fresh.

use crate::pipeline::{Service, Store};
use crate::{LIVE, SOON, browser, events, open};
use serde_json::json;
use std::time::Duration;

const LOST: &str = "document.body.dataset.connection === 'lost'";

fn figures(browser: &crate::driver::Browser) -> serde_json::Value {
    browser.eval("[...document.querySelectorAll('.figure .value')].map((value) => value.textContent)")
}

#[test]
fn a_killed_service_is_shown_and_its_return_heals() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&["stream_a", "stream_b"]);
    let mut service = Service::start(&store);
    for path in ["/", "/?stream=stream_a"] {
        open(browser, &service, path);
        assert_eq!(browser.eval("document.getElementById('banner').hidden"), json!(true));
        let port = service.kill();
        browser.wait(LOST, Duration::from_secs(5));
        let banner = browser.text("#banner-text");
        assert!(
            banner.starts_with("The connection is lost. All numbers below are as of ") && banner.contains(" UTC."),
            "{banner}"
        );
        assert_eq!(browser.text("#status-word"), "Connection lost");
        assert_eq!(browser.text("#announcement"), "Connection lost.");
        let filter = browser.eval("getComputedStyle(document.querySelector('.figure .value')).filter");
        assert_eq!(filter, json!("grayscale(1)"), "old numbers look old");
        // They stay as they were, also when the range would begin a minute later by now, and never look fresh while the service is away.
        let old = figures(browser);
        browser.eval("void (window.realNow = Date.now, Date.now = () => window.realNow() + 60_000)");
        for _ in 0..20 {
            assert_eq!(browser.eval(LOST), json!(true));
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(figures(browser), old);
        browser.eval("void (Date.now = window.realNow)");
        drop(events(browser, "Network.requestWillBeSentExtraInfo"));
        service = Service::start_on(port, &store);
        browser.wait(LIVE, SOON);
        assert_eq!(browser.eval("document.getElementById('banner').hidden"), json!(true));
        browser.wait(&format!("document.querySelector('#figure-chat_messages .value').textContent !== {}", old[2]), SOON);
        assert_eq!(browser.text("#announcement"), "Live: numbers are fresh again.");
        // The browser went on from where it was.
        let resumed = events(browser, "Network.requestWillBeSentExtraInfo")
            .into_iter()
            .any(|event| event["headers"].as_object().unwrap().keys().any(|name| name.eq_ignore_ascii_case("last-event-id")));
        assert!(resumed, "no request with Last-Event-ID");
    }
}

#[test]
fn a_store_out_of_reach_is_shown_and_its_return_heals() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let service = Service::start(&store);
    // Nothing is there yet.
    browser.go(&service.url("/"));
    browser.wait("document.body.dataset.connection === 'ill'", SOON);
    assert!(browser.text("#banner-text").contains("There are no numbers to show yet."), "{}", browser.text("#banner-text"));
    assert_eq!(browser.text("#figure-donations_usd .value"), "–");
    // Tables without rows are no failure.
    drop(store.create());
    browser.wait("document.body.dataset.connection === 'live'", SOON);
    browser.wait("!document.getElementById('no-rows').hidden", SOON);
    assert_eq!(browser.text("#no-rows-text"), "No event in this range.");
    assert_eq!(browser.text("#top-empty"), "No stream was heard of in this range.");
    assert_eq!(browser.text("#figure-donations_usd .value"), "$0.00");
    assert_eq!(browser.text("#vital-freshness .note"), "the pipeline has not committed yet");
    let traffic = store.traffic(&["stream_a"]);
    browser.wait("document.querySelector('#top-rows a')?.textContent === 'stream_a'", SOON);
    drop(traffic);
    std::fs::rename(store.file(), store.directory().join("elsewhere")).unwrap();
    browser.wait("document.body.dataset.connection === 'ill'", SOON);
    assert!(browser.text("#banner-text").starts_with("The store is out of reach. All numbers below are as of "));
    std::fs::rename(store.directory().join("elsewhere"), store.file()).unwrap();
    browser.wait(LIVE, SOON);
}

#[test]
fn a_silent_pipeline_is_not_shown_as_live() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    drop(store.traffic(&["stream_a"]));
    // As if it had stopped ten minutes ago.
    store.create().execute("update progress set updated_at = updated_at - 600000000", []).unwrap();
    let service = Service::start(&store);
    browser.go(&service.url("/"));
    browser.wait("document.body.dataset.connection === 'quiet'", SOON);
    assert_eq!(browser.text("#status-word"), "Pipeline silent");
    let freshness = browser.text("#vital-freshness");
    assert!(freshness.contains("10 min") && freshness.contains("it may be stopped"), "{freshness}");
}
