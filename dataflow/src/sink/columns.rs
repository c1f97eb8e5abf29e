//! The metrics' columns in SQL, from which both stores' statements are made.

use tidemark_model::metrics::{RollUp, Unit};
use tidemark_model::{Metric, Of, Table};

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
            (Dialect::Postgres, Unit::Count | Unit::Milliseconds) => "bigint",
            (Dialect::Postgres, Unit::Usd) => "numeric",
        }
    }

    /// Every column of these metrics, in order, as `each` writes it, with commas between them.
    pub fn columns(self, metrics: &[Metric], each: impl Fn(&str) -> String) -> String {
        metrics.iter().map(|&metric| each(&self.column(metric))).collect::<Vec<_>>().join(", ")
    }

    /// Every column as an integer: a count, or cents. Null if it is not a whole number of cents, or 9e16 dollars or more.
    pub fn integers(self, metrics: &[Metric]) -> String {
        let integer = |&metric: &Metric| {
            let column = self.column(metric);
            match (self, metric.declared().unit) {
                (Dialect::Postgres, Unit::Usd) => format!(
                    "case when {column} = round({column}, 2) and abs({column}) < 9e16 then ({column} * 100)::bigint end as {column}"
                ),
                _ => column,
            }
        };
        metrics.iter().map(integer).collect::<Vec<_>>().join(", ")
    }

    /// Upserts the rows of `source` into the table of this schema. The source gives `window_start, window_end`, the table's own column, the
    /// metrics and `epoch`. A row that is unchanged keeps its epoch.
    pub fn upsert_rows(self, schema: &str, table: Table, source: &str) -> String {
        self.upsert(schema, table, source, false)
    }

    /// The same, but values that are not of the window's end only rise: what the rows were made of is not all known any more.
    pub fn raise_rows(self, table: Table, source: &str) -> String {
        self.upsert("", table, source, true)
    }

    fn upsert(self, schema: &str, table: Table, source: &str, only_rise: bool) -> String {
        let (name, own, key, metrics) = (table.name(), table.own_column(), table.key(), table.metrics());
        let columns = self.columns(metrics, str::to_owned);
        let value = |column: String, rises: bool| {
            let (stored, new) = (format!("stored.{column}"), format!("excluded.{column}"));
            let value = match self {
                _ if !rises => new,
                Dialect::Postgres => format!("greatest({stored}, {new})"),
                // `max` is null if one of them is.
                Dialect::Sqlite => format!("coalesce(max({stored}, {new}), {stored}, {new})"),
            };
            (column, value)
        };
        let own_value = (table.of == Of::All).then(|| value(own.to_owned(), only_rise));
        let rises = |metric: Metric| only_rise && metric.declared().roll_up != RollUp::AtEnd;
        let values = metrics.iter().map(|&metric| value(self.column(metric), rises(metric)));
        let values: Vec<_> = [value("window_end".to_owned(), false)].into_iter().chain(own_value).chain(values).collect();
        let each = |write: &dyn Fn(&(String, String)) -> String| values.iter().map(write).collect::<Vec<_>>().join(", ");
        let set = each(&|(column, value)| format!("{column} = {value}"));
        let (stored, new) = (each(&|(column, _)| format!("stored.{column}")), each(&|(_, value)| value.clone()));
        let differs = match self {
            Dialect::Postgres => "is distinct from",
            Dialect::Sqlite => "is not",
        };
        format!(
            "insert into {schema}{name} as stored (window_start, window_end, {own}, {columns}, epoch)
             {source}
             on conflict ({key}) do update set {set}, epoch = excluded.epoch
             where ({stored}) {differs} ({new})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The metrics' lines in `create table`.
    fn definitions(metrics: &[Metric]) -> String {
        let line = |&metric: &Metric| {
            let kind = match Dialect::Postgres.kind(metric) {
                "numeric" => "numeric(20, 2)",
                kind => kind,
            };
            let null = if metric.declared().first { " not null" } else { "" };
            let definition = format!("    {:<15} {kind}{null},", metric.name());
            format!("{definition:<53} -- {}\n", metric.declared().meaning)
        };
        metrics.iter().map(line).collect()
    }

    /// `TIDEMARK_REWRITE_CASES=1` writes it anew.
    #[test]
    fn the_file_of_the_tables_has_the_columns_that_are_declared() {
        let rewrite = std::env::var("TIDEMARK_REWRITE_CASES").as_deref() == Ok("1");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql/init/001_tables.sql");
        for table in Table::ALL {
            let text = std::fs::read_to_string(&path).expect("it is there");
            let after = |at: usize, words: &str| at + text[at..].find(words).expect("the file has it");
            let create = after(0, &format!("create table if not exists {} (", table.name()));
            let start = after(after(create, &format!("    {} ", table.own_column())), "\n") + 1;
            let end = after(start, "    epoch ");
            let declared = definitions(table.metrics());
            if rewrite {
                std::fs::write(&path, format!("{}{declared}{}", &text[..start], &text[end..])).expect("it can be written");
            } else {
                assert_eq!(&text[start..end], declared, "TIDEMARK_REWRITE_CASES=1 writes it anew");
            }
        }
    }
}
