//! What it costs to judge whether an event counts: `cargo bench -p tidemark-dataflow --bench admit`.

mod common;

use common::{heading, report};
use rand::RngExt;
use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tidemark_dataflow::admit::{Admission, Judge};
use tidemark_dataflow::rules::Rules;
use tidemark_model::{Micros, Nanos};

/// Events of a pass.
const EVENTS: i64 = 200_000;
/// Events timed together.
const CHUNK: usize = 1_000;
const PASSES: usize = 30;
/// First passes, not counted: caches and clock speed.
const WARM_UP: usize = 2;
const START: i64 = 1_767_225_600_000_000_000;
/// From event to event, in nanoseconds: a pass covers 200 s, so that minutes change.
const SPACING: i64 = 1_000_000;
/// Nanoseconds by which an event is out of order, at most; and by which a late one is late.
const JITTER: i64 = 2_000_000_000;
const LATE_BY: i64 = 1_200_000_000_000;

fn main() {
    let data = format!("{EVENTS} events of one partition, up to 2 s out of order; chunks of {CHUNK}, {PASSES} passes");
    heading("admit", &data);
    measure("all on time", None);
    measure("1 of 100 is late: it gets a reason for people", Some(100));
    measure("1 of 2 is late", Some(2));
}

/// Judges events of which one of `late_of` is late.
fn measure(name: &str, late_of: Option<i64>) {
    let rules =
        Rules::new(Duration::from_secs(600), Duration::from_secs(300), Duration::from_secs(43_200)).expect("they are sane");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let events: Vec<(Nanos, Micros, bool)> = (0..EVENTS)
        .map(|number| {
            let late = late_of.is_some_and(|of| number > 0 && number % of == 0);
            let behind = if late { LATE_BY } else { 0 } + random.random_range(0..JITTER);
            let sent = Nanos(START + number * SPACING);
            (Nanos(sent.0 - behind), sent.to_micros(), late)
        })
        .collect();
    let now = Judge::Live(Micros(START / 1_000 + 86_400_000_000));
    let mut nanos = Vec::new();
    for pass in 0..WARM_UP + PASSES {
        let mut admission = Admission::default();
        for chunk in events.chunks(CHUNK) {
            let start = Instant::now();
            let wrong = chunk.iter().filter(|&&(ts, sent, late)| {
                let judged = black_box(admission.judge(black_box(ts), Some(sent), now, &rules));
                judged.is_err() != late
            });
            let wrong = wrong.count();
            if pass >= WARM_UP {
                nanos.push(start.elapsed().as_secs_f64() * 1e9 / CHUNK as f64);
            }
            assert_eq!(wrong, 0, "{name}: each event has its verdict");
        }
    }
    report(name, "event", &mut nanos);
}
