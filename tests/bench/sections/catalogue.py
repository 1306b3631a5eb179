"""A warm page of the catalogue against a static file of the same bytes, and the answer that nothing changed."""

import json
import statistics
import subprocess

import generator
from sections import pairs

TOOLS = 1000
PAGE = 50
RATIO = 1.5
UNCHANGED_US = 100.0


def catalogue(run, report):
    big = generator.Echo(run, TOOLS)
    bridge = run.bridge({"limits": run.limits(), "servers": {"big": big.server(isolation="shared")}})
    bridge.wait_tools("big", TOOLS)
    path = f"/v1/catalog?limit={PAGE}"
    status, headers, page = bridge.client.ask("GET", path)
    report.equal("status of the page", status, 200)
    report.equal("entries of the page", len(json.loads(page)["items"]), PAGE)
    file = run.work / "page.json"
    file.write_bytes(page)
    static = run.start([run.bin / "bench-static", file], stdout=subprocess.PIPE, text=True)
    static_url = static.stdout.readline().strip()
    tagged = ["if-none-match: " + headers["etag"], bridge.bearer]
    asks = {
        "static": (static_url, 200, []),
        "page": (bridge.url + path, 200, [bridge.bearer]),
        "304": (bridge.url + path, 304, tagged),
    }
    rounds = {name: [] for name in asks}
    for _ in range(run.rounds):
        for name, (url, wanted, more) in asks.items():
            rounds[name].append(generator.get(run, url, run.seconds, wanted, more))
    rows = []
    for name, results in rounds.items():
        p50, p99 = pairs.median(results, "p50_us"), pairs.median(results, "p99_us")
        rows.append([name, f"{p50:.0f}", f"{p99:.0f}", f"{pairs.against(results, rounds['static']):.2f}×", results[0]["bytes"]])
    report.table(["answer", "p50 µs", "p99 µs", "p50 / static", "bytes"], rows)
    wrong = sum(one["errors"] for results in rounds.values() for one in results)
    report.figure("answers that differed", wrong, limit=0, fatal=True)
    report.figure("page / static file, p50", pairs.against(rounds["page"], rounds["static"]), "×", RATIO)
    unchanged = statistics.median(one["p50_us"] for one in rounds["304"])
    report.figure("304, p50", unchanged, "µs", UNCHANGED_US)
