//! The numbers on the page are the API's of the same commit, while commits go on.

use crate::driver::Browser;
use crate::expected::{self, MINUTES, Recorder, TOP, Texts};
use crate::pipeline::{Service, Store, second_of_minute};
use crate::{LIVE, SOON, browser, is_clean, open};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Everything that is shown at one instant, and of which commits it says that it is.
const SNAPSHOT: &str = r##"
    const text = (selector) => document.querySelector(selector).textContent;
    const cells = (row) => [...row.cells].map((cell) => cell.textContent);
    const figures = [
        ["viewers", text("#figure-active_viewers .value")],
        ["peak", text("#figure-peak-active_viewers .value")],
        ["chats", text("#figure-chat_messages .value")],
        ["chats, final", text("#figure-chat_messages .note")],
        ["donations", text("#figure-donations_usd .value")],
        ["donations, final", text("#figure-donations_usd .note")],
    ];
    const rows = [...document.querySelectorAll("#table-rows tr")].map((row) => {
        return [row.querySelector("time").dateTime.slice(0, 16), cells(row).slice(1).join("|")];
    });
    return {
        rows: figures.concat(rows),
        epoch: Number(document.getElementById("picture").dataset.epoch),
        top: [...document.querySelectorAll("#top-rows tr")].map(cells),
        topEpoch: Number(document.getElementById("top").dataset.epoch),
    };
"##;

fn texts(value: &Value) -> Texts {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    value.as_array().unwrap().iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

/// Compares until so many commits were met both on the page and in the API's answers.
fn compare(browser: &Browser, recorder: &Recorder, wanted: usize) {
    let started = Instant::now();
    let mut met = [BTreeSet::new(), BTreeSet::new()];
    while met.iter().any(|met| met.len() < wanted) {
        assert!(started.elapsed() < Duration::from_secs(120), "after two minutes only {met:?} were met");
        std::thread::sleep(Duration::from_millis(150));
        // Where a minute ends, page and service may not yet mean the same hour.
        if !(3..57).contains(&second_of_minute()) {
            continue;
        }
        let shown = browser.run(SNAPSHOT);
        for (question, shown, epoch) in [(MINUTES, &shown["rows"], &shown["epoch"]), (TOP, &shown["top"], &shown["topEpoch"])] {
            let Some(epoch) = epoch.as_i64() else { continue };
            // The recorder may be a little behind.
            std::thread::sleep(Duration::from_millis(50));
            if let Some(expected) = recorder.at(question, epoch) {
                assert_eq!(texts(shown), expected, "at commit {epoch}");
                met[question].insert(epoch);
            }
        }
    }
    println!("{} and {} commits were met", met[0].len(), met[1].len());
}

#[test]
fn numbers_equal_the_apis_while_traffic_flows() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&["stream_a", "stream_b", "stream_c", "stream_d", "stream_e"]);
    // An amount that no float holds: it is in every sum.
    let odd = "update stream_metrics_minute set donations_cents = 9007199254740993
               where stream_id = 'stream_b' and window_start = (select min(window_start) + 30 * 60000000 from stream_metrics_minute)";
    assert_eq!(store.create().execute(odd, []).unwrap(), 1);
    let service = Arc::new(Service::start(&store));
    for (path, stream) in [("/", None), ("/?stream=stream_b", Some("stream_b".to_owned()))] {
        open(browser, &service, path);
        browser.run("document.getElementById('table').open = true");
        browser.wait("document.querySelectorAll('#table-rows tr').length > 50", SOON);
        let recorder = Recorder::start(service.clone(), stream);
        compare(browser, &recorder, 12);
        assert!(browser.text("#figure-donations_usd .value").starts_with("$90,07"), "{}", browser.text("#figure-donations_usd"));
    }
    is_clean(browser, &service);
}

#[test]
fn what_is_pushed_is_on_the_page_at_once() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let traffic = store.traffic(&["busy"]);
    let service = Service::start(&store);
    open(browser, &service, "/?stream=busy");
    // Asking again is throttled to once a second; ten commits a second come by the push.
    browser.run(
        "window.commits = new Set();
         new MutationObserver(() => window.commits.add(document.getElementById('picture').dataset.epoch))
             .observe(document.getElementById('picture'), { attributes: true, attributeFilter: ['data-epoch'] });",
    );
    std::thread::sleep(Duration::from_secs(5));
    let commits = browser.eval("window.commits.size").as_i64().unwrap();
    assert!(commits > 15, "only {commits} commits were shown in 5 s");
    drop(traffic);
    // The service's last commit is the page's.
    let (_, body) = service.get("/health");
    let health: Value = serde_json::from_str(&body).unwrap();
    browser.wait(&format!("document.getElementById('picture').dataset.epoch === '{}'", health["epoch"]), Duration::from_secs(5));
}

#[test]
fn hours_and_days_are_the_rows_of_the_api() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    drop(store.traffic(&["stream_a", "stream_b"]));
    store.roll_up(&["stream_a", "stream_b"]);
    let service = Service::start(&store);
    let show = ["active_viewers", "chat_messages", "donations_usd", "peak_viewers"].map(|name| format!("&show={name}")).concat();
    for (grain, minutes, least, range, head) in
        [("hour", 10_080, 167, "Last 7 days, ", "Hour (UTC)"), ("day", 43_200, 29, "Last 30 days, ", "Day (UTC)")]
    {
        let query = format!("grain={grain}&minutes={minutes}");
        for (stream, path) in [("", "/metrics/totals"), ("&stream=stream_b", "/streams/stream_b")] {
            open(browser, &service, &format!("/?minutes={minutes}{stream}{show}"));
            browser.run("document.getElementById('table').open = true");
            let started = Instant::now();
            let (shown, expected) = loop {
                let shown = browser.run(SNAPSHOT);
                let shown = (texts(&shown["rows"]), texts(&shown["top"]));
                let (_, rows) = service.get(&format!("{path}?{query}"));
                let (_, top) = service.get(&format!("/streams/top?{query}&n=10&by=donations_usd"));
                let expected = (expected::rows(&rows, stream.is_empty()), expected::top(&top));
                if shown == expected || started.elapsed() > SOON {
                    break (shown, expected);
                }
                std::thread::sleep(Duration::from_millis(100));
            };
            assert_eq!(shown, expected, "{grain} {path}");
            let states: Vec<_> = expected.0[6..].iter().map(|(_, text)| text.rsplit('|').next().unwrap()).collect();
            assert!(states.len() >= least, "{grain} {path}: {}", states.len());
            assert!(states[0] == "growing" && states[1..].iter().all(|state| *state == "final"), "{grain} {path}: {states:?}");
            assert!(browser.text("#range-text").starts_with(range), "{}", browser.text("#range-text"));
            assert_eq!(browser.text("#table-window"), head);
            assert_eq!(browser.text("#legend-open"), "still growing: made of closed minutes");
            assert!(browser.text("#plot-moment").ends_with(" UTC · final"), "{}", browser.text("#plot-moment"));
        }
    }
    is_clean(browser, &service);
}

#[test]
fn a_push_of_minutes_adds_none_to_hours() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&["busy"]);
    store.roll_up(&["busy"]);
    let service = Service::start(&store);
    open(browser, &service, "/?stream=busy&minutes=10080");
    browser.run("document.getElementById('table').open = true");
    let times = "[...document.querySelectorAll('#table-rows time')].map(({ dateTime }) => dateTime)";
    let odd = format!("{times}.filter((time) => !time.endsWith(':00:00.000Z'))");
    browser.wait(&format!("{times}.length > 160"), SOON);
    browser.run(&format!(
        "window.commits = new Set();
         window.odd = [];
         new MutationObserver(() => {{
             window.commits.add(document.getElementById('picture').dataset.epoch);
             window.odd.push(...{odd});
         }}).observe(document.getElementById('picture'), {{ attributes: true, attributeFilter: ['data-epoch'] }});"
    ));
    std::thread::sleep(Duration::from_secs(5));
    // Ten commits a second are pushed; the rows are asked for once a second at most.
    let commits = browser.eval("window.commits.size").as_i64().unwrap();
    assert!(commits <= 8, "{commits} commits were shown in 5 s");
    browser.wait("window.commits.size >= 2", SOON);
    assert_eq!(browser.eval("window.odd"), json!([]));
    // Nor do rows of one length stay when the other is asked for.
    for (range, is_there) in [("60", format!("{odd}.length > 50")), ("10080", format!("{times}.length > 160 && !{odd}.length"))] {
        browser.click(&format!("#range-{range}"));
        browser.wait(&format!("document.querySelector('#range-{range}[aria-current]') && {LIVE} && {is_there}"), SOON);
    }
    is_clean(browser, &service);
}

#[test]
fn the_pipelines_health_is_shown() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&["stream_a"]);
    let service = Service::start(&store);
    open(browser, &service, "/");
    browser.wait("/^[\\d.]+ s$/.test(document.querySelector('#vital-freshness .value').textContent)", SOON);
    browser.wait("/KB\\/s$/.test(document.querySelector('#vital-rate .value').textContent)", SOON);
    // The writer keeps partition 0 the furthest behind.
    assert_eq!(browser.text("#vital-holder .value"), "Partition 0");
    assert_eq!(browser.text("#partition-rows .holds th"), "0holds the watermark");
    assert_eq!(browser.text("#vital-backlog .value"), "None");
    assert!(browser.text("#vital-watermark .note").starts_with("10 min "), "{}", browser.text("#vital-watermark"));
    // Rejected records by reason, as the API has them; there are more of them soon, so the page must catch up.
    browser.wait("document.querySelectorAll('#dead-rows tr').length === 3", Duration::from_secs(60));
    let (_, body) = service.get("/dead-letters");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let expected = answer["records"].as_i64().unwrap();
    browser.wait(&format!("Number(document.getElementById('dead-total').textContent) >= {expected}"), SOON);
}
