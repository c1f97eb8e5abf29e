//! A sweep in SQLite.

use super::{MOST, Sweep, Swept};
use crate::checkpoint::history::Entry;
use crate::sink::own::Own;
use crate::sink::sqlite::stored_entry;
use rusqlite::{Transaction, params};
use std::collections::BTreeMap;

/// In a transaction that has found the store as this run left it. Whether it changed anything.
pub(in crate::sink) fn sweep(
    transaction: &Transaction<'_>,
    own: &Own,
    sweep: &Sweep,
    now: i64,
) -> Result<(Swept, bool), rusqlite::Error> {
    let (mut rows, mut letters, mut moved) = (0, 0, 0);
    if let Some(from) = sweep.minutes_from() {
        let from = from.start().0;
        let mark = "update progress set minutes_from = ?2 where pipeline = ?1 and ifnull(minutes_from, 0) < ?2";
        moved += transaction.execute(mark, params![own.pipeline, from])?;
        // Totals go after all rows of their minutes: of minutes without totals the api adds up rows.
        for (table, key) in [("stream_metrics_minute", "window_start, stream_id"), ("stream_totals_minute", "window_start")] {
            let delete = format!(
                "delete from {table} where ({key}) in (select {key} from {table} where window_start < ?1 order by {key} limit ?2)"
            );
            rows += transaction.prepare_cached(&delete)?.execute([from, MOST])?;
            if rows >= usize::try_from(MOST).unwrap_or(usize::MAX) {
                break;
            }
        }
    }
    if sweep.retention.dead_letters.is_some() {
        moved += mark_letters(transaction, own, sweep)?;
        let delete = r#"delete from dead_letters where topic = ?2 and (partition, "offset") in (
            select letter.partition, letter."offset" from progress_partitions as of
                join dead_letters as letter on letter.topic = of.topic and letter.partition = of.partition
            where of.pipeline = ?1 and of.topic = ?2 and letter."offset" < of.letters_from limit ?3)"#;
        letters = transaction.prepare_cached(delete)?.execute(params![own.pipeline, own.topic, MOST])?;
    }
    let changed = moved + rows + letters > 0;
    if changed {
        let epoch = "update progress set epoch = ?2, updated_at = ?3, heartbeat_at = ?3 where pipeline = ?1";
        transaction.execute(epoch, params![own.pipeline, own.epoch + 1, now])?;
    }
    let count = |rows: usize| u64::try_from(rows).unwrap_or(u64::MAX);
    let (rows, letters, most) = (count(rows), count(letters), MOST.unsigned_abs());
    Ok((Swept { rows, letters, left: rows >= most || letters >= most }, changed))
}

/// Stores from which offset on letters stay.
fn mark_letters(transaction: &Transaction<'_>, own: &Own, sweep: &Sweep) -> Result<usize, rusqlite::Error> {
    let select = "select checkpoints from progress where pipeline = ?1";
    let checkpoints: String = transaction.query_row(select, [&own.pipeline], |row| row.get(0))?;
    let checkpoints = serde_json::from_str(&checkpoints).unwrap_or_default();
    let select = "select partition, start_offset, next_offset from progress_partitions where pipeline = ?1 and topic = ?2";
    let mut statement = transaction.prepare_cached(select)?;
    let partitions = statement.query_map([&own.pipeline, &own.topic], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    let partitions = partitions.collect::<Result<BTreeMap<i32, (i64, i64)>, _>>()?;
    let select = "select watermark, highest, partitions, checksum from progress_history where pipeline = ?1 order by watermark";
    let mut history: Vec<Entry> = Vec::new();
    let mut statement = transaction.prepare_cached(select)?;
    for stored in statement.query_map([&own.pipeline], stored_entry)? {
        history.extend(stored?.entry(own.hash_key, &partitions));
    }
    let mark = "update progress_partitions set letters_from = ?4
        where pipeline = ?1 and topic = ?2 and partition = ?3 and ifnull(letters_from, start_offset) < ?4";
    let mut moved = 0;
    for (partition, from) in sweep.letters_from(&history, &checkpoints) {
        moved += transaction.execute(mark, params![own.pipeline, own.topic, partition, from])?;
    }
    Ok(moved)
}
