//! A rebuild in Postgres: a side schema, and a transaction that brings the old tables to what it holds.

use super::{Before, Changes, Recomputed, Site, held, refuse_other_fence};
use crate::checkpoint::history::StoredEntry;
use crate::run::Control;
use crate::sink::columns::Dialect;
use crate::sink::postgres::{PostgresStore, connect, judge};
use crate::sink::session::{Client, Error, Transaction};
use crate::sink::transaction::{ENTRY, RUN_LOCK, Timestamp, stored_entry};
use crate::sink::{Store, StoreError, partitions, tables};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemark_model::{Grain, Metric, Minute, Of, Table};

/// How long the lock is waited for: the session of a program that was killed may hold it for a moment.
const LOCK_WITHIN: Duration = Duration::from_secs(5);

/// The tables of the side schema, but for those of metrics.
const OTHERS: [&str; 6] =
    ["stream_state", "dead_letters", "inexact_windows", "progress_history", "progress_partitions", "progress"];

/// The first schema in the search path, and one beside it.
pub(super) struct PostgresSite {
    client: Client,
    connection: String,
    shown: String,
    /// Name of the side schema, as an identifier of SQL.
    side: String,
    side_name: String,
    fence: i64,
    control: Arc<Control>,
}

impl PostgresSite {
    pub(super) fn open(connection: &str, shown: &str, control: &Arc<Control>) -> Result<PostgresSite, StoreError> {
        let mut client = connect(connection, shown, "tidemark-dataflow-rebuild", Some(control))?;
        let row = client.query_one("select current_schema()::text, to_regclass('progress') is not null", &[]);
        let row = row.map_err(|error| judge(&error, shown))?;
        let (schema, found): (Option<String>, bool) = (row.get(0), row.get(1));
        let schema = schema.filter(|_| found).ok_or_else(|| {
            StoreError::Fatal(format!("Postgres {shown} has no tables of a pipeline: there is nothing to rebuild"))
        })?;
        let side_name = format!("{schema}_tidemark_rebuild");
        let side = format!("\"{}\"", side_name.replace('"', "\"\""));
        let (connection, shown, control) = (connection.to_owned(), shown.to_owned(), Arc::clone(control));
        Ok(PostgresSite { client, connection, shown, side, side_name, fence: 0, control })
    }

    fn judged<T>(&self, result: Result<T, Error>) -> Result<T, StoreError> {
        result.map_err(|error| judge(&error, &self.shown))
    }

    fn drop_side_tables(&mut self) -> Result<(), StoreError> {
        let tables = Table::ALL.into_iter().map(Table::name).chain(OTHERS);
        let drops = tables.map(|table| format!("drop table if exists {}.{table}", self.side)).collect::<Vec<_>>().join("; ");
        let dropped = self.client.batch_execute(&format!("set client_min_messages = warning; {drops}"));
        self.judged(dropped)
    }
}

impl Site for PostgresSite {
    fn before(&mut self, pipeline: &str, topic: &str) -> Result<Option<Before>, StoreError> {
        let read = self.client.transaction().and_then(|mut transaction| read_before(&mut transaction, pipeline, topic));
        self.judged(read)
    }

    fn take_over(&mut self, pipeline: &str) -> Result<(), StoreError> {
        let until = Instant::now() + LOCK_WITHIN;
        loop {
            let locked = self.client.query_one("select pg_try_advisory_lock($1, hashtext(current_schema()))", &[&RUN_LOCK]);
            if self.judged(locked)?.get::<_, bool>(0) {
                break;
            }
            if Instant::now() >= until || self.control.stopping() {
                return Err(held(&format!("Postgres {}", self.shown), pipeline));
            }
            self.control.wait_for_stop(Duration::from_millis(100));
        }
        let began = self.client.transaction();
        let mut transaction = began.map_err(|error| judge(&error, &self.shown))?;
        let taken = tables::upgrade(&mut transaction, false).and_then(|()| {
            let fence = "update progress set fence = fence + 1 where pipeline = $1 returning fence";
            let fence = transaction.query_one(fence, &[&pipeline])?.get(0);
            transaction.commit()?;
            Ok(fence)
        });
        self.fence = taken.map_err(|failure| failure.judged(&self.shown))?;
        Ok(())
    }

    fn prepare(&mut self, pipeline: &str, topic: &str, starts: &BTreeMap<i32, i64>) -> Result<Box<dyn Store>, StoreError> {
        let found = self.client.query_one("select to_regnamespace($1) is not null", &[&self.side]);
        if !self.judged(found)?.get::<_, bool>(0) {
            let created = self.client.batch_execute(&format!("create schema {}", self.side));
            created.map_err(|error| {
                let side = &self.side;
                StoreError::Fatal(format!(
                    "{}; a rebuild needs the schema {side}: let a superuser create it for this role",
                    judge(&error, &self.shown)
                ))
            })?;
        }
        self.drop_side_tables()?;
        let store = PostgresStore::in_schema(&self.connection, &self.shown, &self.side_name)?.stopped_by(&self.control);
        let made = self.client.batch_execute(&format!(
            "begin; set local search_path to {}; {}; commit",
            self.side,
            crate::sink::transaction::TABLES
        ));
        self.judged(made)?;
        let partitions: Vec<i32> = starts.keys().copied().collect();
        let offsets: Vec<i64> = starts.values().copied().collect();
        let insert = format!(
            "insert into {}.progress_partitions
                 (pipeline, topic, partition, start_offset, next_offset, end_offset, watermark, state)
             select $1, $2, partition, start, start, start, null, 'backlogged'
             from unnest($3::int[], $4::bigint[]) as t (partition, start)",
            self.side
        );
        let inserted = self.client.execute(&insert, &[&pipeline, &topic, &partitions, &offsets]);
        self.judged(inserted)?;
        Ok(Box::new(store))
    }

    fn swap(&mut self, pipeline: &str, topic: &str, recomputed: &Recomputed) -> Result<Changes, StoreError> {
        let side = self.side.clone();
        let locked = self.client.transaction().and_then(|mut transaction| {
            transaction.without_limit()?;
            let row = transaction.query_one("select fence, epoch from progress where pipeline = $1 for update", &[&pipeline])?;
            Ok((transaction, row.get::<_, i64>(0), row.get::<_, i64>(1)))
        });
        let (mut transaction, fence, epoch) = locked.map_err(|error| judge(&error, &self.shown))?;
        refuse_other_fence(pipeline, fence, self.fence)?;
        // A null is passed over by `least`.
        let select = format!(
            "select least(new.watermark, old.watermark) from {side}.progress as new, progress as old
             where new.pipeline = $1 and old.pipeline = $1"
        );
        let watermark = transaction.query_one(&select, &[&pipeline]).map_err(|error| judge(&error, &self.shown))?;
        let watermark = watermark.get::<_, Option<Timestamp>>(0).map(|time| time.0);
        recomputed.refuse_open_windows(watermark).map_err(StoreError::Fatal)?;
        let rows = format!("{side}.{}", Table::MINUTES.name());
        let from = recomputed.determined.first(Grain::Minute);
        partitions::make_for(&mut transaction, &rows, from).map_err(|failure| failure.judged(&self.shown))?;
        let changes = write(&mut transaction, &side, pipeline, topic, epoch + 1, recomputed);
        let changes = changes.and_then(|changes| transaction.commit().map(|()| changes));
        let changes = self.judged(changes)?;
        self.drop_side_tables()?;
        // It stays if it is somebody else's, made for this role.
        let _ = self.client.batch_execute(&format!("drop schema {side}"));
        Ok(changes)
    }
}

fn read_before(transaction: &mut Transaction<'_>, pipeline: &str, topic: &str) -> Result<Option<Before>, Error> {
    let select = "select epoch, watermark, fingerprint, (select count(*) from stream_metrics_minute),
        (select count(*) from dead_letters where topic = $2), hash_key from progress where pipeline = $1";
    let Some(row) = transaction.query_opt(select, &[&pipeline, &topic])? else { return Ok(None) };
    let select = "select partition, start_offset, next_offset from progress_partitions where pipeline = $1 and topic = $2";
    let partitions = transaction.query(select, &[&pipeline, &topic])?;
    let watermark: Option<Timestamp> = row.get(1);
    let select = format!("select {ENTRY} from progress_history where pipeline = $1 order by watermark");
    // Those of an earlier program are not all there.
    let found = "select to_regclass('progress_history') is not null, to_regclass('inexact_windows') is not null";
    let found = transaction.query_one(found, &[])?;
    let history = match found.get(0) {
        true => transaction.query(&select, &[&pipeline])?.iter().map(stored_entry).collect(),
        false => Vec::new(),
    };
    let select = "select max(inexact_until) from inexact_windows where pipeline = $1";
    let inexact_until: Option<Timestamp> = if found.get(1) { transaction.query_one(select, &[&pipeline])?.get(0) } else { None };
    Ok(Some(Before {
        history,
        inexact_until: inexact_until.map(|until| Minute::first_open(until.0)),
        epoch: row.get(0),
        watermark: watermark.map(|time| time.0),
        fingerprint: row.get(2),
        rows: row.get(3),
        letters: row.get(4),
        hash_key: row.get::<_, &[u8]>(5).try_into().unwrap_or_default(),
        partitions: partitions.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect(),
    }))
}

/// Under the lock of the progress row.
fn write(
    transaction: &mut Transaction<'_>,
    side: &str,
    pipeline: &str,
    topic: &str,
    epoch: i64,
    Recomputed { determined, grains, drops_history, .. }: &Recomputed,
) -> Result<Changes, Error> {
    let viewers = Metric::ActiveViewers.name();
    let (mut rows_removed, mut rows_written) = (0, 0);
    if *drops_history {
        transaction.execute("update progress set minutes_from = null where pipeline = $1", &[&pipeline])?;
    }
    let dropped = transaction.query_one("select minutes_from from progress where pipeline = $1", &[&pipeline])?;
    let minutes_from = dropped.get::<_, Option<Timestamp>>(0).map_or(Minute(0), |start| Minute::first_open(start.0));
    for table in Table::ALL {
        let (name, own, columns) = (table.name(), table.own_column(), Dialect::Postgres.columns(table.metrics(), str::to_owned));
        let same: Vec<String> = table.key().split(", ").map(|column| format!("new.{column} = old.{column}")).collect();
        if !grains.contains(&table.grain) {
            // Nothing would complete those that are not final.
            let delete = format!("delete from {name} where window_end > (select watermark from {side}.progress)");
            transaction.execute(&delete, &[])?;
            continue;
        }
        let first = determined.first(table.grain);
        // What was dropped is not put back.
        let first = Timestamp(if table.grain == Grain::Minute { first.max(minutes_from) } else { first }.start());
        let delete = format!(
            "delete from {name} as old where window_start >= $1 and not exists (select from {side}.{name} as new where {})",
            same.join(" and ")
        );
        let removed = transaction.execute(&delete, &[&first])?;
        let source = format!("select window_start, window_end, {own}, {columns}, $1 from {side}.{name} where window_start >= $2");
        let written = transaction.execute(&Dialect::Postgres.upsert_rows("", table, &source), &[&epoch, &first])?;
        if table.of == Of::Stream {
            rows_removed += removed;
            rows_written += written;
        }
    }
    // A stream's newest row is one that was made anew, or else the newest of those that stay.
    let first = Timestamp(determined.from.start());
    transaction.execute(
        &format!(
            "delete from stream_state as old where window_start >= $1 and not exists (
                 select from {side}.stream_state as new where new.stream_id = old.stream_id and new.window_start >= $1)"
        ),
        &[&first],
    )?;
    let upsert = |source: &str| {
        format!(
            "insert into stream_state as old (stream_id, {viewers}, window_start, updated_at, epoch) {source}
             on conflict (stream_id) do update set {viewers} = excluded.{viewers},
                 window_start = excluded.window_start, updated_at = excluded.updated_at, epoch = excluded.epoch
             where (old.{viewers}, old.window_start) is distinct from (excluded.{viewers}, excluded.window_start)"
        )
    };
    let made = format!("select stream_id, {viewers}, window_start, now(), $1 from {side}.stream_state where window_start >= $2");
    transaction.execute(&upsert(&made), &[&epoch, &first])?;
    let kept = format!(
        "select distinct on (stream_id) stream_id, {viewers}, window_start, now(), $1 from stream_metrics_minute as row
         where not exists (select from stream_state as state where state.stream_id = row.stream_id)
         order by stream_id, window_start desc"
    );
    transaction.execute(&upsert(&kept), &[&epoch])?;
    let letters_removed = transaction.execute(
        &format!(
            "delete from dead_letters as old where old.topic = $1
                 and ($2 or old.\"offset\" >= (select start_offset from {side}.progress_partitions as p where p.partition = old.partition))
                 and not exists (
                     select from {side}.dead_letters as new
                     where new.topic = old.topic and new.partition = old.partition and new.\"offset\" = old.\"offset\")"
        ),
        &[&topic, drops_history],
    )?;
    // A letter that was replayed stays marked.
    let letters_written = transaction.execute(
        &format!(
            "insert into dead_letters as old
                 (topic, partition, \"offset\", reason, error, key, payload, record_time, epoch)
             select topic, partition, \"offset\", reason, error, key, payload, record_time, $1 from {side}.dead_letters as new
             where $2 or \"offset\" >= coalesce((select letters_from from progress_partitions as dropped
                 where dropped.pipeline = $3 and dropped.topic = new.topic and dropped.partition = new.partition), 0)
             on conflict (topic, partition, \"offset\") do update set reason = excluded.reason, error = excluded.error,
                 key = excluded.key, payload = excluded.payload, record_time = excluded.record_time, epoch = excluded.epoch
             where (old.reason, old.key, old.payload, old.record_time)
                 is distinct from (excluded.reason, excluded.key, excluded.payload, excluded.record_time)"
        ),
        &[&epoch, drops_history, &pipeline],
    )?;
    let columns = "pipeline, topic, partition, start_offset, next_offset, end_offset, watermark, state";
    if *drops_history {
        transaction.execute("delete from progress_partitions where pipeline = $1", &[&pipeline])?;
    }
    // The pipeline began to read where it began.
    transaction.batch_execute(&format!(
        "insert into progress_partitions ({columns}) select {columns} from {side}.progress_partitions
         on conflict (pipeline, topic, partition) do update set next_offset = excluded.next_offset,
             end_offset = excluded.end_offset, watermark = excluded.watermark, state = excluded.state"
    ))?;
    if *drops_history {
        transaction.execute("delete from inexact_windows where pipeline = $1", &[&pipeline])?;
    }
    transaction.execute("delete from progress_history where pipeline = $1", &[&pipeline])?;
    let insert = format!(
        "insert into progress_history (pipeline, watermark, epoch, taken_at, highest, partitions, checksum)
         select pipeline, watermark, $1, taken_at, highest, partitions, checksum from {side}.progress_history"
    );
    transaction.execute(&insert, &[&epoch])?;
    if let Some(entry) = &determined.entry {
        let row = transaction.query_one(&format!("select hash_key from {side}.progress where pipeline = $1"), &[&pipeline])?;
        let StoredEntry { watermark, highest, partitions, checksum } =
            StoredEntry::new(entry, row.get::<_, &[u8]>(0).try_into().unwrap_or_default());
        transaction.execute(
            "insert into progress_history (pipeline, watermark, epoch, taken_at, highest, partitions, checksum)
             values ($1, $2, $3, now(), $4, $5::text::jsonb, $6) on conflict do nothing",
            &[&pipeline, &Timestamp(watermark), &epoch, &highest, &partitions, &checksum],
        )?;
    }
    let [hours_from, days_from] = [Grain::Hour, Grain::Day].map(|grain| Timestamp(determined.first(grain).start()));
    transaction.execute(
        &format!(
            "update progress as old set epoch = $2, watermark = new.watermark, fingerprint = new.fingerprint,
                 hash_key = new.hash_key, checkpoints = new.checkpoints, schema_version = new.schema_version,
                 metrics = new.metrics, updated_at = now(),
                 hours_from = case when new.hours_from is not null then least(old.hours_from, greatest(new.hours_from, $3)) end,
                 days_from = case when new.days_from is not null then least(old.days_from, greatest(new.days_from, $4)) end
             from {side}.progress as new where old.pipeline = $1 and new.pipeline = $1"
        ),
        &[&pipeline, &epoch, &hours_from, &days_from],
    )?;
    Ok(Changes { epoch, rows_written, rows_removed, letters_written, letters_removed })
}
