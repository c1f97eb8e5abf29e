-- Adds to an older version's tables the tables and columns that came since. The dataflow does this by itself at its start if its role owns the
-- tables; otherwise the owner runs this once, while the dataflow is stopped or running:
--
--   psql -v ON_ERROR_STOP=1 -f sql/migrate/added_columns.sql DATABASE_URL
--
-- The columns are null in rows that the older version wrote. No row is written anew. Roles of your own need rights on a new table: SELECT,
-- INSERT and UPDATE on stream_totals_minute for the writer, SELECT for the api's.

\ir ../init/001_tables.sql

alter table progress
    add column if not exists run text,
    add column if not exists heartbeat_at timestamptz,
    add column if not exists trouble text,
    add column if not exists schema_version integer,
    add column if not exists metrics text;

alter table stream_metrics_minute
    add column if not exists unique_viewers bigint,
    add column if not exists watch_ms bigint,
    add column if not exists unique_chatters bigint,
    add column if not exists donations bigint,
    add column if not exists donors bigint;

alter table stream_totals_minute
    add column if not exists unique_viewers bigint,
    add column if not exists watch_ms bigint,
    add column if not exists unique_chatters bigint,
    add column if not exists donations bigint,
    add column if not exists donors bigint;
