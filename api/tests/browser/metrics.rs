//! Which metrics are shown is the reader's choice, what one means is a click away, and what is not known is no zero.

use crate::driver::Browser;
use crate::pipeline::{Service, Store};
use crate::{LIVE, SOON, browser, is_clean, open};
use serde_json::{Value, json};
use tidemark_model::metrics::RollUp;
use tidemark_model::{Grain, Metric};

const ENTER: &str = "\u{E007}";
const SPACE: &str = " ";

/// The ids of all elements that the selector finds and that can be seen, without what they begin with.
fn seen(browser: &Browser, selector: &str, prefix: &str) -> Vec<String> {
    let ids = browser.eval(&format!(
        "[...document.querySelectorAll({})].filter((found) => found.checkVisibility()).map(({{ id }}) => id)",
        json!(selector)
    ));
    ids.as_array().unwrap().iter().map(|id| id.as_str().unwrap().strip_prefix(prefix).unwrap().to_owned()).collect()
}

/// Waits for the page to show these metrics, and nothing of others.
fn shows(browser: &Browser, names: &[&str]) {
    let ids: Vec<_> = names.iter().map(|name| format!("lane-{name}")).collect();
    let shown = "[...document.querySelectorAll('.lane')].filter((lane) => !lane.hidden).map(({ id }) => id).join()";
    browser.wait(&format!("{shown} === {}", json!(ids.join(","))), SOON);
    let figures = names.iter().flat_map(|name| match Metric::named(name).unwrap().declared().roll_up {
        RollUp::AtEnd => vec![(*name).to_owned(), format!("peak-{name}")],
        // The level has that figure.
        RollUp::Largest => vec![],
        RollUp::Distinct | RollUp::Sum => vec![(*name).to_owned()],
    });
    assert_eq!(seen(browser, ".figure", "figure-"), figures.collect::<Vec<_>>());
    let heads = browser.eval("[...document.querySelectorAll('.table th[scope=col]')].filter((head) => !head.hidden).length");
    assert_eq!(heads, json!(names.len() + 2));
    // The clock, or the day, is under the lowest chart only.
    let clocks = browser.eval(
        "[...document.querySelectorAll('.lane')].filter((lane) => [...lane.querySelectorAll('.tick')].some((tick) => /^\\d\\d:\\d\\d$|^\\d+ [A-Z]/.test(tick.textContent)) && !lane.hidden).length",
    );
    assert_eq!(clocks, json!(1));
    let is_longer = browser.eval("Number(new URLSearchParams(location.search).get('minutes')) > 1440") == json!(true);
    let all = Metric::of(if is_longer { Grain::Hour } else { Grain::Minute });
    assert_eq!(browser.text("#choose-count"), format!("{} of {}", names.len(), all.len()));
}

fn fits(browser: &Browser, width: i64) {
    let actual = browser.eval("document.documentElement.scrollWidth").as_i64().unwrap();
    let wide = "[...document.body.querySelectorAll('*')].filter((found) => found.checkVisibility() && found.scrollWidth > found.clientWidth
         && getComputedStyle(found).overflowX === 'visible' && found.clientWidth > 0).map((found) => found.outerHTML.slice(0, 100))";
    assert!(actual <= width, "the page is {actual} wide, not {width}: {}", browser.eval(wide));
}

fn look(browser: &Browser, width: i64) {
    let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500});
    browser.devtools("Emulation.setDeviceMetricsOverride", size);
}

#[test]
fn the_reader_chooses_which_metrics_are_shown() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&["stream_a", "stream_b"]);
    let service = Service::start(&store);
    let first = ["active_viewers", "chat_messages", "donations_usd"];
    let with_time = ["active_viewers", "watch_ms", "chat_messages", "donations_usd"];
    open(browser, &service, "/");
    browser.run("window.same = true; document.getElementById('table').open = true");
    browser.wait("document.querySelectorAll('#table-rows tr').length > 50", SOON);
    shows(browser, &first);
    assert_eq!(seen(browser, "#orders a", "by-"), ["donations_usd", "chat_messages", "active_viewers"]);
    assert_eq!(seen(browser, "#choices input", "show-"), [""; 0], "the boxes are closed");
    // By keyboard.
    browser.run("document.getElementById('choose').focus()");
    browser.press(&[ENTER]);
    assert_eq!(seen(browser, "#choices input", "show-"), Metric::MINUTE.map(Metric::name));
    let described = |metric: Metric| browser.text(&format!("#show-{}-meaning", metric.name())).to_lowercase();
    assert!(Metric::MINUTE.into_iter().all(|metric| described(metric) == format!("{}.", metric.declared().meaning)));
    browser.run("document.getElementById('show-watch_ms').focus()");
    browser.press(&[SPACE]);
    shows(browser, &with_time);
    assert_eq!(
        browser.eval("location.search"),
        json!("?show=active_viewers&show=watch_ms&show=chat_messages&show=donations_usd")
    );
    assert_eq!(browser.eval("document.activeElement.id"), json!("show-watch_ms"), "the focus stays");
    // A duration in words: in the figure, on the axis, in the table and in the list.
    let in_words = |text: &str| {
        let words: Vec<_> = text.split(' ').collect();
        let pairs = words.chunks(2).all(|pair| {
            pair.len() == 2 && pair[0].replace(',', "").parse::<f64>().is_ok() && ["h", "min", "s"].contains(&pair[1])
        });
        assert!(pairs, "{text}");
    };
    in_words(&browser.text("#figure-watch_ms .value"));
    let ticks = browser.eval("[...document.querySelectorAll('#lane-watch_ms .tick')].map((tick) => tick.textContent)");
    let ticks: Vec<_> = ticks.as_array().unwrap().iter().map(|tick| tick.as_str().unwrap()).collect();
    assert_eq!(ticks[0], "0");
    ticks[1..].iter().for_each(|tick| in_words(tick));
    in_words(&browser.text("#table-rows tr:nth-child(3) td:nth-child(3)"));
    browser.click("#by-watch_ms");
    browser.wait(&format!("document.getElementById('top-value').textContent === 'Watch time' && {LIVE}"), SOON);
    in_words(&browser.text("#top-rows .value"));
    // Other links keep the choice, and back takes it back.
    browser.click("#range-15");
    browser.wait("location.search.startsWith('?minutes=15&by=watch_ms&show=active_viewers&show=watch_ms')", SOON);
    shows(browser, &with_time);
    browser.back();
    browser.back();
    browser.back();
    shows(browser, &first);
    assert_eq!(browser.eval("location.search"), json!(""));
    assert_eq!(browser.eval("document.getElementById('show-watch_ms').checked"), json!(false));
    browser.forward();
    shows(browser, &with_time);
    assert_eq!(browser.eval("window.same"), json!(true), "the page was never loaded again");
    browser.run("location.reload()");
    browser.wait(&format!("window.same === undefined && {LIVE}"), SOON);
    shows(browser, &with_time);
    // One at least.
    browser.click("#choose");
    for name in &with_time[..3] {
        browser.click(&format!("#show-{name}"));
    }
    shows(browser, &["donations_usd"]);
    browser.click("#show-donations_usd");
    assert_eq!(browser.eval("document.getElementById('show-donations_usd').checked"), json!(true));
    assert_eq!(browser.text("#announcement"), "One metric at least is shown.");
    shows(browser, &["donations_usd"]);
    // What there is not counts as absent.
    open(browser, &service, "/?show=nothing&show=");
    shows(browser, &first);
    open(browser, &service, "/?show=donors&show=nothing&show=unique_viewers&show=donors");
    shows(browser, &["unique_viewers", "donors"]);
    assert_eq!(browser.text("#figure-donors dt"), "Peak donors");
    let labels = browser.eval("[...document.querySelectorAll('.explain')].map((button) => button.textContent)");
    let expected = ["Viewers", "Unique viewers", "Watch time", "Chat messages", "Unique chatters"];
    let expected = [&expected[..], &["Number of donations", "Donations", "Donors", "Peak viewers"]].concat();
    let mut labels: Vec<_> = labels.as_array().unwrap().iter().map(|label| label.as_str().unwrap()).collect();
    labels.retain(|label| expected.contains(label));
    assert_eq!(labels, expected);
    is_clean(browser, &service);
}

#[test]
fn the_peak_is_offered_with_hours_and_days_only() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&["stream_a", "stream_b"]);
    store.roll_up(&["stream_a", "stream_b"]);
    let service = Service::start(&store);
    let first = ["active_viewers", "chat_messages", "donations_usd"];
    let with_peak = ["active_viewers", "chat_messages", "donations_usd", "peak_viewers"];
    let offered = || seen(browser, "#choices input", "show-");
    open(browser, &service, "/?minutes=10080");
    browser.click("#choose");
    shows(browser, &first);
    assert_eq!(offered(), Metric::ALL.map(Metric::name));
    browser.click("#show-peak_viewers");
    shows(browser, &with_peak);
    // With minutes it is not there, but stays chosen.
    browser.click("#range-60");
    shows(browser, &first);
    assert_eq!(offered(), Metric::MINUTE.map(Metric::name));
    browser.click("#range-43200");
    shows(browser, &with_peak);
    let meaning = browser.text("#meaning-peak_viewers");
    assert!(meaning.ends_with(". Of several days, the highest is shown."), "{meaning}");
    // Alone, with the list by it.
    open(browser, &service, "/?minutes=10080&show=peak_viewers&by=active_viewers");
    browser.wait("document.querySelectorAll('#top-rows tr').length === 2", SOON);
    assert_eq!(seen(browser, ".figure", "figure-"), ["peak-active_viewers"]);
    assert_eq!(seen(browser, "#orders a", "by-"), ["active_viewers"]);
    assert_eq!(browser.text("#top-value"), "Peak viewers");
    let (_, body) = service.get("/streams/top?grain=hour&minutes=10080&by=peak_viewers");
    let top: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(browser.text("#top-rows .value").replace(',', ""), top["rows"][0]["value"].to_string());
    open(browser, &service, "/?show=peak_viewers&by=peak_viewers");
    shows(browser, &first);
    assert_eq!(browser.text("#top-value"), "Donations");
    is_clean(browser, &service);
}

#[test]
fn all_metrics_fit_every_width() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&["stream_a", "stream_b"]);
    store.roll_up(&["stream_a", "stream_b"]);
    let service = Service::start(&store);
    let grains = [(60, Grain::Minute), (10_080, Grain::Hour), (43_200, Grain::Day)];
    for (width, (minutes, grain)) in [360, 700, 1280].into_iter().flat_map(|width| grains.map(|grain| (width, grain))) {
        look(browser, width);
        let names: Vec<_> = Metric::of(grain).iter().map(|metric| metric.name()).collect();
        open(browser, &service, &format!("/?minutes={minutes}&show={}", names.join("&show=")));
        shows(browser, &names);
        browser.run("for (const button of document.querySelectorAll('#choose, .explain')) button.click()");
        assert_eq!(seen(browser, ".meaning", "meaning-"), names);
        fits(browser, width);
        // Axes have room for their marks.
        let cut = browser.eval(
            "[...document.querySelectorAll('.lane .tick')].filter((tick) => tick.getBoundingClientRect().left < document.getElementById('plot').getBoundingClientRect().left).map((tick) => tick.textContent)",
        );
        assert_eq!(cut, json!([]));
        // There are two more links beside the ranges.
        browser.click("#earlier");
        browser.wait("document.body.dataset.connection === 'past'", SOON);
        fits(browser, width);
    }
    is_clean(browser, &service);
}

#[test]
fn what_a_metric_means_is_a_click_away() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&["stream_a"]);
    let service = Service::start(&store);
    open(browser, &service, "/?show=active_viewers&show=unique_chatters&show=donations_usd");
    let is_open = |name: &str| {
        let open = browser.eval(&format!("document.getElementById('explain-{name}').getAttribute('aria-expanded') === 'true'"));
        assert_eq!(json!(seen(browser, ".meaning", "meaning-").contains(&name.to_owned())), open, "{name}");
        open == json!(true)
    };
    for (name, together) in [
        ("active_viewers", "Of several minutes, the highest is shown."),
        ("unique_chatters", "Of several minutes, the highest is shown: a sum would count a user again in each of them."),
        ("donations_usd", "Several minutes are added."),
    ] {
        let meaning = Metric::named(name).unwrap().declared().meaning;
        assert!(!is_open(name));
        // The driver refuses to click on what something else covers.
        browser.click(&format!("#explain-{name}"));
        assert!(is_open(name));
        let text = browser.text(&format!("#meaning-{name}"));
        assert_eq!(text.to_lowercase(), format!("{meaning}. {together}").to_lowercase());
        // The flag stays in the chart.
        browser.wait(
            "document.getElementById('watermark-flag').getBoundingClientRect().top >=
             document.querySelector('.lane svg').getBoundingClientRect().top - 1",
            SOON,
        );
        browser.run(&format!("document.getElementById('explain-{name}').focus()"));
        browser.press(&[ENTER]);
        assert!(!is_open(name));
        browser.press(&[SPACE]);
        assert!(is_open(name));
    }
    is_clean(browser, &service);
}

#[test]
fn what_is_not_known_is_a_gap_and_no_zero() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    drop(store.traffic(&["stream_a", "stream_b"]));
    let nulls = "update stream_metrics_minute set unique_viewers = null, watch_ms = null where window_start in
                 (select distinct window_start from stream_metrics_minute order by 1 desc limit 20 offset 10)";
    // Of one of the two streams all, so that it has no score.
    assert_eq!(store.create().execute(nulls, []).unwrap(), 40);
    store.create().execute("update stream_metrics_minute set watch_ms = null where stream_id = 'stream_b'", []).unwrap();
    let service = Service::start(&store);
    open(browser, &service, "/?stream=stream_a&show=unique_viewers&show=watch_ms&show=chat_messages&by=watch_ms");
    browser.run("document.getElementById('table').open = true");
    browser.wait("document.querySelectorAll('#table-rows tr').length > 50", SOON);
    let cells = |column: usize| {
        let texts = browser
            .eval(&format!("[...document.querySelectorAll('#table-rows tr')].map((row) => row.cells[{column}].textContent)"));
        let texts: Vec<Value> = texts.as_array().unwrap().clone();
        (
            texts.iter().filter(|text| *text == "–").count(),
            texts.iter().filter(|text| text.as_str().unwrap().starts_with('0')).count(),
        )
    };
    assert_eq!((cells(1), cells(2), cells(3).0), ((20, 0), (20, 0), 0));
    assert_eq!(
        browser.eval("[...document.querySelectorAll('.lane')].map((lane) => lane.querySelectorAll('.unknown').length)[1]"),
        json!(20)
    );
    assert_eq!(browser.eval("document.querySelectorAll('#lane-chat_messages .unknown').length"), json!(0));
    assert_eq!(browser.text("#figure-watch_ms .value"), "–");
    assert_eq!(browser.text("#figure-watch_ms .note"), "not known of each minute");
    assert_ne!(browser.text("#figure-unique_viewers .value"), "–", "the highest that is known");
    assert_eq!(browser.eval("document.getElementById('legend-unknown').hidden"), json!(false));
    assert_eq!(
        browser.eval("[...document.querySelectorAll('#top-rows a')].map((link) => link.textContent)"),
        json!(["stream_a"])
    );
    // Minutes that are put together are not known if one of them is not.
    browser.click("#range-360");
    browser.wait(&format!("document.querySelector('#range-360[aria-current]') && {LIVE}"), SOON);
    browser.wait("[4, 5].includes(document.querySelectorAll('#lane-watch_ms .unknown').length)", SOON);
    open(browser, &service, "/?stream=stream_a");
    assert_eq!(browser.eval("document.getElementById('legend-unknown').hidden"), json!(true));
    // A line breaks where a value is not known, and goes on over minutes without a row.
    let moved = browser.run(
        "const value = (start, value, unknown) => ({ start, end: start + 1, value, unknown, final: true });
         const values = [value(0, 5), value(1, null), value(2, 5), value(3, null, true), value(4, 5), value(5, 5), value(6, null, true), value(7, 5)];
         const assets = document.querySelector('script[type=module]').src.replace('main.js', '');
         return import(`${assets}lane.js`).then(({ drawLane }) => {
             const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
             const scale = { max: 10, ticks: [] };
             drawLane(svg, { kind: 'line', width: 80, gutter: 0, height: 100, values, scale, x: (at) => 10 * at, watermarkX: 80 });
             return [...svg.querySelectorAll('.line, .alone, .unknown')].map((drawn) => drawn.getAttribute('d') ?? drawn.getAttribute('cx') ?? drawn.getAttribute('x'));
         });",
    );
    assert_eq!(moved, json!(["30", "60", "M5.0,56.5L25.0,56.5", "M45.0,56.5L55.0,56.5", "75"]));
    is_clean(browser, &service);
}
