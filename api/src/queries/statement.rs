//! A statement under construction: constants and bound values, in the words of one of the two dialects.

use super::{Minima, Since};
use crate::cursor::SortKey;
use crate::params::Choice;
use crate::rows::{Amount, Money};
use std::time::{SystemTime, UNIX_EPOCH};
use tidemark_model::Micros;

/// SQL and the values of its parameters. [`Statement::sql`] takes constants only, so a client's text cannot become SQL.
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

/// What the rows of `/metrics` can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// The window.
    WindowStart,
    /// Dollars donated.
    DonationsUsd,
    /// Chat messages.
    ChatMessages,
    /// Viewers.
    ActiveViewers,
}

/// A direction of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Largest first.
    Descending,
    /// Smallest first.
    Ascending,
}

/// What streams score by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The sum of dollars donated.
    DonationsUsd,
    /// The sum of chat messages.
    ChatMessages,
    /// The maximum of viewers.
    ActiveViewers,
}

impl Choice for OrderBy {
    const ALL: &'static [OrderBy] = &[OrderBy::WindowStart, OrderBy::DonationsUsd, OrderBy::ChatMessages, OrderBy::ActiveViewers];

    fn as_str(self) -> &'static str {
        match self {
            OrderBy::WindowStart => "window_start",
            OrderBy::DonationsUsd => "donations_usd",
            OrderBy::ChatMessages => "chat_messages",
            OrderBy::ActiveViewers => "active_viewers",
        }
    }
}

impl Choice for Direction {
    const ALL: &'static [Direction] = &[Direction::Descending, Direction::Ascending];

    fn as_str(self) -> &'static str {
        match self {
            Direction::Descending => "desc",
            Direction::Ascending => "asc",
        }
    }
}

impl Choice for By {
    const ALL: &'static [By] = &[By::DonationsUsd, By::ChatMessages, By::ActiveViewers];

    fn as_str(self) -> &'static str {
        match self {
            By::DonationsUsd => "donations_usd",
            By::ChatMessages => "chat_messages",
            By::ActiveViewers => "active_viewers",
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

    /// Appends the columns of a minute row `r`.
    pub fn metric_columns(&mut self) -> &mut Statement {
        self.sql("r.window_start, r.window_end, r.stream_id, r.active_viewers, r.chat_messages, ");
        self.sql(match self.dialect {
            Dialect::Postgres => "cast(r.donations_usd as text)",
            Dialect::Sqlite => "r.donations_cents",
        })
    }

    /// Appends the query of minute rows up to the conditions of the inner one, which go on with `and`: one line at least, for
    /// the moment, with nulls if there is no row.
    pub fn metric_rows(&mut self) -> &mut Statement {
        self.moment().sql(", ").metric_columns().sql(" from ").head();
        self.sql(" left join (select r.* from stream_metrics_minute r where true")
    }

    /// Appends the condition that a row is of one of these streams, or none if there is none.
    pub fn streams(&mut self, streams: &[String]) -> &mut Statement {
        for (number, stream) in streams.iter().enumerate() {
            self.sql(if number == 0 { " and r.stream_id in (" } else { ", " }).bind(Value::Text(stream.clone()));
        }
        self.sql(if streams.is_empty() { "" } else { ")" })
    }

    /// Appends the condition that a row's values are these at least.
    pub fn at_least(&mut self, minima: &Minima) -> &mut Statement {
        for (by, minimum) in [
            (OrderBy::ActiveViewers, minima.viewers.map(Value::Count)),
            (OrderBy::ChatMessages, minima.chat_messages.map(Value::Count)),
            (OrderBy::DonationsUsd, minima.donations_usd.clone().map(Value::Money)),
        ] {
            if let Some(minimum) = minimum {
                let column = self.column(by);
                self.sql(" and ").sql(column).sql(" >= ").bind(minimum);
            }
        }
        self
    }

    /// Appends the condition that a row is final, or that it is not: on its start, which has an index.
    pub fn finality(&mut self, is_final: Option<bool>) -> &mut Statement {
        self.sql(match (is_final, self.dialect) {
            (None, _) => "",
            (Some(true), Dialect::Postgres) => {
                " and r.window_start <= (select max(watermark) from progress) - interval '1 minute'"
            }
            (Some(true), Dialect::Sqlite) => " and r.window_start <= (select max(watermark) from progress) - 60000000",
            // Without a watermark nothing is final.
            (Some(false), Dialect::Postgres) => {
                " and r.window_start > coalesce((select max(watermark) from progress) - interval '1 minute', '-infinity')"
            }
            (Some(false), Dialect::Sqlite) => {
                " and r.window_start > coalesce((select max(watermark) from progress) - 60000000, -9000000000000000000)"
            }
        })
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
        let column = self.column(by);
        self.sql(" order by ").sql(column).sql(match direction {
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
        let (column, start) = (self.column(by), Value::Time(key.window_start));
        let value = match &key.value {
            None => start.clone(),
            Some(Amount::Count(count)) => Value::Count(*count),
            Some(Amount::Money(money)) => Value::Money(money.clone()),
        };
        self.sql(" and ").sql(column).sql(at_or_behind).bind(value.clone());
        self.sql(" and (").sql(column).sql(behind).bind(value);
        if by == OrderBy::WindowStart {
            self.sql(" or r.stream_id > ").bind(Value::Text(key.stream_id.clone())).sql(")")
        } else {
            self.sql(" or r.window_start < ").bind(start.clone());
            self.sql(" or (r.window_start = ").bind(start);
            self.sql(" and r.stream_id > ").bind(Value::Text(key.stream_id.clone())).sql("))")
        }
    }

    /// Appends a stream's score, an aggregate.
    pub fn score(&mut self, by: By) -> &mut Statement {
        // No sum overflows: a donation is at most 10⁹ dollars, and 64 bits hold 92 million of the largest; an overflow would
        // be an error of the store, never a wrong number.
        self.sql(match (by, self.dialect) {
            (By::DonationsUsd, Dialect::Postgres) => "sum(r.donations_usd)",
            (By::DonationsUsd, Dialect::Sqlite) => "sum(r.donations_cents)",
            (By::ChatMessages, _) => "cast(sum(r.chat_messages) as bigint)",
            (By::ActiveViewers, _) => "max(r.active_viewers)",
        })
    }

    /// Appends the score `r.score` in the form in which it travels.
    pub fn score_out(&mut self, by: By) -> &mut Statement {
        self.sql(match (by, self.dialect) {
            (By::DonationsUsd, Dialect::Postgres) => "cast(r.score as text)",
            _ => "r.score",
        })
    }

    fn column(&self, by: OrderBy) -> &'static str {
        match (by, self.dialect) {
            (OrderBy::WindowStart, _) => "r.window_start",
            (OrderBy::DonationsUsd, Dialect::Postgres) => "r.donations_usd",
            (OrderBy::DonationsUsd, Dialect::Sqlite) => "r.donations_cents",
            (OrderBy::ChatMessages, _) => "r.chat_messages",
            (OrderBy::ActiveViewers, _) => "r.active_viewers",
        }
    }
}

fn machine_clock() -> Micros {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}
