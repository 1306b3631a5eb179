"""One user's day in a million audit entries, by REST."""

import datetime
import json
import sqlite3
import statistics
import time
import urllib.parse

USERS = 100
DAYS = 30
QUERY_MS = 100.0
DAY_MS = 24 * 3600 * 1000

# Rows as the bridge writes them, by SQL alone: ids rise with time, users take turns. Their hashes are no chain:
# a query reads them as it would any other.
FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :entries),
     at(i, ms) AS (SELECT i, :begin + i * :span / :entries FROM n)
INSERT INTO calls (workspace, id, user_id, key_id, kind, reference, lane, trace_id, arguments_digest, preview,
    schema_hash, node, created_ms, state, session_id, ended_ms, duration_ms, code, chain, seq, hash)
SELECT 'default',
    printf('call_%s-%s-7%03x-8%03x-%012x', substr(printf('%012x', ms), 1, 8), substr(printf('%012x', ms), 9, 4),
        i % 4096, i / 4096 % 4096, i),
    'user-' || (i * 7919 % :users), '0123456789abcdef', 'tool', 'bench.tool-' || (i % 20), 'default',
    printf('%016x%016x', i * 2654435761, i), printf('%064x', i), 'message: string', printf('%064x', i % 20), 'other',
    ms, CASE WHEN i % 53 = 0 THEN 'failed' ELSE 'succeeded' END, NULL, ms + 5, 5,
    CASE WHEN i % 53 = 0 THEN 'upstream_timeout' END, 'other', i + 1, printf('%064x', i + 1)
FROM at
"""


def rfc3339(ms):
    text = datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def fill(file, entries, begin_ms):
    connection = sqlite3.connect(file, timeout=30)
    connection.execute("PRAGMA synchronous = OFF")
    began = time.monotonic()
    with connection:
        connection.execute(FILL, {"entries": entries, "begin": begin_ms, "span": DAYS * DAY_MS, "users": USERS})
    took = time.monotonic() - began
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return took


def audit(run, report):
    entries = run.audit_entries
    home = run.home("audit")
    daemon = run.bridge({"limits": run.limits()}, home)
    run.stop(daemon)
    (file,) = home.rglob("bridge.db")
    begin_ms = int(time.time() * 1000) // DAY_MS * DAY_MS - DAYS * DAY_MS
    report.note(f"{entries:,} entries of {USERS} users in {DAYS} days, written in {fill(file, entries, begin_ms):.0f} s; "
                f"{file.stat().st_size / 2**20:.0f} MiB.")
    daemon = run.bridge({"limits": run.limits()}, home)
    day = begin_ms + DAYS // 2 * DAY_MS
    span = {"since": rfc3339(day), "until": rfc3339(day + DAY_MS)}
    wants = {
        "user and day": span | {"user": "user-42"},
        "user and day, 500 a page": span | {"user": "user-42", "limit": 500},
        "user, day and outcome": span | {"user": "user-42", "outcome": "failed"},
        "user, all days": {"user": "user-42"},
        "day": span,
    }
    rows, slowest = [], 0.0
    for name, query in wants.items():
        path = "/v1/audit?" + urllib.parse.urlencode(query)
        times = []
        for _ in range(20):
            began = time.monotonic()
            status, _, body = daemon.client.ask("GET", path)
            times.append((time.monotonic() - began) * 1000)
        report.equal(f"status: {name}", status, 200)
        found = json.loads(body)["items"]
        wrong = [one for one in found if "user" in query and one["user"] != query["user"]]
        report.equal(f"entries of somebody else: {name}", len(wrong), 0)
        report.equal(f"something is found: {name}", bool(found), True)
        rows.append([name, len(found), f"{times[0]:.1f}", f"{statistics.median(times):.1f}", f"{max(times):.1f}"])
        if name.startswith("user and day"):
            slowest = max(slowest, max(times))
    report.table(["query", "entries", "first ms", "p50 ms", "longest ms"], rows)
    report.figure("user and day, longest", slowest, "ms", QUERY_MS)
