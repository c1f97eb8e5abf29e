//! Postgres: a commit is a handful of statements over arrays, whatever the number of rows, each one message and its answer.

use super::own::{At, Held, Offsets, Own};
use super::session::{self, Client, Transaction};
use super::{Begin, Commit, Decide, LastWord, Receipt, Store, StoreError, Stored, tables};
use crate::fail_points::fail_point;
use crate::run::Control;
use ::postgres::error::SqlState;
use ::postgres::types::{FromSql, IsNull, Json, ToSql, Type, accepts, private::BytesMut, to_sql_checked};
use ::postgres::{Row, Statement};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tidemark_model::{Micros, Minute, Reason};
use tokio_postgres::Config;

/// The tables.
pub(crate) const TABLES: &str = include_str!("../../../sql/init/001_tables.sql");
/// How long connecting may take, and how long a statement: longer means that the server hangs.
const CONNECT: Duration = Duration::from_secs(5);
const STATEMENT: &str = "60s";
/// How long the server lets a transaction of ours stand idle. A process that was paused, or whose network is gone, in the midst of a
/// commit holds the lock of the progress row: without this its successor could not take over before the process comes back.
const IDLE_IN_TRANSACTION: &str = "5s";
/// A peer that acknowledges nothing for this long is gone.
const STALLED: Duration = Duration::from_secs(15);
/// While an answer is waited for, the peer is asked this often whether it is still there, and is gone after so many silences. The
/// system's own default is to ask for the first time after two hours.
const ASK_PEER: (Duration, u32) = (Duration::from_secs(5), 3);
/// Class of the advisory lock that a run holds shared while it is connected, and a rebuild alone; its second number is the hash of
/// the schema's name.
pub(crate) const RUN_LOCK: i32 = 0x7469_6465;
/// Dead letters that are read at once.
const LETTERS_AT_ONCE: i64 = 10_000;
/// Microseconds from 1970 to 2000, from where Postgres counts.
const TO_2000: i64 = 946_684_800_000_000;

/// A store in a Postgres schema.
pub struct PostgresStore {
    config: Config,
    shown: String,
    control: Option<Arc<Control>>,
    session: Option<Session>,
    own: Option<Own>,
    trouble: Option<String>,
}

/// A connection.
struct Session {
    client: Client,
    prepared: Prepared,
}

/// The statements of a commit by their text, prepared once in a connection.
type Prepared = HashMap<&'static str, Statement>;

/// A transaction of them.
struct Writing<'a> {
    transaction: Transaction<'a>,
    prepared: &'a mut Prepared,
}

impl Session {
    fn begin(&mut self) -> Result<Writing<'_>, session::Error> {
        Ok(Writing { transaction: self.client.transaction()?, prepared: &mut self.prepared })
    }
}

impl Writing<'_> {
    fn prepare(&mut self, text: &'static str) -> Result<Statement, session::Error> {
        Ok(match self.prepared.entry(text) {
            Entry::Occupied(slot) => slot.get().clone(),
            Entry::Vacant(slot) => slot.insert(self.transaction.prepare(text)?).clone(),
        })
    }

    fn execute(&mut self, text: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, session::Error> {
        let statement = self.prepare(text)?;
        self.transaction.execute(&statement, parameters)
    }

    fn query_opt(&mut self, text: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, session::Error> {
        let statement = self.prepare(text)?;
        self.transaction.query_opt(&statement, parameters)
    }
}

impl PostgresStore {
    /// A store at this connection string; `shown` is how messages name it. Connects when it is first used.
    pub fn new(connection: &str, shown: &str) -> Result<PostgresStore, StoreError> {
        let mut config = configure(connection, "tidemark-dataflow")?;
        let idle = format!("-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION}");
        let options = format!("{} {idle}", config.get_options().unwrap_or_default());
        config.options(&options);
        Ok(PostgresStore { config, shown: shown.to_owned(), control: None, session: None, own: None, trouble: None })
    }

    /// Waits no longer than is good for this run once it is to end.
    pub fn stopped_by(mut self, control: &Arc<Control>) -> PostgresStore {
        self.control = Some(Arc::clone(control));
        self
    }

    /// The same in a schema of this name, whatever the connection's search path.
    pub(crate) fn in_schema(connection: &str, shown: &str, schema: &str) -> Result<PostgresStore, StoreError> {
        let mut store = PostgresStore::new(connection, shown)?;
        // An identifier of SQL, in which a backslash guards what would end the option.
        let schema = format!("\"{}\"", schema.replace('"', "\"\"")).replace('\\', "\\\\").replace(' ', "\\ ");
        let options = format!("{} -c search_path={schema}", store.config.get_options().unwrap_or_default());
        store.config.options(&options);
        Ok(store)
    }

    /// The connection, made anew if the last one is gone.
    fn session(&mut self) -> Result<&mut Session, StoreError> {
        if self.session.as_ref().is_some_and(|session| session.client.is_closed()) {
            self.session = None;
        }
        if self.session.is_none() {
            let client = Client::connect(&self.config, self.control.as_ref());
            let mut client = client.map_err(|error| judge(&error, &self.shown))?;
            refuse_during_rebuild(&mut client, &self.shown)?;
            self.session = Some(Session { client, prepared: Prepared::default() });
        }
        Ok(self.session.as_mut().expect("it was just made"))
    }

    /// One attempt at a transaction; a connection that failed is not used again.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Session) -> Result<T, Failure>) -> Result<T, StoreError> {
        let shown = self.shown.clone();
        let outcome = work(self.session()?);
        outcome.map_err(|failure| match failure {
            Failure::Postgres(error) => {
                self.session = None;
                judge(&error, &shown)
            }
            Failure::Store(error) => error,
        })
    }
}

/// How every connection is made, named after its program.
fn configure(connection: &str, program: &str) -> Result<Config, StoreError> {
    let unusable = |error: ::postgres::Error| StoreError::Fatal(tidemark_settings::store::unusable(&error).to_string());
    let mut config: Config = connection.parse().map_err(unusable)?;
    config.connect_timeout(CONNECT).application_name(program).tcp_user_timeout(STALLED);
    config.keepalives_idle(ASK_PEER.0).keepalives_interval(ASK_PEER.0).keepalives_retries(ASK_PEER.1);
    let options = format!("{} -c statement_timeout={STATEMENT}", config.get_options().unwrap_or_default());
    config.options(options.trim_start());
    Ok(config)
}

/// A connection for one of the operator's commands; `shown` is how messages name the database.
pub(crate) fn connect(
    connection: &str,
    shown: &str,
    program: &str,
    control: Option<&Arc<Control>>,
) -> Result<Client, StoreError> {
    Client::connect(&configure(connection, program)?, control).map_err(|error| judge(&error, shown))
}

/// What can go wrong in a transaction.
pub(super) enum Failure {
    Postgres(session::Error),
    Store(StoreError),
}

impl From<session::Error> for Failure {
    fn from(error: session::Error) -> Failure {
        Failure::Postgres(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

/// Which faults may pass. Classes of SQLSTATE: 08 connection, 40 rollback (also deadlock), 53 resources, 55 and 57 operator's
/// doing, 58 system; also a server that may only be read, as one is that is about to be promoted, and a transaction that stood idle
/// too long, as one does whose process was paused. What has no SQLSTATE is the connection itself.
pub(crate) fn judge(error: &session::Error, shown: &str) -> StoreError {
    let text = match error.as_db_error() {
        Some(db) => format!("Postgres {shown}: {} (SQLSTATE {})", db.message(), db.code().code()),
        None => format!("Postgres {shown}: {}", chain(error)),
    };
    let transient = match error.code() {
        Some(code) if [&SqlState::READ_ONLY_SQL_TRANSACTION, &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT].contains(&code) => {
            true
        }
        Some(code) => ["08", "40", "53", "55", "57", "58"].contains(&&code.code()[..2]),
        None => error.is_closed() || is_io(error),
    };
    if transient { StoreError::Transient(text) } else { StoreError::Fatal(text) }
}

fn is_io(error: &session::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    // A connection attempt that took too long has no cause.
    error.to_string().contains("timeout") || error.to_string().contains("connecting")
}

pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

impl Store for PostgresStore {
    fn begin(&mut self, begin: &Begin, decide: &mut Decide<'_>) -> Result<Stored, StoreError> {
        let stored = self.attempt(|Session { client, .. }| {
            let mut transaction = client.transaction()?;
            // Between reading what is stored and taking over, checkpoints are verified, which may take as long as reading them does.
            transaction.batch_execute("set local idle_in_transaction_session_timeout = '60s'")?;
            // Two runs that start at once on an empty schema would trip over each other while they make the tables.
            transaction.execute("select pg_advisory_xact_lock(hashtextextended('tidemark ' || current_schema(), 0))", &[])?;
            tables::ensure(&mut transaction, begin.again)?;
            refuse_changed_fingerprint(&mut transaction, begin)?;
            let stored = take_over(&mut transaction, begin, decide)?;
            transaction.commit()?;
            Ok(stored)
        })?;
        self.own = Some(Own::new(begin, &stored));
        Ok(stored)
    }

    fn commit(&mut self, commit: &Commit) -> Result<Receipt, StoreError> {
        self.commit_if(commit, Box::new(|| Ok(())))
    }

    fn commit_if(&mut self, commit: &Commit, last_word: LastWord<'_>) -> Result<Receipt, StoreError> {
        let mut own = self.own.take().expect("a run begins before it commits");
        let trouble = self.trouble.take();
        let outcome = self.attempt(|session| {
            fail_point!("commit-before-transaction");
            let mut transaction = session.begin()?;
            let (at, clock) = lock(&own, &mut transaction)?;
            fail_point!("commit-after-fence");
            if at == At::Attempted {
                // An earlier attempt was applied after all, although its outcome was not heard.
                compare_offsets(&own, at, &mut transaction)?;
                return Ok(clock);
            }
            own.attempt(commit);
            let epoch = own.epoch + 1;
            write_rows(&mut transaction, commit, epoch)?;
            write_states(&mut transaction, commit, epoch)?;
            fail_point!("commit-after-rows");
            write_dead_letters(&mut transaction, &own, commit, epoch)?;
            fail_point!("commit-after-dead-letters");
            let clock = write_progress(&mut transaction, &own, commit, epoch, trouble.as_deref())?;
            fail_point!("commit-after-progress");
            last_word()?;
            // No statement failed, so the transaction is not in the failed state in which COMMIT would quietly roll back.
            transaction.transaction.commit()?;
            fail_point!("commit-after-commit");
            Ok(clock)
        });
        if outcome.is_ok() {
            own.applied();
        }
        let epoch = own.epoch;
        self.own = Some(own);
        outcome.map(|clock| Receipt { epoch, clock: Some(clock) })
    }

    fn trouble(&mut self, trouble: Option<&str>) {
        self.trouble = trouble.map(str::to_owned);
    }

    fn heartbeat(&mut self, trouble: Option<&str>) -> Result<Option<Micros>, StoreError> {
        let own = self.own.take().expect("a run begins before it lives");
        let outcome = self.attempt(|session| {
            let mut transaction = session.begin()?;
            let (at, _) = lock(&own, &mut transaction)?;
            compare_offsets(&own, at, &mut transaction)?;
            let beat = "update progress set heartbeat_at = clock_timestamp(), trouble = $2 where pipeline = $1
                returning clock_timestamp()";
            let row = transaction.query_opt(beat, &[&own.pipeline, &trouble])?;
            transaction.transaction.commit()?;
            Ok(row.map(|row| row.get::<_, Timestamp>(0).0))
        });
        self.own = Some(own);
        outcome
    }
}

/// Locks the progress row. Where the store stands, if this run may write, and its clock.
fn lock(own: &Own, transaction: &mut Writing<'_>) -> Result<(At, Micros), Failure> {
    let select = "select fence, run, epoch, clock_timestamp() from progress where pipeline = $1 for update";
    let Some(row) = transaction.query_opt(select, &[&own.pipeline])? else {
        let what = format!("the progress row of pipeline {} is gone: waiting for it to be restored", own.pipeline);
        return Err(StoreError::Transient(what).into());
    };
    let at = own.compare(&Held { fence: row.get(0), run: row.get(1), epoch: row.get(2) })?;
    Ok((at, row.get::<_, Timestamp>(3).0))
}

/// In a statement of its own, so that it sees what the lock was waited for.
fn compare_offsets(own: &Own, at: At, transaction: &mut Writing<'_>) -> Result<(), Failure> {
    let select =
        "select array_agg(partition), array_agg(next_offset) from progress_partitions where pipeline = $1 and topic = $2";
    let row = transaction.query_opt(select, &[&own.pipeline, &own.topic])?;
    let (partitions, offsets): (Option<Vec<i32>>, Option<Vec<i64>>) = row.map_or((None, None), |row| (row.get(0), row.get(1)));
    let found: Offsets = partitions.into_iter().flatten().zip(offsets.into_iter().flatten()).collect();
    Ok(own.compare_offsets(at, &found)?)
}

/// Takes the run lock, shared, for as long as the connection lives.
fn refuse_during_rebuild(client: &mut Client, shown: &str) -> Result<(), StoreError> {
    let locked = client.query_one("select pg_try_advisory_lock_shared($1, hashtext(current_schema()))", &[&RUN_LOCK]);
    // Without any schema there is nothing to lock, and what comes next fails by itself.
    match locked.map_err(|error| judge(&error, shown))?.get(0) {
        Some(false) => Err(StoreError::Transient(format!("Postgres {shown}: a rebuild is under way"))),
        _ => Ok(()),
    }
}

fn refuse_changed_fingerprint(transaction: &mut Transaction<'_>, begin: &Begin) -> Result<(), Failure> {
    match transaction.query_opt("select pipeline, fingerprint from progress limit 1", &[])? {
        Some(row) => Ok(super::refuse_other_pipeline(begin, row.get(0), row.get(1))?),
        None => Ok(()),
    }
}

fn take_over(transaction: &mut Transaction<'_>, begin: &Begin, decide: &mut Decide<'_>) -> Result<Stored, Failure> {
    if !begin.again {
        start_progress(transaction, begin)?;
    }
    let mut stored = read_stored(transaction, begin)?;
    let decision = decide(&stored).map_err(StoreError::Fatal)?;
    for (&partition, from) in &decision.replay_from {
        read_verdicts(transaction, &begin.topic, partition, *from, &mut stored.verdicts)?;
    }
    stored.fence = stored.fence.max(decision.above_fence) + 1;
    transaction.execute(
        "update progress set fence = $2, run = $3, heartbeat_at = clock_timestamp() where pipeline = $1",
        &[&begin.pipeline, &stored.fence, &begin.run],
    )?;
    Ok(stored)
}

/// The rows of a pipeline that is new here, and of partitions that are.
fn start_progress(transaction: &mut Transaction<'_>, begin: &Begin) -> Result<(), Failure> {
    let inserted = transaction.execute(
        "insert into progress (pipeline, epoch, watermark, fence, fingerprint, hash_key, checkpoints, updated_at)
         values ($1, 0, null, 0, $2, $3, '[]', now()) on conflict do nothing",
        &[&begin.pipeline, &begin.fingerprint, &&begin.hash_key[..]],
    )?;
    let starts = begin.starts(inserted > 0);
    let partitions: Vec<i32> = starts.keys().copied().collect();
    let starts: Vec<i64> = starts.values().copied().collect();
    transaction.execute(
        "insert into progress_partitions (pipeline, topic, partition, start_offset, next_offset, end_offset, watermark, state)
         select $1, $2, partition, start, start, start, null, 'backlogged' from unnest($3::int[], $4::bigint[]) as t (partition, start)
         on conflict do nothing",
        &[&begin.pipeline, &begin.topic, &partitions, &starts],
    )?;
    Ok(())
}

/// All but the verdicts, under the lock of the progress row.
fn read_stored(transaction: &mut Transaction<'_>, begin: &Begin) -> Result<Stored, Failure> {
    let select =
        "select fence, epoch, hash_key, watermark, checkpoints, clock_timestamp() from progress where pipeline = $1 for update";
    let row = transaction.query_opt(select, &[&begin.pipeline])?.ok_or_else(|| {
        StoreError::Transient(format!("the progress row of pipeline {} is gone: waiting for it to be restored", begin.pipeline))
    })?;
    let watermark: Option<Timestamp> = row.get(3);
    let watermark = watermark.map(|time| time.0);
    let hash_key: Vec<u8> = row.get(2);
    let hash_key =
        <[u8; 16]>::try_from(hash_key).map_err(|_| StoreError::Fatal("progress.hash_key is not of 16 bytes".to_owned()))?;
    let partitions = transaction.query(
        "select partition, start_offset, next_offset from progress_partitions where pipeline = $1 and topic = $2",
        &[&begin.pipeline, &begin.topic],
    )?;
    let first_open = Timestamp(watermark.map_or(Minute(0), Minute::first_open).start());
    let open_rows = transaction
        .query("select window_start, stream_id from stream_metrics_minute where window_start >= $1", &[&first_open])?;
    Ok(Stored {
        fence: row.get(0),
        epoch: row.get(1),
        hash_key,
        watermark,
        partitions: partitions.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect(),
        verdicts: BTreeMap::new(),
        open_rows: open_rows.iter().map(|row| (Minute::first_open(row.get::<_, Timestamp>(0).0), row.get(1))).collect(),
        checkpoints: row.get(4),
        clock: Some(row.get::<_, Timestamp>(5).0),
    })
}

/// Those of a partition that the replay can meet, some at a time.
fn read_verdicts(
    transaction: &mut Transaction<'_>,
    topic: &str,
    partition: i32,
    from: i64,
    verdicts: &mut BTreeMap<(i32, i64), Reason>,
) -> Result<(), Failure> {
    let mut from = from;
    loop {
        let rows = transaction.query(
            r#"select "offset", reason from dead_letters
               where topic = $1 and partition = $2 and "offset" >= $3 and reason in ('future', 'closed') order by "offset" limit $4"#,
            &[&topic, &partition, &from, &LETTERS_AT_ONCE],
        )?;
        let letter = |row: &Row| Some(((partition, row.get(0)), Reason::parse(row.get(1))?));
        verdicts.extend(rows.iter().filter_map(letter));
        match rows.last() {
            Some(last) if i64::try_from(rows.len()) == Ok(LETTERS_AT_ONCE) => from = last.get::<_, i64>(0) + 1,
            _ => return Ok(()),
        }
    }
}

fn write_rows(transaction: &mut Writing<'_>, commit: &Commit, epoch: i64) -> Result<(), Failure> {
    if commit.rows.is_empty() {
        return Ok(());
    }
    let rows = || commit.rows.iter();
    let starts: Vec<Timestamp> = rows().map(|row| Timestamp(row.minute.start())).collect();
    let ends: Vec<Timestamp> = rows().map(|row| Timestamp(row.minute.end())).collect();
    let streams: Vec<&str> = rows().map(|row| &*row.stream_id).collect();
    let viewers: Vec<i64> = rows().map(|row| row.totals.viewers).collect();
    let chats: Vec<i64> = rows().map(|row| row.totals.chats).collect();
    let cents: Vec<i64> = rows().map(|row| row.totals.cents).collect();
    transaction.execute(
        "insert into stream_metrics_minute as stored
             (window_start, window_end, stream_id, active_viewers, chat_messages, donations_usd, epoch)
         select window_start, window_end, stream_id, viewers, chats, cents::numeric / 100, $7
         from unnest($1::timestamptz[], $2::timestamptz[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
             as changed (window_start, window_end, stream_id, viewers, chats, cents)
         on conflict (window_start, stream_id) do update set active_viewers = excluded.active_viewers,
             chat_messages = excluded.chat_messages, donations_usd = excluded.donations_usd, epoch = excluded.epoch
         where (stored.active_viewers, stored.chat_messages, stored.donations_usd)
             is distinct from (excluded.active_viewers, excluded.chat_messages, excluded.donations_usd)",
        &[&starts, &ends, &streams, &viewers, &chats, &cents, &epoch],
    )?;
    Ok(())
}

fn write_states(transaction: &mut Writing<'_>, commit: &Commit, epoch: i64) -> Result<(), Failure> {
    let newest = commit.newest_rows();
    if newest.is_empty() {
        return Ok(());
    }
    let streams: Vec<&str> = newest.iter().map(|row| &*row.stream_id).collect();
    let viewers: Vec<i64> = newest.iter().map(|row| row.totals.viewers).collect();
    let starts: Vec<Timestamp> = newest.iter().map(|row| Timestamp(row.minute.start())).collect();
    transaction.execute(
        "insert into stream_state as stored (stream_id, active_viewers, window_start, updated_at, epoch)
         select stream_id, viewers, window_start, now(), $4
         from unnest($1::text[], $2::bigint[], $3::timestamptz[]) as changed (stream_id, viewers, window_start)
         on conflict (stream_id) do update set active_viewers = excluded.active_viewers,
             window_start = excluded.window_start, updated_at = excluded.updated_at, epoch = excluded.epoch
         where excluded.window_start > stored.window_start
             or (excluded.window_start = stored.window_start and excluded.active_viewers <> stored.active_viewers)",
        &[&streams, &viewers, &starts, &epoch],
    )?;
    Ok(())
}

fn write_dead_letters(transaction: &mut Writing<'_>, own: &Own, commit: &Commit, epoch: i64) -> Result<(), Failure> {
    if commit.dead_letters.is_empty() {
        return Ok(());
    }
    let letters = &commit.dead_letters;
    let partitions: Vec<i32> = letters.iter().map(|letter| letter.partition).collect();
    let offsets: Vec<i64> = letters.iter().map(|letter| letter.offset).collect();
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    let errors: Vec<&str> = letters.iter().map(|letter| letter.error.as_str()).collect();
    let keys: Vec<Option<&[u8]>> = letters.iter().map(|letter| letter.key.as_deref()).collect();
    let payloads: Vec<Option<&[u8]>> = letters.iter().map(|letter| letter.payload.as_deref()).collect();
    let times: Vec<Option<Timestamp>> = letters.iter().map(|letter| letter.record_time.map(Timestamp)).collect();
    transaction.execute(
        "insert into dead_letters (topic, partition, \"offset\", reason, error, key, payload, record_time, epoch)
         select $1, partition, \"offset\", reason, error, key, payload, record_time, $9
         from unnest($2::int[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::timestamptz[])
             as rejected (partition, \"offset\", reason, error, key, payload, record_time)
         on conflict do nothing",
        &[&own.topic, &partitions, &offsets, &reasons, &errors, &keys, &payloads, &times, &epoch],
    )?;
    Ok(())
}

/// Answers the store's clock.
fn write_progress(
    transaction: &mut Writing<'_>,
    own: &Own,
    commit: &Commit,
    epoch: i64,
    trouble: Option<&str>,
) -> Result<Micros, Failure> {
    let marks = || commit.partitions.values();
    let partitions: Vec<i32> = marks().map(|mark| mark.partition).collect();
    let starts: Vec<i64> = marks().map(|mark| mark.start_offset).collect();
    let nexts: Vec<i64> = marks().map(|mark| mark.next_offset).collect();
    let ends: Vec<i64> = marks().map(|mark| mark.end_offset).collect();
    let watermarks: Vec<Option<Timestamp>> = marks().map(|mark| mark.watermark.map(Timestamp)).collect();
    let states: Vec<&str> = marks().map(|mark| mark.standing.as_str()).collect();
    let before: Vec<i64> = own.expected(At::Last).values().copied().collect();
    // Nothing is written if the offsets are not those of this run's last commit. It costs no exchange of its own.
    let written = transaction.execute(
        "insert into progress_partitions as stored
             (pipeline, topic, partition, start_offset, next_offset, end_offset, watermark, state)
         select $1, $2, changed.* from unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[], $8::text[])
             as changed
         where $9 = array(select next_offset from progress_partitions where pipeline = $1 and topic = $2 order by partition)
         on conflict (pipeline, topic, partition) do update set next_offset = excluded.next_offset,
             end_offset = excluded.end_offset, watermark = excluded.watermark, state = excluded.state",
        &[&own.pipeline, &own.topic, &partitions, &starts, &nexts, &ends, &watermarks, &states, &before],
    )?;
    if written < partitions.len() as u64 {
        compare_offsets(own, At::Last, transaction)?;
        return Err(own.superseded(&"other offsets").into());
    }
    // `greatest` ignores nulls, so a commit without a watermark changes none and none is ever taken back. The api is told, once the
    // transaction is committed, that there is a new epoch.
    let row = transaction.query_opt(
        "update progress set epoch = $2, watermark = greatest(watermark, $3), updated_at = now(),
             checkpoints = coalesce($4, checkpoints), heartbeat_at = clock_timestamp(), trouble = $5
         where pipeline = $1
         returning clock_timestamp(), pg_notify('tidemark_epoch', epoch::text)",
        &[&own.pipeline, &epoch, &commit.watermark.map(Timestamp), &commit.checkpoints.as_ref().map(Json), &trouble],
    )?;
    Ok(row.ok_or_else(|| own.superseded(&"no progress"))?.get::<_, Timestamp>(0).0)
}

/// A `timestamptz`, exact: Postgres counts microseconds from 2000 in 64 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp(pub(crate) Micros);

impl ToSql for Timestamp {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        (self.0.0 - TO_2000).to_sql(&Type::INT8, out).inspect(|_| debug_assert_eq!(*kind, Type::TIMESTAMPTZ))
    }
    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Timestamp, Box<dyn Error + Sync + Send>> {
        Ok(Timestamp(Micros(i64::from_sql(&Type::INT8, raw)?.saturating_add(TO_2000))))
    }
    accepts!(TIMESTAMPTZ);
}
