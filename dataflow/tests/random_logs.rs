//! The pipeline against the oracle on random logs, in memory, through the production loop.
//!
//! `TIDEMARK_SEEDS=FIRST..END` chooses the logs; one seed decides a log, its rules, the number of workers, the cut of slices and
//! where the run is ended and begun again. A difference prints its seed.

mod support;

use std::time::Duration;
use support::Setup;
use support::random::{NOW, Random, pick};
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::sink::memory::MemoryStore;
use tidemark_dataflow::source::memory::MemoryLog;

const DEFAULT_SEEDS: std::ops::Range<u64> = 0..1_000;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("TIDEMARK_SEEDS") else { return DEFAULT_SEEDS };
    let (first, end) = text.split_once("..").expect("TIDEMARK_SEEDS=FIRST..END");
    first.parse().expect("a number")..end.parse().expect("a number")
}

/// One log, run to its end in one to three runs with different settings; the differences from the oracle after each.
fn differences(seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let rules = random.rules();
    let partitions = i32::try_from(1 + random.below(4)).expect("at most four");
    let log = MemoryLog::default();
    let store = MemoryStore::default();
    let parts = MemoryParts::default();
    for run in 0..1 + random.below(3) {
        let most = if random.one_in(10) { 1_000 } else { 120 };
        log.extend(random.log(partitions, most));
        let setup = Setup {
            rules,
            workers: *pick(&mut random.random, &[1, 2, 4]),
            // One reading of the clock, some, or the whole log in one slice.
            slice: Duration::from_micros(*pick(&mut random.random, &[100, 1_000, 50_000])),
            most_per_read: *pick(&mut random.random, &[0, 1, 3, 17]),
            now: NOW,
            max_ahead: Duration::from_secs(*pick(&mut random.random, &[1, 3_600, 100_000_000])),
            // With each slice, every few, or only at the end.
            checkpoint_every: Duration::from_micros(*pick(&mut random.random, &[1, 5_000, 1_000_000_000])),
            grains: &tidemark_model::Grain::ALL,
        };
        setup.run_to_end(&log, &store, &parts);
        let tables = store.tables();
        let answer = support::expected(&log, &rules, NOW, &tables);
        let mut differences = support::differences(&tables, &answer);
        if !differences.is_empty() {
            differences.insert(0, format!("seed {seed}, run {run}, {setup:?}"));
            return differences;
        }
    }
    Vec::new()
}

#[test]
fn any_log_in_any_cut_gives_what_the_oracle_says() {
    let mut failed = Vec::new();
    for seed in seeds() {
        let watchdog = support::Watchdog::start(seed);
        let differences = differences(seed);
        drop(watchdog);
        if !differences.is_empty() {
            eprintln!("{}", differences[..differences.len().min(12)].join("\n  "));
            failed.push(seed);
        }
        assert!(failed.len() < 5, "seeds {failed:?} differ");
    }
    assert!(failed.is_empty(), "seeds {failed:?} differ");
}
