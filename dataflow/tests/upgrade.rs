//! Tables and checkpoints that an earlier program left: today's goes on from them, and what it has then is right.
//!
//! `tests/upgrades/NAME` holds a log, and of each store the tables and the checkpoints as they were when that program had read a part of
//! the log. `three_metrics` is of the last program whose rows had `active_viewers`, `chat_messages` and `donations_usd` only.

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;
use support::logs::required;
use support::process::Process;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let (path, to) = (entry.as_ref().expect("an entry").path(), to.join(entry.as_ref().expect("an entry").file_name()));
        if path.is_dir() { copy(&path, &to) } else { std::fs::copy(&path, &to).map(drop).expect("a copy") }
    }
}

fn goes_on(before: &Path, store: &str, checkpoint: &str, url: Option<String>) {
    let dir = tempfile::tempdir().expect("a directory");
    copy(&before.join("log"), &dir.path().join("log"));
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
    let program = PathBuf::from(env!("CARGO_BIN_EXE_tidemark-dataflow"));
    for args in [&["run", "--until-end", "--metrics-addr", "off"][..], &["verify"][..]] {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut process = Process::of_program(&program, &args, &settings);
        let status = process.ends_within(Duration::from_secs(60)).expect("it ends");
        let said = process.said();
        assert!(status.success(), "{store} {args:?}: {said}");
        // Without it the whole log would be replayed, and the rows would be right all the same.
        let went_on = said.contains(&format!("checkpoint=\"{checkpoint}\"")) && !said.contains("cannot be used");
        assert!(args[0] != "run" || went_on, "{store} goes on from {checkpoint}: {said}");
    }
}

#[test]
fn tables_and_checkpoints_of_an_earlier_program_are_taken_up() {
    let before = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrades/three_metrics");
    goes_on(&before, "sqlite", "a809fd5a-1-2", None);
    let Some(server) = required("TIDEMARK_TEST_POSTGRES") else { return };
    let name = format!("tidemark_upgrade_{}", std::process::id());
    let mut admin = postgres::Client::connect(&server, postgres::NoTls).expect("TIDEMARK_TEST_POSTGRES answers");
    admin.batch_execute(&format!("create database {name}")).expect("it may create databases");
    let url = format!("{}/{name}", server.rsplit_once('/').expect("postgres://…/database").0);
    let tables = std::fs::read_to_string(before.join("postgres/tables.sql")).expect("it is there");
    let mut client = postgres::Client::connect(&url, postgres::NoTls).expect("it answers");
    client.batch_execute(&tables).expect("what pg_dump wrote");
    drop(client);
    goes_on(&before, "postgres", "6534a012-1-2", Some(url));
    admin.batch_execute(&format!("drop database {name}")).expect("nobody uses it any more");
}
