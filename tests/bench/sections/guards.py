"""What policy, limits and the ledger add to a read by themselves: runs the broker's own benchmark and reads its line."""

import os
import re
import subprocess

SECONDS = 1200
GUARDS_CPU_US = 15


def guards(run, report):
    argv = [os.environ.get("CARGO", "cargo"), "bench", "--quiet", "--locked", "--package", "paperbot-broker", "--bench", "guards"]
    argv += ["--features", "measuring", "--", str(run.rounds), str(max(1, round(run.seconds)))]
    done = subprocess.run(argv, cwd=run.root, capture_output=True, text=True, timeout=SECONDS)
    found = re.search(r"guards of a read: ([\d.]+) µs", done.stdout)
    if done.returncode != 0 or not found:
        report.failed(f"the benchmark ended with {done.returncode}: {done.stderr[-400:]}")
        return
    report.note(f"```\n{done.stdout.strip()}\n```")
    report.figure("policy, limits and ledger, CPU a call", float(found[1]), "µs", GUARDS_CPU_US)
