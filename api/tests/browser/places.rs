//! Stream, range and order are in the URL; everything can be reached by keyboard; names are text, whatever they are.

use crate::driver::Browser;
use crate::pipeline::{Service, Store};
use crate::{LIVE, SOON, browser, is_clean, open};
use serde_json::json;

const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";
const ARROW_LEFT: &str = "\u{E012}";
const HOME: &str = "\u{E011}";
const END: &str = "\u{E010}";

fn is_at(browser: &Browser, title: &str, query: &str) {
    browser.wait(&format!("document.getElementById('title').textContent === {}", json!(title)), SOON);
    browser.wait(LIVE, SOON);
    assert_eq!(browser.eval("location.search"), json!(query));
}

#[test]
fn the_place_is_in_the_url() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&["stream_a", "stream_b"]);
    let service = Service::start(&store);
    open(browser, &service, "/");
    browser.run("window.same = true");
    browser.click("#range-15");
    is_at(browser, "All streams", "?minutes=15");
    browser.click("#by-chat_messages");
    is_at(browser, "All streams", "?minutes=15&by=chat_messages");
    assert_eq!(browser.text("#top-value"), "Chat messages");
    browser.click("#top-rows tr:nth-child(2) a");
    is_at(browser, "stream_b", "?stream=stream_b&minutes=15&by=chat_messages");
    assert_eq!(browser.text("#top-rows a[aria-current]"), "stream_b");
    browser.back();
    is_at(browser, "All streams", "?minutes=15&by=chat_messages");
    browser.back();
    is_at(browser, "All streams", "?minutes=15");
    browser.forward();
    browser.forward();
    is_at(browser, "stream_b", "?stream=stream_b&minutes=15&by=chat_messages");
    assert_eq!(browser.eval("window.same"), json!(true), "the page was never loaded again");
    browser.click("#back");
    is_at(browser, "All streams", "?minutes=15&by=chat_messages");
    // A link from elsewhere.
    open(browser, &service, "/?stream=stream_a&minutes=360&by=active_viewers");
    is_at(browser, "stream_a", "?stream=stream_a&minutes=360&by=active_viewers");
    assert_eq!(browser.text("#range-360[aria-current]"), "6 h");
    assert_eq!(browser.text("#by-active_viewers[aria-current]"), "Viewers");
    // What cannot be used counts as absent.
    for query in ["minutes=0&by=nothing&to=yesterday", "minutes=2000", "minutes=44640"] {
        open(browser, &service, &format!("/?{query}"));
        assert_eq!(browser.text("#range-60[aria-current]"), "1 h");
    }
    // A stream by its name, also one that never was.
    browser.run("document.getElementById('find-name').focus()");
    browser.press(&["n", "o", "n", "e", ENTER]);
    browser.wait("!document.getElementById('no-rows').hidden", SOON);
    is_at(browser, "none", "?stream=none");
    assert_eq!(browser.text("#no-rows-text"), "No event of this stream in this range.");
}

#[test]
fn a_past_range_has_its_own_rows() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&["stream_a", "stream_b"]);
    store.roll_up(&["stream_a", "stream_b"]);
    let service = Service::start(&store);
    for (path, rows, whole, back) in [
        ("/?minutes=15", 15, ":00Z", "#now"),
        ("/?stream=stream_b&minutes=15", 15, ":00Z", "#now"),
        ("/?minutes=10080", 168, ":00:00Z", "#later"),
        ("/?stream=stream_b&minutes=43200", 30, "T00:00:00Z", "#later"),
    ] {
        open(browser, &service, path);
        browser.run("document.getElementById('table').open = true");
        browser.wait("document.querySelectorAll('#table-rows time').length > 10", SOON);
        let newest = browser.eval("document.querySelector('#table-rows time').dateTime");
        browser.click("#earlier");
        browser.wait("document.body.dataset.connection === 'past'", SOON);
        browser.wait(&format!("document.querySelector('#table-rows time').dateTime < {newest}"), SOON);
        assert_eq!(browser.eval("document.querySelectorAll('#table-rows tr').length"), json!(rows));
        let to = browser.eval("new URLSearchParams(location.search).get('to')");
        assert!(to.as_str().unwrap().ends_with(whole), "{path}: {to}");
        // It ended longer ago than the pipeline waits.
        assert_eq!(browser.eval("document.querySelectorAll('#table-rows .live').length"), json!(0));
        assert_eq!(browser.text("#table-rows tr:last-child .state"), "final");
        browser.click(back);
        browser.wait(LIVE, SOON);
        assert_eq!(browser.eval("new URLSearchParams(location.search).has('to')"), json!(false));
    }
    // Longer windows end after what was looked at.
    browser.go(&service.url("/?minutes=15&to=2025-01-01T12:34:00Z"));
    browser.wait("document.body.dataset.connection === 'past'", SOON);
    for (range, to) in [(1_440, "2025-01-01T12:34:00Z"), (10_080, "2025-01-01T13:00:00Z"), (43_200, "2025-01-02T00:00:00Z")] {
        let link = format!("new URLSearchParams(document.getElementById('range-{range}').search).get('to')");
        assert_eq!(browser.eval(&link), json!(to));
    }
}

#[test]
fn everything_is_reached_by_keyboard() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&["stream_a", "stream_b"]);
    let service = Service::start(&store);
    open(browser, &service, "/");
    let focused = || browser.eval("document.activeElement.id || document.activeElement.textContent").as_str().unwrap().to_owned();
    let outlined = || browser.eval("getComputedStyle(document.activeElement).outlineStyle") == json!("solid");
    let mut order = Vec::new();
    for _ in 0..40 {
        browser.press(&[TAB]);
        let name = focused();
        if order.contains(&name) {
            break;
        }
        assert!(outlined(), "the focus on {name} cannot be seen");
        order.push(name);
        if order.last().is_some_and(|name| name == "find-name") {
            break;
        }
    }
    let expected = [
        "Skip to the numbers",
        "Tidemark",
        "theme",
        "earlier",
        "range-15",
        "range-60",
        "range-360",
        "range-1440",
        "range-10080",
        "range-43200",
        "choose",
        "explain-active_viewers",
        "explain-chat_messages",
        "explain-donations_usd",
        "scrub",
        "table-title",
        "by-donations_usd",
        "by-chat_messages",
        "by-active_viewers",
        "stream_a",
        "stream_b",
        "find-name",
    ];
    let order: Vec<_> = order.iter().map(|name| name.trim()).collect();
    assert_eq!(order, expected);
    // A stream: its name is where the focus goes, and it is said.
    browser.run("document.querySelector('#top-rows a').focus()");
    browser.press(&[ENTER]);
    is_at(browser, "stream_a", "?stream=stream_a");
    assert_eq!(focused(), "title");
    assert_eq!(browser.text("#announcement"), "Showing stream_a.");
    // The charts' cursor.
    browser.run("document.getElementById('scrub').focus()");
    let text = || browser.eval("document.getElementById('scrub').getAttribute('aria-valuetext')").as_str().unwrap().to_owned();
    let value = || browser.eval("Number(document.getElementById('scrub').getAttribute('aria-valuenow'))").as_i64().unwrap();
    // At the turn of a minute the new one has no row yet.
    browser.wait("Number(document.getElementById('scrub').getAttribute('aria-valuemax')) >= 59", SOON);
    browser.press(&[END]);
    let last = value();
    assert!(last >= 59 && text().contains("may still change"), "{last}: {}", text());
    browser.press(&[ARROW_LEFT, ARROW_LEFT]);
    assert_eq!(value(), last - 2);
    browser.press(&[HOME]);
    assert_eq!(value(), 0);
    assert!(text().ends_with(", final") && text().contains("Donations $"), "{}", text());
    assert!(browser.text("#plot-moment").ends_with("UTC · final"), "{}", browser.text("#plot-moment"));
    // Light and dark, and the choice is kept.
    browser.run("document.getElementById('theme').focus()");
    browser.press(&[ENTER]);
    let theme = browser.eval("document.documentElement.dataset.theme");
    assert!(theme == json!("dark") || theme == json!("light"), "{theme}");
    open(browser, &service, "/");
    assert_eq!(browser.eval("document.documentElement.dataset.theme"), theme);
    browser.click("#theme");
    assert_eq!(browser.eval("document.documentElement.dataset.theme ?? null"), json!(null), "again as the system says");
    is_clean(browser, &service);
}

#[test]
fn names_are_text_whatever_they_are() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let long = "ä".repeat(128);
    let names = [
        ("<script>document.title='owned'</script>", "<script>document.title='owned'</script>"),
        ("<img src=x onerror=alert(1)>\"'`", "<img src=x onerror=alert(1)>\"'`"),
        (r#"{"donations_usd":1.50,"value":2.50"#, r#"{"donations_usd":1.50,"value":2.50"#),
        ("\u{202E}gnp.exe", "⟨202E⟩gnp.exe"),
        ("مرحبا", "مرحبا"),
        ("🎸 riffs", "🎸 riffs"),
        ("..", ".."),
        ("a/b?c&d=e#f+g%2F", "a/b?c&d=e#f+g%2F"),
        (" \t", "␠⟨0009⟩"),
        (long.as_str(), long.as_str()),
    ];
    let store = Store::new();
    let _traffic = store.traffic(&names.map(|(name, _)| name));
    let service = Service::start(&store);
    browser.devtools(
        "Emulation.setDeviceMetricsOverride",
        json!({"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true}),
    );
    let fits = || {
        let width = browser.eval("document.documentElement.scrollWidth").as_i64().unwrap();
        assert!(width <= 360, "the page is {width} wide");
    };
    open(browser, &service, "/");
    browser.wait("document.querySelectorAll('#top-rows a').length === 10", SOON);
    fits();
    let listed = browser.eval("[...document.querySelectorAll('#top-rows a')].map((link) => link.textContent)");
    let scripts = browser.eval("document.scripts.length");
    for (name, shown) in names {
        assert!(listed.as_array().unwrap().contains(&json!(shown)), "{shown} is not in {listed}");
        let link = format!("[...document.querySelectorAll('#top-rows a')].find((link) => link.textContent === {})", json!(shown));
        browser.run(&format!("{link}.click()"));
        browser.wait(&format!("document.getElementById('title').textContent === {}", json!(shown)), SOON);
        browser.wait(LIVE, SOON);
        browser.wait("document.querySelector('#figure-active_viewers .value').textContent !== '–'", SOON);
        assert_eq!(browser.eval("new URLSearchParams(location.search).get('stream')"), json!(name));
        assert_eq!(browser.eval("document.title"), json!(format!("{shown} · Tidemark").trim()));
        fits();
        // From a link too: the name goes through the URL.
        browser.run("location.reload()");
        browser.wait(&format!("document.getElementById('title')?.textContent === {} && {LIVE}", json!(shown)), SOON);
        assert_eq!(browser.eval("document.scripts.length"), scripts);
        assert_eq!(browser.eval("document.images.length"), json!(0));
    }
    is_clean(browser, &service);
}
