//! The books of a Postgres schema.

use super::{
    Books, Checkpoints, Filter, Letter, LetterPage, Own, PartitionProgress, Place, Position, Progress, StoredLetter, StoredRow,
    StoredState, Tables, earlier, no_tables, tables,
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
use tidemark_model::{Metric, Micros, Minute, Of, Table};

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
        judged(result, &self.shown)
    }
}

fn judged<T>(result: Result<T, Error>, shown: &str) -> Result<T, StoreError> {
    result.map_err(|error| match error.as_db_error() {
        Some(lacks) if [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_TABLE].contains(lacks.code()) => {
            earlier(&format!("Postgres {shown}"), lacks.message())
        }
        _ => judge(&error, shown),
    })
}

impl Books for PostgresBooks {
    fn tables(&mut self, pipeline: &str, topic: &str) -> Result<Option<Box<dyn Tables + '_>>, StoreError> {
        let shown = self.shown.clone();
        let mut transaction = judged(self.client.snapshot(), &shown)?;
        let progress = judged(read_progress(&mut transaction, pipeline, topic), &shown)?;
        Ok(progress.map(|progress| Box::new(PostgresTables { transaction, topic: topic.to_owned(), progress, shown }) as _))
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

/// The tables as of the moment at which a transaction began.
struct PostgresTables<'a> {
    transaction: Transaction<'a>,
    topic: String,
    progress: Progress,
    shown: String,
}

impl PostgresTables<'_> {
    fn query<T>(&mut self, select: &str, parameters: Parameters<'_>, take: impl Fn(&Row) -> T) -> Result<Vec<T>, StoreError> {
        let rows = self.transaction.query(select, parameters);
        Ok(judged(rows, &self.shown)?.iter().map(take).collect())
    }

    fn count(&mut self, select: &str, parameters: Parameters<'_>) -> Result<u64, StoreError> {
        let row = self.transaction.query_one(select, parameters);
        Ok(judged(row, &self.shown)?.get::<_, i64>(0).cast_unsigned())
    }
}

impl Tables for PostgresTables<'_> {
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
        let (own, values, behind) = (table.own_column(), Dialect::Postgres.integers(table.metrics()), tables::behind(table));
        let among = tables::among(streams, "stream_id = any($3)").replace("$3", "$3::text[]");
        let behind = behind.replace("$1", "$1::timestamptz").replace("$2", "$2::text");
        let select = format!(
            "select window_start, {own}, window_end, epoch, {values} from {} where {behind} and {among} order by {} limit $4",
            table.name(),
            table.key()
        );
        let (start, limit) = (Timestamp(after.0), i64::from(limit));
        self.query(&select, &[&start, &after.1, &streams, &limit], |row| StoredRow {
            window_start: row.get::<_, Timestamp>("window_start").0,
            window_end: row.get::<_, Timestamp>("window_end").0,
            own: match table.of {
                Of::Stream => Own::Stream(row.get(own)),
                Of::All => Own::All(row.get(own)),
            },
            values: table.metrics().iter().map(|metric| row.get(metric.name())).collect(),
            epoch: row.get("epoch"),
        })
    }

    fn count_before(&mut self, table: Table, start: Micros) -> Result<u64, StoreError> {
        self.count(&format!("select count(*) from {} where window_start < $1", table.name()), &[&Timestamp(start)])
    }

    fn states(&mut self, after: &str, streams: Option<&[String]>, limit: u32) -> Result<Vec<(String, StoredState)>, StoreError> {
        let viewers = Metric::ActiveViewers.name();
        let select = format!(
            "select stream_id, {viewers}, window_start, epoch from stream_state
            where stream_id > $1 and ($2::text[] is null or stream_id = any($2)) order by stream_id limit $3"
        );
        self.query(&select, &[&after, &streams, &i64::from(limit)], |row| {
            (row.get(0), StoredState { viewers: row.get(1), window_start: row.get::<_, Timestamp>(2).0, epoch: row.get(3) })
        })
    }

    fn letters(&mut self, page: LetterPage, limit: u32) -> Result<Vec<(i64, StoredLetter)>, StoreError> {
        let select = r#"select "offset", reason, key, payload, record_time from dead_letters
            where topic = $1 and partition = $2 and "offset" >= $3 order by "offset" limit $4"#;
        let topic = self.topic.clone();
        self.query(select, &[&topic, &page.partition, &page.from, &i64::from(limit)], |row| {
            let record_time = row.get::<_, Option<Timestamp>>(4).map(|time| time.0);
            (row.get(0), StoredLetter { reason: row.get(1), key: row.get(2), payload: row.get(3), record_time })
        })
    }

    fn count_letters_below(&mut self, partition: i32, offset: i64) -> Result<u64, StoreError> {
        let topic = self.topic.clone();
        let select = r#"select count(*) from dead_letters where topic = $1 and partition = $2 and "offset" < $3"#;
        self.count(select, &[&topic, &partition, &offset])
    }

    fn partition_of_letters(&mut self, after: i32) -> Result<Option<i32>, StoreError> {
        let topic = self.topic.clone();
        let select = "select min(partition) from dead_letters where topic = $1 and partition > $2";
        Ok(self.query(select, &[&topic, &after], |row| row.get::<_, Option<i32>>(0))?.into_iter().flatten().next())
    }
}

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

fn read_progress(transaction: &mut Transaction<'_>, pipeline: &str, topic: &str) -> Result<Option<Progress>, Error> {
    // A partition that is dropped is gone for earlier snapshots too. This takes no snapshot yet.
    transaction.batch_execute("lock table stream_metrics_minute in access share mode")?;
    // To count a big table takes longer than a commit may; and between two pages the log is read.
    transaction.without_limit()?;
    transaction.batch_execute("set local idle_in_transaction_session_timeout = 0")?;
    let Some(row) = transaction.query_opt(
        "select epoch, watermark, fingerprint, hours_from, days_from, hash_key, minutes_from from progress where pipeline = $1",
        &[&pipeline],
    )?
    else {
        return Ok(None);
    };
    let time = |row: &Row, column| row.get::<_, Option<Timestamp>>(column).map(|time| time.0);
    let select = "select partition, start_offset, next_offset, watermark, letters_from from progress_partitions
        where pipeline = $1 and topic = $2";
    let partitions = transaction.query(select, &[&pipeline, &topic])?;
    let partition = |row: &Row| {
        let progress = PartitionProgress { start_offset: row.get(1), next_offset: row.get(2), watermark: time(row, 3) };
        (row.get(0), progress)
    };
    let mut progress = Progress {
        epoch: row.get(0),
        watermark: time(&row, 1),
        rolled_up: [3, 4].map(|column| time(&row, column)),
        fingerprint: row.get(2),
        minutes_from: time(&row, 6),
        letters_from: partitions.iter().filter_map(|row| Some((row.get(0), row.get::<_, Option<i64>>(4)?))).collect(),
        partitions: partitions.iter().map(partition).collect(),
        ..Progress::default()
    };
    let select = format!("select {ENTRY} from progress_history where pipeline = $1 order by watermark");
    let history = transaction.query(&select, &[&pipeline])?.iter().map(stored_entry).collect();
    progress.put_history(history, row.get::<_, &[u8]>(5).try_into().unwrap_or_default());
    let until = transaction.query_one("select max(inexact_until) from inexact_windows where pipeline = $1", &[&pipeline])?;
    progress.inexact_until = time(&until, 0).map(Minute::first_open);
    Ok(Some(progress))
}
