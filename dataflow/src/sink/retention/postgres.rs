//! A sweep in Postgres.

use super::{MOST, Sweep, Swept};
use crate::checkpoint::history::Entry;
use crate::sink::own::Own;
use crate::sink::partitions::Partitions;
use crate::sink::transaction::{ENTRY, Failure, Timestamp, Writing, stored_entry};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use tidemark_model::Minute;

/// The first rows of a table that are older than what `progress` says, in the order of its key.
fn delete(table: &str, key: &str) -> String {
    let same: Vec<String> = key.split(", ").map(|column| format!("old.{column} = gone.{column}")).collect();
    format!(
        "with gone as (select {key} from {table} where window_start < $1 order by {key} limit $2 for update skip locked)
         delete from {table} as old using gone where old.window_start < $1 and {}",
        same.join(" and ")
    )
}

static DELETE_ROWS: LazyLock<String> = LazyLock::new(|| delete("stream_metrics_minute", "window_start, stream_id"));
static DELETE_TOTALS: LazyLock<String> = LazyLock::new(|| delete("stream_totals_minute", "window_start"));
const DELETE_LETTERS: &str = r#"
    with gone as (
        select first.* from progress_partitions as of cross join lateral (
            select topic, partition, "offset" from dead_letters
            where topic = of.topic and partition = of.partition and "offset" < of.letters_from order by "offset" limit $3
        ) as first where of.pipeline = $1 and of.topic = $2 limit $3)
    delete from dead_letters as old using gone
    where old.topic = gone.topic and old.partition = gone.partition and old."offset" = gone."offset""#;

/// The next commit waits for a sweep.
const LIMITS: &str = "set local lock_timeout = '500ms'; set local statement_timeout = '5s'";

/// Under the lock of the progress row. Whether it changed anything.
pub(in crate::sink) fn sweep(
    transaction: &mut Writing<'_>,
    own: &Own,
    sweep: &Sweep,
    partitions: &mut Partitions,
) -> Result<(Swept, bool), Failure> {
    transaction.transaction.batch_execute(LIMITS)?;
    let mut swept = Swept::default();
    let mut changed = 0;
    if let Some(from) = sweep.minutes_from() {
        let from = partitions.minutes_from(from);
        let mark = "update progress set minutes_from = $2 where pipeline = $1 and (minutes_from is null or minutes_from < $2)";
        let moved = transaction.execute(mark, &[&own.pipeline, &Timestamp(from.start())])?;
        let dropped = partitions.drop_oldest(&mut transaction.transaction, from)?;
        swept.left = dropped.is_some_and(|rows| rows > 0);
        swept.rows = dropped.map_or_else(|| delete_minutes(transaction, from), Ok)?;
        changed = moved + swept.rows;
    }
    if sweep.retention.dead_letters.is_some() {
        changed += mark_letters(transaction, own, sweep)?;
        swept.letters = transaction.execute(DELETE_LETTERS, &[&own.pipeline, &own.topic, &MOST])?;
        changed += swept.letters;
    }
    swept.left |= swept.rows >= MOST.unsigned_abs() || swept.letters >= MOST.unsigned_abs();
    if changed > 0 {
        let epoch = "update progress set epoch = $2, updated_at = now(), heartbeat_at = clock_timestamp() where pipeline = $1
            returning pg_notify('tidemark_epoch', epoch::text)";
        transaction.query_opt(epoch, &[&own.pipeline, &(own.epoch + 1)])?;
    }
    Ok((swept, changed > 0))
}

/// How many rows were deleted. Totals go after all rows of their minutes: of minutes without totals the api adds up rows.
fn delete_minutes(transaction: &mut Writing<'_>, from: Minute) -> Result<u64, Failure> {
    let from = Timestamp(from.start());
    let rows = transaction.execute(&DELETE_ROWS, &[&from, &MOST])?;
    let totals = if rows < MOST.unsigned_abs() { transaction.execute(&DELETE_TOTALS, &[&from, &MOST])? } else { 0 };
    Ok(rows + totals)
}

/// Stores from which offset on letters stay.
fn mark_letters(transaction: &mut Writing<'_>, own: &Own, sweep: &Sweep) -> Result<u64, Failure> {
    let select = "select (select checkpoints from progress where pipeline = $1), array_agg(partition), array_agg(start_offset),
            array_agg(next_offset)
        from progress_partitions where pipeline = $1 and topic = $2";
    let Some(row) = transaction.query_opt(select, &[&own.pipeline, &own.topic])? else { return Ok(0) };
    let checkpoints: serde_json::Value = row.get(0);
    let list = |column| row.get::<_, Option<Vec<i64>>>(column).unwrap_or_default();
    let offsets = list(2).into_iter().zip(list(3));
    let partitions: BTreeMap<i32, (i64, i64)> =
        row.get::<_, Option<Vec<i32>>>(1).unwrap_or_default().into_iter().zip(offsets).collect();
    let select = format!("select {ENTRY} from progress_history where pipeline = $1 order by progress_history.watermark");
    let stored = transaction.transaction.query(&select, &[&own.pipeline])?;
    let entries = stored.iter().filter_map(|row| stored_entry(row).entry(own.hash_key, &partitions));
    let history: Vec<Entry> = entries.collect();
    let from = sweep.letters_from(&history, &checkpoints);
    let (partitions, offsets): (Vec<i32>, Vec<i64>) = from.into_iter().unzip();
    let mark = "update progress_partitions as of set letters_from = first.letters_from
        from unnest($3::int[], $4::bigint[]) as first (partition, letters_from)
        where of.pipeline = $1 and of.topic = $2 and of.partition = first.partition
            and first.letters_from > coalesce(of.letters_from, of.start_offset)";
    Ok(transaction.execute(mark, &[&own.pipeline, &own.topic, &partitions, &offsets])?)
}
