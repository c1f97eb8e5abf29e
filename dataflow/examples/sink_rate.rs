//! How many rows a second our Postgres store takes, alone: the real `Store::commit`, first with new rows, then with new values of the
//! same ones, as a live minute's rows have them.
//!
//! ```sh
//! DATABASE_URL=postgres://… cargo run --release --example sink_rate -- --streams 10000 --minutes 10 --updates 10
//! cargo run --release --example sink_rate -- --write-rows DIR     # the same rows as files for COPY, one a commit
//! ```
//!
//! `scripts/bench.sh sink` runs it beside Postgres's own COPY and merge of these files. The database must be empty.

mod common;

use anyhow::{Context as _, bail};
use clap::Parser;
use common::say;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tidemark_dataflow::flow::{PartitionMark, Totals};
use tidemark_dataflow::keys::{HashKey, Keys, StreamKey};
use tidemark_dataflow::sink::postgres::PostgresStore;
use tidemark_dataflow::sink::{Begin, Commit, Decision, Row, Store as _};
use tidemark_model::{Metric, Minute, Values};
use tidemark_settings::store::{Store, StoreArgs};

/// 2026-01-01T00:00:00Z.
const FIRST_MINUTE: u32 = 1_767_225_600 / 60;
const PARTITIONS: i32 = 4;

/// Writes commits of the same rows with ever new values, and says how long each took.
#[derive(Parser)]
struct Args {
    /// Streams that have a row in each minute.
    #[arg(long, default_value_t = 10_000)]
    streams: u32,
    /// Minutes of which each commit changes all rows.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    minutes: u32,
    /// Commits after the first.
    #[arg(long, default_value_t = 10)]
    updates: i64,
    /// Write the rows of each commit to DIR/COMMIT.tsv and no database.
    #[arg(long, value_name = "DIR")]
    write_rows: Option<PathBuf>,
    /// Where the rows go.
    #[command(flatten)]
    store: StoreArgs,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let hash_key = [7; 16];
    let names = names(args.streams, hash_key);
    let commits = (0..=args.updates).map(|number| commit(number, args.minutes, &names));
    if let Some(dir) = &args.write_rows {
        return commits.enumerate().try_for_each(|(number, commit)| write_rows(&dir.join(format!("{number}.tsv")), &commit));
    }
    let Store::Postgres { connection, shown } = args.store.resolve(Path::new("."))? else { bail!("set DATABASE_URL") };
    let mut store = PostgresStore::new(&connection, &shown)?;
    let offsets: BTreeMap<i32, i64> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let begin = Begin {
        pipeline: "sink_rate".to_owned(),
        topic: "none".to_owned(),
        fingerprint: "sink_rate".to_owned(),
        start_offsets: offsets.clone(),
        new_offsets: offsets,
        hash_key,
        run: "sink_rate".to_owned(),
        again: false,
        grains: &tidemark_model::Grain::ALL,
    };
    let stored = store.begin(&begin, &mut |_| Ok(Decision::default()))?;
    if stored.epoch > 0 {
        bail!("{shown} holds rows already: name an empty database");
    }
    for (number, commit) in commits.enumerate() {
        let started = Instant::now();
        store.commit(&commit)?;
        let seconds = started.elapsed().as_secs_f64();
        let what = if number == 0 { "insert" } else { "update" };
        say(&format!("{what} {} {seconds:.6}", commit.rows.len()));
    }
    Ok(())
}

fn names(streams: u32, hash_key: [u8; 16]) -> BTreeMap<StreamKey, Arc<str>> {
    let keys = Keys::new(HashKey(hash_key));
    (1..=streams).map(|number| format!("stream_{number:04}")).map(|name| (keys.stream(&name), name.into())).collect()
}

/// In each of them every row has another value than in the one before.
fn commit(number: i64, minutes: u32, names: &BTreeMap<StreamKey, Arc<str>>) -> Commit {
    let mut rows = Vec::new();
    for minute in 0..minutes {
        for (&stream, name) in names {
            let some = (stream.0 % 1_000).cast_signed();
            let values = Values::of(Metric::MINUTE.map(|metric| (metric, some + (metric as i64 + 1) * number)));
            let totals = Totals { events: 1, values };
            rows.push(Row { window: Minute(FIRST_MINUTE + minute).into(), stream, stream_id: Arc::clone(name), totals });
        }
    }
    let mark = |partition| PartitionMark::at_end(partition, number);
    Commit { rows, partitions: (0..PARTITIONS).map(|partition| (partition, mark(partition))).collect(), ..Commit::default() }
}

/// The rows as COPY reads them, in the order in which our store hands them over.
fn write_rows(path: &Path, commit: &Commit) -> anyhow::Result<()> {
    let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
    let mut file = BufWriter::new(file);
    for Row { window, stream_id, totals, .. } in &commit.rows {
        let (start, end) = (window.start(), window.end());
        let values: Vec<String> = Metric::MINUTE.iter().map(|metric| metric.shown(totals.values[*metric])).collect();
        writeln!(file, "{start}\t{end}\t{stream_id}\t{}\t1", values.join("\t"))?;
    }
    Ok(file.flush()?)
}
