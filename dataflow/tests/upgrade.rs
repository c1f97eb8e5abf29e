//! Tables and checkpoints that an earlier program left: today's goes on from them, and what it has then is right.
//!
//! `tests/upgrades/NAME` holds a log, and of each store the tables and the checkpoints as they were when that program had read a part of
//! the log. `three_metrics` is of the last program whose rows had `active_viewers`, `chat_messages` and `donations_usd` only.
//! `hours_and_days` is of the last one whose checkpoints, of version 6, had a list of users of each hour and of each day; two hours are open.
//! `history` has the same log, and checkpoints of version 7; it is of the last program whose tables did not know of `recover` and of retention.

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;
use support::logs::required;
use support::process::Process;
use tidemark_model::{Kind, Metric};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let (path, to) = (entry.as_ref().expect("an entry").path(), to.join(entry.as_ref().expect("an entry").file_name()));
        if path.is_dir() { copy(&path, &to) } else { std::fs::copy(&path, &to).map(drop).expect("a copy") }
    }
}

/// A directory with the log and the checkpoints that were left.
struct Place {
    dir: tempfile::TempDir,
    settings: Vec<(&'static str, String)>,
}

impl Place {
    fn new(before: &Path, store: &str, url: Option<String>) -> Place {
        let dir = tempfile::tempdir().expect("a directory");
        let log = [before.join("log"), before.with_file_name("hours_and_days").join("log")];
        copy(log.iter().find(|log| log.is_dir()).expect("one is there"), &dir.path().join("log"));
        copy(&before.join(store).join("checkpoints"), &dir.path().join("checkpoints"));
        let mut settings = vec![
            ("DATA_DIR", dir.path().display().to_string()),
            ("KAFKA_TOPIC", "stream.events".to_owned()),
            ("IDLE_AFTER", "off".to_owned()),
        ];
        match url {
            Some(url) => settings.push(("DATABASE_URL", url)),
            None => std::fs::copy(before.join("sqlite/tidemark.db"), dir.path().join("tidemark.db")).map(drop).expect("a copy"),
        }
        Place { dir, settings }
    }

    /// What the program says, if it ends as it should.
    fn run(&self, args: &[&str], well: bool) -> String {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_tidemark-dataflow"));
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut process = Process::of_program(&program, &args, &self.settings);
        let status = process.ends_within(Duration::from_secs(60)).expect("it ends");
        let said = process.said();
        assert_eq!(status.success(), well, "{args:?}: {said}");
        said
    }
}

/// `nulls` counts, of the rows from a minute on, those that lack a metric.
fn goes_on(place: &Place, checkpoint: &str, nulls: &mut dyn FnMut(Metric, &str) -> i64) {
    let said = place.run(&["verify"], false);
    assert!(said.contains("made by an older version") && said.contains("hours_from"), "{said}");
    let said = place.run(&["run", "--until-end", "--metrics-addr", "off"], true);
    // Without it the whole log would be replayed, and the rows would be right all the same.
    assert!(said.contains(&format!("checkpoint=\"{checkpoint}\"")) && !said.contains("cannot be used"), "{said}");
    // Of minutes that the checkpoint had begun, who chatted is not known; of twelve hours more not who had come before.
    let (first, open, later) = ("2026-03-01T11:00:00Z", "2026-03-01T12:14:00Z", "2026-03-01T12:15:00Z");
    let all = || Metric::MINUTE.into_iter();
    let counts_events = |metric: &Metric| !metric.declared().first && !metric.declared().events.contains(&Kind::ViewerJoin);
    for metric in all().filter(counts_events) {
        assert_eq!((nulls(metric, open), nulls(metric, later)), (3, 0), "{}", metric.name());
    }
    assert_eq!(nulls(Metric::WatchMs, first), nulls(Metric::UniqueViewers, later) + nulls(Metric::Donors, first));
    assert_eq!(nulls(Metric::ChatMessages, first), 0);
    place.run(&["verify"], true);
    // A checkpoint of today remembers what it does not know.
    let said = place.run(&["run", "--until-end", "--metrics-addr", "off"], true);
    assert!(said.contains("checkpoint=\"") && !said.contains(&format!("checkpoint=\"{checkpoint}\"")), "{said}");
    assert_eq!((nulls(Metric::Donors, open), nulls(Metric::Donors, later)), (3, 0));
    place.run(&["rebuild", "--yes"], true);
    all().for_each(|metric| assert_eq!(nulls(metric, first), 0, "{}", metric.name()));
    place.run(&["verify"], true);
}

fn name(of: &str) -> String {
    format!("tidemark_upgrade_{of}_{}", std::process::id())
}

fn admin(server: &str) -> postgres::Client {
    postgres::Client::connect(server, postgres::NoTls).expect("TIDEMARK_TEST_POSTGRES answers")
}

/// A database with the tables that were left, if there is a server: its URL, and a connection.
fn database(before: &Path, of: &str) -> Option<(String, postgres::Client)> {
    let server = required("TIDEMARK_TEST_POSTGRES")?;
    admin(&server).batch_execute(&format!("create database {}", name(of))).expect("it may create databases");
    let url = format!("{}/{}", server.rsplit_once('/').expect("postgres://…/database").0, name(of));
    let tables = std::fs::read_to_string(before.join("postgres/tables.sql")).expect("it is there");
    let mut client = postgres::Client::connect(&url, postgres::NoTls).expect("it answers");
    client.batch_execute(&tables).expect("what pg_dump wrote");
    client.batch_execute("reset search_path").expect("pg_dump empties it");
    Some((url, client))
}

fn drop_database(of: &str) {
    let server = required("TIDEMARK_TEST_POSTGRES").expect("it was there before");
    admin(&server).batch_execute(&format!("drop database {}", name(of))).expect("nobody uses it any more");
}

#[test]
fn tables_and_checkpoints_of_an_earlier_program_are_taken_up() {
    let before = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrades/three_metrics");
    let place = Place::new(&before, "sqlite", None);
    let path = place.dir.path().join("tidemark.db");
    goes_on(&place, "a809fd5a-1-2", &mut |metric, from| {
        let select = format!(
            "select count(*) from stream_metrics_minute where {} is null and window_start >= unixepoch(?1) * 1000000",
            metric.integer_column()
        );
        rusqlite::Connection::open(&path).expect("it opens").query_row(&select, [from], |row| row.get(0)).expect("a count")
    });
    let Some((url, mut client)) = database(&before, "metrics") else { return };
    let place = Place::new(&before, "postgres", Some(url));
    goes_on(&place, "6534a012-1-2", &mut |metric, from| {
        let null = format!("{} is null", metric.name());
        let select = format!("select count(*) from stream_metrics_minute where {null} and window_start >= '{from}'");
        client.query_one(&select, &[]).expect("a count").get(0)
    });
    drop(client);
    drop_database("metrics");
}

/// The checkpoints of each store.
fn checkpoints_are_taken_up(of: &str, sqlite: &str, postgres: &str) {
    let before = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrades").join(of);
    let goes_on = |place: &Place, checkpoint: &str| {
        let said = place.run(&["run", "--until-end", "--metrics-addr", "off"], true);
        assert!(said.contains(&format!("checkpoint=\"{checkpoint}\"")) && !said.contains("cannot be used"), "{said}");
        place.run(&["verify"], true);
    };
    goes_on(&Place::new(&before, "sqlite", None), sqlite);
    let Some((url, client)) = database(&before, of) else { return };
    drop(client);
    goes_on(&Place::new(&before, "postgres", Some(url)), postgres);
    drop_database(of);
}

#[test]
fn users_of_open_hours_and_days_are_taken_up() {
    checkpoints_are_taken_up("hours_and_days", "497b610c-1-1", "33b03732-1-1");
}

#[test]
fn the_newest_checkpoints_are_taken_up_and_lost_ones_are_no_matter() {
    checkpoints_are_taken_up("history", "c6576eac-1-1", "abb734b2-1-1");
    let before = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrades/history");
    let place = Place::new(&before, "sqlite", None);
    std::fs::remove_dir_all(place.dir.path().join("checkpoints")).expect("it is there");
    let said = place.run(&["run", "--until-end", "--metrics-addr", "off"], true);
    assert!(said.contains("no checkpoint is used"), "{said}");
    place.run(&["verify"], true);
}
