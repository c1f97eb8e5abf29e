//! The built program ends as by `kill -9` before and after every step of a commit and of a checkpoint, on SQLite and on Postgres. After
//! the next run everything is the oracle's answer, and no checkpoint is left that no commit names.
//!
//! `cargo test -p tidemark-dataflow --features failpoints --test fail_points`
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;
use support::logs::{Event, PARTITIONS, events, oracle_log, required, width, write_file_log};
use support::parts::{needed, on_the_disk};
use support::process::Process;
use support::tables::Found;
use tidemark_dataflow::fail_points;
use tidemark_dataflow::oracle;
use tidemark_dataflow::rules::Rules;

/// Enough for some commits and checkpoints in each run, and few enough for many runs.
const EVENTS: usize = 24_000;
/// A run takes seconds.
const LONG: Duration = Duration::from_secs(60);
/// The SIGKILL of a fail point.
const KILLED: i32 = 9;

/// The log, of which runs see more and more, and the oracle's form of it.
struct Traffic {
    events: Vec<Event>,
    log: oracle::Log,
    ends: BTreeMap<i32, i64>,
}

impl Traffic {
    fn new() -> Traffic {
        let mut events = events();
        // Evenly thinned, so that they cover the same half hour.
        let step = events.len() / EVENTS;
        let mut index = 0;
        events.retain(|_| {
            index += 1;
            index % step == 0
        });
        let log = oracle_log(&events, width);
        let mut ends: BTreeMap<i32, i64> = (0..i32::try_from(PARTITIONS).unwrap()).map(|partition| (partition, 0)).collect();
        events.iter().for_each(|event| *ends.get_mut(&i32::try_from(event.partition).unwrap()).unwrap() += width(event));
        Traffic { events, log, ends }
    }
}

/// Where a pipeline of the test lives.
struct Ground<'a> {
    traffic: &'a Traffic,
    dir: tempfile::TempDir,
    /// Of a Postgres database; none: SQLite.
    url: Option<String>,
}

impl Ground<'_> {
    /// Runs over the first part of the log, to its end or to the fail point. Whether it was killed there.
    fn run(&self, share: usize, workers: usize, fail_point: Option<String>) -> bool {
        let Traffic { events, .. } = self.traffic;
        write_file_log(&self.dir.path().join("log"), "stream.events", &events[..events.len() * share / 4]);
        let mut settings = vec![
            ("DATA_DIR", self.dir.path().display().to_string()),
            ("SLICE", "10ms".to_owned()),
            ("CHECKPOINT_EVERY", "10ms".to_owned()),
        ];
        settings.extend(self.url.iter().map(|url| ("DATABASE_URL", url.clone())));
        settings.extend(fail_point.map(|point| ("TIDEMARK_FAIL_POINT", point)));
        let args = ["--until-end".to_owned(), "--workers".to_owned(), workers.to_string()];
        let mut process = Process::start(&args, &settings);
        let status = process.ends_within(LONG).unwrap_or_else(|| panic!("it does not end:\n{}", process.said()));
        assert!(status.success() || status.signal() == Some(KILLED), "{status}:\n{}", process.said());
        !status.success()
    }

    fn found(&self) -> Found {
        match &self.url {
            Some(url) => Found::in_postgres(&mut postgres::Client::connect(url, postgres::NoTls).expect("it answers")),
            None => Found::in_sqlite(&self.store()),
        }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("tidemark.db")
    }

    /// What the checkpoints need that the last commit names.
    fn named(&self) -> BTreeSet<String> {
        let json: String = match &self.url {
            Some(url) => {
                let mut client = postgres::Client::connect(url, postgres::NoTls).expect("it answers");
                client.query_one("select checkpoints::text from progress", &[]).expect("progress").get(0)
            }
            None => {
                let connection = rusqlite::Connection::open(self.store()).expect("the store is there");
                connection.query_row("select checkpoints from progress", [], |row| row.get(0)).expect("progress")
            }
        };
        needed(&json)
    }
}

/// Crashes at each point, the first time that it is reached and later, in runs over more and more of the log. `server` is a Postgres
/// where a database can be made for each.
fn at_every_point(server: Option<&str>) {
    let traffic = Traffic::new();
    for (index, point) in fail_points::ALL.into_iter().enumerate() {
        let database = format!("tidemark_fail_points_{}_{index}", std::process::id());
        let admin = |command: &str| {
            if let Some(server) = server {
                let client = postgres::Client::connect(&format!("{server}/postgres"), postgres::NoTls);
                client.and_then(|mut client| client.batch_execute(&format!("{command} database {database}"))).expect(command);
            }
        };
        admin("create");
        let url = server.map(|server| format!("{server}/{database}"));
        at_point(point, &Ground { traffic: &traffic, dir: tempfile::tempdir().expect("a directory"), url });
        admin("drop");
    }
}

fn at_point(point: &str, ground: &Ground<'_>) {
    let first = ground.run(1, 2, Some(format!("{point}:1")));
    assert!(first, "{point} was not reached");
    ground.run(2, 1, Some(format!("{point}:2")));
    ground.run(3, 3, Some(format!("{point}:3")));
    assert!(!ground.run(4, 2, None));
    let Traffic { log, ends, .. } = ground.traffic;
    let differences = ground.found().differences(log, ends, &Rules::default(), true);
    assert!(differences.is_empty(), "{point}: {}", differences[..differences.len().min(10)].join("\n"));
    let (named, there) = (ground.named(), on_the_disk(&ground.dir.path().join("checkpoints")));
    assert!(named == there && !named.is_empty(), "{point}: {named:?} are named, {there:?} are on the disk");
}

#[test]
fn sqlite() {
    at_every_point(None);
}

#[test]
fn real_postgres() {
    let Some(url) = required("TIDEMARK_TEST_POSTGRES") else { return };
    at_every_point(Some(url.rsplit_once('/').expect("postgres://…/database").0));
}
