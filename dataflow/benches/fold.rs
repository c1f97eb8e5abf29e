//! What an admitted event costs in the state of its viewers' owner: `cargo bench -p tidemark-dataflow --bench fold`.
//!
//! The plain state without the operator around it, slice by slice as the operator drives it: open what was touched, sort events by range, fold,
//! hand out the changes, close, tidy. Everybody is there before it is measured.

mod common;

use common::{event, heading, report};
use rand::RngExt;
use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
use std::hint::black_box;
use std::time::Instant;
use tidemark_dataflow::exchange::Events;
use tidemark_dataflow::fold::{Admitted, Buffers, Fold, Input};
use tidemark_dataflow::keys::{StreamKey, ViewerKey};
use tidemark_dataflow::telemetry::Metrics;
use tidemark_dataflow::watermark::Watermark;
use tidemark_model::{Cents, Kind, Micros, Minute, Nanos};

/// Allocates as the program does.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const STREAMS: usize = 1_000;
/// Events of a slice, in batches as they come through the exchange.
const SLICE: usize = 20_000;
const BATCH: usize = 1_000;
/// Slices of a minute of event time.
const SLICES_PER_MINUTE: i64 = 20;
const MINUTES: i64 = 15;
/// First minutes, not counted: windows close only then, and tables have grown.
const WARM_UP: i64 = 5;
const LATENESS: i64 = 3;
const MINUTE: i64 = 60_000_000_000;
/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000_000_000;
const TIMEOUT: i64 = 12 * 60 * MINUTE;

fn main() {
    let data = format!(
        "{SLICE} events a slice, {SLICES_PER_MINUTE} slices a minute of event time, lateness {LATENESS} minutes, {STREAMS} streams; \
         35 % joins, 30 % leaves, 30 % messages, 5 % donations, all with ids; {} slices measured",
        (MINUTES - WARM_UP) * SLICES_PER_MINUTE
    );
    heading("fold", &data);
    for viewers in [10_000, 100_000, 1_000_000] {
        measure(viewers);
    }
}

fn measure(viewers: usize) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let streams: Vec<StreamKey> = (0..STREAMS).map(|_| StreamKey(random.random(), random.random())).collect();
    let viewers: Vec<(ViewerKey, StreamKey)> =
        (0..viewers).map(|number| (ViewerKey(random.random(), random.random()), streams[number % STREAMS])).collect();
    let (metrics, _registry) = Metrics::new();
    let mut fold = Fold::new(TIMEOUT, metrics.of_worker(0));
    gather(&mut fold, &viewers);
    let mut buffers = Buffers::default();
    let (mut all, mut folding) = (Vec::new(), Vec::new());
    for minute in 0..MINUTES {
        for slice in 0..SLICES_PER_MINUTE {
            let from = START + minute * MINUTE + slice * (MINUTE / SLICES_PER_MINUTE);
            let batches = batches(&mut random, &viewers, from);
            let opened = if slice == 0 { vec![Minute::of(Nanos(from))] } else { Vec::new() };
            let at = Nanos(from - LATENESS * MINUTE).to_micros();
            let start = Instant::now();
            fold.open(vec![watermark(at, opened)]);
            let before_folding = start.elapsed();
            let mut input = Input::default();
            batches.into_iter().for_each(|batch| input.take(&mut Events(batch), &mut buffers));
            for range in input.events {
                fold.fold(&range);
                buffers.keep(range);
            }
            let folded = start.elapsed();
            let changes = black_box(fold.changes()).len();
            let closed = black_box(fold.close());
            while fold.tidy() {}
            let took = start.elapsed();
            assert!(changes > 0, "events change rows");
            assert!(closed.is_empty() == (slice > 0 || minute < LATENESS), "windows close in the first slice of a minute");
            if minute >= WARM_UP {
                all.push(took.as_secs_f64() * 1e9 / SLICE as f64);
                folding.push((folded - before_folding).as_secs_f64() * 1e9 / SLICE as f64);
            }
        }
    }
    report(&format!("{} viewers: the whole slice", viewers.len()), "event", &mut all);
    report(&format!("{} viewers: folding alone", viewers.len()), "event", &mut folding);
}

/// Everybody joins in the minute before.
fn gather(fold: &mut Fold, viewers: &[(ViewerKey, StreamKey)]) {
    let ts = Nanos(START - MINUTE);
    let (id, amount, kind) = (None, Cents(0), Kind::ViewerJoin);
    fold.open(vec![watermark(Micros(0), vec![Minute::of(ts)])]);
    let joins: Vec<_> = viewers.iter().map(|&(viewer, stream)| Admitted { viewer, stream, id, ts, amount, kind }).collect();
    fold.fold(&joins);
    assert_eq!(fold.changes().len(), STREAMS, "each stream has a row");
    fold.close();
}

fn batches(random: &mut Xoshiro256PlusPlus, viewers: &[(ViewerKey, StreamKey)], from: i64) -> Vec<Vec<Admitted>> {
    let mut one = || {
        let (viewer, stream) = viewers[random.random_range(0..viewers.len())];
        let ts = Nanos(from + random.random_range(0..MINUTE / SLICES_PER_MINUTE));
        event(random, viewer, stream, ts)
    };
    (0..SLICE / BATCH).map(|_| (0..BATCH).map(|_| one()).collect()).collect()
}

fn watermark(at: Micros, opened: Vec<Minute>) -> Watermark {
    Watermark { at: Some(at), opened, live: true, alignment: None, checkpoint: None, ended: false }
}
