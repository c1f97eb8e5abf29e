-- The same tables as in sql/init, for the embedded store. Times are microseconds since 1970 (UTC), money is whole cents.

create table if not exists stream_metrics_minute (
    window_start    integer not null,
    window_end      integer not null,
    stream_id       text not null collate binary,
    active_viewers  integer not null,
    unique_viewers  integer,
    watch_ms        integer,
    chat_messages   integer not null,
    unique_chatters integer,
    donations       integer,
    donations_cents integer not null,
    donors          integer,
    epoch           integer not null,
    primary key (window_start, stream_id)
) strict, without rowid;
create index if not exists stream_metrics_minute_by_stream on stream_metrics_minute (stream_id, window_start desc);

create table if not exists stream_totals_minute (
    window_start    integer not null primary key,
    window_end      integer not null,
    streams         integer not null,
    active_viewers  integer not null,
    unique_viewers  integer,
    watch_ms        integer,
    chat_messages   integer not null,
    unique_chatters integer,
    donations       integer,
    donations_cents integer not null,
    donors          integer,
    epoch           integer not null
) strict;

create table if not exists stream_state (
    stream_id      text not null collate binary primary key,
    active_viewers integer not null,
    window_start   integer not null,
    updated_at     integer not null,
    epoch          integer not null
) strict, without rowid;

create table if not exists dead_letters (
    topic       text not null,
    partition   integer not null,
    "offset"    integer not null,
    reason      text not null,
    error       text not null,
    key         blob,
    payload     blob,
    record_time integer,
    epoch       integer not null,
    replayed_at integer,
    primary key (topic, partition, "offset")
) strict;

create table if not exists progress (
    pipeline    text not null primary key,
    epoch       integer not null,
    watermark   integer,
    fence       integer not null,
    fingerprint text not null,
    hash_key    blob not null,
    checkpoints text not null,
    updated_at  integer not null,
    run          text,
    heartbeat_at integer,
    trouble      text,
    schema_version integer,
    metrics      text
) strict;

create table if not exists progress_partitions (
    pipeline     text not null,
    topic        text not null,
    partition    integer not null,
    start_offset integer not null,
    next_offset  integer not null,
    end_offset   integer not null,
    watermark    integer,
    state        text not null,
    primary key (pipeline, topic, partition)
) strict, without rowid;
