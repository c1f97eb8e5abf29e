//! One run of the built program, as one process or several.

use crate::support::brokers::free_addresses;
use crate::support::clock::{Clock, Shim};
use crate::support::parts::needed;
use crate::support::process::{Process, Said};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Processes, and workers in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    pub processes: usize,
    pub workers: usize,
}

/// Where runs find what they need.
pub struct Ground {
    pub dir: PathBuf,
    pub settings: Vec<(&'static str, String)>,
    /// None: processes go by the machine's clock.
    pub shim: Option<Shim>,
    /// What all processes of all runs say.
    pub said: Arc<Mutex<Vec<Said>>>,
}

impl Ground {
    pub fn new(dir: PathBuf, settings: &[(&'static str, String)], shim: Option<Shim>) -> Ground {
        Ground { dir, settings: settings.to_vec(), shim, said: Arc::default() }
    }
}

/// A run.
pub struct Cluster {
    pub number: usize,
    pub processes: Vec<Process>,
    /// Of each process, where metrics are served.
    pub metrics: Vec<String>,
    /// Of each process, if they have clocks of their own.
    pub clocks: Vec<Clock>,
}

impl Cluster {
    /// Starts all its processes.
    pub fn start(ground: &Ground, shape: Shape, number: usize) -> Cluster {
        let hosts = ground.dir.join(format!("hosts.{number}"));
        std::fs::write(&hosts, free_addresses(shape.processes).join("\n")).expect("a hostfile");
        let metrics = free_addresses(shape.processes);
        let clock = |shim: &Shim| (0..shape.processes).map(|process| shim.clock(&format!("{number}.{process}"))).collect();
        let clocks: Vec<Clock> = ground.shim.as_ref().map_or_else(Vec::new, clock);
        let start = |process: usize| {
            let mut args = vec!["--workers".to_owned(), shape.workers.to_string()];
            args.extend(["--metrics-addr".to_owned(), metrics[process].clone()]);
            if shape.processes > 1 {
                args.extend(["--processes", &shape.processes.to_string(), "--process", &process.to_string()].map(str::to_owned));
                args.extend(["--hostfile".to_owned(), hosts.display().to_string()]);
            }
            let mut settings = ground.settings.clone();
            settings.extend(clocks.get(process).map(Clock::settings).into_iter().flatten());
            Process::start(&args, &settings)
        };
        let processes: Vec<Process> = (0..shape.processes).map(start).collect();
        ground.said.lock().expect("nobody panics while holding it").extend(processes.iter().map(Process::listen));
        Cluster { number, processes, metrics, clocks }
    }

    /// No run.
    pub fn none() -> Cluster {
        Cluster { number: 0, processes: Vec::new(), metrics: Vec::new(), clocks: Vec::new() }
    }

    /// Whether it may write: its first process has taken the token.
    pub fn took_over(&self) -> bool {
        self.processes[0].said().contains(TOOK_OVER)
    }

    /// Whether it has replayed what the store holds, and goes on from there.
    pub fn live(&self) -> bool {
        self.processes[0].said().contains(LIVE)
    }

    /// Offsets that it replayed at its start.
    pub fn replayed(&self) -> u64 {
        let said = self.processes[0].said();
        let line = said.lines().find(|line| line.contains(TOOK_OVER));
        let number =
            line.and_then(|line| line.split("to_replay=").nth(1)).map(|rest| rest.split_whitespace().next().unwrap_or(rest));
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    pub fn signal(&mut self, signal: Signal) {
        self.processes.iter_mut().for_each(|process| process.signal(signal));
    }

    /// Kills those that have not met the others.
    pub fn kill_those_who_wait(&mut self) {
        let waits = |process: &&mut Process| !process.said().contains("all processes of the cluster are there");
        self.processes.iter_mut().filter(waits).for_each(|process| process.signal(Signal::KILL));
    }

    /// Whether any process has ended.
    pub fn broken(&mut self) -> bool {
        self.processes.iter_mut().any(|process| process.ended().is_some())
    }

    /// The processes that still run after so long.
    pub fn ends_within(&mut self, time: Duration) -> Vec<usize> {
        let ends = |(index, process): (usize, &mut Process)| process.ends_within(time).is_none().then_some(index);
        self.processes.iter_mut().enumerate().filter_map(ends).collect()
    }

    /// Whether any of its error lines says this.
    pub fn complains(&self, what: &str) -> bool {
        self.processes.iter().any(|process| process.errors().iter().any(|line| line.contains(what)))
    }

    /// Error lines that say none of this.
    pub fn other_complaints(&self, expected: &[&str]) -> Vec<String> {
        let errors = self.processes.iter().flat_map(Process::errors);
        errors.filter(|line| !expected.iter().any(|expected| line.contains(expected))).collect()
    }

    /// All that its processes said.
    pub fn said(&self) -> String {
        let said: Vec<String> = self.processes.iter().map(Process::said).collect();
        said.join("\n--\n")
    }

    /// Keeps what its processes said.
    pub fn write_down(&self, ground: &Ground) {
        for (index, process) in self.processes.iter().enumerate() {
            let path = ground.dir.join(format!("run.{}.{index}.log", self.number));
            std::fs::write(path, process.said()).expect("a file");
        }
    }
}

const LIVE: &str = "everything that the store holds is replayed";
const TOOK_OVER: &str = "took over the pipeline";

/// What the checkpoints need that the last commit names.
pub fn needed_by_checkpoints(client: &mut postgres::Client) -> BTreeSet<String> {
    let json: String = client.query_one("select checkpoints::text from progress", &[]).expect("progress").get(0);
    needed(&json)
}
