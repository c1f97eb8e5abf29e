//! All streams together: `/metrics/totals`.

use super::statement::{Statement, Value};
use super::{Columns, MOMENT_COLUMNS, STATE, Since, Store, StoreError, amounts, required};
use crate::amounts::{Presence, Row, Shape};
use crate::rows::{Answer, Moment, Present, TotalsRow};
use crate::value::Amount;
use tidemark_model::{Grain, Metric, Micros, Table};

/// Which windows.
#[derive(Clone, Copy, Debug)]
pub struct TotalsQuery {
    /// Of this length.
    pub grain: Grain,
    /// From when on.
    pub since: Since,
    /// Exclusive, on `window_start`.
    pub to: Option<Micros>,
    /// At most this many windows, the newest.
    pub limit: u32,
}

/// One line of the answer: what is present is in each of them.
pub struct TotalsLine {
    /// Of the streams whose newest minute is not before the range.
    pub present: Present,
    /// One window's totals, if there is one.
    pub row: Option<TotalsRow>,
}

impl Store {
    /// Windows, newest first, and what is present: one line at least.
    pub async fn totals(&self, query: TotalsQuery) -> Result<Answer<TotalsLine>, StoreError> {
        let (mut statement, grain) = (self.queries.statement(), query.grain);
        statement.moment().sql(", s.streams").values("s", Presence::metrics(STATE));
        statement.sql(", r.window_start, r.window_end, r.streams").values("r", Row::metrics(grain)).sql(" from ").head();
        statement.sql(" cross join (select count(*) as streams").sums(Presence::metrics(STATE));
        statement.sql(" from stream_state r where true").since(query.since);
        statement.sql(") s left join (select * from (select r.window_start, r.window_end, r.streams");
        within(statement.columns(Row::metrics(grain)), Table::totals(grain), &query);
        if grain == Grain::Minute {
            // Of the time before the first of them, which an earlier program wrote, there are sums of rows.
            statement.sql(" union all select r.window_start, max(r.window_end) as window_end, count(*) as streams");
            within(statement.sums(Row::metrics(grain)), Table::rows(grain), &query).before_totals();
            statement.sql(" group by r.window_start");
        }
        statement.sql(") r order by r.window_start desc limit ").bind(Value::Count(query.limit.into()));
        statement.sql(") r on true order by r.window_start desc");
        self.queries.answer(statement, move |columns, at| totals_line(columns, grain, at)).await
    }
}

/// Appends the table and the bounds of the windows.
fn within<'a>(statement: &'a mut Statement, table: Table, query: &TotalsQuery) -> &'a mut Statement {
    statement.sql(" from ").sql(table.name()).sql(" r where true").since(query.since);
    match query.to {
        Some(to) => statement.sql(" and r.window_start < ").bind(Value::Time(to)),
        None => statement,
    }
}

fn totals_line(columns: &dyn Columns, grain: Grain, at: &Moment) -> Result<Option<TotalsLine>, StoreError> {
    let streams = required(columns.count(MOMENT_COLUMNS)?)?;
    // The sum of no rows is null in SQL.
    let null: fn(Metric) -> Option<Amount> = if streams == 0 { |metric| Some(Amount::of(metric, 0)) } else { |_| None };
    let present = Present { streams, values: amounts(columns, MOMENT_COLUMNS + 1, STATE, null)? };
    let first = MOMENT_COLUMNS + 1 + Presence::metrics(STATE).count();
    let row = match columns.time(first)? {
        None => None,
        Some(window_start) => {
            let window_end = required(columns.time(first + 1)?)?;
            Some(TotalsRow {
                window_start,
                window_end,
                streams: required(columns.count(first + 2)?)?,
                values: amounts(columns, first + 3, grain, |_| None)?,
                is_final: at.watermark.is_some_and(|watermark| window_end <= watermark),
            })
        }
    };
    Ok(Some(TotalsLine { present, row }))
}
