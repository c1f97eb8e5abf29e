//! The tables in Postgres: whether ours are there, as a run needs them, and making those that are not.
//!
//! The database is its administrator's. Columns with defaults, indexes, views, triggers, partitions and grants that were added are no
//! reason to refuse, and nothing is altered or created while everything that a run needs is there.

use super::StoreError;
use super::columns::Dialect;
use super::schema::{self, Added};
use super::session::{self, Transaction};
use super::transaction::{Failure, TABLES};
use ::postgres::error::SqlState;
use std::collections::BTreeMap;
use tidemark_model::{Grain, Metric, Micros, Of, tables};

/// A table as a run needs it.
struct Table {
    name: &'static str,
    /// Each column with its type, but for the metrics.
    columns: &'static [(&'static str, &'static str)],
    /// Those of its columns that are metrics.
    metrics: &'static [Metric],
    /// The columns of the unique key that upserts go by.
    key: &'static str,
    /// What the role may do with it.
    privileges: &'static [&'static str],
}

/// Added by upgrades, so a restored database may lack them.
const LATER: [&str; 2] = ["progress_history", "inexact_windows"];

const WRITTEN: &[&str] = &["SELECT", "INSERT", "UPDATE"];
const TABLE: [Table; 12] = [
    Table {
        name: "dead_letters",
        columns: &[
            ("topic", "text"),
            ("partition", "integer"),
            ("offset", "bigint"),
            ("reason", "text"),
            ("error", "text"),
            ("key", "bytea"),
            ("payload", "bytea"),
            ("record_time", "timestamp with time zone"),
            ("epoch", "bigint"),
            ("replayed_at", "timestamp with time zone"),
        ],
        metrics: &[],
        key: "offset partition topic",
        privileges: &["SELECT", "INSERT"],
    },
    Table {
        name: "progress",
        columns: &[
            ("pipeline", "text"),
            ("epoch", "bigint"),
            ("watermark", "timestamp with time zone"),
            ("fence", "bigint"),
            ("fingerprint", "text"),
            ("hash_key", "bytea"),
            ("checkpoints", "jsonb"),
            ("updated_at", "timestamp with time zone"),
        ],
        metrics: &[],
        key: "pipeline",
        privileges: WRITTEN,
    },
    Table {
        name: "progress_partitions",
        columns: &[
            ("pipeline", "text"),
            ("topic", "text"),
            ("partition", "integer"),
            ("start_offset", "bigint"),
            ("next_offset", "bigint"),
            ("end_offset", "bigint"),
            ("watermark", "timestamp with time zone"),
            ("state", "text"),
        ],
        metrics: &[],
        key: "partition pipeline topic",
        privileges: WRITTEN,
    },
    Table {
        name: LATER[0],
        columns: &[
            ("pipeline", "text"),
            ("watermark", "timestamp with time zone"),
            ("epoch", "bigint"),
            ("taken_at", "timestamp with time zone"),
            ("highest", "bigint"),
            ("partitions", "jsonb"),
            ("checksum", "bigint"),
        ],
        metrics: &[],
        key: "pipeline watermark",
        privileges: &["SELECT", "INSERT", "UPDATE", "DELETE"],
    },
    Table {
        name: LATER[1],
        columns: &[
            ("pipeline", "text"),
            ("inexact_from", "timestamp with time zone"),
            ("inexact_until", "timestamp with time zone"),
            ("epoch", "bigint"),
            ("marked_at", "timestamp with time zone"),
            ("why", "text"),
        ],
        metrics: &[],
        key: "inexact_from inexact_until pipeline",
        privileges: &["SELECT", "INSERT"],
    },
    of_metrics(tables::Table::ALL[0]),
    of_metrics(tables::Table::ALL[1]),
    of_metrics(tables::Table::ALL[2]),
    of_metrics(tables::Table::ALL[3]),
    of_metrics(tables::Table::ALL[4]),
    of_metrics(tables::Table::ALL[5]),
    Table {
        name: "stream_state",
        columns: &[
            ("stream_id", "text"),
            ("window_start", "timestamp with time zone"),
            ("updated_at", "timestamp with time zone"),
            ("epoch", "bigint"),
        ],
        metrics: &[Metric::ActiveViewers],
        key: "stream_id",
        privileges: WRITTEN,
    },
];

const fn of_metrics(table: tables::Table) -> Table {
    let columns: &[_] = match table.of {
        Of::Stream => &[
            ("window_start", "timestamp with time zone"),
            ("window_end", "timestamp with time zone"),
            ("stream_id", "text"),
            ("epoch", "bigint"),
        ],
        Of::All => &[
            ("window_start", "timestamp with time zone"),
            ("window_end", "timestamp with time zone"),
            ("streams", "bigint"),
            ("epoch", "bigint"),
        ],
    };
    // In order of their names.
    let key = match table.of {
        Of::Stream => "stream_id window_start",
        Of::All => "window_start",
    };
    Table { name: table.name(), columns, metrics: table.metrics(), key, privileges: WRITTEN }
}

/// A column that is there.
struct Column {
    kind: String,
    /// An insert that does not name it fails.
    must_be_given: bool,
}

/// Columns by table and name.
type Found = BTreeMap<String, BTreeMap<String, Column>>;

/// Makes what is missing, and refuses tables that a run cannot write. `again`: they were there before, so they are not made; they may
/// be on their way back.
pub(super) fn ensure(transaction: &mut Transaction<'_>, again: bool) -> Result<(), Failure> {
    refuse_encoding(transaction)?;
    upgrade(transaction, again)
}

/// Makes the tables and columns that are missing.
pub(crate) fn upgrade(transaction: &mut Transaction<'_>, again: bool) -> Result<(), Failure> {
    let mut found = columns(transaction)?;
    refuse_foreign(&found)?;
    let missing: Vec<&str> = TABLE.iter().map(|table| table.name).filter(|name| !found.contains_key(*name)).collect();
    if !missing.is_empty() {
        // What is restored may be of before a table was there.
        let later = |name: &str| LATER.contains(&name) || tables::Table::later().any(|later| later.name() == name);
        let again = again && !missing.iter().all(|name| later(name));
        let missing = missing.join(", ");
        if again {
            return Err(StoreError::Transient(format!("the tables {missing} are gone: waiting for them to be restored")).into());
        }
        transaction.batch_execute("set local client_min_messages = warning")?;
        if let Err(error) = transaction.batch_execute(TABLES) {
            return Err(not_allowed(error, &format!("the tables {missing} are missing"), "sql/init/001_tables.sql"));
        }
        found = columns(transaction)?;
    }
    // A restore makes keys, and then gives rights, after it has filled the tables.
    refuse_incomplete_keys(transaction)?;
    refuse_missing_privileges(transaction)?;
    refuse_newer(transaction, &found)?;
    add_columns(transaction, &found)
}

/// Tables of a newer program are refused.
fn refuse_newer(transaction: &mut Transaction<'_>, found: &Found) -> Result<(), Failure> {
    let progress = found.get("progress");
    if !progress.is_some_and(|progress| progress.contains_key("schema_version") && progress.contains_key("metrics")) {
        return Ok(());
    }
    match transaction.query_opt("select schema_version, metrics from progress limit 1", &[])? {
        Some(row) => Ok(schema::refuse_newer(row.get(0), row.get(1))?),
        None => Ok(()),
    }
}

fn add_columns(transaction: &mut Transaction<'_>, found: &Found) -> Result<(), Failure> {
    let absent = |added: &Added| !found[added.table].contains_key(&added.column);
    let absent: Vec<Added> = schema::added(Dialect::Postgres).into_iter().filter(absent).collect();
    let Some(Added { table, column, .. }) = absent.first() else { return Ok(()) };
    let of_table = |absent: &[Added]| {
        let columns: Vec<String> =
            absent.iter().map(|Added { column, kind, .. }| format!("add column {column} {kind}")).collect();
        format!("alter table {} {}", absent[0].table, columns.join(", "))
    };
    let all: Vec<String> = absent.chunk_by(|one, other| one.table == other.table).map(of_table).collect();
    let all = all.join("; ");
    // Who waits for a lock that shuts everybody out has all that come later wait behind it.
    if let Err(error) = transaction.batch_execute(&format!("set local lock_timeout = '2s'; {all}")) {
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
            let what = format!("column {column} is to be added to {table}, which another session uses (a dump, a long query)");
            return Err(StoreError::Transient(format!("{what}: tried again; end that session, or wait for it")).into());
        }
        let what = format!("the table {table} is of an older version, without {column}");
        return Err(not_allowed(error, &what, &all));
    }
    tracing::info!(columns = absent.len(), "tables of an earlier program: columns were added");
    Ok(())
}

/// Deletes the rows of windows of this length that are not final.
pub(super) fn give_up(transaction: &mut Transaction<'_>, grain: Grain, watermark: Option<Micros>) -> Result<(), Failure> {
    // There is no index on the windows' ends.
    let start = super::last_final(grain, watermark);
    let mut deletes = Vec::new();
    for table in [tables::Table::rows(grain), tables::Table::totals(grain)] {
        let not_final = format!("from {} where window_start > timestamptz '{start}'", table.name());
        if transaction.query_one(&format!("select exists (select {not_final})"), &[])?.get(0) {
            deletes.push(format!("delete {not_final}"));
        }
    }
    let deletes = deletes.join("; ");
    transaction.batch_execute(&deletes).map_err(|error| {
        let what = format!("ROLLUPS keeps no rows of grain {grain:?} any more, and those that are not final must go");
        not_allowed(error, &what, &deletes)
    })
}

/// What the role may not do itself, its administrator may.
fn not_allowed(error: session::Error, what: &str, sql: &str) -> Failure {
    if error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return error.into();
    }
    let why = error.as_db_error().map_or("permission denied", |error| error.message());
    StoreError::Fatal(format!("{what}, and this role may not change that ({why}): let the owner of the schema run {sql}")).into()
}

/// UTF-8 stores every text. So does SQL_ASCII, which means any bytes. All others lack characters that streams have in their names.
fn refuse_encoding(transaction: &mut Transaction<'_>) -> Result<(), Failure> {
    let encoding: String = transaction.query_one("select current_setting('server_encoding')", &[])?.get(0);
    if ["UTF8", "SQL_ASCII"].contains(&&*encoding) {
        return Ok(());
    }
    Err(StoreError::Fatal(format!(
        "the database's encoding is {encoding}, which cannot store every text: make a database with encoding 'UTF8' template template0"
    ))
    .into())
}

fn columns(transaction: &mut Transaction<'_>) -> Result<Found, Failure> {
    let names: Vec<&str> = TABLE.iter().map(|table| table.name).collect();
    // Of a domain the type that it is made from.
    let rows = transaction.query(
        "select c.relname::text, a.attname::text,
             format_type(coalesce(nullif(t.typbasetype, 0), t.oid), case when t.typbasetype = 0 then a.atttypmod else t.typtypmod end),
             a.attnotnull and not a.atthasdef and a.attidentity = '' and a.attgenerated = ''
         from pg_class c
             join pg_namespace n on n.oid = c.relnamespace and n.nspname = current_schema()
             join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             join pg_type t on t.oid = a.atttypid
         where c.relname = any($1) and c.relkind in ('r', 'p', 'f', 'v')",
        &[&names],
    )?;
    let mut found = Found::new();
    for row in rows {
        let column = Column { kind: row.get(2), must_be_given: row.get(3) };
        found.entry(row.get(0)).or_default().insert(row.get(1), column);
    }
    Ok(found)
}

/// Tables of other columns under our names belong to somebody else, most likely the replaced system.
fn refuse_foreign(found: &Found) -> Result<(), Failure> {
    let all_added = schema::added(Dialect::Postgres);
    for Table { name, columns, metrics, .. } in &TABLE {
        let Some(found) = found.get(*name) else { continue };
        let metrics = metrics.iter().map(|&metric| (metric.name(), Dialect::Postgres.kind(metric)));
        let added: Vec<&Added> = all_added.iter().filter(|added| added.table == *name).collect();
        let later = added.iter().map(|added| (&*added.column, added.kind));
        let ours: Vec<(&str, &str)> = columns.iter().copied().chain(metrics).chain(later).collect();
        let unlike = |(column, kind): &&(&str, &str)| match found.get(*column) {
            Some(found) => !fits(&found.kind, kind),
            None => !added.iter().any(|added| added.column == *column),
        };
        if let Some((column, kind)) = ours.iter().find(unlike) {
            let has = found.get(*column).map_or_else(
                || format!("has no column {column}"),
                |found| format!("has a column {column} of type {}, not {kind}", found.kind),
            );
            if added.iter().any(|added| added.column == *column) {
                let advice = "its name is needed for a column of ours: rename it, or use another schema or database";
                return Err(StoreError::Fatal(format!("table {name} {has}: {advice}")).into());
            }
            return Err(StoreError::Fatal(format!(
                "table {name} {has}: it is another system's and was not touched; convert the replaced system's tables with \
                 sql/migrate/from_replaced_pipeline.sql, or use another schema or database"
            ))
            .into());
        }
        let is_ours = |column: &str| ours.iter().any(|(ours, _)| *ours == column);
        if let Some((column, _)) = found.iter().find(|(column, found)| found.must_be_given && !is_ours(column)) {
            return Err(StoreError::Fatal(format!(
                "column {column} was added to table {name} as NOT NULL without a default: give it a default, or no row can be written"
            ))
            .into());
        }
    }
    Ok(())
}

/// Whether a column of this type takes all our values. Money has 18 digits before the point and two behind it.
fn fits(found: &str, needed: &str) -> bool {
    let digits = |found: &str| {
        let (precision, scale) = found.strip_prefix("numeric(")?.strip_suffix(')')?.split_once(',')?;
        Some((precision.parse::<u32>().ok()?, scale.parse::<u32>().ok()?))
    };
    match needed {
        "numeric" => found == "numeric" || digits(found).is_some_and(|(all, behind)| behind >= 2 && all >= behind + 18),
        "text" => ["text", "character varying"].contains(&found),
        "timestamptz" => found == "timestamp with time zone",
        _ => found == needed,
    }
}

/// Upserts go by unique keys. A restore makes them last, so without one a table may not have all its rows yet.
fn refuse_incomplete_keys(transaction: &mut Transaction<'_>) -> Result<(), Failure> {
    for Table { name, key, .. } in &TABLE {
        let row = transaction.query_one(
            "select exists (
                 select from pg_index i
                     join pg_class c on c.oid = i.indrelid
                     join pg_namespace n on n.oid = c.relnamespace and n.nspname = current_schema()
                 where c.relname = $1 and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null
                     and i.indexprs is null
                     and (select string_agg(a.attname, ' ' order by a.attname collate \"C\") from pg_attribute a
                          where a.attrelid = c.oid and a.attnum = any(i.indkey[0 : i.indnkeyatts - 1])) = $2)",
            &[name, key],
        )?;
        if !row.get::<_, bool>(0) {
            let key = key.replace(' ', ", ");
            let what = format!("table {name} has no unique key ({key}): it is being restored, or its key was dropped");
            return Err(StoreError::Transient(what).into());
        }
    }
    Ok(())
}

/// What the first dead letter would fail on is said at the start.
fn refuse_missing_privileges(transaction: &mut Transaction<'_>) -> Result<(), Failure> {
    let role: String = transaction.query_one("select current_user::text", &[])?.get(0);
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Table { name, privileges, .. } in &TABLE {
        for privilege in *privileges {
            let select =
                "select case $2 when 'DELETE' then has_table_privilege(name, $2) else has_any_column_privilege(name, $2) end
                from format('%I.%I', current_schema(), $1::text) as name";
            if !transaction.query_one(select, &[name, privilege])?.get::<_, bool>(0) {
                missing.entry(privilege).or_default().push(name);
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let grant = |(privilege, names): (&&str, &Vec<&str>)| format!("grant {privilege} on {} to {role}", names.join(", "));
    let grants: Vec<String> = missing.iter().map(grant).collect();
    Err(StoreError::Fatal(format!("role {role} may not use the tables as a run does: {}", grants.join("; "))).into())
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn types_that_take_all_values_fit() {
        for (found, needed) in [
            ("numeric(20,2)", "numeric"),
            ("numeric", "numeric"),
            ("numeric(38,4)", "numeric"),
            ("character varying", "text"),
            ("bigint", "bigint"),
        ] {
            assert!(fits(found, needed), "{found}");
        }
        for (found, needed) in [
            ("double precision", "numeric"),
            ("numeric(10,2)", "numeric"),
            ("numeric(20,0)", "numeric"),
            ("character varying(64)", "text"),
            ("integer", "bigint"),
        ] {
            assert!(!fits(found, needed), "{found}");
        }
    }
}
