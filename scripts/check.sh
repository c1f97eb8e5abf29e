#!/usr/bin/env bash
# Everything that CI checks besides the tests: format, lints, documentation, scripts. Runs all, then says what failed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

failed=()
skipped=()

# check NAME COMMAND...
check() {
  local name=$1 from=$SECONDS
  shift
  if "$@"; then
    say "ok       $name ($((SECONDS - from)) s)"
  else
    say "FAILED   $name: $*"
    failed+=("$name")
  fi
}

# missing NAME HINT: a tool that is not there fails CI; a developer is told.
missing() {
  if [[ ${CI:-} == true ]]; then
    say "FAILED   $1: not installed; $2"
    failed+=("$1")
  else
    say "SKIPPED  $1: not installed; $2"
    skipped+=("$1")
  fi
}

have cargo || die "cargo is not installed: get Rust from https://rustup.rs"

if cargo fmt --version >/dev/null 2>&1; then
  check format cargo fmt --all --check
else
  missing format "rustup component add rustfmt"
fi

tls=$(tls_features)
# All that can be built in. What is compiled without it is checked without TLS.
all=${tls:+--features=tidemark-dataflow/msk-iam}

if cargo clippy --version >/dev/null 2>&1; then
  check clippy cargo clippy --quiet --workspace --all-targets ${all:+"$all"} -- -D warnings
  if [[ -n $tls ]]; then
    check "clippy, without TLS" cargo clippy --quiet -p tidemark-generator -p tidemark-settings --all-targets -- -D warnings
  fi
  check "clippy, feature abomonation" cargo clippy --quiet -p tidemark-dataflow --features "abomonation${tls:+,tls}" --lib --bench codecs -- -D warnings
else
  missing clippy "rustup component add clippy"
fi

check documentation env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps ${all:+"$all"}

if have shellcheck; then
  check shellcheck shellcheck -x .ci/run scripts/*.sh scripts/bench/*.sh
else
  missing shellcheck "apt-get install shellcheck, or brew install shellcheck"
fi

if ((${#skipped[@]} > 0)); then say "$me: skipped: ${skipped[*]}"; fi
if ((${#failed[@]} > 0)); then die "failed: ${failed[*]}"; fi
say "$me: everything that ran is fine"
