//! A rebuild in SQLite: a second file, and a transaction that brings the first to what it holds.

use super::{Before, Changes, Recomputed, Site, held, refuse_other_fence};
use crate::checkpoint::history::StoredEntry;
use crate::sink::columns::Dialect;
use crate::sink::sqlite::{RunLock, SqliteStore, stored_entry, upgrade};
use crate::sink::{Store, StoreError};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidemark_model::{Grain, Metric, Micros, Minute, Of, Table, tables};

/// How long a lock of another process is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// The file, and one beside it.
pub(super) struct SqliteSite {
    connection: Connection,
    path: PathBuf,
    side: PathBuf,
    lock: Option<RunLock>,
    fence: i64,
}

impl SqliteSite {
    pub(super) fn open(path: &Path) -> Result<SqliteSite, StoreError> {
        let place = format!("SQLite {}", path.display());
        let nothing = || StoreError::Fatal(format!("{place} has no tables of a pipeline: there is nothing to rebuild"));
        if !path.exists() {
            return Err(nothing());
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        if !connection.prepare("select 1 from sqlite_schema where name = 'progress'")?.exists([])? {
            return Err(nothing());
        }
        Ok(SqliteSite { connection, path: path.to_owned(), side: path.with_extension("rebuild.db"), lock: None, fence: 0 })
    }

    fn remove_side(&self) -> Result<(), StoreError> {
        for suffix in ["", "-wal", "-shm", "-run"] {
            let mut name = self.side.clone().into_os_string();
            name.push(suffix);
            match std::fs::remove_file(&name) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::Fatal(format!("{}: {error}", Path::new(&name).display()))),
            }
        }
        Ok(())
    }
}

impl Site for SqliteSite {
    fn before(&mut self, pipeline: &str, topic: &str) -> Result<Option<Before>, StoreError> {
        let transaction = self.connection.transaction()?;
        let select = "select epoch, watermark, fingerprint, (select count(*) from stream_metrics_minute),
            (select count(*) from dead_letters where topic = ?2), hash_key from progress where pipeline = ?1";
        let before = transaction.query_row(select, [pipeline, topic], |row| {
            let watermark = row.get::<_, Option<i64>>(1)?.map(Micros);
            let (epoch, fingerprint) = (row.get(0)?, row.get(2)?);
            Ok(Before {
                epoch,
                watermark,
                fingerprint,
                rows: row.get(3)?,
                letters: row.get(4)?,
                hash_key: row.get(5)?,
                partitions: BTreeMap::new(),
                history: Vec::new(),
                inexact_until: None,
            })
        });
        let Some(mut before) = before.optional()? else { return Ok(None) };
        let select = "select partition, start_offset, next_offset from progress_partitions where pipeline = ?1 and topic = ?2";
        let mut statement = transaction.prepare(select)?;
        let partitions = statement.query_map([pipeline, topic], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
        before.partitions = partitions.collect::<Result<_, _>>()?;
        // Those of an earlier program are not all there.
        let is_there = |table: &str| transaction.prepare("select 1 from sqlite_schema where name = ?1")?.exists([table]);
        if is_there("inexact_windows")? {
            let select = "select max(inexact_until) from inexact_windows where pipeline = ?1";
            let until: Option<i64> = transaction.query_row(select, [pipeline], |row| row.get(0))?;
            before.inexact_until = until.map(|until| Minute::first_open(Micros(until)));
        }
        if is_there("progress_history")? {
            let select =
                "select watermark, highest, partitions, checksum from progress_history where pipeline = ?1 order by watermark";
            let mut statement = transaction.prepare(select)?;
            before.history = statement.query_map([pipeline], stored_entry)?.collect::<Result<_, _>>()?;
        }
        Ok(Some(before))
    }

    fn take_over(&mut self, pipeline: &str) -> Result<(), StoreError> {
        let alone = RunLock::alone(&self.path)?;
        self.lock = Some(alone.ok_or_else(|| held(&format!("SQLite {}", self.path.display()), pipeline))?);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(&tables::in_sqlite())?;
        upgrade(&transaction)?;
        let fence = "update progress set fence = fence + 1 where pipeline = ?1 returning fence";
        self.fence = transaction.query_row(fence, [pipeline], |row| row.get(0))?;
        transaction.commit()?;
        Ok(())
    }

    fn prepare(&mut self, pipeline: &str, topic: &str, starts: &BTreeMap<i32, i64>) -> Result<Box<dyn Store>, StoreError> {
        self.remove_side()?;
        let store = SqliteStore::open(&self.side)?;
        let side = Connection::open(&self.side)?;
        side.execute_batch(&tables::in_sqlite())?;
        for (partition, start) in starts {
            let insert = "insert into progress_partitions
                (pipeline, topic, partition, start_offset, next_offset, end_offset, watermark, state)
                values (?1, ?2, ?3, ?4, ?4, ?4, null, 'backlogged')";
            side.execute(insert, params![pipeline, topic, partition, start])?;
        }
        Ok(Box::new(store))
    }

    fn swap(&mut self, pipeline: &str, topic: &str, recomputed: &Recomputed) -> Result<Changes, StoreError> {
        let side = self.side.to_str().ok_or_else(|| StoreError::Fatal(format!("{}: not UTF-8", self.side.display())))?;
        self.connection.execute("attach ?1 as side", [side])?;
        // Only the old file is written, so the transaction is one of a single file.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let select = "select fence, epoch from main.progress where pipeline = ?1";
        let (fence, epoch): (i64, i64) = transaction.query_row(select, [pipeline], |row| Ok((row.get(0)?, row.get(1)?)))?;
        refuse_other_fence(pipeline, fence, self.fence)?;
        let select = "select min(watermark) from (select watermark from main.progress where pipeline = ?1
            union all select watermark from side.progress where pipeline = ?1)";
        let watermark = transaction.query_row(select, [pipeline], |row| row.get::<_, Option<i64>>(0))?.map(Micros);
        recomputed.refuse_open_windows(watermark).map_err(StoreError::Fatal)?;
        let changes = write(&transaction, pipeline, topic, epoch + 1, recomputed)?;
        transaction.commit()?;
        self.connection.execute("detach side", [])?;
        self.remove_side()?;
        Ok(changes)
    }
}

fn write(
    transaction: &Transaction<'_>,
    pipeline: &str,
    topic: &str,
    epoch: i64,
    Recomputed { determined, grains, drops_history, .. }: &Recomputed,
) -> Result<Changes, rusqlite::Error> {
    let viewers = Metric::ActiveViewers.name();
    let (mut rows_removed, mut rows_written) = (0, 0);
    if *drops_history {
        transaction.execute("update main.progress set minutes_from = null where pipeline = ?1", [pipeline])?;
    }
    let select = "select ifnull(minutes_from, 0) from main.progress where pipeline = ?1";
    let minutes_from: i64 = transaction.query_row(select, [pipeline], |row| row.get(0))?;
    for table in Table::ALL {
        let (name, own, key, columns) =
            (table.name(), table.own_column(), table.key(), Dialect::Sqlite.columns(table.metrics(), str::to_owned));
        if !grains.contains(&table.grain) {
            // Nothing would complete those that are not final.
            let delete = format!("delete from main.{name} where window_end > (select watermark from side.progress)");
            transaction.execute(&delete, [])?;
            continue;
        }
        let first = determined.first(table.grain).start().0;
        // What was dropped is not put back.
        let first = if table.grain == Grain::Minute { first.max(minutes_from) } else { first };
        let delete =
            format!("delete from main.{name} where window_start >= ?1 and ({key}) not in (select {key} from side.{name})");
        let removed = transaction.execute(&delete, [first])?;
        let source = format!("select window_start, window_end, {own}, {columns}, ?1 from side.{name} where window_start >= ?2");
        let written = transaction.execute(&Dialect::Sqlite.upsert_rows("main.", table, &source), [epoch, first])?;
        if table.of == Of::Stream {
            rows_removed += removed;
            rows_written += written;
        }
    }
    // A stream's newest row is one that was made anew, or else the newest of those that stay.
    let first = determined.from.start().0;
    transaction.execute(
        "delete from main.stream_state where window_start >= ?1
             and stream_id not in (select stream_id from side.stream_state where window_start >= ?1)",
        [first],
    )?;
    let upsert = |source: &str| {
        format!(
            "insert into main.stream_state as old (stream_id, {viewers}, window_start, updated_at, epoch) {source}
             on conflict (stream_id) do update set {viewers} = excluded.{viewers},
                 window_start = excluded.window_start, updated_at = excluded.updated_at, epoch = excluded.epoch
             where (old.{viewers}, old.window_start) is not (excluded.{viewers}, excluded.window_start)"
        )
    };
    let now = "cast(unixepoch('now', 'subsec') * 1000000 as integer)";
    let made = format!("select stream_id, {viewers}, window_start, {now}, ?1 from side.stream_state where window_start >= ?2");
    transaction.execute(&upsert(&made), [epoch, first])?;
    // The other columns are of the row with the largest start.
    let kept = format!(
        "select stream_id, {viewers}, max(window_start), {now}, ?1 from main.stream_metrics_minute
         where stream_id not in (select stream_id from main.stream_state) group by stream_id"
    );
    transaction.execute(&upsert(&kept), [epoch])?;
    let letters_removed = transaction.execute(
        r#"delete from main.dead_letters as old where topic = ?1
             and (?2 or "offset" >= (select start_offset from side.progress_partitions as p where p.partition = old.partition))
             and (partition, "offset") not in (select partition, "offset" from side.dead_letters where topic = ?1)"#,
        params![topic, drops_history],
    )?;
    // A letter that was replayed stays marked.
    let letters_written = transaction.execute(
        r#"insert into main.dead_letters as old
             (topic, partition, "offset", reason, error, key, payload, record_time, epoch)
         select topic, partition, "offset", reason, error, key, payload, record_time, ?1
         from side.dead_letters as new
         where ?2 or "offset" >= ifnull((select letters_from from main.progress_partitions as dropped
             where dropped.pipeline = ?3 and dropped.topic = new.topic and dropped.partition = new.partition), 0)
         on conflict (topic, partition, "offset") do update set reason = excluded.reason, error = excluded.error,
             key = excluded.key, payload = excluded.payload, record_time = excluded.record_time, epoch = excluded.epoch
         where (old.reason, old.key, old.payload, old.record_time)
             is not (excluded.reason, excluded.key, excluded.payload, excluded.record_time)"#,
        params![epoch, drops_history, pipeline],
    )?;
    if *drops_history {
        transaction.execute("delete from main.inexact_windows where pipeline = ?1", [pipeline])?;
        transaction.execute("delete from main.progress_partitions where pipeline = ?1", [pipeline])?;
    }
    // The pipeline began to read where it began.
    let columns = "pipeline, topic, partition, start_offset, next_offset, end_offset, watermark, state";
    let insert = format!(
        "insert into main.progress_partitions ({columns}) select {columns} from side.progress_partitions where true
         on conflict (pipeline, topic, partition) do update set next_offset = excluded.next_offset,
             end_offset = excluded.end_offset, watermark = excluded.watermark, state = excluded.state"
    );
    transaction.execute(&insert, [])?;
    transaction.execute("delete from main.progress_history where pipeline = ?1", [pipeline])?;
    transaction.execute(
        "insert into main.progress_history (pipeline, watermark, epoch, taken_at, highest, partitions, checksum)
         select pipeline, watermark, ?1, taken_at, highest, partitions, checksum from side.progress_history",
        [epoch],
    )?;
    if let Some(entry) = &determined.entry {
        let select = "select hash_key from side.progress where pipeline = ?1";
        let hash_key = transaction.query_row(select, [pipeline], |row| row.get::<_, [u8; 16]>(0))?;
        let StoredEntry { watermark, highest, partitions, checksum } = StoredEntry::new(entry, hash_key);
        transaction.execute(
            "insert into main.progress_history (pipeline, watermark, epoch, taken_at, highest, partitions, checksum)
             values (?1, ?2, ?3, cast(unixepoch('now', 'subsec') * 1000000 as integer), ?4, ?5, ?6) on conflict do nothing",
            params![pipeline, watermark.0, epoch, highest, partitions, checksum],
        )?;
    }
    let [hours_from, days_from] = [Grain::Hour, Grain::Day].map(|grain| determined.first(grain).start().0);
    transaction.execute(
        "update main.progress set epoch = ?2, watermark = new.watermark, fingerprint = new.fingerprint, hash_key = new.hash_key,
             checkpoints = new.checkpoints, schema_version = new.schema_version, metrics = new.metrics,
             hours_from = case when new.hours_from is not null
                 then min(ifnull(progress.hours_from, 9223372036854775807), max(new.hours_from, ?3)) end,
             days_from = case when new.days_from is not null
                 then min(ifnull(progress.days_from, 9223372036854775807), max(new.days_from, ?4)) end,
             updated_at = cast(unixepoch('now', 'subsec') * 1000000 as integer)
         from side.progress as new where progress.pipeline = ?1 and new.pipeline = ?1",
        params![pipeline, epoch, hours_from, days_from],
    )?;
    let count = |rows: usize| u64::try_from(rows).unwrap_or(u64::MAX);
    Ok(Changes {
        epoch,
        rows_written: count(rows_written),
        rows_removed: count(rows_removed),
        letters_written: count(letters_written),
        letters_removed: count(letters_removed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::history::Determined;
    use crate::sink::Begin;
    use crate::sink::Decision;

    #[test]
    fn what_was_made_is_not_swapped_in_if_somebody_took_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tidemark.db");
        let begin = Begin {
            pipeline: "p".to_owned(),
            topic: "t".to_owned(),
            fingerprint: "old".to_owned(),
            start_offsets: BTreeMap::from([(0, 0)]),
            new_offsets: BTreeMap::from([(0, 0)]),
            hash_key: [1; 16],
            run: "before".to_owned(),
            again: false,
            grains: &Grain::ALL,
        };
        SqliteStore::open(&path).unwrap().begin(&begin, &mut |_| Ok(Decision::default())).unwrap();
        let mut site = SqliteSite::open(&path).unwrap();
        site.take_over("p").unwrap();
        let mut side = site.prepare("p", "t", &BTreeMap::from([(0, 5)])).unwrap();
        let stored = side.begin(&Begin { fingerprint: "new".to_owned(), ..begin }, &mut |_| Ok(Decision::default())).unwrap();
        assert_eq!(stored.partitions, BTreeMap::from([(0, (5, 5))]), "it starts where it was told to");
        drop(side);
        let fingerprint = |site: &SqliteSite| -> String {
            site.connection.query_row("select fingerprint from progress", [], |row| row.get(0)).unwrap()
        };
        site.connection.execute("update progress set fence = fence + 1", []).unwrap();
        let determined = Determined { entry: None, read_from: BTreeMap::new(), from: Minute(0) };
        let all = Recomputed {
            determined,
            grains: &Grain::ALL,
            rules: crate::rules::Rules::default(),
            inexact_until: None,
            drops_history: false,
        };
        assert!(matches!(site.swap("p", "t", &all), Err(StoreError::Fenced { .. })));
        assert_eq!(fingerprint(&site), "old");
        site.connection.execute("detach side", []).unwrap();
        site.connection.execute("update progress set fence = fence - 1", []).unwrap();
        assert_eq!(site.swap("p", "t", &all).unwrap().epoch, 1);
        assert_eq!(fingerprint(&site), "new");
        assert!(!site.side.exists(), "and nothing is left of the other file");
    }
}
