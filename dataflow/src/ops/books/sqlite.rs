//! The books of a SQLite file.

use super::{
    Books, Checkpoints, Filter, Letter, PartitionProgress, Position, Snapshot, StoredLetter, StoredRow, StoredState, StoredTotal,
    earlier, no_tables,
};
use crate::sink::StoreError;
use crate::sink::columns::Dialect;
use crate::sink::sqlite::stored_entry;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row, ToSql, Transaction, TransactionBehavior, params};
use std::path::Path;
use std::time::Duration;
use tidemark_model::{Metric, Micros, Minute, Of, Table};

/// How long a lock of another process is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// The books of a file.
pub struct SqliteBooks {
    connection: Connection,
}

const LETTERS: &str = r#"from dead_letters
    where topic = ?1
        and (?2 is null or reason in (select value from json_each(?2)))
        and (?3 is null or partition = ?3)
        and (?4 is null or "offset" >= ?4)
        and (?5 is null or "offset" < ?5)
        and (?6 is null or record_time >= ?6)
        and (?7 is null or record_time < ?7)
        and (?8 is null or (replayed_at is not null) = ?8)
        and (?9 is null or (partition, "offset") > (?9, ?10))
        and (?11 is null or epoch <= ?11)"#;

impl SqliteBooks {
    /// Opens a file that is there.
    pub fn open(path: &Path) -> Result<SqliteBooks, StoreError> {
        let place = format!("SQLite {}", path.display());
        let unusable = |error: rusqlite::Error| StoreError::Fatal(format!("{place}: {error}; check DATA_DIR"));
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if !path.exists() {
            return Err(no_tables(&place));
        }
        let connection = Connection::open_with_flags(path, flags).map_err(unusable)?;
        connection.busy_timeout(BUSY).map_err(unusable)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(unusable)?;
        let found =
            connection.prepare("select 1 from sqlite_schema where name = 'progress'").and_then(|mut find| find.exists([]));
        if found.map_err(unusable)? { Ok(SqliteBooks { connection }) } else { Err(no_tables(&place)) }
    }
}

impl Books for SqliteBooks {
    fn snapshot(&mut self, pipeline: &str, topic: &str) -> Result<Option<Snapshot>, StoreError> {
        // In the write-ahead log's mode all of a transaction's readings are of the moment of its first one.
        let transaction = self.connection.transaction()?;
        read_all(&transaction, pipeline, topic).map_err(|error| match error.to_string() {
            lacks if lacks.contains("no such column") || lacks.contains("no such table") => {
                earlier("SQLite", lacks.split(" in ").next().unwrap_or_default())
            }
            _ => error.into(),
        })
    }

    fn letters(&mut self, topic: &str, filter: &Filter, limit: u32) -> Result<Vec<Letter>, StoreError> {
        let select = format!(
            r#"select partition, "offset", reason, error, key, payload, record_time, epoch, replayed_at {LETTERS}
            order by partition, "offset" limit ?12"#
        );
        let letters = with_filter(topic, filter, |parameters| {
            let mut statement = self.connection.prepare_cached(&select)?;
            statement.query_map(&*[parameters, &[&limit as &dyn ToSql]].concat(), letter)?.collect::<Result<_, _>>()
        });
        Ok(letters?)
    }

    fn count_letters(&mut self, topic: &str, filter: &Filter) -> Result<u64, StoreError> {
        let select = format!("select count(*) {LETTERS}");
        let count =
            with_filter(topic, filter, |parameters| self.connection.query_row(&select, parameters, |row| row.get::<_, i64>(0)));
        Ok(count?.cast_unsigned())
    }

    fn epoch(&mut self, pipeline: &str) -> Result<i64, StoreError> {
        let select = "select epoch from progress where pipeline = ?1";
        Ok(self.connection.query_row(select, [pipeline], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    fn checkpoints(&mut self, pipeline: &str, topic: &str) -> Result<Option<Checkpoints>, StoreError> {
        let transaction = self.connection.transaction()?;
        let select = "select checkpoints, hash_key from progress where pipeline = ?1";
        let row = transaction.query_row(select, [pipeline], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
        let Some((named, hash_key)) = row.optional()? else { return Ok(None) };
        let named = serde_json::from_str(&named).map_err(|error| StoreError::Fatal(format!("progress.checkpoints: {error}")))?;
        let select = "select partition, next_offset from progress_partitions where pipeline = ?1 and topic = ?2";
        let mut statement = transaction.prepare(select)?;
        let next_offsets = statement.query_map([pipeline, topic], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Some(Checkpoints { named, hash_key, next_offsets: next_offsets.collect::<Result<_, _>>()? }))
    }

    fn forget_checkpoint(&mut self, pipeline: &str, read: &serde_json::Value, index: usize) -> Result<bool, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let select = "select checkpoints from progress where pipeline = ?1";
        let present: String = transaction.query_row(select, [pipeline], |row| row.get(0))?;
        // As values: the text of the same list may differ.
        if serde_json::from_str::<serde_json::Value>(&present).ok().as_ref() != Some(read) {
            return Ok(false);
        }
        let left = Checkpoints::without(read, index).to_string();
        transaction.execute("update progress set checkpoints = ?2 where pipeline = ?1", params![pipeline, left])?;
        transaction.commit()?;
        Ok(true)
    }

    fn claim(&mut self, topic: &str, at: Position) -> Result<bool, StoreError> {
        let claimed = self.connection.execute(
            r#"update dead_letters set replayed_at = cast(unixepoch('now', 'subsec') * 1000000 as integer)
            where topic = ?1 and partition = ?2 and "offset" = ?3 and replayed_at is null"#,
            params![topic, at.partition, at.offset],
        )?;
        Ok(claimed == 1)
    }

    fn release(&mut self, topic: &str, at: Position) -> Result<(), StoreError> {
        self.connection.execute(
            r#"update dead_letters set replayed_at = null where topic = ?1 and partition = ?2 and "offset" = ?3"#,
            params![topic, at.partition, at.offset],
        )?;
        Ok(())
    }
}

/// Calls with the eleven parameters of [`LETTERS`].
fn with_filter<T>(topic: &str, filter: &Filter, call: impl FnOnce(&[&dyn ToSql]) -> T) -> T {
    let reasons = filter.reason_names().map(|names| serde_json::json!(names).to_string());
    let (from, to) = (filter.from.map(|time| time.0), filter.to.map(|time| time.0));
    let after = (filter.after.map(|at| at.partition), filter.after.map(|at| at.offset));
    call(&[
        &topic,
        &reasons,
        &filter.partition,
        &filter.from_offset,
        &filter.to_offset,
        &from,
        &to,
        &filter.replayed,
        &after.0,
        &after.1,
        &filter.up_to_epoch,
    ])
}

fn letter(row: &Row<'_>) -> Result<Letter, rusqlite::Error> {
    Ok(Letter {
        at: Position { partition: row.get(0)?, offset: row.get(1)? },
        reason: row.get(2)?,
        error: row.get(3)?,
        key: row.get(4)?,
        payload: row.get(5)?,
        record_time: row.get::<_, Option<i64>>(6)?.map(Micros),
        epoch: row.get(7)?,
        replayed_at: row.get::<_, Option<i64>>(8)?.map(Micros),
    })
}

fn read_all(transaction: &Transaction<'_>, pipeline: &str, topic: &str) -> Result<Option<Snapshot>, rusqlite::Error> {
    let progress = transaction.query_row(
        "select epoch, watermark, fingerprint, hours_from, days_from, hash_key, minutes_from from progress where pipeline = ?1",
        [pipeline],
        |row| {
            let watermark = row.get::<_, Option<i64>>(1)?.map(Micros);
            let rolled_up = [row.get::<_, Option<i64>>(3)?, row.get(4)?].map(|start| start.map(Micros));
            let (epoch, fingerprint, minutes_from) = (row.get(0)?, row.get(2)?, row.get::<_, Option<i64>>(6)?.map(Micros));
            let snapshot = Snapshot { epoch, watermark, fingerprint, rolled_up, minutes_from, ..Snapshot::default() };
            Ok((snapshot, row.get::<_, [u8; 16]>(5)?))
        },
    );
    let Some((mut snapshot, hash_key)) = progress.optional()? else { return Ok(None) };
    let select = "select partition, start_offset, next_offset, watermark, letters_from from progress_partitions
        where pipeline = ?1 and topic = ?2";
    each(transaction, select, [pipeline, topic], |row| {
        let watermark = row.get::<_, Option<i64>>(3)?.map(Micros);
        let progress = PartitionProgress { start_offset: row.get(1)?, next_offset: row.get(2)?, watermark };
        let partition = row.get(0)?;
        snapshot.partitions.insert(partition, progress);
        snapshot.letters_from.extend(row.get::<_, Option<i64>>(4)?.map(|offset| (partition, offset)));
        Ok(())
    })?;
    let mut history = Vec::new();
    let select = "select watermark, highest, partitions, checksum from progress_history where pipeline = ?1 order by watermark";
    each(transaction, select, [pipeline], |row| {
        history.push(stored_entry(row)?);
        Ok(())
    })?;
    snapshot.put_history(history, hash_key);
    let select = "select max(inexact_until) from inexact_windows where pipeline = ?1";
    let until: Option<i64> = transaction.query_row(select, [pipeline], |row| row.get(0))?;
    snapshot.inexact_until = until.map(|until| Minute::first_open(Micros(until)));
    for table in Table::ALL {
        let (grain, own, values) = (table.grain, table.own_column(), Dialect::Sqlite.integers(table.metrics()));
        let select = format!("select window_start, {own}, window_end, epoch, {values} from {}", table.name());
        let columns: Vec<String> = table.metrics().iter().map(|metric| metric.integer_column()).collect();
        each(transaction, &select, [], |row| {
            let start = Micros(row.get("window_start")?);
            let values = columns.iter().map(|column| row.get(&**column)).collect::<Result<_, _>>()?;
            let stored = StoredRow { window_end: Micros(row.get("window_end")?), values, epoch: row.get("epoch")? };
            match table.of {
                Of::Stream => drop(snapshot.rows.insert((grain, start, row.get(own)?), stored)),
                Of::All => drop(snapshot.totals.insert((grain, start), StoredTotal { streams: row.get(own)?, row: stored })),
            }
            Ok(())
        })?;
    }
    let viewers = Metric::ActiveViewers.name();
    each(transaction, &format!("select stream_id, {viewers}, window_start, epoch from stream_state"), [], |row| {
        let state = StoredState { viewers: row.get(1)?, window_start: Micros(row.get(2)?), epoch: row.get(3)? };
        snapshot.states.insert(row.get(0)?, state);
        Ok(())
    })?;
    let select = r#"select partition, "offset", reason, key, payload, record_time from dead_letters where topic = ?1"#;
    each(transaction, select, [topic], |row| {
        let record_time = row.get::<_, Option<i64>>(5)?.map(Micros);
        let stored = StoredLetter { reason: row.get(2)?, key: row.get(3)?, payload: row.get(4)?, record_time };
        snapshot.letters.insert(Position { partition: row.get(0)?, offset: row.get(1)? }, stored);
        Ok(())
    })?;
    Ok(Some(snapshot))
}

fn each(
    transaction: &Transaction<'_>,
    select: &str,
    parameters: impl Params,
    mut take: impl FnMut(&Row<'_>) -> Result<(), rusqlite::Error>,
) -> Result<(), rusqlite::Error> {
    let mut statement = transaction.prepare(select)?;
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    Ok(())
}
