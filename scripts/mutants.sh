#!/usr/bin/env bash
# Does the simulation notice? Breaks one line of the protocol at a time, as the patches in dataflow/tests/simulation/mutants say, in
# a copy of the tree, and runs 1,000 seeds of the simulation on each. A mutant that survives is a failure. Names as arguments: only
# those.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

copy=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-mutants.XXXXXX")
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR=$root/target/mutants TIDEMARK_SIMULATIONS=${TIDEMARK_SIMULATIONS:-0..1000} RUST_BACKTRACE=0
survived=()
for patch in "$root"/dataflow/tests/simulation/mutants/*.patch; do
  name=$(basename "$patch" .patch)
  if (($# > 0)) && [[ " $* " != *" $name "* ]]; then continue; fi
  rm -rf "$copy/tree"
  mkdir "$copy/tree"
  git ls-files -z | xargs -0 tar -cf - | tar -xf - -C "$copy/tree"
  (cd "$copy/tree" && git apply --whitespace=nowarn "$patch") || die "$name: the patch no longer fits the tree"
  (cd "$copy/tree" && cargo test --quiet -p tidemark-dataflow --test simulation --no-run) || die "$name: does not compile"
  if (cd "$copy/tree" && timeout 600 cargo test --quiet -p tidemark-dataflow --test simulation) >"$copy/output" 2>&1; then
    say "SURVIVED $name"
    survived+=("$name")
  else
    say "noticed  $name: $(grep -m1 -o 'seed [0-9]*' "$copy/output" || tail -n 1 "$copy/output")"
  fi
done
if ((${#survived[@]} > 0)); then die "the simulation notices nothing of: ${survived[*]}"; fi
