//! Streams: `/streams`, `/streams/top` and `/streams/{id}`.

use super::metrics::metric_row_behind;
use super::statement::{By, Value};
use super::{Columns, MOMENT_COLUMNS, Since, Store, StoreError, required};
use crate::rows::{Amount, Answer, MetricRow, Moment, StreamRow, StreamState, TopRow};

impl Store {
    /// Streams by their newest window, newest first.
    pub async fn streams(&self, minutes: u32, limit: u32) -> Result<Answer<StreamRow>, StoreError> {
        let mut statement = self.queries.statement();
        statement.moment().sql(", r.stream_id, r.last_seen from ").head();
        statement.sql(" left join (select r.stream_id, max(r.window_start) as last_seen from stream_metrics_minute r where true");
        statement.since(Since::Minutes(minutes));
        statement.sql(" group by r.stream_id order by last_seen desc, r.stream_id limit ").bind(Value::Count(limit.into()));
        statement.sql(") r on true order by r.last_seen desc, r.stream_id");
        self.queries.answer(statement, stream_row).await
    }

    /// The streams that score highest; ties go to the smallest stream.
    pub async fn top(&self, minutes: u32, n: u32, by: By) -> Result<Answer<TopRow>, StoreError> {
        let mut statement = self.queries.statement();
        statement.moment().sql(", r.stream_id, ").score_out(by).sql(" from ").head();
        statement.sql(" left join (select r.stream_id, ").score(by).sql(" as score from stream_metrics_minute r where true");
        statement.since(Since::Minutes(minutes));
        statement.sql(" group by r.stream_id order by score desc, r.stream_id limit ").bind(Value::Count(n.into()));
        statement.sql(") r on true order by r.score desc, r.stream_id");
        self.queries.answer(statement, if by == By::DonationsUsd { money_row } else { count_row }).await
    }

    /// A stream's newest state and its rows, newest first: one line at least.
    pub async fn stream(&self, stream_id: &str, minutes: u32) -> Result<Answer<StreamLine>, StoreError> {
        let mut statement = self.queries.statement();
        let stream = Value::Text(stream_id.to_owned());
        statement.moment().sql(", s.active_viewers, s.window_start, s.updated_at, ").metric_columns().sql(" from ").head();
        statement.sql(" left join stream_state s on s.stream_id = ").bind(stream.clone());
        statement.sql(" left join (select r.* from stream_metrics_minute r where r.stream_id = ").bind(stream);
        statement.since(Since::Minutes(minutes)).sql(") r on true order by r.window_start desc");
        self.queries.answer(statement, stream_line).await
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

fn count_row(columns: &dyn Columns, _: &Moment) -> Result<Option<TopRow>, StoreError> {
    let Some(stream_id) = columns.text(MOMENT_COLUMNS)? else { return Ok(None) };
    Ok(Some(TopRow { stream_id, value: Amount::Count(required(columns.count(MOMENT_COLUMNS + 1)?)?) }))
}

fn money_row(columns: &dyn Columns, _: &Moment) -> Result<Option<TopRow>, StoreError> {
    let Some(stream_id) = columns.text(MOMENT_COLUMNS)? else { return Ok(None) };
    Ok(Some(TopRow { stream_id, value: Amount::Money(required(columns.money(MOMENT_COLUMNS + 1)?)?) }))
}

fn stream_line(columns: &dyn Columns, at: &Moment) -> Result<Option<StreamLine>, StoreError> {
    let state = match columns.count(MOMENT_COLUMNS)? {
        None => None,
        Some(active_viewers) => Some(StreamState {
            active_viewers,
            window_start: required(columns.time(MOMENT_COLUMNS + 1)?)?,
            updated_at: required(columns.time(MOMENT_COLUMNS + 2)?)?,
        }),
    };
    Ok(Some(StreamLine { state, row: metric_row_behind(MOMENT_COLUMNS + 3, columns, at)? }))
}
