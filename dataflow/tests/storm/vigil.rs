//! Asks whether somebody says so when the pipeline stands still: in a partition, records wait and nothing of it is committed.

use super::producer::Delivered;
use super::watcher::Watcher;
use crate::support::process::{Process, Said};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often `/health` is asked.
const EVERY: Duration = Duration::from_millis(250);
/// How soon a standstill must be told, with what it takes to ask.
pub const TOLD_WITHIN: Duration = Duration::from_millis(10_500);
/// An api that does not answer says nothing.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Who said so, how long after the standstill's begin.
#[derive(Clone, Copy, Debug)]
struct Standstill {
    since: Instant,
    /// By `/health`: a status other than 200, or a `trouble`.
    by_health: Option<Duration>,
    /// By a line of the log, which is a warning or an error.
    by_log: Option<Duration>,
}

/// The longest standstills by the kind of the last blow, in all and those not told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Longest {
    pub standstill: Duration,
    /// Told neither by `/health` nor by the log.
    pub untold: Duration,
    pub untold_by_health: Duration,
    pub untold_by_log: Duration,
}

pub struct Vigil {
    stop: Arc<AtomicBool>,
    /// The kind of the last blow.
    blow: Arc<Mutex<&'static str>>,
    thread: std::thread::JoinHandle<BTreeMap<&'static str, Longest>>,
    api: Process,
}

impl Vigil {
    /// With an api of its own on this store.
    pub fn start(store: &str, dir: &Path, delivered: &Arc<Delivered>, said: &Arc<Mutex<Vec<Said>>>, watcher: &Watcher) -> Vigil {
        let address = crate::support::brokers::free_addresses(1).remove(0);
        let settings =
            [("API_ADDR", address.clone()), ("DATABASE_URL", store.to_owned()), ("DATA_DIR", dir.display().to_string())];
        let api = Process::of_program(&api_program(), &[], &settings);
        let (stop, blow) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new("its start")));
        let (stopped, of_thread, delivered, said) =
            (Arc::clone(&stop), Arc::clone(&blow), Arc::clone(delivered), Arc::clone(said));
        let mut ledger = Ledger::default();
        let seen = watcher.glimpse();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let asked = Instant::now();
                let health = tells(&address);
                let next = seen().next_offsets;
                let complained = said.lock().expect("nobody panics while holding it").iter().filter_map(Said::complained).max();
                let blow = *of_thread.lock().expect("nobody panics while holding it");
                ledger.look(blow, &delivered.ends(), &next, health, complained);
                std::thread::sleep(EVERY.saturating_sub(asked.elapsed()));
            }
            ledger.longest
        });
        Vigil { stop, blow, thread, api }
    }

    /// From now on standstills are of this kind.
    pub fn strikes(&self, blow: &'static str) {
        *self.blow.lock().expect("nobody panics while holding it") = blow;
    }

    /// The longest standstills by kind of blow, and what the api said.
    pub fn stop(self) -> (BTreeMap<&'static str, Longest>, String) {
        self.stop.store(true, Ordering::Release);
        (self.thread.join().expect("it only looks"), self.api.said())
    }
}

/// Beside our own program; built if it is not there.
fn api_program() -> std::path::PathBuf {
    let dir = Path::new(env!("CARGO_BIN_EXE_tidemark-dataflow")).parent().expect("a directory");
    let program = dir.join("tidemark-api");
    if !program.exists() {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "tidemark-api"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if dir.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "the api is built");
    }
    program
}

/// Whether `/health` says that something is wrong.
fn tells(address: &str) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut api = TcpStream::connect_timeout(&address.parse().expect("IP:PORT"), ANSWERS_WITHIN)?;
        api.set_read_timeout(Some(ANSWERS_WITHIN))?;
        api.write_all(b"GET /health HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        api.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let Ok(answer) = ask() else { return false };
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    head.starts_with("HTTP/1.1 503") || body["trouble"].as_str().is_some_and(|trouble| !trouble.is_empty())
}

#[derive(Default)]
struct Ledger {
    /// By partition: its next offset, and since when that has not moved although records wait.
    partitions: BTreeMap<i32, (i64, Standstill)>,
    longest: BTreeMap<&'static str, Longest>,
}

impl Ledger {
    fn look(&mut self, blow: &'static str, ends: &[i64], next: &BTreeMap<i32, i64>, health: bool, complained: Option<Instant>) {
        for (&partition, &next) in next {
            let end = ends[usize::try_from(partition).expect("not negative")];
            let now = Standstill { since: Instant::now(), by_health: None, by_log: None };
            let (before, standstill) = self.partitions.entry(partition).or_insert((next, now));
            if *before != next || next >= end {
                (*before, *standstill) = (next, now);
                continue;
            }
            let lasts = standstill.since.elapsed();
            if health {
                standstill.by_health.get_or_insert(lasts);
            }
            if let Some(at) = complained.and_then(|at| at.checked_duration_since(standstill.since)) {
                standstill.by_log.get_or_insert(at);
            }
            let longest = self.longest.entry(blow).or_default();
            let untold = |told: Option<Duration>| told.unwrap_or(lasts);
            longest.standstill = longest.standstill.max(lasts);
            longest.untold_by_health = longest.untold_by_health.max(untold(standstill.by_health));
            longest.untold_by_log = longest.untold_by_log.max(untold(standstill.by_log));
            longest.untold = longest.untold.max(untold(standstill.by_health).min(untold(standstill.by_log)));
        }
    }
}
