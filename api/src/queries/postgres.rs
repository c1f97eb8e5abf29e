//! The questions asked of Postgres: a bounded pool whose connections are read only and come back after an outage.

use super::statement::{Statement, Value};
use super::{BadConnection, Columns, EXPORT_ROWS, Pieces, StoreError, malformed};
use crate::rows::{Money, UtcTime};
use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, PoolError, RecyclingMethod};
use futures_util::StreamExt;
use std::error::Error;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::time::Duration;
use tidemark_model::Micros;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row};

/// Microseconds from 1970 to 2000, where the wire format of `timestamptz` begins to count.
const MICROS_TO_2000: i64 = 946_684_800_000_000;

/// The channel that the dataflow notifies in the transaction of each commit.
const LISTEN: &str = "listen tidemark_epoch";

/// A bounded number of connections.
pub struct Pool {
    connections: deadpool_postgres::Pool,
    config: Config,
    timeout: Duration,
}

/// Hears of commits.
pub struct Listener {
    /// Holds the connection open.
    _client: Client,
    _connection: AbortOnDrop<()>,
    heard: mpsc::Receiver<()>,
}

impl Listener {
    async fn connect(config: &Config) -> Result<Listener, StoreError> {
        let (client, mut connection) = config.connect(NoTls).await.map_err(|error| StoreError::OutOfReach(error.into()))?;
        // One place: announcements that nobody has looked at yet are one.
        let (sender, heard) = mpsc::channel(1);
        let connection = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if matches!(message, AsyncMessage::Notification(_))
                    && matches!(sender.try_send(()), Err(TrySendError::Closed(())))
                {
                    return;
                }
            }
        });
        let listener = Listener { _client: client, _connection: AbortOnDrop(connection), heard };
        listener._client.batch_execute(LISTEN).await.map_err(classify)?;
        Ok(listener)
    }

    /// The next announcement; none once the connection has ended.
    pub async fn next(&mut self) -> Option<()> {
        self.heard.recv().await
    }
}

impl Pool {
    /// Connects to nothing yet. Must be called in the runtime that outlives all requests: connections live there.
    pub fn new(connection: &str, size: usize, timeout: Duration) -> Result<Pool, BadConnection> {
        let mut config: Config = connection.parse().map_err(|error| tidemark_settings::store::unusable(&error))?;
        // Said at once: every later try to connect would fail.
        if config.get_ssl_mode() == SslMode::Require {
            return Err(BadConnection::Encrypted);
        }
        let options = format!(
            "{} -c default_transaction_read_only=on -c statement_timeout={} -c jit=off",
            config.get_options().unwrap_or_default(),
            timeout.as_millis(),
        );
        config.options(options.trim_start()).connect_timeout(timeout).tcp_user_timeout(timeout);
        if config.get_application_name().is_none() {
            config.application_name("tidemark-api");
        }
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(config.clone(), ConnectIn(Handle::current()), manager_config);
        let builder = deadpool_postgres::Pool::builder(manager).max_size(size);
        let connections = builder.build().expect("only timeouts of the pool's own would need a runtime");
        Ok(Pool { connections, config, timeout })
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
            let lease = Lease(Some(self.connections.get().await.map_err(unreachable)?));
            let rows = lease.client().query_typed_raw(&text, values).await.map_err(classify)?;
            let mut pieces = pin!(rows.chunks(EXPORT_ROWS));
            while let Some(piece) = pieces.next().await {
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

    /// A connection of its own that hears of commits.
    pub async fn listen(&self) -> Result<Listener, StoreError> {
        let connecting = Listener::connect(&self.config);
        tokio::time::timeout(self.timeout, connecting).await.map_err(|_| StoreError::TimedOut)?
    }

    async fn query(&self, text: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let values: Vec<_> = values.iter().map(|value| (value as &(dyn ToSql + Sync), value.type_())).collect();
        loop {
            let lease = Lease(Some(self.connections.get().await.map_err(unreachable)?));
            match lease.client().query_typed(text, &values).await {
                // The server ended a connection while it waited in the pool, by a restart for instance: try the next one.
                // A new connection is the last try.
                Err(error) if has_ended(&error) && lease.has_waited() => {}
                Err(error) if has_ended(&error) => return Err(StoreError::OutOfReach(error.into())),
                result => {
                    lease.give_back();
                    return result.map_err(classify);
                }
            }
        }
    }
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
struct ConnectIn(Handle);

type Connected = Result<(Client, JoinHandle<()>), tokio_postgres::Error>;

impl Connect for ConnectIn {
    fn connect(&self, config: &Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let config = config.clone();
        let task = self.0.spawn(async move {
            let (client, connection) = config.connect(NoTls).await?;
            let task = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the store ended");
                }
            });
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

/// A connection that is no longer waited for must not be tried for ever, say on a server that accepts and says nothing.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn unreachable(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => StoreError::OutOfReach(error.into()),
        error => StoreError::OutOfReach(error.into()),
    }
}

/// By the class of the server's error code; never by its text, which depends on the server's language.
fn classify(error: tokio_postgres::Error) -> StoreError {
    match error.code() {
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
