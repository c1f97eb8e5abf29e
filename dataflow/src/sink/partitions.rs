//! The partitions of `stream_metrics_minute` in Postgres: one a day (UTC), and one for all other rows.
//!
//! Those of a day and of the next one are there before a row of the day is written. No row needs one: without it rows go into the default
//! partition, where they are found by everybody, and are deleted one by one when they are old. So nothing here ever fails a commit. What
//! the owner of the table has made is used: other lengths than days, or a plain table.

use super::Row;
use super::judge::passes;
use super::session::{Error, Transaction};
use super::transaction::{Failure, Timestamp};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tidemark_model::{Grain, Micros, Minute};

/// The default partition.
pub(super) const OTHER: &str = "stream_metrics_minute_other";
/// The longest wait for a lock. Others wait behind us, so it is short; what it prevents is tried again later.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '500ms'";
/// The pause before that.
const AGAIN: Duration = Duration::from_secs(60);
/// Days whose partitions are made in one transaction.
pub(super) const AT_ONCE: usize = 32;

/// The partitions with what they hold, if there are any that are ranges of `window_start`: name, rows, first instant and end.
const PARTITIONS: &str = r"
    select part.oid::regclass::text, greatest(part.reltuples, 0)::bigint,
        coalesce((regexp_match(bound, $$FROM \('([^']+)'\)$$))[1]::timestamptz, '-infinity'),
        coalesce((regexp_match(bound, $$TO \('([^']+)'\)$$))[1]::timestamptz, 'infinity')
    from pg_inherits join pg_class as part on part.oid = inhrelid cross join pg_get_expr(relpartbound, part.oid) as bound
    where inhparent = to_regclass(format('%I.stream_metrics_minute', current_schema())) and bound <> 'DEFAULT'
    order by 4";

/// What a run knows of the partitions.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    /// The table has partitions by time.
    pub(super) are_there: bool,
    /// This role may make and drop them.
    may_alter: bool,
    /// First instants and ends.
    ranges: Vec<(Micros, Micros)>,
    /// Days whose rows go into the default partition.
    others: BTreeSet<Minute>,
    /// Those that cannot be dropped.
    undroppable: BTreeSet<String>,
    again_at: Option<Instant>,
    /// Before this no partition is dropped again: others used the table.
    drop_again_at: Option<Instant>,
}

/// What came of an attempt to change partitions.
pub(super) enum Outcome {
    Done,
    /// Others use the table for a long time: a dump, a large query.
    NotNow,
    /// It would fail again.
    Never(String),
}

impl Partitions {
    /// Looks at the table; makes the default partition if that is missing.
    pub(super) fn read(transaction: &mut Transaction<'_>) -> Result<Partitions, Failure> {
        let select = "
            select pg_has_role(relowner, 'USAGE') and has_schema_privilege(relnamespace, 'CREATE'), partdefid <> 0
            from pg_partitioned_table join pg_class as parent on parent.oid = partrelid
                join pg_attribute on attrelid = partrelid and attnum = partattrs[0]
            where partrelid = to_regclass(format('%I.stream_metrics_minute', current_schema()))
                and partstrat = 'r' and partnatts = 1 and attname = 'window_start'";
        let Some(row) = transaction.query_opt(select, &[])? else { return Ok(Partitions::default()) };
        let (may_alter, has_default): (bool, bool) = (row.get(0), row.get(1));
        if may_alter && !has_default {
            match attempt(transaction, &new_partition(OTHER, "default"))? {
                Outcome::Done => {}
                Outcome::NotNow => {
                    tracing::warn!("{OTHER} cannot be made while others use the table: tried again at the next start")
                }
                Outcome::Never(why) => {
                    tracing::warn!(why, "{OTHER} cannot be made: no row can be written of a day without a partition")
                }
            }
        }
        if !may_alter {
            tracing::info!("this role may make no partitions: rows of days without one go into {OTHER}");
        }
        let range = |row: &::postgres::Row| (row.get::<_, Timestamp>(2).0, row.get::<_, Timestamp>(3).0);
        let ranges = transaction.query(PARTITIONS, &[])?.iter().map(range).collect();
        Ok(Partitions { are_there: true, may_alter, ranges, ..Partitions::default() })
    }

    /// The days of these minute rows, and the day after, that have no partition and should have one. The rows are in the order of their
    /// windows.
    pub(super) fn missing(&self, rows: &[Row]) -> Vec<Minute> {
        let day = |row: &Row| Grain::Day.window_of(row.window.first);
        let mut days: Vec<Minute> = rows.chunk_by(|one, other| day(one) == day(other)).map(|rows| day(&rows[0])).collect();
        if self.again_at.is_none_or(|at| at <= Instant::now()) {
            days.extend(days.last().map(|&day| Grain::Day.end_of(day)));
        }
        days.retain(|&day| self.lacks(day));
        days
    }

    fn lacks(&self, day: Minute) -> bool {
        let (start, end) = (day.start(), Grain::Day.end_of(day).start());
        let covers = |(from, to): &(Micros, Micros)| *from <= start && end <= *to;
        self.are_there && self.may_alter && !self.ranges.iter().any(covers) && !self.others.contains(&day)
    }

    /// Takes note of what came of [`make`]. `is_needed`: rows of that day are written now.
    pub(super) fn made(&mut self, day: Minute, outcome: Outcome, is_needed: bool) {
        let name = name(day);
        match outcome {
            Outcome::Done => self.ranges.push((day.start(), Grain::Day.end_of(day).start())),
            Outcome::NotNow if !is_needed => self.again_at = Some(Instant::now() + AGAIN),
            Outcome::NotNow => {
                tracing::warn!("the partition {name} cannot be made while others use the table: its rows go into {OTHER}");
                self.others.insert(day);
            }
            Outcome::Never(why) => {
                tracing::warn!(why, "the partition {name} cannot be made: its rows go into {OTHER}");
                self.others.insert(day);
            }
        }
    }

    /// The first minute that stays: partitions are dropped as a whole.
    pub(super) fn minutes_from(&self, from: Minute) -> Minute {
        if self.are_there { Grain::Day.window_of(from) } else { from }
    }

    /// Drops the oldest partition all of whose rows are older, if there is one: how many rows that were. If others use the table, nothing
    /// is to be deleted either.
    pub(super) fn drop_oldest(&mut self, transaction: &mut Transaction<'_>, from: Minute) -> Result<Option<u64>, Failure> {
        if !self.may_alter {
            return Ok(None);
        }
        if self.drop_again_at.is_some_and(|at| Instant::now() < at) {
            return Ok(Some(0));
        }
        let is_old = |row: &&::postgres::Row| row.get::<_, Timestamp>(3).0 <= from.start();
        let rows = transaction.query(PARTITIONS, &[])?;
        let droppable = |row: &&::postgres::Row| !self.undroppable.contains(row.get::<_, &str>(0));
        let Some(oldest) = rows.iter().filter(is_old).find(droppable) else { return Ok(None) };
        let (name, estimate): (String, i64) = (oldest.get(0), oldest.get(1));
        match attempt(transaction, &format!("drop table {name}"))? {
            Outcome::Done => {
                tracing::info!(name, "a partition was dropped: all of its rows are older than RETENTION");
                Ok(Some(estimate.unsigned_abs().max(1)))
            }
            Outcome::NotNow => {
                tracing::warn!(
                    name,
                    "older than RETENTION, but it cannot be dropped while others use the table: tried again in a minute"
                );
                self.drop_again_at = Some(Instant::now() + AGAIN);
                Ok(Some(0))
            }
            Outcome::Never(why) => {
                tracing::warn!(name, why, "a partition cannot be dropped: its rows are deleted one by one");
                self.undroppable.insert(name);
                Ok(None)
            }
        }
    }
}

/// The name of a day's partition.
fn name(day: Minute) -> String {
    let date = day.start().to_string();
    format!("stream_metrics_minute_{}", date[..10].replace('-', ""))
}

/// Makes a day's partition. Unlike one that is made in its place, a table that is attached shuts nobody out of the others, except of the default
/// partition, which is searched meanwhile for rows of that day.
pub(super) fn make(transaction: &mut Transaction<'_>, day: Minute) -> Result<Outcome, Failure> {
    let (name, from, to) = (name(day), day.start(), Grain::Day.end_of(day).start());
    attempt(transaction, &new_partition(&name, &format!("for values from ('{from}') to ('{to}')")))
}

fn new_partition(name: &str, bound: &str) -> String {
    format!(
        "create table {name} (like stream_metrics_minute including all excluding indexes excluding comments excluding statistics
             excluding identity) with (fillfactor = 70);
         alter table stream_metrics_minute attach partition {name} {bound}"
    )
}

/// Makes those of the days of these rows that are missing, but for rows that begin earlier than `from` or were dropped: in the transaction of a
/// rebuild.
pub(crate) fn make_for(transaction: &mut Transaction<'_>, rows: &str, from: Minute) -> Result<(), Failure> {
    let mut partitions = Partitions::read(transaction)?;
    let select = format!(
        "select distinct date_trunc('day', window_start, 'UTC') from {rows}
         where window_start >= greatest($1, (select max(minutes_from) from progress))"
    );
    for row in transaction.query(&select, &[&Timestamp(from.start())])? {
        let day = Minute::first_open(row.get::<_, Timestamp>(0).0);
        if partitions.lacks(day) {
            let made = make(transaction, day)?;
            partitions.made(day, made, true);
        }
    }
    Ok(())
}

/// Executes statements whose failure leaves the transaction as it was.
pub(super) fn attempt(transaction: &mut Transaction<'_>, statements: &str) -> Result<Outcome, Failure> {
    let done = transaction.batch_execute(&format!("savepoint attempt; {LOCK_TIMEOUT}; {statements}"));
    let Err(error) = done else {
        transaction.batch_execute("release savepoint attempt; set local lock_timeout to default")?;
        return Ok(Outcome::Done);
    };
    let outcome = outcome(&error).ok_or(error)?;
    transaction.batch_execute("rollback to savepoint attempt")?;
    Ok(outcome)
}

/// What a fault means for what was tried; none if it is one of the connection.
pub(super) fn outcome(error: &Error) -> Option<Outcome> {
    let said = error.as_db_error()?;
    Some(if passes(error, false) { Outcome::NotNow } else { Outcome::Never(said.message().to_owned()) })
}
