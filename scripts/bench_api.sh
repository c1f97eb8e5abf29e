#!/usr/bin/env bash
# How many requests a second the api answers with 10,000 streams in Postgres: hot (one epoch) and cold (commits at up to
# ten a second; the rate that was reached is printed with each figure).
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: bench_api.sh [SECONDS [CONNECTIONS]]      10 seconds, 32 connections by default

Makes a database of its own in the Postgres of TIDEMARK_TEST_POSTGRES (or starts one), with 10,000 streams in each of the last
120 minutes, and lets wrk ask tidemark-api. Needs wrk and psql. TIDEMARK_BIN_DIR names programs that are built already.
TEXT
}

case ${1:-} in -h | --help | help) usage && exit 0 ;; esac
seconds=${1:-10}
connections=${2:-32}
streams=10000
minutes=120
for tool in wrk psql; do have "$tool" || die "$tool is not installed: apt-get install wrk postgresql-client"; done

work=$(mktemp -d)
pids=()
cleanup() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait || true
  if [[ -n ${database:-} ]]; then psql -qX "$server/postgres" -c "drop database if exists $database with (force)" >/dev/null || true; fi
  if [[ -d $work/services ]]; then "$root/scripts/services.sh" stop "$work/services" || true; fi
  rm -rf -- "$work"
}
trap cleanup EXIT

if [[ -z ${TIDEMARK_TEST_POSTGRES:-} ]]; then eval "$("$root/scripts/services.sh" start "$work/services" postgres)"; fi
server=${TIDEMARK_TEST_POSTGRES%/*}
if [[ -n ${TIDEMARK_BIN_DIR:-} ]]; then bin=$TIDEMARK_BIN_DIR; else
  (cd "$root" && cargo build --release --quiet -p tidemark-api) || die "the build failed (above)"
  bin=$(target_dir)/release
fi

database=tidemark_bench_api_$$
psql -qX "$server/postgres" -c "create database $database" >/dev/null
say "writing $((streams * minutes)) rows"
psql -qX -v ON_ERROR_STOP=1 "$server/$database" -f "$root/sql/init/001_tables.sql" >/dev/null
psql -qX -v ON_ERROR_STOP=1 "$server/$database" >/dev/null <<SQL
insert into stream_metrics_minute
  select at, at + interval '1 minute', 'stream-' || number, (number * 7919 + ago) % 5000, (number * 104729 + ago) % 900,
    ((number::bigint * 15485863 + ago) % 100000)::numeric / 100, 1
  from generate_series(0, $minutes - 1) ago, generate_series(1, $streams) number,
    lateral (select date_trunc('minute', now()) - make_interval(mins => ago) as at) start;
insert into progress values ('bench', 1, now() - interval '10 minutes', 1, 'kafka:bench', '\\x00', '[]', now());
vacuum analyze;
SQL

port=$(free_port)
env API_ADDR="127.0.0.1:$port" DATABASE_URL="$server/$database" RUST_LOG=warn "$bin/tidemark-api" 2>"$work/api.log" &
pids+=($!)
await 20 http_get 127.0.0.1 "$port" /health >/dev/null || die "the api did not start: $(<"$work/api.log")"

say "machine   $(nproc) cores,$(sed -n 's/^model name[^:]*://p' /proc/cpuinfo | head -n 1), load $(cut -d' ' -f1-3 /proc/loadavg)"
say "version   $("$bin/tidemark-api" --version), git $(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)"

ask() {
  local path=$2
  say "$1  wrk -t2 -c$connections -d${seconds}s --latency http://127.0.0.1:$port$path"
  wrk -t2 -c"$connections" -d"${seconds}s" --latency "http://127.0.0.1:$port$path" |
    grep -E 'Requests/sec|50%|99%|Transfer|Non-2xx|Socket errors' | sed 's/^ */          /'
}

paths=('/metrics?minutes=60&limit=200' '/streams/top' '/streams/top?by=chat_messages&minutes=60&n=50' '/streams')
for path in "${paths[@]}"; do ask "hot " "$path"; done

# Commits of 200 changed rows, announced as the dataflow announces them. The rows are looked up by their key, so that a commit
# costs little and ten a second are possible; how many there really were is measured, not assumed.
cat >"$work/commit.sql" <<'SQL'
with moved as (update progress set epoch = epoch + 1, updated_at = now() returning epoch),
  newest as materialized (select max(window_start) as start from stream_metrics_minute),
  keys as materialized (
    select newest.start, 'stream-' || 1 + (moved.epoch * 200 + number) % 10000 as stream_id, moved.epoch
    from moved, newest, generate_series(1, 200) number),
  changed as (
    update stream_metrics_minute r set chat_messages = chat_messages + 1, epoch = keys.epoch from keys
    where r.window_start = keys.start and r.stream_id = keys.stream_id returning 1)
select pg_notify('tidemark_epoch', epoch::text), (select count(*) from changed) from moved \watch 0.1
SQL
psql -qXAt "$server/$database" -f "$work/commit.sql" >"$work/commits" 2>&1 &
pids+=($!)
sleep 1

epoch() { psql -qXAt "$server/$database" -c 'select epoch from progress'; }
now_ms() { date +%s%3N; }
for path in "${paths[@]}"; do
  from=$(epoch) since=$(now_ms)
  ask "cold" "$path"
  awk -v commits="$(($(epoch) - from))" -v ms="$(($(now_ms) - since))" \
    'BEGIN { printf "          epoch changed %d times in %.1f s: %.1f a second\n", commits, ms / 1000, commits / ms * 1000 }'
done
say "changed rows of a commit (want 200): $(grep -o '[0-9]*$' "$work/commits" | sort | uniq -c | sort -rn | head -n 1)"
