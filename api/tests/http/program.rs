//! The program itself: exit status, its one line on a bad setting, and the stop by signal.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

/// The program in an environment of these variables only, in a directory without data.
fn program(variables: &[(&str, &str)], directory: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark-api"));
    command.env_clear().current_dir(directory).env("API_ADDR", "127.0.0.1:0").envs(variables.iter().copied());
    command
}

fn line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    text.lines().filter(|line| line.starts_with("tidemark-api: ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_bad_setting_is_one_line_and_status_2() {
    let directory = tempfile::tempdir().unwrap();
    for (name, value, word) in [
        ("API_ADDR", "8000", "API_ADDR"),
        ("API_POOL_SIZE", "-1", "API_POOL_SIZE"),
        ("API_REQUEST_TIMEOUT", "0s", "API_REQUEST_TIMEOUT"),
        ("LOG_FORMAT", "xml", "[possible values: text, json]"),
        ("DATABASE_URL", "postgres://me:hidden@h:port/db", "DATABASE_URL"),
        ("DATABASE_URL", "postgres://me:hidden@h/db?sslmode=require", "sslmode"),
        ("DATABASE_URL_FILE", "nowhere", "DATABASE_URL_FILE"),
    ] {
        let output = program(&[(name, value)], &directory).output().unwrap();
        let line = line(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {line}");
        assert!(line.contains(word) && !line.contains("hidden") && line.lines().count() == 1, "{line}");
    }
}

#[test]
fn an_address_in_use_is_one_line_and_status_1() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = program(&[("API_ADDR", &address)], &directory).output().unwrap();
    let line = line(&output);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.contains(&address) && line.contains("in use") && line.lines().count() == 1, "{line}");
}

#[test]
fn it_starts_without_a_store_and_stops_by_signal_with_status_0() {
    let directory = tempfile::tempdir().unwrap();
    for signal in ["-INT", "-TERM"] {
        // An empty variable counts as unset.
        let variables = [("API_POOL_SIZE", ""), ("LOG_FORMAT", "json")];
        let mut running = program(&variables, &directory).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(running.stderr.take().unwrap()).lines().map(Result::unwrap);
        log.find(|line| line.contains("waiting for the store")).expect("it says that it waits");
        Command::new("kill").args([signal, &running.id().to_string()]).status().unwrap();
        assert_eq!(running.wait().unwrap().code(), Some(0), "{:?}", log.collect::<Vec<_>>());
    }
}
