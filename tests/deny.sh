#!/usr/bin/env bash
# Licences, banned crates and sources of the whole dependency tree. Advisories need a database this
# script may not be able to reach; `cargo deny check advisories` is for whoever can.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
tools=$PWD/target/tools
# A debug build: it runs for seconds and would take minutes to optimise.
if ! "$tools/bin/cargo-deny" --version 2>/dev/null | grep -q " $version\$"; then
  CARGO_TARGET_DIR="$tools/build" cargo install --debug --quiet --locked --root "$tools" --version "$version" cargo-deny
  rm -rf "$tools/build"
fi
"$tools/bin/cargo-deny" --log-level error check bans licenses sources
