//! Sums over all streams: `/metrics/totals`.

use super::statement::{By, Value};
use super::{Columns, MOMENT_COLUMNS, Since, Store, StoreError, required};
use crate::rows::{Answer, Moment, Present, TotalsRow};
use tidemark_model::Micros;

/// Which minutes.
#[derive(Clone, Copy, Debug)]
pub struct TotalsQuery {
    /// From when on.
    pub since: Since,
    /// Exclusive, on `window_start`.
    pub to: Option<Micros>,
    /// At most this many minutes, the newest.
    pub limit: u32,
}

/// One line of the answer: what is present is in each of them.
pub struct TotalsLine {
    /// Of the streams whose newest minute is not before the range.
    pub present: Present,
    /// One minute's sums, if there is one.
    pub row: Option<TotalsRow>,
}

impl Store {
    /// Minutes, newest first, and what is present: one line at least.
    pub async fn totals(&self, query: TotalsQuery) -> Result<Answer<TotalsLine>, StoreError> {
        let mut statement = self.queries.statement();
        statement.moment().sql(", s.streams, s.viewers, r.window_start, r.window_end, r.streams, r.viewers, r.chats, ");
        statement.score_out(By::DonationsUsd).sql(" from ").head();
        statement.sql(" cross join (select count(*) as streams, cast(coalesce(sum(r.active_viewers), 0) as bigint) as viewers");
        statement.sql(" from stream_state r where true").since(query.since);
        statement.sql(") s left join (select r.window_start, max(r.window_end) as window_end, count(*) as streams,");
        statement.sql(" cast(sum(r.active_viewers) as bigint) as viewers, ").score(By::ChatMessages).sql(" as chats, ");
        statement.score(By::DonationsUsd).sql(" as score from stream_metrics_minute r where true").since(query.since);
        if let Some(to) = query.to {
            statement.sql(" and r.window_start < ").bind(Value::Time(to));
        }
        statement.sql(" group by r.window_start order by r.window_start desc limit ").bind(Value::Count(query.limit.into()));
        statement.sql(") r on true order by r.window_start desc");
        self.queries.answer(statement, totals_line).await
    }
}

fn totals_line(columns: &dyn Columns, at: &Moment) -> Result<Option<TotalsLine>, StoreError> {
    let column = |number: usize| MOMENT_COLUMNS + number;
    let present = Present { streams: required(columns.count(column(0))?)?, active_viewers: required(columns.count(column(1))?)? };
    let row = match columns.time(column(2))? {
        None => None,
        Some(window_start) => {
            let window_end = required(columns.time(column(3))?)?;
            Some(TotalsRow {
                window_start,
                window_end,
                streams: required(columns.count(column(4))?)?,
                active_viewers: required(columns.count(column(5))?)?,
                chat_messages: required(columns.count(column(6))?)?,
                donations_usd: required(columns.money(column(7))?)?,
                is_final: at.watermark.is_some_and(|watermark| window_end <= watermark),
            })
        }
    };
    Ok(Some(TotalsLine { present, row }))
}
