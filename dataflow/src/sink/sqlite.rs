//! The embedded store: a SQLite file, times in microseconds, money in cents.

use super::columns::Dialect;
use super::own::{At, Held, Offsets, Own};
use super::retention::{self, Sweep, Swept};
use super::{Begin, Commit, Decide, Inexact, Receipt, Row, Store, StoreError, Stored, Total, schema};
use crate::checkpoint::history::{self, StoredEntry};
use crate::fail_points::fail_point;
use crate::flow::Totals;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Statement, ToSql, Transaction, TransactionBehavior, params, params_from_iter,
};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};
use tidemark_model::{Metric, Micros, Minute, Of, Reason, Table, Window, tables};

/// How long a lock of another process is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// A store in a SQLite file.
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    lock: Option<RunLock>,
    files: Files,
    own: Option<Own>,
    trouble: Option<String>,
}

/// The files that are open, by device and inode: another one may be under the same name by now.
#[derive(Clone, Copy, Debug, Default)]
struct Files {
    database: Option<(u64, u64)>,
    /// The write-ahead log.
    log: Option<(u64, u64)>,
}

impl Files {
    fn of(path: &Path) -> Files {
        Files { database: identity(path), log: identity(&beside(path, "-wal")) }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// A file whose name begins as that of the store.
fn beside(store: &Path, suffix: &str) -> PathBuf {
    let mut name = store.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}

impl SqliteStore {
    /// Opens the file, and makes it if it is not there.
    pub fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        let place = |error: rusqlite::Error| StoreError::Fatal(format!("{}: {error}; check DATA_DIR", path.display()));
        if let Some(dir) = path.parent() {
            let unusable = |error| StoreError::Fatal(format!("{}: {error}; check DATA_DIR", dir.display()));
            std::fs::create_dir_all(dir).map_err(unusable)?;
        }
        let connection = connect(path).map_err(place)?;
        Ok(SqliteStore { connection, path: path.to_owned(), lock: None, files: Files::of(path), own: None, trouble: None })
    }

    /// Refuses to write into a file that nobody can find any more.
    fn refuse_replaced(&self) -> Result<(), StoreError> {
        let (Some(own), found) = (&self.own, Files::of(&self.path)) else { return Ok(()) };
        if found.database == self.files.database {
            return Ok(());
        }
        let place = self.path.display();
        if found.database.is_none() {
            // It may have been moved away, and its log may hold commits that it does not: nothing is removed.
            return Err(StoreError::Transient(format!("SQLite: {place} is not there any more: waiting for it to come back")));
        }
        if found.log.is_some() && found.log == self.files.log {
            // It belongs to the file that was replaced. SQLite would take it for the new one's.
            for suffix in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(beside(&self.path, suffix));
            }
        }
        Err(own.superseded(&format_args!("another file is at {place}")))
    }

    /// Whether the tables hold the pipeline. If not, they may be on their way back.
    fn holds(&mut self, pipeline: &str) -> Result<bool, rusqlite::Error> {
        if Files::of(&self.path).database != self.files.database {
            self.connection = connect(&self.path)?;
            self.files = Files::of(&self.path);
        }
        let tables = "select count(*) from sqlite_schema where type = 'table' and name in
            ('progress', 'progress_partitions', 'stream_metrics_minute', 'stream_state', 'dead_letters')";
        let tables: i64 = self.connection.query_row(tables, [], |row| row.get(0))?;
        Ok(tables == 5 && self.connection.prepare("select 1 from progress where pipeline = ?1")?.exists([pipeline])?)
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    // Readers go on while a commit is written; a commit is on the disk before it is acknowledged.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// The lock of a file beside the store's: a run holds it shared, a rebuild alone, for as long as it lives.
pub(crate) struct RunLock {
    _file: File,
}

impl RunLock {
    /// For a run; none while a rebuild or recover is under way.
    fn shared(store: &Path) -> Result<Option<RunLock>, StoreError> {
        RunLock::take(store, File::try_lock_shared)
    }

    /// For a rebuild; none while a run is there.
    pub(crate) fn alone(store: &Path) -> Result<Option<RunLock>, StoreError> {
        RunLock::take(store, File::try_lock)
    }

    fn take(store: &Path, lock: fn(&File) -> Result<(), TryLockError>) -> Result<Option<RunLock>, StoreError> {
        let path = beside(store, "-run");
        let unusable = |error: std::io::Error| StoreError::Fatal(format!("{}: {error}; check DATA_DIR", path.display()));
        let file = File::options().create(true).append(true).open(&path).map_err(unusable)?;
        match lock(&file) {
            Ok(()) => Ok(Some(RunLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
                StoreError::Transient(format!("SQLite: {error}"))
            }
            _ => StoreError::Fatal(format!("SQLite: {error}")),
        }
    }
}

impl Store for SqliteStore {
    fn try_alone(&mut self) -> Result<bool, StoreError> {
        self.lock = RunLock::alone(&self.path)?;
        Ok(self.lock.is_some())
    }

    fn begin(&mut self, begin: &Begin, decide: &mut Decide<'_>) -> Result<Stored, StoreError> {
        if self.lock.is_none() {
            let lock = RunLock::shared(&self.path)?;
            self.lock = Some(lock.ok_or_else(|| StoreError::Transient("SQLite: a rebuild or recover is under way".to_owned()))?);
        }
        if begin.again && !self.holds(&begin.pipeline)? {
            let place = self.path.display();
            return Err(StoreError::Transient(format!(
                "SQLite: {place} does not hold the pipeline: waiting for it to be restored"
            )));
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(&tables::in_sqlite())?;
        upgrade(&transaction)?;
        refuse_changed_fingerprint(&transaction, begin)?;
        let inserted = transaction.execute(
            "insert into progress (pipeline, epoch, watermark, fence, fingerprint, hash_key, checkpoints, updated_at)
             values (?1, 0, null, 0, ?2, ?3, '[]', ?4) on conflict do nothing",
            params![begin.pipeline, begin.fingerprint, begin.hash_key, now()],
        )?;
        if inserted > 0 {
            super::refuse_rows_without_progress(transaction.query_row(super::ROWS_WITHOUT_PROGRESS, [], |row| row.get(0))?)?;
        }
        for (partition, start) in begin.starts(inserted > 0) {
            transaction.execute(
                "insert into progress_partitions
                 (pipeline, topic, partition, start_offset, next_offset, end_offset, watermark, state)
                 values (?1, ?2, ?3, ?4, ?4, ?4, null, 'backlogged') on conflict do nothing",
                params![begin.pipeline, begin.topic, partition, start],
            )?;
        }
        let mut stored = read_stored(&transaction, begin)?;
        let decision = decide(&stored)?;
        read_verdicts(&transaction, begin, &decision.replay_from, &mut stored.verdicts)?;
        stored.fence = stored.fence.max(decision.above_fence) + 1;
        for grain in begin.given_up(&mut stored.rolled_up) {
            for table in [Table::rows(grain), Table::totals(grain)] {
                let delete = format!("delete from {} where window_start > ?1", table.name());
                transaction.execute(&delete, [super::last_final(grain, stored.watermark).0])?;
            }
        }
        let [hours_from, days_from] = starts(stored.rolled_up);
        transaction.execute(
            "update progress set fence = ?2, run = ?3, heartbeat_at = ?4, schema_version = ?5, metrics = ?6, hours_from = ?7, days_from = ?8
             where pipeline = ?1",
            params![begin.pipeline, stored.fence, begin.run, now(), schema::VERSION, schema::metrics(), hours_from, days_from],
        )?;
        transaction.commit()?;
        self.own = Some(Own::new(begin, &stored));
        self.files = Files::of(&self.path);
        Ok(stored)
    }

    fn commit(&mut self, commit: &Commit) -> Result<Receipt, StoreError> {
        self.refuse_replaced()?;
        let own = self.own.as_mut().expect("a run begins before it commits");
        fail_point!("commit-before-transaction");
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let at = compare(own, &transaction)?;
        fail_point!("commit-after-fence");
        if at == At::Attempted {
            // An earlier attempt was applied after all, although its outcome was not heard.
            own.applied();
            return Ok(Receipt { epoch: own.epoch, clock: None });
        }
        own.attempt(commit);
        let epoch = own.epoch + 1;
        write_rows(&transaction, commit, epoch)?;
        fail_point!("commit-after-rows");
        write_dead_letters(&transaction, own, commit, epoch)?;
        fail_point!("commit-after-dead-letters");
        write_history(&transaction, own, commit, epoch)?;
        write_inexact(&transaction, own, commit, epoch)?;
        write_progress(&transaction, own, commit, epoch, self.trouble.as_deref())?;
        fail_point!("commit-after-progress");
        transaction.commit()?;
        fail_point!("commit-after-commit");
        own.applied();
        Ok(Receipt { epoch, clock: None })
    }

    fn sweep(&mut self, sweep: &Sweep) -> Result<Swept, StoreError> {
        self.refuse_replaced()?;
        let own = self.own.as_mut().expect("a run begins before it sweeps");
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if compare(own, &transaction)? == At::Attempted {
            own.applied();
            return Ok(Swept { left: true, ..Swept::default() });
        }
        let (swept, changed) = retention::sqlite::sweep(&transaction, own, sweep, now())?;
        if changed {
            own.attempt(&Commit::default());
            transaction.commit()?;
            own.applied();
        }
        Ok(swept)
    }

    fn trouble(&mut self, trouble: Option<&str>) {
        self.trouble = trouble.map(str::to_owned);
    }

    fn heartbeat(&mut self, trouble: Option<&str>) -> Result<Option<Micros>, StoreError> {
        self.refuse_replaced()?;
        let own = self.own.as_ref().expect("a run begins before it lives");
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        compare(own, &transaction)?;
        let beat = "update progress set heartbeat_at = ?2, trouble = ?3 where pipeline = ?1";
        transaction.execute(beat, params![own.pipeline, now(), trouble])?;
        transaction.commit()?;
        Ok(None)
    }
}

/// Where the store stands, if this run may write.
fn compare(own: &Own, transaction: &Transaction<'_>) -> Result<At, StoreError> {
    let select = "select fence, run, epoch from progress where pipeline = ?1";
    let mut statement = transaction.prepare_cached(select).map_err(|error| own.superseded(&error))?;
    let held = statement.query_row([&own.pipeline], |row| Ok(Held { fence: row.get(0)?, run: row.get(1)?, epoch: row.get(2)? }));
    let held = held.optional()?.ok_or_else(|| own.superseded(&"no progress"))?;
    let at = own.compare(&held)?;
    let select = "select partition, next_offset from progress_partitions where pipeline = ?1 and topic = ?2";
    let mut statement = transaction.prepare_cached(select)?;
    let offsets = statement.query_map([&own.pipeline, &own.topic], |row| Ok((row.get(0)?, row.get(1)?)))?;
    own.compare_offsets(at, &offsets.collect::<Result<Offsets, _>>()?)?;
    Ok(at)
}

/// Adds what an earlier program's tables lack; refuses a newer one's.
pub(crate) fn upgrade(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let has = |table: &str, column: &str| {
        transaction.prepare("select 1 from pragma_table_info(?1) where name = ?2")?.exists([table, column])
    };
    if has("progress", "schema_version")? && has("progress", "metrics")? {
        let select = "select schema_version, metrics from progress";
        let told = transaction.query_row(select, [], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?))).optional()?;
        let (version, metrics) = told.unwrap_or_default();
        schema::refuse_newer(version, metrics.as_deref())?;
    }
    for added in schema::added(Dialect::Sqlite) {
        if !has(added.table, &added.column)? {
            transaction.execute(&added.statement(), [])?;
        }
    }
    Ok(())
}

/// As `progress` has them.
fn starts(rolled_up: [Option<Minute>; 2]) -> [Option<i64>; 2] {
    rolled_up.map(|from| from.map(|first| first.start().0))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn refuse_changed_fingerprint(transaction: &Transaction<'_>, begin: &Begin) -> Result<(), StoreError> {
    let mut statement = transaction.prepare("select pipeline, fingerprint from progress")?;
    let stored = statement.query_row([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).optional()?;
    let Some((pipeline, fingerprint)) = stored else { return Ok(()) };
    super::refuse_other_pipeline(begin, &pipeline, &fingerprint)
}

fn read_stored(transaction: &Transaction<'_>, begin: &Begin) -> Result<Stored, StoreError> {
    let of_pipeline = "from progress where pipeline = ?1";
    let select = format!("select fence, epoch, hash_key, watermark, checkpoints, hours_from, days_from {of_pipeline}");
    let (fence, epoch, hash_key, watermark, checkpoints, rolled_up) =
        transaction.query_row(&select, [&begin.pipeline], |row| {
            let rolled_up = [row.get::<_, Option<i64>>(5)?, row.get(6)?].map(|start| start.map(minute));
            let watermark = row.get::<_, Option<i64>>(3)?.map(Micros);
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, watermark, row.get::<_, String>(4)?, rolled_up))
        })?;
    let select = "select partition, start_offset, next_offset, watermark, letters_from from progress_partitions where pipeline = ?1 and topic = ?2";
    let (mut partitions, mut watermarks, mut letters_from) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut statement = transaction.prepare(select)?;
    let mut rows = statement.query([&begin.pipeline, &begin.topic])?;
    while let Some(row) = rows.next()? {
        let partition = row.get(0)?;
        partitions.insert(partition, (row.get(1)?, row.get(2)?));
        watermarks.extend(row.get::<_, Option<i64>>(3)?.map(|watermark| (partition, Micros(watermark))));
        letters_from.extend(row.get::<_, Option<i64>>(4)?.map(|offset| (partition, offset)));
    }
    let first_open = watermark.map_or(0, |watermark| Minute::first_open(watermark).start().0);
    let mut rows = transaction.prepare(
        "select window_start, stream_id from stream_metrics_minute where window_start >= ?1
         union all select window_start, stream_id from stream_metrics_hour where window_start > ?1 - 3600000000
         union all select window_start, stream_id from stream_metrics_day where window_start > ?1 - 86400000000",
    )?;
    let mut rows = rows.query([first_open])?;
    let mut newest: BTreeMap<String, Minute> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (window, stream) = (minute(row.get(0)?), row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
        match newest.get_mut(stream) {
            Some(newest) => *newest = window.max(*newest),
            None => drop(newest.insert(stream.to_owned(), window)),
        }
    }
    let select = "select watermark, highest, partitions, checksum from progress_history where pipeline = ?1 order by watermark";
    let history = transaction.prepare(select)?.query_map([&begin.pipeline], stored_entry)?.collect::<Result<Vec<_>, _>>()?;
    let select = "select max(inexact_until) from inexact_windows where pipeline = ?1";
    let inexact_until = transaction.query_row(select, [&begin.pipeline], |row| row.get::<_, Option<i64>>(0))?;
    Ok(Stored {
        fence,
        epoch,
        hash_key,
        watermark,
        history: history::usable(history, hash_key, &partitions),
        inexact_until: inexact_until.map(minute),
        partitions,
        letters_from,
        watermarks,
        verdicts: BTreeMap::new(),
        open_rows: newest.into_iter().map(|(stream, window)| (window, stream)).collect(),
        checkpoints: serde_json::from_str(&checkpoints).unwrap_or_else(|error| {
            tracing::error!(%error, "progress.checkpoints is damaged: no checkpoint can be used; trying progress_history");
            serde_json::Value::Null
        }),
        rolled_up,
        clock: None,
    })
}

/// A row of `watermark, highest, partitions, checksum`.
pub(crate) fn stored_entry(row: &rusqlite::Row<'_>) -> Result<StoredEntry, rusqlite::Error> {
    Ok(StoredEntry { watermark: Micros(row.get(0)?), highest: row.get(1)?, partitions: row.get(2)?, checksum: row.get(3)? })
}

/// Those that the replay can meet.
fn read_verdicts(
    transaction: &Transaction<'_>,
    begin: &Begin,
    replay_from: &BTreeMap<i32, i64>,
    verdicts: &mut BTreeMap<(i32, i64), Reason>,
) -> Result<(), StoreError> {
    let mut select = transaction.prepare(
        r#"select "offset", reason from dead_letters
           where topic = ?1 and partition = ?2 and "offset" >= ?3 and reason in ('future', 'closed')"#,
    )?;
    for (&partition, from) in replay_from {
        let mut rows = select.query(params![begin.topic, partition, from])?;
        while let Some(row) = rows.next()? {
            let reason = Reason::parse(row.get_ref(1)?.as_str().unwrap_or_default());
            verdicts.extend(reason.zip(row.get(0).ok()).map(|(reason, offset)| ((partition, offset), reason)));
        }
    }
    Ok(())
}

fn minute(window_start: i64) -> Minute {
    Minute::first_open(Micros(window_start))
}

fn write_rows(transaction: &Transaction<'_>, commit: &Commit, epoch: i64) -> Result<(), rusqlite::Error> {
    /// Of each table, and the same for rows that only rise.
    static ROWS: LazyLock<[[String; 2]; Table::ALL.len()]> = LazyLock::new(|| {
        Table::ALL.map(|table| {
            let values: Vec<String> = (1..=4 + table.metrics().len()).map(|at| format!("?{at}")).collect();
            let values = format!("values ({})", values.join(", "));
            [Dialect::Sqlite.upsert_rows("", table, &values), Dialect::Sqlite.raise_rows(table, &values)]
        })
    });
    static STATES: LazyLock<String> = LazyLock::new(|| {
        let viewers = Metric::ActiveViewers.name();
        format!(
            "insert into stream_state as stored (stream_id, {viewers}, window_start, updated_at, epoch)
             values (?1, ?2, ?3, ?4, ?5)
             on conflict (stream_id) do update set {viewers} = excluded.{viewers},
                 window_start = excluded.window_start, updated_at = excluded.updated_at, epoch = excluded.epoch
             where excluded.window_start > stored.window_start
                 or (excluded.window_start = stored.window_start and excluded.{viewers} <> stored.{viewers})"
        )
    });
    let write = |upsert: &mut Statement<'_>, window: Window, own: &dyn ToSql, totals: &Totals| {
        let (start, end) = (window.start().0, window.end().0);
        let key: [&dyn ToSql; 3] = [&start, &end, own];
        let values = commit.whole.of(window.first, &totals.values);
        let values = values[..Metric::of(window.grain).len()].iter().map(|value| value as &dyn ToSql);
        upsert.execute(params_from_iter(key.into_iter().chain(values).chain([&epoch as &dyn ToSql])))
    };
    for table in Table::ALL {
        let [upsert, raise] = &ROWS[table.place()];
        let (mut upsert, mut raise) = (transaction.prepare_cached(upsert)?, transaction.prepare_cached(raise)?);
        let mut of = |window: Window, own: &dyn ToSql, totals: &Totals| {
            let statement = if commit.is_exact(window) { &mut upsert } else { &mut raise };
            write(statement, window, own, totals)
        };
        match table.of {
            Of::Stream => {
                for Row { window, stream_id, totals, .. } in commit.rows_of(table.grain) {
                    of(*window, &&**stream_id, totals)?;
                }
            }
            Of::All => {
                for Total { window, streams, totals } in commit.totals_of(table.grain) {
                    of(*window, streams, totals)?;
                }
            }
        }
    }
    let mut upsert = transaction.prepare_cached(&STATES)?;
    let now = now();
    for Row { window, stream_id, totals, .. } in commit.newest_rows() {
        upsert.execute(params![&**stream_id, totals.values[Metric::ActiveViewers], window.start().0, now, epoch])?;
    }
    Ok(())
}

fn write_dead_letters(transaction: &Transaction<'_>, own: &Own, commit: &Commit, epoch: i64) -> Result<(), rusqlite::Error> {
    let mut insert = transaction.prepare_cached(
        r#"insert into dead_letters (topic, partition, "offset", reason, error, key, payload, record_time, epoch)
           values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) on conflict do nothing"#,
    )?;
    for letter in &commit.dead_letters {
        let reason = letter.reason.as_str();
        let time = letter.record_time.map(|time| time.0);
        let (partition, offset) = (letter.partition, letter.offset);
        insert.execute(params![own.topic, partition, offset, reason, letter.error, letter.key, letter.payload, time, epoch])?;
    }
    Ok(())
}

fn write_history(transaction: &Transaction<'_>, own: &Own, commit: &Commit, epoch: i64) -> Result<(), rusqlite::Error> {
    let mut insert = transaction.prepare_cached(
        "insert or replace into progress_history (pipeline, watermark, epoch, taken_at, highest, partitions, checksum)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for entry in &commit.history {
        let StoredEntry { watermark, highest, partitions, checksum } = StoredEntry::new(entry, own.hash_key);
        insert.execute(params![own.pipeline, watermark.0, epoch, now(), highest, partitions, checksum])?;
    }
    if let Some(old_enough) = commit.old_enough {
        let delete = "
            with needed as (
                select max(watermark) as at from progress_history where pipeline = ?1 and (highest is null or highest <= ?2)),
            old as (
                select watermark, needed.at - watermark as age,
                    watermark % case when needed.at - watermark > 691200000000 then 86400000000 else 3600000000 end as since
                from progress_history, needed where pipeline = ?1 and watermark < needed.at)
            delete from progress_history where pipeline = ?1 and watermark in (
                select watermark from old where age > 34560000000000 or exists (
                    select 1 from progress_history as first where first.pipeline = ?1
                        and first.watermark >= old.watermark - old.since and first.watermark < old.watermark))";
        transaction.prepare_cached(delete)?.execute(params![own.pipeline, old_enough.0])?;
    }
    Ok(())
}

fn write_inexact(transaction: &Transaction<'_>, own: &Own, commit: &Commit, epoch: i64) -> Result<(), rusqlite::Error> {
    let Some(Inexact { from, until, why }) = &commit.inexact else { return Ok(()) };
    transaction.execute(
        "insert into inexact_windows (pipeline, inexact_from, inexact_until, epoch, marked_at, why)
         values (?1, ?2, ?3, ?4, ?5, ?6) on conflict do nothing",
        params![own.pipeline, from.start().0, until.start().0, epoch, now(), why],
    )?;
    Ok(())
}

fn write_progress(
    transaction: &Transaction<'_>,
    own: &Own,
    commit: &Commit,
    epoch: i64,
    trouble: Option<&str>,
) -> Result<(), rusqlite::Error> {
    let mut upsert = transaction.prepare_cached(
        "insert into progress_partitions
             (pipeline, topic, partition, start_offset, next_offset, end_offset, watermark, state)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         on conflict (pipeline, topic, partition) do update set next_offset = excluded.next_offset,
             end_offset = excluded.end_offset, watermark = excluded.watermark, state = excluded.state",
    )?;
    for mark in commit.partitions.values() {
        let watermark = mark.watermark.map(|watermark| watermark.0);
        let (start, next, end) = (mark.start_offset, mark.next_offset, mark.end_offset);
        let standing = mark.standing.as_str();
        upsert.execute(params![own.pipeline, own.topic, mark.partition, start, next, end, watermark, standing])?;
    }
    let mut update = transaction.prepare_cached(
        "update progress set epoch = ?2, watermark = max(coalesce(watermark, ?3), coalesce(?3, watermark)), updated_at = ?4,
             checkpoints = coalesce(?5, checkpoints), heartbeat_at = ?4, trouble = ?6, hours_from = ?7, days_from = ?8
         where pipeline = ?1",
    )?;
    let checkpoints = commit.checkpoints.as_ref().map(|checkpoints| serde_json::to_string(checkpoints).expect("plain data"));
    let watermark = commit.watermark.map(|watermark| watermark.0);
    let [hours_from, days_from] = starts(commit.whole.rolled_up);
    update.execute(params![own.pipeline, epoch, watermark, now(), checkpoints, trouble, hours_from, days_from])?;
    Ok(())
}
