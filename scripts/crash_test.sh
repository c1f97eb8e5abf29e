#!/usr/bin/env bash
# Kills each service of the running stack in turn, kill -9 with traffic flowing, and expects that all come back by themselves and
# that no event is lost or counted twice.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

back_s=${CRASH_WAIT:-90} # until a service that was killed is healthy again
settled_s=60             # until everything that was sent is in the tables
each=20                  # events sent around each kill

require_engine
work=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-crash.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM HUP

topic=$(setting KAFKA_TOPIC)
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
stream=crash-$(date +%s)-$$
sent=0

# batch N: N chats and a donation of 3 cents in the stream; ids are new, so each counts once.
batch() {
  local i
  for ((i = 0; i < $1; i++)); do
    sent=$((sent + 1))
    printf '{"event_type":"donation","event_id":"d%s","stream_id":"%s","ts":"%s","amount_usd":0.03}\n' "$sent" "$stream" "$now"
    printf '{"event_type":"chat_message","event_id":"c%s","stream_id":"%s","ts":"%s"}\n' "$sent" "$stream" "$now"
  done
}

# Waits for the brokers by itself, so it may be called while Kafka is down.
publish() {
  compose run --rm -T --no-deps event-generator send - <"$1" >"$work/publish" 2>&1 || die "sending failed: $(tail -n 3 "$work/publish")"
}

came_back() {
  (($(service_restarts "$1") > before)) && [[ $(service_state "$1") == 'running healthy' ]]
}

all_there() {
  answer=$(stack_sql "select count(*), sum(chat_messages), sum(donations_usd) from stream_metrics_minute where stream_id = '$stream'" 2>&1) || true
  [[ $answer == "1|$sent|$expected" ]]
}

for service in kafka postgres stream-processor metrics-api event-generator; do
  [[ $(service_state "$service") == 'running healthy' ]] || die "$service is $(service_state "$service") before it is killed: make up, make doctor"
done
for service in kafka postgres stream-processor metrics-api event-generator; do
  from=$SECONDS
  before=$(service_restarts "$service")
  batch "$each" >"$work/events"
  publish "$work/events"
  kill_service "$service" || die "$service could not be killed"
  batch "$each" >"$work/events"
  publish "$work/events"
  await "$back_s" came_back "$service" || die "$service did not come back within $back_s s: it is $(service_state "$service"); make doctor"
  say "ok      $service was killed and is back ($((SECONDS - from)) s)"
done

expected=$(awk -v cents="$((sent * 3))" 'BEGIN { printf "%.2f", cents / 100 }')
await "$settled_s" all_there || die "sent $sent chats and $expected dollars in one minute, the tables have $answer (rows|chats|dollars)"
say "ok      $sent chats and $expected dollars are there, each once"

if compose exec -T stream-processor tidemark-dataflow verify --help </dev/null >/dev/null 2>&1; then
  compose run --rm -T --no-deps stream-processor verify </dev/null || die "verify found differences in topic $topic"
  say "ok      verify finds no difference"
elif [[ ${TIDEMARK_TEST_REQUIRE:-} == 1 ]]; then
  die "verify: this build has no such command, and TIDEMARK_TEST_REQUIRE=1"
else
  say "LEFT OUT verify: this build has no such command"
fi
