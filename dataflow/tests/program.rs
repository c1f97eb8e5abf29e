//! The program as its users meet it: what goes away around it, and what they may set.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic, in helpers too")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn program(dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark-dataflow"));
    command.env_clear().env("DATA_DIR", dir).env("METRICS_ADDR", "off").env("WAIT", "1s").args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A writer whose reader is gone.
fn without_a_reader() -> Stdio {
    Stdio::from(std::io::pipe().unwrap().1)
}

/// Both outputs.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Two events, and one record that is none.
fn events(dir: &Path) {
    std::fs::create_dir_all(dir.join("log/stream.events")).unwrap();
    let event = r#"{"event_type":"chat_message","stream_id":"s","ts":"2026-01-01T00:00:00Z"}"#;
    let lines = format!("1767225600000 {event}\n1767225600001 {event}\n1767225600002 none\n");
    std::fs::write(dir.join("log/stream.events/0.log"), lines).unwrap();
}

#[test]
fn a_run_goes_on_without_readers_and_commands_end_quietly() {
    let dir = tempfile::tempdir().unwrap();
    events(dir.path());
    let run =
        program(dir.path(), &["run", "--until-end"]).stdout(without_a_reader()).stderr(without_a_reader()).output().unwrap();
    assert_eq!(run.status.code(), Some(0), "the run is done, whoever reads its figures");
    let listed = program(dir.path(), &["dead-letters", "list"]).output().unwrap();
    assert!(said(&listed).contains("1 of 1 dead letters"), "{}", said(&listed));
    for command in [&["dead-letters", "list"][..], &["dead-letters", "list", "--json"], &["verify"], &["checkpoint", "list"]] {
        let output = program(dir.path(), command).stdout(without_a_reader()).output().unwrap();
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(141), ""), "{command:?}");
    }
    // Without a reader of the log a failure is still one.
    let failed = program(dir.path(), &["verify", "--pipeline", "other"]).stderr(without_a_reader()).output().unwrap();
    assert_eq!(failed.status.code(), Some(2));
}

#[test]
fn properties_on_which_promises_rest_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (name, value, reason) in [
        ("auto.offset.reset", "latest", "skipped in silence"),
        ("isolation.level", "read_uncommitted", "aborted"),
        ("enable.partition.eof", "false", "--until-end"),
        ("sasl.pasword", "hunter2", "KAFKA__SASL_PASSWORD"),
        ("SASL_PASWORD_FILE", "hunter2", "KAFKA__SASL_PASSWORD_FILE"),
    ] {
        let mut command = program(dir.path(), &["run", "--until-end"]);
        let output = command.env("KAFKA_BOOTSTRAP", "127.0.0.1:1").env(format!("KAFKA__{name}"), value).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.lines().count() == 1 && said.contains(name) && said.contains(reason), "{said}");
        assert!(value == "false" || !said.contains(value), "{said}");
    }
}

#[test]
fn a_password_never_reaches_the_log() {
    let dir = tempfile::tempdir().unwrap();
    for (variable, value) in [
        ("DATABASE_URL", "postgres://127.0.0.1:1/db?user=me&password=hunt@er2"),
        ("DATABASE_URL", "postgres://me:hunt@er2@127.0.0.1:1/db"),
        ("DATABASE_URL", "postgres://127.0.0.1:1/db?user=me&password=hunter2&sslcrl=x"),
        ("DATABASE_URL", "postgres://127.0.0.1:1/db?user=me&pass&hunter2=hunter2"),
        ("DATABASE_URL", "host=127.0.0.1 port=1 user=me password=what hunter2=x"),
        ("DATABASE_URL", "mysql://me:hunter2@127.0.0.1/db"),
        ("PG_URL", "postgres://me:hunter2"),
        ("DATABASE_URL_FILE", "postgres://me:hunter2@127.0.0.1:1/db"),
    ] {
        for flags in [&["run", "--until-end"][..], &["verify"], &["dead-letters", "list"]] {
            let mut command = program(dir.path(), flags);
            let output = command.env(variable, value).env("RUST_BACKTRACE", "1").env("RUST_LOG", "info").output().unwrap();
            let said = said(&output);
            assert!(!output.status.success(), "{value}");
            assert!(said.contains(variable) || said.contains("DATABASE_URL"), "{value} is told as {said}");
            assert!(!said.contains("hunter2") && !said.contains("er2"), "{value} is told as {said}");
        }
    }
    let output = program(dir.path(), &["run", "--database-url", "postgres://me:my", "hunter2@h/db"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(!said(&output).contains("hunter2"), "{}", said(&output));
}

#[test]
fn addresses_of_the_metrics_port_are_taken_or_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    events(dir.path());
    for address in ["localhost:0", ":0", "0", "[::1]:0", "127.0.0.1:0", "OFF"] {
        let output = program(dir.path(), &["run", "--until-end"]).env("METRICS_ADDR", address).output().unwrap();
        assert!(output.status.success(), "{address}: {}", said(&output));
    }
    for address in ["::1:9100", "localhost", "a b:1", "127.0.0.1:65536", "http://localhost:1"] {
        let output = program(dir.path(), &["run", "--until-end"]).env("METRICS_ADDR", address).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{address}");
        assert!(said(&output).contains("allowed: host:port"), "{address}: {}", said(&output));
    }
}
