//! The version of the tables, and the columns that older ones lack.

use super::StoreError;
use super::columns::Dialect;
use tidemark_model::{Metric, Table};

/// Version of the tables; raised when an older program would write wrong rows into them. Those of version 1 tell none.
pub(crate) const VERSION: i32 = 3;

/// A column that came after the first tables. It may be null: in rows that an earlier program wrote it is.
pub(crate) struct Added {
    pub(crate) table: &'static str,
    pub(crate) column: String,
    pub(crate) kind: &'static str,
}

impl Added {
    /// The statement that adds it.
    pub(crate) fn statement(&self) -> String {
        format!("alter table {} add column {} {}", self.table, self.column, self.kind)
    }
}

/// All of them.
pub(crate) fn added(dialect: Dialect) -> Vec<Added> {
    let time = if dialect == Dialect::Postgres { "timestamptz" } else { "integer" };
    let progress = [
        ("run", "text"),
        ("heartbeat_at", time),
        ("trouble", "text"),
        ("schema_version", "integer"),
        ("metrics", "text"),
        ("hours_from", time),
        ("days_from", time),
        ("minutes_from", time),
    ];
    let progress = progress.map(|(column, kind)| Added { table: "progress", column: column.to_owned(), kind });
    let offset = if dialect == Dialect::Postgres { "bigint" } else { "integer" };
    let letters = Added { table: "progress_partitions", column: "letters_from".to_owned(), kind: offset };
    let metrics = Table::ALL.into_iter().flat_map(|table| {
        let metrics = table.metrics().iter().copied().filter(|metric| !metric.declared().first);
        metrics.map(move |metric| Added { table: table.name(), column: dialect.column(metric), kind: dialect.kind(metric) })
    });
    progress.into_iter().chain([letters]).chain(metrics).collect()
}

/// The metrics that the tables have, as `progress.metrics` names them.
pub(crate) fn metrics() -> String {
    Metric::ALL.map(Metric::name).join(",")
}

/// Refuses tables that a newer program wrote: what it keeps beside ours would not be kept right.
pub(crate) fn refuse_newer(version: Option<i32>, metrics: Option<&str>) -> Result<(), StoreError> {
    let theirs = version.unwrap_or(1);
    if theirs > VERSION {
        return Err(StoreError::Fatal(format!(
            "the tables are of schema version {theirs}, and this program writes version {VERSION}: run the program that wrote them, or a \
             newer one"
        )));
    }
    let named = metrics.unwrap_or_default().split(',').filter(|name| !name.is_empty());
    if let Some(unknown) = named.into_iter().find(|name| Metric::named(name).is_none()) {
        return Err(StoreError::Fatal(format!(
            "the tables have the metric {unknown}, which this program does not know: run the program that wrote them; if the metric was \
             given up, drop its column, and take its name out of progress.metrics"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_this_program_and_of_earlier_ones_are_taken_and_others_named() {
        assert!(refuse_newer(None, None).is_ok() && refuse_newer(Some(VERSION), Some(&metrics())).is_ok());
        let error = refuse_newer(Some(VERSION + 1), None).unwrap_err().to_string();
        assert!(error.contains(&format!("schema version {}", VERSION + 1)), "{error}");
        let error = refuse_newer(Some(VERSION), Some("active_viewers,longest_message")).unwrap_err().to_string();
        assert!(error.contains("longest_message"), "{error}");
    }
}
