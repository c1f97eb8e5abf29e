# shellcheck shell=bash
# The sink alone: our Postgres store beside Postgres's own COPY and merge, with the same rows. Sourced by bench.sh.
# shellcheck disable=SC2154 # variables of common.sh

sink() {
  local streams=${1:-10000} minutes=${2:-10} updates=10 turn insert
  bin=${TIDEMARK_BIN_DIR:-$(target_dir)/release}
  build_example tidemark-dataflow sink_rate
  find_postgres || die "the sink is measured with a real Postgres: apt-get install postgresql"
  heading tidemark-dataflow
  say "data      $streams streams x $minutes minutes: one commit of new rows, then $updates of new values for all of them"
  say "command   examples/sink_rate.rs; psql: COPY into a temporary table, insert … select … on conflict do update"
  say "server    $(psql -qXAt "$postgres" -c "select string_agg(name || '=' || setting, ' ') from pg_settings
    where name in ('fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers', 'wal_level')")"
  "$bin/examples/sink_rate" --streams "$streams" --minutes "$minutes" --updates "$updates" --write-rows "$work"
  for ((turn = 0; turn < repeat; turn++)); do
    our_store "$streams" "$minutes" "$updates"
    copy_and_merge minutes "$streams" "$minutes" "$updates"
    copy_and_merge both "$streams" "$minutes" "$updates"
  done
  for turn in minutes both; do
    paired "ours insert" "$turn insert"
    insert=$ratio
    paired "ours update" "$turn update"
    say "updates: ours $(shown) x COPY and merge ($turn)"
    record sink-ratio against="copy-$turn" streams="$streams" minutes="$minutes" insert_ratio="$insert" update_ratio="$ratio"
  done
}

our_store() {
  new_database
  measure env DATABASE_URL="$database_url" "$bin/examples/sink_rate" --streams "$1" --minutes "$2" --updates "$3"
  tell_rates ours "our Store::commit" "$1" "$2" <"$work/out"
}

# copy_and_merge minutes|both …: into the minutes' table alone, or into the streams' state too as our commit does.
copy_and_merge() {
  local what=$1 updates=$4 number
  new_database
  psql -qX -v ON_ERROR_STOP=1 "$database_url" -f "$root/sql/init/001_tables.sql" >/dev/null
  {
    echo 'create temporary table changed (like stream_metrics_minute);'
    for ((number = 0; number <= updates; number++)); do
      printf "\\\\! date +%%s%%N\nbegin;\ntruncate changed;\n\\\\copy changed from '%s'\n" "$work/$number.tsv"
      merge "$what"
      echo 'commit;'
    done
    printf '\\! date +%%s%%N\n'
  } >"$work/copy.sql"
  psql -qXAt -v ON_ERROR_STOP=1 "$database_url" -f "$work/copy.sql" >"$work/stamps"
  awk -v rows="$(($2 * $3))" 'NR > 1 { printf "%s %d %.6f\n", NR == 2 ? "insert" : "update", rows, ($1 - last) / 1e9 } { last = $1 }' \
    "$work/stamps" >"$work/out"
  tell_rates "$what" "COPY and merge ($what)" "$2" "$3" <"$work/out"
}

merge() {
  cat <<'SQL'
insert into stream_metrics_minute select * from changed
  on conflict (window_start, stream_id) do update set active_viewers = excluded.active_viewers,
    unique_viewers = excluded.unique_viewers, watch_ms = excluded.watch_ms, chat_messages = excluded.chat_messages,
    unique_chatters = excluded.unique_chatters, donations = excluded.donations, donations_usd = excluded.donations_usd,
    donors = excluded.donors, epoch = excluded.epoch;
SQL
  if [[ $1 == both ]]; then
    cat <<'SQL'
insert into stream_state select distinct on (stream_id) stream_id, active_viewers, window_start, now(), epoch
    from changed order by stream_id, window_start desc
  on conflict (stream_id) do update set active_viewers = excluded.active_viewers,
    window_start = excluded.window_start, updated_at = excluded.updated_at, epoch = excluded.epoch;
SQL
  fi
}

# tell_rates KEY NAME STREAMS MINUTES: from lines of kind, rows and seconds.
tell_rates() {
  local insert update
  read -r insert update < <(awk '{ rows[$1] += $2; time[$1] += $3 }
    END { printf "%.0f %.0f\n", rows["insert"] / time["insert"], rows["update"] / time["update"] }')
  printf '%-28s %9s inserts/s  %9s updates/s\n' "$2" "$insert" "$update" >&2
  sample "$1 insert" "$insert"
  sample "$1 update" "$update"
  record sink how="$2" streams="$3" minutes="$4" inserts_per_s="$insert" updates_per_s="$update"
}
