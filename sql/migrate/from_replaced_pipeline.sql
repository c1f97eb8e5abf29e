-- Takes over the tables of the replaced pipeline (Spark's: money as double, no epoch), in one transaction:
--
--   psql --single-transaction -v ON_ERROR_STOP=1 -f sql/migrate/from_replaced_pipeline.sql DATABASE_URL
--
-- Its stream_metrics_minute and stream_state stay under the names replaced_…; drop them once you are content. Their rows are copied,
-- with money rounded half-up to cents, epoch 0, and null in the metrics that it did not have. What the log still has, tidemark-dataflow then
-- computes anew over them; older rows stay as the replaced pipeline left them, without hours and days (`verify` reports them as rows that the log knows nothing of). Run
-- it with the dataflow stopped.

alter table stream_metrics_minute rename to replaced_stream_metrics_minute;
alter table if exists stream_state rename to replaced_stream_state;
-- The names of their keys and indexes too, which the new tables need.
do $$
declare
  old record;
begin
  for old in
    select i.indexrelid::regclass as name, c.relname as plain
    from pg_index i
      join pg_class c on c.oid = i.indexrelid
    where i.indrelid in (to_regclass('replaced_stream_metrics_minute'), to_regclass('replaced_stream_state'))
  loop
    execute format('alter index %s rename to %I', old.name, 'replaced_' || old.plain);
  end loop;
end
$$;

\ir ../init/001_tables.sql
-- A partition for all days of the old rows.
do $$
declare
  until timestamptz;
begin
  select date_trunc('day', coalesce(max(window_start), now()), 'UTC') + interval '24 hours' into until from replaced_stream_metrics_minute;
  execute format('create table stream_metrics_minute_before partition of stream_metrics_minute for values from (minvalue) to (%L)
    with (fillfactor = 70)', until);
end
$$;

insert into stream_metrics_minute (window_start, window_end, stream_id, active_viewers, chat_messages, donations_usd, epoch)
select window_start, window_start + interval '1 minute', stream_id, coalesce(active_viewers, 0), coalesce(chat_messages, 0),
    round(coalesce(donations_usd, 0)::numeric, 2), 0
from replaced_stream_metrics_minute
where window_start = date_trunc('minute', window_start);

insert into stream_state
select distinct on (stream_id) stream_id, active_viewers, window_start, now(), 0
from stream_metrics_minute
order by stream_id, window_start desc;
