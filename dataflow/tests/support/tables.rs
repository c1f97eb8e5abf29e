//! All that a run has written, and what of it differs from the oracle's answer over the whole log.

use super::{compare, oracle_rules};
use std::collections::BTreeMap;
use std::path::Path;
use tidemark_dataflow::oracle::{self, RolledUp};
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::sink::columns::Dialect;
use tidemark_model::{Grain, Metric, Micros, Minute, Of, Reason, Table, Values};

/// What is compared: everything but the epochs and the store's own clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub rows: BTreeMap<(Minute, String), Values>,
    pub totals: BTreeMap<Minute, (i64, Values)>,
    pub rolled_up: RolledUp,
    pub states: BTreeMap<String, (Minute, i64)>,
    pub dead_letters: BTreeMap<(i32, i64), Letter>,
    /// Next offset and own watermark.
    pub partitions: BTreeMap<i32, (i64, Option<Micros>)>,
    pub watermark: Option<Micros>,
    /// Rows and totals of minutes before it were dropped.
    pub minutes_from: Option<Minute>,
}

/// A dead letter without its text for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    pub reason: Reason,
    pub payload: Option<Vec<u8>>,
}

fn minute(window_start: i64) -> Minute {
    let minute = Minute(u32::try_from(window_start / 60_000_000).expect("a window's start"));
    assert_eq!(minute.start(), Micros(window_start), "a window starts with a minute");
    minute
}

/// The metrics of a row that has [`Dialect::integers`], each by its name or its place behind two other columns.
pub fn values<T>(metrics: &[Metric], get: impl Fn(usize, Metric) -> T) -> Values
where
    i64: From<T>,
{
    let mut values = Values::default();
    metrics.iter().enumerate().for_each(|(place, &metric)| values[metric] = get(place + 2, metric).into());
    values
}

fn letter(reason: &str, payload: Option<Vec<u8>>) -> Letter {
    Letter { reason: Reason::parse(reason).expect("a known reason"), payload }
}

/// Postgres's microseconds since 1970, exact.
const MICROS: &str = "(extract(epoch from $) * 1000000)::bigint";

fn micros(column: &str) -> String {
    MICROS.replace('$', column)
}

impl Found {
    pub fn in_postgres(client: &mut postgres::Client) -> Found {
        let mut found = Found::default();
        let (start, watermark) = (micros("window_start"), micros("watermark"));
        for table in Table::ALL {
            let (name, own, metrics) = (table.name(), table.own_column(), table.metrics());
            let select = format!("select {start}, {own}, {} from {name}", Dialect::Postgres.integers(metrics));
            for row in client.query(&select, &[]).expect("rows") {
                let of: Values = values(metrics, |_, metric| row.get::<_, i64>(metric.name()));
                match table.of {
                    Of::Stream => found.put(table.grain, row.get(0), row.get(1), of),
                    Of::All => found.put_total(table.grain, row.get(0), row.get(1), of),
                }
            }
        }
        for row in client.query(&format!("select stream_id, {start}, active_viewers from stream_state"), &[]).expect("states") {
            found.states.insert(row.get(0), (minute(row.get(1)), row.get(2)));
        }
        for row in client.query("select partition, \"offset\", reason, payload from dead_letters", &[]).expect("letters") {
            found.dead_letters.insert((row.get(0), row.get(1)), letter(row.get(2), row.get(3)));
        }
        let select = format!("select partition, next_offset, {watermark} from progress_partitions");
        for row in client.query(&select, &[]).expect("partitions") {
            found.partitions.insert(row.get(0), (row.get(1), row.get::<_, Option<i64>>(2).map(Micros)));
        }
        let select = format!("select {watermark}, {} from progress", micros("minutes_from"));
        if let Some(row) = client.query_opt(&select, &[]).expect("progress") {
            found.watermark = row.get::<_, Option<i64>>(0).map(Micros);
            found.minutes_from = row.get::<_, Option<i64>>(1).map(minute);
        }
        found
    }

    fn put(&mut self, grain: Grain, start: i64, stream: String, values: Values) {
        match grain {
            Grain::Minute => drop(self.rows.insert((minute(start), stream), values)),
            _ => drop(self.rolled_up.rows.insert((grain, minute(start), stream), values)),
        }
    }

    fn put_total(&mut self, grain: Grain, start: i64, streams: i64, values: Values) {
        match grain {
            Grain::Minute => drop(self.totals.insert(minute(start), (streams, values))),
            _ => drop(self.rolled_up.totals.insert((grain, minute(start)), (streams, values))),
        }
    }

    pub fn in_sqlite(path: &Path) -> Found {
        let connection = rusqlite::Connection::open(path).expect("the store is there");
        let mut found = Found::default();
        let mut each = |select: &str, take: &mut dyn FnMut(&mut Found, &rusqlite::Row<'_>) -> rusqlite::Result<()>| {
            let mut statement = connection.prepare(select).expect("the table is there");
            let mut rows = statement.query([]).expect("rows");
            while let Some(row) = rows.next().expect("a row") {
                take(&mut found, row).expect("its columns");
            }
        };
        for table in Table::ALL {
            let (name, own, metrics) = (table.name(), table.own_column(), table.metrics());
            let select = format!("select window_start, {own}, {} from {name}", Dialect::Sqlite.integers(metrics));
            each(&select, &mut |found, row| {
                let of: Values = values(metrics, |place, _| row.get::<_, i64>(place).expect("an integer"));
                match table.of {
                    Of::Stream => found.put(table.grain, row.get(0)?, row.get(1)?, of),
                    Of::All => found.put_total(table.grain, row.get(0)?, row.get(1)?, of),
                }
                Ok(())
            });
        }
        each("select stream_id, window_start, active_viewers from stream_state", &mut |found, row| {
            found.states.insert(row.get(0)?, (minute(row.get(1)?), row.get(2)?));
            Ok(())
        });
        each("select partition, \"offset\", reason, payload from dead_letters", &mut |found, row| {
            found.dead_letters.insert((row.get(0)?, row.get(1)?), letter(&row.get::<_, String>(2)?, row.get(3)?));
            Ok(())
        });
        each("select partition, next_offset, watermark from progress_partitions", &mut |found, row| {
            found.partitions.insert(row.get(0)?, (row.get(1)?, row.get::<_, Option<i64>>(2)?.map(Micros)));
            Ok(())
        });
        each("select watermark from progress", &mut |found, row| {
            found.watermark = row.get::<_, Option<i64>>(0)?.map(Micros);
            Ok(())
        });
        found
    }

    /// What differs from the oracle's answer over this log, given the stored verdicts that a clock had a part in. `rolls_up`: there are hours
    /// and days.
    pub fn differences(&self, log: &oracle::Log, ends: &BTreeMap<i32, i64>, rules: &Rules, rolls_up: bool) -> Vec<String> {
        let verdicts = self.dead_letters.iter().map(|(&at, letter)| (at, letter.reason)).collect();
        // No hour or day is closed by no watermark.
        let closed = self.watermark.filter(|_| rolls_up);
        let answer = oracle::answer(log, &oracle_rules(rules), oracle::Clock::Stored, &verdicts, closed);
        let payloads: BTreeMap<(i32, i64), &Option<Vec<u8>>> = log
            .iter()
            .flat_map(|(&partition, records)| records.iter().map(move |record| ((partition, record.offset), &record.payload)))
            .collect();
        let letters = answer.dead_letters.iter();
        let letters = letters.map(|(at, &reason)| (*at, Letter { reason, payload: payloads[at].clone() }));
        let partitions =
            ends.iter().map(|(&partition, &end)| (partition, (end, answer.watermarks.get(&partition).copied().flatten())));
        let is_kept = |minute: Minute| self.minutes_from.is_none_or(|from| minute >= from);
        let rows = |of: &BTreeMap<(Minute, String), Values>| {
            of.iter().filter(|((minute, _), _)| is_kept(*minute)).map(|(key, values)| (key.clone(), *values)).collect()
        };
        let totals = |of: &BTreeMap<Minute, (i64, Values)>| {
            of.iter().filter(|(minute, _)| is_kept(**minute)).map(|(minute, of)| (*minute, *of)).collect()
        };
        let mut differences = compare("row", rows(&self.rows), rows(&answer.rows));
        differences.extend(compare("totals", totals(&self.totals), totals(&answer.totals)));
        differences.extend(compare("hour or day", self.rolled_up.rows.clone(), answer.rolled_up.rows.clone()));
        differences.extend(compare("totals of an hour or a day", self.rolled_up.totals.clone(), answer.rolled_up.totals.clone()));
        differences.extend(compare("stream state (window, viewers)", self.states.clone(), answer.stream_state.clone()));
        differences.extend(compare("dead letter", self.dead_letters.clone(), letters.collect()));
        differences.extend(compare("partition (next offset, watermark)", self.partitions.clone(), partitions.collect()));
        differences
    }
}
