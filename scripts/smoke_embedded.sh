#!/usr/bin/env bash
# Runs `make run` as a user would, in a data directory and on ports of its own, and looks at it from outside: rows are
# served, a second run and a reset are refused, Ctrl-C leaves nothing running, the next run goes on with the same data.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ready_s=60 # building is over before it counts
stop_s=30

work=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-smoke.XXXXXX")
data=$work/data # never exported: processes are told apart by it
export EVENTS_PER_SEC=${EVENTS_PER_SEC:-50}
unset DATA_DIR KAFKA_BOOTSTRAP BOOTSTRAP DATABASE_URL DATABASE_URL_FILE PG_URL PG_URL_FILE PG_HOST
api=$(free_port)
metrics=$(free_port)
while ((metrics == api)); do metrics=$(free_port); done
export API_ADDR=127.0.0.1:$api METRICS_ADDR=127.0.0.1:$metrics
run=

# Every process of the runs, run.sh among them: known by the data directory in the environment that it was started with.
run_processes() {
  grep -slzxF "DATA_DIR=$data" /proc/[0-9]*/environ | cut -d / -f 3 || true
}

finish() {
  local status=$? pids
  trap '' INT TERM
  trap - EXIT
  if [[ -n $run ]] && alive "$run"; then
    kill -TERM "$run" 2>/dev/null || true
    await "$stop_s" gone "$run" || kill -KILL "$run" 2>/dev/null || true
  fi
  mapfile -t pids < <(run_processes)
  if ((${#pids[@]} > 0)); then kill -KILL "${pids[@]}" 2>/dev/null || true; fi
  rm -rf -- "$work"
  exit "$status"
}

# --- what is checked --------------------------------------------------------------------------------------------

passed=0
failed=0

# What the run and the programs said up to the first failure.
show() {
  tail -n 30 "$work/run.out" "$data"/logs/*.log >&2 2>/dev/null || true
}

# expect WHAT COMMAND...
expect() {
  local what=$1
  shift
  if "$@"; then
    say "ok      $what"
    passed=$((passed + 1))
  else
    say "FAILED  $what"
    if ((failed == 0)); then show; fi
    failed=$((failed + 1))
  fi
}

is_up() {
  ! alive "$run" || grep -qs '^Tidemark is running' "$work/run.out"
}

# A job of its own gets the default for SIGINT, which a script's background commands otherwise ignore.
start_run() {
  set -m
  DATA_DIR=$data "$root/scripts/run.sh" >"$work/run.out" 2>&1 </dev/null &
  run=$!
  set +m
  await "$ready_s" is_up && alive "$run"
}

# end_run SIGNAL PID: true if it then ended well and in time.
end_run() {
  kill -s "$1" -- "$2"
  await "$stop_s" gone "$run" && wait "$run"
}

api_says() {
  local body
  body=$(http_get 127.0.0.1 "$api" "$1") && [[ $body =~ $2 ]]
}

# The page names its files under a hash of them, and they are there.
dashboard_is_served() {
  local body
  body=$(http_get 127.0.0.1 "$api" /) && [[ $body =~ \"(assets/[0-9a-f]+/main\.js)\" ]] && api_says "/${BASH_REMATCH[1]}" 'import '
}

metrics_say() {
  local body
  body=$(http_get 127.0.0.1 "$metrics" /metrics) && [[ $body =~ (^|$'\n')tidemark_ ]]
}

# Sets `epoch`.
read_epoch() {
  local body
  body=$(http_get 127.0.0.1 "$api" /health) && [[ $body =~ \"epoch\":\ *([0-9]+) ]] && epoch=${BASH_REMATCH[1]}
}

epoch_is_past() {
  read_epoch && ((epoch > $1))
}

refused() {
  ! DATA_DIR=$data timeout 20 "$@" >"$work/refused.out" 2>&1 && grep -qF "$data" "$work/refused.out"
}

nothing_runs() {
  [[ -z $(run_processes) ]]
}

free() {
  ! port_taken 127.0.0.1 "$1"
}

absent() {
  [[ ! -e $1 ]]
}

# --- the story --------------------------------------------------------------------------------------------------

trap finish EXIT
trap 'exit 130' INT TERM HUP
build_programs

epoch=0
expect "the three programs start and say so" start_run
expect "rows of the last minutes are served" await 15 api_says '/metrics?minutes=10&limit=1' '"rows": *\[ *\{'
expect "/health says ok" api_says /health '"ok": *true'
expect "the dashboard and its files are served" dashboard_is_served
expect "the dataflow serves its own metrics" metrics_say
expect "a second run on the same data is refused" refused "$root/scripts/run.sh"
expect "a reset while it runs is refused" refused "$root/scripts/reset.sh"
expect "/health tells the epoch" read_epoch
before=$epoch
expect "Ctrl-C ends it well" end_run INT "-$run" # a terminal sends it to the whole group
expect "no process is left" nothing_runs
expect "its port is free again" free "$api"
expect "it starts again on the same data" start_run
expect "its commits go on where they were" await 15 epoch_is_past "$before"
expect "SIGTERM ends it well" end_run TERM "$run"
expect "no process is left again" nothing_runs
expect "a reset removes the data" env DATA_DIR="$data" "$root/scripts/reset.sh"
expect "the data directory is gone" absent "$data"

echo "smoke: $passed passed, $failed failed"
((failed == 0))
