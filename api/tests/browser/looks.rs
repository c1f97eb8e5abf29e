//! Contrast, motion and width; and the pictures of the README.

use crate::driver::Browser;
use crate::pipeline::{Service, Store};
use crate::{SOON, browser, is_clean, open};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;
use std::path::Path;

const STREAMS: [&str; 12] = [
    "nightowl_speedruns",
    "café_del_mar",
    "chess-is-life",
    "tiny.studio",
    "bobross247",
    "lofi-beats-to-relax-and-study-to-all-night-long",
    "late_train_home",
    "retro_repair_shop",
    "kitchen_physics",
    "moss & stone",
    "harbour_cam",
    "stream_0012",
];

fn look(browser: &Browser, width: i32, scheme: &str, motion: &str) {
    let (scale, mobile) = if width < 500 { (2, true) } else { (1, false) };
    let size = json!({"width": width, "height": 900, "deviceScaleFactor": scale, "mobile": mobile});
    browser.devtools("Emulation.setDeviceMetricsOverride", size);
    let features =
        json!([{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion}]);
    browser.devtools("Emulation.setEmulatedMedia", json!({"features": features}));
}

/// The page from its top, in base64 as the protocol has it.
fn picture(browser: &Browser, width: i32, height: i32) -> String {
    let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
    let answer =
        browser.devtools("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true, "clip": clip}));
    answer["data"].as_str().unwrap().to_owned()
}

#[test]
fn it_fits_its_width_in_light_and_dark_and_can_be_photographed() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&STREAMS);
    let service = Service::start(&store);
    let mut pictures = Vec::new();
    for (name, width, height, scheme, path) in [
        ("light", 1280, 1145, "light", "/"),
        ("dark", 1280, 1180, "dark", "/?stream=chess-is-life&by=active_viewers"),
        ("phone", 360, 1500, "light", "/?stream=nightowl_speedruns"),
    ] {
        look(browser, width, scheme, "no-preference");
        open(browser, &service, path);
        browser.wait("document.querySelectorAll('#partition-rows tr').length === 4 && document.fonts.status === 'loaded'", SOON);
        browser.wait("document.querySelector('#vital-rate .value').textContent !== '–'", SOON);
        assert_eq!(browser.eval("document.fonts.check('16px Inter')"), json!(true), "the page's own typeface");
        let actual = browser.eval("document.documentElement.scrollWidth").as_i64().unwrap();
        assert!(actual <= i64::from(width), "{name} is {actual} wide");
        pictures.push((name, picture(browser, width, height)));
    }
    for (index, (name, one)) in pictures.iter().enumerate() {
        assert!(one.len() > 40_000, "{name} has something on it");
        assert!(pictures[..index].iter().all(|(_, other)| other != one), "{name} looks like another");
    }
    if let Some(directory) = std::env::var_os("TIDEMARK_SCREENSHOTS") {
        for (name, picture) in pictures {
            std::fs::write(Path::new(&directory).join(format!("dashboard-{name}.png")), BASE64_STANDARD.decode(picture).unwrap())
                .unwrap();
        }
    }
    is_clean(browser, &service);
}

#[test]
fn text_has_enough_contrast_and_nothing_moves_for_who_wants_that() {
    let Some(alone) = browser() else { return };
    let browser = &alone.browser;
    let store = Store::new();
    let _traffic = store.traffic(&STREAMS);
    let service = Service::start(&store);
    for scheme in ["light", "dark"] {
        look(browser, 1280, scheme, "reduce");
        let all = tidemark_model::Metric::MINUTE.map(|metric| format!("&show={}", metric.name())).concat();
        open(browser, &service, &format!("/?stream=chess-is-life{all}"));
        browser.run("for (const button of document.querySelectorAll('#choose, .explain')) button.click()");
        let poor = browser.run(CONTRAST);
        assert_eq!(poor, json!([]), "{scheme}: less than 4.5 to 1");
        let moving = browser.eval("document.getAnimations().length");
        assert_eq!(moving, json!(0), "something moves");
    }
}

/// Every text that is seen, against what is painted behind it, by the formula of WCAG 2.
const CONTRAST: &str = r##"
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const over = (colours) => {
        canvas.clearRect(0, 0, 1, 1);
        for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (rgb) => {
        const [r, g, b] = rgb.map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const poor = [];
    let seen = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode;
        const element = node.parentElement;
        if (!node.textContent.trim() || !element.checkVisibility() || element.closest(".unseen, .skip, noscript, script")) continue;
        const behind = [];
        for (let up = element; up; up = up.parentElement) behind.unshift(getComputedStyle(up).backgroundColor);
        const ground = over(["white", ...behind]);
        const style = getComputedStyle(element);
        const text = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
        const [a, b] = [light(ground), light(over([`rgb(${ground})`, text]))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        seen += 1;
        if (ratio < 4.5) poor.push(`${node.textContent.trim()}: ${ratio.toFixed(2)}`);
    }
    if (seen < 60) poor.push(`only ${seen} texts`);
    return poor;
"##;
