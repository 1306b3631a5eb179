#!/usr/bin/env bash
# Installs what the end-to-end tests run beside the bridge, by lock file: real servers, real clients, the conformance
# suites. `install.sh [FOLDER...]`; a folder whose lock file has not changed since is left alone.
set -euo pipefail
cd "$(dirname "$0")"
for program in node npm python3; do
  command -v "$program" >/dev/null || { echo "install.sh: $program is missing: install Node.js 20 or newer and Python 3.10 or newer" >&2; exit 1; }
done
# A stamp of the lock file says whether what is installed is what is pinned.
fresh() { [ -f "$2" ] && [ "$(cat "$2")" = "$(sha256sum "$1")" ]; }

install_npm() {
  fresh package-lock.json node_modules/.stamp && return
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
  sha256sum package-lock.json > node_modules/.stamp
}

install_python() {
  fresh requirements.lock .venv/.stamp && return
  rm -rf .venv
  python3 -m venv .venv 2>/dev/null || {
    rm -rf .venv
    # Debian ships venv apart from python3.
    sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq && $sudo apt-get install -y -qq python3-venv >/dev/null
    python3 -m venv .venv
  }
  .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
  sha256sum requirements.lock > .venv/.stamp
}

# The browser that two real servers drive; Debian's, because theirs would have to be downloaded.
install_chromium() {
  [ -x /usr/bin/chromium ] && return
  sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends chromium >/dev/null
}

[ $# -gt 0 ] || set -- node upstreams clients rest conformance/released conformance/next
for folder in "$@"; do
  pushd "$folder" >/dev/null
  if [ -f package-lock.json ]; then install_npm; fi
  if [ -f requirements.lock ]; then install_python; fi
  popd >/dev/null
  if [ "$folder" = clients ]; then install_chromium; fi
done
