//! `stream_metrics_minute` in Postgres: a partition a day, made ahead and dropped as a whole; the plain table of an earlier version becomes
//! the first of them, with all that an administrator added.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::database::{Database, RIGHTS, begin_with};
use tidemark_dataflow::flow::{PartitionMark, Totals};
use tidemark_dataflow::keys::StreamKey;
use tidemark_dataflow::sink::postgres::PostgresStore;
use tidemark_dataflow::sink::retention::{Retention, Sweep};
use tidemark_dataflow::sink::{Commit, Row, Store};
use tidemark_model::{Grain, Metric, Micros, Minute, Values};

const TABLES: &str = include_str!("../../sql/init/001_tables.sql");
const DAY: u32 = 24 * 60;
/// 2026-01-05T00:00:00Z.
const MONDAY: u32 = 20_458 * DAY;
const PARTITIONS: &str = "select count(*) from pg_inherits where inhparent = 'stream_metrics_minute'::regclass";

/// The tables as an earlier version made them.
fn plain_tables() -> String {
    let plain = TABLES.replacen(") partition by range (window_start);", ") with (fillfactor = 70);", 1);
    assert_ne!(plain, TABLES);
    plain
}

/// A row of noon of each of these days after Monday, and a watermark behind the last.
fn days(days: &[u32], number: i64) -> Commit {
    let noon = |day: &u32| Minute(MONDAY + day * DAY + DAY / 2);
    let values = Values::of([(Metric::ChatMessages, number)]);
    let row = |day| Row {
        window: noon(day).into(),
        stream: StreamKey(1, 1),
        stream_id: "s".into(),
        totals: Totals { events: 1, values },
    };
    Commit {
        rows: days.iter().map(row).collect(),
        watermark: days.last().map(|day| Minute(noon(day).0 + 1).start()),
        partitions: BTreeMap::from([(0, PartitionMark::at_end(0, number))]),
        ..Commit::default()
    }
}

/// Minutes that ended more than a day ago.
fn sweep(watermark: Micros) -> Sweep {
    let retention = Retention { minutes: Some(i64::from(DAY) * 60_000_000), dead_letters: None };
    Sweep { retention, watermark, viewer_timeout_nanos: 1, rolled_up: [None; 2], pending: None }
}

fn write(store: &mut PostgresStore, database: &Database, days_of: &[u32]) -> Micros {
    let commit = days(days_of, database.number("select epoch + 1 from progress"));
    store.commit(&commit).unwrap();
    commit.watermark.unwrap()
}

/// Sweeps until nothing is left.
fn sweep_all(store: &mut PostgresStore, watermark: Micros) {
    while store.sweep(&sweep(watermark)).unwrap().left {}
}

fn rows(database: &Database, table: &str) -> i64 {
    database.number(&format!("select count(*) from {table}"))
}

fn is_partitioned(database: &Database) -> bool {
    database.number("select count(*) from pg_class where oid = 'stream_metrics_minute'::regclass and relkind = 'p'") == 1
}

#[test]
fn a_day_and_the_next_are_made_before_they_are_written_and_dropped_as_a_whole() {
    let Some(database) = Database::new("days", "") else { return };
    let mut store = database.owner();
    begin_with(&mut store, &Grain::ALL).unwrap();
    write(&mut store, &database, &[0, 3]);
    assert_eq!(database.number(PARTITIONS), 4, "two days, the one after, and the default partition");
    write(&mut store, &database, &[4]);
    write(&mut store, &database, &[4]);
    // The next run finds them.
    let mut store = database.owner();
    begin_with(&mut store, &Grain::ALL).unwrap();
    let watermark = write(&mut store, &database, &[5]);
    assert_eq!(database.number(PARTITIONS), 6);
    assert_eq!(rows(&database, "stream_metrics_minute_20260110"), 1);
    assert_eq!(rows(&database, "stream_metrics_minute_other"), 0);
    let epoch = database.number("select epoch from progress");
    sweep_all(&mut store, watermark);
    // Monday and Thursday have gone. Of Friday, which is not all old enough, nothing has.
    assert_eq!((database.number(PARTITIONS), rows(&database, "stream_metrics_minute")), (4, 2));
    let from = "select count(*) from progress where minutes_from = '2026-01-09Z'";
    assert_eq!(database.number(from), 1);
    assert!(database.number("select epoch from progress") > epoch, "readers are told of it");
    assert_eq!(store.sweep(&sweep(watermark)).unwrap().rows, 0);
    write(&mut store, &database, &[6]);
}

/// A day for which there can be no partition, or whose table others use.
#[test]
fn rows_without_a_partition_go_into_the_default_one_and_are_deleted_there() {
    let Some(database) = Database::new("other", "") else { return };
    let mut store = database.owner();
    begin_with(&mut store, &Grain::ALL).unwrap();
    database.sql("create table stream_metrics_minute_20260105 (of_somebody_else int)");
    write(&mut store, &database, &[0]);
    assert_eq!(rows(&database, "stream_metrics_minute_other"), 1);
    // Whoever reads the default partition holds up the next day for as long as it takes, but no commit.
    let mut reader = database.client();
    let mut reading = reader.transaction().unwrap();
    reading.execute("select from stream_metrics_minute", &[]).unwrap();
    let started = Instant::now();
    write(&mut store, &database, &[2]);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(rows(&database, "stream_metrics_minute_other"), 2);
    reading.rollback().unwrap();
    let watermark = write(&mut store, &database, &[4]);
    sweep_all(&mut store, watermark);
    assert_eq!((rows(&database, "stream_metrics_minute_other"), rows(&database, "stream_metrics_minute")), (0, 1));
}

#[test]
fn a_role_that_may_only_write_uses_the_partitions_that_are_there_and_deletes_row_by_row() {
    let Some(database) = Database::new("dml", "") else { return };
    database.sql(TABLES);
    database.sql("create table week partition of stream_metrics_minute for values from ('2026-01-05Z') to ('2026-01-08Z')");
    database.sql(RIGHTS);
    let mut store = database.writer();
    begin_with(&mut store, &Grain::ALL).unwrap();
    let watermark = write(&mut store, &database, &[0, 2, 5]);
    assert_eq!((rows(&database, "week"), rows(&database, "stream_metrics_minute_other")), (2, 1));
    sweep_all(&mut store, watermark);
    assert_eq!((rows(&database, "week"), rows(&database, "stream_metrics_minute_other")), (0, 1));
    // Without the right to delete it goes on too.
    database.sql("revoke delete on stream_metrics_minute from $");
    let mut store = database.writer();
    begin_with(&mut store, &Grain::ALL).unwrap();
    let watermark = write(&mut store, &database, &[8]);
    sweep_all(&mut store, watermark);
    assert_eq!(rows(&database, "stream_metrics_minute"), 2);
    write(&mut store, &database, &[9]);
}

#[test]
fn a_plain_table_becomes_the_first_partition_with_all_that_was_added() {
    let Some(database) = Database::new("migrated", "") else { return };
    database.sql(&plain_tables());
    database.sql(
        "alter table stream_metrics_minute add note text default 'none', add constraint not_negative check (chat_messages >= 0);
         create index by_note on stream_metrics_minute (note) where note is not null;
         create view busy with (security_barrier) as select * from stream_metrics_minute where chat_messages > 0;
         create view how_busy as select count(*) from busy;
         create function say() returns trigger language plpgsql as 'begin new.note = ''a trigger''; return new; end';
         create trigger say before insert on stream_metrics_minute for each row execute function say();
         create publication of_$ for table stream_metrics_minute with (publish_via_partition_root = true);
         comment on table stream_metrics_minute is 'of the administrator'; comment on column stream_metrics_minute.note is 'too';
         grant select on stream_metrics_minute, how_busy to $; grant update (note) on stream_metrics_minute to $;
         insert into stream_metrics_minute (window_start, window_end, stream_id, active_viewers, chat_messages, donations_usd, epoch)
             values ('2026-01-04 12:00Z', '2026-01-04 12:01Z', 's', 1, 1, 1, 0);
         alter table stream_metrics_minute owner to postgres",
    );
    let mut store = database.owner();
    begin_with(&mut store, &Grain::ALL).unwrap();
    assert!(is_partitioned(&database));
    let watermark = write(&mut store, &database, &[0, 1, 2]);
    assert_eq!(rows(&database, "stream_metrics_minute_before"), 1);
    assert_eq!(rows(&database, "stream_metrics_minute_20260106"), 1);
    assert_eq!(rows(&database, "stream_metrics_minute where note = 'a trigger'"), 4);
    assert_eq!(database.number("select count from how_busy"), 4);
    for (what, select) in [
        (
            "indexes",
            "select count(*) from pg_indexes where tablename = 'stream_metrics_minute' and indexname in ('by_note', \
            'stream_metrics_minute_pkey', 'stream_metrics_minute_by_stream')",
        ),
        ("of the new partition too", "select count(*) from pg_indexes where tablename = 'stream_metrics_minute_20260106'"),
    ] {
        assert_eq!(database.number(select), 3, "{what}");
    }
    for what in [
        "select count(*) from pg_class where relname = 'busy' and reloptions = '{security_barrier=true}'",
        "select count(*) from pg_publication_tables where tablename = 'stream_metrics_minute'",
        "select count(*) where obj_description('stream_metrics_minute'::regclass) = 'of the administrator'",
        "select count(*) where has_table_privilege('$', 'stream_metrics_minute', 'select')
             and has_column_privilege('$', 'stream_metrics_minute', 'note', 'update')
             and not has_table_privilege('$', 'stream_metrics_minute', 'update')",
        "select count(*) from pg_constraint where conname = 'not_negative' and conrelid = 'stream_metrics_minute_20260106'::regclass",
    ] {
        assert_eq!(database.number(&what.replace('$', &database.name)), 1, "{what}");
    }
    // Who may read the table reads its partitions.
    let reads = format!("set role {}; create temp table seen as select from stream_metrics_minute", database.name);
    database.client().batch_execute(&reads).unwrap();
    sweep_all(&mut store, watermark);
    assert_eq!(rows(&database, "stream_metrics_minute"), 2);
    assert_eq!(rows(&database, "pg_class where relname = 'stream_metrics_minute_before'"), 0, "it went as a whole");
    let mut store = database.owner();
    begin_with(&mut store, &Grain::ALL).unwrap();
    write(&mut store, &database, &[3]);
}

/// Nothing of this stops a run, and rows of a plain table are dropped too.
#[test]
fn a_table_that_cannot_be_partitioned_stays_plain() {
    for (test, obstacle) in [
        ("matview", "create materialized view kept as select * from stream_metrics_minute"),
        (
            "foreign",
            "create table other (at timestamptz, stream text collate \"C\", foreign key (at, stream) references stream_metrics_minute)",
        ),
        ("identity", "alter table stream_metrics_minute add number bigint generated always as identity"),
        ("unique", "alter table stream_metrics_minute add number uuid default gen_random_uuid() unique"),
        ("publication", "create publication all_of_$ for all tables"),
        ("typed", "create function of_row(stream_metrics_minute) returns int language sql as 'select 1'"),
        ("security", "alter table stream_metrics_minute enable row level security"),
    ] {
        let Some(database) = Database::new(test, "") else { return };
        database.sql(&plain_tables());
        database.sql(obstacle);
        let mut store = database.owner();
        begin_with(&mut store, &Grain::ALL).unwrap();
        let watermark = write(&mut store, &database, &[0, 2]);
        assert!(!is_partitioned(&database), "{test}");
        sweep_all(&mut store, watermark);
        assert_eq!(rows(&database, "stream_metrics_minute"), 1, "{test}");
        assert_eq!(database.number("select count(*) from progress where minutes_from = '2026-01-06 12:01Z'"), 1, "to the minute");
    }
}

#[test]
fn a_plain_table_that_others_use_is_partitioned_by_a_later_run() {
    let Some(database) = Database::new("used", "") else { return };
    database.sql(&plain_tables());
    let mut reader = database.client();
    let mut reading = reader.transaction().unwrap();
    reading.execute("select from stream_metrics_minute", &[]).unwrap();
    let mut store = database.owner();
    begin_with(&mut store, &Grain::ALL).unwrap();
    write(&mut store, &database, &[0]);
    assert!(!is_partitioned(&database));
    reading.rollback().unwrap();
    let mut store = database.owner();
    begin_with(&mut store, &Grain::ALL).unwrap();
    assert!(is_partitioned(&database));
    write(&mut store, &database, &[0, 1]);
    assert_eq!((rows(&database, "stream_metrics_minute_before"), rows(&database, "stream_metrics_minute")), (1, 2));
}

/// Who refers to an old row, or holds it, keeps it, and holds up no commit.
#[test]
fn a_sweep_that_is_refused_or_held_up_stops_nothing() {
    let Some(database) = Database::new("refused", "") else { return };
    database.sql(&plain_tables());
    database.sql(
        "create table other (at timestamptz, stream text collate \"C\", foreign key (at, stream) references stream_metrics_minute)",
    );
    let mut store = database.owner();
    begin_with(&mut store, &Grain::ALL).unwrap();
    write(&mut store, &database, &[0]);
    database.sql("insert into other select window_start, stream_id from stream_metrics_minute");
    let watermark = write(&mut store, &database, &[2]);
    assert_eq!(store.sweep(&sweep(watermark)).unwrap().rows, 0, "a foreign key needs it");
    database.sql("delete from other");
    let mut another = database.client();
    let mut holding = another.transaction().unwrap();
    holding.execute("select from stream_metrics_minute order by window_start limit 1 for update", &[]).unwrap();
    let started = Instant::now();
    let watermark = write(&mut store, &database, &[2]);
    assert_eq!(store.sweep(&sweep(watermark)).unwrap().rows, 0, "another session holds it");
    assert!(started.elapsed() < Duration::from_secs(5));
    holding.rollback().unwrap();
    sweep_all(&mut store, watermark);
    assert_eq!(rows(&database, "stream_metrics_minute"), 1);
}
