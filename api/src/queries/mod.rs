//! The questions, each one statement, so that rows, watermark and clock in an answer are of one instant.
//!
//! Both stores answer the same statements; `statement` knows where their dialects differ. A client's text never becomes
//! SQL: statements are put together from constants, and every value is bound.

mod postgres;
mod sqlite;
mod statement;

use crate::cursor::SortKey;
use crate::rows::{Amount, Answer, MetricRow, Money, Partition, Progress, StreamRow, TopRow, UtcTime};
pub use statement::{By, Direction, OrderBy};
use statement::{Dialect, Statement, Value};
use std::time::Duration;
use tidemark_model::Micros;

/// Longest wait for `/health`, which must answer within a second even if the store hangs.
const HEALTH_TIMEOUT: Duration = Duration::from_millis(800);

/// The store, read only.
pub struct Store {
    queries: Pool,
    /// Its own connection, so that slow queries do not make a sound store look ill.
    health: Pool,
}

/// Connections to one of the two kinds of store.
enum Pool {
    Postgres(postgres::Pool),
    Sqlite(sqlite::Pool),
}

/// Why the store gave no answer. The sources are for the log only.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or it broke.
    #[error("the store is out of reach")]
    OutOfReach(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer, or no free connection, in the time that a request has.
    #[error("the store did not answer in time")]
    TimedOut,
    /// The pipeline was never started on this store.
    #[error("the pipeline has not created its tables yet")]
    NoTables,
    /// The tables are another program's or another version's, or the role may not read them.
    #[error("the store cannot be read: the service's log says why")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Writes it to the log, with all its causes.
    pub fn log(&self) {
        let causes = std::iter::successors(std::error::Error::source(self), |cause| cause.source());
        let causes: Vec<_> = causes.map(ToString::to_string).collect();
        tracing::warn!(cause = causes.join(": "), "{self}");
    }
}

/// A connection string that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadConnection {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] tokio_postgres::Error),
    /// It asks for what this program does not have.
    #[error("sslmode=require is not supported; allowed: sslmode=disable or prefer, over a trusted network")]
    Encrypted,
}

/// Which rows of `/metrics`, and in what order.
#[derive(Clone, Debug)]
pub struct MetricsQuery {
    /// Of one stream, or of all.
    pub stream_id: Option<String>,
    /// From when on.
    pub since: Since,
    /// Exclusive, on `window_start`.
    pub to: Option<Micros>,
    /// Ordered by.
    pub order_by: OrderBy,
    /// In this direction.
    pub direction: Direction,
    /// Only rows behind this place in the order.
    pub after: Option<SortKey>,
    /// At most this many.
    pub limit: u32,
}

/// A lower bound on `window_start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// None.
    Ever,
    /// The store's clock minus this many minutes, exclusive.
    Minutes(u32),
    /// This instant, inclusive.
    Instant(Micros),
}

/// What a row of a result holds, by column. The same two lines read it from either store.
trait Columns {
    fn time(&self, column: usize) -> Result<Option<UtcTime>, StoreError>;
    fn count(&self, column: usize) -> Result<Option<i64>, StoreError>;
    fn text(&self, column: usize) -> Result<Option<String>, StoreError>;
    fn money(&self, column: usize) -> Result<Option<Money>, StoreError>;
}

impl Store {
    /// Opens nothing yet: the store may come up later.
    pub fn new(place: &tidemark_settings::store::Store, size: usize, timeout: Duration) -> Result<Store, BadConnection> {
        let pool = |size, timeout| match place {
            tidemark_settings::store::Store::Postgres { connection, .. } => {
                postgres::Pool::new(connection, size, timeout).map(Pool::Postgres)
            }
            tidemark_settings::store::Store::Sqlite(path) => Ok(Pool::Sqlite(sqlite::Pool::new(path, size, timeout))),
        };
        Ok(Store { queries: pool(size, timeout)?, health: pool(1, HEALTH_TIMEOUT)? })
    }

    /// The rows of `/metrics`.
    pub async fn metrics(&self, query: &MetricsQuery) -> Result<Answer<MetricRow>, StoreError> {
        let mut statement = self.queries.statement();
        statement.metric_rows().sql(" where true").since(query.since);
        if let Some(to) = query.to {
            statement.sql(" and r.window_start < ").bind(Value::Time(to));
        }
        if let Some(stream_id) = &query.stream_id {
            statement.sql(" and r.stream_id = ").bind(Value::Text(stream_id.clone()));
        }
        if let Some(after) = &query.after {
            statement.after(query.order_by, query.direction, after);
        }
        statement.order(query.order_by, query.direction).sql(" limit ").bind(Value::Count(query.limit.into()));
        // The join keeps the order in practice; only a second `order by` promises it.
        statement.sql(") r on true").order(query.order_by, query.direction);
        self.queries.answer(statement, metric_row).await
    }

    /// The newest row whose window has ended; ties go to the smallest stream.
    pub async fn latest(&self, stream_id: Option<String>) -> Result<Answer<MetricRow>, StoreError> {
        let mut statement = self.queries.statement();
        // The bound on the start says the same as the one on the end, but has an index.
        statement.metric_rows().sql(" where r.window_end <= ").clock().sql(" and r.window_start <= ").minutes_ago(1);
        if let Some(stream_id) = stream_id {
            statement.sql(" and r.stream_id = ").bind(Value::Text(stream_id));
        }
        statement.sql(" order by r.window_start desc, r.stream_id limit 1) r on true");
        self.queries.answer(statement, metric_row).await
    }

    /// Streams by their newest window, newest first.
    pub async fn streams(&self, minutes: u32, limit: u32) -> Result<Answer<StreamRow>, StoreError> {
        let mut statement = self.queries.statement();
        statement.sql("select h.clock, r.stream_id, r.last_seen from ").head();
        statement.sql(" left join (select r.stream_id, max(r.window_start) as last_seen from stream_metrics_minute r where true");
        statement.since(Since::Minutes(minutes));
        statement.sql(" group by r.stream_id order by last_seen desc, r.stream_id limit ").bind(Value::Count(limit.into()));
        statement.sql(") r on true order by r.last_seen desc, r.stream_id");
        self.queries.answer(statement, stream_row).await
    }

    /// The streams that score highest; ties go to the smallest stream.
    pub async fn top(&self, minutes: u32, n: u32, by: By) -> Result<Answer<TopRow>, StoreError> {
        let mut statement = self.queries.statement();
        statement.sql("select h.clock, r.stream_id, ").score_out(by).sql(" from ").head();
        statement.sql(" left join (select r.stream_id, ").score(by).sql(" as score from stream_metrics_minute r where true");
        statement.since(Since::Minutes(minutes));
        statement.sql(" group by r.stream_id order by score desc, r.stream_id limit ").bind(Value::Count(n.into()));
        statement.sql(") r on true order by r.score desc, r.stream_id");
        self.queries.answer(statement, if by == By::DonationsUsd { money_row } else { count_row }).await
    }

    /// How far the pipeline is; `None` before its first commit. Answers or fails within a second.
    pub async fn progress(&self) -> Result<Option<Progress>, StoreError> {
        let mut statement = self.health.statement();
        statement.sql("select ").clock();
        statement.sql(", p.epoch, p.watermark, p.fingerprint, q.topic, cast(q.partition as bigint), q.next_offset,");
        statement.sql(" q.end_offset, q.watermark, q.state from progress p");
        statement.sql(" left join progress_partitions q on q.pipeline = p.pipeline order by q.topic, q.partition");
        let rows = self.health.rows(statement, progress_row).await?;
        Ok(rows.into_iter().reduce(|mut progress, next| {
            progress.partitions.extend(next.partitions);
            progress
        }))
    }
}

impl Pool {
    fn statement(&self) -> Statement {
        Statement::new(match self {
            Pool::Postgres(_) => Dialect::Postgres,
            Pool::Sqlite(_) => Dialect::Sqlite,
        })
    }

    async fn rows<T: Send + 'static>(&self, statement: Statement, read: Read<T>) -> Result<Vec<T>, StoreError> {
        match self {
            Pool::Postgres(pool) => pool.rows(statement, read).await,
            Pool::Sqlite(pool) => pool.rows(statement, read).await,
        }
    }

    /// The first column is the clock; a line without a row only brings that.
    async fn answer<T: Send + 'static>(&self, statement: Statement, read: Read<Line<T>>) -> Result<Answer<T>, StoreError> {
        let lines = self.rows(statement, read).await?;
        let now = lines.first().map(|line| line.now).ok_or_else(|| malformed("no line"))?;
        Ok(Answer { rows: lines.into_iter().filter_map(|line| line.row).collect(), now })
    }
}

/// Reads one row of a result.
type Read<T> = fn(&dyn Columns) -> Result<T, StoreError>;

struct Line<T> {
    now: UtcTime,
    row: Option<T>,
}

fn metric_row(columns: &dyn Columns) -> Result<Line<MetricRow>, StoreError> {
    let now = required(columns.time(0)?)?;
    let (watermark, Some(window_start)) = (columns.time(1)?, columns.time(2)?) else {
        return Ok(Line { now, row: None });
    };
    let window_end = required(columns.time(3)?)?;
    let row = MetricRow {
        window_start,
        window_end,
        stream_id: required(columns.text(4)?)?,
        active_viewers: required(columns.count(5)?)?,
        chat_messages: required(columns.count(6)?)?,
        donations_usd: required(columns.money(7)?)?,
        is_final: watermark.is_some_and(|watermark| window_end <= watermark),
    };
    Ok(Line { now, row: Some(row) })
}

fn stream_row(columns: &dyn Columns) -> Result<Line<StreamRow>, StoreError> {
    let now = required(columns.time(0)?)?;
    let row = columns.text(1)?.map(|stream_id| Ok(StreamRow { stream_id, last_seen: required(columns.time(2)?)? }));
    Ok(Line { now, row: row.transpose()? })
}

fn count_row(columns: &dyn Columns) -> Result<Line<TopRow>, StoreError> {
    let now = required(columns.time(0)?)?;
    let row = columns.text(1)?.map(|stream_id| Ok(TopRow { stream_id, value: Amount::Count(required(columns.count(2)?)?) }));
    Ok(Line { now, row: row.transpose()? })
}

fn money_row(columns: &dyn Columns) -> Result<Line<TopRow>, StoreError> {
    let now = required(columns.time(0)?)?;
    let row = columns.text(1)?.map(|stream_id| Ok(TopRow { stream_id, value: Amount::Money(required(columns.money(2)?)?) }));
    Ok(Line { now, row: row.transpose()? })
}

fn progress_row(columns: &dyn Columns) -> Result<Progress, StoreError> {
    let mut progress = Progress {
        now: required(columns.time(0)?)?,
        epoch: required(columns.count(1)?)?,
        watermark: columns.time(2)?,
        fingerprint: required(columns.text(3)?)?,
        partitions: Vec::new(),
    };
    if let Some(topic) = columns.text(4)? {
        progress.partitions.push(Partition {
            topic,
            partition: required(columns.count(5)?)?,
            next_offset: required(columns.count(6)?)?,
            end_offset: required(columns.count(7)?)?,
            watermark: columns.time(8)?,
            state: required(columns.text(9)?)?,
        });
    }
    Ok(progress)
}

fn required<T>(value: Option<T>) -> Result<T, StoreError> {
    value.ok_or_else(|| malformed("null in a column that has none"))
}

/// The store holds what the pipeline never writes.
fn malformed(what: &'static str) -> StoreError {
    StoreError::Refused(what.into())
}
