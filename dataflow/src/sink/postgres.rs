//! Postgres: a commit is a handful of statements over arrays, whatever the number of rows, each one message and its answer.

pub(crate) use super::judge::judge;
use super::judge::judge_under_run;
use super::own::{At, Held, Own};
use super::partitions::{self, Partitions};
use super::retention::{self, Sweep, Swept};
use super::session::{self, Client, Transaction};
use super::transaction::{ENTRY, Failure, Prepared, RUN_LOCK, Timestamp, Writing, starts, stored_entry};
use super::upserts::{Size, Upserts, compare_offsets};
use super::{
    Begin, Commit, Decide, LastWord, ROWS_WITHOUT_PROGRESS, Receipt, Row as MinuteRow, Store, StoreError, Stored, partitioning,
    schema, settle, tables,
};
use crate::checkpoint::history::{self, StoredEntry};
use crate::fail_points::fail_point;
use crate::run::Control;
use ::postgres::Row;
use ::postgres::error::SqlState;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidemark_model::{Grain, Micros, Minute, Reason};
use tidemark_tls::postgres::Server;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for this long is gone.
const STALLED: Duration = Duration::from_secs(15);
/// While an answer is waited for, the system asks the peer this often whether it is still there. After this many questions without an
/// answer the connection counts as gone. The system's own default is to ask for the first time after two hours.
const ASK_PEER: (Duration, u32) = (Duration::from_secs(5), 3);
/// Dead letters that are read at once.
const LETTERS_AT_ONCE: i64 = 10_000;

/// A store in a Postgres schema.
pub struct PostgresStore {
    server: Server,
    shown: String,
    /// Instead of the connection's search path.
    schema: Option<String>,
    control: Option<Arc<Control>>,
    session: Option<Session>,
    /// It is known that connections are sessions of the server's, not lent for one transaction at a time.
    is_session: bool,
    own: Option<Own>,
    /// A run of this process has worked with this database.
    begun: bool,
    trouble: Option<String>,
    partitions: Partitions,
    /// The role lacks the right to delete rows, as a sweep found.
    may_not_delete: bool,
    /// What one statement writes.
    size: Size,
}

/// A connection.
struct Session {
    client: Client,
    prepared: Prepared,
}

impl Session {
    fn begin(&mut self) -> Result<Writing<'_>, session::Error> {
        Ok(Writing { transaction: self.client.transaction()?, prepared: &mut self.prepared })
    }
}

impl PostgresStore {
    /// A store at this connection string; `shown` is how messages name it. Connects when it is first used.
    pub fn new(connection: &str, shown: &str) -> Result<PostgresStore, StoreError> {
        Ok(PostgresStore {
            server: configure(connection, "tidemark-dataflow")?,
            schema: None,
            shown: shown.to_owned(),
            control: None,
            session: None,
            is_session: false,
            own: None,
            begun: false,
            trouble: None,
            partitions: Partitions::default(),
            may_not_delete: false,
            size: Size::default(),
        })
    }

    /// Waits no longer than is good for this run once it is to end.
    pub fn stopped_by(mut self, control: &Arc<Control>) -> PostgresStore {
        self.control = Some(Arc::clone(control));
        self
    }

    /// The same in a schema of this name, whatever the connection's search path.
    pub(crate) fn in_schema(connection: &str, shown: &str, schema: &str) -> Result<PostgresStore, StoreError> {
        let store = PostgresStore::new(connection, shown)?;
        Ok(PostgresStore { schema: Some(schema.to_owned()), ..store })
    }

    /// The connection, made anew if the last one is gone.
    fn session(&mut self) -> Result<&mut Session, StoreError> {
        if self.session.as_ref().is_some_and(|session| session.client.is_closed()) {
            self.session = None;
        }
        if self.session.is_none() {
            let client = Client::connect(&self.server, self.control.as_ref());
            let settled = client.and_then(|mut client| settle::of_run(&mut client, self.schema.as_deref()).map(|()| client));
            let mut client = settled.map_err(|error| self.judge(&error))?;
            settle::refuse_during_rebuild(&mut client, &self.shown)?;
            if !self.is_session {
                let mut connect = || Client::connect(&self.server, self.control.as_ref());
                settle::refuse_transaction_pooler(&mut client, &self.shown, &mut connect)?;
                self.is_session = true;
            }
            self.session = Some(Session { client, prepared: Prepared::default() });
        }
        Ok(self.session.as_mut().expect("it was just made"))
    }

    fn judge(&self, error: &session::Error) -> StoreError {
        if self.begun { judge_under_run(error, &self.shown) } else { judge(error, &self.shown) }
    }

    /// Makes the partitions that these rows need and those of the next day, in transactions of their own, before a commit.
    fn make_partitions(&mut self, rows: &[MinuteRow]) -> Result<(), StoreError> {
        let missing = self.partitions.missing(rows);
        let last = rows.last().map(|row| Grain::Day.window_of(row.window.first));
        for days in missing.chunks(partitions::AT_ONCE) {
            let own = self.own.take().expect("a run begins before it commits");
            let made = self.attempt(|session| {
                let mut transaction = session.begin()?;
                lock(&own, &mut transaction)?;
                let make = |&day: &Minute| Ok((day, partitions::make(&mut transaction.transaction, day)?));
                let made = days.iter().map(make).collect::<Result<Vec<_>, Failure>>()?;
                transaction.transaction.commit()?;
                Ok(made)
            });
            self.own = Some(own);
            for (day, outcome) in made? {
                self.partitions.made(day, outcome, Some(day) <= last);
            }
        }
        Ok(())
    }

    /// One attempt at a transaction; a connection that failed is not used again.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Session) -> Result<T, Failure>) -> Result<T, StoreError> {
        let outcome = work(self.session()?);
        outcome.map_err(|failure| match failure {
            Failure::Postgres(error) => {
                self.session = None;
                self.judge(&error)
            }
            Failure::Store(error) => error,
        })
    }
}

/// How every connection is made, named after its program.
fn configure(connection: &str, program: &str) -> Result<Server, StoreError> {
    let mut server = Server::parse(connection).map_err(|error| StoreError::Fatal(error.to_string()))?;
    let config = &mut server.config;
    config.connect_timeout(CONNECT).application_name(program).tcp_user_timeout(STALLED);
    config.keepalives_idle(ASK_PEER.0).keepalives_interval(ASK_PEER.0).keepalives_retries(ASK_PEER.1);
    Ok(server)
}

/// A connection for one of the operator's commands; `shown` is how messages name the database.
pub(crate) fn connect(
    connection: &str,
    shown: &str,
    program: &str,
    control: Option<&Arc<Control>>,
) -> Result<Client, StoreError> {
    let client = Client::connect(&configure(connection, program)?, control);
    let settled = client.and_then(|mut client| settle::of_command(&mut client).map(|()| client));
    settled.map_err(|error| judge(&error, shown))
}

impl Store for PostgresStore {
    fn try_alone(&mut self) -> Result<bool, StoreError> {
        // The session's own shared lock is not in its way.
        let lock = "select pg_try_advisory_lock($1, hashtext(current_schema()))";
        self.attempt(|Session { client, .. }| Ok(client.query_one(lock, &[&RUN_LOCK])?.get(0)))
    }

    fn begin(&mut self, begin: &Begin, decide: &mut Decide<'_>) -> Result<Stored, StoreError> {
        self.begun |= begin.again;
        let (stored, partitions) = self.attempt(|Session { client, .. }| {
            let mut transaction = client.transaction()?;
            // Between reading what is stored and taking over, checkpoints are verified, which may take as long as reading them does.
            transaction.batch_execute("set local idle_in_transaction_session_timeout = '60s'")?;
            // Two runs that start at once on an empty schema would trip over each other while they make the tables.
            transaction.execute("select pg_advisory_xact_lock(hashtextextended('tidemark ' || current_schema(), 0))", &[])?;
            tables::ensure(&mut transaction, begin.again)?;
            refuse_changed_fingerprint(&mut transaction, begin)?;
            let stored = take_over(&mut transaction, begin, decide)?;
            partitioning::migrate(&mut transaction)?;
            let partitions = Partitions::read(&mut transaction)?;
            transaction.commit()?;
            Ok((stored, partitions))
        })?;
        self.partitions = partitions;
        self.own = Some(Own::new(begin, &stored));
        self.begun = true;
        Ok(stored)
    }

    fn commit(&mut self, commit: &Commit) -> Result<Receipt, StoreError> {
        self.commit_if(commit, Box::new(|_| Ok(())))
    }

    fn commit_if(&mut self, commit: &Commit, last_word: LastWord<'_>) -> Result<Receipt, StoreError> {
        self.make_partitions(commit.rows_of(Grain::Minute))?;
        let mut own = self.own.take().expect("a run begins before it commits");
        let trouble = self.trouble.take();
        let mut size = self.size;
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
            let mut upserts = Upserts::new(&mut transaction, &mut size, &own, commit)?;
            upserts.rows()?;
            upserts.totals()?;
            upserts.states()?;
            fail_point!("commit-after-rows");
            upserts.dead_letters()?;
            fail_point!("commit-after-dead-letters");
            upserts.history()?;
            upserts.inexact()?;
            let clock = upserts.progress(trouble.as_deref())?;
            fail_point!("commit-after-progress");
            last_word(Some(clock))?;
            // No statement failed, so the transaction is not in the failed state in which COMMIT would quietly roll back.
            transaction.transaction.commit()?;
            fail_point!("commit-after-commit");
            Ok(clock)
        });
        if outcome.is_ok() {
            own.applied();
        }
        self.size = size;
        let epoch = own.epoch;
        self.own = Some(own);
        outcome.map(|clock| Receipt { epoch, clock: Some(clock) })
    }

    fn sweep(&mut self, sweep: &Sweep) -> Result<Swept, StoreError> {
        if self.may_not_delete {
            return Ok(Swept::default());
        }
        let mut own = self.own.take().expect("a run begins before it sweeps");
        let mut partitions = std::mem::take(&mut self.partitions);
        let mut refused = None;
        let outcome = self.attempt(|session| {
            let mut transaction = session.begin()?;
            let (at, _) = lock(&own, &mut transaction)?;
            compare_offsets(&own, at, &mut transaction)?;
            if at == At::Attempted {
                return Ok((Swept { left: true, ..Swept::default() }, true));
            }
            let (swept, changed) = match retention::postgres::sweep(&mut transaction, &own, sweep, &mut partitions) {
                // What the server refused it has rolled back: no commit waits for that.
                Err(Failure::Postgres(error)) if error.as_db_error().is_some() => {
                    refused = Some(error);
                    return Ok((Swept::default(), false));
                }
                swept => swept?,
            };
            if changed {
                own.attempt(&Commit::default());
                transaction.transaction.commit()?;
            }
            Ok((swept, changed))
        });
        if let Ok((_, true)) = outcome {
            own.applied();
        }
        (self.own, self.partitions) = (Some(own), partitions);
        if let Some(error) = refused {
            let why = error.as_db_error().map_or("", |error| error.message());
            self.may_not_delete = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
            if self.may_not_delete {
                tracing::error!(
                    why,
                    "nothing is dropped, because this role may not delete: grant DELETE on stream_metrics_minute, stream_totals_minute and \
                     dead_letters, then start again; or unset RETENTION and RETENTION_DEAD_LETTERS"
                );
            } else {
                tracing::warn!(
                    why,
                    "what is older than it is to be kept cannot be dropped: tried again when a minute has closed"
                );
            }
        }
        outcome.map(|(swept, _)| swept)
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
    let decision = decide(&stored)?;
    for (&partition, from) in &decision.replay_from {
        read_verdicts(transaction, &begin.topic, partition, *from, &mut stored.verdicts)?;
    }
    stored.fence = stored.fence.max(decision.above_fence) + 1;
    for grain in begin.given_up(&mut stored.rolled_up) {
        tables::give_up(transaction, grain, stored.watermark)?;
    }
    let [hours_from, days_from] = starts(stored.rolled_up);
    transaction.execute(
        "update progress set fence = $2, run = $3, heartbeat_at = clock_timestamp(), schema_version = $4, metrics = $5,
             hours_from = $6, days_from = $7
         where pipeline = $1",
        &[&begin.pipeline, &stored.fence, &begin.run, &schema::VERSION, &schema::metrics(), &hours_from, &days_from],
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
    if inserted > 0 {
        super::refuse_rows_without_progress(transaction.query_one(ROWS_WITHOUT_PROGRESS, &[])?.get(0))?;
    }
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
    let select = "select fence, epoch, hash_key, watermark, checkpoints, clock_timestamp(), hours_from, days_from
         from progress where pipeline = $1 for update";
    let row = transaction.query_opt(select, &[&begin.pipeline])?.ok_or_else(|| {
        StoreError::Transient(format!("the progress row of pipeline {} is gone: waiting for it to be restored", begin.pipeline))
    })?;
    let watermark: Option<Timestamp> = row.get(3);
    let watermark = watermark.map(|time| time.0);
    let hash_key: Vec<u8> = row.get(2);
    let hash_key =
        <[u8; 16]>::try_from(hash_key).map_err(|_| StoreError::Fatal("progress.hash_key is not of 16 bytes".to_owned()))?;
    let partitions = transaction.query(
        "select partition, start_offset, next_offset, watermark, letters_from from progress_partitions
         where pipeline = $1 and topic = $2",
        &[&begin.pipeline, &begin.topic],
    )?;
    let watermarks = partitions.iter().filter_map(|row| Some((row.get(0), row.get::<_, Option<Timestamp>>(3)?.0))).collect();
    let letters_from = partitions.iter().filter_map(|row| Some((row.get(0), row.get::<_, Option<i64>>(4)?))).collect();
    let partitions = partitions.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let first_open = Timestamp(watermark.map_or(Minute(0), Minute::first_open).start());
    let open_rows = transaction.query(
        "select max(window_start), stream_id from (
             select window_start, stream_id from stream_metrics_minute where window_start >= $1
             union all select window_start, stream_id from stream_metrics_hour where window_start > $1 - interval '1 hour'
             union all select window_start, stream_id from stream_metrics_day where window_start > $1 - interval '24 hours'
         ) as not_final group by 2",
        &[&first_open],
    )?;
    let rolled_up = [6, 7].map(|column| row.get::<_, Option<Timestamp>>(column).map(|start| Minute::first_open(start.0)));
    let history = format!("select {ENTRY} from progress_history where pipeline = $1 order by progress_history.watermark");
    let history = transaction.query(&history, &[&begin.pipeline])?.iter().map(stored_entry).collect::<Vec<StoredEntry>>();
    let inexact = "select max(inexact_until) from inexact_windows where pipeline = $1";
    let inexact: Option<Timestamp> = transaction.query_one(inexact, &[&begin.pipeline])?.get(0);
    Ok(Stored {
        fence: row.get(0),
        epoch: row.get(1),
        hash_key,
        watermark,
        history: history::usable(history, hash_key, &partitions),
        inexact_until: inexact.map(|until| Minute::first_open(until.0)),
        partitions,
        letters_from,
        watermarks,
        verdicts: BTreeMap::new(),
        open_rows: open_rows.iter().map(|row| (Minute::first_open(row.get::<_, Timestamp>(0).0), row.get(1))).collect(),
        checkpoints: row.get(4),
        rolled_up,
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
