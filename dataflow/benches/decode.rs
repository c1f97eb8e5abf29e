//! What a record costs to decode, beside serde_json into a struct of borrowed strings:
//! `cargo bench -p tidemark-dataflow --bench decode`.

#![allow(clippy::print_stdout)] // a program whose product is its output

mod common;

use common::{heading, summary};
use rand::RngExt;
use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
use serde::Deserialize;
use std::hint::black_box;
use std::time::Instant;
use tidemark_dataflow::decode::{Decoded, Decoder};

/// Different events, so that the branch predictor cannot learn them.
const EVENTS: usize = 200_000;
/// Events timed together: too short a time to be interrupted often, so that other programs disturb few of them.
const CHUNK: usize = 1_000;
/// Passes over all events.
const PASSES: usize = 15;
/// First passes, not counted: caches and clock speed.
const WARM_UP: usize = 2;

/// The least work for the same strings: no judgement of ids, time, amount or duplicates.
#[derive(Deserialize)]
struct Borrowed<'a> {
    event_type: &'a str,
    stream_id: &'a str,
    ts: &'a str,
    event_id: Option<&'a str>,
    user_id: Option<&'a str>,
    #[serde(borrow)]
    amount_usd: Option<&'a serde_json::value::RawValue>,
}

fn main() {
    let events = events();
    let bytes: usize = events.iter().map(Vec::len).sum();
    let mean = bytes / EVENTS;
    heading(
        "decode",
        &format!("{EVENTS} events, {mean} bytes on average; chunks of {CHUNK}, median of {PASSES} passes, one thread"),
    );

    let mut decoder = Decoder::default();
    report("decode: every rule of the design, UTF-8 to cents", &events, |event| {
        matches!(black_box(decoder.decode(Some(event))), Ok(Decoded::Event(_)))
    });
    report("serde_json into &str fields, ids, time and amount not judged", &events, |event| {
        serde_json::from_slice::<Borrowed>(event).is_ok_and(use_up)
    });
    report("std's UTF-8 check alone", &events, |event| black_box(std::str::from_utf8(event)).is_ok());
}

fn use_up(event: Borrowed<'_>) -> bool {
    black_box((event.event_type, event.stream_id, event.ts, event.event_id, event.user_id, event.amount_usd));
    true
}

/// Prints nanoseconds per event and megabytes per second.
fn report(name: &str, events: &[Vec<u8>], mut is_valid: impl FnMut(&[u8]) -> bool) {
    let mut nanos = Vec::new();
    for pass in 0..WARM_UP + PASSES {
        for chunk in events.chunks(CHUNK) {
            let start = Instant::now();
            let valid = chunk.iter().filter(|event| is_valid(black_box(event))).count();
            if pass >= WARM_UP {
                nanos.push(start.elapsed().as_secs_f64() * 1e9 / CHUNK as f64);
            }
            assert_eq!(valid, CHUNK, "{name}: all events are valid");
        }
    }
    let (median, tenth) = summary(&mut nanos);
    let bytes = events.iter().map(Vec::len).sum::<usize>() as f64 / EVENTS as f64;
    println!("{median:6.1} ns/event (10th percentile {tenth:5.1}), {:5.0} MB/s   {name}", bytes / median * 1e3);
}

/// Events as the generator shapes them: 35 % joins, 30 % leaves, 30 % messages, 5 % donations, within ten minutes.
fn events() -> Vec<Vec<u8>> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    (0..EVENTS).map(|_| event(&mut random)).collect()
}

fn event(random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let (kind, amount) = match random.random_range(0..100) {
        0..35 => ("viewer_join", String::new()),
        35..65 => ("viewer_leave", String::new()),
        65..95 => ("chat_message", String::new()),
        _ => ("donation", format!(",\"amount_usd\":{}.{:02}", random.random_range(1..500), random.random_range(0..100))),
    };
    let (id, stream, user) = (random.random::<u128>(), random.random_range(0..1_000), random.random_range(0..100_000));
    let (minute, second) = (random.random_range(30..40), random.random_range(0..60));
    let micros = random.random_range(0..1_000_000);
    format!(
        "{{\"event_id\":\"{id:032x}\",\"event_type\":\"{kind}\",\"stream_id\":\"stream_{stream:04}\",\"user_id\":\"user_{user:05}\",\
         \"ts\":\"2026-11-23T12:{minute}:{second:02}.{micros:06}Z\"{amount}}}"
    )
    .into_bytes()
}
