//! Bounds, token, headers, and the stop.

use crate::support::{Api, TestStore, minute, on_every_store, row};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn sqlite() -> TestStore {
    let mut store = TestStore::sqlite();
    store.create_tables();
    store.write_progress(1, minute(20), "kafka:x");
    store
}

#[test]
fn every_answer_has_the_security_headers() {
    let store = sqlite();
    let api = store.api();
    for path in ["/metrics", "/nothing", "/metrics?limit=0", "/health", "/prometheus"] {
        let answer = api.get(path);
        assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
}

#[test]
fn with_a_token_every_path_but_health_asks_for_it() {
    let store = sqlite();
    let file = store.path().with_file_name("token");
    std::fs::write(&file, "a-secret\n").unwrap();
    let api = store.api_with(&["--api-token-file", file.to_str().unwrap()]);
    api.json("/health");
    for path in ["/metrics", "/live", "/prometheus", "/nothing", "/healthz", "/openapi.json"] {
        for given in ["", "Bearer", "Bearer ", "Bearer a-secre", "Bearer a-secret2", "Basic a-secret", "a-secret"] {
            let answer = api.request_with("GET", path, &[("authorization", given)]);
            answer.problem(401);
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{path} {given}");
        }
    }
    for given in ["Bearer a-secret", "bearer a-secret"] {
        assert_eq!(api.request_with("GET", "/metrics", &[("authorization", given)]).status, 200);
    }
}

#[test]
fn other_sites_are_told_what_they_may_read() {
    let store = sqlite();
    let api = store.api_with(&["--api-cors-origins", "https://a.example,https://b.example"]);
    let allowed = |origin: &str| {
        let answer = api.request_with("GET", "/metrics", &[("origin", origin)]);
        assert_eq!(answer.status, 200);
        answer.header("access-control-allow-origin").to_owned()
    };
    assert_eq!((allowed("https://b.example"), allowed("https://c.example")), ("https://b.example".to_owned(), String::new()));
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
    let answer = api.request_with("OPTIONS", "/metrics", &preflight);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "https://a.example"));
    let any = store.api_with(&["--api-cors-origins", "*"]);
    assert_eq!(
        any.request_with("GET", "/metrics", &[("origin", "https://c.example")]).header("access-control-allow-origin"),
        "*"
    );
}

#[test]
fn too_many_requests_are_refused_and_health_is_not_counted() {
    let store = sqlite();
    let api = store.api_with(&["--api-rate-limit", "5"]);
    let answers: Vec<_> = (0..12).map(|_| api.get("/metrics")).collect();
    assert_eq!(answers[0].status, 200);
    let refused = answers.iter().find(|answer| answer.status != 200).expect("twelve at once are more than five");
    refused.problem(429);
    assert_eq!(refused.header("retry-after"), "1");
    assert!((0..12).all(|_| api.get("/health").status == 200));
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(api.get("/metrics").status, 200);
}

#[test]
fn behind_a_trusted_proxy_each_client_has_its_own_rate() {
    let store = sqlite();
    let refused = |api: &Api, header: &str, value: fn(u8) -> String| {
        let ask = |number| api.request_with("GET", "/metrics", &[(header, &value(number))]).status;
        (0..12).map(ask).filter(|status| *status == 429).count()
    };
    let others: fn(u8) -> String = |number| format!("198.51.100.{number}");
    let same: fn(u8) -> String = |number| format!("203.0.113.{number}, 198.51.100.77");
    let api = store.api_with(&["--api-rate-limit", "5", "--api-trusted-proxies", "10.0.0.0/8,127.0.0.1"]);
    assert_eq!(refused(&api, "x-forwarded-for", others), 0);
    assert!(refused(&api, "x-forwarded-for", same) > 5, "what the client claims is not believed");
    assert_eq!(refused(&api, "forwarded", |number| format!("for=198.51.101.{number}")), 0);
    let api = store.api_with(&["--api-rate-limit", "5"]);
    assert!(refused(&api, "x-forwarded-for", others) > 5, "nobody is trusted by default");
}

#[test]
fn large_bodies_are_refused() {
    let store = sqlite();
    let api = store.api();
    let mut large = crate::support::Live::open_with(api.port(), "/metrics", "content-length: 1000000\r\n");
    assert_eq!(large.status, 413);
    assert!(large.head.contains("problem+json"), "{}", large.head);
    drop(large.next());
    let other = api.request_with("GET", "/metrics", &[("x-large", &"x".repeat(5_000))]);
    assert_eq!(other.status, 200);
}

#[test]
fn the_scrape_counts_requests_by_route_and_status() {
    on_every_store(|store| {
        store.write_progress(4, minute(20), "kafka:x");
        let api = store.api();
        api.get("/metrics?min_epoch=4");
        api.get("/metrics");
        api.get("/metrics?limit=0");
        api.get("/streams/nobody");
        api.get("/nothing/at/all");
        let live = api.live("/live", None);
        let text = api.get("/prometheus").body;
        for line in [
            "tidemark_api_requests_total{route=\"/metrics\",status=\"200\"} 2",
            "tidemark_api_requests_total{route=\"/metrics\",status=\"422\"} 1",
            "tidemark_api_requests_total{route=\"/streams/{stream_id}\",status=\"404\"} 1",
            "tidemark_api_requests_total{route=\"none\",status=\"404\"} 1",
            "tidemark_api_request_seconds_count{route=\"/metrics\"} 3",
            "tidemark_api_cache_hits_total 1",
            "tidemark_api_pool_connections{state=\"max\"} 8",
            "tidemark_api_live_clients 1",
            "tidemark_api_epoch 4",
            "tidemark_api_store_up 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        drop(live);
    });
}

#[test]
fn a_stop_answers_what_has_begun_and_ends_live_answers() {
    let mut store = sqlite();
    store.write(&[row(2, "a", 1, 1, 1)]);
    let directory = store.path().parent().unwrap().to_owned();
    let mut running = Command::new(env!("CARGO_BIN_EXE_tidemark-api"))
        .env_clear()
        .envs([("API_ADDR", "127.0.0.1:0"), ("LOG_FORMAT", "json"), ("DATA_DIR", directory.to_str().unwrap())])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(running.stderr.take().unwrap()).lines().map(Result::unwrap);
    let listening = log.find(|line| line.contains("listening")).unwrap();
    let port = listening.split("127.0.0.1:").nth(1).unwrap().split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let port: u16 = port.parse().unwrap();
    let mut live = crate::support::Live::open(port, "/live", None);
    live.until(1);
    // This one waits for an epoch that comes after the stop has begun.
    let waiting = std::thread::spawn(move || crate::support::Live::open(port, "/metrics?min_epoch=2", None).status);
    std::thread::sleep(Duration::from_millis(300));
    Command::new("kill").args(["-TERM", &running.id().to_string()]).status().unwrap();
    let started = Instant::now();
    while live.next().is_some() {}
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    store.commit(&[], 0);
    assert_eq!(waiting.join().unwrap(), 200);
    assert_eq!(running.wait().unwrap().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[test]
fn a_stopped_store_is_told_at_once_and_its_return_within_two_seconds() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    store.write_progress(1, minute(20), "kafka:x");
    store.write(&[row(2, "a", 1, 1, 1)]);
    let proxy = crate::outages::Proxy::start(&store.url());
    let api = Api::start(&["--database-url", &proxy.url(&store.url())]);
    let paths = ["/metrics", "/metrics/latest", "/streams", "/streams/top", "/streams/a", "/dead-letters"];
    for path in paths {
        api.json(path);
    }
    for state in [crate::outages::CUT, crate::outages::SILENT] {
        proxy.set(state);
        std::thread::sleep(Duration::from_millis(50));
        let health = api.get("/health");
        assert_eq!(health.status, 503);
        assert!(health.took < Duration::from_secs(1), "{:?}", health.took);
        // What was in memory a second ago is not known to be true any more.
        std::thread::sleep(Duration::from_millis(1_000));
        std::thread::scope(|scope| {
            let answers = paths.map(|path| scope.spawn(|| api.get(path)));
            answers.into_iter().for_each(|answer| drop(answer.join().unwrap().problem(503)));
        });
        proxy.set(crate::outages::OPEN);
        let back = Instant::now();
        for path in paths.iter().chain(&["/health"]) {
            api.wait_for(path, 200);
        }
        assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
        while !api.get("/prometheus").body.contains("tidemark_api_store_up 1") {
            assert!(back.elapsed() < Duration::from_secs(8), "the reader of commits has not come back");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
