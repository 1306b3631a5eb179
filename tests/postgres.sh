#!/usr/bin/env bash
# Prints the URL of a PostgreSQL the tests may use. Starts a private one when none answers on loopback.
# Usage: eval "$(tests/postgres.sh start DIR)"; tests/postgres.sh stop DIR
set -euo pipefail
action=$1 dir=$2
port=54329
as_postgres() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
binaries() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }
case $action in
  start)
    url=${PAPERBOT_TEST_POSTGRES:-postgres://postgres@127.0.0.1:5432/postgres}
    if command -v psql >/dev/null && psql "$url" -Atc 'select 1' >/dev/null 2>&1; then
      echo "export PAPERBOT_TEST_POSTGRES='$url'"; exit 0
    fi
    if [ -z "$(binaries)" ]; then
      sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
      echo "postgres.sh: installing PostgreSQL" >&2
      { $sudo apt-get update -qq && $sudo apt-get install -y -qq postgresql postgresql-client; } >&2
    fi
    bin=$(binaries)
    [ -n "$bin" ] || { echo "postgres.sh: PostgreSQL is missing: install Debian's package postgresql" >&2; exit 1; }
    mkdir -p "$dir"; [ "$(id -u)" = 0 ] && chown postgres "$dir"
    [ -f "$dir/data/PG_VERSION" ] || as_postgres "$bin/initdb" -D "$dir/data" -U postgres -A trust >&2
    as_postgres "$bin/pg_ctl" -D "$dir/data" -w -t 60 -l "$dir/log" \
      -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$dir" start >&2
    echo "export PAPERBOT_TEST_POSTGRES='postgres://postgres@127.0.0.1:$port/postgres'"
    ;;
  stop)
    bin=$(binaries)
    if [ -n "$bin" ] && [ -f "$dir/data/postmaster.pid" ]; then as_postgres "$bin/pg_ctl" -D "$dir/data" -m fast -w stop >&2; fi
    ;;
esac
