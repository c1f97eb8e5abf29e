-- The same tables as in sql/init, for the embedded store. Times are microseconds since 1970 (UTC). Those of metrics, in which money is whole
-- cents, come from what is declared (dataflow/model/src/tables.rs).

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
    metrics      text,
    hours_from   integer,
    days_from    integer,
    minutes_from integer
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
    letters_from integer,
    primary key (pipeline, topic, partition)
) strict, without rowid;

create table if not exists progress_history (
    pipeline   text not null,
    watermark  integer not null,
    epoch      integer not null,
    taken_at   integer not null,
    highest    integer,
    partitions text not null,
    checksum   integer not null,
    primary key (pipeline, watermark)
) strict, without rowid;

create table if not exists inexact_windows (
    pipeline      text not null,
    inexact_from  integer not null,
    inexact_until integer not null,
    epoch         integer not null,
    marked_at     integer not null,
    why           text not null,
    primary key (pipeline, inexact_from, inexact_until)
) strict;
