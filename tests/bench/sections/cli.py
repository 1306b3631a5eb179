"""The CLI: how long an agent waits for it, and how large it is."""

import os
import subprocess
import time

import generator

TOOLS = 1000
FIND_MS = (30.0, 10.0)
VERSION_MS = 5.0
BINARY_MB = 12.0
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def cli(run, report):
    echo, big = generator.Echo(run), generator.Echo(run, TOOLS)
    servers = {"echo": echo.server(isolation="shared"), "big": big.server(isolation="shared")}
    bridge = run.bridge({"limits": run.limits(), "servers": servers})
    bridge.wait_tools("echo", 1)
    bridge.wait_tools("big", TOOLS)
    program = str(run.bin / "paperbot-mcp")
    env = dict(bridge.env, PAPERBOT_URL=bridge.url)
    env.pop("PAPERBOT_TOKEN", None)
    find = [program, "find", "returns its message"]
    found = subprocess.run(find, env=env, capture_output=True, text=True, timeout=30)
    if found.returncode != 0 or "echo.echo" not in found.stdout:
        report.failed(f"`find` ended with {found.returncode} and said: {(found.stdout + found.stderr)[:400]}")
        return
    rows = []
    for name, argv in (("true", ["/bin/true"]), ("version", [program, "version"]), ("find", find)):
        times = _times(argv, env, run.commands)
        p50, p95 = times[len(times) // 2], times[len(times) * 95 // 100]
        rows.append([name, f"{p50:.1f}", f"{p95:.1f}", f"{times[-1]:.1f}"])
        if name == "find":
            report.figure(f"`find` over {TOOLS + 1:,} tools, p95", p95, "ms", *FIND_MS)
        if name == "version":
            report.figure("`version`, p95", p95, "ms", VERSION_MS)
    report.table(["command", "p50 ms", "p95 ms", "longest ms"], rows)
    report.figure("size of the binary", os.path.getsize(program) / 1e6, "MB", BINARY_MB, fatal=True)


def _times(argv, env, count):
    """Sorted milliseconds from start to end, all of which must succeed."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        subprocess.run(argv, env=env, check=True, timeout=30, **QUIET)
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)
