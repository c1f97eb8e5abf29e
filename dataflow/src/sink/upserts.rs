//! What a commit writes to Postgres: statements over arrays, each with a bound on its rows, its bytes and its time.
//!
//! A transaction has as many of them as it needs, so it makes progress however slow the server is: each statement has a time limit of
//! its own, and one that runs into it makes the next attempt's statements smaller, then their limit longer.

use super::columns::Dialect;
use super::judge::took_too_long;
use super::own::{At, Offsets, Own};
use super::transaction::{Failure, Timestamp, Writing, starts};
use super::{Commit, Inexact};
use crate::checkpoint::history::StoredEntry;
use crate::flow::{DeadLetter, Totals};
use ::postgres::types::{Json, ToSql};
use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tidemark_model::metrics::Unit;
use tidemark_model::{Grain, Metric, Micros, Of, Table, Window};

/// Most rows of one statement, and how few they become.
const ROWS: (usize, usize) = (10_000, 100);
/// Most bytes of dead letters in one statement. One letter alone may have more: a record is bounded by the broker.
const BYTES: usize = 8 << 20;
/// How long a statement may take, and how long that becomes.
const LIMIT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15 * 60));
/// Statements become larger again when none took more than this part of its limit.
const EASY: u32 = 8;

/// What one statement writes, and how long it may take. Learned from those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    rows: usize,
    limit: Duration,
    /// The longest of the commit that is being written.
    slowest: Duration,
}

impl Default for Size {
    fn default() -> Size {
        Size { rows: ROWS.0, limit: LIMIT.0, slowest: Duration::ZERO }
    }
}

impl Size {
    /// A statement with this many rows ran into its limit.
    fn too_slow(&mut self, rows: usize) {
        if self.rows.min(rows) > ROWS.1 {
            self.rows = (self.rows.min(rows) / 2).max(ROWS.1);
        } else {
            self.rows = ROWS.1;
            self.limit = (self.limit * 2).min(LIMIT.1);
        }
        let Size { rows, limit, .. } = self;
        tracing::warn!("a statement of a commit took too long; from now on each has at most {rows} rows and {limit:?}");
    }

    /// A commit was written.
    fn written(&mut self) {
        if std::mem::take(&mut self.slowest) * EASY < self.limit {
            self.limit = (self.limit / 2).max(LIMIT.0);
            self.rows = (self.rows * 2).min(ROWS.0);
        }
    }

    fn bytes(&self) -> usize {
        BYTES / (ROWS.0 / self.rows)
    }
}

/// In a statement of its own, so that it sees what the lock was waited for.
pub(super) fn compare_offsets(own: &Own, at: At, transaction: &mut Writing<'_>) -> Result<(), Failure> {
    let select =
        "select array_agg(partition), array_agg(next_offset) from progress_partitions where pipeline = $1 and topic = $2";
    let row = transaction.query_opt(select, &[&own.pipeline, &own.topic])?;
    let (partitions, offsets): (Option<Vec<i32>>, Option<Vec<i64>>) = row.map_or((None, None), |row| (row.get(0), row.get(1)));
    let found: Offsets = partitions.into_iter().flatten().zip(offsets.into_iter().flatten()).collect();
    Ok(own.compare_offsets(at, &found)?)
}

/// Rows of which a parameter holds each column, the metrics in their order: of each table.
static UPSERT_ROWS: LazyLock<[String; Table::ALL.len()]> =
    LazyLock::new(|| Table::ALL.map(|table| Dialect::Postgres.upsert_rows("", table, &source(table))));
/// The same for rows that only rise.
static RAISE_ROWS: LazyLock<[String; Table::ALL.len()]> =
    LazyLock::new(|| Table::ALL.map(|table| Dialect::Postgres.raise_rows(table, &source(table))));

fn source(table: Table) -> String {
    let (own, kind) = (table.own_column(), if table.of == Of::Stream { "text" } else { "bigint" });
    let metrics = table.metrics();
    let names = Dialect::Postgres.columns(metrics, str::to_owned);
    let arrays: Vec<_> = (0..metrics.len()).map(|at| format!("${}::bigint[]", at + 5)).collect();
    let values = metrics.iter().map(|metric| match metric.declared().unit {
        Unit::Count | Unit::Milliseconds => metric.name().to_owned(),
        Unit::Usd => format!("{}::numeric / 100", metric.name()),
    });
    let values: Vec<String> = values.collect();
    format!(
        "select window_start, window_end, {own}, {}, $1
         from unnest($2::timestamptz[], $3::timestamptz[], $4::{kind}[], {})
             as changed (window_start, window_end, {own}, {names})",
        values.join(", "),
        arrays.join(", "),
    )
}

static UPSERT_STATES: LazyLock<String> = LazyLock::new(|| {
    let viewers = Metric::ActiveViewers.name();
    format!(
        "insert into stream_state as stored (stream_id, {viewers}, window_start, updated_at, epoch)
         select stream_id, viewers, window_start, now(), $1
         from unnest($2::text[], $3::bigint[], $4::timestamptz[]) as changed (stream_id, viewers, window_start)
         on conflict (stream_id) do update set {viewers} = excluded.{viewers},
             window_start = excluded.window_start, updated_at = excluded.updated_at, epoch = excluded.epoch
         where excluded.window_start > stored.window_start
             or (excluded.window_start = stored.window_start and excluded.{viewers} <> stored.{viewers})"
    )
});

/// The statements of one commit.
pub(super) struct Upserts<'a, 'b> {
    transaction: &'a mut Writing<'b>,
    size: &'a mut Size,
    own: &'a Own,
    commit: &'a Commit,
    epoch: i64,
}

impl<'a, 'b> Upserts<'a, 'b> {
    /// Of the commit that follows this run's last one.
    pub(super) fn new(
        transaction: &'a mut Writing<'b>,
        size: &'a mut Size,
        own: &'a Own,
        commit: &'a Commit,
    ) -> Result<Upserts<'a, 'b>, Failure> {
        size.slowest = Duration::ZERO;
        if size.limit > LIMIT.0 {
            transaction.transaction.limit(size.limit)?;
        }
        Ok(Upserts { transaction, size, own, commit, epoch: own.epoch + 1 })
    }

    fn execute(&mut self, rows: usize, text: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, Failure> {
        let started = Instant::now();
        let outcome = self.transaction.execute(text, parameters);
        self.size.slowest = self.size.slowest.max(started.elapsed());
        if outcome.as_ref().is_err_and(took_too_long) {
            self.size.too_slow(rows);
        }
        Ok(outcome?)
    }

    pub(super) fn rows(&mut self) -> Result<(), Failure> {
        let commit = self.commit;
        for grain in Grain::ALL {
            let (inexact, exact) = commit.split(commit.rows_of(grain), |row| row.window);
            for rows in inexact.chunks(self.size.rows).chain(exact.chunks(self.size.rows)) {
                let streams: Vec<&str> = rows.iter().map(|row| &*row.stream_id).collect();
                self.upsert(Table::rows(grain), &streams, rows.iter().map(|row| (row.window, &row.totals)))?;
            }
        }
        Ok(())
    }

    pub(super) fn totals(&mut self) -> Result<(), Failure> {
        let commit = self.commit;
        for grain in Grain::ALL {
            let (inexact, exact) = commit.split(commit.totals_of(grain), |total| total.window);
            for totals in inexact.chunks(self.size.rows).chain(exact.chunks(self.size.rows)) {
                let streams: Vec<i64> = totals.iter().map(|total| total.streams).collect();
                self.upsert(Table::totals(grain), &streams, totals.iter().map(|of| (of.window, &of.totals)))?;
            }
        }
        Ok(())
    }

    /// Upserts metrics, each row with a value of the table's own column. All of the rows are exact, or none is.
    fn upsert<'r>(
        &mut self,
        table: Table,
        own: &(dyn ToSql + Sync),
        rows: impl ExactSizeIterator<Item = (Window, &'r Totals)> + Clone,
    ) -> Result<(), Failure> {
        let epoch = self.epoch;
        let is_exact = rows.clone().next().is_none_or(|(window, _)| self.commit.is_exact(window));
        let starts: Vec<Timestamp> = rows.clone().map(|(window, _)| Timestamp(window.start())).collect();
        let ends: Vec<Timestamp> = rows.clone().map(|(window, _)| Timestamp(window.end())).collect();
        let mut values = vec![Vec::<Option<i64>>::new(); table.metrics().len()];
        for (window, totals) in rows {
            let whole = self.commit.whole.of(window.first, &totals.values);
            values.iter_mut().zip(whole).for_each(|(values, value)| values.push(value));
        }
        let key: [&(dyn ToSql + Sync); 4] = [&epoch, &starts, &ends, own];
        let parameters: Vec<_> = key.into_iter().chain(values.iter().map(|values| values as &(dyn ToSql + Sync))).collect();
        let statements = if is_exact { &UPSERT_ROWS } else { &RAISE_ROWS };
        self.execute(starts.len(), &statements[table.place()], &parameters)?;
        Ok(())
    }

    pub(super) fn states(&mut self) -> Result<(), Failure> {
        let epoch = self.epoch;
        for newest in self.commit.newest_rows().chunks(self.size.rows) {
            let streams: Vec<&str> = newest.iter().map(|row| &*row.stream_id).collect();
            let viewers: Vec<i64> = newest.iter().map(|row| row.totals.values[Metric::ActiveViewers]).collect();
            let starts: Vec<Timestamp> = newest.iter().map(|row| Timestamp(row.window.start())).collect();
            self.execute(newest.len(), &UPSERT_STATES, &[&epoch, &streams, &viewers, &starts])?;
        }
        Ok(())
    }

    pub(super) fn dead_letters(&mut self) -> Result<(), Failure> {
        let mut letters = &self.commit.dead_letters[..];
        while !letters.is_empty() {
            let (some, others) = letters.split_at(fitting(letters, self.size.rows, self.size.bytes()));
            self.some_dead_letters(some)?;
            letters = others;
        }
        Ok(())
    }

    fn some_dead_letters(&mut self, letters: &[DeadLetter]) -> Result<(), Failure> {
        let (own, epoch) = (self.own, self.epoch);
        let partitions: Vec<i32> = letters.iter().map(|letter| letter.partition).collect();
        let offsets: Vec<i64> = letters.iter().map(|letter| letter.offset).collect();
        let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
        let errors: Vec<Cow<'_, str>> = letters.iter().map(|letter| storable(&letter.error)).collect();
        let errors: Vec<&str> = errors.iter().map(|error| &**error).collect();
        let keys: Vec<Option<&[u8]>> = letters.iter().map(|letter| letter.key.as_deref()).collect();
        let payloads: Vec<Option<&[u8]>> = letters.iter().map(|letter| letter.payload.as_deref()).collect();
        let times: Vec<Option<Timestamp>> = letters.iter().map(|letter| letter.record_time.map(Timestamp)).collect();
        self.execute(
            letters.len(),
            "insert into dead_letters (topic, partition, \"offset\", reason, error, key, payload, record_time, epoch)
             select $1, partition, \"offset\", reason, error, key, payload, record_time, $9
             from unnest($2::int[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::timestamptz[])
                 as rejected (partition, \"offset\", reason, error, key, payload, record_time)
             on conflict do nothing",
            &[&own.topic, &partitions, &offsets, &reasons, &errors, &keys, &payloads, &times, &epoch],
        )?;
        Ok(())
    }

    pub(super) fn history(&mut self) -> Result<(), Failure> {
        let (own, epoch) = (self.own, self.epoch);
        for entries in self.commit.history.chunks(self.size.rows) {
            let entries: Vec<StoredEntry> = entries.iter().map(|entry| StoredEntry::new(entry, own.hash_key)).collect();
            let watermarks: Vec<Timestamp> = entries.iter().map(|entry| Timestamp(entry.watermark)).collect();
            let highest: Vec<Option<i64>> = entries.iter().map(|entry| entry.highest).collect();
            let partitions: Vec<&str> = entries.iter().map(|entry| &*entry.partitions).collect();
            let checksums: Vec<i64> = entries.iter().map(|entry| entry.checksum).collect();
            self.execute(
                entries.len(),
                "insert into progress_history (pipeline, watermark, epoch, taken_at, highest, partitions, checksum)
                 select $1, watermark, $2, now(), highest, partitions::jsonb, checksum
                 from unnest($3::timestamptz[], $4::bigint[], $5::text[], $6::bigint[])
                     as stood (watermark, highest, partitions, checksum)
                 on conflict (pipeline, watermark) do update set epoch = excluded.epoch, taken_at = excluded.taken_at,
                     highest = excluded.highest, partitions = excluded.partitions, checksum = excluded.checksum",
                &[&own.pipeline, &epoch, &watermarks, &highest, &partitions, &checksums],
            )?;
        }
        if let Some(old_enough) = self.commit.old_enough {
            let delete = "
                with needed as (
                    select max(watermark) as at from progress_history where pipeline = $1 and (highest is null or highest <= $2))
                delete from progress_history as old using needed
                where pipeline = $1 and watermark < needed.at and (watermark < needed.at - interval '400 days' or exists (
                    select from progress_history as first where first.pipeline = $1 and first.watermark < old.watermark
                        and first.watermark >= date_trunc(
                            case when old.watermark < needed.at - interval '8 days' then 'day' else 'hour' end, old.watermark, 'UTC')))";
            self.transaction.execute(delete, &[&own.pipeline, &old_enough.0])?;
        }
        Ok(())
    }

    pub(super) fn inexact(&mut self) -> Result<(), Failure> {
        let Some(Inexact { from, until, why }) = &self.commit.inexact else { return Ok(()) };
        self.transaction.execute(
            "insert into inexact_windows (pipeline, inexact_from, inexact_until, epoch, marked_at, why)
             values ($1, $2, $3, $4, now(), $5) on conflict do nothing",
            &[&self.own.pipeline, &Timestamp(from.start()), &Timestamp(until.start()), &self.epoch, why],
        )?;
        Ok(())
    }

    /// The last of a commit. Answers the store's clock.
    pub(super) fn progress(&mut self, trouble: Option<&str>) -> Result<Micros, Failure> {
        self.partitions()?;
        let Commit { watermark, checkpoints, .. } = self.commit;
        let trouble = trouble.map(storable);
        // `greatest` ignores nulls, so a commit without a watermark changes none and none is ever taken back. The api is told, once the
        // transaction is committed, that there is a new epoch.
        let [hours_from, days_from] = starts(self.commit.whole.rolled_up);
        let row = self.transaction.query_opt(
            "update progress set epoch = $2, watermark = greatest(watermark, $3), updated_at = now(),
                 checkpoints = coalesce($4, checkpoints), heartbeat_at = clock_timestamp(), trouble = $5,
                 hours_from = $6, days_from = $7
             where pipeline = $1
             returning clock_timestamp(), pg_notify('tidemark_epoch', epoch::text)",
            &[
                &self.own.pipeline,
                &self.epoch,
                &watermark.map(Timestamp),
                &checkpoints.as_ref().map(Json),
                &trouble,
                &hours_from,
                &days_from,
            ],
        )?;
        self.size.written();
        Ok(row.ok_or_else(|| self.own.superseded(&"no progress"))?.get::<_, Timestamp>(0).0)
    }

    /// Nothing is written if the offsets are not those of this run's last commit. That costs no exchange of its own.
    fn partitions(&mut self) -> Result<(), Failure> {
        let own = self.own;
        let marks = || self.commit.partitions.values();
        let partitions: Vec<i32> = marks().map(|mark| mark.partition).collect();
        let starts: Vec<i64> = marks().map(|mark| mark.start_offset).collect();
        let nexts: Vec<i64> = marks().map(|mark| mark.next_offset).collect();
        let ends: Vec<i64> = marks().map(|mark| mark.end_offset).collect();
        let watermarks: Vec<Option<Timestamp>> = marks().map(|mark| mark.watermark.map(Timestamp)).collect();
        let states: Vec<&str> = marks().map(|mark| mark.standing.as_str()).collect();
        let before: Vec<i64> = own.expected(At::Last).values().copied().collect();
        let written = self.execute(
            partitions.len(),
            "insert into progress_partitions as stored
                 (pipeline, topic, partition, start_offset, next_offset, end_offset, watermark, state)
             select $1, $2, changed.* from unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[], $8::text[])
                 as changed
             where $9 = array(select next_offset from progress_partitions where pipeline = $1 and topic = $2 order by partition)
             on conflict (pipeline, topic, partition) do update set next_offset = excluded.next_offset,
                 end_offset = excluded.end_offset, watermark = excluded.watermark, state = excluded.state",
            &[&own.pipeline, &own.topic, &partitions, &starts, &nexts, &ends, &watermarks, &states, &before],
        )?;
        if written == 0 && !partitions.is_empty() {
            compare_offsets(own, At::Last, self.transaction)?;
            return Err(own.superseded(&"other offsets").into());
        }
        Ok(())
    }
}

/// How many of the letters one statement takes: at least one.
fn fitting(letters: &[DeadLetter], rows: usize, bytes: usize) -> usize {
    let of = |letter: &DeadLetter| {
        letter.error.len() + [&letter.key, &letter.payload].into_iter().flatten().map(Vec::len).sum::<usize>()
    };
    let mut left = bytes;
    let fit = letters.iter().take(rows).take_while(|letter| {
        let fits = of(letter) <= left;
        left = left.saturating_sub(of(letter));
        fits
    });
    fit.count().max(1)
}

/// Postgres stores every text but U+0000.
fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_model::Reason;

    #[test]
    fn statements_become_smaller_then_slower_and_recover() {
        let mut size = Size::default();
        size.too_slow(900);
        assert_eq!((size.rows, size.limit), (450, LIMIT.0));
        size.too_slow(450);
        size.too_slow(225);
        size.too_slow(112);
        assert_eq!((size.rows, size.limit), (100, LIMIT.0));
        size.too_slow(100);
        assert_eq!((size.rows, size.limit), (100, 2 * LIMIT.0));
        size.slowest = LIMIT.0;
        size.written();
        assert_eq!((size.rows, size.limit), (100, 2 * LIMIT.0), "it needed that long");
        for _ in 0..10 {
            size.slowest = Duration::from_secs(1);
            size.written();
        }
        assert_eq!(size, Size::default());
    }

    #[test]
    fn letters_are_taken_by_rows_and_bytes_but_one_at_least() {
        let letter = |bytes| DeadLetter {
            partition: 0,
            offset: 0,
            reason: Reason::Empty,
            error: String::new(),
            key: None,
            payload: Some(vec![0; bytes]),
            record_time: None,
        };
        let letters = [letter(40), letter(50), letter(20), letter(900)];
        assert_eq!(fitting(&letters, 10, 100), 2);
        assert_eq!(fitting(&letters, 1, 100), 1);
        assert_eq!(fitting(&letters[3..], 10, 100), 1);
    }
}
