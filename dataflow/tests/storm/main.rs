//! The built program on two real Kafka brokers and a real Postgres, while everything is hit: processes, brokers and the database are
//! killed and paused, clocks step, networks are cut, hang, are slow and forget, descriptors run out, nobody reads standard error, the
//! store goes back to what it held earlier, the topic forgets its beginning. Traffic goes on meanwhile. At the end everything in the store is the oracle's answer over
//! all that was produced; nobody who looked at it meanwhile has seen anything go back; no record that was in order and on time was
//! rejected; and no standstill was kept quiet.
//!
//! `scripts/storm.sh` runs it for a given number of blows. The seed decides the traffic and the kind, the order and the instants of
//! the blows; what they hit, nobody decides.

#[path = "../support/mod.rs"]
mod support;

mod blows;
mod cluster;
mod director;
mod producer;
mod recovery;
mod report;
mod traffic;
mod vigil;
mod watcher;

use cluster::Ground;
use director::{Director, Storm};
use producer::{Delivered, Producer};
use std::io::Write;
use std::time::{Duration, Instant};
use support::clock::Shim;
use support::proxy::Proxy;
use support::services::Services;
use support::tables::Found;
use tidemark_dataflow::rules::Rules;
use tidemark_model::Reason;
use traffic::{PARTITIONS, STEADY};
use vigil::{TOLD_WITHIN, Vigil};
use watcher::Watcher;

const TOPIC: &str = "storm.events";
const LATENESS: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(6 * 60);
/// In a storm in which records and rows expire, so that some can within minutes; then there are no hours and days either.
const SHORT_TIMEOUT: Duration = Duration::from_secs(20);
/// The length of the shortest window, which a retention covers too.
const MINUTE: Duration = Duration::from_secs(60);
const SKEW: Duration = Duration::from_secs(5 * 60);
/// With fewer blows than this, none is long.
const LONG: usize = 30;

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str, default: u64) -> u64 {
    text(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

#[test]
fn nothing_that_happens_changes_a_number() {
    let services = if text("TIDEMARK_STORM_TLS").is_some() { Services::start_with_tls(2) } else { Services::start(2) };
    let Some(services) = services else { return };
    let blows = usize::try_from(number("TIDEMARK_STORM_BLOWS", 10)).expect("fewer");
    let families = text("TIDEMARK_STORM_KINDS").unwrap_or_default();
    let seed = number("TIDEMARK_STORM_SEED", u64::from(std::process::id()));
    let rate = u32::try_from(number("TIDEMARK_STORM_RATE", 1_500)).expect("fewer");
    say(&format!("storm: {blows} blows, seed {seed}, {rate} events a second\n"));
    let started = Instant::now();

    services.brokers.create_topic(TOPIC, PARTITIONS);
    services.create_database("storm");
    let network = Proxy::to(&services.postgres);
    let scratch = tempfile::tempdir().expect("a directory");
    // Every other storm, or if only that was asked for.
    let expires = families.split(',').any(|family| family == "retention") || (families.is_empty() && seed.is_multiple_of(2));
    let timeout = if expires { SHORT_TIMEOUT } else { TIMEOUT };
    let ground = ground(&services, &network, scratch.path(), timeout, expires);
    let store = services.database(&services.postgres, "storm");

    if expires {
        make_plain_tables(&store);
    }
    let producer = Producer::start(&services.brokers.addresses(), TOPIC, seed, rate);
    let delivered = std::sync::Arc::clone(&producer.delivered);
    let watcher = Watcher::start(&store);
    let vigil = Vigil::start(&store, scratch.path(), &delivered, &ground.said, &watcher);
    let mut director = Director::new(Storm {
        blows,
        families: &families,
        expires,
        rules: Rules::new(LATENESS, SKEW, timeout).expect("small"),
        long: blows >= LONG,
        seed,
        services: &services,
        network: &network,
        store: &store,
        ground: &ground,
        watcher: &watcher,
        vigil: &vigil,
        delivered: &delivered,
    });
    director.rage();
    let written = producer.stop();
    let mut log = director.expired();
    let expired = log.values().map(Vec::len).sum();
    let ends = producer::read_on(&services.brokers.addresses(), TOPIC, &mut log, None);
    let again = producer::sent_again(&log, &written);
    let mut client = postgres::Client::connect(&store, postgres::NoTls).expect("it answers");
    director.let_it_end(&mut client, &ends);

    let found = Found::in_postgres(&mut client);
    let rules = Rules::new(LATENESS, SKEW, timeout).expect("small");
    let differences = found.differences(&log, &ends, &rules, !expires);
    let differences = [differences, verify(&ground)].concat();
    let kept = support::parts::on_the_disk(&ground.dir.join("checkpoints"));
    let needed = cluster::needed_by_checkpoints(&mut client);
    let (mut report, wrong) = director.report();
    let (standstills, api_said) = vigil.stop();
    std::fs::write(scratch.path().join("api.log"), api_said).expect("a file");
    let untold = standstills.iter().filter(|(_, longest)| longest.untold > TOLD_WITHIN);
    let untold = untold.map(|(blow, longest)| format!("after {blow} nobody told of a standstill for {:?}", longest.untold));
    let untold: Vec<String> = untold.collect();
    let (rejected, tardy) = rejected(&found, &delivered);
    let (seen, looks) = watcher.stop();
    report.standstills(standstills);
    report.produced(&written, again, expired);
    report.compared(&found, &differences, looks, kept.len());
    report.rejected(rejected.len(), tardy);
    report.took(started.elapsed());
    say(&report.table());
    let wrong = [wrong, seen, differences, rejected, untold].concat();
    if !wrong.is_empty() {
        let kept = scratch.keep();
        say(&format!("what the processes said is in {}\n", kept.display()));
    }
    assert!(
        wrong.is_empty(),
        "seed {seed}: {} things are wrong, the first of them:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    assert_eq!(kept, needed, "left are what is on the disk, and what checkpoints need");
}

/// A table without partitions, from which minutes are dropped to the minute and not by days. A sequence of its own keeps it as it is.
fn make_plain_tables(store: &str) {
    let tables = include_str!("../../../sql/init/001_tables.sql");
    let plain = tables.replacen(") partition by range (window_start);", ") with (fillfactor = 70);", 1);
    let sequence = "alter table stream_metrics_minute add column number bigserial";
    let client = postgres::Client::connect(store, postgres::NoTls);
    client.and_then(|mut client| client.batch_execute(&format!("{plain}; {sequence}"))).expect("tables are made");
}

/// The dead letters of the steady partitions that are there for a reason in which a clock or idleness had a part: those whose records
/// were on time, and how many were late at their broker. No steady record is ahead of any clock.
fn rejected(found: &Found, delivered: &Delivered) -> (Vec<String>, usize) {
    let steady = |partition: i32| STEADY.contains(&usize::try_from(partition).expect("not negative"));
    let letters = found.dead_letters.iter().filter(|((partition, _), _)| steady(*partition));
    let (mut on_time, mut tardy) = (Vec::new(), 0);
    for (at, letter) in letters.filter(|(_, letter)| matches!(letter.reason, Reason::Closed | Reason::Future)) {
        if letter.reason == Reason::Future || delivered.was_on_time(at) {
            on_time.push(format!("the record at {at:?} was in order and on time, and is {}", letter.reason.as_str()));
        } else {
            tardy += 1;
        }
    }
    (on_time, tardy)
}

/// What the program's own judge says, if it is anything but praise.
fn verify(ground: &Ground) -> Vec<String> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemark-dataflow"));
    let settings = ground.settings.iter().filter(|(name, _)| VERIFY_NEEDS.iter().any(|needed| name.starts_with(needed)));
    command.arg("verify").env_clear().envs(settings.map(|(name, value)| (name, value)));
    let output = command.output().expect("the program starts");
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Vec::new() } else { vec![format!("verify: {}", String::from_utf8_lossy(&said))] }
}

/// What the settings begin with that `verify` takes too.
const VERIFY_NEEDS: [&str; 4] = ["KAFKA_", "DATABASE_URL", "DATA_DIR", "PGSSL"];

fn ground(services: &Services, network: &Proxy, dir: &std::path::Path, timeout: Duration, expires: bool) -> Ground {
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    let settings = [
        ("KAFKA_BOOTSTRAP", services.brokers.linked_addresses()),
        ("KAFKA_TOPIC", TOPIC.to_owned()),
        ("DATABASE_URL", services.database(network.address(), "storm")),
        ("DATA_DIR", dir.display().to_string()),
        ("CHECKPOINT_EVERY", "700ms".to_owned()),
        ("WATERMARK", seconds(LATENESS)),
        ("MAX_FUTURE_SKEW", seconds(SKEW)),
        ("VIEWER_TIMEOUT", seconds(timeout)),
        ("ROLLUPS", if expires { "off" } else { "hour,day" }.to_owned()),
        ("IDLE_AFTER", "2s".to_owned()),
        ("RETENTION", if expires { seconds(LATENESS + timeout + MINUTE) } else { "off".to_owned() }),
    ];
    Ground::new(dir.to_owned(), &[&settings[..], &services.tls_settings].concat(), Some(Shim::build(dir)))
}

fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).expect("standard error takes it");
}
