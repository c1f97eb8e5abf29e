//! Minute rows: `/metrics`, `/metrics/latest`, and one stream's.

use super::statement::{Direction, OrderBy, Value};
use super::{Columns, MOMENT_COLUMNS, Store, StoreError, required};
use crate::cursor::SortKey;
use crate::rows::{Answer, MetricRow, Moment};
use tidemark_model::Micros;

/// Which rows of `/metrics`, and in what order.
#[derive(Clone, Debug)]
pub struct MetricsQuery {
    /// Of these streams; of all if there is none.
    pub streams: Vec<String>,
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

impl Store {
    /// The rows of `/metrics`.
    pub async fn metrics(&self, query: &MetricsQuery) -> Result<Answer<MetricRow>, StoreError> {
        let mut statement = self.queries.statement();
        statement.metric_rows().since(query.since);
        if let Some(to) = query.to {
            statement.sql(" and r.window_start < ").bind(Value::Time(to));
        }
        statement.streams(&query.streams);
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
        statement.metric_rows().sql(" and r.window_end <= ").clock().sql(" and r.window_start <= ").minutes_ago(1);
        statement.streams(stream_id.as_slice());
        statement.sql(" order by r.window_start desc, r.stream_id limit 1) r on true");
        self.queries.answer(statement, metric_row).await
    }
}

/// Reads what [`super::Statement::metric_rows`] selects.
pub(super) fn metric_row(columns: &dyn Columns, at: &Moment) -> Result<Option<MetricRow>, StoreError> {
    metric_row_behind(MOMENT_COLUMNS, columns, at)
}

/// Reads a row from this column on.
pub(super) fn metric_row_behind(first: usize, columns: &dyn Columns, at: &Moment) -> Result<Option<MetricRow>, StoreError> {
    let Some(window_start) = columns.time(first)? else {
        return Ok(None);
    };
    let window_end = required(columns.time(first + 1)?)?;
    Ok(Some(MetricRow {
        window_start,
        window_end,
        stream_id: required(columns.text(first + 2)?)?,
        active_viewers: required(columns.count(first + 3)?)?,
        chat_messages: required(columns.count(first + 4)?)?,
        donations_usd: required(columns.money(first + 5)?)?,
        is_final: at.watermark.is_some_and(|watermark| window_end <= watermark),
    }))
}
