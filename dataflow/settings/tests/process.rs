//! Programs of [`process::run`], whose standard error is in the ways in which it can be bad.
//!
//! Each case runs this file again as a program: the test `role` is one, by the variable `ROLE`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic, in helpers too")]

use std::io::{PipeReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tidemark_settings::process;

const PATIENCE: Duration = Duration::from_secs(20);

/// The programs.
#[test]
fn role() {
    let Ok(role) = std::env::var("ROLE") else { return };
    process::run(|process| {
        let writer = process.log_writer();
        tracing_subscriber::fmt().with_writer(move || writer).with_max_level(tracing::Level::DEBUG).with_ansi(false).init();
        process.log_is_ready();
        match role.as_str() {
            "few lines" => (0..20).for_each(|line| {
                tracing::info!("line {line}");
                std::thread::sleep(Duration::from_millis(5));
            }),
            "many lines" => many_lines(),
            "many lines, and more when a reader is there" => {
                many_lines();
                std::fs::write(std::env::var("MARK").unwrap(), "").unwrap();
                std::io::stdin().read_exact(&mut [0]).unwrap();
                tracing::info!("one more line");
            }
            "panic" => {
                drop(std::thread::Builder::new().name("worker 3".to_owned()).spawn(|| panic!("the sum is odd")));
                std::thread::sleep(PATIENCE);
            }
            "exit handler" => {
                extern "C" fn handler() {
                    // SAFETY: it ends the process.
                    unsafe { libc::_exit(9) }
                }
                // SAFETY: the handler unwinds nowhere.
                assert_eq!(unsafe { libc::atexit(handler) }, 0);
                print!("a line without an end");
            }
            other => panic!("no such role: {other}"),
        }
        7
    })
}

fn many_lines() {
    let text = "x".repeat(1_000);
    (0..MANY).for_each(|line| tracing::info!("line {line} {text}"));
}

const MANY: usize = 10_000;

fn program(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role", "--nocapture"]).env("ROLE", role).env_remove("RUST_BACKTRACE").stdout(Stdio::null());
    command
}

/// Starts it with a pipe for standard error.
fn start(mut command: Command) -> (Child, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    (command.stderr(writer).spawn().unwrap(), reader)
}

fn status(child: &mut Child) -> Option<i32> {
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.code(),
            None if Instant::now() > until => {
                child.kill().unwrap();
                panic!("it does not end");
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn text(mut reader: PipeReader) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_work_goes_on_without_a_reader_of_the_log() {
    let (mut child, reader) = start(program("few lines"));
    drop(reader);
    assert_eq!(status(&mut child), Some(7));
}

#[test]
fn the_work_goes_on_with_a_closed_descriptor_and_a_full_disk() {
    for redirection in ["2>&-", "2>/dev/full"] {
        let script = format!("exec \"$0\" --exact role --nocapture {redirection}");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(std::env::current_exe().unwrap()).env("ROLE", "few lines").stdout(Stdio::null());
        assert_eq!(status(&mut command.spawn().unwrap()), Some(7), "{redirection}");
    }
}

#[test]
fn the_work_goes_on_while_nobody_reads_the_log() {
    let started = Instant::now();
    let (mut child, _reader) = start(program("many lines"));
    assert_eq!(status(&mut child), Some(7));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn lines_are_all_written_if_somebody_reads_them() {
    let (mut child, reader) = start(program("few lines"));
    assert_eq!(status(&mut child), Some(7));
    assert_eq!(text(reader).lines().filter(|line| line.contains(" line ")).count(), 20);
}

#[test]
fn the_number_of_lost_lines_is_logged() {
    let mark = std::env::temp_dir().join(format!("tidemark-process-{}", std::process::id()));
    let mut command = program("many lines, and more when a reader is there");
    command.env("MARK", &mark).stdin(Stdio::piped());
    let (mut child, reader) = start(command);
    let until = Instant::now() + PATIENCE;
    while !mark.exists() {
        assert!(Instant::now() < until, "its lines are not taken");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::remove_file(&mark).unwrap();
    let text = std::thread::spawn(move || text(reader));
    std::thread::sleep(Duration::from_millis(200));
    child.stdin.take().unwrap().write_all(b"x").unwrap();
    assert_eq!(status(&mut child), Some(7));
    let text = text.join().unwrap();
    let seen = text.lines().filter(|line| line.contains(" line ")).count();
    // A reader that is slow may be told in several lines.
    let told: Vec<&str> = text.lines().filter(|line| line.contains("log lines were lost")).collect();
    let count = |line: &&str| line.split("lines=").nth(1)?.split(' ').next()?.parse::<usize>().ok();
    let lost: usize = told.iter().map(|line| count(line).expect("a number")).sum();
    assert_eq!(lost, MANY - seen, "{seen} seen, {told:?}");
    assert!(text.trim_end().ends_with("one more line"), "{}", &text[text.len() - 200..]);
}

#[test]
fn a_panic_of_any_thread_ends_the_process() {
    let (mut child, reader) = start(program("panic"));
    assert_eq!(status(&mut child), Some(process::PANICKED));
    let text = text(reader);
    let line = text.lines().last().unwrap();
    assert!(line.contains("ERROR") && line.contains("worker 3") && line.contains("the sum is odd"), "{line}");

    let (mut child, reader) = start(program("panic"));
    drop(reader);
    assert_eq!(status(&mut child), Some(process::PANICKED));
}

#[test]
fn no_exit_handler_of_a_library_runs_at_the_end_and_all_output_is_written() {
    let output = program("exit handler").stdout(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "{text}");
    assert!(text.ends_with("a line without an end"), "{text}");
}

#[test]
fn the_soft_limit_of_open_files_is_raised() {
    let script = "ulimit -Sn 100; ulimit -Hn 300; exec \"$0\" --exact role --nocapture";
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(std::env::current_exe().unwrap()).env("ROLE", "few lines").stdout(Stdio::null());
    let (mut child, reader) = start(command);
    assert_eq!(status(&mut child), Some(7));
    let text = text(reader);
    assert!(text.contains("soft=Some(100) hard=Some(300)"), "{text}");
}
