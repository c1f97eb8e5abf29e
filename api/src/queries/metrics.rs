//! Rows of a stream and a window: `/metrics`, `/metrics/latest`, and one stream's.

use super::statement::{Direction, OrderBy, Statement, Value};
use super::{Columns, MOMENT_COLUMNS, Store, StoreError, amounts, malformed, read_moment, required};
use crate::amounts::{Amounts, Minimum};
use crate::cursor::SortKey;
use crate::rows::{Answer, MetricRow, Moment};
use futures_util::stream::{self, BoxStream, StreamExt};
use tidemark_model::{Grain, Micros};

/// Which rows of `/metrics`, and in what order.
#[derive(Clone, Debug)]
pub struct MetricsQuery {
    /// Of windows of this length.
    pub grain: Grain,
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
    /// Only rows with these values at least.
    pub at_least: Amounts<Minimum>,
    /// Only rows that are final, or only those that are not.
    pub is_final: Option<bool>,
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
        let (statement, grain) = (select(self.queries.statement(), query), query.grain);
        self.queries.answer(statement, move |columns, at| metric_row(columns, grain, at)).await
    }

    /// The same as they are read, and the snapshot that they are of; fails if there is no first piece in a request's time.
    pub async fn export(&self, query: &MetricsQuery) -> Result<(Moment, Exported), StoreError> {
        let (statement, grain) = (select(self.exports.statement(), query), query.grain);
        let mut moment = None;
        let mut pieces = self.exports.pieces(statement, move |columns| {
            let at = match moment {
                Some(at) => at,
                None => *moment.insert(read_moment(columns)?),
            };
            Ok((at, metric_row(columns, grain, &at)?))
        });
        let first = tokio::time::timeout(self.timeout, pieces.recv()).await.map_err(|_| StoreError::TimedOut)?;
        let first = first.ok_or_else(|| malformed("no line"))??;
        let at = first.first().map(|(at, _)| *at).ok_or_else(|| malformed("no line"))?;
        let rest = stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
        let rows = stream::iter([Ok(first)]).chain(rest);
        let rows = rows.map(|piece: Result<Vec<_>, _>| Ok(piece?.into_iter().filter_map(|(_, row)| row).collect()));
        Ok((at, rows.boxed()))
    }

    /// The newest row whose window has ended; ties go to the smallest stream.
    pub async fn latest(&self, grain: Grain, stream_id: Option<String>) -> Result<Answer<MetricRow>, StoreError> {
        let mut statement = self.queries.statement();
        // The bound on the start says the same as the one on the end, but has an index.
        statement.metric_rows(grain).sql(" and r.window_end <= ").clock();
        statement.sql(" and r.window_start <= ").minutes_ago(grain.minutes());
        statement.streams(stream_id.as_slice());
        statement.sql(" order by r.window_start desc, r.stream_id limit 1) r on true");
        self.queries.answer(statement, move |columns, at| metric_row(columns, grain, at)).await
    }
}

fn select(mut statement: Statement, query: &MetricsQuery) -> Statement {
    statement.metric_rows(query.grain).since(query.since);
    if let Some(to) = query.to {
        statement.sql(" and r.window_start < ").bind(Value::Time(to));
    }
    statement.streams(&query.streams).at_least(&query.at_least).finality(query.grain, query.is_final);
    if let Some(after) = &query.after {
        statement.after(query.order_by, query.direction, after);
    }
    statement.order(query.order_by, query.direction).sql(" limit ").bind(Value::Count(query.limit.into()));
    // The join keeps the order in practice; only a second `order by` promises it.
    statement.sql(") r on true").order(query.order_by, query.direction);
    statement
}

/// Pieces of a large answer.
pub type Exported = BoxStream<'static, Result<Vec<MetricRow>, StoreError>>;

/// Columns of [`Statement::metric_columns`] before those of the values.
const ROW_KEY: usize = 3;

/// Reads what `Statement::metric_rows` selects.
pub(super) fn metric_row(columns: &dyn Columns, grain: Grain, at: &Moment) -> Result<Option<MetricRow>, StoreError> {
    metric_row_behind(MOMENT_COLUMNS, columns, grain, at)
}

/// Reads a row from this column on.
pub(super) fn metric_row_behind(
    first: usize,
    columns: &dyn Columns,
    grain: Grain,
    at: &Moment,
) -> Result<Option<MetricRow>, StoreError> {
    let Some(window_start) = columns.time(first)? else {
        return Ok(None);
    };
    let window_end = required(columns.time(first + 1)?)?;
    Ok(Some(MetricRow {
        window_start,
        window_end,
        stream_id: required(columns.text(first + 2)?)?,
        values: amounts(columns, first + ROW_KEY, grain, |_| None)?,
        is_final: at.watermark.is_some_and(|watermark| window_end <= watermark),
    }))
}
