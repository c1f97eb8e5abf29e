#!/usr/bin/env bash
# Is a running installation right? Puts known events in, expects exact numbers in the database and from the API, kills the processor
# with traffic flowing, and expects that nothing was lost. One line for each check; every wait has an end.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: smoke.sh [stack]      the stack of compose.yaml (make up starts it)
       smoke.sh elsewhere    any other installation with Kafka and Postgres; needs kcat and psql. What it cannot do from
                             outside (a kill -9, looking into containers) it leaves out and says so

with elsewhere:
  API_URL          the api                        (http://127.0.0.1:8000)
  PROCESSOR_URL    the dataflow's own metrics     (http://127.0.0.1:9100)
  KAFKA_BOOTSTRAP  a broker                       (127.0.0.1:9092)
  KAFKA_TOPIC      the topic                      (stream.events)
  DATABASE_URL     Postgres; reading is enough    (needed)
  PROCESSOR_PID    kill this process too, if something starts it again at once
  VERIFY           a command that compares the tables with the log, e.g. "tidemark-dataflow verify"

SMOKE_WAIT (60) is the longest wait of a check, in seconds. TIDEMARK_TEST_REQUIRE=1: what is left out has failed.
TEXT
}

target=${1:-stack}
wait_s=${SMOKE_WAIT:-60}
case $target in
  stack | elsewhere) ;;
  -h | --help | help)
    usage
    exit
    ;;
  *)
    usage >&2
    exit 2
    ;;
esac

# --- how this installation is reached -------------------------------------------------------------------------------

have curl || die "curl is not installed: apt-get install curl"

if [[ $target == stack ]]; then
  require_engine
  topic=$(setting KAFKA_TOPIC)
  api=http://$(compose port metrics-api 8000 2>/dev/null) || die "the stack does not run: make up"
  processor=http://$(compose port stream-processor 9100 2>/dev/null) || die "the processor does not run: make doctor says why"
else
  have kcat || die "kcat is not installed: apt-get install kcat"
  have psql || die "psql is not installed: apt-get install postgresql-client"
  [[ -n ${DATABASE_URL:-} ]] || die "DATABASE_URL is not set: postgres://user:password@host:port/database"
  topic=${KAFKA_TOPIC:-stream.events}
  api=${API_URL:-http://127.0.0.1:8000}
  processor=${PROCESSOR_URL:-http://127.0.0.1:9100}
  broker=${KAFKA_BOOTSTRAP:-127.0.0.1:9092}
fi

# sql STATEMENT: rows with | between columns.
sql() {
  case $target in
    stack) stack_sql "$1" ;;
    elsewhere) timeout 20 psql "$DATABASE_URL" -XAtq -v ON_ERROR_STOP=1 -c "$1" ;;
  esac
}

# publish FILE: its lines as records, as they are.
publish() {
  case $target in
    stack) compose run --rm -T --no-deps event-generator send - <"$1" >"$work/publish" 2>&1 ;;
    elsewhere) timeout 60 kcat -P -b "$broker" -t "$topic" -l "$1" >"$work/publish" 2>&1 ;;
  esac
}

# One line for each partition of the topic: the offset of its end.
end_offsets() {
  local partition
  case $target in
    stack) in_kafka kafka-get-offsets --topic "$topic" 2>/dev/null | sed -n "s/^.*:[0-9]*:\([0-9]*\)$/\1/p" ;;
    elsewhere)
      for partition in $(timeout 20 kcat -L -b "$broker" -t "$topic" | sed -n 's/^ *partition \([0-9]*\),.*/\1/p'); do
        timeout 20 kcat -Q -b "$broker" -t "$topic:$partition:-1" | sed -n 's/.* offset \([0-9]*\)$/\1/p'
      done
      ;;
  esac
}

# --- checks ---------------------------------------------------------------------------------------------------------

work=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-smoke.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM HUP

passed=0
failed=0
left_out=0
reason= # set by a check that fails

# expect WHAT HINT COMMAND...
expect() {
  local what=$1 hint=$2 from=$SECONDS
  shift 2
  reason=
  if "$@"; then
    say "ok        $what ($((SECONDS - from)) s)"
    passed=$((passed + 1))
  else
    say "FAILED    $what: ${reason:-no}"
    say "          hint: $hint"
    failed=$((failed + 1))
  fi
}

leave_out() {
  if [[ ${TIDEMARK_TEST_REQUIRE:-} == 1 ]]; then
    say "FAILED    $1: left out, and TIDEMARK_TEST_REQUIRE=1"
    failed=$((failed + 1))
  else
    say "LEFT OUT  $1"
    left_out=$((left_out + 1))
  fi
}

# get PATH PATTERN: the api answers 200, and the pattern matches. What it answered is in `body`.
get() {
  local status
  status=$(curl -sS --max-time 10 -o "$work/body" -w '%{http_code}' "$api$1" 2>"$work/curl") || {
    reason="$api$1: $(<"$work/curl")"
    return 1
  }
  body=$(head -c 4000 "$work/body" | tr -d '\0')
  if [[ $status != 200 ]] || ! grep -Eq -- "$2" "$work/body"; then
    reason="$api$1 answered $status ${body:0:300}"
    return 1
  fi
}

# Sets `value` to a metric of the processor.
read_metric() {
  value=$(curl -sS --max-time 10 "$processor/metrics" 2>"$work/curl" | sed -n "s/^$1 \([0-9]*\).*/\1/p" | head -n 1)
  [[ -n $value ]] || {
    reason="$processor/metrics does not tell $1 $(<"$work/curl")"
    return 1
  }
}

metric_is_past() {
  read_metric "$1" || return 1
  ((value > $2)) || {
    reason="$1 stays at $value"
    return 1
  }
}

epoch_advances() {
  local before
  await "$wait_s" read_metric tidemark_epoch || return 1
  before=$value
  await "$wait_s" metric_is_past tidemark_epoch "$before"
}

# sql_says STATEMENT EXPECTED
sql_says() {
  local answer
  answer=$(sql "$1" 2>"$work/psql") || {
    reason="Postgres: $(<"$work/psql")"
    return 1
  }
  [[ $answer == "$2" ]] || {
    reason="expected $2, Postgres has ${answer:-nothing}"
    return 1
  }
}

topic_exists() {
  local ends
  ends=$(end_offsets) || true
  partitions=$(grep -c . <<<"$ends") || {
    reason="topic $topic has no partitions or does not exist"
    return 1
  }
}

sum_of_ends() {
  ends=$(end_offsets | awk '{ sum += $1 } END { printf "%.0f", sum }')
}

ends_are_past() {
  sum_of_ends
  ((ends > $1)) || {
    reason="the ends of the partitions add up to $ends, and do not change"
    return 1
  }
}

offsets_advance() {
  local before
  sum_of_ends
  before=$ends
  await "$wait_s" ends_are_past "$before"
}

sent() {
  publish "$1" || {
    reason=$(tail -n 3 "$work/publish")
    return 1
  }
}

row_is() {
  sql_says "select count(*), sum(chat_messages), sum(donations_usd), max(active_viewers) from stream_metrics_minute
    where stream_id = '$stream'" "$1"
}

# The sum stays what it is for as long as several commits take.
row_stays() {
  local end=$((SECONDS + 3))
  while ((SECONDS < end)); do
    row_is "$1" || return 1
    sleep 0.5
  done
}

# --- the containers of the stack ------------------------------------------------------------------------------------

services=(kafka postgres stream-processor metrics-api)
if [[ $target == stack ]]; then
  # The further processes of a cluster.
  while read -r service; do services+=("$service"); done < <(compose config --services | grep '^stream-processor-' || true)
fi

unhealthy() {
  local service state
  for service in "${services[@]}"; do
    state=$(service_state "$service")
    if [[ $state != 'running healthy' ]]; then
      printf '%s is %s\n' "$service" "$state"
      return 0
    fi
  done
  return 1
}

all_healthy() {
  ! reason=$(unhealthy)
}

reader_cannot_write() {
  local said
  # shellcheck disable=SC2016 # the container's shell expands it
  said=$(compose exec -T postgres bash -c 'PGPASSWORD=$(</run/secrets/reader_password) psql -h 127.0.0.1 -U tidemark_reader -d realtime \
    -XAtq -c "set transaction_read_only = off; update progress set epoch = epoch"' </dev/null 2>&1) || true
  [[ $said == *'permission denied for table progress'* ]] || {
    reason="the reader was answered: ${said:-nothing, so it may write}"
    return 1
  }
}

processor_is_confined() {
  local user root_fs
  read -r user root_fs < <(docker inspect -f '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}' "$(container stream-processor)")
  reason="user $user, read-only root file system: $root_fs"
  [[ -n $user && $user != root && $user != 0 && $root_fs == true ]] || return 1
  ! compose exec -T stream-processor touch /usr/local/bin/x </dev/null 2>/dev/null
}

kill_processor() {
  case $target in
    stack) kill_service stream-processor ;;
    elsewhere) kill -KILL "$PROCESSOR_PID" ;;
  esac
}

processor_came_back() {
  if [[ $target == elsewhere ]]; then
    read_metric tidemark_records_total
    return
  fi
  local count state
  count=$(service_restarts stream-processor)
  state=$(service_state stream-processor)
  reason="started again $((count - restarts)) times, $state"
  ((count > restarts)) && [[ $state == "running healthy" ]]
}

verify() {
  local status=0
  case $target in
    stack) timeout 300 docker inspect "$(container stream-processor)" >/dev/null &&
      compose run --rm -T --no-deps stream-processor verify </dev/null >"$work/verify" 2>&1 || status=$? ;;
    elsewhere) timeout 300 bash -c "$VERIFY" </dev/null >"$work/verify" 2>&1 || status=$? ;;
  esac
  reason="status $status: $(tail -n 5 "$work/verify")"
  return "$status"
}

# --- the story ------------------------------------------------------------------------------------------------------

if [[ $target == stack ]]; then
  expect "all services are healthy" "make doctor, make logs" await "$wait_s" all_healthy
fi
partitions=0
expect "the topic $topic exists" "make up creates it; elsewhere: kafka-topics.sh --create" topic_exists
say "          it has $partitions partitions"
expect "the processor commits: its epoch advances" "make logs; /health tells what holds it" epoch_advances

# Known events, all of one minute of event time, in a stream of their own. 12.345 rounds half-up to 12.35.
now=$(date -u +%Y-%m-%dT%H:%M:%S)
stream=smoke-$(date +%s)-$$
event() { printf '{"event_type":"%s","event_id":"%s","stream_id":"%s","user_id":"u1","ts":"%sZ"%s}\n' "$1" "$2" "$stream" "$now" "${3:-}"; }
malformed="{\"event_type\":\"donation\",\"event_id\":\"broken\",\"stream_id\":\"$stream\",\"amount_usd\":1"
{
  event donation d1 ',"amount_usd":12.345'
  event donation d2 ',"amount_usd":"0.10"'
  event chat_message c1
  event viewer_join j1
  printf '%s\n' "$malformed"
  event donation d1 ',"amount_usd":12.345'
} >"$work/events"
first='1|1|12.45|1'
expect "two donations, a chat, a join, a copy and a broken record go in" "is Kafka in reach? make doctor" sent "$work/events"
expect "they are one row in Postgres, exact to the cent, the copy once" "look for stream $stream in dead_letters" await "$wait_s" row_is "$first"
expect "and so they stay" "a copy was counted again" row_stays "$first"
expect "the broken record is a dead letter with its bytes and its reason" "select reason, payload from dead_letters" \
  await "$wait_s" sql_says "select count(*), min(reason) from dead_letters
    where payload = decode('$(printf %s "$malformed" | od -An -tx1 | tr -d ' \n')', 'hex')" '1|invalid_json'
expect "the log goes on: its offsets advance" "no generator runs (GENERATORS=0)? then send events of your own" offsets_advance
expect "Postgres has rows of the last two minutes" "are events older than that, or is there a backlog? /health tells the lag" \
  await "$wait_s" sql_says "select count(*) > 0 from stream_metrics_minute where window_start > now() - interval '2 minutes'" t

expect "/metrics has the row, to the cent" "does the api read the same database?" \
  await 15 get "/metrics?stream_id=$stream" '"donations_usd": ?12\.45[,}]'
expect "/health is ok" "the api cannot reach the database" get /health '"ok": ?true'
expect "/metrics has rows" "are there events of the last hour?" get '/metrics?minutes=60&limit=5' '"rows": ?\[ ?\{'
expect "/metrics/latest has a row, or none is whole yet" "" get /metrics/latest '"row": ?(\{|null)'
expect "/streams names streams" "" get '/streams?minutes=120' '"stream_id"'
expect "/streams/top has the donations" "" get '/streams/top?minutes=10&n=200' "\"stream_id\": ?\"$stream\", ?\"value\": ?12\\.45"
expect "a bad parameter is 422 and says why" "" bash -c \
  "curl -sS --max-time 10 -o '$work/body' -w '%{http_code}' '$api/metrics?limit=0' | grep -q 422 && grep -q '\"parameter\"' '$work/body'"

# there PATH: what a build may not have yet.
there() {
  [[ $(curl -s --max-time 5 -o /dev/null -w '%{http_code}' -N "$api$1" 2>/dev/null || true) == 200 ]]
}

live_sends_rows() {
  curl -sN --max-time 8 "$api/live" >"$work/live" 2>/dev/null || true
  reason="in 8 s it sent: $(head -c 200 "$work/live")"
  grep -q '^event: *rows' "$work/live" && grep -q '^data: *{.*"epoch"' "$work/live"
}
if there /live; then expect "/live sends rows as they are committed" "" live_sends_rows; else leave_out "/live: not in this build"; fi
if there /; then expect "/ is the dashboard" "" get / '<html'; else leave_out "/: not in this build"; fi
if there /docs; then expect "/docs is there" "" get /docs '<html'; else leave_out "/docs: not in this build"; fi
if there /openapi.json; then expect "/openapi.json is there" "" get /openapi.json '"openapi": ?"3\.1'; else leave_out "/openapi.json: not in this build"; fi
if there /prometheus; then expect "/prometheus can be scraped" "" get /prometheus '^tidemark_api_'; else leave_out "/prometheus: not in this build"; fi

if [[ $target == stack ]]; then
  expect "the api's role cannot write" "sql/init/002_roles.sh was not applied: was the volume made by an older version?" reader_cannot_write
  expect "the processor is no root, and its root file system is read-only" "" processor_is_confined
fi

# --- a crash --------------------------------------------------------------------------------------------------------

if [[ $target == stack || -n ${PROCESSOR_PID:-} ]]; then
  restarts=0
  if [[ $target == stack ]]; then restarts=$(service_restarts stream-processor); fi
  epoch=0
  if read_metric tidemark_epoch; then epoch=$value; fi
  { event chat_message c2 && event donation d3 ',"amount":1e-2'; } >"$work/before"
  { event chat_message c2 && event chat_message c3 && event donation d4 ',"amount_usd":1000000000.00'; } >"$work/after"
  expect "events go in just before the crash" "" sent "$work/before"
  expect "kill -9 of the processor" "" kill_processor
  expect "events go in while it is down, a copy of one before among them" "" sent "$work/after"
  expect "it is started again and becomes healthy" "docker inspect tells its restart policy" await "$wait_s" processor_came_back
  expect "nothing is lost and nothing counts twice" "tidemark-dataflow verify compares with the log" \
    await "$wait_s" row_is '1|3|1000000012.46|1'
  expect "the epoch goes on where it was" "" await "$wait_s" metric_is_past tidemark_epoch "$epoch"
else
  leave_out "kill -9 of the processor: PROCESSOR_PID is not set"
fi

has_verify() {
  case $target in
    stack) compose exec -T stream-processor tidemark-dataflow verify --help </dev/null >/dev/null 2>&1 ;;
    elsewhere) [[ -n ${VERIFY:-} ]] ;;
  esac
}
if has_verify; then
  expect "verify: the tables are what the log says" "tidemark-dataflow verify names the differences; rebuild makes the tables anew" verify
elif [[ $target == stack ]]; then
  leave_out "verify: this build has no such command"
else
  leave_out "verify: VERIFY is not set"
fi

echo "smoke: $passed passed, $failed failed, $left_out left out, $SECONDS s"
((failed == 0))
