//! A store to write to, and the application that reads it.

use clap::Parser;
use rusqlite::Connection;
use serde_json::Value;
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidemark_api::config::Config;
use tidemark_api::params::Choice;
use tidemark_api::startup::Application;
use tidemark_model::metrics::Unit;
use tidemark_model::{Grain, Metric, Micros};

const POSTGRES_TABLES: &str = include_str!("../../../sql/init/001_tables.sql");

/// Runs a case on each kind of store, with tables.
pub fn on_every_store(case: impl Fn(&mut TestStore)) {
    for store in [|| Some(TestStore::sqlite()), TestStore::postgres] {
        let Some(mut store) = store() else { continue };
        println!("on {}", store.name());
        store.create_tables();
        case(&mut store);
    }
}

/// A store of one test.
pub enum TestStore {
    Sqlite { directory: tempfile::TempDir },
    Postgres { server: String, database: String },
}

impl TestStore {
    pub fn sqlite() -> TestStore {
        begin_in_a_minute();
        TestStore::Sqlite { directory: tempfile::tempdir().unwrap() }
    }

    /// A fresh database, if there is a server for tests.
    pub fn postgres() -> Option<TestStore> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Some(url) = std::env::var("TIDEMARK_TEST_POSTGRES").ok().filter(|url| !url.is_empty()) else {
            let required = std::env::var("TIDEMARK_TEST_REQUIRE").is_ok_and(|value| value == "1");
            assert!(!required, "TIDEMARK_TEST_POSTGRES is not set, but TIDEMARK_TEST_REQUIRE=1");
            println!("skipped: TIDEMARK_TEST_POSTGRES is not set");
            return None;
        };
        let (server, _) = url.rsplit_once('/').expect("TIDEMARK_TEST_POSTGRES is postgres://user@host:port/database");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let database = format!("tidemark_api_test_{}_{number}", std::process::id());
        let store = TestStore::Postgres { server: server.to_owned(), database };
        store.administer("create database");
        begin_in_a_minute();
        Some(store)
    }

    pub fn name(&self) -> &'static str {
        match self {
            TestStore::Sqlite { .. } => "SQLite",
            TestStore::Postgres { .. } => "Postgres",
        }
    }

    /// The database file.
    pub fn path(&self) -> PathBuf {
        let TestStore::Sqlite { directory } = self else { panic!("not SQLite") };
        directory.path().join("tidemark.db")
    }

    pub fn url(&self) -> String {
        let TestStore::Postgres { server, database } = self else { panic!("not Postgres") };
        format!("{server}/{database}")
    }

    pub fn create_tables(&mut self) {
        match self {
            TestStore::Sqlite { .. } => self.file().execute_batch(&tidemark_model::tables::in_sqlite()).unwrap(),
            TestStore::Postgres { .. } => self.client().batch_execute(POSTGRES_TABLES).unwrap(),
        }
    }

    /// The writer's sign of life and its last commit, so many seconds ago by the store's clock, and what holds it up.
    pub fn sign_of_life(&mut self, heartbeat: i64, commit: i64, trouble: &str) {
        let ago = |seconds: i64| match self {
            TestStore::Sqlite { .. } => format!("cast(unixepoch('subsec') * 1000000 as integer) - {seconds}000000"),
            TestStore::Postgres { .. } => format!("now() - interval '{seconds} seconds'"),
        };
        let (heartbeat, commit) = (ago(heartbeat), ago(commit));
        let set = format!("heartbeat_at = {heartbeat}, updated_at = {commit}, trouble = nullif('{trouble}', '')");
        self.execute(&format!("update progress set {set}"));
    }

    /// SQL that is the same in both stores.
    pub fn execute(&mut self, sql: &str) {
        match self {
            TestStore::Sqlite { .. } => self.file().execute_batch(sql).unwrap(),
            TestStore::Postgres { .. } => self.client().batch_execute(sql).unwrap(),
        }
    }

    /// Writes rows, replacing older ones.
    pub fn write(&mut self, rows: &[Row]) {
        match self {
            TestStore::Sqlite { .. } => {
                let mut file = self.file();
                let transaction = file.transaction().unwrap();
                put(&transaction, rows, 1);
                transaction.commit().unwrap();
            }
            TestStore::Postgres { .. } => {
                let mut client = self.client();
                let mut transaction = client.transaction().unwrap();
                upsert(&mut transaction, rows, 1);
                transaction.commit().unwrap();
            }
        }
    }

    /// Writes a row of any table of metrics. Its values are in their order, and money is in cents.
    pub fn write_row(&mut self, grain: Grain, start: i64, of: Of, values: &[Option<i64>]) {
        let (table, own, whose) = match of {
            Of::Stream(stream_id) => ("metrics", "stream_id", format!("'{stream_id}'")),
            Of::All(streams) => ("totals", "streams", streams.to_string()),
        };
        let in_cents = self.name() == "SQLite";
        let column = |metric: &Metric| if in_cents { metric.integer_column() } else { metric.name().to_owned() };
        let cell = |(metric, value): (&Metric, &Option<i64>)| match value {
            None => "null".to_owned(),
            Some(value) if in_cents => value.to_string(),
            Some(value) => metric.shown(*value),
        };
        let columns: Vec<_> = Metric::of(grain).iter().map(column).collect();
        let cells: Vec<_> = Metric::of(grain).iter().zip(values).map(cell).collect();
        let (start, end) = (self.time(start), self.time(start + i64::from(grain.minutes()) * 60_000_000));
        let (grain, columns, cells) = (grain.as_str(), columns.join(", "), cells.join(", "));
        self.execute(&format!(
            "insert into stream_{table}_{grain} (window_start, window_end, {own}, {columns}, epoch)
             values ({start}, {end}, {whose}, {cells}, 1)"
        ));
    }

    /// Writes the pipeline's progress. A watermark of 0 is none.
    pub fn write_progress(&mut self, epoch: i64, watermark: i64, fingerprint: &str) {
        let (epoch, hash_key) = (epoch.to_string(), "''");
        let (watermark, now) = (self.time(watermark), self.time(1));
        self.execute(&format!(
            "begin; delete from progress;
             insert into progress (pipeline, epoch, watermark, fence, fingerprint, hash_key, checkpoints, updated_at)
             values ('p', {epoch}, {watermark}, 1, '{fingerprint}', {}, '[]', {now}); commit",
            if self.name() == "SQLite" { "x''" } else { hash_key },
        ));
    }

    /// A commit as the dataflow makes it: rows, epoch and watermark (0: unchanged) in one transaction, announced where that is
    /// possible. Returns the epoch.
    pub fn commit(&mut self, rows: &[Row], watermark: i64) -> i64 {
        let time = self.time(watermark);
        let progress = format!("update progress set epoch = epoch + 1, watermark = coalesce({time}, watermark) returning epoch");
        match self {
            TestStore::Sqlite { .. } => {
                let mut file = self.file();
                let transaction = file.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
                let epoch = transaction.query_row(&progress, [], |row| row.get(0)).unwrap();
                put(&transaction, rows, epoch);
                transaction.commit().unwrap();
                epoch
            }
            TestStore::Postgres { .. } => {
                let mut client = self.client();
                let mut transaction = client.transaction().unwrap();
                let epoch: i64 = transaction.query_one(&progress, &[]).unwrap().get(0);
                upsert(&mut transaction, rows, epoch);
                transaction.execute("select pg_notify('tidemark_epoch', $1)", &[&epoch.to_string()]).unwrap();
                transaction.commit().unwrap();
                epoch
            }
        }
    }

    pub fn write_partition(&mut self, partition: i64, next_offset: i64, end_offset: i64, watermark: i64, state: &str) {
        let watermark = self.time(watermark);
        self.execute(&format!(
            "insert into progress_partitions (pipeline, topic, partition, start_offset, next_offset, end_offset, watermark, state)
             values ('p', 't', {partition}, 0, {next_offset}, {end_offset}, {watermark}, '{state}')"
        ));
    }

    /// An instant as SQL; 0 is null.
    pub fn time(&self, micros: i64) -> String {
        match (self, micros) {
            (_, 0) => "null".to_owned(),
            (TestStore::Sqlite { .. }, micros) => micros.to_string(),
            (TestStore::Postgres { .. }, micros) => format!("timestamptz '{}'", Micros(micros)),
        }
    }

    fn file(&self) -> Connection {
        let file = Connection::open(self.path()).unwrap();
        file.pragma_update(None, "journal_mode", "wal").unwrap();
        file.busy_timeout(Duration::from_secs(5)).unwrap();
        file
    }

    pub fn client(&self) -> postgres::Client {
        postgres::Client::connect(&self.url(), postgres::NoTls).unwrap()
    }

    fn administer(&self, verb: &str) {
        let TestStore::Postgres { server, database } = self else { return };
        let mut client = postgres::Client::connect(&format!("{server}/postgres"), postgres::NoTls).unwrap();
        let force = if verb.starts_with("drop") { " with (force)" } else { "" };
        client.batch_execute(&format!("{verb} {database}{force}")).unwrap();
    }

    /// Starts the application on this store.
    pub fn api(&self) -> Api {
        self.api_with(&[])
    }

    pub fn api_with(&self, flags: &[&str]) -> Api {
        match self {
            TestStore::Sqlite { directory } => Api::start(&[&["--data-dir", directory.path().to_str().unwrap()], flags].concat()),
            TestStore::Postgres { .. } => Api::start(&[&["--database-url", &self.url()], flags].concat()),
        }
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        self.administer("drop database");
    }
}

/// Writes rows to SQLite, replacing older ones.
fn put(transaction: &rusqlite::Transaction<'_>, rows: &[Row], epoch: i64) {
    let columns = Metric::MINUTE.map(Metric::integer_column).join(", ");
    let places = (0..Metric::MINUTE.len()).map(|place| format!("?{}", place + 4)).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "insert or replace into stream_metrics_minute (window_start, window_end, stream_id, epoch, {columns})
         values (?1, ?1 + 60000000, ?2, ?3, {places})"
    );
    let mut statement = transaction.prepare(&sql).unwrap();
    for row in rows {
        let key: [&dyn rusqlite::ToSql; 3] = [&row.start, &row.stream_id, &epoch];
        let values = row.values();
        let values = values.iter().map(|value| value as &dyn rusqlite::ToSql);
        statement.execute(&*key.into_iter().chain(values).collect::<Vec<_>>()).unwrap();
    }
}

/// Writes rows to Postgres, replacing older ones, in one statement: a test may have very many.
fn upsert(transaction: &mut postgres::Transaction<'_>, rows: &[Row], epoch: i64) {
    let columns = Metric::MINUTE.map(Metric::name);
    let arrays = (0..Metric::MINUTE.len()).map(|place| format!("${}::bigint[]", place + 4)).collect::<Vec<_>>().join(", ");
    let values = Metric::MINUTE.map(|metric| match metric.declared().unit {
        Unit::Usd => format!("cast({} as numeric) * 0.01", metric.name()),
        Unit::Count | Unit::Milliseconds => metric.name().to_owned(),
    });
    let sql = format!(
        "insert into stream_metrics_minute (window_start, window_end, stream_id, epoch, {names})
         select cast(start as timestamptz), cast(start as timestamptz) + interval '1 minute', stream, $3, {values}
         from unnest($1::text[], $2::text[], {arrays}) as changed (start, stream, {names})
         on conflict (window_start, stream_id) do update set epoch = excluded.epoch, {set}",
        names = columns.join(", "),
        values = values.join(", "),
        set = columns.map(|name| format!("{name} = excluded.{name}")).join(", "),
    );
    let starts: Vec<_> = rows.iter().map(|row| Micros(row.start).to_string()).collect();
    let streams: Vec<_> = rows.iter().map(|row| row.stream_id).collect();
    let values: Vec<Vec<_>> =
        (0..Metric::MINUTE.len()).map(|place| rows.iter().map(|row| row.values()[place]).collect()).collect();
    let key: [&(dyn postgres::types::ToSql + Sync); 3] = [&starts, &streams, &epoch];
    let values = values.iter().map(|values| values as &(dyn postgres::types::ToSql + Sync));
    transaction.execute(&sql, &key.into_iter().chain(values).collect::<Vec<_>>()).unwrap();
}

/// Whose row it is.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    Stream(&'static str),
    /// Of all streams, so many.
    All(i64),
}

/// A row of a minute to write; money in cents.
#[derive(Clone, Debug)]
pub struct Row {
    pub start: i64,
    pub stream_id: &'static str,
    pub viewers: i64,
    pub chats: i64,
    pub cents: i64,
    /// All others, which may be null.
    pub others: Others,
}

/// Values of the metrics, in the order of the columns. Of those that the first tables had they are not used.
pub type Others = [Option<i64>; Metric::MINUTE.len()];

/// Each another one, so that a test sees when two are mistaken for each other.
pub const OTHERS: Others = {
    let mut others = [None; Metric::MINUTE.len()];
    let (mut at, mut other) = (0, 100);
    while at < others.len() {
        others[at] = Some(other);
        (at, other) = (at + 1, other + 1);
    }
    others
};

/// As in a row that an earlier version wrote.
pub const NULLS: Others = [None; Metric::MINUTE.len()];

impl Row {
    /// In the order of the columns.
    pub fn values(&self) -> Others {
        let of = |metric: Metric| match metric {
            Metric::ActiveViewers => Some(self.viewers),
            Metric::ChatMessages => Some(self.chats),
            Metric::DonationsUsd => Some(self.cents),
            _ => self.others[metric as usize],
        };
        Metric::MINUTE.map(of)
    }

    /// Each metric as an answer has it.
    pub fn members(&self) -> serde_json::Map<String, Value> {
        let shown = |metric: Metric, value| serde_json::from_str(&metric.shown(value)).unwrap();
        let member = |(metric, value): (Metric, Option<i64>)| {
            (metric.name().to_owned(), value.map_or(Value::Null, |value| shown(metric, value)))
        };
        Metric::MINUTE.into_iter().zip(self.values()).map(member).collect()
    }

    /// With the same value of all that may be null.
    pub fn with_others(self, value: Option<i64>) -> Row {
        Row { others: [value; Metric::MINUTE.len()], ..self }
    }
}

/// A row of the minute that began this many minutes before the running one; its other values are [`OTHERS`].
pub fn row(minutes_ago: i64, stream_id: &'static str, viewers: i64, chats: i64, cents: i64) -> Row {
    Row { start: minute(minutes_ago), stream_id, viewers, chats, cents, others: OTHERS }
}

/// The start of the minute that began this many minutes before that in which the test got its store, in microseconds.
pub fn minute(minutes_ago: i64) -> i64 {
    let running = RUNNING_MINUTE.get().expect("the thread that has the store asks");
    (running - minutes_ago) * 60_000_000
}

thread_local! {
    /// A test must not see two minutes.
    static RUNNING_MINUTE: Cell<Option<i64>> = const { Cell::new(None) };
}

/// Whoever gets a store has at least 20 s before the end of the running minute.
fn begin_in_a_minute() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    if now() % 60 > 40 {
        std::thread::sleep(Duration::from_secs(60 - now() % 60));
    }
    RUNNING_MINUTE.set(Some(i64::try_from(now() / 60).unwrap()));
}

/// Comments go on for ever, so no client of `/live` stays for longer.
const LONGEST_LIVE: Duration = Duration::from_secs(120);

/// A client of `/live`.
pub struct Live {
    opened: Instant,
    pub body: Box<dyn BufRead + Send>,
    socket: TcpStream,
    pub status: u16,
    pub head: String,
}

/// A server-sent event; a comment has no name.
#[derive(Clone, Debug, Default)]
pub struct Event {
    pub name: String,
    /// The epoch at the beginning of its id.
    pub id: Option<i64>,
    pub whole_id: String,
    pub data: Value,
}

impl Live {
    pub fn open(port: u16, path: &str, last_event_id: Option<i64>) -> Live {
        let id = last_event_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        Live::open_with(port, path, &id)
    }

    pub fn open_with(port: u16, path: &str, headers: &str) -> Live {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").unwrap();
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = Box::new(BufReader::new(Chunked { reader, left: 0 }));
        Live { opened: Instant::now(), body, socket, status, head }
    }

    /// The next event; none if the answer has ended or broken off.
    pub fn next(&mut self) -> Option<Event> {
        assert!(self.opened.elapsed() < LONGEST_LIVE, "it goes on and on");
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end_matches('\n').split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => {
                    event.id = Some(id.split('-').next().unwrap().parse().unwrap());
                    event.whole_id = id.to_owned();
                }
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ if line == "\n" => return Some(event),
                _ => {}
            }
        }
    }

    /// All events up to the first with at least this id.
    pub fn until(&mut self, id: i64) -> Vec<Event> {
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &Event| event.id < Some(id)) {
            assert!(self.opened.elapsed() < LONGEST_LIVE, "no event {id}, only {events:?}");
            events.push(self.next().expect("the answer goes on"));
        }
        events
    }

    pub fn cut(&self) {
        drop(self.socket.shutdown(std::net::Shutdown::Both));
    }
}

/// Undoes the chunks of HTTP/1.1.
struct Chunked {
    reader: BufReader<TcpStream>,
    left: usize,
}

impl Read for Chunked {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut size = String::new();
            self.reader.read_line(&mut size)?;
            if size.trim().is_empty() {
                size.clear();
                self.reader.read_line(&mut size)?;
            }
            self.left = usize::from_str_radix(size.trim(), 16).map_err(|_| std::io::ErrorKind::UnexpectedEof)?;
            if self.left == 0 {
                return Ok(0);
            }
        }
        let most = buffer.len().min(self.left);
        let count = self.reader.read(&mut buffer[..most])?;
        self.left -= count;
        if count == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }
}

/// The application, running.
pub struct Api {
    port: u16,
    handle: actix_web::dev::ServerHandle,
    client: ureq::Agent,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: String,
    pub took: Duration,
}

impl Api {
    pub fn start(flags: &[&str]) -> Api {
        let flags = [&["tidemark-api", "--api-addr", "127.0.0.1:0"], flags].concat();
        let config = Config::try_parse_from(flags).unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async {
                let application = Application::build(config).unwrap();
                sender.send((application.port(), application.handle())).unwrap();
                application.run_until_stopped().await.unwrap();
            });
        });
        let (port, handle) = receiver.recv().unwrap();
        let client = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(20)));
        Api { port, handle, client: client.build().into() }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn live(&self, path: &str, last_event_id: Option<i64>) -> Live {
        Live::open(self.port, path, last_event_id)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path)
    }

    pub fn request(&self, method: &str, path: &str) -> Answer {
        self.request_with(method, path, &[])
    }

    pub fn request_with(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let started = Instant::now();
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let request = ureq::http::Request::builder().method(method).uri(url);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap();
        let mut response = self.client.run(request).unwrap();
        let body = response.body_mut().read_to_string().unwrap();
        let answer =
            Answer { status: response.status().as_u16(), headers: response.headers().clone(), body, took: started.elapsed() };
        crate::conformance::check(method, path, &answer);
        answer
    }

    /// The JSON of a 200.
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        answer.json()
    }

    /// Asks until the status is this, for at most ten seconds.
    pub fn wait_for(&self, path: &str, status: u16) -> Answer {
        let started = Instant::now();
        loop {
            let answer = self.get(path);
            if answer.status == status {
                return answer;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{path} still is {answer:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that it is a problem of this status, and returns it.
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.body);
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }
}

/// One member of every row.
pub fn column(answer: &Value, name: &str) -> Vec<Value> {
    answer["rows"].as_array().unwrap().iter().map(|row| row[name].clone()).collect()
}
