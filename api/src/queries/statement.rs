//! A statement under construction: constants and bound values, in the words of one of the two dialects.

use super::Since;
use crate::amounts::{Amounts, Minimum, Row, Shape};
use crate::cursor::SortKey;
use crate::params::Choice;
use crate::value::{Amount, Money};
use std::time::{SystemTime, UNIX_EPOCH};
use tidemark_model::metrics::{RollUp, Unit};
use tidemark_model::{Grain, Metric, Micros, Table};

/// SQL and the values of its parameters. [`Statement::sql`] takes constants only, and columns are those of declared metrics, so a
/// client's text cannot become SQL.
pub struct Statement {
    dialect: Dialect,
    text: String,
    values: Vec<Value>,
}

/// The two kinds of store. Times are `timestamptz` in Postgres and whole microseconds in SQLite, money is `numeric(20,2)` in
/// Postgres and whole cents in SQLite; all other columns are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Postgres.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// A bound value.
#[derive(Clone, Debug)]
pub enum Value {
    /// An instant.
    Time(Micros),
    /// A number.
    Count(i64),
    /// A text without U+0000.
    Text(String),
    /// An amount.
    Money(Money),
}

/// Stands for a null in an order: less than any value, as none is negative. Stores disagree about where a null itself belongs, and it
/// cannot be compared with.
const NULL_IN_ORDER: i64 = -1;

/// What the rows of `/metrics` can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// The window.
    WindowStart,
    /// A metric.
    Metric(Metric),
}

/// A direction of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Largest first.
    Descending,
    /// Smallest first.
    Ascending,
}

impl OrderBy {
    /// Whether windows of this length have it.
    pub fn is_of(self, grain: Grain) -> bool {
        match self {
            OrderBy::WindowStart => true,
            OrderBy::Metric(metric) => Metric::of(grain).contains(&metric),
        }
    }
}

impl From<&Amount> for Value {
    fn from(amount: &Amount) -> Value {
        match amount {
            Amount::Count(count) => Value::Count(*count),
            Amount::Money(money) => Value::Money(money.clone()),
        }
    }
}

impl Choice for OrderBy {
    fn all() -> impl Iterator<Item = OrderBy> {
        std::iter::once(OrderBy::WindowStart).chain(Metric::all().map(OrderBy::Metric))
    }

    fn as_str(self) -> &'static str {
        match self {
            OrderBy::WindowStart => "window_start",
            OrderBy::Metric(metric) => metric.name(),
        }
    }
}

impl Choice for Direction {
    fn all() -> impl Iterator<Item = Direction> {
        [Direction::Descending, Direction::Ascending].into_iter()
    }

    fn as_str(self) -> &'static str {
        match self {
            Direction::Descending => "desc",
            Direction::Ascending => "asc",
        }
    }
}

impl Statement {
    /// An empty statement.
    pub fn new(dialect: Dialect) -> Statement {
        Statement { dialect, text: String::new(), values: Vec::new() }
    }

    /// The finished statement.
    pub fn into_parts(self) -> (String, Vec<Value>) {
        (self.text, self.values)
    }

    /// Appends a constant.
    pub fn sql(&mut self, fragment: &'static str) -> &mut Statement {
        self.text.push_str(fragment);
        self
    }

    /// Appends a parameter.
    pub fn bind(&mut self, value: Value) -> &mut Statement {
        let number = self.values.len() + 1;
        self.text += &match (self.dialect, &value) {
            (Dialect::Sqlite, _) => format!("?{number}"),
            // It travels as text: exact, and the same digits that a cursor holds.
            (Dialect::Postgres, Value::Money(_)) => format!("cast(${number} as numeric)"),
            (Dialect::Postgres, _) => format!("${number}"),
        };
        self.values.push(value);
        self
    }

    /// Appends the clock: Postgres has its own, SQLite's is this machine's.
    pub fn clock(&mut self) -> &mut Statement {
        match self.dialect {
            Dialect::Postgres => self.sql("now()"),
            Dialect::Sqlite => self.bind(Value::Time(machine_clock())),
        }
    }

    /// Appends the clock minus so many minutes.
    pub fn minutes_ago(&mut self, minutes: u32) -> &mut Statement {
        let (before, behind) = match self.dialect {
            Dialect::Postgres => (" - make_interval(mins => cast(", " as int))"),
            Dialect::Sqlite => (" - (", " * 60000000)"),
        };
        self.clock().sql(before).bind(Value::Count(minutes.into())).sql(behind)
    }

    /// Appends a table `h` of one line: the clock, and the pipeline's last commit if there was one. `run`, `heartbeat_at` and `trouble`
    /// are null in tables of an older dataflow: a column that `progress` lacks is then that of `c`, which is around it.
    pub fn head(&mut self) -> &mut Statement {
        self.sql("(select c.clock, p.epoch, p.watermark, p.hash_key,");
        self.sql(" (select run from progress order by epoch desc limit 1) as run,");
        self.sql(" (select heartbeat_at from progress order by epoch desc limit 1) as heartbeat_at,");
        self.sql(" (select trouble from progress order by epoch desc limit 1) as trouble from (select ")
            .clock()
            .sql(" as clock,");
        self.sql(
            " cast(null as text) as run, cast(null as timestamptz) as heartbeat_at, cast(null as text) as trouble) c left join",
        );
        self.sql(" (select epoch, watermark, hash_key from progress order by epoch desc limit 1) p on true) h")
    }

    /// Appends the beginning of a query: the columns of the table `h`.
    pub fn moment(&mut self) -> &mut Statement {
        self.sql("select h.clock, h.epoch, h.watermark, h.hash_key, h.run")
    }

    /// Appends the columns of a row `r`.
    pub fn metric_columns(&mut self, grain: Grain) -> &mut Statement {
        self.sql("r.window_start, r.window_end, r.stream_id").values("r", Row::metrics(grain))
    }

    /// Appends, each behind a comma, the columns of these metrics of a table, in the form in which they travel.
    pub fn values(&mut self, table: &'static str, metrics: impl IntoIterator<Item = Metric>) -> &mut Statement {
        for metric in metrics {
            let column = self.travelling(metric, &format!("{table}.{}", self.column(metric)));
            self.text += &format!(", {column}");
        }
        self
    }

    /// Appends, each behind a comma, the columns of these metrics of rows `r`, as they are stored.
    pub fn columns(&mut self, metrics: impl IntoIterator<Item = Metric>) -> &mut Statement {
        for metric in metrics {
            self.text += &format!(", r.{}", self.column(metric));
        }
        self
    }

    /// Appends, each behind a comma, the sums of these metrics over rows `r`, named as the columns are. A sum is null if any value is: SQL
    /// alone would leave that value out.
    pub fn sums(&mut self, metrics: impl IntoIterator<Item = Metric>) -> &mut Statement {
        for metric in metrics {
            let (sum, column) = (self.sum(metric), self.column(metric));
            self.text += &if metric.declared().first {
                format!(", {sum} as {column}")
            } else {
                format!(", case when count(r.{column}) = count(*) then {sum} end as {column}")
            };
        }
        self
    }

    /// Appends the query of rows up to the conditions of the inner one, which go on with `and`: one line at least, for the moment, with
    /// nulls if there is no row.
    pub fn metric_rows(&mut self, grain: Grain) -> &mut Statement {
        self.moment().sql(", ").metric_columns(grain).sql(" from ").head();
        self.sql(" left join (select r.* from ").sql(Table::rows(grain).name()).sql(" r where true")
    }

    /// Appends the condition that a row is of one of these streams, or none if there is none.
    pub fn streams(&mut self, streams: &[String]) -> &mut Statement {
        for (number, stream) in streams.iter().enumerate() {
            self.sql(if number == 0 { " and r.stream_id in (" } else { ", " }).bind(Value::Text(stream.clone()));
        }
        self.sql(if streams.is_empty() { "" } else { ")" })
    }

    /// Appends the condition that a row's values are these at least, which no null is.
    pub fn at_least(&mut self, minima: &Amounts<Minimum>) -> &mut Statement {
        for (metric, minimum) in minima.iter() {
            self.text += &format!(" and r.{} >= ", self.column(metric));
            self.bind(minimum.into());
        }
        self
    }

    /// Appends the condition that a row's value is not null, if it can be.
    pub fn is_known(&mut self, metric: Metric) -> &mut Statement {
        if !metric.declared().first {
            self.text += &format!(" and r.{} is not null", self.column(metric));
        }
        self
    }

    /// Appends the condition that a row is final, or that it is not: on its start, which has an index.
    pub fn finality(&mut self, grain: Grain, is_final: Option<bool>) -> &mut Statement {
        let Some(is_final) = is_final else { return self };
        let (length, never) = match self.dialect {
            // In minutes: what Postgres calls a day has 23 or 25 hours now and then, in a session's time zone.
            Dialect::Postgres => (format!("interval '{} minutes'", grain.minutes()), "'-infinity'"),
            Dialect::Sqlite => ((i64::from(grain.minutes()) * 60_000_000).to_string(), "-9000000000000000000"),
        };
        let newest = format!("(select max(watermark) from progress) - {length}");
        self.text += &if is_final {
            format!(" and r.window_start <= {newest}")
        } else {
            // Without a watermark nothing is final.
            format!(" and r.window_start > coalesce({newest}, {never})")
        };
        self
    }

    /// Appends the condition that a row is of a minute before the first that has totals.
    pub fn before_totals(&mut self) -> &mut Statement {
        let never = if self.dialect == Dialect::Postgres { "'infinity')" } else { "9000000000000000000)" };
        self.sql(" and r.window_start < coalesce((select min(window_start) from ").sql(Table::totals(Grain::Minute).name());
        self.sql("), ").sql(never)
    }

    /// Appends a lower bound on `window_start`.
    pub fn since(&mut self, since: Since) -> &mut Statement {
        match since {
            Since::Ever => self,
            Since::Minutes(minutes) => self.sql(" and r.window_start > ").minutes_ago(minutes),
            Since::Instant(instant) => self.sql(" and r.window_start >= ").bind(Value::Time(instant)),
        }
    }

    /// Appends the order: the column, then newest first, then streams by bytes.
    pub fn order(&mut self, by: OrderBy, direction: Direction) -> &mut Statement {
        self.sql(" order by ").order_column(by).sql(match direction {
            Direction::Descending => " desc",
            Direction::Ascending => " asc",
        });
        // Twice the same column is no harm, but would hide the index from the planner.
        self.sql(if by == OrderBy::WindowStart { ", r.stream_id" } else { ", r.window_start desc, r.stream_id" })
    }

    /// Appends the condition that a row stands behind `key` in that order.
    pub fn after(&mut self, by: OrderBy, direction: Direction, key: &SortKey) -> &mut Statement {
        let (at_or_behind, behind) = match direction {
            Direction::Descending => (" <= ", " < "),
            Direction::Ascending => (" >= ", " > "),
        };
        let start = Value::Time(key.window_start);
        let value = match (by, &key.value) {
            (OrderBy::WindowStart, _) => start.clone(),
            (OrderBy::Metric(_), Some(value)) => value.into(),
            (OrderBy::Metric(_), None) => Value::Count(NULL_IN_ORDER),
        };
        self.sql(" and ").order_column(by).sql(at_or_behind).bind(value.clone());
        self.sql(" and (").order_column(by).sql(behind).bind(value);
        if by == OrderBy::WindowStart {
            self.sql(" or r.stream_id > ").bind(Value::Text(key.stream_id.clone())).sql(")")
        } else {
            self.sql(" or r.window_start < ").bind(start.clone());
            self.sql(" or (r.window_start = ").bind(start);
            self.sql(" and r.stream_id > ").bind(Value::Text(key.stream_id.clone())).sql("))")
        }
    }

    /// Appends a stream's score, an aggregate.
    pub fn score(&mut self, by: Metric) -> &mut Statement {
        self.text += &match by.declared().roll_up {
            RollUp::AtEnd | RollUp::Distinct | RollUp::Largest => format!("max(r.{})", self.column(by)),
            RollUp::Sum => self.sum(by),
        };
        self
    }

    /// Appends the score `r.score` in the form in which it travels.
    pub fn score_out(&mut self, by: Metric) -> &mut Statement {
        self.text += &self.travelling(by, "r.score");
        self
    }

    /// Appends the column of an order, which has no null.
    fn order_column(&mut self, by: OrderBy) -> &mut Statement {
        self.text += &match by {
            OrderBy::WindowStart => "r.window_start".to_owned(),
            OrderBy::Metric(metric) if metric.declared().first => format!("r.{}", self.column(metric)),
            OrderBy::Metric(metric) => format!("coalesce(r.{}, {NULL_IN_ORDER})", self.column(metric)),
        };
        self
    }

    /// A metric's column.
    fn column(&self, metric: Metric) -> String {
        match self.dialect {
            Dialect::Postgres => metric.name().to_owned(),
            Dialect::Sqlite => metric.integer_column(),
        }
    }

    /// The sum of a column, an aggregate. None overflows: a donation is at most 10⁹ dollars, and 64 bits hold 92 million of the largest, or
    /// 292 million years of watching. An overflow would be an error of the store, never a wrong number.
    fn sum(&self, metric: Metric) -> String {
        let sum = format!("sum(r.{})", self.column(metric));
        // In Postgres it is a numeric.
        if metric.declared().unit == Unit::Usd { sum } else { format!("cast({sum} as bigint)") }
    }

    /// The form in which a metric's value travels.
    fn travelling(&self, metric: Metric, value: &str) -> String {
        match (metric.declared().unit, self.dialect) {
            (Unit::Usd, Dialect::Postgres) => format!("cast({value} as text)"),
            _ => value.to_owned(),
        }
    }
}

fn machine_clock() -> Micros {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}
