//! Decides by its seed what is hit next, and does what an operator's supervisor does: starts again what ended.

use super::blows::{Blow, Deck};
use super::cluster::{Cluster, Ground, Shape};
use super::report::Report;
use super::say;
use super::vigil::Vigil;
use super::watcher::{Seen, Watcher};
use crate::producer::Delivered;
use crate::support::proxy::Proxy;
use crate::support::services::Services;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};
use tidemark_dataflow::oracle;
use tidemark_dataflow::rules::Rules;

/// Nothing may take longer than this: fresh rows after a blow, and the end of a process that is to end. The longest bound is that of a start
/// whose connection was forgotten on the way: Postgres keeps its lock for 60 s.
const FRESH_WITHIN: Duration = Duration::from_secs(75);
/// The bound that is promised, 25 s, and a moment.
pub const ENDS_WITHIN: Duration = Duration::from_secs(26);
const END_OF_LOG_WITHIN: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(10);
/// The storm ends once this many things are wrong.
const MOST_WRONG: usize = 20;

/// Error lines that are to be expected of a run that is hit.
const EXPECTED_ERRORS: [&str; 9] = [
    "another run of pipeline",
    "is gone;",
    "has said nothing for",
    "the plan could not be sent",
    "the store does not hold what this run",
    "the store went back",
    "records were judged by a clock",
    "a checkpoint cannot be used",
    "Error accepting connection: Too many open files",
];

/// What a director directs.
pub struct Storm<'a> {
    pub blows: usize,
    /// Families of blows, by commas; empty: all.
    pub families: &'a str,
    /// Records may expire.
    pub expires: bool,
    /// The pipeline's.
    pub rules: Rules,
    /// There is time for long pauses.
    pub long: bool,
    pub seed: u64,
    pub services: &'a Services,
    /// The way to Postgres.
    pub network: &'a Proxy,
    /// The database's URL at the server itself.
    pub store: &'a str,
    pub ground: &'a Ground,
    pub watcher: &'a Watcher,
    pub vigil: &'a Vigil,
    pub delivered: &'a Delivered,
}

/// A blow whose recovery is waited for.
struct Hurt {
    blow: Blow,
    since: Instant,
    /// Recovered when a later epoch than this...
    epoch: i64,
    /// ...of a later run than this, if it takes a new run...
    fence: Option<i64>,
    /// ...has committed all records that were there, by partition.
    ends: Vec<i64>,
}

pub struct Director<'a> {
    pub(super) storm: Storm<'a>,
    pub(super) cluster: Cluster,
    pub(super) report: Report,
    random: Xoshiro256PlusPlus,
    runs: usize,
    hurt: Option<Hurt>,
    wrong: Vec<String>,
    /// Records that have expired.
    pub(super) expired: oracle::Log,
}

impl<'a> Director<'a> {
    pub fn new(storm: Storm<'a>) -> Director<'a> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(storm.seed);
        let mut report = Report::default();
        let cluster = start(&mut random, storm.ground, 0, &mut report);
        Director { storm, random, cluster, runs: 0, hurt: None, report, wrong: Vec::new(), expired: oracle::Log::new() }
    }

    /// Deals as many blows as were asked for, until everything has recovered.
    pub fn rage(&mut self) {
        self.mend(|director| director.storm.watcher.seen().epoch > 0);
        let mut deck = Deck::new(self.storm.families, self.storm.expires);
        for number in 1..=self.storm.blows {
            let blow = deck.deal(&mut self.random);
            self.report.blow(blow.name());
            self.storm.vigil.strikes(blow.name());
            self.note(&format!("blow {number}: {}", blow.name()));
            self.strike(blow);
            if self.wrong.len() >= MOST_WRONG {
                break;
            }
            let (pause, recovered) = if self.one_in(4) { (self.millis(0..1_500), false) } else { (self.millis(0..2_500), true) };
            if recovered {
                self.mend(|director| director.hurt.is_none());
            }
            self.go_on_for(pause);
        }
        self.mend(|director| director.hurt.is_none());
    }

    /// Lets the run read to the log's end, and stops it.
    pub fn let_it_end(&mut self, client: &mut postgres::Client, ends: &BTreeMap<i32, i64>) {
        let until = Instant::now() + END_OF_LOG_WITHIN;
        loop {
            let rows = client.query("select partition, next_offset from progress_partitions", &[]).expect("progress");
            let next: BTreeMap<i32, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            if next == *ends {
                break;
            }
            if Instant::now() >= until {
                self.wrong.push(format!("it does not come to the end of the log: {next:?} of {ends:?}"));
                break;
            }
            self.tick();
        }
        self.stop();
    }

    /// Records that have expired.
    pub fn expired(&mut self) -> oracle::Log {
        std::mem::take(&mut self.expired)
    }

    pub fn report(self) -> (Report, Vec<String>) {
        (self.report, self.wrong)
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    pub(super) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    /// For whoever looks at the storm.
    pub(super) fn note(&self, text: &str) {
        say(&format!("{:>7.1} s  {text}\n", self.report.since_start().as_secs_f64()));
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.note(&format!("WRONG: {}", what.lines().next().unwrap_or_default()));
        self.wrong.push(what);
    }

    /// From now on fresh rows are waited for, perhaps those of a new run.
    pub(super) fn hurt(&mut self, blow: Blow, by_a_new_run: bool) {
        let Seen { epoch, fence, .. } = self.storm.watcher.seen();
        let ends = self.storm.delivered.ends();
        self.hurt = Some(Hurt { blow, since: Instant::now(), epoch, fence: by_a_new_run.then_some(fence), ends });
    }

    /// The store has gone back to this.
    pub(super) fn hurt_since(&mut self, blow: Blow, epoch: i64) {
        let ends = self.storm.delivered.ends();
        self.hurt = Some(Hurt { blow, since: Instant::now(), epoch, fence: None, ends });
    }

    pub(super) fn recovered(&self) -> bool {
        self.hurt.is_none()
    }

    pub(super) fn go_on_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.tick();
        }
    }

    /// Goes on until this is so. What does not mend by itself is killed and started again: one thing is wrong, and the storm goes on.
    pub(super) fn mend(&mut self, done: impl Fn(&Director<'_>) -> bool) {
        let started = Instant::now();
        while !done(self) {
            if started.elapsed() > FRESH_WITHIN {
                let what = self.hurt.take().map_or("its start", |hurt| hurt.blow.name());
                self.wrong(format!("no fresh rows within {FRESH_WITHIN:?} of {what}:\n{}", self.cluster.said()));
                self.cluster.signal(Signal::KILL);
                return;
            }
            self.tick();
        }
    }

    /// Looks whether all is well again, and starts again what ended.
    pub(super) fn tick(&mut self) {
        std::thread::sleep(TICK);
        let now = self.storm.watcher.seen();
        let read = |hurt: &Hurt| (0..).zip(&hurt.ends).all(|(partition, end)| now.next_offsets.get(&partition) >= Some(end));
        let recovered =
            |hurt: &mut Hurt| now.epoch > hurt.epoch && hurt.fence.is_none_or(|fence| now.fence > fence) && read(hurt);
        if let Some(Hurt { blow, since, .. }) = self.hurt.take_if(recovered) {
            self.report.recovery(blow.name(), since.elapsed());
        }
        if self.cluster.broken() {
            // If one dies before all have met, the others wait for it to be started again, for longer than this storm lasts.
            self.cluster.kill_those_who_wait();
            let running = self.cluster.ends_within(ENDS_WITHIN);
            if !running.is_empty() {
                self.wrong(format!("processes {running:?} go on for {ENDS_WITHIN:?} without the others"));
                self.cluster.signal(Signal::KILL);
            }
            let next = self.another();
            let old = std::mem::replace(&mut self.cluster, next);
            self.over(&old);
        }
    }

    /// A stop, after which all that was read is committed.
    pub(super) fn stop(&mut self) {
        let victim = self.below(self.cluster.processes.len());
        let asked = Instant::now();
        self.cluster.processes[victim].signal(Signal::TERM);
        let running = self.cluster.ends_within(FRESH_WITHIN);
        if running.is_empty() {
            self.report.obeyed(asked.elapsed());
        } else {
            self.wrong(format!("processes {running:?} do not stop within {FRESH_WITHIN:?}"));
        }
        let failed = self.cluster.processes.iter_mut().any(|process| !process.ended().is_some_and(|status| status.success()));
        if failed {
            self.wrong(format!("a run does not stop well:\n{}", self.cluster.said()));
        }
        let next = Cluster::none();
        let old = std::mem::replace(&mut self.cluster, next);
        self.over(&old);
    }

    /// The next run, in a shape of its own.
    pub(super) fn another(&mut self) -> Cluster {
        self.runs += 1;
        start(&mut self.random, self.storm.ground, self.runs, &mut self.report)
    }

    /// A run has ended: what it said is kept and looked at.
    pub(super) fn over(&mut self, old: &Cluster) {
        self.keep(old);
        let complaints = old.other_complaints(&EXPECTED_ERRORS);
        if !complaints.is_empty() {
            self.wrong(format!("a run ends with: {}", complaints.join("\n")));
        }
    }

    /// The same of a run that may have ended with any error.
    pub(super) fn keep(&mut self, old: &Cluster) {
        old.write_down(self.storm.ground);
        self.report.ended(old.replayed(), old.complains(EXPECTED_ERRORS[0]), retries(old));
    }
}

fn retries(cluster: &Cluster) -> usize {
    cluster.processes.iter().map(|process| process.said().matches("a commit failed; trying again").count()).sum()
}

fn start(random: &mut Xoshiro256PlusPlus, ground: &Ground, number: usize, report: &mut Report) -> Cluster {
    let shape = Shape { processes: random.random_range(1..=3), workers: random.random_range(1..=2) };
    report.run(shape.processes, shape.workers);
    Cluster::start(ground, shape, number)
}
