#!/usr/bin/env bash
# Run once by Postgres's container on a fresh volume, after the tables: the two roles that DESIGN names. The writer owns the tables,
# because it applies 001_tables.sql itself; the reader may only read. Their passwords are the stack's secrets.
set -euo pipefail
psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  -v database="$POSTGRES_DB" <<'SQL'
\set writer_password `cat /run/secrets/writer_password`
\set reader_password `cat /run/secrets/reader_password`
create role tidemark_writer login password :'writer_password';
create role tidemark_reader login password :'reader_password';
alter role tidemark_reader set default_transaction_read_only = on;

revoke all on database :"database" from public;
grant connect on database :"database" to tidemark_writer, tidemark_reader;
-- A rebuild makes its rows in a schema of its own and then swaps them in.
grant create on database :"database" to tidemark_writer;
grant usage, create on schema public to tidemark_writer;
grant usage on schema public to tidemark_reader;

do $$
declare
    name regclass;
begin
    for name in select format('%I.%I', schemaname, tablename)::regclass from pg_tables where schemaname = 'public' loop
        execute format('alter table %s owner to tidemark_writer', name);
    end loop;
end
$$;
grant select on all tables in schema public to tidemark_reader;
-- Tables that a later version of the writer adds.
alter default privileges for role tidemark_writer in schema public grant select on tables to tidemark_reader;
SQL
