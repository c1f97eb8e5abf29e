//! Small logs and the rows that they make, as files to read: `cases/NAME.jsonl` and `cases/NAME.rows`.
//!
//! A line of the log is a record. `#: NAME VALUE` before it is a setting (`WATERMARK`, `MAX_FUTURE_SKEW`, `VIEWER_TIMEOUT`: of
//! the whole case; `partition`, `time`: of the records below it, 0 and none at first); other lines with `#` are for people. The
//! reader's clock stands at 2026-01-02T00:00:00Z. `TIDEMARK_REWRITE_CASES=1` writes the `.rows` files anew, to be read as a diff.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::Setup;
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::decode::instant;
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::sink::memory::{MemoryStore, Tables};
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_model::{Metric, Micros};
use tidemark_settings::duration;

/// 2026-01-02T00:00:00Z.
const NOW: Micros = Micros(1_767_312_000_000_000);

struct Case {
    log: MemoryLog,
    rules: Rules,
}

fn read(text: &str) -> Case {
    let (mut lateness, mut skew, mut timeout) = (Duration::from_secs(600), Duration::from_secs(300), Duration::from_secs(43_200));
    let (mut partition, mut time) = (0, None);
    let log = MemoryLog::default();
    for line in text.lines() {
        if let Some(setting) = line.strip_prefix("#: ") {
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
    Case { log, rules: Rules::new(lateness, skew, timeout).unwrap() }
}

/// What the store holds, for people.
fn show(tables: &Tables) -> String {
    let mut text = String::new();
    let mut table = |names: &[&str], rows: Vec<Vec<String>>| {
        if rows.is_empty() {
            return;
        }
        let mut lines = vec![names.iter().map(|name| (*name).to_owned()).collect()];
        lines.extend(rows);
        let width = |column: usize| lines.iter().map(|line: &Vec<String>| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..names.len()).map(width).collect();
        for line in &lines {
            let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
            writeln!(text, "{}", cells.join("  ").trim_end()).unwrap();
        }
    };
    let rows = tables.rows.iter().map(|((minute, stream), row)| {
        let is_final = tables.watermark.is_some_and(|watermark| minute.is_closed_by(watermark));
        let values = row.values.iter().map(|(metric, value)| metric.shown(value));
        let key = [minute.to_string(), stream.clone()].into_iter();
        key.chain(values).chain([if is_final { "final" } else { "live" }.to_owned()]).collect()
    });
    let head: Vec<&str> = ["window_start", "stream_id"].into_iter().chain(Metric::ALL.map(Metric::name)).chain([""]).collect();
    table(&head, rows.collect());
    let totals = tables.totals.iter().map(|(minute, (streams, values))| {
        let values = values.iter().map(|(metric, value)| metric.shown(value));
        [minute.to_string(), format!("all {streams}")].into_iter().chain(values).collect()
    });
    let head: Vec<&str> = ["window_start", "streams"].into_iter().chain(Metric::ALL.map(Metric::name)).collect();
    table(&head, totals.collect());
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
    writeln!(text, "watermark of the pipeline {}", watermark(tables.watermark)).unwrap();
    text
}

fn run(case: &Case, workers: usize, most_per_read: usize) -> String {
    let setup = Setup {
        checkpoint_every: Duration::from_millis(500),
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
    show(&tables)
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
        let case = read(&std::fs::read_to_string(&path).unwrap());
        let found = run(&case, 1, 0);
        assert_eq!(run(&case, 2, 1), found, "{}: two workers, a record a slice", path.display());
        let rows = path.with_extension("rows");
        if rewrite {
            std::fs::write(&rows, &found).unwrap();
        } else if std::fs::read_to_string(&rows).unwrap_or_default() != found {
            failed.push(format!("{} should be, if this is right:\n{found}", rows.display()));
        }
    }
    assert!(failed.is_empty(), "{}\nTIDEMARK_REWRITE_CASES=1 writes them", failed.join("\n"));
}
