#!/usr/bin/env python3
"""Paired measurements: direct, floor and ours in turns; medians of rounds. Loopback only, bounded in time.

Sections: calls (p50 and CPU at 1/16/64), idle memory, start, CLI, catalogue page, open/close cycles, soak.
"""

import argparse
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

CHILDREN = []


def start(argv, **options):
    child = subprocess.Popen(argv, **options)
    CHILDREN.append(child)
    return child


def stop_all():
    for child in CHILDREN:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    for child in CHILDREN:
        try:
            child.wait(timeout=15)
        except subprocess.TimeoutExpired:
            child.kill()


def wait_port(port, seconds=20):
    import socket

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit(f"nothing listens on {port}")


def tree(pid):
    pids = [pid]
    try:
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += task.read_text().split()
        except OSError:
            pass
    for child in set(children):
        pids += tree(int(child))
    return pids


def cpu_s(pid):
    text = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")


def rss_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


class Bridge:
    def __init__(self, binary, config, home):
        self.home = pathlib.Path(home)
        self.env = dict(os.environ, HOME=home, PAPERBOT_LOG="warn")
        for kind in ("DATA", "STATE", "CONFIG", "CACHE"):
            self.env[f"XDG_{kind}_HOME"] = str(self.home / kind.lower())
        path = self.home / "bridge.yaml"
        path.write_text(config)
        self.log = open(self.home / "log", "a+")
        began = time.monotonic()
        self.child = start([binary, "serve", "--config", str(path)], env=self.env, stderr=subprocess.PIPE, text=True)
        for line in self.child.stderr:
            if "listening on http://" in line:
                self.url = line.split("listening on ", 1)[1].strip()
                break
        self.key = (self.home / "state/paperbot/admin.key").read_text().strip()
        urllib.request.urlopen(f"{self.url}/healthz").read()
        self.start_ms = (time.monotonic() - began) * 1000
        self.pid = self.child.pid
        import threading

        threading.Thread(target=lambda: [None for _ in self.child.stderr], daemon=True).start()

    def ask(self, method, path, body=None, headers=()):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("authorization", f"Bearer {self.key}")
        request.add_header("content-type", "application/json")
        for name, value in headers:
            request.add_header(name, value)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def wait_ref(self, ref):
        for _ in range(200):
            page = self.ask("GET", f"/v1/catalog?server={ref.split('.')[0]}&limit=500")
            if any(item["ref"] == ref for item in page["items"]):
                return
            time.sleep(0.05)
        sys.exit(f"{ref} never came")


def load(harness, url, conc, seconds, extra):
    argv = [f"{harness}/loadgen", "call", "--url", url, "--conc", str(conc), "--dur", str(seconds), "--warm", "1"]
    out = subprocess.run(argv + extra, capture_output=True, text=True, timeout=seconds * 4 + 60)
    if out.returncode != 0:
        sys.exit(out.stderr)
    return json.loads(out.stdout.strip().splitlines()[-1])


def section_calls(args, out):
    work = tempfile.mkdtemp(prefix="paperbot-bench-")
    start([f"{args.harness}/echo_http", "--port", "9001"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_port(9001)
    floor = start(
        [f"{args.harness}/floor", "--port", "9100", "--upstream", "127.0.0.1:9001", "--mode", "broker"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_port(9100)
    limits = "limits: {rate: {user: {per_s: 1000000, burst: 1000000}, global: {per_s: 1000000, burst: 1000000}}, in_flight_per_user: 1000}\n"
    config = f"listen: 127.0.0.1:0\n{limits if args.rates else ''}servers:\n  echo:\n    transport: streamable_http\n    url: http://127.0.0.1:9001/mcp\n    allow_private: true\n    isolation: shared\n"
    config += "    hints: {echo: {read_only: true}}\n"
    bridge = Bridge(f"{args.bin}/paperbot-mcpd", config, work)
    idle = rss_kib(bridge.pid)
    bridge.wait_ref("echo.echo")
    before = json.loads(urllib.request.urlopen("http://127.0.0.1:9001/stats").read())
    rest = ["--proto", "rest", "--body", '{"ref":"echo.echo","arguments":@ARGS@}', "--header", f"authorization: Bearer {bridge.key}"]
    targets = {
        "direct": ("http://127.0.0.1:9001/mcp", [], None),
        "floor": ("http://127.0.0.1:9100/call/echo", ["--proto", "rest", "--body", '{"arguments":@ARGS@}'], floor.pid),
        "ours": (f"{bridge.url}/v1/calls", rest, bridge.pid),
    }
    out(f"idle memory: {idle} KiB; start to first answer: {bridge.start_ms:.0f} ms\n")
    out("| concurrent | target | p50 µs (min..max) | p50 / direct | p99 µs | calls/s | CPU µs/call | errors |")
    out("|---|---|---|---|---|---|---|---|")
    for conc in (1, 16, 64):
        rounds = {name: [] for name in targets}
        for _ in range(args.rounds):
            for name, (url, extra, pid) in targets.items():
                cpu = cpu_s(pid) if pid else 0
                result = load(args.harness, url, conc, args.seconds, extra)
                total = result["total"]
                cpu = (cpu_s(pid) - cpu) / max(total, 1) * 1e6 if pid else 0
                rounds[name].append((result, cpu))
        for name, results in rounds.items():
            p50 = [r["p50_us"] for r, _ in results]
            ratio = statistics.median(r["p50_us"] / d["p50_us"] for (r, _), (d, _) in zip(results, rounds["direct"]))
            p99 = statistics.median(r["p99_us"] for r, _ in results)
            rate = statistics.median(r["rps"] for r, _ in results)
            cpu = statistics.median(c for _, c in results)
            errors = sum(r["errors"] for r, _ in results)
            out(f"| {conc} | {name} | {statistics.median(p50):.0f} ({min(p50):.0f}..{max(p50):.0f}) | {ratio:.2f}× | {p99:.0f} | {rate:.0f} | {cpu:.0f} | {errors} |")
    after = json.loads(urllib.request.urlopen("http://127.0.0.1:9001/stats").read())
    out(f"\nupstream `initialize` by us during the runs: {after['initialize'] - before['initialize']} (direct and generator sessions included); RSS after: {rss_kib(bridge.pid)} KiB\n")
    soak = load(args.harness, f"{bridge.url}/v1/calls", 64, args.soak, rest)
    out(f"soak: 64 callers for {args.soak} s: {json.dumps(soak)}\n")
    cli(args, bridge, out)


def cli(args, bridge, out):
    env = dict(bridge.env, PAPERBOT_URL=bridge.url)
    for words in (["version"], ["find", "echo a message"]):
        times = []
        for _ in range(60):
            began = time.perf_counter()
            subprocess.run([f"{args.bin}/paperbot-mcp", *words], env=env, capture_output=True, check=True)
            times.append((time.perf_counter() - began) * 1000)
        times.sort()
        out(f"CLI `{' '.join(words[:1])}`: p50 {times[30]:.1f} ms, p95 {times[56]:.1f} ms")
    size = os.path.getsize(f"{args.bin}/paperbot-mcp")
    out(f"CLI binary: {size / 1e6:.1f} MB\n")


def section_cycles(args, out):
    work = tempfile.mkdtemp(prefix="paperbot-bench-")
    command = json.dumps([f"{args.harness}/echo_stdio"])
    config = f"listen: 127.0.0.1:0\nservers:\n  echo:\n    transport: stdio\n    command: {command}\n"
    bridge = Bridge(f"{args.bin}/paperbot-mcpd", config, work)
    bridge.wait_ref("echo.echo")

    def cycle(count):
        for _ in range(count):
            session = bridge.ask("POST", "/v1/sessions", {"server": "echo"})
            bridge.ask("DELETE", f"/v1/sessions/{session['session_id']}")

    def facts():
        return {
            "rss_kib": rss_kib(bridge.pid),
            "files": len(os.listdir(f"/proc/{bridge.pid}/fd")),
            "threads": len(os.listdir(f"/proc/{bridge.pid}/task")),
            "processes": len(tree(bridge.pid)) - 1,
        }

    cycle(200)
    first = facts()
    began = time.monotonic()
    cycle(args.cycles)
    took = time.monotonic() - began
    out(f"{args.cycles} open/close of a stdio session in {took:.0f} s; before {first}, after {facts()}\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--harness", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--soak", type=int, default=60)
    parser.add_argument("--cycles", type=int, default=10000)
    parser.add_argument("--rates", action="store_true", help="raise the rate limits (for versions that have them)")
    parser.add_argument("--only", choices=["calls", "cycles"])
    args = parser.parse_args()

    def out(line):
        print(line, flush=True)

    out(f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    try:
        if args.only != "cycles":
            section_calls(args, out)
        if args.only != "calls":
            section_cycles(args, out)
    finally:
        stop_all()


if __name__ == "__main__":
    main()
