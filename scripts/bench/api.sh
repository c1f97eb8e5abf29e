# shellcheck shell=bash
# How many requests a second the api answers with 10,000 streams in Postgres: hot (one epoch) and cold (commits at up to ten a
# second; the rate that was reached is told with each figure). Sourced by bench.sh.
# shellcheck disable=SC2154 # variables of common.sh

api() {
  local seconds=${1:-10} connections=${2:-32} streams=10000 minutes=120 port path
  local paths=('/metrics?minutes=60&limit=200' '/streams/top' '/streams/top?by=chat_messages&minutes=60&n=50' '/streams')
  have wrk || die "wrk is not installed: apt-get install wrk"
  build_programs
  find_postgres || die "the api is measured with a real Postgres: apt-get install postgresql"
  heading tidemark-api
  new_database
  say "data      $streams streams in each of the last $minutes minutes"
  fill_tables "$streams" "$minutes"
  port=$(free_port)
  in_background api env API_ADDR="127.0.0.1:$port" DATABASE_URL="$database_url" RUST_LOG=warn "$bin/tidemark-api"
  await 20 http_get 127.0.0.1 "$port" /health >/dev/null || die "the api did not start: $(<"$work/api.log")"
  for path in "${paths[@]}"; do ask hot "$path"; done
  start_commits
  for path in "${paths[@]}"; do ask cold "$path"; done
  say "changed rows of a commit (want 200): $(grep -o '[0-9]*$' "$work/commits.out" | sort | uniq -c | sort -rn | head -n 1)"
}

# fill_tables STREAMS MINUTES
fill_tables() {
  psql -qX -v ON_ERROR_STOP=1 "$database_url" -f "$root/sql/init/001_tables.sql" >/dev/null
  psql -qX -v ON_ERROR_STOP=1 "$database_url" >/dev/null <<SQL
insert into stream_metrics_minute
  select at, at + interval '1 minute', 'stream-' || number, (number * 7919 + ago) % 5000, (number * 7919 + ago) % 5000 + 9,
    (number * 7919 + ago) % 5000 * 60000, (number * 104729 + ago) % 900, (number * 104729 + ago) % 300, number % 10,
    ((number::bigint * 15485863 + ago) % 100000)::numeric / 100, number % 7, 1
  from generate_series(0, $2 - 1) ago, generate_series(1, $1) number,
    lateral (select date_trunc('minute', now()) - make_interval(mins => ago) as at) start;
insert into stream_totals_minute
  select window_start, window_end, count(*), sum(active_viewers), sum(unique_viewers), sum(watch_ms), sum(chat_messages),
    sum(unique_chatters), sum(donations), sum(donations_usd), sum(donors), 1
  from stream_metrics_minute group by 1, 2;
insert into progress (pipeline, epoch, watermark, fence, fingerprint, hash_key, checkpoints, updated_at)
values ('bench', 1, now() - interval '10 minutes', 1, 'kafka:bench', '\\x00', '[]', now());
vacuum analyze;
SQL
}

# Commits of 200 changed rows, announced as the dataflow announces them. The rows are looked up by their key, so that a commit
# costs little and ten a second are possible; how many there really were is measured, not assumed.
start_commits() {
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
  in_background commits psql -qXAt "$database_url" -f "$work/commit.sql"
  sleep 1
}

# ask hot|cold PATH
ask() {
  local from since commits ms requests p50 p99 failed
  from=$(sql 'select epoch from progress') since=$(now_ms)
  say "$1  wrk -t2 -c$connections -d${seconds}s --latency http://127.0.0.1:$port$2"
  wrk -t2 -c"$connections" -d"${seconds}s" --latency "http://127.0.0.1:$port$2" >"$work/out" || die "wrk failed: $(<"$work/out")"
  commits=$(($(sql 'select epoch from progress') - from)) ms=$(($(now_ms) - since))
  grep -E 'Requests/sec|50%|99%|Transfer|Non-2xx|Socket errors' "$work/out" | sed 's/^ */          /' >&2
  if [[ $1 == cold ]]; then
    say "$(awk -v n="$commits" -v ms="$ms" 'BEGIN { printf "          epoch changed %d times in %.1f s: %.1f a second", n, ms / 1000, n / ms * 1000 }')"
  fi
  requests=$(awk '/^Requests\/sec:/ { print $2 }' "$work/out")
  p50=$(milliseconds 50%) p99=$(milliseconds 99%)
  failed=$(awk '/Non-2xx/ { n += $NF } /Socket errors/ { gsub(/[^0-9 ]/, ""); n += $1 + $2 + $3 + $4 } END { print n + 0 }' "$work/out")
  ((failed == 0)) || say "          $failed requests failed"
  record api state="$1" path="$2" connections="$connections" requests_per_s="$requests" p50_ms="$p50" p99_ms="$p99" \
    failed_records="$failed" commits_per_s="$(awk -v n="$commits" -v ms="$ms" 'BEGIN { printf "%.1f", n / ms * 1000 }')"
}

now_ms() {
  date +%s%3N
}

# milliseconds PERCENTILE: wrk writes it in the unit that fits.
milliseconds() {
  awk -v p="$1" '$1 == p { n = $2 + 0; if ($2 ~ /us$/) n /= 1000; else if ($2 !~ /ms$/) n *= 1000; printf "%.2f", n }' "$work/out"
}
