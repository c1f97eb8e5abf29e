//! The store is away, slow or empty, and comes back. Nothing needs a restart, and no answer carries the store's words.

use crate::support::{Answer, Api, TestStore, minute, on_every_store, row};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

fn is_unhealthy(answer: &Answer) {
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.body, r#"{"error":"the store is out of reach","ok":false}"#);
    assert!(answer.took < Duration::from_secs(1), "{:?}", answer.took);
}

#[test]
fn tables_that_the_pipeline_has_not_created_yet() {
    let stores = [Some(TestStore::sqlite()), TestStore::postgres()];
    for mut store in stores.into_iter().flatten() {
        if store.name() == "SQLite" {
            std::fs::write(store.path(), "").unwrap();
        }
        let api = store.api();
        for path in ["/metrics", "/metrics/latest", "/streams", "/streams/top"] {
            let answer = api.get(path);
            assert_eq!(answer.problem(503)["detail"], "the pipeline has not created its tables yet");
            assert_eq!(answer.header("retry-after"), "1");
        }
        assert_eq!(api.json("/health")["detail"], "the pipeline has not created its tables yet");
        store.create_tables();
        api.json("/metrics");
    }
}

#[test]
fn waiting_for_tables_does_not_fill_the_server_s_log() {
    let Some(store) = TestStore::postgres() else { return };
    let api = store.api();
    std::thread::sleep(Duration::from_secs(4));
    // Each failed statement is a transaction that was rolled back, and an error in the log.
    let count = "select xact_rollback from pg_stat_database where datname = current_database()";
    let failed: i64 = store.client().query_one(count, &[]).unwrap().get(0);
    assert!(failed <= 5, "{failed} in 4 s");
    drop(api);
}

#[test]
fn tables_of_another_program_are_not_read() {
    let stores = [Some(TestStore::sqlite()), TestStore::postgres()];
    for mut store in stores.into_iter().flatten() {
        for table in ["stream_metrics_minute", "progress", "progress_partitions"] {
            store.execute(&format!("create table {table} (something text)"));
        }
        let api = store.api();
        let problem = api.get("/metrics").problem(500);
        assert_eq!(problem["detail"], "the store cannot be read: the service's log says why");
        is_unhealthy(&api.get("/health"));
    }
}

#[test]
fn tables_of_an_earlier_pipeline_are_waited_for_and_told() {
    on_every_store(|store| {
        let earlier =
            "the tables were made by an older version: start this version's tidemark-dataflow once, which adds what they lack";
        store.execute("alter table stream_metrics_minute drop column donors");
        let api = store.api();
        for path in ["/metrics", "/metrics/latest", "/streams/s"] {
            let answer = api.get(path);
            assert_eq!(answer.problem(503)["detail"], earlier, "{path}");
        }
        store.execute("alter table stream_metrics_minute add column donors integer");
        api.json("/metrics");
        store.execute("drop table stream_totals_minute");
        assert_eq!(api.get("/metrics/totals").problem(503)["detail"], earlier);
        // Of a version without hours and days.
        for table in ["metrics_hour", "totals_hour", "metrics_day", "totals_day"] {
            store.execute(&format!("drop table stream_{table}"));
        }
        for path in ["/metrics", "/metrics/latest", "/metrics/totals", "/streams", "/streams/top", "/streams/s"] {
            for grain in ["hour", "day"] {
                assert_eq!(api.get(&format!("{path}?grain={grain}")).problem(503)["detail"], earlier, "{path}");
            }
        }
        assert_eq!(api.get("/metrics?grain=day&format=csv").problem(503)["detail"], earlier);
        api.json("/metrics");
    });
}

#[test]
fn a_database_file_that_comes_goes_and_is_replaced() {
    let mut store = TestStore::sqlite();
    let api = store.api();
    is_unhealthy(&api.get("/health"));
    assert_eq!(api.get("/metrics").problem(503)["detail"], "the store is out of reach");
    store.create_tables();
    store.write(&[row(2, "first", 1, 1, 1)]);
    assert_eq!(api.json("/metrics")["rows"][0]["stream_id"], "first");
    for name in ["tidemark.db", "tidemark.db-wal", "tidemark.db-shm"] {
        std::fs::remove_file(store.path().with_file_name(name)).ok();
    }
    is_unhealthy(&api.get("/health"));
    api.get("/metrics").problem(503);
    store.create_tables();
    store.write(&[row(2, "second", 1, 1, 1)]);
    assert_eq!(api.json("/metrics")["rows"][0]["stream_id"], "second");
    std::fs::write(store.path(), "this is no database, and long enough to have a header of its own".repeat(20)).unwrap();
    let fresh = store.api();
    fresh.get("/metrics").problem(503);
    is_unhealthy(&fresh.get("/health"));
}

#[test]
fn the_service_never_writes() {
    let mut store = TestStore::sqlite();
    store.create_tables();
    let before = std::fs::read(store.path()).unwrap();
    let api = store.api();
    api.json("/metrics");
    api.json("/health");
    assert_eq!(std::fs::read(store.path()).unwrap(), before);
}

#[test]
fn requests_end_at_their_timeout() {
    on_every_store(|store| {
        let rows: Vec<_> = (0..15_000).map(|ago| row(0, "a", 1, 1, 1).start - ago * 60_000_000).collect();
        store.write(&rows.into_iter().map(|start| crate::support::Row { start, ..row(0, "a", 1, 1, 1) }).collect::<Vec<_>>());
        let api = store.api_with(&["--api-request-timeout", "1ms"]);
        let path = "/metrics?order_by=donations_usd&to=2100-01-01T00:00:00Z&limit=5000";
        assert_eq!(api.get(path).problem(503)["detail"], "the store did not answer in time");
        api.wait_for("/health", 200);
    });
}

#[test]
fn a_slow_query_is_given_up_and_health_does_not_wait_for_it() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    let api = store.api_with(&["--api-request-timeout", "400ms", "--api-pool-size", "2"]);
    api.json("/metrics");
    let mut other = store.client();
    other.batch_execute("begin; lock table stream_metrics_minute in access exclusive mode").unwrap();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| api.get("/metrics"))).collect();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(api.get("/health").status, 200);
        for answer in waiting.into_iter().map(|thread| thread.join().unwrap()) {
            assert_eq!(answer.problem(503)["detail"], "the store did not answer in time");
            assert!(answer.took < Duration::from_millis(1_500), "{:?}", answer.took);
        }
    });
    other.batch_execute("lock table progress in access exclusive mode").unwrap();
    is_unhealthy(&api.get("/health"));
    other.batch_execute("rollback").unwrap();
    api.wait_for("/health", 200);
    api.json("/metrics");
}

#[test]
fn a_server_that_goes_away_hangs_and_comes_back() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    let proxy = Proxy::start(&store.url());
    proxy.set(CUT);
    let api = Api::start(&["--database-url", &proxy.url(&store.url()), "--api-request-timeout", "500ms"]);
    for state in [CUT, SILENT, CUT] {
        proxy.set(state);
        std::thread::sleep(Duration::from_millis(50));
        for _ in 0..3 {
            is_unhealthy(&api.get("/health"));
            let answer = api.get("/metrics");
            answer.problem(503);
            assert!(answer.took < Duration::from_secs(1), "{:?}", answer.took);
        }
        proxy.set(OPEN);
        api.wait_for("/health", 200);
        api.wait_for("/metrics", 200);
        (0..10).for_each(|_| drop(api.json("/metrics")));
    }
}

#[test]
fn connections_that_were_forgotten_on_the_way_are_replaced_together() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    store.write_progress(1, minute(20), "kafka:x");
    let proxy = Proxy::start(&store.url());
    let api = Api::start(&["--database-url", &proxy.url(&store.url())]);
    let mut live = api.live("/live", None);
    live.until(1);
    for _ in 0..2 {
        // All of the pool's connections are open: different questions, at once.
        std::thread::scope(|scope| {
            for number in 1..=8 {
                let api = &api;
                scope.spawn(move || api.json(&format!("/metrics?limit={number}&minutes={}", 60 + number)));
            }
        });
        let epoch = store.commit(&[row(2, "a", 1, 1, 1)], 0);
        live.until(epoch);
        std::thread::sleep(Duration::from_millis(500));
        proxy.forget();
        let forgotten = Instant::now();
        for number in 10..20 {
            let answer = api.get(&format!("/metrics?limit={number}"));
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert!(answer.took < Duration::from_millis(2_500), "{:?}", answer.took);
        }
        assert!(forgotten.elapsed() < Duration::from_secs(4), "they were waited for one by one: {:?}", forgotten.elapsed());
        assert_eq!(api.get("/health").status, 200);
        // The one that hears of commits is replaced as well.
        let before = listeners(&store);
        while listeners(&store) == before {
            assert!(forgotten.elapsed() < Duration::from_secs(9), "nobody listens anew");
            let epoch = store.commit(&[row(2, "a", 2, 1, 1)], 0);
            live.until(epoch);
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// Connections of the service whose last statement was to listen. The server does not notice that one was forgotten.
fn listeners(store: &TestStore) -> i64 {
    let count = "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen %'";
    store.client().query_one(count, &[]).unwrap().get(0)
}

#[test]
fn a_standby_is_polled_and_listened_to_once_it_is_promoted() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    store.write_progress(1, minute(20), "kafka:x");
    // As on a standby, for this database.
    let standby =
        |is: bool| format!("create or replace function public.pg_is_in_recovery() returns boolean language sql as 'select {is}'");
    store.execute(&standby(true));
    let api = Api::start(&["--database-url", &format!("{}?options=-csearch_path%3Dpublic,pg_catalog", store.url())]);
    let mut live = api.live("/live", None);
    live.until(1);
    for _ in 0..10 {
        let (epoch, committed) = (store.commit(&[row(2, "a", 1, 1, 1)], 0), Instant::now());
        live.until(epoch);
        assert!(committed.elapsed() < Duration::from_millis(1_000), "{:?}", committed.elapsed());
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(listeners(&store), 0, "each refusal would be an error in the standby's log");
    store.execute(&standby(false));
    let promoted = Instant::now();
    while listeners(&store) == 0 {
        assert!(promoted.elapsed() < Duration::from_secs(9), "it does not listen");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn connections_that_the_server_ended_are_replaced_unnoticed() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    let api = store.api();
    for _ in 0..5 {
        api.json("/metrics");
        api.json("/health");
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tidemark-api'
                   and datname = current_database()";
        assert!(!store.client().query(end, &[]).unwrap().is_empty());
        api.json("/metrics");
        api.json("/health");
    }
}

#[test]
fn a_role_that_may_only_read_is_enough_and_one_that_may_not_is_told_apart() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    let role = format!("tidemark_api_reader_{}", std::process::id());
    store.execute(&format!("create role {role} login"));
    let url = store.url();
    let (_, place) = url.split_once('@').expect("the test server's URL names a user");
    let api = Api::start(&["--database-url", &format!("postgres://{role}@{place}")]);
    api.get("/metrics").problem(500);
    store.execute(&format!("grant select on all tables in schema public to {role}"));
    api.json("/metrics");
    api.json("/health");
    drop(api);
    store.execute(&format!("drop owned by {role}; drop role {role}"));
}

pub const OPEN: u8 = 0;
/// Connections end, new ones too.
pub const CUT: u8 = 1;
/// Connections stay, but nothing comes through: a server that hangs.
pub const SILENT: u8 = 2;

/// Stands between the service and Postgres.
pub struct Proxy {
    port: u16,
    state: Arc<AtomicU8>,
    /// Connections of an earlier generation are forgotten: what comes is taken, and goes nowhere.
    generation: Arc<AtomicU32>,
}

impl Proxy {
    pub fn start(url: &str) -> Proxy {
        let server = url.split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Proxy { port, state: Arc::new(AtomicU8::new(OPEN)), generation: Arc::default() };
        let (state, generation) = (proxy.state.clone(), proxy.generation.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map(Result::unwrap) {
                if state.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let server = TcpStream::connect(&server).unwrap();
                let own = generation.load(Ordering::SeqCst);
                let is_forgotten = || {
                    let generation = generation.clone();
                    move || generation.load(Ordering::SeqCst) != own
                };
                pump(client.try_clone().unwrap(), server.try_clone().unwrap(), state.clone(), is_forgotten());
                pump(server, client, state.clone(), is_forgotten());
            }
        });
        proxy
    }

    pub fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    /// Forgets the connections that there are, as a middlebox that lost its state. New ones work.
    pub fn forget(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    pub fn url(&self, url: &str) -> String {
        let (user, place) = url.split_once('@').unwrap();
        format!("{user}@127.0.0.1:{}/{}", self.port, place.split_once('/').unwrap().1)
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: Arc<AtomicU8>, is_forgotten: impl Fn() -> bool + Send + 'static) {
    from.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        loop {
            match state.load(Ordering::SeqCst) {
                SILENT => std::thread::sleep(Duration::from_millis(10)),
                OPEN => match from.read(&mut buffer) {
                    Ok(0) if is_forgotten() => std::thread::sleep(Duration::from_millis(10)),
                    Ok(0) => break,
                    Ok(_) if is_forgotten() => {}
                    Ok(count) => drop(to.write_all(&buffer[..count])),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                },
                _ => break,
            }
        }
        drop((from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both)));
    });
}
