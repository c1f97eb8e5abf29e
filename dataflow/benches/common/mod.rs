//! What the micro-benchmarks share: how a figure is taken and told. One thread; short chunks, so that other programs disturb few of
//! them; the median of all and, as what an undisturbed machine would show, the 10th percentile.

#![allow(clippy::print_stdout)] // programs whose product is their output
#![allow(dead_code, reason = "each bench target uses its own part")]

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use tidemark_dataflow::flow::Admitted;
use tidemark_dataflow::keys::{EventKey, StreamKey, ViewerKey};
use tidemark_model::{Cents, Kind, Nanos};

/// How to do it again, on what, with what.
pub fn heading(command: &str, data: &str) {
    println!("command   cargo bench -p tidemark-dataflow --bench {command}");
    println!("machine   {} CPUs, {}", std::thread::available_parallelism().map_or(0, usize::from), cpu_model());
    println!("data      {data}");
}

/// Median and 10th percentile.
pub fn summary(nanos: &mut [f64]) -> (f64, f64) {
    nanos.sort_by(f64::total_cmp);
    (nanos[nanos.len() / 2], nanos[nanos.len() / 10])
}

/// Prints nanoseconds per `unit`.
pub fn report(name: &str, unit: &str, nanos: &mut [f64]) {
    let (median, tenth) = summary(nanos);
    println!("{median:8.1} ns/{unit} (10th percentile {tenth:7.1})   {name}");
}

/// What happens, and what is given: 35 % joins, 30 % leaves, 30 % messages, 5 % donations.
pub fn kind(random: &mut Xoshiro256PlusPlus) -> (Kind, Cents) {
    match random.random_range(0..100) {
        0..35 => (Kind::ViewerJoin, Cents(0)),
        35..65 => (Kind::ViewerLeave, Cents(0)),
        65..95 => (Kind::ChatMessage, Cents(0)),
        _ => (Kind::Donation, Cents(random.random_range(1..50_000))),
    }
}

/// An event with an id, of this viewer.
pub fn event(random: &mut Xoshiro256PlusPlus, viewer: ViewerKey, stream: StreamKey, ts: Nanos) -> Admitted {
    let (kind, amount) = kind(random);
    Admitted { viewer, by_user: true, stream, id: Some(EventKey(random.random(), random.random())), ts, amount, kind }
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or_else(|| "unknown CPU".to_owned(), |line| line.trim_start_matches([' ', '\t', ':']).to_owned())
}
