//! Databases and brokers that accept and say nothing: every command ends in time and says who did not answer.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::logs::required;
use support::process::Process;
use support::proxy::silent_server;

/// Connecting takes 5 s at the most; the rest is a slow machine.
const SOON: Duration = Duration::from_secs(15);

/// Runs a command of the program; its status, its error lines and how long it took.
fn command(dir: &Path, args: &[&str], settings: &[(&str, String)]) -> (Option<i32>, String, Duration) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark-dataflow"));
    command.args(args).env_clear().env("DATA_DIR", dir).envs(settings.iter().map(|(name, value)| (name, value)));
    let started = Instant::now();
    let mut process = Process::of(command.stdin(Stdio::null()));
    let status = process.ends_within(SOON);
    (status.and_then(|status| status.code()), process.said(), started.elapsed())
}

fn file_log(dir: &Path) {
    let topic = tidemark_model::file_log::topic_dir(&dir.join("log"), "stream.events");
    std::fs::create_dir_all(&topic).unwrap();
    std::fs::write(tidemark_model::file_log::partition_path(&dir.join("log"), "stream.events", 0), b"").unwrap();
}

#[test]
fn commands_do_not_wait_for_a_database_that_says_nothing() {
    let url = ("DATABASE_URL", format!("postgres://someone@{}/db", silent_server()));
    std::thread::scope(|scope| {
        for args in [
            &["verify"][..],
            &["dead-letters", "list"],
            &["dead-letters", "show", "0", "0"],
            &["dead-letters", "replay", "--all"],
            &["checkpoint", "list"],
            &["rebuild", "--yes"],
        ] {
            let url = &url;
            scope.spawn(move || {
                let dir = tempfile::tempdir().unwrap();
                file_log(dir.path());
                let (status, said, took) = command(dir.path(), args, std::slice::from_ref(url));
                assert_eq!(status, Some(2), "{args:?} after {took:?}: {said}");
                assert!(said.contains("has not answered a connection within 5s"), "{args:?}: {said}");
            });
        }
    });
}

#[test]
fn a_run_waits_for_a_database_that_says_nothing_only_as_long_as_it_may() {
    let dir = tempfile::tempdir().unwrap();
    file_log(dir.path());
    let url = ("DATABASE_URL", format!("postgres://someone@{}/db", silent_server()));
    let (status, said, _) = command(dir.path(), &["run", "--wait", "6s", "--metrics-addr", "off"], &[url]);
    assert_eq!(status, Some(1), "{said}");
    let told = said.lines().filter(|line| line.contains("has not answered a connection within 5s"));
    assert!(told.count() >= 2, "while it waits and at its end: {said}");
}

#[test]
fn a_host_that_says_nothing_does_not_hide_the_next_one() {
    let Some(url) = required("TIDEMARK_TEST_POSTGRES") else { return };
    let (user, place) = url.rsplit_once('@').unwrap();
    let dir = tempfile::tempdir().unwrap();
    let both = format!("{user}@{},{place}", silent_server());
    let (status, said, _) = command(dir.path(), &["dead-letters", "list"], &[("DATABASE_URL", both)]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("has no tables of a pipeline"), "{said}");
}
