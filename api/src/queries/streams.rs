//! Streams: `/streams`, `/streams/top` and `/streams/{id}`.

use super::metrics::metric_row_behind;
use super::statement::Value;
use super::{Columns, MOMENT_COLUMNS, STATE, Since, Store, StoreError, amounts, required};
use crate::amounts::{Presence, Shape};
use crate::rows::{Answer, MetricRow, Moment, StreamRow, StreamState, TopRow};
use tidemark_model::{Grain, Metric, Table};

impl Store {
    /// Streams by their newest window, newest first.
    pub async fn streams(&self, grain: Grain, minutes: u32, limit: u32) -> Result<Answer<StreamRow>, StoreError> {
        let mut statement = self.queries.statement();
        statement.moment().sql(", r.stream_id, r.last_seen from ").head();
        statement.sql(" left join (select r.stream_id, max(r.window_start) as last_seen from ").sql(Table::rows(grain).name());
        statement.sql(" r where true").since(Since::Minutes(minutes));
        statement.sql(" group by r.stream_id order by last_seen desc, r.stream_id limit ").bind(Value::Count(limit.into()));
        statement.sql(") r on true order by r.last_seen desc, r.stream_id");
        self.queries.answer(statement, stream_row).await
    }

    /// The streams that score highest, by the values that are known; ties go to the smallest stream.
    pub async fn top(&self, grain: Grain, minutes: u32, n: u32, by: Metric) -> Result<Answer<TopRow>, StoreError> {
        let mut statement = self.queries.statement();
        statement.moment().sql(", r.stream_id, ").score_out(by).sql(" from ").head();
        statement.sql(" left join (select r.stream_id, ").score(by).sql(" as score from ").sql(Table::rows(grain).name());
        statement.sql(" r where true").since(Since::Minutes(minutes)).is_known(by);
        statement.sql(" group by r.stream_id order by score desc, r.stream_id limit ").bind(Value::Count(n.into()));
        statement.sql(") r on true order by r.score desc, r.stream_id");
        self.queries.answer(statement, move |columns, _| top_row(columns, by)).await
    }

    /// A stream's newest state and its rows, newest first: one line at least.
    pub async fn stream(&self, stream_id: &str, grain: Grain, minutes: u32) -> Result<Answer<StreamLine>, StoreError> {
        let mut statement = self.queries.statement();
        let stream = Value::Text(stream_id.to_owned());
        statement.moment().sql(", s.window_start, s.updated_at").values("s", Presence::metrics(STATE));
        statement.sql(", ").metric_columns(grain).sql(" from ").head();
        statement.sql(" left join stream_state s on s.stream_id = ").bind(stream.clone());
        statement.sql(" left join (select r.* from ").sql(Table::rows(grain).name());
        statement.sql(" r where r.stream_id = ").bind(stream).since(Since::Minutes(minutes));
        statement.sql(") r on true order by r.window_start desc");
        self.queries.answer(statement, move |columns, at| stream_line(columns, grain, at)).await
    }
}

/// One line of a stream's answer: the state is in each of them.
pub struct StreamLine {
    /// The stream's state, if it has one.
    pub state: Option<StreamState>,
    /// One of its rows, if it has one.
    pub row: Option<MetricRow>,
}

fn stream_row(columns: &dyn Columns, _: &Moment) -> Result<Option<StreamRow>, StoreError> {
    let Some(stream_id) = columns.text(MOMENT_COLUMNS)? else { return Ok(None) };
    Ok(Some(StreamRow { stream_id, last_seen: required(columns.time(MOMENT_COLUMNS + 1)?)? }))
}

fn top_row(columns: &dyn Columns, by: Metric) -> Result<Option<TopRow>, StoreError> {
    let Some(stream_id) = columns.text(MOMENT_COLUMNS)? else { return Ok(None) };
    Ok(Some(TopRow { stream_id, value: required(columns.amount(MOMENT_COLUMNS + 1, by)?)? }))
}

fn stream_line(columns: &dyn Columns, grain: Grain, at: &Moment) -> Result<Option<StreamLine>, StoreError> {
    let state = match columns.time(MOMENT_COLUMNS)? {
        None => None,
        Some(window_start) => Some(StreamState {
            values: amounts(columns, MOMENT_COLUMNS + 2, STATE, |_| None)?,
            window_start,
            updated_at: required(columns.time(MOMENT_COLUMNS + 1)?)?,
        }),
    };
    let first = MOMENT_COLUMNS + 2 + Presence::metrics(STATE).count();
    Ok(Some(StreamLine { state, row: metric_row_behind(first, columns, grain, at)? }))
}
