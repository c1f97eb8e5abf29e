//! What commits changed: the questions of the one reader for all live clients, and of a live client that catches up.

use super::metrics::metric_row;
use super::statement::Value;
use super::{Pool, Store, StoreError, postgres};
use crate::rows::{Answer, Epoch, MetricRow, Moment};
use std::time::Duration;
use tidemark_model::Micros;

/// Pause between two looks at the epoch when commits are not announced.
const POLL_POSTGRES: Duration = Duration::from_millis(100);
/// SQLite announces nothing, but a look at a local file costs little.
const POLL_SQLITE: Duration = Duration::from_millis(50);
/// With announcements, this often anyway: so a connection that is silently dead is found out.
const CONFIRM: Duration = Duration::from_millis(400);
/// Pause between two tries to hear announcements.
const LISTEN_RETRY: Duration = Duration::from_secs(1);

/// Which changed rows, in the order of their key (window, stream).
#[derive(Clone, Debug, Default)]
pub struct ChangesQuery {
    /// Only rows that a later commit than this changed.
    pub since: Option<Epoch>,
    /// Only windows that start after this. There is no index on the epoch: this bounds the work.
    pub starts_after: Option<Micros>,
    /// Of these streams; of all if there is none.
    pub streams: Vec<String>,
    /// Only rows behind this key.
    pub after: Option<(Micros, String)>,
    /// At most this many.
    pub limit: u32,
}

impl Store {
    /// Epoch, watermark and clock.
    pub async fn moment(&self) -> Result<Moment, StoreError> {
        let mut statement = self.feed.statement();
        statement.moment().sql(" from ").head();
        Ok(self.feed.answer::<()>(statement, |_, _| Ok(None)).await?.at)
    }

    /// Rows by their key, for one client.
    pub async fn changes(&self, query: &ChangesQuery) -> Result<Answer<MetricRow>, StoreError> {
        changes(&self.queries, query).await
    }

    /// Rows by their key, for the one reader.
    pub async fn changes_for_all(&self, query: &ChangesQuery) -> Result<Answer<MetricRow>, StoreError> {
        changes(&self.feed, query).await
    }

    /// Hears of commits.
    pub fn announcements(&self) -> Announcements<'_> {
        match &self.feed {
            Pool::Postgres(pool) => Announcements(Kind::Postgres { pool, listener: None, tried: None }),
            Pool::Sqlite(_) => Announcements(Kind::Sqlite),
        }
    }
}

async fn changes(pool: &Pool, query: &ChangesQuery) -> Result<Answer<MetricRow>, StoreError> {
    let mut statement = pool.statement();
    statement.metric_rows();
    if let Some(start) = query.starts_after {
        statement.sql(" and r.window_start > ").bind(Value::Time(start));
    }
    if let Some(Epoch(epoch)) = query.since {
        statement.sql(" and r.epoch > ").bind(Value::Count(epoch));
    }
    statement.streams(&query.streams);
    if let Some((start, stream_id)) = &query.after {
        statement.sql(" and (r.window_start, r.stream_id) > (").bind(Value::Time(*start));
        statement.sql(", ").bind(Value::Text(stream_id.clone())).sql(")");
    }
    statement.sql(" order by r.window_start, r.stream_id limit ").bind(Value::Count(query.limit.into()));
    statement.sql(") r on true order by r.window_start, r.stream_id");
    pool.answer(statement, metric_row).await
}

/// When to look at the epoch again.
pub struct Announcements<'a>(Kind<'a>);

enum Kind<'a> {
    /// Listens, or polls while it cannot.
    Postgres {
        /// Where to connect.
        pool: &'a postgres::Pool,
        /// The connection that listens.
        listener: Option<postgres::Listener>,
        /// When it was last tried.
        tried: Option<tokio::time::Instant>,
    },
    /// Polls.
    Sqlite,
}

impl Announcements<'_> {
    /// Returns when there may be something new.
    pub async fn next(&mut self) {
        match &mut self.0 {
            Kind::Postgres { pool, listener, tried } => {
                let pause = tried.is_some_and(|tried| tried.elapsed() < LISTEN_RETRY);
                if listener.is_none() && !pause {
                    *tried = Some(tokio::time::Instant::now());
                    *listener = pool.listen().await.inspect_err(StoreError::log_quietly).ok();
                }
                match listener {
                    None => tokio::time::sleep(POLL_POSTGRES).await,
                    Some(heard) => match tokio::time::timeout(CONFIRM, heard.next()).await {
                        Ok(Some(())) | Err(_) => {}
                        Ok(None) => *listener = None,
                    },
                }
            }
            Kind::Sqlite => tokio::time::sleep(POLL_SQLITE).await,
        }
    }
}
