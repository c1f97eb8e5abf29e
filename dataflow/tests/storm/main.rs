//! The built program on a real Kafka and a real Postgres, while everything is killed: `kill -9` of its processes, of the broker and of
//! the database, a network that is cut or stalls, processes that sleep and wake as zombies, a second run by mistake. Traffic goes on
//! meanwhile. At the end everything in the store is the oracle's answer over all that was produced, and nobody who looked at it
//! meanwhile has seen anything go back.
//!
//! `scripts/storm.sh` runs it for a given number of kills. The seed decides the traffic and the kind, the order and the instants of
//! the kills; what they hit, nobody decides.

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod director;
mod producer;
mod recovery;
mod report;
mod watcher;

use cluster::Ground;
use director::{Director, Storm};
use producer::{PARTITIONS, Producer};
use std::io::Write;
use std::time::{Duration, Instant};
use support::proxy::Proxy;
use support::services::Services;
use support::tables::Found;
use tidemark_dataflow::rules::Rules;
use watcher::Watcher;

const TOPIC: &str = "storm.events";
const LATENESS: &str = "2 minutes";
const TIMEOUT: &str = "20 minutes";

fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    value.map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

#[test]
fn nothing_that_dies_changes_a_number() {
    let Some(services) = Services::start() else { return };
    let kills = usize::try_from(number("TIDEMARK_STORM_KILLS", 10)).expect("fewer");
    let seed = number("TIDEMARK_STORM_SEED", u64::from(std::process::id()));
    let rate = u32::try_from(number("TIDEMARK_STORM_RATE", 1_500)).expect("fewer");
    say(&format!("storm: {kills} kills, seed {seed}, {rate} events a second\n"));
    let started = Instant::now();

    services.create_topic(TOPIC, PARTITIONS);
    services.create_database("storm");
    let network = Proxy::to(&services.postgres);
    let scratch = tempfile::tempdir().expect("a directory");
    let ground = ground(&services, &network, scratch.path());
    let at_the_server = services.database(&services.postgres, "storm");

    let producer = Producer::start(&services.bootstrap, TOPIC, seed, rate);
    let watcher = Watcher::start(&at_the_server);
    let storm = Storm { kills, seed, services: &services, network: &network, ground: &ground, watcher: &watcher };
    let mut director = Director::new(storm);
    director.rage();
    let written = producer.stop();
    let (log, ends) = producer::read_back(&services.bootstrap, TOPIC, PARTITIONS);
    let again = producer::sent_again(&log, &written);
    let mut client = postgres::Client::connect(&at_the_server, postgres::NoTls).expect("it answers");
    director.let_it_end(&mut client, &ends);

    let found = Found::in_postgres(&mut client);
    let rules = Rules::new(minutes(2), minutes(5), minutes(20)).expect("small");
    let differences = found.differences(&log, &ends, &rules);
    let differences = [differences, verify(&ground)].concat();
    let kept = support::parts::on_the_disk(&ground.dir.join("checkpoints"));
    let needed = cluster::needed_by_checkpoints(&mut client);
    let (mut report, wrong) = director.report();
    let (seen, looks) = watcher.stop();
    report.produced(&written, again);
    report.compared(&found, &differences, looks, kept.len());
    report.took(started.elapsed());
    say(&report.table());
    let wrong = [wrong, seen, differences].concat();
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

/// What the program's own judge says, if it is anything but praise.
fn verify(ground: &Ground) -> Vec<String> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemark-dataflow"));
    let settings = ground.settings.iter().filter(|(name, _)| VERIFY_NEEDS.contains(name));
    command.arg("verify").env_clear().envs(settings.map(|(name, value)| (name, value)));
    let output = command.output().expect("the program starts");
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Vec::new() } else { vec![format!("verify: {}", String::from_utf8_lossy(&said))] }
}

const VERIFY_NEEDS: [&str; 4] = ["KAFKA_BOOTSTRAP", "KAFKA_TOPIC", "DATABASE_URL", "DATA_DIR"];

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn ground(services: &Services, network: &Proxy, dir: &std::path::Path) -> Ground {
    let settings = [
        ("KAFKA_BOOTSTRAP", services.bootstrap.clone()),
        ("KAFKA_TOPIC", TOPIC.to_owned()),
        ("DATABASE_URL", services.database(network.address(), "storm")),
        ("DATA_DIR", dir.display().to_string()),
        ("CHECKPOINT_EVERY", "700ms".to_owned()),
        ("WATERMARK", LATENESS.to_owned()),
        ("VIEWER_TIMEOUT", TIMEOUT.to_owned()),
        ("IDLE_AFTER", "2s".to_owned()),
        ("METRICS_ADDR", "off".to_owned()),
    ];
    Ground { dir: dir.to_owned(), settings: settings.to_vec() }
}

fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).expect("standard error takes it");
}
