-- Adds the columns by which a run is told apart and its life is seen. The dataflow does this by itself at its start if its role owns the
-- table; otherwise the owner runs this once, while the dataflow is stopped or running:
--
--   psql -v ON_ERROR_STOP=1 -f sql/migrate/run_and_heartbeat.sql DATABASE_URL

alter table progress
    add column if not exists run text,
    add column if not exists heartbeat_at timestamptz,
    add column if not exists trouble text;
