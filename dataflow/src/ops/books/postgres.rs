//! The books of a Postgres schema.

use super::{
    Books, Checkpoints, Filter, Letter, PartitionProgress, Position, Snapshot, StoredLetter, StoredRow, StoredState, StoredTotal,
    earlier, no_tables,
};
use crate::run::Control;
use crate::sink::StoreError;
use crate::sink::columns::Dialect;
use crate::sink::postgres::{connect, judge};
use crate::sink::session::{Client, Error, Transaction};
use crate::sink::transaction::{ENTRY, Timestamp, stored_entry};
use ::postgres::Row;
use ::postgres::error::SqlState;
use ::postgres::types::ToSql;
use std::sync::Arc;
use tidemark_model::{Metric, Minute, Of, Table};

/// The books of the first schema in the search path.
pub struct PostgresBooks {
    client: Client,
    shown: String,
}

const LETTERS: &str = r#"from dead_letters
    where topic = $1
        and ($2::text[] is null or reason = any($2))
        and ($3::int is null or partition = $3)
        and ($4::bigint is null or "offset" >= $4)
        and ($5::bigint is null or "offset" < $5)
        and ($6::timestamptz is null or record_time >= $6)
        and ($7::timestamptz is null or record_time < $7)
        and ($8::boolean is null or (replayed_at is not null) = $8)
        and ($9::int is null or (partition, "offset") > ($9, $10::bigint))
        and ($11::bigint is null or epoch <= $11)"#;

impl PostgresBooks {
    /// Connects.
    pub fn open(connection: &str, shown: &str, control: Option<&Arc<Control>>) -> Result<PostgresBooks, StoreError> {
        let client = connect(connection, shown, "tidemark-dataflow-command", control)?;
        let mut books = PostgresBooks { client, shown: shown.to_owned() };
        let found = books.client.query_one("select to_regclass('progress') is not null", &[]);
        let found: bool = found.map_err(|error| judge(&error, &books.shown))?.get(0);
        if found { Ok(books) } else { Err(no_tables(&format!("Postgres {shown}"))) }
    }

    fn judged<T>(&self, result: Result<T, Error>) -> Result<T, StoreError> {
        result.map_err(|error| match error.as_db_error() {
            Some(lacks) if [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_TABLE].contains(lacks.code()) => {
                earlier(&format!("Postgres {}", self.shown), lacks.message())
            }
            _ => judge(&error, &self.shown),
        })
    }
}

impl Books for PostgresBooks {
    fn snapshot(&mut self, pipeline: &str, topic: &str) -> Result<Option<Snapshot>, StoreError> {
        let snapshot = self.client.snapshot().and_then(|mut transaction| read_all(&mut transaction, pipeline, topic));
        self.judged(snapshot)
    }

    fn letters(&mut self, topic: &str, filter: &Filter, limit: u32) -> Result<Vec<Letter>, StoreError> {
        let select = format!(
            r#"select partition, "offset", reason, error, key, payload, record_time, epoch, replayed_at {LETTERS}
            order by partition, "offset" limit $12"#
        );
        let limit = i64::from(limit);
        let rows = with_filter(topic, filter, |parameters| {
            self.client.query(&select, &[parameters, &[&limit as &(dyn ToSql + Sync)]].concat())
        });
        Ok(self.judged(rows)?.iter().map(letter).collect())
    }

    fn count_letters(&mut self, topic: &str, filter: &Filter) -> Result<u64, StoreError> {
        let select = format!("select count(*) {LETTERS}");
        let row = with_filter(topic, filter, |parameters| self.client.query_one(&select, parameters));
        Ok(self.judged(row)?.get::<_, i64>(0).cast_unsigned())
    }

    fn epoch(&mut self, pipeline: &str) -> Result<i64, StoreError> {
        let row = self.client.query_opt("select epoch from progress where pipeline = $1", &[&pipeline]);
        Ok(self.judged(row)?.map_or(0, |row| row.get(0)))
    }

    fn checkpoints(&mut self, pipeline: &str, topic: &str) -> Result<Option<Checkpoints>, StoreError> {
        let select = "select checkpoints, hash_key,
                array(select partition from progress_partitions where pipeline = $1 and topic = $2 order by partition),
                array(select next_offset from progress_partitions where pipeline = $1 and topic = $2 order by partition)
            from progress where pipeline = $1";
        let row = self.client.query_opt(select, &[&pipeline, &topic]);
        let Some(row) = self.judged(row)? else { return Ok(None) };
        let hash_key = row.get::<_, &[u8]>(1).try_into();
        Ok(Some(Checkpoints {
            named: row.get(0),
            hash_key: hash_key.map_err(|_| StoreError::Fatal("progress.hash_key is not of 16 bytes".to_owned()))?,
            next_offsets: row.get::<_, Vec<i32>>(2).into_iter().zip(row.get::<_, Vec<i64>>(3)).collect(),
        }))
    }

    fn forget_checkpoint(&mut self, pipeline: &str, read: &serde_json::Value, index: usize) -> Result<bool, StoreError> {
        let left = Checkpoints::without(read, index);
        let update = "update progress set checkpoints = $3 where pipeline = $1 and checkpoints = $2";
        let updated = self.client.execute(update, &[&pipeline, read, &left]);
        Ok(self.judged(updated)? == 1)
    }

    fn claim(&mut self, topic: &str, at: Position) -> Result<bool, StoreError> {
        let claimed = self.client.execute(
            r#"update dead_letters set replayed_at = now()
            where topic = $1 and partition = $2 and "offset" = $3 and replayed_at is null"#,
            &[&topic, &at.partition, &at.offset],
        );
        Ok(self.judged(claimed)? == 1)
    }

    fn release(&mut self, topic: &str, at: Position) -> Result<(), StoreError> {
        let released = self.client.execute(
            r#"update dead_letters set replayed_at = null where topic = $1 and partition = $2 and "offset" = $3"#,
            &[&topic, &at.partition, &at.offset],
        );
        self.judged(released).map(drop)
    }
}

/// Calls with the eleven parameters of [`LETTERS`].
fn with_filter<T>(topic: &str, filter: &Filter, call: impl FnOnce(&[&(dyn ToSql + Sync)]) -> T) -> T {
    let reasons = filter.reason_names();
    let (from, to) = (filter.from.map(Timestamp), filter.to.map(Timestamp));
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

fn letter(row: &Row) -> Letter {
    let time = |column| row.get::<_, Option<Timestamp>>(column).map(|time| time.0);
    Letter {
        at: Position { partition: row.get(0), offset: row.get(1) },
        reason: row.get(2),
        error: row.get(3),
        key: row.get(4),
        payload: row.get(5),
        record_time: time(6),
        epoch: row.get(7),
        replayed_at: time(8),
    }
}

fn read_all(transaction: &mut Transaction<'_>, pipeline: &str, topic: &str) -> Result<Option<Snapshot>, Error> {
    // A big table takes longer than a commit may.
    transaction.without_limit()?;
    let Some(progress) = transaction.query_opt(
        "select epoch, watermark, fingerprint, hours_from, days_from, hash_key, minutes_from from progress where pipeline = $1",
        &[&pipeline],
    )?
    else {
        return Ok(None);
    };
    let watermark: Option<Timestamp> = progress.get(1);
    let mut snapshot = Snapshot {
        epoch: progress.get(0),
        watermark: watermark.map(|time| time.0),
        rolled_up: [3, 4].map(|column| progress.get::<_, Option<Timestamp>>(column).map(|time| time.0)),
        fingerprint: progress.get(2),
        minutes_from: progress.get::<_, Option<Timestamp>>(6).map(|time| time.0),
        ..Snapshot::default()
    };
    let select = "select partition, start_offset, next_offset, watermark, letters_from from progress_partitions
        where pipeline = $1 and topic = $2";
    each(transaction, select, &[&pipeline, &topic], |row| {
        let watermark: Option<Timestamp> = row.get(3);
        let watermark = watermark.map(|time| time.0);
        let progress = PartitionProgress { start_offset: row.get(1), next_offset: row.get(2), watermark };
        snapshot.partitions.insert(row.get(0), progress);
        snapshot.letters_from.extend(row.get::<_, Option<i64>>(4).map(|offset| (row.get(0), offset)));
    })?;
    let mut history = Vec::new();
    let select = format!("select {ENTRY} from progress_history where pipeline = $1 order by watermark");
    each(transaction, &select, &[&pipeline], |row| history.push(stored_entry(&row)))?;
    snapshot.put_history(history, progress.get::<_, &[u8]>(5).try_into().unwrap_or_default());
    let until = transaction.query_one("select max(inexact_until) from inexact_windows where pipeline = $1", &[&pipeline])?;
    snapshot.inexact_until = until.get::<_, Option<Timestamp>>(0).map(|until| Minute::first_open(until.0));
    for table in Table::ALL {
        let (grain, own, values) = (table.grain, table.own_column(), Dialect::Postgres.integers(table.metrics()));
        let select = format!("select window_start, {own}, window_end, epoch, {values} from {}", table.name());
        each(transaction, &select, &[], |row| {
            let start = row.get::<_, Timestamp>("window_start").0;
            let values = table.metrics().iter().map(|metric| row.get(metric.name())).collect();
            let stored = StoredRow { window_end: row.get::<_, Timestamp>("window_end").0, values, epoch: row.get("epoch") };
            match table.of {
                Of::Stream => drop(snapshot.rows.insert((grain, start, row.get(own)), stored)),
                Of::All => drop(snapshot.totals.insert((grain, start), StoredTotal { streams: row.get(own), row: stored })),
            }
        })?;
    }
    let viewers = Metric::ActiveViewers.name();
    each(transaction, &format!("select stream_id, {viewers}, window_start, epoch from stream_state"), &[], |row| {
        let window_start = row.get::<_, Timestamp>(2).0;
        snapshot.states.insert(row.get(0), StoredState { viewers: row.get(1), window_start, epoch: row.get(3) });
    })?;
    let select = r#"select partition, "offset", reason, key, payload, record_time from dead_letters where topic = $1"#;
    each(transaction, select, &[&topic], |row| {
        let record_time = row.get::<_, Option<Timestamp>>(5).map(|time| time.0);
        let stored = StoredLetter { reason: row.get(2), key: row.get(3), payload: row.get(4), record_time };
        snapshot.letters.insert(Position { partition: row.get(0), offset: row.get(1) }, stored);
    })?;
    Ok(Some(snapshot))
}

/// Hands out the rows as they arrive, so that they are in memory once.
fn each(
    transaction: &mut Transaction<'_>,
    select: &str,
    parameters: &[&(dyn ToSql + Sync)],
    mut take: impl FnMut(Row),
) -> Result<(), Error> {
    let mut rows = transaction.query_raw(select, parameters)?;
    while let Some(row) = rows.next()? {
        take(row);
    }
    Ok(())
}
