//! The pipeline against the oracle on random logs, in memory, through the production loop.
//!
//! `TIDEMARK_SEEDS=FIRST..END` chooses the logs; one seed decides a log, its rules, the number of workers, the cut of slices and
//! where the run is ended and begun again. A difference prints its seed.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;
use support::Setup;
use support::random::{NOW, Random, pick};
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::plan::{self, How};
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::sink::memory::{MemoryStore, Tables};
use tidemark_dataflow::source::memory::{MemoryLog, Stored};
use tidemark_model::{Grain, Metric, Micros, Minute, Values};

const DEFAULT_SEEDS: std::ops::Range<u64> = 0..1_000;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("TIDEMARK_SEEDS") else { return DEFAULT_SEEDS };
    let (first, end) = text.split_once("..").expect("TIDEMARK_SEEDS=FIRST..END");
    first.parse().expect("a number")..end.parse().expect("a number")
}

fn setup(random: &mut Random, rules: Rules) -> Setup {
    Setup {
        rules,
        workers: *pick(&mut random.random, &[1, 2, 4]),
        // One reading of the clock, some, or the whole log in one slice.
        slice: Duration::from_micros(*pick(&mut random.random, &[100, 1_000, 50_000])),
        most_per_read: *pick(&mut random.random, &[0, 1, 3, 17]),
        now: NOW,
        max_ahead: Duration::from_secs(*pick(&mut random.random, &[1, 3_600, 100_000_000])),
        // With each slice, every few, or only at the end.
        checkpoint_every: Duration::from_micros(*pick(&mut random.random, &[1, 5_000, 1_000_000_000])),
        grains: &Grain::ALL,
        retention: Default::default(),
    }
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
        let setup = setup(&mut random, rules);
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

/// Records, each with a time that is not ahead of the reader's clock.
fn with_times(random: &mut Random, partitions: i32) -> BTreeMap<i32, Vec<Stored>> {
    let mut log = random.log(partitions, 120);
    let records = log.values_mut().flatten();
    records.for_each(|record| record.time = Some(record.time.filter(|time| *time < NOW).unwrap_or(Micros(0))));
    log
}

/// What is of windows that begin at this minute or later, and what was final before.
fn kept(tables: &Tables, from: Minute) -> Tables {
    let mut kept = tables.clone();
    kept.rows.retain(|(minute, _), _| *minute >= from);
    kept.totals.retain(|minute, _| *minute >= from);
    kept.rolled_up.rows.retain(|(_, first, _), _| *first >= from);
    kept.rolled_up.totals.retain(|(_, first), _| *first >= from);
    kept.states.retain(|_, (minute, _)| *minute >= from);
    kept.dead_letters.clear();
    kept.partitions.clear();
    kept
}

fn final_rows(tables: &Tables, watermark: Option<Micros>) -> (Vec<String>, usize) {
    let first_open = watermark.map_or(Minute(0), Minute::first_open);
    let minutes = tables.rows.iter().filter(|((minute, _), _)| *minute < first_open).map(|(key, row)| format!("{key:?} {row:?}"));
    let is_final = |grain: Grain, first: Minute| grain.end_of(first) <= first_open;
    let longer = tables.rolled_up.rows.iter().filter(|((grain, first, _), _)| is_final(*grain, *first));
    let rows: Vec<String> = minutes.chain(longer.map(|(key, row)| format!("{key:?} {row:?}"))).collect();
    let count = rows.len();
    (rows, count)
}

/// Values that were taken back, but for those of a window's end.
fn fallen(before: &Tables, after: &Tables) -> Vec<String> {
    let minutes = |tables: &Tables| -> BTreeMap<_, _> {
        tables.rows.iter().map(|((first, stream), row)| ((Grain::Minute, *first, stream.clone()), row.values)).collect()
    };
    let (mut stored, mut found) = (minutes(before), minutes(after));
    stored.extend(before.rolled_up.rows.clone());
    found.extend(after.rolled_up.rows.clone());
    let counts = |values: &Values| [Metric::ChatMessages, Metric::Donations, Metric::DonationsUsd].map(|metric| values[metric]);
    let fell = |(key, values): (&(Grain, Minute, String), &Values)| {
        let now = found.get(key).map(counts);
        let fell = now.is_none_or(|now| now.iter().zip(counts(values)).any(|(now, before)| *now < before));
        fell.then(|| format!("{key:?} fell: {:?} to {now:?}", counts(values)))
    };
    stored.iter().filter_map(fell).collect()
}

/// A log whose beginning expires, perhaps before it was read, and with all checkpoints lost: the differences of what must be exact, and how
/// many rows that were, if it had to be recovered.
fn after_a_gap(seed: u64) -> (Vec<String>, Option<usize>) {
    let mut random = Random::new(seed);
    let rules = random.rules();
    let partitions = i32::try_from(1 + random.below(3)).expect("at most three");
    let (log, store) = (MemoryLog::default(), MemoryStore::default());
    log.extend(with_times(&mut random, partitions));
    let first = setup(&mut random, rules);
    first.run_to_end(&log, &store, &MemoryParts::default());
    let is_unread = random.one_in(2);
    if is_unread {
        log.extend(with_times(&mut random, partitions));
    }
    let mut low = BTreeMap::new();
    for (partition, records) in log.records() {
        let first = random.below(records.len() + 1);
        low.extend(records.get(first).map(|record| (partition, record.offset)));
    }
    log.expire(low.clone());
    let before = store.tables().clone();
    let parts = MemoryParts::default();
    let wish = first.options().wish;
    let newest_lost = log.records().into_iter().flat_map(|(partition, records)| {
        let low = low.get(&partition).copied().unwrap_or(0);
        records.into_iter().filter(move |record| record.offset < low).filter_map(|record| record.time)
    });
    let how = How { now: NOW, lost_before: newest_lost.max(), confirmed: false };
    let outcome = plan::recover(&wish, &log, &mut store.clone(), &parts, how);
    assert_eq!(store.tables().epoch, before.epoch, "seed {seed}: nothing is written before it is confirmed");
    let recovered = match outcome {
        Ok(planned) => {
            let how = How { confirmed: true, ..how };
            let done = plan::recover(&wish, &log, &mut store.clone(), &parts, how).expect("it was planned");
            assert_eq!(planned, done, "seed {seed}");
            Some(done)
        }
        Err(error) => {
            assert!(error.to_string().contains("start tidemark-dataflow"), "seed {seed}: {error}");
            None
        }
    };
    if before.epoch == 0 {
        return (Vec::new(), None);
    }
    log.extend(with_times(&mut random, partitions));
    setup(&mut random, rules).run_to_end(&log, &store, &parts);
    let tables = store.tables();
    let (was_final, rows) = final_rows(&before, before.watermark);
    let mut differences = Vec::new();
    if final_rows(&tables, before.watermark) != (was_final, rows) {
        differences.push("a final row changed".to_owned());
    }
    differences.extend(fallen(&before, &tables));
    let mut answer = support::expected(&log, &rules, NOW, &tables);
    let Some(recovered) = recovered else {
        differences.extend(support::differences(&tables, &answer));
        return (differences, None);
    };
    let until = recovered.inexact.until;
    answer.drop_before(until);
    answer.dead_letters.clear();
    answer.watermarks.clear();
    differences.extend(support::differences(&kept(&tables, until), &answer));
    (differences, Some(answer.rows.len()))
}

#[test]
fn what_is_left_after_a_gap_is_exact_from_the_stated_window_on() {
    let (mut recovered, mut rows) = (0, 0);
    for seed in seeds() {
        let watchdog = support::Watchdog::start(seed);
        let (differences, exact) = after_a_gap(seed);
        drop(watchdog);
        assert!(differences.is_empty(), "seed {seed}\n  {}", differences[..differences.len().min(12)].join("\n  "));
        recovered += usize::from(exact.is_some());
        rows += exact.unwrap_or(0);
    }
    eprintln!("{recovered} recovered, {rows} rows exact");
    assert!(recovered > 0 && rows > 0, "{recovered} recovered, {rows} rows");
}
