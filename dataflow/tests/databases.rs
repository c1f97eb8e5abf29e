//! The database is its administrator's: a writer that may only write rows, what was added to the tables, encodings, poolers, and
//! statements that take too long. On a real Postgres.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::database::{Database, RIGHTS, begin_with};
use support::process::Process;
use tidemark_dataflow::checkpoint::history::Entry;
use tidemark_dataflow::checkpoint::manifest::ReadTo;
use tidemark_dataflow::flow::{DeadLetter, PartitionMark, Totals};
use tidemark_dataflow::keys::StreamKey;
use tidemark_dataflow::sink::postgres::PostgresStore;
use tidemark_dataflow::sink::sqlite::SqliteStore;
use tidemark_dataflow::sink::{Begin, Commit, Decision, Inexact, Row, Store, StoreError, Stored, Total};
use tidemark_model::metrics::Whole;
use tidemark_model::time::MINUTE_NANOS;
use tidemark_model::{Grain, Metric, Minute, Nanos, Reason, Values};

const TABLES: &str = include_str!("../../sql/init/001_tables.sql");

impl Database {
    /// Begins and commits; the second commit changes what the first one wrote.
    fn assert_writes(&self, store: &mut PostgresStore) {
        begin(store).expect("it begins");
        let epoch = self.number("select epoch from progress");
        for number in 1..=2 {
            store.commit(&commit(3, epoch + number)).expect("it commits");
        }
        store.heartbeat(Some("a trouble")).expect("it lives");
        assert_eq!(self.number("select count(*) from stream_metrics_minute where chat_messages > 0"), 3);
        assert_eq!(self.number("select epoch from progress where trouble = 'a trouble'"), epoch + 2);
    }
}

fn begin(store: &mut PostgresStore) -> Result<Stored, StoreError> {
    begin_with(store, &Grain::ALL)
}

/// So many rows and a dead letter.
fn commit(rows: u64, number: i64) -> Commit {
    let row = |stream: u64| Row {
        window: Minute(29_000_000).into(),
        stream: StreamKey(stream, stream),
        stream_id: format!("live🎮{stream}").into(),
        totals: Totals {
            events: 1,
            values: Values::of([(Metric::ActiveViewers, 1), (Metric::ChatMessages, number), (Metric::DonationsUsd, 5)]),
        },
    };
    let letter = DeadLetter {
        partition: 0,
        offset: number,
        reason: Reason::Future,
        error: "what it quotes: 🎮 and \0".to_owned(),
        key: None,
        payload: Some(vec![0, 255]),
        record_time: None,
    };
    let mark = PartitionMark::at_end(0, number);
    Commit {
        rows: (1..=rows).map(row).collect(),
        dead_letters: vec![letter],
        partitions: BTreeMap::from([(0, mark)]),
        ..Commit::default()
    }
}

/// Where the log stood when this was the watermark and this the highest event time.
fn stood(watermark: Minute, highest: Nanos) -> Entry {
    let read_to = ReadTo { next_offset: watermark.0.into(), highest: Some(highest) };
    Entry {
        watermark: watermark.start(),
        partitions: BTreeMap::from([(0, read_to), (7, ReadTo { next_offset: 0, highest: None })]),
    }
}

/// Both stores keep the newest entry that is old enough and what is newer, and of what is older one an hour; they give the next run those
/// that were not edited.
#[test]
fn entries_of_the_history_are_kept_and_given() {
    let Some(database) = Database::new("history", "") else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidemark.db");
    let sqlite = || rusqlite::Connection::open(&file).unwrap();
    let open: [&dyn Fn() -> Box<dyn Store>; 2] =
        [&|| Box::new(database.owner()), &|| Box::new(SqliteStore::open(&file).unwrap())];
    let execute: [&dyn Fn(&str); 2] = [&|sql| database.sql(sql), &|sql| sqlite().execute_batch(sql).unwrap()];
    let count: [&dyn Fn(&str) -> i64; 2] =
        [&|sql| database.number(sql), &|sql| sqlite().query_row(sql, [], |row| row.get(0)).unwrap()];
    for ((open, execute), count) in open.into_iter().zip(execute).zip(count) {
        let (day, last) = (24 * 60, 3 * 24 * 60 + 5);
        // Nothing is final of the fourth day, and a viewer stays for a nanosecond.
        let fourth_day = Nanos(i64::from(3 * day) * MINUTE_NANOS);
        let old = stood(Minute(day), Nanos(1));
        let of_the_same_hour = stood(Minute(day + 59), Nanos(2));
        let newest_old_enough = stood(Minute(3 * day), Nanos(fourth_day.0 - 1));
        let too_new = stood(Minute(last), fourth_day);
        let mut store = open();
        assert!(begin_with(&mut *store, &Grain::ALL).unwrap().history.is_empty());
        let kept = Whole { rolled_up: [Some(Minute(0)); 2], ..Whole::default() };
        let all = Commit {
            history: vec![old.clone(), of_the_same_hour, newest_old_enough.clone()],
            watermark: Some(Minute(2 * day).start()),
            whole: kept,
            ..commit(1, 100_000)
        };
        store.commit(&all).unwrap();
        let last = Commit {
            history: vec![too_new.clone()],
            old_enough: Some(Nanos(fourth_day.0 - 1)),
            watermark: Some(Minute(last).start()),
            whole: kept,
            ..commit(1, 100_001)
        };
        store.commit(&last).unwrap();
        assert_eq!(count("select count(*) from progress_history"), 3, "all but the second one of an hour");
        let given = || begin_with(&mut *open(), &Grain::ALL).unwrap().history;
        assert_eq!(given(), [old, newest_old_enough.clone(), too_new.clone()]);
        execute("update progress_history set partitions = '{}' where highest = 1");
        assert_eq!(given(), [newest_old_enough, too_new], "it was edited");
        execute("delete from progress_history");
        assert_eq!(given(), []);
    }
}

/// Counts of windows that a `recover` gave up only rise in both stores; other windows, and who is there at the end, are replaced.
#[test]
fn counts_of_windows_that_were_given_up_only_rise() {
    let Some(database) = Database::new("rise", "") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut stores: [Box<dyn Store>; 2] =
        [Box::new(database.owner()), Box::new(SqliteStore::open(&dir.path().join("tidemark.db")).unwrap())];
    let sqlite = || rusqlite::Connection::open(dir.path().join("tidemark.db")).unwrap();
    let numbers: [&dyn Fn(&str) -> i64; 2] =
        [&|sql| database.number(sql), &|sql| sqlite().query_row(sql, [], |row| row.get(0)).unwrap()];
    for (store, number) in stores.iter_mut().zip(numbers) {
        begin_with(&mut **store, &Grain::ALL).unwrap();
        let with = |chats: i64, viewers: i64, until: u32| {
            let (minute, values) =
                (Minute(29_000_000), Values::of([(Metric::ActiveViewers, viewers), (Metric::ChatMessages, chats)]));
            let totals = Totals { events: 1, values };
            let row = Row { window: minute.into(), stream: StreamKey(1, 1), stream_id: "s".into(), totals };
            let total = Total { window: minute.into(), streams: chats, totals };
            Commit { rows: vec![row], totals: vec![total], inexact_until: Some(Minute(until)), ..commit(0, chats) }
        };
        let mut found = |commit: Commit| {
            store.commit(&commit).unwrap();
            let of = |column: &str, table: &str| number(&format!("select {column} from {table}"));
            let (rows, totals) = ("stream_metrics_minute", "stream_totals_minute");
            [of("chat_messages", rows), of("active_viewers", rows), of("chat_messages", totals), of("streams", totals)]
        };
        assert_eq!(found(with(9, 9, 29_000_001)), [9, 9, 9, 9]);
        assert_eq!(found(with(4, 4, 29_000_001)), [9, 4, 9, 9], "it was given up");
        assert_eq!(found(with(12, 5, 29_000_001)), [12, 5, 12, 12]);
        assert_eq!(found(with(3, 3, 29_000_000)), [3, 3, 3, 3], "it is exact");
        let mark = Inexact { from: Minute(7), until: Minute(8), why: "records expired".to_owned() };
        store.commit(&Commit { inexact: Some(mark), ..commit(0, 13) }).unwrap();
        assert_eq!(begin_with(&mut **store, &Grain::ALL).unwrap().inexact_until, Some(Minute(8)));
    }
}

/// A backup is restored table by table, by whoever restores it. A process that starts meanwhile must not begin a pipeline of its own
/// over the rows that are there.
#[test]
fn rows_without_progress_are_waited_for() {
    let Some(database) = Database::new("rows_without_progress", "") else { return };
    database.assert_writes(&mut database.owner());
    database.sql("create table kept as table progress; delete from progress");
    match begin(&mut database.owner()) {
        Err(StoreError::Transient(what)) => assert!(what.contains("progress has none"), "{what}"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it began over rows of another pipeline"),
    }
    assert_eq!(database.number("select count(*) from progress"), 0);
    database.sql("insert into progress table kept");
    database.assert_writes(&mut database.owner());
    // Rows of the replaced pipeline are taken over.
    database.sql("delete from progress; update stream_metrics_minute set epoch = 0");
    begin(&mut database.owner()).expect("it begins");
}

/// Nothing would complete them, and they would be taken for final later.
#[test]
fn of_hours_that_are_kept_no_longer_only_final_ones_stay() {
    let hours = |sql: &str| {
        let row = "insert into stream_metrics_hour (window_start, window_end, stream_id, active_viewers, chat_messages, MONEY, epoch) values";
        let totals = row.replace("metrics", "totals").replace("stream_id", "streams");
        let sql = sql.replace("$rows", row).replace("$totals", &totals);
        ["08:00", "09:00", "10:00", "11:00", "10:20"].into_iter().fold(sql, |sql, at| sql.replace(&format!("<{at}>"), &time(at)))
    };
    fn time(at: &str) -> String {
        format!("2026-01-01T{at}:00Z")
    }
    let script = "$rows ('<08:00>', '<09:00>', 's', 0, 1, 0, 1), ('<10:00>', '<11:00>', 's', 0, 1, 0, 1);
        $totals ('<10:00>', '<11:00>', 1, 0, 1, 0, 1);
        update progress set watermark = '<10:20>', hours_from = '<08:00>', days_from = '<08:00>'";
    let kept = "select count(*) from stream_metrics_hour cross join progress
        where hours_from is null and days_from is null and not exists (select from stream_totals_hour)";
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tidemark.db");
    let mut store = SqliteStore::open(&path).expect("it opens");
    begin_with(&mut store, &Grain::ALL).expect("it begins");
    let file = rusqlite::Connection::open(&path).expect("it opens");
    let in_micros = |at: &str| tidemark_dataflow::decode::instant(time(at).as_bytes()).expect("a time").to_micros().0.to_string();
    let script_of_file = ["08:00", "09:00", "10:00", "11:00", "10:20"]
        .into_iter()
        .fold(hours(script).replace("MONEY", "donations_cents"), |sql, at| {
            sql.replace(&format!("'{}'", time(at)), &in_micros(at))
        });
    file.execute_batch(&script_of_file).expect("rows");
    let count =
        || file.query_row(&kept.replace("select from", "select 1 from"), [], |row| row.get::<_, i64>(0)).expect("a count");
    begin_with(&mut store, &Grain::ALL[..3]).expect("it begins");
    assert_eq!(count(), 0, "all are kept");
    begin_with(&mut store, &Grain::ALL[..1]).expect("it begins");
    assert_eq!(count(), 1);

    let Some(database) = Database::new("given_up", "") else { return };
    begin(&mut database.owner()).expect("it begins");
    database.sql(&hours(script).replace("MONEY", "donations_usd"));
    database.sql(RIGHTS);
    database.sql("revoke delete on stream_metrics_hour from $");
    let refused = begin_with(&mut database.writer(), &Grain::ALL[..1]);
    let Err(StoreError::Fatal(said)) = refused else { panic!("{refused:?}") };
    let (_, sql) = said.split_once("let the owner of the schema run ").expect("what the owner is to run");
    assert_eq!(database.number("select count(*) from stream_metrics_hour"), 2, "a refusal changes nothing");
    database.sql(sql);
    begin_with(&mut database.writer(), &Grain::ALL[..1]).expect("it begins");
    assert_eq!(database.number(kept), 1);
}

fn refusal(store: &mut PostgresStore) -> String {
    match begin(store) {
        Err(StoreError::Fatal(what)) => what,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_role_that_may_only_write_rows_runs_on_tables_that_are_there() {
    let Some(database) = Database::new("dml", "") else { return };
    let said = refusal(&mut database.writer());
    assert!(said.contains("are missing") && said.contains("sql/init/001_tables.sql"), "{said}");
    database.sql(TABLES);
    let said = refusal(&mut database.writer());
    assert!(said.contains("grant SELECT on dead_letters"), "{said}");
    database.sql(RIGHTS);
    database.assert_writes(&mut database.writer());
    database.sql("grant create on schema public to $");
    database.assert_writes(&mut database.writer());
}

#[test]
fn what_an_administrator_added_stops_nothing() {
    let Some(database) = Database::new("added", "") else { return };
    begin(&mut database.owner()).expect("it makes the tables");
    database.sql(
        "alter table stream_metrics_minute add region text,
             add hour int generated always as (extract(hour from window_start at time zone 'UTC')) stored;
         alter table stream_metrics_minute drop column region, add first_seen timestamptz not null default now();
         alter table progress add note text default 'x';
         alter table dead_letters add seen_by text;
         create index on stream_metrics_minute (chat_messages);
         create view busiest as select stream_id, sum(chat_messages) from stream_metrics_minute group by 1;
         create table changes (at timestamptz default now(), what text);
         create function noted() returns trigger language plpgsql as
             'begin insert into changes (what) values (new.stream_id); return new; end';
         create trigger noted after insert or update on stream_metrics_minute for each row execute function noted();
         drop table stream_state;
         create table stream_state (active_viewers bigint not null, window_start timestamptz not null, extra int,
             updated_at timestamptz not null, epoch bigint not null, stream_id text collate \"C\" primary key) partition by hash (stream_id);
         create table stream_state_0 partition of stream_state for values with (modulus 2, remainder 0);
         create table stream_state_1 partition of stream_state for values with (modulus 2, remainder 1);",
    );
    database.assert_writes(&mut database.owner());
    assert_eq!(database.number("select count(*) from stream_state"), 3);
    database.sql(
        "alter table stream_state add must_have int not null default 0; alter table stream_state alter must_have drop default",
    );
    let said = refusal(&mut database.owner());
    assert!(said.contains("must_have") && said.contains("default"), "{said}");
}

#[test]
fn tables_of_the_version_before_get_their_columns() {
    let Some(database) = Database::new("before", "") else { return };
    database.sql(TABLES);
    database.sql("alter table progress drop run, drop heartbeat_at, drop trouble");
    database.sql("alter table stream_metrics_minute drop donors");
    database.sql("alter table stream_totals_minute drop watch_ms");
    database.sql(RIGHTS);
    let said = refusal(&mut database.writer());
    let (_, sql) = said.split_once("let the owner of the schema run ").expect("what the owner is to run");
    assert!(sql.contains("alter table stream_totals_minute add column watch_ms bigint"), "{said}");
    assert_eq!(database.number("select count(*) from progress"), 0, "a refusal changes nothing");
    database.sql(sql);
    database.assert_writes(&mut database.writer());
}

#[test]
fn tables_of_another_system_are_refused_by_name() {
    let Some(database) = Database::new("foreign", "") else { return };
    database.sql("create table stream_metrics_minute (window_start timestamptz, stream_id text, donations_usd double precision)");
    let said = refusal(&mut database.owner());
    assert!(said.contains("table stream_metrics_minute has") && said.contains("from_replaced_pipeline.sql"), "{said}");
}

#[test]
fn a_database_that_cannot_store_every_text_is_refused() {
    let of = |encoding| format!("encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0");
    let Some(latin1) = Database::new("latin1", &of("LATIN1")) else { return };
    let said = refusal(&mut latin1.owner());
    assert!(said.contains("LATIN1") && said.contains("UTF8") && !said.contains('\n'), "{said}");
    let bytes = Database::new("bytes", &of("SQL_ASCII")).unwrap();
    bytes.assert_writes(&mut bytes.owner());
}

#[test]
fn a_start_reads_only_the_verdicts_that_its_replay_meets() {
    let Some(database) = Database::new("verdicts", "") else { return };
    begin(&mut database.owner()).expect("it makes the tables");
    // More than are read at once.
    database.sql(
        "insert into dead_letters (topic, partition, \"offset\", reason, error, epoch)
         select 't', 0, n, case when n % 2 = 0 then 'future' else 'late' end, '', 1 from generate_series(1, 50000) as n",
    );
    let mut store = database.owner();
    assert_eq!(begin(&mut store).unwrap().verdicts.len(), 25_000);
    let begin = Begin {
        pipeline: "p".to_owned(),
        topic: "t".to_owned(),
        fingerprint: "f".to_owned(),
        start_offsets: BTreeMap::new(),
        new_offsets: BTreeMap::new(),
        hash_key: [0; 16],
        run: "r".to_owned(),
        again: true,
        grains: &Grain::ALL,
    };
    let from = |_: &Stored| Ok(Decision { replay_from: BTreeMap::from([(0, 49_990)]), above_fence: 40 });
    let stored = store.begin(&begin, &mut { from }).unwrap();
    assert_eq!(
        stored.verdicts.keys().copied().collect::<Vec<_>>(),
        [49_990, 49_992, 49_994, 49_996, 49_998, 50_000].map(|at| (0, at))
    );
    assert_eq!((stored.fence, database.number("select fence from progress")), (41, 41));
}

#[test]
fn a_slice_that_one_statement_cannot_write_in_its_time_makes_progress() {
    let Some(database) = Database::new("slow", "") else { return };
    let mut store = database.owner();
    begin(&mut store).expect("it makes the tables");
    // A server that has time for 400 rows in one statement.
    database.sql(
        "create function slow() returns trigger language plpgsql as
             'begin if (select count(*) > 400 from written) then raise sqlstate ''57014''; end if; return null; end';
         create trigger slow after insert on stream_metrics_minute referencing new table as written
             for each statement execute function slow()",
    );
    let slice = commit(3_000, 1);
    let attempts = (1..20).find(|_| match store.commit(&slice) {
        Ok(receipt) => receipt.epoch == 1,
        Err(StoreError::Transient(error)) => !error.contains("57014"),
        Err(error) => panic!("{error}"),
    });
    // 10,000 rows at most, then half of the 3,000, and so on.
    assert_eq!((attempts, database.number("select count(*) from stream_metrics_minute where epoch = 1")), (Some(4), 3_000));
}

/// Runs a pooler in front of the server, if there is one on this machine.
fn pooler(database: &Database, mode: &str, port: u16) -> Option<(std::process::Child, tempfile::TempDir)> {
    let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|program| Path::new(program).is_file())?;
    let dir = tempfile::tempdir().unwrap();
    let (host, server_port) = database.address().split_once(':').unwrap();
    let ini = dir.path().join("ini");
    let text = format!(
        "[databases]\n* = host={host} port={server_port} user=postgres\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\n\
         auth_type=any\npool_mode={mode}\nunix_socket_dir=\n"
    );
    std::fs::write(&ini, text).unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), everybody).unwrap();
    // It does not run as root.
    let run = Command::new(program).args(["-q", "-u", "nobody"]).arg(&ini).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
    let run = run.expect("it runs");
    let until = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "the pooler listens");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some((run, dir))
}

#[test]
fn a_pooler_in_transaction_mode_is_refused_and_one_in_session_mode_works() {
    let Some(database) = Database::new("pooler", "") else { return };
    for (mode, port) in [("session", 26_541), ("transaction", 26_542)] {
        let Some((mut run, _dir)) = pooler(&database, mode, port) else {
            assert_ne!(std::env::var("TIDEMARK_TEST_REQUIRE").as_deref(), Ok("1"), "there is no pgbouncer");
            return eprintln!("skipped: there is no pgbouncer");
        };
        let url = format!("postgres://postgres@127.0.0.1:{port}/{}", database.name);
        let mut store = PostgresStore::new(&url, "under test").unwrap();
        if mode == "session" {
            database.assert_writes(&mut store);
        } else {
            let said = refusal(&mut store);
            assert!(
                said.contains("transaction mode") && said.contains("direct address") && said.contains(database.address()),
                "{said}"
            );
        }
        drop(store);
        // The api refuses either, as it needs what both lose; `cargo test --workspace` builds it.
        let program = Path::new(env!("CARGO_BIN_EXE_tidemark-dataflow")).with_file_name("tidemark-api");
        let settings = [("DATABASE_URL", url), ("API_ADDR", "127.0.0.1:0".to_owned())];
        let mut api = Process::of_program(&program, &[], &settings);
        let ended = api.ends_within(Duration::from_secs(20)).expect("it ends");
        let said = api.said();
        assert_eq!(ended.code(), Some(2), "{said}");
        assert!(said.contains("connection pooler") && said.contains(database.address()), "{said}");
        run.kill().unwrap();
        run.wait().unwrap();
    }
}
