//! The metrics' columns in SQL, from which both stores' statements are made.

use tidemark_model::Metric;
use tidemark_model::metrics::Unit;

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Money is numeric, in dollars.
    Postgres,
    /// Money is an integer, in cents.
    Sqlite,
}

impl Dialect {
    /// The column of a metric.
    pub fn column(self, metric: Metric) -> String {
        match self {
            Dialect::Postgres => metric.name().to_owned(),
            Dialect::Sqlite => metric.integer_column(),
        }
    }

    /// Its type.
    pub fn kind(self, metric: Metric) -> &'static str {
        match (self, metric.declared().unit) {
            (Dialect::Sqlite, _) => "integer",
            (Dialect::Postgres, Unit::Count) => "bigint",
            (Dialect::Postgres, Unit::Usd) => "numeric",
        }
    }

    /// Every column, in order, as `each` writes it, with commas between them.
    pub fn columns(self, each: impl Fn(&str) -> String) -> String {
        Metric::ALL.map(|metric| each(&self.column(metric))).join(", ")
    }

    /// Every column as an integer: a count, or cents. Null for what is no whole number of cents.
    pub fn integers(self) -> String {
        let integer = |metric: Metric| {
            let column = self.column(metric);
            match (self, metric.declared().unit) {
                (Dialect::Postgres, Unit::Usd) => format!(
                    "case when {column} = round({column}, 2) and abs({column}) < 9e16 then ({column} * 100)::bigint end as {column}"
                ),
                _ => column,
            }
        };
        Metric::ALL.map(integer).join(", ")
    }

    /// Writes the rows of `source`, which gives `window_start, window_end, stream_id`, the metrics and `epoch`, into a table of rows. One
    /// that is there and the same is left alone, with its epoch.
    pub fn upsert_rows(self, table: &str, source: &str) -> String {
        let columns = self.columns(str::to_owned);
        let set = self.columns(|column| format!("{column} = excluded.{column}"));
        let (stored, new) =
            (self.columns(|column| format!("stored.{column}")), self.columns(|column| format!("excluded.{column}")));
        let differs = match self {
            Dialect::Postgres => "is distinct from",
            Dialect::Sqlite => "is not",
        };
        format!(
            "insert into {table} as stored (window_start, window_end, stream_id, {columns}, epoch)
             {source}
             on conflict (window_start, stream_id) do update set window_end = excluded.window_end, {set}, epoch = excluded.epoch
             where (stored.window_end, {stored}) {differs} (excluded.window_end, {new})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in the file of the tables is what is declared.
    #[test]
    fn the_tables_have_the_columns_that_are_declared() {
        for (dialect, file) in
            [(Dialect::Postgres, crate::sink::postgres::TABLES), (Dialect::Sqlite, crate::sink::sqlite::TABLES)]
        {
            let (_, table) = file.split_once("create table if not exists stream_metrics_minute (\n").expect("it is there");
            let (table, _) = table.split_once("\n)").expect("it has an end");
            let mut columns: Vec<&str> =
                table.lines().map(|line| line.trim_start().split("--").next().expect("a part").trim()).collect();
            columns.retain(|column| !column.starts_with("primary key"));
            let words = |column: &&str| column.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            let found: Vec<String> = columns.iter().skip(3).take(tidemark_model::metrics::COUNT).map(words).collect();
            let declared = Metric::ALL.map(|metric| format!("{} {}", dialect.column(metric), dialect.kind(metric)));
            let without_digits = |text: &str| text.split('(').next().expect("a part").to_owned();
            assert_eq!(found.iter().map(|text| without_digits(text)).collect::<Vec<_>>(), declared, "{dialect:?}");
        }
    }
}
