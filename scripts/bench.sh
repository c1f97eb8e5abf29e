#!/usr/bin/env bash
# What the pipeline costs on this machine: one mode per question. Prints what is needed to do it again on standard error, and one
# JSON line per measurement on standard output. docs/performance.md says what each mode measures.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: bench.sh [MODE [ARGUMENTS]]

  catchup [N]               N events (5000000): the dataflow from Kafka into Postgres, beside consuming and parsing alone   (default)
  freshness [RATE [S]]      from produce to readable through the api, at RATE events/s (half of the catch-up's) for S seconds (60)
  growth [N]                cost against streams, viewers, partitions, workers and slice length, N events each (4000000)
  sink [STREAMS [MINUTES]]  upserts/s of our store, beside Postgres's COPY and merge; STREAMS x MINUTES rows a commit (10000 10)
  memory [VIEWERS]          bytes per present viewer (10000000) and per open window; resident memory with Kafka
  api [S [CONNECTIONS]]     requests/s of the api under wrk (10 s and 32 connections each)
  --compare A B             two files of JSON lines: the ratio B/A of every figure that both have

bench.sh N is bench.sh catchup N. Kafka and Postgres are started by services.sh unless they are named here:

  KAFKA_BOOTSTRAP, TIDEMARK_TEST_KAFKA   a running Kafka to use instead (the topics made there are named, and stay)
  TIDEMARK_TEST_POSTGRES                 a running Postgres to use instead: URL of a superuser
  TIDEMARK_BIN_DIR                       programs (and examples/) that are built already
  BENCH_REPEAT                           runs of each measurement, interleaved    (1)
  BENCH_WORKERS                          numbers of workers                       (1 and the number of cores)
  BENCH_LOGS, BENCH_STORES               catchup: which of file kafka, and of sqlite postgres   (kafka, postgres)
  BENCH_STORES                           growth: one of sqlite postgres           (postgres)
  BENCH_PRODUCER                         freshness: properties of the load's producer   (linger.ms=20 compression.type=lz4)
  BENCH_ROWS                             growth: which of streams users partitions workers slice   (all)
  SLICE, MAX_AHEAD, CHECKPOINT_EVERY, …  go to the dataflow and are told with the results
  BENCH_SPAN                             event time of all events                 (catchup: 1 hour, growth: 10 minutes)
TEXT
}

mode=${1:-catchup}
(($# == 0)) || shift
case $mode in
  -h | --help | help)
    usage
    exit
    ;;
  *[!0-9]*) ;;
  *)
    set -- "$mode"
    mode=catchup
    ;;
esac
case $mode in
  catchup | freshness | growth | sink | memory | api | --compare) ;;
  *)
    usage >&2
    exit 2
    ;;
esac

here=$root/scripts/bench
if [[ $mode == --compare ]]; then
  # shellcheck source=scripts/bench/compare.sh
  . "$here/compare.sh"
  compare "$@"
  exit
fi
for argument in "$@"; do
  if ! [[ $argument =~ ^[1-9][0-9]*$ ]]; then
    usage >&2
    exit 2
  fi
done
# shellcheck source=scripts/bench/common.sh
. "$here/common.sh"
# shellcheck source=scripts/bench/pipeline.sh
. "$here/pipeline.sh"
# shellcheck source=/dev/null # each is checked by itself
. "$here/$mode.sh"
"$mode" "$@"
