//! The questions asked of Postgres: a bounded pool whose connections are read only and come back after an outage.

use super::statement::{Statement, Value};
use super::{Columns, EXPORT_ROWS, Pieces, StoreError, malformed};
use crate::rows::UtcTime;
use crate::value::Money;
use deadpool_postgres::{Connect, Hook, HookError, Manager, ManagerConfig, Object, PoolError, QueueMode, RecyclingMethod};
use futures_util::StreamExt;
use std::error::Error;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tidemark_model::Micros;
use tidemark_settings::SettingsError;
use tidemark_tls::postgres::Server;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, Row};

/// Microseconds from 1970 to 2000, where the wire format of `timestamptz` begins to count.
const MICROS_TO_2000: i64 = 946_684_800_000_000;

/// A connection that was silent for this long is asked for a sign of life before it is used: something on the way may have forgotten it.
const TRUSTED_FOR: Duration = Duration::from_millis(250);
/// Longest wait for that sign of life; a quarter of a request's time if that is less.
const PROBE: Duration = Duration::from_secs(1);
/// Longest silence of the server in the middle of a large answer, and before one.
const EXPORT_SILENCE: Duration = Duration::from_secs(30);

/// A bounded number of connections.
pub struct Pool {
    connections: deadpool_postgres::Pool,
    server: Server,
    /// The same without the settings of its own.
    plain: Server,
    timeout: Duration,
}

impl Pool {
    /// Connects to nothing yet. Must be called in the runtime that outlives all requests: connections live there.
    pub fn new(connection: &str, size: usize, timeout: Duration) -> Result<Pool, SettingsError> {
        let mut server = Server::parse(connection)?;
        let plain = server.clone();
        let config = &mut server.config;
        let options = format!(
            "{} {} -c statement_timeout={} -c jit=off",
            config.get_options().unwrap_or_default(),
            if chooses(config) { "" } else { "-c default_transaction_read_only=on" },
            timeout.as_millis(),
        );
        config.options(options.trim_start()).connect_timeout(timeout).tcp_user_timeout(timeout);
        if config.get_application_name().is_none() {
            config.application_name("tidemark-api");
        }
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(config.clone(), ConnectIn(Handle::current(), server.clone()), manager_config);
        let builder = deadpool_postgres::Pool::builder(manager).max_size(size).pre_recycle(sign_of_life(PROBE.min(timeout / 4)));
        // The one that was used last is the one least likely to be forgotten.
        let builder = builder.queue_mode(QueueMode::Lifo);
        let connections = builder.build().expect("only timeouts of the pool's own would need a runtime");
        Ok(Pool { connections, server, plain, timeout })
    }

    /// All rows of the result. Its time includes the wait for a free connection and the making of a new one.
    pub async fn rows<T, F>(&self, statement: Statement, mut read: F) -> Result<Vec<T>, StoreError>
    where
        F: FnMut(&dyn Columns) -> Result<T, StoreError>,
    {
        let (text, values) = statement.into_parts();
        let rows = tokio::time::timeout(self.timeout, self.query(&text, &values)).await.map_err(|_| StoreError::TimedOut)??;
        rows.iter().map(|row| read(row)).collect()
    }

    /// All rows of the result, piece by piece. Ends early once they are not taken any more.
    pub(super) async fn pieces<T, F>(&self, statement: Statement, mut read: F, to: &Pieces<T>) -> Result<(), StoreError>
    where
        F: FnMut(&dyn Columns) -> Result<T, StoreError>,
    {
        let (text, values) = statement.into_parts();
        let values = values.iter().map(|value| (value as &(dyn ToSql + Sync), value.type_()));
        let all = async {
            let connected = tokio::time::timeout(EXPORT_SILENCE, self.connections.get());
            let lease =
                Lease(Some(connected.await.map_err(|_| StoreError::TimedOut)?.map_err(|error| self.no_connection(error))?));
            let asked = tokio::time::timeout(EXPORT_SILENCE, lease.client().query_typed_raw(&text, values));
            let mut pieces = pin!(asked.await.map_err(|_| StoreError::TimedOut)?.map_err(classify)?.chunks(EXPORT_ROWS));
            loop {
                let piece = tokio::time::timeout(EXPORT_SILENCE, pieces.next()).await.map_err(|_| StoreError::TimedOut)?;
                let Some(piece) = piece else { break };
                let piece: Result<Vec<T>, _> = piece.into_iter().map(|row| read(&row.map_err(classify)?)).collect();
                if to.send(Ok(piece?)).await.is_err() {
                    return Ok(());
                }
            }
            lease.give_back();
            Ok(())
        };
        tokio::select! {
            () = to.closed() => Ok(()),
            outcome = tokio::time::timeout(self.timeout, all) => outcome.map_err(|_| StoreError::TimedOut)?,
        }
    }

    /// Connections in use, connections that wait, and how many there may be.
    pub fn connections(&self) -> (usize, usize, usize) {
        let status = self.connections.status();
        (status.size.saturating_sub(status.available), status.available, status.max_size)
    }

    /// What connections are made with.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// The same without the settings of its own, which a pooler refuses.
    pub(super) fn plain_server(&self) -> &Server {
        &self.plain
    }

    /// Why there is no connection, with what to do.
    pub(super) fn unreachable(&self, error: tokio_postgres::Error) -> StoreError {
        match self.server.explain(error) {
            error if error.is_about_tls() => StoreError::Tls(error.into()),
            error => StoreError::OutOfReach(error.into()),
        }
    }

    fn no_connection(&self, error: PoolError) -> StoreError {
        match error {
            PoolError::Backend(error) => self.unreachable(error),
            error => StoreError::OutOfReach(error.into()),
        }
    }

    /// Longest time for an ordinary answer.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether the server is a standby, which takes no LISTEN.
    pub(super) async fn is_standby(&self) -> Result<bool, StoreError> {
        self.is_so("select pg_is_in_recovery()").await
    }

    /// Whether the pipeline has not made its tables, of which this is the last.
    pub(super) async fn lacks_tables(&self) -> Result<bool, StoreError> {
        self.is_so("select to_regclass('progress_partitions') is null").await
    }

    async fn is_so(&self, question: &str) -> Result<bool, StoreError> {
        let asked = tokio::time::timeout(self.timeout, self.query(question, &[]));
        let rows = asked.await.map_err(|_| StoreError::TimedOut)??;
        let answer = rows.first().ok_or_else(|| malformed("no line"))?;
        answer.try_get(0).map_err(|error| StoreError::Refused(error.into()))
    }

    async fn query(&self, text: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let values: Vec<_> = values.iter().map(|value| (value as &(dyn ToSql + Sync), value.type_())).collect();
        let mut conflicted = false;
        loop {
            let lease = Lease(Some(self.connections.get().await.map_err(|error| self.no_connection(error))?));
            match lease.client().query_typed(text, &values).await {
                // The server ended a connection while it waited in the pool, by a restart for instance: try the next one.
                // A new connection is the last try.
                Err(error) if has_ended(&error) && lease.has_waited() => {}
                Err(error) if has_ended(&error) => return Err(StoreError::OutOfReach(error.into())),
                // A standby ends a query that is in the way of what it replays: a reader may ask again.
                Err(error) if !conflicted && error.code().is_some_and(|code| code.code().starts_with("40")) => conflicted = true,
                result => {
                    lease.give_back();
                    return result.map_err(classify);
                }
            }
        }
    }
}

/// Throws away a pooled connection that gives no sign of life in this time, and with it all that were last used before: what has
/// forgotten one has forgotten them all, and each would be waited for in its turn.
fn sign_of_life(longest: Duration) -> Hook {
    let forgotten: Arc<Mutex<Option<Instant>>> = Arc::default();
    Hook::async_fn(move |client, metrics| {
        let (forgotten, last_used) = (forgotten.clone(), metrics.recycled.unwrap_or(metrics.created));
        Box::pin(async move {
            let is_forgotten = *forgotten.lock().unwrap_or_else(PoisonError::into_inner) > Some(last_used);
            if is_forgotten || last_used.elapsed() < TRUSTED_FOR {
                return if is_forgotten { Err(HookError::message("forgotten")) } else { Ok(()) };
            }
            match tokio::time::timeout(longest, client.simple_query("")).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(HookError::Backend(error)),
                Err(_) => {
                    tracing::info!(
                        "a connection to the store was forgotten on the way: it is replaced, and those that are as old"
                    );
                    *forgotten.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                    Err(HookError::message("forgotten"))
                }
            }
        })
    })
}

/// Whether the connection is of no more use: it is closed, or the server says that it is closing it.
fn has_ended(error: &tokio_postgres::Error) -> bool {
    let closing = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    error.code().is_none_or(|code| closing.contains(code))
}

/// A connection that goes back to the pool only if its query came to an end. When a request is given up, the connection is
/// closed: the next request must not wait behind an answer that nobody reads.
struct Lease(Option<Object>);

impl Lease {
    fn client(&self) -> &Client {
        self.0.as_ref().expect("held until given back")
    }

    /// Whether it was in the pool before.
    fn has_waited(&self) -> bool {
        self.0.as_ref().is_some_and(|connection| Object::metrics(connection).recycle_count > 0)
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

/// Makes connections that live in one runtime, whichever worker asks: the workers' runtimes end one by one in a graceful stop.
struct ConnectIn(Handle, Server);

type Connected = Result<(Client, JoinHandle<()>), tokio_postgres::Error>;

impl Connect for ConnectIn {
    fn connect(&self, _: &Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let server = self.1.clone();
        let task = self.0.spawn(async move {
            let (client, connection) = server.connect().await?;
            let task = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the store ended");
                }
            });
            if chooses(&server.config) {
                client.batch_execute("set default_transaction_read_only = on").await?;
            }
            Ok((client, task))
        });
        let mut task = AbortOnDrop(task);
        Box::pin(async move {
            match (&mut task.0).await {
                Ok(connected) => connected,
                // The runtime is going away; the request's timeout ends the wait.
                Err(_) => pending().await,
            }
        })
    }
}

/// Whether a host is chosen by its being read only: then connections become read only after that.
fn chooses(config: &Config) -> bool {
    config.get_target_session_attrs() != TargetSessionAttrs::Any
}

/// A connection that is no longer waited for must not be tried for ever, say on a server that accepts and says nothing.
pub(super) struct AbortOnDrop<T>(pub(super) JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// By the class of the server's error code; never by its text, which depends on the server's language, but for names in it.
pub(super) fn classify(error: tokio_postgres::Error) -> StoreError {
    match error.code() {
        Some(code)
            if [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN].contains(code)
                && error.as_db_error().is_some_and(|lacks| StoreError::is_earlier(lacks.message())) =>
        {
            StoreError::Earlier
        }
        Some(code) if *code == SqlState::UNDEFINED_TABLE => StoreError::NoTables,
        Some(code) if *code == SqlState::QUERY_CANCELED => StoreError::TimedOut,
        // Connection trouble, too few resources, an operator's intervention, the system's own errors, a standby's conflict.
        Some(code) if ["08", "53", "57", "58", "40"].iter().any(|class| code.code().starts_with(class)) => {
            StoreError::OutOfReach(error.into())
        }
        Some(_) => StoreError::Refused(error.into()),
        None => StoreError::OutOfReach(error.into()),
    }
}

impl Value {
    fn type_(&self) -> Type {
        match self {
            Value::Time(_) => Type::TIMESTAMPTZ,
            Value::Count(_) => Type::INT8,
            Value::Text(_) | Value::Money(_) => Type::TEXT,
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Time(Micros(micros)) => {
                micros.checked_sub(MICROS_TO_2000).ok_or("instant out of range")?.to_sql(&Type::INT8, out)
            }
            Value::Count(count) => count.to_sql(ty, out),
            Value::Text(text) => text.to_sql(ty, out),
            Value::Money(money) => money.to_string().to_sql(ty, out),
        }
    }

    /// Each variant travels as the type that [`Value::type_`] names.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for UtcTime {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<UtcTime, Box<dyn Error + Sync + Send>> {
        let micros = i64::from_sql(&Type::INT8, raw)?;
        // The two infinities are the ends of 64 bits; the pipeline never writes them.
        let micros = if micros == i64::MIN { None } else { micros.checked_add(MICROS_TO_2000) };
        Ok(UtcTime(Micros(micros.ok_or("instant out of range")?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

impl Columns for Row {
    fn time(&self, column: usize) -> Result<Option<UtcTime>, StoreError> {
        self.try_get(column).map_err(|error| StoreError::Refused(error.into()))
    }

    fn count(&self, column: usize) -> Result<Option<i64>, StoreError> {
        self.try_get(column).map_err(|error| StoreError::Refused(error.into()))
    }

    fn text(&self, column: usize) -> Result<Option<String>, StoreError> {
        self.try_get(column).map_err(|error| StoreError::Refused(error.into()))
    }

    fn bytes(&self, column: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.try_get(column).map_err(|error| StoreError::Refused(error.into()))
    }

    fn money(&self, column: usize) -> Result<Option<Money>, StoreError> {
        let text = self.text(column)?;
        text.map(|text| Money::from_text(text).ok_or_else(|| malformed("an amount without two decimal places"))).transpose()
    }
}
