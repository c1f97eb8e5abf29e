//! How fast the traffic is made, on one thread and without publishing it:
//! `cargo run --release -p tidemark-generator --example traffic_rate`

use std::io::Write;
use std::time::Instant;
use tidemark_generator::traffic::{Traffic, TrafficConfig, numbered_streams};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::io::Result<()> {
    const EVENTS: usize = 5_000_000;
    for (streams, users) in [(5, 500), (10_000, 100_000)] {
        let config = TrafficConfig { streams: numbered_streams(streams), users, ..TrafficConfig::default() };
        let started = Instant::now();
        let bytes: usize = Traffic::new(config).take(EVENTS).map(|event| event.payload.len()).sum();
        let rate = EVENTS as f64 / started.elapsed().as_secs_f64();
        let per_event = bytes / EVENTS;
        writeln!(std::io::stdout(), "{streams} streams, {users} users: {rate:.0} events/s of {per_event} bytes")?;
    }
    Ok(())
}
