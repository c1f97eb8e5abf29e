//! The tables of metrics, by the names that both stores give them.

use crate::{Grain, Metric};

/// Whether a row is of one stream or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// One stream.
    Stream,
    /// All streams.
    All,
}

/// A table of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// How long its windows are.
    pub grain: Grain,
    /// Of what its rows are.
    pub of: Of,
}

impl Table {
    /// The rows that all others are made of.
    pub const MINUTES: Table = Table::rows(Grain::Minute);

    /// All, in their places.
    pub const ALL: [Table; 6] = [
        Table::MINUTES,
        Table::totals(Grain::Minute),
        Table::rows(Grain::Hour),
        Table::totals(Grain::Hour),
        Table::rows(Grain::Day),
        Table::totals(Grain::Day),
    ];

    /// Those that the first version did not have.
    pub fn later() -> impl Iterator<Item = Table> {
        Table::ALL.into_iter().filter(|&table| table != Table::MINUTES)
    }

    /// Of each stream, in windows of this length.
    pub const fn rows(grain: Grain) -> Table {
        Table { grain, of: Of::Stream }
    }

    /// Of all streams, in windows of this length.
    pub const fn totals(grain: Grain) -> Table {
        Table { grain, of: Of::All }
    }

    /// Its place among them.
    pub fn place(self) -> usize {
        2 * self.grain as usize + self.of as usize
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match (self.of, self.grain) {
            (Of::Stream, Grain::Minute) => "stream_metrics_minute",
            (Of::Stream, Grain::Hour) => "stream_metrics_hour",
            (Of::Stream, Grain::Day) => "stream_metrics_day",
            (Of::All, Grain::Minute) => "stream_totals_minute",
            (Of::All, Grain::Hour) => "stream_totals_hour",
            (Of::All, Grain::Day) => "stream_totals_day",
        }
    }

    /// The column that only tables of its kind have.
    pub fn own_column(self) -> &'static str {
        match self.of {
            Of::Stream => "stream_id",
            Of::All => "streams",
        }
    }

    /// The columns of its key, in order.
    pub fn key(self) -> &'static str {
        match self.of {
            Of::Stream => "window_start, stream_id",
            Of::All => "window_start",
        }
    }

    /// Its metrics, in order.
    pub const fn metrics(self) -> &'static [Metric] {
        Metric::of(self.grain)
    }
}

/// All statements that make the tables in SQLite.
pub fn in_sqlite() -> String {
    let of_metrics = |table: Table| {
        let (name, stream) = (table.name(), table.of == Of::Stream);
        let own = if stream { "stream_id text not null collate binary" } else { "streams integer not null" };
        let column = |metric: &Metric| {
            let null = if metric.declared().first { " not null" } else { "" };
            format!("    {} integer{null},\n", metric.integer_column())
        };
        let metrics: String = table.metrics().iter().map(column).collect();
        let index = format!("create index if not exists {name}_by_stream on {name} (stream_id, window_start desc);\n");
        format!(
            "create table if not exists {name} (\n    window_start integer not null,\n    window_end integer not null,\n    {own},\n\
             {metrics}    epoch integer not null,\n    primary key ({})\n) strict, without rowid;\n{}",
            table.key(),
            if stream { &index } else { "" }
        )
    };
    let others = include_str!("../../../sql/sqlite/001_tables.sql");
    Table::ALL.into_iter().map(of_metrics).chain([others.to_owned()]).collect()
}
