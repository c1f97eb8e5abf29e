//! The dashboard in a real browser, against the service as a process of its own, on a store that is written to meanwhile.
//!
//! Needs `chromium` and `chromedriver`; without them the tests are skipped, unless `TIDEMARK_TEST_REQUIRE=1`.
//! `TIDEMARK_SCREENSHOTS=DIR` also writes the pictures of the README there.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests stand outside of test functions")]

mod connection;
mod driver;
mod expected;
mod looks;
mod metrics;
mod numbers;
mod pipeline;
mod places;

use driver::Browser;
use pipeline::Service;
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Long enough for a busy machine; nothing waits so long on a quiet one.
const SOON: Duration = Duration::from_secs(30);

/// A browser, one at a time: several would share two cores and measure each other.
struct Alone {
    browser: Browser,
    _turn: MutexGuard<'static, ()>,
}

/// None, with a message, if there is no browser and need not be.
fn browser() -> Option<Alone> {
    static TURN: Mutex<()> = Mutex::new(());
    let programs = driver::programs()?;
    // A test that failed has ended its browser all the same.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Some(Alone { browser: Browser::start(&programs), _turn: turn })
}

/// The page shows what it was asked for, and that is fresh.
const LIVE: &str = "document.body.dataset.connection === 'live' && !document.body.classList.contains('loading')";

fn open(browser: &Browser, service: &Service, path: &str) {
    browser.go(&service.url(path));
    browser.wait(LIVE, SOON);
}

/// Every request went to the service, and the page had nothing to complain about.
fn is_clean(browser: &Browser, service: &Service) {
    let complaints = browser.log("browser");
    assert!(complaints.is_empty(), "{complaints:#?}");
    let own = service.url("/");
    let mut requests = 0;
    for url in requested(browser) {
        assert!(url.starts_with(&own), "a request to {url}");
        requests += 1;
    }
    assert!(requests > 10, "only {requests} requests were seen");
}

/// The address of every request since the log was last read, those of workers and frames included.
fn requested(browser: &Browser) -> Vec<String> {
    let events = events(browser, "Network.requestWillBeSent");
    let url = |event: &Value| event["request"]["url"].as_str().unwrap().to_owned();
    // What the browser opens before the test does is not the page's.
    events.iter().map(url).filter(|url| !url.starts_with("data:") && !url.starts_with("chrome:")).collect()
}

/// The parameters of these events of the DevTools protocol since the log was last read.
fn events(browser: &Browser, method: &str) -> Vec<Value> {
    let lines = browser.log("performance");
    let messages = lines.iter().map(|line| serde_json::from_str::<Value>(line.split_once(": ").unwrap().1).unwrap());
    messages.filter(|line| line["message"]["method"] == method).map(|mut line| line["message"]["params"].take()).collect()
}
