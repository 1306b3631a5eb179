"""How well and how fast `find` finds: runs the catalogue's own benchmark and reads its table."""

import os
import re
import subprocess

SECONDS = 1200
P99_MS = 5.0
TOOLS = 5517


def discovery(run, report):
    argv = [os.environ.get("CARGO", "cargo"), "bench", "--quiet", "--locked", "--package", "paperbot-catalog", "--bench", "discovery"]
    done = subprocess.run(argv, cwd=run.root, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode != 0:
        report.failed(f"the benchmark ended with {done.returncode}: {done.stderr[-400:]}")
        return
    if "no data to measure on" in done.stdout:
        report.not_offered("there is no data to measure on (PAPERBOT_DISCOVERY_DATA)")
        return
    report.note(f"```\n{done.stdout.strip()}\n```")
    for line in done.stdout.splitlines():
        recall(report, line)
        speed(report, line)


def recall(report, line):
    """`name  tools queries R@1 R@3 R@5 R@10 MRR nDCG@5 baseline here|-`"""
    found = re.match(r"(\S.*?)\s{2,}(\d+)\s+(\d+)((?:\s+\d\.\d+){7})\s+(\S+)$", line)
    if not found:
        return
    measures, here = [float(word) for word in found[4].split()], found[5]
    baseline = measures[6] if here == "-" else float(here)
    # Printed with three digits, so compared with three.
    figure = {"what": f"R@5 {found[1]}, {found[3]} queries", "value": measures[2], "unit": "", "aim": None}
    report.section["figures"].append(figure | {"limit": f"≥ {baseline}", "held": measures[2] >= baseline})


def speed(report, line):
    found = re.match(r"\s*(\d+) tools .* p99 ([\d.]+) ms", line)
    if found:
        limit = P99_MS if int(found[1]) == TOOLS else None
        report.figure(f"query among {int(found[1]):,} tools, p99", float(found[2]), "ms", limit)
