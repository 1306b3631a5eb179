#!/usr/bin/env bash
# Runs the fuzz targets one after the other: `fuzz/run.sh [SECONDS_EACH] [TARGET...]`. Needs the nightly toolchain and
# cargo-fuzz (`cargo install cargo-fuzz --version 0.13.2 --locked`). What is found stays in fuzz/artifacts; the corpus
# that grew in fuzz/corpus, neither of them in the repository.
#
# Without a sanitizer: the crates forbid `unsafe`, and what is looked for are panics, broken promises, and runs without end.
set -euo pipefail
cd "$(dirname "$0")"
seconds="${1:-600}"
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- stdio events tunnel message headers config schema
failed=0
for target in "$@"; do
  mkdir -p "corpus/$target" "artifacts/$target"
  # `seeds` is read only: what is new goes into the first folder.
  cargo +nightly fuzz run --fuzz-dir . -s none --debug-assertions "$target" "corpus/$target" "seeds/$target" -- \
    "-max_total_time=$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 || failed=1
done
exit "$failed"
