#!/usr/bin/env bash
# Does docs/new_metric.md still hold? Takes the difference that stands on that page into a copy of the tree, and runs the copy's tests of what
# follows from a metric: tables and upgrades of both stores, checkpoints, the oracle, golden cases, members of the API. With the argument
# short: golden cases and upgrades only, as in CI.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

copy=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-new-metric.XXXXXX")
trap 'rm -rf "$copy" "$copy.diff"' EXIT
git ls-files -z | tar --null -T - -cf - | tar -xmf - -C "$copy"
awk '/^```diff$/ { inside = 1; next } /^```$/ { inside = 0 } inside' docs/new_metric.md >"$copy.diff"
cd "$copy"
git init --quiet
git add --all
git apply --whitespace=nowarn "$copy.diff" || die "docs/new_metric.md: the difference no longer fits the tree"
# Libraries are those that were built for the tree. Our own crates are built apart from the tree's, because their version is another one.
sed -i '0,/^version = "[^"]*"$/s//version = "0.0.0-new-metric"/' Cargo.toml
export CARGO_TARGET_DIR=$root/target
tls=$(tls_features)
tests() { cargo test --quiet -p "$@" || die "with the metric of docs/new_metric.md: failed: $*"; }
if [[ ${1:-} == short ]]; then
  tests tidemark-dataflow ${tls:+"$tls"} --test golden --test upgrade
  exit
fi
# As the page says: the file of the tables is written anew.
TIDEMARK_REWRITE_CASES=1 tests tidemark-dataflow ${tls:+"$tls"} --lib the_file_of_the_tables
tests tidemark-model
tests tidemark-dataflow ${tls:+"$tls"} --lib --test golden --test upgrade
tests tidemark-api --lib --test http -- metrics:: exports:: answers:: grains:: amounts::
git add --all --intent-to-add
say "a metric is $(git diff --shortstat -- ':!Cargo.*' | sed 's/^ *//')"
