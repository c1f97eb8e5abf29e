#!/usr/bin/env bash
# The stack's commands behind `make`: docker compose with the settings of .env and .env.local.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: stack.sh COMMAND      (or: make COMMAND)
  up        build what changed, start everything, wait until all is healthy, print the addresses
  down      stop everything; the data stays in its volumes
  logs      the last lines of all services, and what they go on to say (Ctrl-C ends it)
  ps        what runs
  reset     stop everything and remove its volumes: all events and metrics of the stack are gone
  secrets   make passwords of your own, before the first start
  obs-up    Prometheus and Grafana too
  obs-down  stop these two

COMPOSE_FILE=compose.yaml:compose/cluster.yaml runs the processor as two processes. UP_TIMEOUT (300) is in seconds.
TEXT
}

up_s=${UP_TIMEOUT:-300}

up() {
  local from=$SECONDS
  if [[ ${UP_BUILD:-yes} == yes ]]; then compose build || die "the images do not build (above)"; fi
  if ! compose up --detach --wait --wait-timeout "$up_s" --remove-orphans; then
    say "$me: not everything is up; what is wrong:"
    "$root/scripts/doctor.sh" || true
    exit 1
  fi
  say "all is healthy after $((SECONDS - from)) s"
  local api
  api=$(compose port metrics-api 8000)
  cat <<TEXT
Tidemark is running (make down stops it)
  dashboard  http://$api/
  API docs   http://$api/docs
  health     http://$api/health
  Kafka      127.0.0.1:$(setting KAFKA_PORT), topic $(setting KAFKA_TOPIC)
  Postgres   $(compose port postgres 5432), database realtime, role tidemark_reader
  try        curl 'http://$api/metrics?minutes=10&limit=5'
  check it   make smoke, make doctor
TEXT
}

secrets() {
  local dir=compose/secrets/local name override=compose.override.yaml project
  cd "$root"
  project=$(compose config --format json | sed -n 's/^ *"name": "\(.*\)",$/\1/p' | head -n 1)
  if docker volume inspect "${project}_postgres-data" >/dev/null 2>&1; then
    die "the database of $project was made with its passwords already: change them there (alter role), or make reset first"
  fi
  [[ ! -e $override ]] || die "$override is there already; it would have to name $dir: look at its secrets"
  # Containers read the files as users of their own, so the files are open and the directory is not.
  mkdir -p "$dir"
  chmod 700 "$dir"
  for name in postgres writer reader grafana; do
    head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/${name}_password"
    chmod 644 "$dir/${name}_password"
  done
  {
    echo "# Made by \`make secrets\`; docker compose reads it after compose.yaml by itself."
    echo 'secrets:'
    for name in postgres writer reader grafana; do echo "  ${name}_password: { file: ./$dir/${name}_password }"; done
  } >"$override"
  say "made new passwords in $dir and $override, which git ignores: keep both"
}

obs_up() {
  local image
  compose --profile observability up --detach --wait --wait-timeout "$up_s" --no-deps prometheus
  say "Prometheus  http://$(compose --profile observability port prometheus 9090)/ (alerts: /alerts)"
  image=$(compose --profile observability config --images grafana | grep grafana)
  if ! docker image inspect "$image" >/dev/null 2>&1 && ! docker pull --quiet "$image" >/dev/null 2>&1; then
    say "Grafana     NOT STARTED: the image $image is not here and cannot be pulled"
    return 0
  fi
  compose --profile observability up --detach --wait --wait-timeout "$up_s" --no-deps grafana
  say "Grafana     http://$(compose --profile observability port grafana 3000)/ (anybody may look; admin's password: $(grafana_secret))"
}

grafana_secret() {
  compose --profile observability config --format json | sed -n 's/.*"file": "\(.*grafana_password\)".*/\1/p' | head -n 1
}

obs_down() {
  compose --profile observability rm --stop --force prometheus grafana
}

command=${1:-help}
case $command in
  up | secrets)
    require_engine
    "$command"
    ;;
  down)
    require_engine
    compose --profile '*' down --remove-orphans
    ;;
  reset)
    require_engine
    compose --profile '*' down --remove-orphans --volumes
    ;;
  logs)
    require_engine
    compose --profile '*' logs --follow --tail 100
    ;;
  ps)
    require_engine
    compose --profile '*' ps --all
    ;;
  obs-up)
    require_engine
    obs_up
    ;;
  obs-down)
    require_engine
    obs_down
    ;;
  help | -h | --help) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
