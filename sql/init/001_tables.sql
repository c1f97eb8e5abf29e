-- The tables of one pipeline. Times are UTC instants. The dataflow writes all of them, in one transaction per commit;
-- the api only reads. The dataflow applies this file too when the tables are absent, so every statement can be repeated.

-- One row per (minute, stream) in which a counted event falls. Values are absolute, never increments. A metric that may be null is so in
-- rows that an earlier program wrote, which did not know it.
-- No index on values or epoch and room on each page: an upsert then stays on its page (a heap-only update).
create table if not exists stream_metrics_minute (
    window_start    timestamptz not null,             -- inclusive, a whole minute
    window_end      timestamptz not null,             -- exclusive, window_start + 60 s
    stream_id       text collate "C" not null,        -- 1 to 256 bytes, compared by bytes
    active_viewers  bigint not null,                  -- users who are present at the end of the window
    unique_viewers  bigint,                           -- users who are present at any instant of the window
    watch_ms        bigint,                           -- time that users are present in the window, summed
    chat_messages   bigint not null,                  -- chat messages in the window
    unique_chatters bigint,                           -- users with a chat message in the window
    donations       bigint,                           -- donations in the window
    donations_usd   numeric(20, 2) not null,          -- sum of the donations in the window, exact to the cent
    donors          bigint,                           -- users with a donation in the window
    epoch           bigint not null,                  -- the commit that last changed another column of this row
    primary key (window_start, stream_id)
) partition by range (window_start);
-- A stream's rows, newest first.
create index if not exists stream_metrics_minute_by_stream on stream_metrics_minute (stream_id, window_start desc);
-- The dataflow makes a partition for each day (UTC) ahead, stream_metrics_minute_20260131, and drops those that are older than RETENTION. A row
-- of a day without one goes here. The table of an earlier version is a plain one, until sql/migrate/partition_minutes.sql was applied.
do $$
begin
    if exists (select from pg_partitioned_table where partstrat = 'r' and partdefid = 0
        and partrelid = to_regclass(format('%I.stream_metrics_minute', current_schema())))
    then
        create table stream_metrics_minute_other partition of stream_metrics_minute default with (fillfactor = 70);
    end if;
end
$$;

-- All streams together: one row per minute in which some stream has a row. What follows from who is present is of everybody, also in
-- streams without a row of that minute; a user in two streams counts in both.
create table if not exists stream_totals_minute (
    window_start    timestamptz primary key,
    window_end      timestamptz not null,
    streams         bigint not null,                  -- streams with a row of that minute
    active_viewers  bigint not null,                  -- users who are present at the end of the window
    unique_viewers  bigint,                           -- users who are present at any instant of the window
    watch_ms        bigint,                           -- time that users are present in the window, summed
    chat_messages   bigint not null,                  -- chat messages in the window
    unique_chatters bigint,                           -- users with a chat message in the window
    donations       bigint,                           -- donations in the window
    donations_usd   numeric(20, 2) not null,          -- sum of the donations in the window, exact to the cent
    donors          bigint,                           -- users with a donation in the window
    epoch           bigint not null
) with (fillfactor = 70);

-- The same for hours and days (UTC), made of minutes that are closed by progress.watermark: they only grow, and are final once
-- window_end <= watermark. One row iff a closed minute of it has a row. Present users are those of its closed minutes.
create table if not exists stream_metrics_hour (
    window_start    timestamptz not null,             -- inclusive, a whole hour
    window_end      timestamptz not null,             -- exclusive: the next hour begins
    stream_id       text collate "C" not null,        -- 1 to 256 bytes, compared by bytes
    active_viewers  bigint not null,                  -- users who are present at the end of the window
    unique_viewers  bigint,                           -- users who are present at any instant of the window
    watch_ms        bigint,                           -- time that users are present in the window, summed
    chat_messages   bigint not null,                  -- chat messages in the window
    unique_chatters bigint,                           -- users with a chat message in the window
    donations       bigint,                           -- donations in the window
    donations_usd   numeric(20, 2) not null,          -- sum of the donations in the window, exact to the cent
    donors          bigint,                           -- users with a donation in the window
    peak_viewers    bigint,                           -- most users who are present at the end of one of the window's minutes
    epoch           bigint not null,                  -- the commit that last changed another column of this row
    primary key (window_start, stream_id)
) with (fillfactor = 70);
create index if not exists stream_metrics_hour_by_stream on stream_metrics_hour (stream_id, window_start desc);
create table if not exists stream_totals_hour (
    window_start    timestamptz primary key,
    window_end      timestamptz not null,
    streams         bigint not null,                  -- streams with a row of that hour
    active_viewers  bigint not null,                  -- users who are present at the end of the window
    unique_viewers  bigint,                           -- users who are present at any instant of the window
    watch_ms        bigint,                           -- time that users are present in the window, summed
    chat_messages   bigint not null,                  -- chat messages in the window
    unique_chatters bigint,                           -- users with a chat message in the window
    donations       bigint,                           -- donations in the window
    donations_usd   numeric(20, 2) not null,          -- sum of the donations in the window, exact to the cent
    donors          bigint,                           -- users with a donation in the window
    peak_viewers    bigint,                           -- most users who are present at the end of one of the window's minutes
    epoch           bigint not null
) with (fillfactor = 70);
create table if not exists stream_metrics_day (
    window_start    timestamptz not null,             -- inclusive, a whole day
    window_end      timestamptz not null,             -- exclusive: the next day begins
    stream_id       text collate "C" not null,        -- 1 to 256 bytes, compared by bytes
    active_viewers  bigint not null,                  -- users who are present at the end of the window
    unique_viewers  bigint,                           -- users who are present at any instant of the window
    watch_ms        bigint,                           -- time that users are present in the window, summed
    chat_messages   bigint not null,                  -- chat messages in the window
    unique_chatters bigint,                           -- users with a chat message in the window
    donations       bigint,                           -- donations in the window
    donations_usd   numeric(20, 2) not null,          -- sum of the donations in the window, exact to the cent
    donors          bigint,                           -- users with a donation in the window
    peak_viewers    bigint,                           -- most users who are present at the end of one of the window's minutes
    epoch           bigint not null,                  -- the commit that last changed another column of this row
    primary key (window_start, stream_id)
) with (fillfactor = 70);
create index if not exists stream_metrics_day_by_stream on stream_metrics_day (stream_id, window_start desc);
create table if not exists stream_totals_day (
    window_start    timestamptz primary key,
    window_end      timestamptz not null,
    streams         bigint not null,                  -- streams with a row of that day
    active_viewers  bigint not null,                  -- users who are present at the end of the window
    unique_viewers  bigint,                           -- users who are present at any instant of the window
    watch_ms        bigint,                           -- time that users are present in the window, summed
    chat_messages   bigint not null,                  -- chat messages in the window
    unique_chatters bigint,                           -- users with a chat message in the window
    donations       bigint,                           -- donations in the window
    donations_usd   numeric(20, 2) not null,          -- sum of the donations in the window, exact to the cent
    donors          bigint,                           -- users with a donation in the window
    peak_viewers    bigint,                           -- most users who are present at the end of one of the window's minutes
    epoch           bigint not null
) with (fillfactor = 70);

-- The newest minute row of each stream.
create table if not exists stream_state (
    stream_id      text collate "C" primary key,
    active_viewers bigint not null,
    window_start   timestamptz not null,              -- of the row that this was taken from; never goes back
    updated_at     timestamptz not null,              -- the database's clock at the commit that changed it
    epoch          bigint not null                    -- that commit
) with (fillfactor = 70);

-- Records that make no row, each with its raw bytes.
create table if not exists dead_letters (
    topic       text not null,
    partition   integer not null,
    "offset"    bigint not null,                      -- the record's own offset (bytes in a file log)
    reason      text not null,                        -- empty, invalid_utf8, ..., late, closed
    error       text not null,                        -- for people; at most 1,000 characters, no U+0000
    key         bytea,                                -- the record's key, null if it had none
    payload     bytea,                                -- the record's value as it was read, null if it had none
    record_time timestamptz,                          -- the log's own time of the record
    epoch       bigint not null,                      -- the commit that passed this record
    replayed_at timestamptz,                          -- when `dead-letters replay` published it again
    primary key (topic, partition, "offset")
);

-- How far the pipeline is. One row: there is one pipeline per schema.
create table if not exists progress (
    pipeline    text primary key,
    epoch       bigint not null,                      -- number of the last commit; only rises
    watermark   timestamptz,                          -- rows with window_end <= watermark are final; null: none yet
    fence       bigint not null,                      -- token of the run that may write; a new run takes the next
    fingerprint text not null,                        -- what must not change between runs
    hash_key    bytea not null,                       -- 16 bytes, drawn once: the key of the pipeline's hashes
    checkpoints jsonb not null,                       -- the valid checkpoints, newest first
    updated_at  timestamptz not null,                 -- the database's clock at the last commit
    run          text,                                -- random name of the run that holds the fence token
    heartbeat_at timestamptz,                         -- the database's clock at that run's last sign of life, every 2 s
    trouble      text,                                -- what holds the pipeline up at the moment; null: nothing
    schema_version integer,                           -- version of these tables; null: 1
    metrics     text,                                 -- the metrics that the tables have, with commas between them
    hours_from  timestamptz,                          -- hours that start at or after it are there as far as they are closed; null: none
    days_from   timestamptz,                          -- days likewise
    minutes_from timestamptz                          -- rows and totals of minutes before it were dropped (RETENTION); null: none
) with (fillfactor = 50);

create table if not exists progress_partitions (
    pipeline     text not null,
    topic        text not null,
    partition    integer not null,
    start_offset bigint not null,                     -- the first offset that the pipeline read
    next_offset  bigint not null,                     -- exclusive: every record below it is in the tables
    end_offset   bigint not null,                     -- the log's end as last seen
    watermark    timestamptz,                         -- highest valid ts minus lateness; null: no valid event yet
    state        text not null,                       -- backlogged, at_end, idle or not_counting
    letters_from bigint,                              -- dead letters below it were dropped (RETENTION_DEAD_LETTERS); null: none
    primary key (pipeline, topic, partition)
) with (fillfactor = 50);

-- The next offsets at each commit that closed a minute. A start without a checkpoint replays from the newest row whose earlier events cannot
-- change a row that is not final. That one is kept, and all newer ones; of older ones the first of each hour for 8 days, and of each day
-- for 400: verify and rebuild recompute from them.
create table if not exists progress_history (
    pipeline   text not null,
    watermark  timestamptz not null,                  -- the watermark of the commit
    epoch      bigint not null,                       -- the commit's number
    taken_at   timestamptz not null,                  -- the database's clock at the commit
    highest    bigint,                                -- highest ts below the offsets that was not rejected as future, in ns since 1970; null: none
    partitions jsonb not null,                        -- of each: next_offset, and highest as above
    checksum   bigint not null,                       -- CRC-32 of hash_key, watermark and partitions
    primary key (pipeline, watermark)
);

-- Windows whose rows cannot be exact, because records that they are made of expired before they could be read (again): those that end after
-- inexact_from and begin before inexact_until. `tidemark-dataflow recover` writes it.
create table if not exists inexact_windows (
    pipeline      text not null,
    inexact_from  timestamptz not null,
    inexact_until timestamptz not null,
    epoch         bigint not null,                    -- the commit that marked them
    marked_at     timestamptz not null,               -- the database's clock at that commit
    why           text not null,                      -- what is missing
    primary key (pipeline, inexact_from, inexact_until)
);
