//! The questions, each one statement, so that rows, epoch, watermark and clock in an answer are of one instant.
//!
//! - `metrics`: rows of a stream and a window · `streams`: streams · `totals`: sums over all ·
//!   `changes`: what commits changed · `announcements`: when to look for them · `pipeline`: how far it is
//! - `statement`: where the two dialects differ; `postgres`, `sqlite`: bounded, read-only connections;
//!   `pooler`: what must not stand between
//!
//! A client's text never becomes SQL: statements are put together from constants, and every value is bound.

mod announcements;
mod changes;
mod metrics;
mod pipeline;
mod pooler;
mod postgres;
mod sqlite;
mod statement;
mod streams;
mod totals;

use crate::amounts::{Amounts, Shape};
use crate::rows::{Answer, Epoch, Moment, UtcTime};
use crate::value::{Amount, Money};
pub use announcements::Announcements;
pub use changes::{ChangesQuery, PAGE_ROWS};
pub use metrics::{Exported, MetricsQuery, Since};
pub use pooler::Pooler;
use siphasher::sip::SipHasher24;
use statement::{Dialect, Statement};
pub use statement::{Direction, OrderBy};
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;
use tidemark_model::metrics::Unit;
use tidemark_model::{Grain, Metric, Table};
use tokio::sync::mpsc;
pub use totals::TotalsQuery;

/// Longest wait for `/health`, which must answer within a second even if the store hangs.
const HEALTH_TIMEOUT: Duration = Duration::from_millis(800);
/// Connections of the one reader for all live clients: one looks at the epoch, the others read changed rows of windows of each length.
const FEED_CONNECTIONS: usize = 1 + Grain::ALL.len();
/// Large answers at once.
const EXPORTS: usize = 2;
/// Longest time for a large answer, the client's own pace included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(300);
/// Rows that are read of a large answer before they are sent.
const EXPORT_ROWS: usize = 500;
/// Pieces of so many rows that wait for the client.
const EXPORT_PIECES: usize = 2;

/// The store, read only.
pub struct Store {
    queries: Pool,
    /// Its own connection, so that slow queries do not make a sound store look ill.
    health: Pool,
    /// Its own connections, so that what is pushed does not wait for what is asked.
    feed: Pool,
    /// Its own connections, so that large answers, which take long, do not use up those of small ones.
    exports: Arc<Pool>,
    timeout: Duration,
}

/// Connections to one of the two kinds of store.
enum Pool {
    Postgres(Box<postgres::Pool>),
    Sqlite(sqlite::Pool),
}

/// Why the store gave no answer. The sources are for the log only.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or it broke.
    #[error("the store is out of reach")]
    OutOfReach(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No connection, because of TLS: a certificate, a file, or a server without it.
    #[error("the store is out of reach")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer, or no free connection, in the time that a request has.
    #[error("the store did not answer in time")]
    TimedOut,
    /// The pipeline was never started on this store.
    #[error("the pipeline has not created its tables yet")]
    NoTables,
    /// The pipeline that wrote the tables did not know what is asked for.
    #[error("the tables were made by an older version: start this version's tidemark-dataflow once, which adds what they lack")]
    Earlier,
    /// The tables are another program's or another version's, or the role may not read them.
    #[error("the store cannot be read: the service's log says why")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something between this service and Postgres does not hand on what the service needs.
    #[error("the store cannot be read: the service's log says why")]
    Pooler(#[source] Pooler),
}

impl StoreError {
    /// Whether a store says that something is not there which came after the first tables. Its language may be any, but names stay.
    fn is_earlier(lacking: &str) -> bool {
        let columns = Metric::ALL.into_iter().filter(|metric| !metric.declared().first).map(Metric::integer_column);
        let mut later = columns.chain(Table::later().map(|table| table.name().to_owned()));
        let words: Vec<&str> = lacking.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        later.any(|name| words.contains(&&*name))
    }

    /// Writes it to the log, with all its causes.
    pub fn log(&self) {
        let causes = std::iter::successors(std::error::Error::source(self), |cause| cause.source());
        let causes: Vec<_> = causes.map(ToString::to_string).collect();
        tracing::warn!(cause = causes.join(": "), "{self}");
    }

    /// Writes it to the log where it is expected to come again and again.
    pub fn log_quietly(&self) {
        tracing::debug!(error = ?self, "{self}");
    }
}

/// What a row of a result holds, by column. The same lines read it from either store.
trait Columns {
    fn time(&self, column: usize) -> Result<Option<UtcTime>, StoreError>;
    fn count(&self, column: usize) -> Result<Option<i64>, StoreError>;
    fn text(&self, column: usize) -> Result<Option<String>, StoreError>;
    fn money(&self, column: usize) -> Result<Option<Money>, StoreError>;
    fn bytes(&self, column: usize) -> Result<Option<Vec<u8>>, StoreError>;

    fn amount(&self, column: usize, metric: Metric) -> Result<Option<Amount>, StoreError> {
        Ok(match metric.declared().unit {
            Unit::Count | Unit::Milliseconds => self.count(column)?.map(Amount::Count),
            Unit::Usd => self.money(column)?.map(Amount::Money),
        })
    }
}

/// Where the pieces of a large answer go.
type Pieces<T> = mpsc::Sender<Result<Vec<T>, StoreError>>;

impl Store {
    /// Opens nothing yet: the store may come up later.
    pub fn new(
        place: &tidemark_settings::store::Store,
        size: usize,
        timeout: Duration,
    ) -> Result<Store, tidemark_settings::SettingsError> {
        let pool = |size, timeout| match place {
            tidemark_settings::store::Store::Postgres { connection, .. } => {
                postgres::Pool::new(connection, size, timeout).map(|pool| Pool::Postgres(Box::new(pool)))
            }
            tidemark_settings::store::Store::Sqlite(path) => Ok(Pool::Sqlite(sqlite::Pool::new(path, size, timeout))),
        };
        let (queries, health) = (pool(size, timeout)?, pool(1, HEALTH_TIMEOUT)?);
        let (feed, exports) = (pool(FEED_CONNECTIONS, timeout)?, Arc::new(pool(EXPORTS, EXPORT_TIMEOUT)?));
        Ok(Store { queries, health, feed, exports, timeout })
    }

    /// Connections for ordinary queries by what they do.
    pub fn connections(&self) -> [(&'static str, usize); 3] {
        let (used, idle, most) = match &self.queries {
            Pool::Postgres(pool) => pool.connections(),
            Pool::Sqlite(pool) => pool.connections(),
        };
        [("used", used), ("idle", idle), ("max", most)]
    }
}

impl Pool {
    fn statement(&self) -> Statement {
        Statement::new(match self {
            Pool::Postgres(_) => Dialect::Postgres,
            Pool::Sqlite(_) => Dialect::Sqlite,
        })
    }

    async fn rows<T, F>(&self, statement: Statement, read: F) -> Result<Vec<T>, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&dyn Columns) -> Result<T, StoreError> + Send + 'static,
    {
        match self {
            Pool::Postgres(pool) => pool.rows(statement, read).await,
            Pool::Sqlite(pool) => pool.rows(statement, read).await,
        }
    }

    /// All rows of the result, piece by piece, as fast as they are taken.
    fn pieces<T, F>(self: &Arc<Self>, statement: Statement, read: F) -> mpsc::Receiver<Result<Vec<T>, StoreError>>
    where
        T: Send + 'static,
        F: FnMut(&dyn Columns) -> Result<T, StoreError> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(EXPORT_PIECES);
        let pool = self.clone();
        tokio::spawn(async move {
            let outcome = match &*pool {
                Pool::Postgres(pool) => pool.pieces(statement, read, &sender).await,
                Pool::Sqlite(pool) => pool.pieces(statement, read, sender.clone()).await,
            };
            if let Err(error) = outcome {
                // Nobody takes it any more: no harm.
                drop(sender.send(Err(error)).await);
            }
        });
        receiver
    }

    /// The answer to a statement whose first columns are those of [`Statement::moment`]. A row's own stand behind them; `read` has
    /// `None` for a line that only brings the moment.
    async fn answer<T: Send + 'static>(
        &self,
        statement: Statement,
        read: impl Fn(&dyn Columns, &Moment) -> Result<Option<T>, StoreError> + Send + 'static,
    ) -> Result<Answer<T>, StoreError> {
        let mut moment = None;
        let lines = self.rows(statement, move |columns| {
            // All lines say the same.
            let moment = match moment {
                Some(moment) => moment,
                None => *moment.insert(read_moment(columns)?),
            };
            Ok((moment, read(columns, &moment)?))
        });
        let lines = lines.await?;
        let at = lines.first().map(|(moment, _)| *moment).ok_or_else(|| malformed("no line"))?;
        Ok(Answer { rows: lines.into_iter().filter_map(|(_, row)| row).collect(), at })
    }
}

/// The windows that `stream_state` tells of.
const STATE: Grain = Grain::Minute;
/// Columns of [`Statement::moment`]; a row's own come behind them.
const MOMENT_COLUMNS: usize = 5;

fn read_moment(columns: &dyn Columns) -> Result<Moment, StoreError> {
    Ok(Moment {
        now: required(columns.time(0)?)?,
        epoch: columns.count(1)?.map(Epoch),
        watermark: columns.time(2)?,
        life: columns.bytes(3)?.map_or(Ok(0), |key| Ok(life(&key, &columns.text(4)?.unwrap_or_default())))?,
    })
}

/// Which life of the tables this is: a rebuild draws another key, and each run another id. After a store went back, an epoch is reached
/// again only by another run. The key itself must not be told, not even in part, so it is used as what it is: the key of a hash.
fn life(hash_key: &[u8], run: &str) -> u64 {
    let mut key = [0; 16];
    let known = hash_key.len().min(16);
    key[..known].copy_from_slice(&hash_key[..known]);
    let mut hasher = SipHasher24::new_with_key(&key);
    hasher.write(b"life of the tables");
    hasher.write(run.as_bytes());
    hasher.finish()
}

fn required<T>(value: Option<T>) -> Result<T, StoreError> {
    value.ok_or_else(|| malformed("null in a column that has none"))
}

/// Reads values from this column on, with `null` in the place of a null. Only of a metric that the first tables did not have, a null may
/// remain.
fn amounts<S: Shape>(
    columns: &dyn Columns,
    first: usize,
    grain: Grain,
    null: fn(Metric) -> Option<Amount>,
) -> Result<Amounts<S>, StoreError> {
    let mut column = first;
    Amounts::try_of(grain, |metric| {
        let amount = columns.amount(column, metric)?.or_else(|| null(metric));
        column += 1;
        if metric.declared().first { required(amount).map(Some) } else { Ok(amount) }
    })
}

/// The store holds what the pipeline never writes.
fn malformed(what: &'static str) -> StoreError {
    StoreError::Refused(what.into())
}
