//! The books of a SQLite file.

use super::{
    Books, Checkpoints, Filter, Letter, LetterPage, Own, PartitionProgress, Place, Position, Progress, StoredLetter, StoredRow,
    StoredState, Tables, earlier, no_tables, tables,
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
    fn tables(&mut self, pipeline: &str, topic: &str) -> Result<Option<Box<dyn Tables + '_>>, StoreError> {
        let transaction = self.connection.transaction()?;
        let progress = judged(read_progress(&transaction, pipeline, topic))?;
        Ok(progress.map(|progress| Box::new(SqliteTables { transaction, topic: topic.to_owned(), progress }) as _))
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

/// The tables as of a transaction's first reading: in the write-ahead log's mode all others are of the same moment.
struct SqliteTables<'a> {
    transaction: Transaction<'a>,
    topic: String,
    progress: Progress,
}

impl SqliteTables<'_> {
    fn query<T>(
        &self,
        select: &str,
        parameters: impl Params,
        take: impl FnMut(&Row<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = || self.transaction.prepare_cached(select)?.query_map(parameters, take)?.collect();
        judged(rows())
    }

    fn count(&self, select: &str, parameters: impl Params) -> Result<u64, StoreError> {
        let count: Result<i64, _> = self.transaction.query_row(select, parameters, |row| row.get(0));
        Ok(judged(count)?.cast_unsigned())
    }
}

impl Tables for SqliteTables<'_> {
    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn rows(
        &mut self,
        table: Table,
        after: &Place,
        streams: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<StoredRow>, StoreError> {
        let (own, values, behind) = (table.own_column(), Dialect::Sqlite.integers(table.metrics()), tables::behind(table));
        let among = tables::among(streams, "stream_id in (select value from json_each($3))");
        let select = format!(
            "select window_start, {own}, window_end, epoch, {values} from {} where {behind} and {among} order by {} limit $4",
            table.name(),
            table.key()
        );
        let columns: Vec<String> = table.metrics().iter().map(|metric| metric.integer_column()).collect();
        self.query(&select, params![after.0.0, after.1, names(streams), limit], |row| {
            Ok(StoredRow {
                window_start: Micros(row.get("window_start")?),
                window_end: Micros(row.get("window_end")?),
                own: match table.of {
                    Of::Stream => Own::Stream(row.get(own)?),
                    Of::All => Own::All(row.get(own)?),
                },
                values: columns.iter().map(|column| row.get(&**column)).collect::<Result<_, _>>()?,
                epoch: row.get("epoch")?,
            })
        })
    }

    fn count_before(&mut self, table: Table, start: Micros) -> Result<u64, StoreError> {
        self.count(&format!("select count(*) from {} where window_start < ?1", table.name()), [start.0])
    }

    fn states(&mut self, after: &str, streams: Option<&[String]>, limit: u32) -> Result<Vec<(String, StoredState)>, StoreError> {
        let viewers = Metric::ActiveViewers.name();
        let select = format!(
            "select stream_id, {viewers}, window_start, epoch from stream_state
            where stream_id > ?1 and (?2 is null or stream_id in (select value from json_each(?2))) order by stream_id limit ?3"
        );
        self.query(&select, params![after, names(streams), limit], |row| {
            let state = StoredState { viewers: row.get(1)?, window_start: Micros(row.get(2)?), epoch: row.get(3)? };
            Ok((row.get(0)?, state))
        })
    }

    fn letters(&mut self, page: LetterPage, limit: u32) -> Result<Vec<(i64, StoredLetter)>, StoreError> {
        let select = r#"select "offset", reason, key, payload, record_time from dead_letters
            where topic = ?1 and partition = ?2 and "offset" >= ?3 order by "offset" limit ?4"#;
        self.query(select, params![self.topic, page.partition, page.from, limit], |row| {
            let record_time = row.get::<_, Option<i64>>(4)?.map(Micros);
            Ok((row.get(0)?, StoredLetter { reason: row.get(1)?, key: row.get(2)?, payload: row.get(3)?, record_time }))
        })
    }

    fn count_letters_below(&mut self, partition: i32, offset: i64) -> Result<u64, StoreError> {
        let select = r#"select count(*) from dead_letters where topic = ?1 and partition = ?2 and "offset" < ?3"#;
        self.count(select, params![self.topic, partition, offset])
    }

    fn partition_of_letters(&mut self, after: i32) -> Result<Option<i32>, StoreError> {
        let select = "select min(partition) from dead_letters where topic = ?1 and partition > ?2";
        Ok(self.query(select, params![self.topic, after], |row| row.get::<_, Option<i32>>(0))?.into_iter().flatten().next())
    }
}

/// A list of names as JSON.
fn names(streams: Option<&[String]>) -> Option<String> {
    streams.map(|streams| serde_json::json!(streams).to_string())
}

fn judged<T>(result: Result<T, rusqlite::Error>) -> Result<T, StoreError> {
    result.map_err(|error| match error.to_string() {
        lacks if lacks.contains("no such column") || lacks.contains("no such table") => {
            earlier("SQLite", lacks.split(" in ").next().unwrap_or_default())
        }
        _ => error.into(),
    })
}

fn read_progress(transaction: &Transaction<'_>, pipeline: &str, topic: &str) -> Result<Option<Progress>, rusqlite::Error> {
    let progress = transaction.query_row(
        "select epoch, watermark, fingerprint, hours_from, days_from, hash_key, minutes_from from progress where pipeline = ?1",
        [pipeline],
        |row| {
            let watermark = row.get::<_, Option<i64>>(1)?.map(Micros);
            let rolled_up = [row.get::<_, Option<i64>>(3)?, row.get(4)?].map(|start| start.map(Micros));
            let (epoch, fingerprint, minutes_from) = (row.get(0)?, row.get(2)?, row.get::<_, Option<i64>>(6)?.map(Micros));
            let progress = Progress { epoch, watermark, fingerprint, rolled_up, minutes_from, ..Progress::default() };
            Ok((progress, row.get::<_, [u8; 16]>(5)?))
        },
    );
    let Some((mut progress, hash_key)) = progress.optional()? else { return Ok(None) };
    let select = "select partition, start_offset, next_offset, watermark from progress_partitions
        where pipeline = ?1 and topic = ?2";
    let partition = |row: &Row<'_>| {
        let watermark = row.get::<_, Option<i64>>(3)?.map(Micros);
        Ok((row.get(0)?, PartitionProgress { start_offset: row.get(1)?, next_offset: row.get(2)?, watermark }))
    };
    progress.partitions = transaction.prepare(select)?.query_map([pipeline, topic], partition)?.collect::<Result<_, _>>()?;
    let select = "select partition, letters_from from progress_partitions
        where pipeline = ?1 and topic = ?2 and letters_from is not null";
    let from = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    progress.letters_from = transaction.prepare(select)?.query_map([pipeline, topic], from)?.collect::<Result<_, _>>()?;
    let select = "select watermark, highest, partitions, checksum from progress_history where pipeline = ?1 order by watermark";
    let history = transaction.prepare(select)?.query_map([pipeline], stored_entry)?.collect::<Result<_, _>>()?;
    progress.put_history(history, hash_key);
    let select = "select max(inexact_until) from inexact_windows where pipeline = ?1";
    let until: Option<i64> = transaction.query_row(select, [pipeline], |row| row.get(0))?;
    progress.inexact_until = until.map(|until| Minute::first_open(Micros(until)));
    Ok(Some(progress))
}
