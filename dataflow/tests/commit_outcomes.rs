//! Commits to a real Postgres whose outcome nobody hears, that run into locks, or whose connection is ended: each is applied once,
//! the sources wait meanwhile, and nothing waits for ever.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::logs::{Event, PARTITIONS, events, oracle_log, required};
use support::proxy::{Proxy, Way};
use support::tables::Found;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::clock::Clock;
use tidemark_dataflow::cluster::{self, Options, RunError};
use tidemark_dataflow::oracle;
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::postgres::PostgresStore;
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_dataflow::telemetry::Metrics;
use tidemark_model::Micros;

/// Written over some seconds, so that there are many commits.
const EVENTS: usize = 24_000;
const AT_ONCE: usize = 100;
const PAUSE: Duration = Duration::from_millis(25);
/// How long a run may take.
const LONG: Duration = Duration::from_secs(60);

/// A database of its own, the way to it, and a log.
struct Ground {
    server: String,
    name: String,
    network: Proxy,
    parts: MemoryParts,
    events: Vec<Event>,
    log: MemoryLog,
    expected: oracle::Log,
    ends: BTreeMap<i32, i64>,
}

impl Ground {
    fn new(test: &str) -> Option<Ground> {
        let url = required("TIDEMARK_TEST_POSTGRES")?;
        let (server, _) = url.rsplit_once('/').expect("postgres://…/database");
        let name = format!("tidemark_{test}_{}", std::process::id());
        let mut events = events();
        events.truncate(EVENTS);
        let network = Proxy::to(server.rsplit_once('@').expect("postgres://user@host:port").1);
        let empty = (0..i32::try_from(PARTITIONS).unwrap()).map(|partition| (partition, Vec::new()));
        let expected = oracle_log(&events, |_| 1);
        let ground = Ground {
            server: server.to_owned(),
            name,
            network,
            parts: MemoryParts::default(),
            log: MemoryLog::new(empty.collect()),
            ends: expected.iter().map(|(&of, records)| (of, records.len().try_into().unwrap())).collect(),
            expected,
            events,
        };
        ground.admin(&format!("create database {}", ground.name));
        Some(ground)
    }

    fn admin(&self, command: &str) {
        let client = postgres::Client::connect(&format!("{}/postgres", self.server), postgres::NoTls);
        client.and_then(|mut client| client.batch_execute(command)).expect(command);
    }

    fn client(&self) -> postgres::Client {
        postgres::Client::connect(&format!("{}/{}", self.server, self.name), postgres::NoTls).expect("it answers")
    }

    /// Runs until it is stopped, through the network that can be disturbed.
    fn run(&self, control: &Arc<Control>) -> (Arc<Metrics>, Result<(), RunError>) {
        let setup = support::Setup {
            rules: Rules::default(),
            workers: 2,
            slice: Duration::from_millis(5),
            most_per_read: 0,
            now: Micros(0),
            max_ahead: Duration::from_secs(3_600),
            checkpoint_every: Duration::from_millis(100),
            grains: &tidemark_model::Grain::ALL,
            retention: Default::default(),
        };
        let mut options = Options { clock: Clock::System, patience: LONG, ..setup.options() };
        options.wish.until_end = false;
        let user = self.server.rsplit_once('@').expect("postgres://user@host:port").0;
        let store =
            PostgresStore::new(&format!("{user}@{}/{}", self.network.address(), self.name), "under test").expect("a store");
        let (metrics, _) = Metrics::new();
        let (log, parts) = (Arc::new(self.log.clone()), Arc::new(self.parts.clone()));
        let outcome = cluster::run(&options, log, Box::new(store), parts, control, &metrics);
        (metrics, outcome)
    }

    /// Writes a share of the events, in turns.
    fn write(&self, events: std::ops::Range<usize>) {
        for some in self.events[events].chunks(AT_ONCE) {
            for event in some {
                let time = Some(Micros(event.time_ms * 1_000));
                self.log.append(i32::try_from(event.partition).unwrap(), time, Some(&event.payload));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether the store holds so much of the log.
    fn has_reached(&self, client: &mut postgres::Client, ends: &BTreeMap<i32, i64>) -> bool {
        let rows = client.query("select partition, next_offset from progress_partitions", &[]).unwrap_or_default();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect::<BTreeMap<i32, i64>>() == *ends
    }

    /// Runs while the log is written and something disturbs it; each commit was applied once, and the answer is right.
    fn run_disturbed(&self, disturb: impl Fn(u32) + Sync) -> u64 {
        let (ended, control) = (AtomicBool::new(false), Arc::default());
        let metrics = std::thread::scope(|scope| {
            let run = scope.spawn(|| self.run(&control));
            scope.spawn(|| self.write(0..EVENTS));
            scope.spawn(|| {
                let (mut client, mut times) = (self.client(), 0);
                while !ended.load(Ordering::Acquire) {
                    // Once it has begun: that is for other tests.
                    if client.query_opt("select from progress where epoch > 0", &[]).is_ok_and(|row| row.is_some()) {
                        disturb(times);
                        times += 1;
                    }
                    pause(10);
                }
            });
            let (mut client, until) = (self.client(), Instant::now() + LONG);
            while !run.is_finished() && Instant::now() < until && !self.has_reached(&mut client, &self.ends) {
                pause(20);
            }
            ended.store(true, Ordering::Release);
            control.stop();
            let (metrics, outcome) = run.join().expect("it does not panic");
            outcome.expect("the run ends well");
            metrics
        });
        let epoch: i64 = self.client().query_one("select epoch from progress", &[]).expect("progress").get(0);
        assert_eq!(metrics.commits.get(), u64::try_from(epoch).unwrap(), "commits that were acknowledged, and that were applied");
        self.assert_right();
        metrics.commit_retries.get()
    }

    /// A run that nothing disturbs reaches the end.
    fn run_to_end(&self) {
        let control = Arc::default();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| self.run(&control).1);
            let (mut client, until) = (self.client(), Instant::now() + LONG);
            while !run.is_finished() && Instant::now() < until && !self.has_reached(&mut client, &self.ends) {
                pause(20);
            }
            control.stop();
            run.join().expect("it does not panic").expect("the run ends well");
        });
        self.assert_right();
    }

    fn assert_right(&self) {
        let differences = Found::in_postgres(&mut self.client()).differences(&self.expected, &self.ends, &Rules::default(), true);
        assert!(differences.is_empty(), "{}", differences[..differences.len().min(10)].join("\n"));
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.network.cut();
            self.admin(&format!("drop database {} with (force)", self.name));
        }
    }
}

fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

#[test]
fn a_commit_whose_outcome_nobody_hears_is_applied_once() {
    let Some(ground) = Ground::new("unheard") else { return };
    let retries = ground.run_disturbed(|times| {
        // Applied, and not applied.
        ground.network.set(if times % 2 == 0 { Way::LoseAnswer } else { Way::LoseCommit });
        pause(450);
    });
    let lost = ground.network.lost();
    assert!(lost >= 4 && retries >= 4, "{lost} commits or answers were lost, {retries} commits tried again");
}

#[test]
fn locks_deadlocks_and_ended_connections_are_ridden_out() {
    let Some(ground) = Ground::new("locks") else { return };
    let name = &ground.name;
    ground.admin(&format!("alter database {name} set lock_timeout = '60ms'"));
    // Under which a commit that waited for another one's change of the progress row fails with a serialization failure.
    ground.admin(&format!("alter database {name} set default_transaction_isolation = 'repeatable read'"));
    let retries = ground.run_disturbed(|times| {
        let disturbance = match times % 3 {
            0 => "begin; lock table stream_state in share mode; select pg_sleep(0.15); commit",
            1 => "begin; update progress set updated_at = now(); select pg_sleep(0.04); commit",
            _ => {
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where application_name = 'tidemark-dataflow' and datname = current_database()"
            }
        };
        // Its own wait for a lock may be too long too.
        let _ = ground.client().batch_execute(disturbance);
        pause(60);
    });
    assert!(retries >= 6, "{retries} commits tried again");
}

#[test]
fn a_connection_that_was_forgotten_is_given_up_and_made_anew() {
    let Some(ground) = Ground::new("forgotten") else { return };
    let started = Instant::now();
    let retries = ground.run_disturbed(|times| {
        if times == 0 {
            ground.network.forget();
        }
        pause(100);
    });
    assert!(retries >= 1 && started.elapsed() < Duration::from_secs(30), "{retries} retries in {:?}", started.elapsed());
    // What was forgotten holds no lock of the server's for ever.
    let left =
        "select count(*) from pg_stat_activity where application_name = 'tidemark-dataflow' and datname = current_database()";
    let left: i64 = ground.client().query_one(left, &[]).expect("a count").get(0);
    assert_eq!(left, 0, "sessions that were left behind");
}

#[test]
fn a_connection_that_was_forgotten_between_commits_is_given_up_too() {
    let Some(ground) = Ground::new("forgotten_idle") else { return };
    let control = Arc::default();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| ground.run(&control).1);
        ground.write(0..EVENTS / 2);
        pause(1_000);
        ground.network.forget();
        ground.write(EVENTS / 2..EVENTS);
        let (mut client, until) = (ground.client(), Instant::now() + Duration::from_secs(15));
        while Instant::now() < until && !ground.has_reached(&mut client, &ground.ends) {
            pause(20);
        }
        control.stop();
        run.join().expect("it does not panic").expect("the run ends well");
    });
    ground.assert_right();
}

#[test]
fn a_database_that_stands_still_is_waited_for_and_told() {
    let Some(ground) = Ground::new("still") else { return };
    let started = Instant::now();
    let retries = ground.run_disturbed(|times| {
        if times == 0 {
            ground.network.set(Way::Stalled);
            pause(15_000);
            ground.network.set(Way::Open);
        }
        pause(100);
    });
    assert!(retries >= 1 && started.elapsed() < Duration::from_secs(40), "{retries} retries in {:?}", started.elapsed());
}

#[test]
fn a_statement_that_waits_for_a_lock_is_not_given_up() {
    let Some(ground) = Ground::new("slow") else { return };
    let retries = ground.run_disturbed(|times| {
        if times == 0 {
            let lock = "begin; lock table stream_state in share mode; select pg_sleep(14); commit";
            ground.client().batch_execute(lock).expect("it waits for no one for long");
        }
        pause(100);
    });
    assert_eq!(retries, 0, "commits tried again");
}

#[test]
fn a_stop_waits_for_a_database_that_is_gone_but_not_for_ever() {
    let Some(ground) = Ground::new("gone") else { return };
    let control = Arc::new(Control::default());
    let (outcome, waited) = std::thread::scope(|scope| {
        let run = scope.spawn(|| ground.run(&control).1);
        ground.write(0..EVENTS / 2);
        // It has begun by then.
        pause(1_000);
        ground.network.set(Way::Closed);
        ground.write(EVENTS / 2..EVENTS);
        let stopped = Instant::now();
        control.stop();
        (run.join().expect("it does not panic"), stopped.elapsed())
    });
    let error = outcome.expect_err("what was read is not in the store").to_string();
    assert!(error.starts_with("commit: ") && waited < Duration::from_secs(25), "after {waited:?}: {error}");
    ground.network.set(Way::Open);
    ground.run_to_end();
}
