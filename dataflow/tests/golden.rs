//! Small logs and the rows that they make, as files to read: `cases/NAME.jsonl`.
//!
//! A line is a record of the log. `#: NAME VALUE` before it is a setting (`WATERMARK`, `MAX_FUTURE_SKEW`, `VIEWER_TIMEOUT`: of
//! the whole case; `partition`, `time`: of the records below it, 0 and none at first). Lines with `#=` are what the store holds at the
//! end, of the metrics that they name. Other lines with `#` are for people. The reader's clock stands at 2026-01-02T00:00:00Z.
//! `TIDEMARK_REWRITE_CASES=1` writes the lines with `#=` anew, with all metrics where there were none, to be read as a diff.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::Setup;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::decode::instant;
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::sink::memory::{MemoryStore, Tables};
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_model::{Grain, Metric, Micros, Values};
use tidemark_settings::duration;

/// 2026-01-02T00:00:00Z.
const NOW: Micros = Micros(1_767_312_000_000_000);
const TABLES: &str = "#=";

struct Case {
    log: MemoryLog,
    rules: Rules,
    /// The metrics that are shown.
    metrics: Vec<Metric>,
    /// The lines with `#=`.
    tables: String,
}

fn read(text: &str) -> Case {
    let (mut lateness, mut skew, mut timeout) = (Duration::from_secs(600), Duration::from_secs(300), Duration::from_secs(43_200));
    let (mut partition, mut time) = (0, None);
    let (log, mut metrics, mut tables) = (MemoryLog::default(), BTreeSet::new(), String::new());
    for line in text.lines() {
        if let Some(shown) = line.strip_prefix(TABLES) {
            metrics.extend(shown.split(' ').filter_map(Metric::named).filter(|_| shown.starts_with(" window_start")));
            tables += &format!("{line}\n");
        } else if let Some(setting) = line.strip_prefix("#: ") {
            let (name, value) = setting.split_once(' ').expect("#: NAME VALUE");
            match name {
                "WATERMARK" => lateness = duration::parse(value).unwrap(),
                "MAX_FUTURE_SKEW" => skew = duration::parse(value).unwrap(),
                "VIEWER_TIMEOUT" => timeout = duration::parse(value).unwrap(),
                "partition" => partition = value.parse().unwrap(),
                "time" => time = Some(instant(value.as_bytes()).expect("a time").to_micros()),
                _ => panic!("no setting of a case: {name}"),
            }
        } else if !line.starts_with('#') {
            log.append(partition, time, Some(line.as_bytes()));
        }
    }
    let metrics = if tables.is_empty() { Metric::ALL.to_vec() } else { metrics.into_iter().collect() };
    Case { log, rules: Rules::new(lateness, skew, timeout).unwrap(), metrics, tables }
}

/// What the store holds, for people.
fn show(tables: &Tables, shown: &[Metric]) -> String {
    let mut text = String::new();
    let mut table = |names: &[&str], rows: Vec<Vec<String>>| {
        if rows.is_empty() {
            return;
        }
        let head = (!names[0].is_empty()).then(|| names.iter().map(|name| (*name).to_owned()).collect());
        let lines: Vec<Vec<String>> = head.into_iter().chain(rows).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..names.len()).map(width).collect();
        for line in &lines {
            let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
            let line = cells.join("  ");
            writeln!(text, "{TABLES} {}", line.trim_end()).unwrap();
        }
    };
    let minutes = tables.rows.iter().map(|((minute, stream), row)| ((Grain::Minute, *minute, stream.clone()), row.values));
    let rows: Vec<_> = minutes.chain(tables.rolled_up.rows.clone()).collect();
    let minutes = tables.totals.iter().map(|(minute, of)| ((Grain::Minute, *minute), *of));
    let totals: Vec<_> = minutes.chain(tables.rolled_up.totals.clone()).collect();
    for (grain, name) in [(Grain::Minute, ""), (Grain::Hour, " hour"), (Grain::Day, " day")] {
        let metrics: Vec<Metric> = shown.iter().copied().filter(|metric| Metric::of(grain).contains(metric)).collect();
        let values = |values: &Values| metrics.iter().map(|&metric| metric.shown(values[metric])).collect::<Vec<_>>();
        let names: Vec<&str> = metrics.iter().map(|metric| metric.name()).collect();
        let rows = rows.iter().filter(|((of, ..), _)| *of == grain).map(|((_, first, stream), row)| {
            let is_final = tables.watermark.is_some_and(|watermark| grain.end_of(*first).start() <= watermark);
            let is_final = if is_final { "final" } else { "live" };
            [vec![format!("{first}{name}"), stream.clone()], values(row), vec![is_final.to_owned()]].concat()
        });
        table(&[&["window_start", "stream_id"], &names[..], &[""]].concat(), rows.collect());
        let totals = totals
            .iter()
            .filter(|((of, _), _)| *of == grain)
            .map(|((_, first), (streams, all))| [vec![format!("{first}{name}"), format!("all {streams}")], values(all)].concat());
        table(&[&["window_start", "streams"], &names[..]].concat(), totals.collect());
    }
    let letters = tables.dead_letters.iter().map(|((partition, offset), reason)| {
        vec![format!("dead letter: partition {partition}"), format!("offset {offset}"), reason.to_string()]
    });
    table(&["", "", ""], letters.collect());
    let watermark = |watermark: Option<Micros>| watermark.map_or_else(|| "none".to_owned(), |watermark| watermark.to_string());
    let partitions = tables.partitions.values().map(|mark| {
        let name = format!("watermark of partition {}", mark.partition);
        vec![name, watermark(mark.watermark), mark.standing.as_str().to_owned()]
    });
    table(&["", "", ""], partitions.collect());
    writeln!(text, "{TABLES} watermark of the pipeline {}", watermark(tables.watermark)).unwrap();
    text
}

fn run(case: &Case, workers: usize, most_per_read: usize) -> String {
    let setup = Setup {
        checkpoint_every: Duration::from_millis(500),
        grains: &Grain::ALL,
        retention: Default::default(),
        rules: case.rules,
        workers,
        slice: Duration::from_micros(100),
        most_per_read,
        now: NOW,
        max_ahead: Duration::from_secs(3_600),
    };
    let store = MemoryStore::default();
    setup.run_to_end(&case.log, &store, &MemoryParts::default());
    let tables = store.tables();
    let differences = support::differences(&tables, &support::expected(&case.log, &case.rules, NOW, &tables));
    assert!(differences.is_empty(), "the oracle says otherwise:\n{}", differences.join("\n"));
    show(&tables, &case.metrics)
}

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let entries = std::fs::read_dir(dir).expect("the cases are there");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    cases.sort();
    cases
}

#[test]
fn every_case_makes_its_rows() {
    let rewrite = std::env::var("TIDEMARK_REWRITE_CASES").as_deref() == Ok("1");
    let cases = cases();
    assert!(cases.len() >= 12, "{} cases", cases.len());
    let mut failed = Vec::new();
    for path in cases {
        let text = std::fs::read_to_string(&path).unwrap();
        let case = read(&text);
        let found = run(&case, 1, 0);
        assert_eq!(run(&case, 2, 1), found, "{}: two workers, a record a slice", path.display());
        if rewrite {
            let log = text.lines().filter(|line| !line.starts_with(TABLES)).fold(String::new(), |log, line| log + line + "\n");
            std::fs::write(&path, log + &found).unwrap();
        } else if case.tables != found {
            failed.push(format!("{} should end with this, if it is right:\n{found}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{}\nTIDEMARK_REWRITE_CASES=1 writes them", failed.join("\n"));
}
