# shellcheck shell=bash
# Two files of JSON lines side by side. Sourced by bench.sh.

# Lines are of the same measurement if all their names but figures and the machine's agree; of several the median counts.
compare() {
  (($# == 2)) || die "--compare needs two files of JSON lines"
  have jq || die "jq is not installed: apt-get install jq"
  local file
  for file in "$@"; do [[ -r $file ]] || die "cannot read $file"; done
  jq -rn --slurpfile a "$1" --slurpfile b "$2" '
    def is_figure: test("(_per_s|_ns_per_event|_kib|_bytes|_ms|_ratio|_cores|_records|^bytes_per_.*|^seconds|^samples)$");
    def is_machine: IN("cores", "memory_mib", "cpu", "load", "git", "rustc", "version");
    def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
    def by_measurement: reduce .[] as $line ({};
      ($line | with_entries(select(.key | (is_figure or is_machine) | not)) | to_entries | map("\(.key)=\(.value)") | join(" ")) as $what
      | reduce ($line | to_entries[] | select(.key | is_figure)) as $figure (.; .[$what][$figure.key] += [$figure.value]));
    ($a | by_measurement) as $a | ($b | by_measurement) as $b
    | if ([$a | keys_unsorted[] | select(in($b))] | length) == 0 then "the files have no measurement in common\n" | halt_error(1) else empty end,
      ($a | to_entries[] | select(.key | in($b)) | .key as $what | "\($what | ltrimstr("bench="))",
        (.value | to_entries[] | select(.key | in($b[$what])) | (.value | median) as $one | ($b[$what][.key] | median) as $other
          | "    \(.key)\t\($one)\t\($other)\t\(if $one == 0 then "-" else ($other / $one * 1000 | round / 1000) end)"))
  ' | awk -F '\t' -v a="$1" -v b="$2" '
    BEGIN { printf "%-28s %14s %14s %8s\n", "", "A", "B", "B/A"; printf "A: %s\nB: %s\n", a, b }
    NF > 1 { printf "%-28s %14s %14s %8s\n", $1, $2, $3, $4; next } { print }'
}
