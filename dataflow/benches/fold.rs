//! What an admitted event costs in the state of its viewers' owner: `cargo bench -p tidemark-dataflow --bench fold`.
//! With `-- windows` instead: what it costs when thousands of windows are open, by the order in which they open.
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
use tidemark_dataflow::flow::{Admitted, Watermark};
use tidemark_dataflow::fold::{Buffers, Fold, Input};
use tidemark_dataflow::keys::{EventKey, StreamKey, ViewerKey};
use tidemark_dataflow::telemetry::Metrics;
use tidemark_model::{Cents, Grain, Kind, Micros, Minute, Nanos};

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
    if std::env::args().any(|argument| argument == "windows") {
        return windows();
    }
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
    let mut fold = Fold::new(TIMEOUT, &Grain::ALL, metrics.of_worker(0));
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
            let (mut changes, mut closed) = (0, 0);
            fold.changes(|_, change| changes += usize::from(black_box(change).events > 0));
            fold.close(
                |_, change| closed += usize::from(black_box(change).events < 0),
                |_, _, past| {
                    black_box(past);
                },
            );
            while fold.tidy() {}
            let took = start.elapsed();
            assert!(changes > 0, "events change rows");
            assert!((closed == 0) == (slice > 0 || minute < LATENESS), "windows close in the first slice of a minute");
            if minute >= WARM_UP {
                all.push(took.as_secs_f64() * 1e9 / SLICE as f64);
                folding.push((folded - before_folding).as_secs_f64() * 1e9 / SLICE as f64);
            }
        }
    }
    report(&format!("{} viewers: the whole slice", viewers.len()), "event", &mut all);
    report(&format!("{} viewers: folding alone", viewers.len()), "event", &mut folding);
}

/// Every stream has an event in each window, and one viewer who joins twice a day, which is as long as a join counts.
fn windows() {
    const WINDOWS: i64 = 8_000;
    const STREAMS: u64 = 200;
    const AT_A_TIME: usize = 100;
    heading(
        "fold -- windows",
        &format!("{WINDOWS} windows of {STREAMS} streams, {AT_A_TIME} of them a slice; then all are closed, {AT_A_TIME} a slice"),
    );
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut shuffled: Vec<i64> = (0..WINDOWS).collect();
    (1..shuffled.len()).for_each(|at| shuffled.swap(at, random.random_range(0..=at)));
    for (order, minutes) in
        [("forwards", (0..WINDOWS).collect()), ("backwards", (0..WINDOWS).rev().collect()), ("shuffled", shuffled)]
    {
        let (metrics, _registry) = Metrics::new();
        let mut fold = Fold::new(TIMEOUT, &Grain::ALL, metrics.of_worker(0));
        let mut buffers = Buffers::default();
        let (mut opening, mut closing) = (Vec::new(), Vec::new());
        let start = Instant::now();
        for some in minutes.chunks(AT_A_TIME) {
            let mut opened: Vec<Minute> = some.iter().map(|minute| Minute::of(Nanos(START + minute * MINUTE))).collect();
            opened.sort_unstable();
            let mut batch = Vec::new();
            for &minute in some {
                for stream in 0..STREAMS {
                    let (id, ts) = (Some(EventKey(random.random(), random.random())), Nanos(START + minute * MINUTE));
                    let kind = if minute % 720 == 0 { Kind::ViewerJoin } else { Kind::ChatMessage };
                    let viewer = ViewerKey(stream.wrapping_mul(0x9e37_79b9_7f4a_7c15), stream);
                    batch.push(Admitted {
                        viewer,
                        by_user: true,
                        stream: StreamKey(stream, stream),
                        id,
                        ts,
                        amount: Cents(0),
                        kind,
                    });
                }
            }
            let slice = Instant::now();
            fold.open(vec![watermark(Micros(0), opened)]);
            let mut input = Input::default();
            input.take(&mut Events(batch), &mut buffers);
            input.events.iter().for_each(|range| fold.fold(range));
            fold.changes(|_, change| _ = black_box(change));
            opening.push(slice.elapsed().as_secs_f64() * 1e9 / (some.len() as f64 * STREAMS as f64));
        }
        for closed in (0..=WINDOWS).step_by(AT_A_TIME).skip(1) {
            let (slice, mut rows) = (Instant::now(), 0);
            fold.open(vec![watermark(Nanos(START + closed * MINUTE).to_micros(), Vec::new())]);
            fold.close(
                |_, change| rows += usize::from(black_box(change).events != 0),
                |_, _, past| {
                    black_box(past);
                },
            );
            while fold.tidy() {}
            assert_eq!(rows, AT_A_TIME * STREAMS as usize, "each stream has a row in each window");
            closing.push(slice.elapsed().as_secs_f64() * 1e9 / rows as f64);
        }
        report(&format!("{order}: opening"), "event", &mut opening);
        report(&format!("{order}: closing; {:.2} s in all", start.elapsed().as_secs_f64()), "row", &mut closing);
    }
}

/// Everybody joins in the minute before.
fn gather(fold: &mut Fold, viewers: &[(ViewerKey, StreamKey)]) {
    let ts = Nanos(START - MINUTE);
    let (id, amount, kind) = (None, Cents(0), Kind::ViewerJoin);
    fold.open(vec![watermark(Micros(0), vec![Minute::of(ts)])]);
    let joins: Vec<_> =
        viewers.iter().map(|&(viewer, stream)| Admitted { viewer, by_user: true, stream, id, ts, amount, kind }).collect();
    fold.fold(&joins);
    let mut rows = 0;
    fold.changes(|_, _| rows += 1);
    assert_eq!(rows, STREAMS, "each stream has a row");
    fold.close(|_, _| (), |_, _, _| ());
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
    Watermark { at: Some(at), opened, live: true, alignment: None, checkpoint: None, ended: false, clock: None }
}
