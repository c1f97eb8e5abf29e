#!/usr/bin/env bash
# Are the dashboard and the alerts right? As files: they parse, belong together, and the alerts pass their unit tests. Against a
# running Prometheus: every panel's query returns data, and every alert is evaluated without an error and is quiet.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

usage() {
  cat <<'TEXT'
usage: check_observability.sh files          promtool, or Docker with Prometheus's image, is needed
       check_observability.sh queries [URL]  Prometheus at URL, by default that of the stack (make obs-up)

OBS_WAIT (90): seconds that a query may take until it has data, as right after a start.
TEXT
}

dashboards=(compose/grafana/dashboards/*.json)
rules=compose/prometheus/alerts.yml
runbook=docs/runbook.md
wait_s=${OBS_WAIT:-90}
failed=0

fail() {
  say "FAILED  $*"
  failed=$((failed + 1))
}

# --- files ----------------------------------------------------------------------------------------------------------

run_promtool() {
  local image
  if have promtool; then
    (cd compose/prometheus && promtool "$@")
  else
    image=$(sed -n 's/^ *image: \(prom\/prometheus:.*\)/\1/p' compose/observability.yaml)
    docker run --rm --network none -v "$root/compose/prometheus:/etc/prometheus:ro" -w /etc/prometheus --entrypoint promtool "$image" "$@"
  fi
}

# checked WHAT COMMAND...
checked() {
  local what=$1 said
  shift
  if said=$("$@" 2>&1); then say "ok      $what"; else fail "$what: $said"; fi
}

alerts_are_documented() {
  local name anchor status=0
  while read -r name; do
    anchor=${name,,}
    grep -q "^## $name\$" "$runbook" || { echo "$runbook has no section $name" && status=1; }
    grep -q "runbook: docs/runbook.md#$anchor\$" "$rules" || { echo "$name does not name its section" && status=1; }
    # Twice in a list of what is quiet, and once where it fires.
    (($(grep -c "alertname: $name\b" compose/prometheus/alerts_test.yml) >= 2)) || { echo "$name has no unit test" && status=1; }
  done < <(sed -n 's/^ *- alert: //p' "$rules")
  return "$status"
}

# A misspelt name would be an alert that is quiet for ever. Names are registered without prefix and without what the format adds.
metrics_are_registered() {
  local name status=0
  while read -r name; do
    grep -rqE "\"(api_)?${name#api_}\"" dataflow/src/telemetry api/src/scrape.rs ||
      { echo "nothing registers tidemark_$name" && status=1; }
  done < <(grep -ohE '\btidemark_[a-z_]+' "$rules" "${dashboards[@]}" | sed -E 's/^tidemark_//; s/_(total|bucket)$//' | sort -u)
  return "$status"
}

dashboard_is_sound() {
  local uid
  uid=$(sed -n 's/^ *uid: //p' compose/grafana/provisioning/datasources/*.yaml)
  # shellcheck disable=SC2016 # jq's variables
  jq -e --arg uid "$uid" '
    def overlap($a; $b): $a.x < $b.x + $b.w and $b.x < $a.x + $a.w and $a.y < $b.y + $b.h and $b.y < $a.y + $a.h;
    [.panels[] | select(.type != "row")] as $panels
    | if (.uid and .title and .schemaVersion) | not then error("no uid, title or schemaVersion") else . end
    | if [.panels[].id] | length != (unique | length) then error("ids of panels are not unique") else . end
    | [.panels as $all | range($all|length) as $i | range($i + 1; $all|length) as $j
        | select(overlap($all[$i].gridPos; $all[$j].gridPos)) | $all[$i].title] as $overlaps
    | if $overlaps != [] then error("panels overlap: \($overlaps)") else . end
    | [$panels[] | select((.title and .description and .type and (.targets | length > 0)) | not) | .title] as $bare
    | if $bare != [] then error("panels without title, description or query: \($bare)") else . end
    | [$panels[] | select(.datasource.uid != $uid or any(.targets[]; .datasource.uid != $uid or ((.expr // "") == ""))) | .title] as $lost
    | if $lost != [] then error("panels of another data source or without an expression: \($lost)") else . end
    | [$panels[] | select((.gridPos.x + .gridPos.w) > 24) | .title] as $wide
    | if $wide != [] then error("panels beyond the right edge: \($wide)") else true end' "$1"
}

files() {
  have jq || die "jq is not installed: apt-get install jq"
  checked "Prometheus's configuration" run_promtool check config prometheus.yml
  checked "alert rules" run_promtool check rules alerts.yml
  checked "unit tests of the alerts" run_promtool test rules alerts_test.yml
  checked "every metric that is asked for is one of ours" metrics_are_registered
  checked "each alert has a test and a section in the runbook" alerts_are_documented
  local one
  for one in "${dashboards[@]}"; do checked "$one" dashboard_is_sound "$one"; done
}

# --- a running Prometheus -------------------------------------------------------------------------------------------

# has_data EXPRESSION: it parses and returns at least one number. Sets `reason`.
has_data() {
  local answer
  answer=$(curl -sS --max-time 10 "$prometheus/api/v1/query" --data-urlencode "query=$1" 2>&1) || {
    reason=$answer
    return 1
  }
  if [[ $(jq -r .status <<<"$answer" 2>/dev/null) != success ]]; then
    reason=$(jq -r .error <<<"$answer" 2>/dev/null || printf %s "$answer")
    return 1
  fi
  reason="no data"
  jq -e '.data.result | length > 0' <<<"$answer" >/dev/null
}

queries() {
  local title expression deadline answer name health state error asked=0
  have jq || die "jq is not installed: apt-get install jq"
  have curl || die "curl is not installed: apt-get install curl"
  prometheus=${1:-http://$(compose --profile observability port prometheus 9090 2>/dev/null)} || die "no Prometheus runs: make obs-up"
  deadline=$((SECONDS + wait_s))
  while IFS=$'\t' read -r title expression; do
    asked=$((asked + 1))
    # One deadline for all, so that a Prometheus without data does not cost it for every query.
    until has_data "$expression"; do
      if ((SECONDS >= deadline)); then
        fail "panel \"$title\": $expression: $reason"
        break
      fi
      sleep 1
    done
  done < <(jq -r '.panels[] | select(.targets) | .title as $title | .targets[] | [$title, .expr] | @tsv' "${dashboards[@]}")
  say "asked   $asked queries of panels"

  answer=$(curl -sS --max-time 10 "$prometheus/api/v1/rules?type=alert") || die "$prometheus does not answer"
  [[ $(jq '[.data.groups[].rules[]] | length' <<<"$answer") == "$(grep -c -- '- alert:' "$rules")" ]] ||
    fail "Prometheus has not loaded all alerts of $rules"
  while IFS=$'\t' read -r name health state error; do
    if [[ $health != ok ]]; then
      fail "alert $name: $health $error"
    elif [[ $state != inactive ]]; then
      fail "alert $name is $state"
    else
      say "ok      alert $name is quiet"
    fi
  done < <(jq -r '.data.groups[].rules[] | [.name, .health, .state, .lastError // ""] | @tsv' <<<"$answer")
}

case ${1:-} in
  files | queries)
    "$@"
    if ((failed > 0)); then die "$failed failed"; fi
    say "$me: all is fine"
    ;;
  -h | --help | help) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
