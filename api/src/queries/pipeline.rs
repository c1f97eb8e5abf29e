//! The pipeline itself: how far it is, and what it rejected.

use super::{Columns, MOMENT_COLUMNS, Pool, Store, StoreError, required};
use crate::rows::{Answer, DeadLetterRow, Epoch, Moment, Partition, Progress};
use std::time::Duration;

/// Pause between two looks for the tables that the pipeline makes.
const TABLES_RETRY: Duration = Duration::from_millis(250);

impl Store {
    /// How far the pipeline is; `None` before its first commit. Answers or fails within a second.
    pub async fn progress(&self) -> Result<Option<Progress>, StoreError> {
        let mut statement = self.health.statement();
        statement.moment().sql(", p.fingerprint, p.updated_at, q.topic, cast(q.partition as bigint), q.next_offset,");
        statement
            .sql(" q.end_offset, q.watermark, q.state, h.heartbeat_at, h.trouble from ")
            .head()
            .sql(" join progress p on p.epoch = h.epoch");
        statement.sql(" left join progress_partitions q on q.pipeline = p.pipeline order by q.topic, q.partition");
        let rows = self.health.rows(statement, progress_row).await?;
        Ok(rows.into_iter().reduce(|mut progress, next| {
            progress.partitions.extend(next.partitions);
            progress
        }))
    }

    /// Returns when there may be tables, after [`StoreError::NoTables`]. Postgres is asked in a way that is no error in its log.
    pub async fn wait_for_tables(&self) {
        loop {
            tokio::time::sleep(TABLES_RETRY).await;
            let Pool::Postgres(pool) = &self.feed else { return };
            if !pool.lacks_tables().await.unwrap_or(false) {
                return;
            }
        }
    }

    /// Rejected records by reason, most frequent first.
    pub async fn dead_letters(&self) -> Result<Answer<DeadLetterRow>, StoreError> {
        let mut statement = self.queries.statement();
        statement.moment().sql(", r.reason, r.records, r.newest_epoch, r.newest_record_time, r.replayed from ").head();
        statement.sql(" left join (select d.reason, cast(count(*) as bigint) as records, max(d.epoch) as newest_epoch,");
        statement.sql(" max(d.record_time) as newest_record_time, cast(count(d.replayed_at) as bigint) as replayed");
        statement.sql(" from dead_letters d group by d.reason) r on true order by r.records desc, r.reason");
        self.queries.answer(statement, dead_letter_row).await
    }
}

fn progress_row(columns: &dyn Columns) -> Result<Progress, StoreError> {
    let mut progress = Progress {
        now: required(columns.time(0)?)?,
        epoch: Epoch(required(columns.count(1)?)?),
        watermark: columns.time(2)?,
        fingerprint: required(columns.text(MOMENT_COLUMNS)?)?,
        committed_at: required(columns.time(MOMENT_COLUMNS + 1)?)?,
        heartbeat_at: columns.time(MOMENT_COLUMNS + 8)?,
        trouble: columns.text(MOMENT_COLUMNS + 9)?,
        partitions: Vec::new(),
    };
    if let Some(topic) = columns.text(MOMENT_COLUMNS + 2)? {
        progress.partitions.push(Partition {
            topic,
            partition: required(columns.count(MOMENT_COLUMNS + 3)?)?,
            next_offset: required(columns.count(MOMENT_COLUMNS + 4)?)?,
            end_offset: required(columns.count(MOMENT_COLUMNS + 5)?)?,
            watermark: columns.time(MOMENT_COLUMNS + 6)?,
            state: required(columns.text(MOMENT_COLUMNS + 7)?)?,
        });
    }
    Ok(progress)
}

fn dead_letter_row(columns: &dyn Columns, _: &Moment) -> Result<Option<DeadLetterRow>, StoreError> {
    let Some(reason) = columns.text(MOMENT_COLUMNS)? else { return Ok(None) };
    Ok(Some(DeadLetterRow {
        reason,
        records: required(columns.count(MOMENT_COLUMNS + 1)?)?,
        newest_epoch: Epoch(required(columns.count(MOMENT_COLUMNS + 2)?)?),
        newest_record_time: columns.time(MOMENT_COLUMNS + 3)?,
        replayed: required(columns.count(MOMENT_COLUMNS + 4)?)?,
    }))
}
