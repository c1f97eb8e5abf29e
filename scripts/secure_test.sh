#!/usr/bin/env bash
# The running stack with TLS: the programs reach the brokers by TLS and a login and Postgres by TLS, and serve HTTPS. Expects that all become
# healthy, that rows come and are right, and that no connection to Postgres is in plain text. Then the stack is as before.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

up_s=240   # until all is healthy
flows_s=90 # until new events are in the tables

require_engine
have openssl || die "openssl is not installed"
files=compose/files
cd "$root"
[[ ! -e compose/kafka.env ]] || die "compose/kafka.env is there: this test would write its own"
work=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-secure.XXXXXX")
finish() {
  local status=$?
  trap '' INT TERM
  unset COMPOSE_FILE PGSSLMODE PGSSLROOTCERT API_TLS_CERT API_TLS_KEY METRICS_TLS_CERT METRICS_TLS_KEY
  rm -rf -- "$work" compose/kafka.env "$files"/secure-test.*
  compose up --detach --wait --wait-timeout "$up_s" --no-build >/dev/null 2>&1 || say "$me: the stack is not as before: make up"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# --- certificates -----------------------------------------------------------------------------------------------

# All of one CA, for the names inside the stack and the address outside.
certificates() {
  local ca="$work/ca"
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=secure-test -keyout "$ca.key" -out "$files/secure-test.ca.pem"
  openssl req -newkey rsa:2048 -nodes -subj /CN=stack -keyout "$work/key" -out "$work/request"
  printf 'subjectAltName=DNS:kafka,DNS:postgres,DNS:localhost,IP:127.0.0.1\n' >"$work/names"
  openssl x509 -req -in "$work/request" -CA "$files/secure-test.ca.pem" -CAkey "$ca.key" -days 2 -extfile "$work/names" \
    -out "$files/secure-test.crt"
  openssl pkcs8 -topk8 -nocrypt -in "$work/key" -out "$files/secure-test.key"
  cat "$files/secure-test.key" "$files/secure-test.crt" >"$files/secure-test.broker.pem"
  printf 'a-password-of-the-test\n' >"$files/secure-test.password"
  # Containers read them as users of their own.
  chmod 644 "$files"/secure-test.*
}

# The broker gets a listener more, which takes TLS and a login only; Postgres gets TLS.
settings() {
  local at=/etc/tidemark/files/secure-test
  cat >compose/kafka.env <<TEXT
KAFKA__SECURITY_PROTOCOL=sasl_ssl
KAFKA__SASL_MECHANISMS=PLAIN
KAFKA__SASL_USERNAME=tidemark
KAFKA__SASL_PASSWORD_FILE=$at.password
KAFKA__SSL_CA_LOCATION=$at.ca.pem
KAFKA_BOOTSTRAP=kafka:9095
TEXT
  cat >"$work/compose.yaml" <<TEXT
services:
  kafka:
    environment:
      KAFKA_LISTENERS: STACK://:9092,HOST://:9094,CONTROLLER://:9093,SECURE://:9095
      KAFKA_ADVERTISED_LISTENERS: STACK://kafka:9092,HOST://127.0.0.1:$(setting KAFKA_PORT),SECURE://kafka:9095
      KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: STACK:PLAINTEXT,HOST:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
      KAFKA_SSL_KEYSTORE_TYPE: PEM
      KAFKA_SSL_KEYSTORE_LOCATION: $at.broker.pem
      KAFKA_LISTENER_NAME_SECURE_SASL_ENABLED_MECHANISMS: PLAIN
      KAFKA_LISTENER_NAME_SECURE_PLAIN_SASL_JAAS_CONFIG: >-
        org.apache.kafka.common.security.plain.PlainLoginModule required user_tidemark="a-password-of-the-test";
    volumes:
      - ./$files:/etc/tidemark/files:ro
  postgres:
    # The key must be of the server's user alone.
    entrypoint:
      - bash
      - -c
      - >-
        install -o postgres -m 600 $at.key $at.crt /var/run/postgresql &&
        exec docker-entrypoint.sh postgres -c ssl=on -c ssl_cert_file=/var/run/postgresql/secure-test.crt
        -c ssl_key_file=/var/run/postgresql/secure-test.key
    volumes:
      - ./$files:/etc/tidemark/files:ro
TEXT
  export COMPOSE_FILE="$root/compose.yaml:$work/compose.yaml" PGSSLMODE=verify-full PGSSLROOTCERT=$at.ca.pem
  export API_TLS_CERT=$at.crt API_TLS_KEY=$at.key METRICS_TLS_CERT=$at.crt METRICS_TLS_KEY=$at.key
}

# --- what is expected -------------------------------------------------------------------------------------------

chats() {
  stack_sql "select coalesce(sum(chat_messages), 0) from stream_metrics_minute"
}

more_chats() {
  (($(chats) > before))
}

# ask PORT PATH: status and body.
ask() {
  curl --silent --show-error --max-time 10 --cacert "$files/secure-test.ca.pem" --write-out ' %{http_code}' "https://127.0.0.1:$(setting "$1")$2"
}

certificates >/dev/null 2>"$work/openssl" || die "openssl: $(tail -n 3 "$work/openssl")"
settings
compose up --detach --wait --wait-timeout "$up_s" --no-build >"$work/up" 2>&1 || die "not all is healthy with TLS: $(tail -n 5 "$work/up")"
say "ok      all are healthy, by health checks over HTTPS"
before=$(chats)
await "$flows_s" more_chats || die "no new event came by TLS within $flows_s s: $(compose logs --no-color --tail 3 stream-processor)"
say "ok      events go through brokers with TLS and a login"
plain=$(stack_sql "select count(*) filter (where not ssl), count(*) from pg_stat_ssl join pg_stat_activity using (pid)
  where application_name like 'tidemark-%'")
[[ ${plain%|*} == 0 && ${plain#*|} -ge 2 ]] || die "connections to Postgres in plain text | in all: $plain"
say "ok      every connection to Postgres is by TLS"
[[ $(ask API_PORT /health) == *' 200' ]] || die "the api's /health by HTTPS: $(ask API_PORT /health)"
[[ $(ask METRICS_PORT /metrics) == *tidemark_epoch*' 200' ]] || die "the metrics by HTTPS: $(ask METRICS_PORT /metrics | tail -n 3)"
say "ok      api and metrics answer by HTTPS"
password=$(<"$(compose config --format json | sed -n 's/.*"file": "\(.*writer_password\)".*/\1/p' | head -n 1)")
for url in '' "postgres://tidemark_writer:$password@postgres/realtime?sslnegotiation=direct"; do
  connect_by=()
  if [[ -n $url ]]; then connect_by=(-e PG_HOST= -e "DATABASE_URL=$url"); fi
  compose run --rm -T --no-deps ${connect_by[@]+"${connect_by[@]}"} stream-processor verify </dev/null >"$work/verify" 2>&1 ||
    die "verify${url:+ with sslnegotiation=direct}: $(tail -n 3 "$work/verify")"
done
say "ok      verify finds no difference, by either way to begin TLS with Postgres"
