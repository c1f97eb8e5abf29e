//! The plain table `stream_metrics_minute` of an earlier program becomes one with partitions.

use super::partitions::{Outcome, outcome};
use super::session::Transaction;
use super::transaction::Failure;
use std::time::Duration;

const PARTITION: &str = include_str!("../../../sql/migrate/partition_minutes.sql");
/// The usual limit of a statement, restored afterwards.
const STATEMENT: Duration = Duration::from_secs(60);

/// Partitions the table if it is plain and this role may. If it cannot be done the table stays as it is, which stops nothing.
pub(super) fn migrate(transaction: &mut Transaction<'_>) -> Result<(), Failure> {
    let select = "select pg_has_role(relowner, 'USAGE') and has_schema_privilege(relnamespace, 'CREATE') from pg_class
        where oid = to_regclass(format('%I.stream_metrics_minute', current_schema())) and relkind = 'r'";
    let Some(row) = transaction.query_opt(select, &[])? else { return Ok(()) };
    let stays = "stream_metrics_minute stays a plain table, from which old rows are deleted one by one";
    if !row.get::<_, bool>(0) {
        tracing::info!("{stays}: its owner can run sql/migrate/partition_minutes.sql");
        return Ok(());
    }
    transaction.without_limit()?;
    let migrated = transaction.batch_execute(&format!(
        "savepoint plain; set local lock_timeout = '2s'; set local client_min_messages = warning; {PARTITION}"
    ));
    if let Err(error) = migrated {
        let outcome = outcome(&error).ok_or(error)?;
        transaction.batch_execute("rollback to savepoint plain")?;
        match outcome {
            Outcome::Never(why) => tracing::warn!(why, "{stays}"),
            _ => tracing::warn!("{stays}, because another session uses it (a dump, a long query): tried again at the next start"),
        }
    } else {
        tracing::info!("stream_metrics_minute has partitions now: the old table is stream_metrics_minute_before");
        transaction.batch_execute("release savepoint plain; set local lock_timeout to default")?;
    }
    Ok(transaction.limit(STATEMENT)?)
}
