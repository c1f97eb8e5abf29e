//! What an admitted event costs between two processes: timely's own way (bincode) beside the codecs of `exchange`.
//! `cargo bench -p tidemark-dataflow --bench codecs --features abomonation`; without the feature, bytemuck and bincode only.

#![allow(clippy::print_stdout)] // a program whose product is its output

mod common;

use common::{event, heading, summary};
use rand::RngExt;
use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
use std::hint::black_box;
use std::time::Instant;
#[cfg(feature = "abomonation")]
use tidemark_dataflow::exchange::abomonated;
use tidemark_dataflow::exchange::pod;
use tidemark_dataflow::flow::Admitted;
use tidemark_dataflow::keys::{StreamKey, ViewerKey};
use tidemark_model::Nanos;
use timely::bytes::arc::{Bytes, BytesMut};
use timely::container::buffer::default_capacity;
use timely::dataflow::channels::ContainerBytes;

/// Batches of which each is written and read once in a pass: more than the caches hold.
const BATCHES: usize = 2_000;
/// Passes over all batches.
const PASSES: usize = 15;
/// First passes, not counted: caches and clock speed.
const WARM_UP: usize = 2;

fn main() {
    let rows = default_capacity::<Admitted>();
    let batches = batches(rows);
    let data = format!("{BATCHES} batches of {rows} events, as timely cuts them; median of {PASSES} passes, one thread");
    heading("codecs --features abomonation", &data);
    println!("{:<12} {:>10} {:>10} {:>12}", "codec", "write", "read", "size");
    println!("{:<12} {:>10} {:>10} {:>12}", "", "ns/event", "ns/event", "bytes/event");
    report("bincode", &batches, |events, bytes| events.into_bytes(bytes), |bytes| Vec::from_bytes(bytes.clone()));
    let pod = |events: &Vec<Admitted>, bytes: &mut &mut [u8]| pod::encode(events, bytes).expect("there is room");
    report("bytemuck", &batches, pod, |bytes| pod::decode(bytes));
    #[cfg(feature = "abomonation")]
    {
        let write = |events: &Vec<Admitted>, bytes: &mut &mut [u8]| abomonated::encode(events, bytes).expect("there is room");
        report("abomonation", &batches, write, |bytes| abomonated::decode(bytes));
    }
}

/// Prints nanoseconds per event to write and to read, and bytes per event. A codec writes into memory that is there, as timely has it.
fn report(
    name: &str,
    batches: &[Vec<Admitted>],
    write: impl Fn(&Vec<Admitted>, &mut &mut [u8]),
    read: impl Fn(&Bytes) -> Vec<Admitted>,
) {
    let rows = batches[0].len();
    let mut room = vec![0; 2 * size_of::<Admitted>() * rows];
    let (mut writing, mut reading, mut size) = (Vec::new(), Vec::new(), 0);
    for pass in 0..WARM_UP + PASSES {
        for events in batches {
            let start = Instant::now();
            let mut rest = &mut room[..];
            write(black_box(events), &mut rest);
            let left = rest.len();
            let written = start.elapsed();
            size = room.len() - left;
            let bytes = BytesMut::from(room[..size].to_vec()).freeze();
            let start = Instant::now();
            let read = black_box(read(black_box(&bytes)));
            let took = start.elapsed();
            assert!(read == *events, "{name}: what is read is what was written");
            if pass >= WARM_UP {
                writing.push(written.as_secs_f64() * 1e9 / rows as f64);
                reading.push(took.as_secs_f64() * 1e9 / rows as f64);
            }
        }
    }
    let (write, read, size) = (summary(&mut writing).0, summary(&mut reading).0, size as f64 / rows as f64);
    println!("{name:<12} {write:>10.1} {read:>10.1} {size:>12.1}");
}

/// Events as the pipeline has them: 35 % joins, 30 % leaves, 30 % messages, 5 % donations; all with an id.
fn batches(rows: usize) -> Vec<Vec<Admitted>> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut one = || {
        let (viewer, stream) = (ViewerKey(random.random(), random.random()), StreamKey(random.random(), random.random()));
        let ts = Nanos(1_700_000_000_000_000_000 + random.random_range(0..600_000_000_000));
        event(&mut random, viewer, stream, ts)
    };
    (0..BATCHES).map(|_| (0..rows).map(|_| one()).collect()).collect()
}
