#!/usr/bin/env bash
# Forgets everything that `make run` has stored: removes the data directory. It asks nothing, so it refuses whatever is
# not plainly a data directory of Tidemark's.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# All that the programs and run.sh create in a data directory.
known=(tidemark.db tidemark.db-wal tidemark.db-shm tidemark.db-journal tidemark.db-run log checkpoints logs run.lock)

asked=${DATA_DIR:-$root/data}
if [[ ! -e $asked ]]; then
  say "there is no data in $asked"
  exit
fi
[[ -d $asked ]] || die "$asked is not a directory"
data=$(cd "$asked" && pwd -P)

refuse() {
  die "$data is not removed: $*"
}

home=$(cd "${HOME:-/}" && pwd -P)
for place in "$home" "$(cd "$root" && pwd -P)"; do
  [[ $place/ != "${data%/}/"* ]] || refuse "it is or holds $place"
done

shopt -s nullglob dotglob
found=0
for entry in "$data"/*; do
  name=${entry##*/}
  [[ " ${known[*]} " == *" $name "* ]] || refuse "it holds $name, which is none of Tidemark's (${known[*]})"
  case $name in
    tidemark.db | log | checkpoints) found=1 ;;
  esac
done
if ((found == 0)) && [[ ! -e $data/run.lock ]]; then
  refuse "it holds no tidemark.db, log or checkpoints"
fi

have flock || die "flock is not installed: on Debian and Ubuntu, apt-get install util-linux"
exec 9>>"$data/run.lock"
flock -n 9 || refuse "a run still uses it: stop that first"

for name in "${known[@]}"; do
  rm -rf -- "${data:?}/$name"
done
rmdir -- "$data" 2>/dev/null || true # it may be a mount point
say "removed $data"
