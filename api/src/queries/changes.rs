//! What commits changed in the rows of streams: the questions of the one reader for all live clients, and of a live client that
//! catches up.

use super::metrics::metric_row;
use super::statement::Value;
use super::{Pool, Store, StoreError};
use crate::rows::{Answer, Epoch, MetricRow, Moment};
use tidemark_model::{Grain, Micros, Minute};

/// Rows of one page, read and sent at once.
pub const PAGE_ROWS: u32 = 2_000;

/// Which changed rows, in the order of their key (window, stream).
#[derive(Clone, Debug)]
pub struct ChangesQuery {
    /// How long the windows are.
    pub grain: Grain,
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

impl ChangesQuery {
    /// All rows.
    pub fn all(grain: Grain) -> ChangesQuery {
        ChangesQuery { grain, since: None, starts_after: None, streams: Vec::new(), after: None, limit: PAGE_ROWS }
    }

    /// What changed since a commit. `starts_after`: [`Moment::changes_start_after`] of it, for minutes. A longer window
    /// may start earlier, by its length less one minute.
    pub fn changes(grain: Grain, since: Option<Epoch>, starts_after: Option<Micros>) -> ChangesQuery {
        let longer = Minute(grain.minutes() - 1).start();
        let starts_after = starts_after.map(|start| Micros(start.0.saturating_sub(longer.0)));
        ChangesQuery { since, starts_after, ..ChangesQuery::all(grain) }
    }
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
}

async fn changes(pool: &Pool, query: &ChangesQuery) -> Result<Answer<MetricRow>, StoreError> {
    let mut statement = pool.statement();
    let grain = query.grain;
    statement.metric_rows(grain);
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
    pool.answer(statement, move |columns, at| metric_row(columns, grain, at)).await
}
