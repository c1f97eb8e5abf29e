//! Several processes of the built program as one cluster: the rows are the oracle's, a death or a misfit ends all with one clear
//! line, a stop ends all well.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::logs::{Event, PARTITIONS, assert_same, events, expected, oracle_log, read_sqlite, width, write_file_log};
use tidemark_model::file_log::write_line;

/// How long anything may take here.
const LONG: Duration = Duration::from_secs(60);

/// A directory with a log and a hostfile; what a cluster needs.
struct Ground {
    dir: tempfile::TempDir,
    addresses: Vec<String>,
}

impl Ground {
    /// For this many processes, on ports that are free now.
    fn new(processes: usize) -> Ground {
        let dir = tempfile::tempdir().expect("a directory");
        let listeners: Vec<TcpListener> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let addresses: Vec<String> = listeners.iter().map(|port| port.local_addr().expect("it is bound").to_string()).collect();
        std::fs::write(dir.path().join("hosts"), addresses.join("\n")).expect("a hostfile");
        Ground { dir, addresses }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_log(&self, events: &[Event]) {
        write_file_log(&self.path("log"), "stream.events", events);
    }

    /// Starts one process of the cluster. `more` goes before the settings that all share.
    fn start(&self, process: usize, more: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark-dataflow"));
        command.arg("run").args(more);
        if !more.contains(&"--workers") {
            command.args(["--workers", "1"]);
        }
        command
            .args(["--processes", &self.addresses.len().to_string(), "--process", &process.to_string()])
            .args(["--hostfile", &self.path("hosts").display().to_string(), "--metrics-addr", "off"])
            .env_clear()
            .env("DATA_DIR", self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let to = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                to.lock().expect("nobody panics while holding it").push(line);
            }
        });
        Process { child, lines }
    }

    fn store(&self) -> PathBuf {
        self.path("tidemark.db")
    }
}

/// A running process and what it said.
struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn said(&self) -> String {
        self.lines.lock().expect("nobody panics while holding it").join("\n")
    }

    fn wait_until_it_says(&mut self, what: &str) {
        let until = Instant::now() + LONG;
        while !self.said().contains(what) {
            let ended = self.child.try_wait().expect("it is ours");
            assert!(ended.is_none() && Instant::now() < until, "{ended:?}, without {what:?}:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + LONG;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                // The rest of what it said may be on its way.
                std::thread::sleep(Duration::from_millis(50));
                return status;
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ends_well(&mut self) {
        let status = self.end();
        assert!(status.success(), "{status}:\n{}", self.said());
    }

    /// It ends with status 1 (and not by a signal, as an abort would), one error line, and no word of a panic.
    fn ends_with(&mut self, line: &str) {
        let status = self.end();
        let said = self.said();
        assert_eq!(status.code(), Some(1), "{status}:\n{said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.contains("ERROR")).collect();
        assert!(errors.len() == 1 && errors[0].contains(line) && !said.contains("panicked"), "expected {line:?}:\n{said}");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rows(path: &Path) -> usize {
    let connection = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
    let count = connection.and_then(|store| store.query_row("select count(*) from stream_metrics_minute", [], |row| row.get(0)));
    count.map_or(0, |rows: i64| usize::try_from(rows).expect("a count"))
}

fn wait_for_rows(path: &Path, more_than: usize) {
    let until = Instant::now() + LONG;
    while rows(path) <= more_than {
        assert!(Instant::now() < until, "no rows");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The log's events as the oracle sees them after a run to its end.
fn run_to_end(processes: usize, workers: &str) {
    let ground = Ground::new(processes);
    let events = events();
    ground.write_log(&events);
    let mut all: Vec<Process> =
        (0..processes).map(|process| ground.start(process, &["--until-end", "--workers", workers])).collect();
    all.iter_mut().for_each(Process::ends_well);
    assert_same(&read_sqlite(&ground.store()), &expected(&oracle_log(&events, width)));
}

#[test]
fn two_processes_of_two_workers_give_what_the_oracle_says() {
    run_to_end(2, "2");
}

#[test]
fn three_processes_give_what_the_oracle_says() {
    run_to_end(3, "1");
}

/// Also shows what a death in the midst costs: nothing, once all are started again.
#[test]
fn a_killed_process_ends_the_others_at_once_and_the_next_run_goes_on() {
    let ground = Ground::new(3);
    let events = events();
    let (first, mut rest) = events.split_at(events.len() / 2);
    ground.write_log(first);
    for victim in [2, 0, 1] {
        let mut all: Vec<Process> = (0..3).map(|process| ground.start(process, &[])).collect();
        all.iter_mut().for_each(|process| process.wait_until_it_says("took over the pipeline"));
        wait_for_rows(&ground.store(), 0);
        // More comes while they run, so that it hits them at work.
        let (now, later) = rest.split_at(2_000);
        rest = later;
        append(&ground, now);
        all[victim].signal("KILL");
        let killed = Instant::now();
        let line = format!("process {victim} of the cluster ({}) is gone;", ground.addresses[victim]);
        for (process, other) in all.iter_mut().enumerate().filter(|(process, _)| *process != victim) {
            other.ends_with(&line);
            assert!(killed.elapsed() < Duration::from_secs(1), "process {process} took {:?}", killed.elapsed());
        }
    }
    append(&ground, rest);
    let mut all: Vec<Process> = (0..3).map(|process| ground.start(process, &["--until-end"])).collect();
    all.iter_mut().for_each(Process::ends_well);
    assert_same(&read_sqlite(&ground.store()), &expected(&oracle_log(&events, width)));
}

/// Writes more events behind those that are there.
fn append(ground: &Ground, events: &[Event]) {
    for partition in 0..PARTITIONS {
        let mut lines = Vec::new();
        for event in events.iter().filter(|event| event.partition == partition) {
            write_line(event.time_ms.cast_unsigned(), &event.payload, &mut lines).expect("no line end in it");
        }
        let path = ground.path("log").join("stream.events").join(format!("{partition}.log"));
        std::fs::OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(&lines)).expect("a file");
    }
}

#[test]
fn a_stop_of_one_stops_all_and_everything_is_committed() {
    let ground = Ground::new(3);
    let events = events();
    ground.write_log(&events[..20_000]);
    let mut all: Vec<Process> = (0..3).map(|process| ground.start(process, &[])).collect();
    wait_for_rows(&ground.store(), 0);
    all[1].signal("TERM");
    for process in &mut all {
        process.ends_well();
        let said = process.said();
        assert!(said.contains("stopped; everything that was read is committed") && !said.contains("gone"), "{said}");
    }
    // A supervisor tells all of them: that is one stop, and no second signal that ends them by force.
    let mut all: Vec<Process> = (0..3).map(|process| ground.start(process, &[])).collect();
    all.iter_mut().for_each(|process| process.wait_until_it_says("took over the pipeline"));
    for process in &all {
        process.signal("TERM");
        std::thread::sleep(Duration::from_millis(5));
    }
    all.iter_mut().for_each(Process::ends_well);
}

#[test]
fn strangers_on_the_port_harm_nobody() {
    let ground = Ground::new(2);
    let events = events();
    ground.write_log(&events[..20_000]);
    let mut zero = ground.start(0, &[]);
    let stranger = |bytes: &[u8]| {
        let until = Instant::now() + LONG;
        loop {
            match TcpStream::connect(&ground.addresses[0]).and_then(|mut stream| stream.write_all(bytes).map(|()| stream)) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    // What timely itself would take for process 1's greeting, and for one that ends its start.
    let _silent = [stranger(&[0, 0, 0, 0, 0, 0, 0, 1]), stranger(b""), stranger(b"GET / HTTP/1.1\r\n\r\n")];
    zero.wait_until_it_says("dropped a connection from");
    let mut one = ground.start(1, &[]);
    wait_for_rows(&ground.store(), 0);
    // Once all are there nobody listens any more.
    assert!(TcpStream::connect(&ground.addresses[0]).is_err());
    zero.signal("TERM");
    zero.ends_well();
    one.ends_well();
}

#[test]
fn processes_that_differ_are_refused_and_the_reason_names_both_values() {
    let cases: [(&[&str], &str, &str); 3] = [
        (&["--workers", "2"], "--workers 2", "--workers 1"),
        (&["--pipeline", "other"], "PIPELINE other", "PIPELINE tidemark"),
        (&["--watermark", "1m"], "lateness=60000000us", "lateness=600000000us"),
    ];
    for (more, theirs, ours) in cases {
        let ground = Ground::new(2);
        let (mut zero, mut one) = (ground.start(0, &[]), ground.start(1, more));
        zero.ends_with(theirs);
        one.ends_with(ours);
        assert!(zero.said().contains(ours) && one.said().contains(theirs), "{}\n{}", zero.said(), one.said());
    }
}

#[test]
fn who_is_not_there_in_time_is_named_and_a_failed_process_says_why() {
    let ground = Ground::new(2);
    let mut zero = ground.start(0, &["--wait", "300ms"]);
    zero.ends_with(&format!("waited 300ms for process 1 of the cluster ({})", ground.addresses[1]));
    // There is no log: process 0 finds out, and process 1 hears of it.
    let (mut zero, mut one) = (ground.start(0, &["--wait", "2s"]), ground.start(1, &["--wait", "2s"]));
    zero.ends_with("no such topic");
    one.ends_with(&format!("process 0 of the cluster ({}) failed: ", ground.addresses[0]));
    assert!(one.said().contains("no such topic"), "{}", one.said());
}

#[test]
fn a_place_that_cannot_be_is_refused() {
    for (arguments, expected) in [
        (&["--processes", "2", "--process", "2"][..], "allowed are 0 to 1"),
        (&["--processes", "2", "--hostfile", "/no/such/file"], "/no/such/file"),
        (&["--process", "1"], "allowed are 0 to 0"),
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_tidemark-dataflow")).arg("run").args(arguments).env_clear().output();
        let run = run.expect("the program starts");
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success() && said.contains(expected), "{said}");
    }
}
