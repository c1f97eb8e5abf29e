//! A headless Chromium, driven by the WebDriver protocol: JSON over HTTP, so the client that all tests use will do.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Keeps the browser from doing anything of its own, on the network above all.
const FLAGS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1280,900",
];

/// One browser with one window and a profile of its own.
pub struct Browser {
    driver: Child,
    base: String,
    session: String,
    client: ureq::Agent,
    _profile: tempfile::TempDir,
}

/// Where the two programs are; none, with a message, if they are not installed and need not be.
pub fn programs() -> Option<(PathBuf, PathBuf)> {
    let found = on_path(&["chromium", "chromium-browser", "google-chrome"]).zip(on_path(&["chromedriver"]));
    if found.is_none() {
        let required = std::env::var("TIDEMARK_TEST_REQUIRE").is_ok_and(|value| value == "1");
        assert!(!required, "chromium and chromedriver are not installed, but TIDEMARK_TEST_REQUIRE=1");
        println!("skipped: chromium and chromedriver are not installed");
    }
    found
}

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let directories: Vec<_> = std::env::split_paths(&path).collect();
    names.iter().flat_map(|name| directories.iter().map(move |directory| directory.join(name))).find(|file| file.is_file())
}

impl Browser {
    pub fn start((chromium, chromedriver): &(PathBuf, PathBuf)) -> Browser {
        let mut driver = Command::new(chromedriver)
            .args(["--port=0", "--allowed-ips=127.0.0.1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let base = format!("http://127.0.0.1:{}", port_of(&mut driver));
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(60)));
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Browser { driver, base, session: String::new(), client: config.build().into(), _profile: profile };
        browser.session = browser.open(chromium);
        browser
    }

    fn open(&self, chromium: &Path) -> String {
        let profile = format!("--user-data-dir={}", self._profile.path().display());
        let flags: Vec<_> = FLAGS.into_iter().chain([profile.as_str()]).collect();
        let session = self.call(
            "POST",
            "/session",
            &json!({"capabilities": {"alwaysMatch": {
                "goog:chromeOptions": {"binary": chromium, "args": flags},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }}}),
        );
        format!("/session/{}", session["sessionId"].as_str().unwrap())
    }

    pub fn go(&self, url: &str) {
        self.command("/url", &json!({"url": url}));
    }

    /// What the body of a function returns, run in one go: nothing on the page changes meanwhile.
    pub fn run(&self, body: &str) -> Value {
        self.command("/execute/sync", &json!({"script": body, "args": []}))
    }

    /// The value of an expression.
    pub fn eval(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}"))
    }

    pub fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({})?.textContent ?? null", json!(selector)));
        text.as_str().unwrap_or_else(|| panic!("nothing at {selector}")).to_owned()
    }

    pub fn click(&self, selector: &str) {
        let found = self.command("/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        self.command(&format!("/element/{id}/click"), &json!({}));
    }

    /// Presses and releases keys, one after the other, wherever the focus is.
    pub fn press(&self, keys: &[&str]) {
        let actions: Vec<_> = keys
            .iter()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})])
            .collect();
        self.command("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    pub fn back(&self) {
        self.command("/back", &json!({}));
    }

    pub fn forward(&self) {
        self.command("/forward", &json!({}));
    }

    /// A command of the DevTools protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Lines of the log `browser` or `performance` since the last call.
    pub fn log(&self, kind: &str) -> Vec<String> {
        let entries = self.command("/se/log", &json!({"type": kind}));
        entries
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| format!("{}: {}", entry["level"].as_str().unwrap(), entry["message"].as_str().unwrap()))
            .collect()
    }

    /// Waits until the expression is true, for at most as long.
    pub fn wait(&self, expression: &str, longest: Duration) {
        let started = Instant::now();
        while self.eval(expression) != json!(true) {
            let late = started.elapsed() > longest;
            assert!(!late, "after {longest:?} still not: {expression}\n{}", self.text("body"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("{}{path}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let request = request.header("content-type", "application/json").body(body).unwrap();
        let mut response = self.client.run(request).unwrap();
        let answer: Value = response.body_mut().with_config().limit(64 << 20).read_json().unwrap();
        assert!(response.status().is_success(), "{path}: {}", answer["value"]["message"]);
        answer["value"].clone()
    }
}

/// The port that the driver chose, which it says on a line of its own.
fn port_of(driver: &mut Child) -> u16 {
    let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let (sender, receiver) = std::sync::mpsc::channel();
    // It goes on writing now and then: somebody must read to the end.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok).filter(|line| line.contains("started successfully on port")) {
            drop(sender.send(line));
        }
    });
    let line = receiver.recv_timeout(Duration::from_secs(30)).expect("the driver says its port");
    line.trim_end_matches('.').rsplit(' ').next().unwrap().parse().unwrap()
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser, which a kill of the driver alone would leave behind.
        let end = ureq::http::Request::builder().method("DELETE").uri(format!("{}{}", self.base, self.session)).body(());
        drop(self.client.run(end.unwrap()));
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}
