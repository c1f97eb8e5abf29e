//! The program as its users meet it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic, in helpers too")]

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn program(dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark-generator"));
    command.env_clear().env("DATA_DIR", dir.join("data")).args(flags);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
    command
}

fn run(dir: &Path, flags: &[&str]) -> Output {
    program(dir, flags).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All whole lines of the topic, partition by partition.
fn lines(dir: &Path) -> Vec<String> {
    let partition = |number: i32| dir.join(format!("data/log/stream.events/{number}.log"));
    let files = (0..).map(partition).take_while(|path| path.exists());
    files.flat_map(|path| text(&std::fs::read(path).unwrap()).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn terminate(child: &Child) {
    let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_counted_run_writes_all_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["--rate=max", "--count=3000", "--seed=7", "--malformed=0.1", "--late=0.1"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stdout.lines().count(), 1);
    assert!(stdout.contains("3000 delivered, 0 failed") && stdout.contains("seed 7"), "{stdout}");
    assert_eq!(lines(dir.path()).len(), 3_000);
    assert!(dir.path().join("data/log/stream.events/3.log").exists());
}

#[test]
fn historic_runs_of_a_seed_are_the_same_in_every_byte() {
    let flags =
        ["--rate=max", "--count=500", "--seed=7", "--start=2024-01-01T00:00:00Z", "--span=1h", "--streams=a,b", "--partitions=1"];
    let written = || {
        let dir = tempfile::tempdir().unwrap();
        assert!(run(dir.path(), &flags).status.success());
        lines(dir.path())
    };
    let first = written();
    assert_eq!(first, written());
    // Record times are the traffic's: from the start, one hour over 500 events.
    assert!(first[0].starts_with("1704067200000 {"), "{}", first[0]);
    assert!(first[499].starts_with("1704070792800 {"), "{}", first[499]);
}

#[test]
fn sigterm_ends_an_endless_run_with_everything_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let child = program(dir.path(), &["--rate=500"]).spawn().unwrap();
    wait_for("events", || lines(dir.path()).len() > 50);
    terminate(&child);
    let output = child.wait_with_output().unwrap();
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let written = lines(dir.path());
    assert!(stdout.contains(&format!(": {} delivered, 0 failed", written.len())), "{stdout}");
    assert!(written.iter().all(|line| line.ends_with('}')));
}

#[test]
fn sigterm_ends_the_wait_for_brokers() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = program(dir.path(), &["--kafka-bootstrap=127.0.0.1:1"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    terminate(&child);
    wait_for("the end", || child.try_wait().unwrap().is_some());
}

#[test]
fn sigterm_ends_the_wait_for_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = program(dir.path(), &["send", "-", "--partitions=1"]).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"one\nhalf a li").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    terminate(&child);
    wait_for("the end", || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success());
    assert_eq!(lines(dir.path()).len(), 1, "what of a line has come is none");
}

#[test]
fn a_file_is_sent_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.jsonl");
    std::fs::write(&file, "{\"stream_id\":\"s\"}\nnot json\n\n").unwrap();
    let output = run(dir.path(), &["send", file.to_str().unwrap(), "--partitions=1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("3 delivered, 0 failed"));
    let payloads: Vec<_> = lines(dir.path()).iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
    assert_eq!(payloads, ["{\"stream_id\":\"s\"}", "not json", ""]);
}

#[test]
fn the_standard_input_is_sent_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = program(dir.path(), &["send", "-"]).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(lines(dir.path()).len(), 2);
}

#[test]
fn bad_usage_is_one_line_that_names_it_and_status_2() {
    let dir = tempfile::tempdir().unwrap();
    let start = "--start=2024-01-01T00:00:00Z";
    for (flags, variable, names) in [
        (&["--rate=0"][..], ("X", "x"), "--rate"),
        (&[], ("EVENTS_PER_SEC", "fast"), "EVENTS_PER_SEC"),
        (&[], ("USER_COUNT", "0"), "USER_COUNT"),
        (&[], ("STREAM_IDS", "a,,b"), "STREAM_IDS"),
        (&[], ("KAFKA_TOPIC", "a b"), "KAFKA_TOPIC"),
        (&["--kafka-bootstrap=a:1"], ("BOOTSTRAP", "b:1"), "BOOTSTRAP"),
        (&["--kafka-bootstrap=a:1"], ("KAFKA__nope", "1"), "KAFKA__nope"),
        (&[], ("RUST_LOG", "a=b=c"), "RUST_LOG"),
        (&["--nope"], ("X", "x"), "--nope"),
        (&["--late=2"], ("X", "x"), "--late"),
        (&[start, "--rate=max"], ("X", "x"), "--span"),
        (&["send"], ("X", "x"), "FILE"),
    ] {
        let output = program(dir.path(), flags).env(variable.0, variable.1).output().unwrap();
        let stderr = text(&output.stderr);
        let complaint = stderr.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(2), "{flags:?} {variable:?}: {stderr}");
        assert!(complaint.contains(names), "{flags:?} {variable:?}: {complaint}");
    }
}

#[test]
fn failures_are_one_line_that_names_them_and_status_1() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), "a file is in the way").unwrap();
    for (flags, names) in [
        (&["--count=1"][..], "DATA_DIR"),
        (&["send", "nowhere.jsonl"], "nowhere.jsonl"),
        (&["--kafka-bootstrap=127.0.0.1:1", "--wait=300ms"], "127.0.0.1:1"),
    ] {
        let output = run(dir.path(), flags);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {stderr}");
        assert!(stderr.lines().last().is_some_and(|line| line.contains(names)), "{flags:?}: {stderr}");
    }
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let dir = tempfile::tempdir().unwrap();
    let output = program(dir.path(), &["--count=1"]).env("EVENTS_PER_SEC", "").env("KAFKA_BOOTSTRAP", "").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}
