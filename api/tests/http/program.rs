//! The program itself: exit status, its one line on a bad setting, and the stop by signal.

use crate::support::{Row, TestStore, minute, row};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The program in an environment of these variables only, in a directory without data.
fn program(variables: &[(&str, &str)], directory: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark-api"));
    command.env_clear().current_dir(directory).env("API_ADDR", "127.0.0.1:0").envs(variables.iter().copied());
    command
}

/// Starts it, and reads its log until it listens.
fn start(mut command: Command) -> (Child, u16, BufReader<std::process::ChildStderr>) {
    let mut running = command.env("LOG_FORMAT", "json").stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(running.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
    }
    let port = line.split("127.0.0.1:").nth(1).unwrap().split(|c: char| !c.is_ascii_digit()).next().unwrap();
    (running, port.parse().unwrap(), log)
}

fn send(signal: &str, running: &Child) {
    assert!(Command::new("kill").args([signal, &running.id().to_string()]).status().unwrap().success());
}

/// Its exit status, if it ends in this time; else it is killed.
fn ended(running: &mut Child, longest: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    while started.elapsed() < longest {
        if let Some(status) = running.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    None
}

/// What it says when it ends by itself, which it does within 20 s.
fn output(mut command: Command) -> Output {
    let mut running = command.stderr(Stdio::piped()).spawn().unwrap();
    let status = ended(&mut running, Duration::from_secs(20)).expect("it ends by itself");
    let mut stderr = Vec::new();
    running.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    Output { status, stdout: Vec::new(), stderr }
}

/// The status of an answer to a request of its own connection; 0 for none.
fn status(port: u16, path: &str) -> u16 {
    let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) else { return 0 };
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    drop(write!(socket, "GET {path} HTTP/1.0\r\nhost: x\r\n\r\n"));
    let mut answer = String::new();
    drop(BufReader::new(socket).read_line(&mut answer));
    answer.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
}

fn sqlite() -> TestStore {
    let mut store = TestStore::sqlite();
    store.create_tables();
    store.write_progress(1, minute(20), "kafka:x");
    store
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
        ("DATABASE_URL", "postgres://me:hidden@h/db?sslmode=always", "verify-full"),
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

/// Whatever is going on, it ends in the time of a request and 3 s.
const LONGEST_STOP: Duration = Duration::from_secs(1 + 3);

#[test]
fn a_signal_ends_it_in_time_while_the_store_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // It accepts, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://me@{}/db", silent.local_addr().unwrap());
    for signal in ["-TERM", "-INT", "-HUP"] {
        let (mut running, port, _log) = start(program(&[("DATABASE_URL", &url), ("API_REQUEST_TIMEOUT", "1s")], &directory));
        let waiting: Vec<_> = (0..20).map(|_| std::thread::spawn(move || status(port, "/metrics?min_epoch=9"))).collect();
        std::thread::sleep(Duration::from_millis(300));
        let started = Instant::now();
        send(signal, &running);
        assert_eq!(
            ended(&mut running, LONGEST_STOP).and_then(|status| status.code()),
            Some(0),
            "{signal}: {:?}",
            started.elapsed()
        );
        waiting.into_iter().for_each(|answer| assert!(answer.join().is_ok()));
    }
}

#[test]
fn a_signal_ends_it_in_time_while_answers_are_not_taken() {
    let mut store = sqlite();
    let rows = (0..60_000).map(|ago| Row { start: minute(0) - ago * 60_000_000, ..row(0, "a stream", ago, 1, 1) });
    store.write(&rows.collect::<Vec<_>>());
    let directory = store.path().parent().unwrap().to_str().unwrap().to_owned();
    let other = tempfile::tempdir().unwrap();
    let (mut running, port, _log) = start(program(&[("DATA_DIR", &directory), ("API_REQUEST_TIMEOUT", "1s")], &other));
    let mut open = Vec::new();
    for path in ["/metrics?format=csv&to=2100-01-01T00:00:00Z", "/live", "/metrics?limit=5000&to=2100-01-01T00:00:00Z"] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert_ne!(socket.read(&mut [0; 64]).unwrap(), 0);
        open.push(socket);
    }
    // One that has said half of its request.
    open.push(TcpStream::connect(("127.0.0.1", port)).unwrap());
    open.last_mut().unwrap().write_all(b"GET /met").unwrap();
    let started = Instant::now();
    send("-TERM", &running);
    assert_eq!(ended(&mut running, LONGEST_STOP).and_then(|status| status.code()), Some(0), "{:?}", started.elapsed());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let store = sqlite();
    let directory = store.path().parent().unwrap().to_str().unwrap().to_owned();
    let other = tempfile::tempdir().unwrap();
    let (mut running, port, _log) = start(program(&[("DATA_DIR", &directory), ("API_REQUEST_TIMEOUT", "60s")], &other));
    let waiting = std::thread::spawn(move || status(port, "/metrics?min_epoch=9"));
    std::thread::sleep(Duration::from_millis(300));
    send("-TERM", &running);
    std::thread::sleep(Duration::from_millis(300));
    assert!(running.try_wait().unwrap().is_none(), "the request has not had its time");
    send("-TERM", &running);
    assert_eq!(ended(&mut running, Duration::from_secs(2)).and_then(|status| status.code()), Some(0));
    waiting.join().unwrap();
}

#[test]
fn whoever_reads_the_log_may_go_away() {
    let store = sqlite();
    let directory = store.path().parent().unwrap().to_str().unwrap().to_owned();
    let other = tempfile::tempdir().unwrap();
    let (mut running, port, log) = start(program(&[("DATA_DIR", &directory), ("RUST_LOG", "debug")], &other));
    drop(log);
    for path in ["/metrics", "/streams", "/health", "/prometheus", "/metrics?limit=0", "/nothing", "/metrics"] {
        assert_ne!(status(port, path), 0, "{path}");
    }
    assert!(running.try_wait().unwrap().is_none());
    send("-TERM", &running);
    assert_eq!(ended(&mut running, Duration::from_secs(5)).and_then(|status| status.code()), Some(0));
}

#[test]
fn more_clients_than_open_files_are_answered_in_their_turn() {
    let mut store = sqlite();
    store.write(&[row(2, "a", 1, 1, 1)]);
    let directory = store.path().parent().unwrap().to_str().unwrap().to_owned();
    let other = tempfile::tempdir().unwrap();
    let limited = |limit: u32| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit}; exec {}", env!("CARGO_BIN_EXE_tidemark-api"))]);
        command.env_clear().current_dir(&other).envs([("API_ADDR", "127.0.0.1:0"), ("DATA_DIR", directory.as_str())]);
        command
    };
    let refused = output(limited(40));
    assert_eq!(refused.status.code(), Some(2));
    assert!(line(&refused).contains("the limit of open files (ulimit -n) is 40"), "{}", line(&refused));
    let (mut running, port, _log) = start(limited(64));
    // Many stay: some are taken, the others are told.
    let live: Vec<_> = (0..60).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    live.iter().for_each(|mut socket| write!(socket, "GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap());
    // Two hundred ask at once, all kinds of questions.
    let ask =
        |number: usize| std::thread::spawn(move || status(port, ["/metrics", "/health", "/streams?limit=3", "/"][number % 4]));
    let asking: Vec<_> = (0..200).map(ask).collect();
    let answers: Vec<_> = asking.into_iter().map(|answer| answer.join().unwrap()).collect();
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    // Two hundred say nothing, and are sent away.
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let started = Instant::now();
    while status(port, "/health") != 200 {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not come back");
    }
    println!("/health is back after {:?}", started.elapsed());
    drop((live, silent));
    assert_eq!(status(port, "/metrics"), 200);
    assert!(running.try_wait().unwrap().is_none());
    send("-TERM", &running);
    assert!(ended(&mut running, Duration::from_secs(9)).is_some());
}

#[test]
fn a_pooler_before_postgres_is_refused_with_the_server_s_address() {
    let Some(mut store) = TestStore::postgres() else { return };
    store.create_tables();
    let server = store.url().split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    let directory = tempfile::tempdir().unwrap();
    for forgives in [false, true] {
        let port = pooler(server.clone(), forgives);
        let (user, place) = store.url().split_once('@').map(|(user, place)| (user.to_owned(), place.to_owned())).unwrap();
        let url = format!("{user}@127.0.0.1:{port}/{}?sslmode=disable", place.split_once('/').unwrap().1);
        let output = output(program(&[("DATABASE_URL", &url)], &directory));
        let line = line(&output);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.contains("connection pooler") && line.contains(&server) && line.lines().count() == 1, "{line}");
    }
}

/// As PgBouncer: refuses `options`, or leaves them out.
fn pooler(server: String, forgives: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map(Result::unwrap) {
            let mut length = [0; 4];
            client.read_exact(&mut length).unwrap();
            let mut startup = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
            client.read_exact(&mut startup).unwrap();
            let mut words: Vec<_> = startup[4..].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
            if let Some(place) = words.iter().position(|word| word == b"options") {
                if !forgives {
                    let text = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
                    let length = u32::try_from(text.len() + 4).unwrap().to_be_bytes();
                    client.write_all(&[b"E", &length[..], text].concat()).unwrap();
                    continue;
                }
                words.drain(place..place + 2);
            }
            let startup = [&startup[..4], &words.join(&0)].concat();
            let length = u32::try_from(startup.len() + 4).unwrap().to_be_bytes();
            let mut to = TcpStream::connect(&server).unwrap();
            to.write_all(&[&length[..], &startup].concat()).unwrap();
            for (mut from, mut to) in [(client.try_clone().unwrap(), to.try_clone().unwrap()), (to, client)] {
                std::thread::spawn(move || {
                    drop(std::io::copy(&mut from, &mut to));
                    drop(to.shutdown(std::net::Shutdown::Both));
                });
            }
        }
    });
    port
}
