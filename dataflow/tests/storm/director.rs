//! Decides by its seed what is hit next, and does what an operator's supervisor does: starts again what ended.

use super::cluster::{Cluster, Ground, Shape};
use super::report::Report;
use super::watcher::{Seen, Watcher};
use crate::support::proxy::{Proxy, Way};
use crate::support::services::{Service, Services};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Nothing may take longer than this: a run without a commit, a process that does not end.
const FRESH_WITHIN: Duration = Duration::from_secs(60);
const ENDS_WITHIN: Duration = Duration::from_secs(20);
const END_OF_LOG_WITHIN: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(10);

/// What a run may end with.
const FENCED: &str = "another run of pipeline";
const GONE: &str = "is gone;";
const EXPECTED_ENDS: [&str; 3] = [FENCED, GONE, "the plan could not be sent"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    OneProcess,
    AllProcesses,
    Broker,
    Postgres,
    Cut,
    Stall,
    Zombie,
    Rival,
    Stop,
}

impl Blow {
    fn name(self) -> &'static str {
        match self {
            Blow::OneProcess => "kill -9 of one process",
            Blow::AllProcesses => "kill -9 of all processes",
            Blow::Broker => "kill -9 of the broker",
            Blow::Postgres => "crash of Postgres",
            Blow::Cut => "network of Postgres cut",
            Blow::Stall => "network of Postgres stalled",
            Blow::Zombie => "paused, replaced, woken",
            Blow::Rival => "second run by mistake",
            Blow::Stop => "stop and start in another shape",
        }
    }

    /// Whether it counts as one of the kills that were asked for.
    fn kills(self) -> bool {
        matches!(self, Blow::OneProcess | Blow::AllProcesses | Blow::Broker | Blow::Postgres)
    }

    /// How often it is dealt, of all.
    const WEIGHTS: [(Blow, u32); 9] = [
        (Blow::OneProcess, 38),
        (Blow::AllProcesses, 10),
        (Blow::Broker, 7),
        (Blow::Postgres, 12),
        (Blow::Cut, 8),
        (Blow::Stall, 8),
        (Blow::Zombie, 7),
        (Blow::Rival, 5),
        (Blow::Stop, 5),
    ];
}

/// What a director directs.
pub struct Storm<'a> {
    pub kills: usize,
    pub seed: u64,
    pub services: &'a Services,
    pub network: &'a Proxy,
    pub ground: &'a Ground,
    pub watcher: &'a Watcher,
}

/// A blow whose recovery is waited for.
struct Hurt {
    blow: Blow,
    since: Instant,
    seen: Seen,
    /// Recovered only when a new run has committed.
    by_a_new_run: bool,
}

pub struct Director<'a> {
    storm: Storm<'a>,
    random: Xoshiro256PlusPlus,
    cluster: Cluster,
    runs: usize,
    kills: usize,
    hurt: Option<Hurt>,
    report: Report,
    wrong: Vec<String>,
}

impl<'a> Director<'a> {
    pub fn new(storm: Storm<'a>) -> Director<'a> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(storm.seed);
        let mut report = Report::default();
        let cluster = start(&mut random, storm.ground, 0, &mut report);
        Director { storm, random, cluster, runs: 0, kills: 0, hurt: None, report, wrong: Vec::new() }
    }

    /// Deals blows until there were as many kills as were asked for, and everything has recovered.
    pub fn rage(&mut self) {
        self.mend(|director| director.storm.watcher.seen().epoch > 0);
        // The first of each kind comes early, so that a short storm has them too.
        let mut first = vec![Blow::Postgres, Blow::Zombie, Blow::Broker, Blow::Rival, Blow::Cut, Blow::Stall];
        while self.kills < self.storm.kills && self.wrong.is_empty() {
            let blow = if first.is_empty() || self.one_in(2) { self.deal() } else { first.remove(0) };
            self.strike(blow);
            let (pause, recovered) = if self.one_in(3) { (self.up_to(1_500), false) } else { (self.up_to(2_500), true) };
            if recovered {
                self.mend(|director| director.hurt.is_none());
            }
            let until = Instant::now() + pause;
            self.mend(|_| Instant::now() >= until);
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

    pub fn report(self) -> (Report, Vec<String>) {
        (self.report, self.wrong)
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_range(0..n) == 0
    }

    fn up_to(&mut self, millis: u64) -> Duration {
        Duration::from_millis(self.random.random_range(0..millis))
    }

    fn deal(&mut self) -> Blow {
        let total: u32 = Blow::WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.random_range(0..total);
        for (blow, weight) in Blow::WEIGHTS {
            if left < weight {
                return blow;
            }
            left -= weight;
        }
        unreachable!("the weights add up")
    }

    fn strike(&mut self, blow: Blow) {
        // A run that has not begun cannot be paused in the midst, and a second one would simply be the first.
        if matches!(blow, Blow::Zombie | Blow::Rival | Blow::Stop) {
            self.mend(|director| director.cluster.took_over());
        }
        self.report.blow(blow.name());
        self.kills += usize::from(blow.kills());
        match blow {
            Blow::OneProcess => {
                let victim = self.random.random_range(0..self.cluster.processes.len());
                self.cluster.processes[victim].signal(Signal::KILL);
                self.hurt(blow, true);
            }
            Blow::AllProcesses => {
                self.cluster.signal(Signal::KILL);
                self.hurt(blow, true);
            }
            Blow::Broker => self.outage(blow, Service::Kafka),
            Blow::Postgres => self.outage(blow, Service::Postgres),
            Blow::Cut => {
                if self.one_in(2) {
                    self.storm.network.cut();
                } else {
                    self.storm.network.set(Way::Closed);
                    let closed = self.up_to(3_000);
                    self.go_on_for(closed);
                    self.storm.network.set(Way::Open);
                }
                self.hurt(blow, false);
            }
            Blow::Stall => {
                self.storm.network.set(Way::Stalled);
                let stalled = self.up_to(5_000);
                self.go_on_for(stalled);
                self.storm.network.set(Way::Open);
                // What was on its way arrives late, or never.
                if self.one_in(2) {
                    self.storm.network.cut();
                }
                self.hurt(blow, false);
            }
            Blow::Zombie => self.zombie(blow),
            Blow::Rival => {
                let successor = self.another();
                let old = std::mem::replace(&mut self.cluster, successor);
                self.hurt(blow, true);
                self.mend(|director| director.hurt.is_none());
                self.must_be_fenced(old, "a run whose pipeline a second one took", &[FENCED]);
            }
            Blow::Stop => {
                self.stop();
                self.cluster = self.another();
                self.hurt(blow, true);
            }
        }
    }

    /// The whole run sleeps, or its first process does while the others are killed; another takes over; it wakes.
    fn zombie(&mut self, blow: Blow) {
        // What is left of a run may hear first that the others are gone.
        let alone = self.one_in(2);
        let says = if alone { &[FENCED, GONE][..] } else { &[FENCED] };
        if !alone {
            self.cluster.signal(Signal::STOP);
        } else {
            let (first, others) = self.cluster.processes.split_first_mut().expect("at least one process");
            first.signal(Signal::STOP);
            others.iter_mut().for_each(|other| other.signal(Signal::KILL));
        }
        let successor = self.another();
        let mut old = std::mem::replace(&mut self.cluster, successor);
        self.hurt(blow, true);
        self.mend(|director| director.hurt.is_none());
        let pause = self.up_to(1_000);
        self.go_on_for(pause);
        old.signal(Signal::CONT);
        self.must_be_fenced(old, "a zombie", says);
    }

    /// A run that was replaced ends by itself, soon, and says why.
    fn must_be_fenced(&mut self, mut old: Cluster, who: &str, says: &[&str]) {
        let running = old.ends_within(ENDS_WITHIN);
        if !running.is_empty() {
            self.wrong.push(format!("{who} goes on for {ENDS_WITHIN:?}: its processes {running:?}"));
        } else if !says.iter().any(|what| old.complains(what)) {
            let said: Vec<String> = old.processes.iter().map(|process| process.said()).collect();
            self.wrong.push(format!("{who} does not say that another took over:\n{}", said.join("\n--\n")));
        }
        self.over(&old);
    }

    /// Crashes a service and brings it back after a while; the supervisor goes on meanwhile.
    fn outage(&mut self, blow: Blow, service: Service) {
        let away = self.up_to(2_000);
        let back = AtomicBool::new(false);
        let services = self.storm.services;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                services.crash(service);
                std::thread::sleep(away);
                services.revive(service);
                back.store(true, Ordering::Release);
            });
            while !back.load(Ordering::Acquire) {
                // A run dies now and then while the service is away.
                if self.one_in(400) {
                    self.report.blow(Blow::OneProcess.name());
                    self.kills += 1;
                    let victim = self.random.random_range(0..self.cluster.processes.len());
                    self.cluster.processes[victim].signal(Signal::KILL);
                }
                self.tick();
            }
        });
        self.hurt(blow, false);
    }

    fn hurt(&mut self, blow: Blow, by_a_new_run: bool) {
        self.hurt = Some(Hurt { blow, since: Instant::now(), seen: self.storm.watcher.seen(), by_a_new_run });
    }

    fn go_on_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.tick();
        }
    }

    /// Goes on until this is so.
    fn mend(&mut self, done: impl Fn(&Director<'_>) -> bool) {
        let started = Instant::now();
        while !done(self) {
            if started.elapsed() > FRESH_WITHIN {
                let what = self.hurt.as_ref().map_or("its start", |hurt| hurt.blow.name());
                let said: Vec<String> = self.cluster.processes.iter().map(|process| process.said()).collect();
                self.wrong.push(format!("no fresh rows within {FRESH_WITHIN:?} of {what}:\n{}", said.join("\n--\n")));
                self.hurt = None;
                return;
            }
            self.tick();
        }
    }

    /// Looks whether all is well again, and starts again what ended.
    fn tick(&mut self) {
        std::thread::sleep(TICK);
        let now = self.storm.watcher.seen();
        if let Some(Hurt { blow, since, .. }) =
            self.hurt.take_if(|hurt| now.epoch > hurt.seen.epoch && (!hurt.by_a_new_run || now.fence > hurt.seen.fence))
        {
            self.report.recovery(blow.name(), since.elapsed());
        }
        if self.cluster.broken() {
            // If one dies before all have met, the others wait for it to be started again, for longer than this storm lasts.
            self.cluster.kill_those_who_wait();
            let running = self.cluster.ends_within(ENDS_WITHIN);
            if !running.is_empty() {
                self.wrong.push(format!("processes {running:?} go on for {ENDS_WITHIN:?} without the others"));
                self.cluster.signal(Signal::KILL);
            }
            let next = self.another();
            let old = std::mem::replace(&mut self.cluster, next);
            self.over(&old);
        }
    }

    /// A stop, after which all that was read is committed.
    fn stop(&mut self) {
        let victim = self.random.random_range(0..self.cluster.processes.len());
        self.cluster.processes[victim].signal(Signal::TERM);
        let running = self.cluster.ends_within(FRESH_WITHIN);
        if !running.is_empty() {
            self.wrong.push(format!("processes {running:?} do not stop within {FRESH_WITHIN:?}"));
        }
        let failed = self.cluster.processes.iter_mut().any(|process| !process.ended().is_some_and(|status| status.success()));
        if failed {
            let said: Vec<String> = self.cluster.processes.iter().map(|process| process.said()).collect();
            self.wrong.push(format!("a run does not stop well:\n{}", said.join("\n--\n")));
        }
        let next = Cluster::none();
        let old = std::mem::replace(&mut self.cluster, next);
        self.over(&old);
    }

    /// The next run, in a shape of its own.
    fn another(&mut self) -> Cluster {
        self.runs += 1;
        start(&mut self.random, self.storm.ground, self.runs, &mut self.report)
    }

    /// A run has ended: what it said is kept and looked at.
    fn over(&mut self, old: &Cluster) {
        old.write_down(self.storm.ground);
        self.report.ended(old.replayed(), old.complains(FENCED), retries(old));
        let complaints = old.other_complaints(&EXPECTED_ENDS);
        if !complaints.is_empty() {
            self.wrong.push(format!("a run ends with: {}", complaints.join("\n")));
        }
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
