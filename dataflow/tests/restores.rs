//! A store that goes back, or is replaced, under a run that lives: the run writes nothing over it, goes on from what the store holds,
//! and at the end every row is right. On Postgres and on SQLite.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::logs::{Event, PARTITIONS, events, oracle_log, required};
use support::tables::Found;
use tidemark_dataflow::checkpoint::Parts;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::Options;
use tidemark_dataflow::oracle;
use tidemark_dataflow::resume;
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::postgres::PostgresStore;
use tidemark_dataflow::sink::sqlite::SqliteStore;
use tidemark_dataflow::sink::{Store, StoreError};
use tidemark_dataflow::source::Log;
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_dataflow::telemetry::Metrics;
use tidemark_model::{Micros, Table};

const EVENTS: usize = 9_000;
/// How long anything may take.
const LONG: Duration = Duration::from_secs(90);
const OTHER_TABLES: [&str; 6] =
    ["dead_letters", "inexact_windows", "progress", "progress_history", "progress_partitions", "stream_state"];

type Open<'a> = dyn Fn() -> Result<Box<dyn Store>, StoreError> + Sync + 'a;

/// A log that is written in thirds, and what the oracle says of it.
struct Traffic {
    events: Vec<Event>,
    log: MemoryLog,
    expected: oracle::Log,
}

impl Traffic {
    fn new() -> Traffic {
        let mut events = events();
        events.truncate(EVENTS);
        let empty = (0..i32::try_from(PARTITIONS).unwrap()).map(|partition| (partition, Vec::new()));
        Traffic { log: MemoryLog::new(empty.collect()), expected: oracle_log(&events, |_| 1), events }
    }

    /// Writes it, in turns, so that there are many commits; answers where the log then ends.
    fn write(&self, third: usize) -> BTreeMap<i32, i64> {
        let upto = (third + 1) * EVENTS / 3;
        for some in self.events[third * EVENTS / 3..upto].chunks(100) {
            for event in some {
                let time = Some(Micros(event.time_ms * 1_000));
                self.log.append(i32::try_from(event.partition).unwrap(), time, Some(&event.payload));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        oracle_log(&self.events[..upto], |_| 1).iter().map(|(&of, records)| (of, records.len().try_into().unwrap())).collect()
    }

    /// A run lives while the store is saved after the first third of the log, and goes back after the second.
    fn run(&self, open: &Open<'_>, find: &(dyn Fn() -> Found + Sync), save: &dyn Fn(), go_back: &dyn Fn()) {
        let setup = support::Setup {
            rules: Rules::default(),
            workers: 2,
            slice: Duration::from_millis(5),
            most_per_read: 0,
            now: Micros(0),
            max_ahead: Duration::from_secs(3_600),
            checkpoint_every: Duration::from_millis(100),
            grains: &tidemark_model::Grain::ALL,
            retention: Default::default(),
        };
        let mut options = Options { clock: Clock::System, patience: LONG, ..setup.options() };
        options.wish.until_end = false;
        let control = Arc::new(Control::default());
        let log: Arc<dyn Log> = Arc::new(self.log.clone());
        let parts: Arc<dyn Parts> = Arc::new(MemoryParts::default());
        let metrics = Metrics::new().0;
        std::thread::scope(|scope| {
            // Also if an assertion fails: the scope waits for the run.
            let _stop = Stop(&control);
            let run = scope.spawn(|| resume::run(&options, &log, &mut |_| open(), &parts, &control, &metrics));
            let reach = |ends: &BTreeMap<i32, i64>| {
                let until = Instant::now() + LONG;
                loop {
                    let found: BTreeMap<i32, i64> = find().partitions.iter().map(|(&of, &(next, _))| (of, next)).collect();
                    if found == *ends || run.is_finished() || Instant::now() > until {
                        return found == *ends;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            };
            let mut reached = reach(&self.write(0));
            save();
            reached &= reach(&self.write(1));
            go_back();
            let ends = self.write(2);
            reached &= reach(&ends);
            control.stop();
            run.join().expect("it does not panic").expect("the run ends well");
            assert!(reached, "the run has come to the end of what was written, each time");
            let differences = find().differences(&self.expected, &ends, &Rules::default(), true);
            assert!(differences.is_empty(), "{}", differences[..differences.len().min(10)].join("\n"));
        });
    }
}

/// Stops the run when it is dropped.
struct Stop<'a>(&'a Control);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A database of its own.
struct Database {
    server: String,
    name: String,
}

impl Database {
    fn new(test: &str) -> Option<Database> {
        let url = required("TIDEMARK_TEST_POSTGRES")?;
        let server = url.rsplit_once('/').expect("postgres://…/database").0.to_owned();
        let database = Database { server, name: format!("tidemark_{test}_{}", std::process::id()) };
        database.admin(&format!("create database {}", database.name));
        Some(database)
    }

    fn admin(&self, command: &str) {
        let client = postgres::Client::connect(&format!("{}/postgres", self.server), postgres::NoTls);
        client.and_then(|mut client| client.batch_execute(command)).expect(command);
    }

    fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    fn client(&self) -> postgres::Client {
        postgres::Client::connect(&self.url(), postgres::NoTls).expect("it answers")
    }

    fn sql(&self, commands: &str) {
        self.client().batch_execute(commands).expect(commands);
    }

    fn run(&self, save: &dyn Fn(), go_back: &dyn Fn()) {
        let open = || Ok(Box::new(PostgresStore::new(&self.url(), "under test")?) as Box<dyn Store>);
        // Tables may be away for a moment.
        let find = || {
            let mut client = self.client();
            let there = "select count(*) from pg_tables where schemaname = 'public'";
            let there: i64 = client.query_one(there, &[]).expect("it answers").get(0);
            if there < 5 { Found::default() } else { Found::in_postgres(&mut client) }
        };
        Traffic::new().run(&open, &find, save, go_back);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.admin(&format!("drop database {} with (force)", self.name));
        }
    }
}

fn tables() -> impl Iterator<Item = &'static str> {
    OTHER_TABLES.into_iter().chain(Table::ALL.map(Table::name))
}

/// For each table.
fn each(statement: &str) -> String {
    tables().map(|table| statement.replace('$', table)).collect::<Vec<_>>().join("; ")
}

#[test]
fn rows_that_are_copied_back_under_a_run() {
    let Some(database) = Database::new("copied_back") else { return };
    let save = || {
        let copy = each("create table saved.$ as table public.$");
        database.sql("create schema saved");
        database.sql(&format!("begin isolation level repeatable read; {copy}; commit"));
    };
    let go_back = || {
        let copy = each("insert into public.$ select * from saved.$");
        // As a commit does, the progress table first: otherwise the two end in a deadlock.
        database.sql(&format!("begin; lock progress; truncate {}; {copy}; commit", tables().collect::<Vec<_>>().join(", ")));
    };
    database.run(&save, &go_back);
    let row = database.client().query_one("select run, heartbeat_at > now() - interval '1 minute', fence from progress", &[]);
    let row = row.expect("progress");
    assert!(row.get::<_, &str>(0).len() == 32 && row.get::<_, bool>(1), "the run left its name and its last sign of life");
    assert_eq!(row.get::<_, i64>(2), 2, "the run that went on took a token of its own");
}

#[test]
fn a_dump_that_is_restored_under_a_run() {
    let Some(database) = Database::new("dumped") else { return };
    let Some(bin) = postgres_programs() else { return eprintln!("skipped: there is no pg_dump") };
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("dump");
    let program = |name: &str, arguments: &[&str]| {
        let said = Command::new(bin.join(name)).args(arguments).output().expect("it runs");
        assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stderr));
    };
    let (url, dump) = (database.url(), dump.to_str().unwrap());
    // As an administrator does it who leaves the pipeline running: table after table, each in a transaction of its own.
    database.run(&|| program("pg_dump", &["-Fc", "-f", dump, &url]), &|| {
        // What `--clean` does to keys of partitions, Postgres refuses while these are attached.
        database.sql("drop table stream_metrics_minute");
        program("pg_restore", &["--clean", "--if-exists", "-d", &url, dump])
    });
}

#[test]
fn tables_that_are_dropped_and_come_back_after_a_while() {
    let Some(database) = Database::new("dropped") else { return };
    let Some(bin) = postgres_programs() else { return eprintln!("skipped: there is no pg_dump") };
    let dir = tempfile::tempdir().unwrap();
    let (url, dump) = (database.url(), dir.path().join("dump"));
    let save = || {
        assert!(
            Command::new(bin.join("pg_dump")).args(["-f".as_ref(), dump.as_os_str(), url.as_ref()]).status().unwrap().success()
        )
    };
    let go_back = || {
        database.sql(&format!("drop table {}", tables().collect::<Vec<_>>().join(", ")));
        std::thread::sleep(Duration::from_secs(4));
        let there = database.client().query_one("select count(*) from pg_tables where schemaname = 'public'", &[]);
        assert_eq!(there.unwrap().get::<_, i64>(0), 0, "a run that was there before makes no tables");
        let psql = Command::new(bin.join("psql")).args(["-qX", "-v", "ON_ERROR_STOP=1", "-d", &url, "-f"]).arg(&dump).status();
        assert!(psql.unwrap().success());
    };
    database.run(&save, &go_back);
}

/// Where pg_dump is, if anywhere.
fn postgres_programs() -> Option<PathBuf> {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions.chain(std::env::split_paths(&path)).find(|dir| dir.join("pg_dump").is_file() && dir.join("psql").is_file())
}

/// Runs on a SQLite file, which is copied and then restored by these.
fn run_on_sqlite(go_back: &dyn Fn(&Path, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let (store, copy) = (dir.path().join("tidemark.db"), dir.path().join("copy.db"));
    let open = || Ok(Box::new(SqliteStore::open(&store)?) as Box<dyn Store>);
    let find = || {
        let found = rusqlite::Connection::open(&store).and_then(|connection| {
            connection.query_row("select count(*) from sqlite_schema where type = 'table'", [], |row| row.get::<_, i64>(0))
        });
        if usize::try_from(found.unwrap_or(0)) == Ok(tables().count()) { Found::in_sqlite(&store) } else { Found::default() }
    };
    let save = || {
        let connection = rusqlite::Connection::open(&store).unwrap();
        connection.execute("vacuum into ?1", [copy.to_str().unwrap()]).unwrap();
    };
    Traffic::new().run(&open, &find, &save, &|| go_back(&store, &copy));
}

#[test]
fn a_sqlite_file_whose_rows_are_copied_back_under_a_run() {
    run_on_sqlite(&|store, copy| {
        let connection = rusqlite::Connection::open(store).unwrap();
        connection.busy_timeout(LONG).unwrap();
        connection.execute("attach ?1 as saved", [copy.to_str().unwrap()]).unwrap();
        let copy = each("delete from main.$; insert into main.$ select * from saved.$");
        connection.execute_batch(&format!("begin immediate; {copy}; commit")).unwrap();
    });
}

#[test]
fn a_sqlite_file_that_is_replaced_under_a_run() {
    run_on_sqlite(&|store, copy| std::fs::rename(copy, store).unwrap());
}
