"""The load generator, its echo servers and the floor: how they are started and what they print."""

import json
import subprocess
import urllib.request

import processes


class Echo:
    """An echo server over streamable HTTP. Its counters tell what a broker did behind a call."""

    def __init__(self, run, tools=1):
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.child = run.start([run.harness / "echo_http", "--port", self.port, "--tools", tools])
        processes.wait_port(self.port, self.child)

    def stats(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=20) as answer:
            return json.loads(answer.read())

    def since(self, before):
        now = self.stats()
        return {name: now[name] - before[name] for name in now}

    def server(self, **more):
        """Its definition for the bridge's file. The hint makes its calls read-only, as the echo says nothing."""
        return {
            "transport": "streamable_http",
            "url": self.url,
            "allow_private": True,
            "hints": {"echo": {"read_only": True}},
        } | more


class Floor:
    """The cheapest broker there can be: REST at the front, one MCP session at the back, nothing between."""

    def __init__(self, run, echo):
        self.port = processes.free_port()
        upstream = f"127.0.0.1:{echo.port}"
        argv = [run.harness / "floor", "--port", self.port, "--upstream", upstream, "--mode", "broker"]
        self.child = run.start(argv)
        processes.wait_port(self.port, self.child)
        self.pid = self.child.pid
        self.url = f"http://127.0.0.1:{self.port}/call/echo"


def rest(bridge, more=""):
    """Arguments for calls of `echo.echo` over the bridge's REST face."""
    body = '{"ref":"echo.echo","arguments":@ARGS@%s}' % more
    return ["--proto", "rest", "--body", body, "--header", bridge.bearer]


FLOOR_REST = ["--proto", "rest", "--body", '{"arguments":@ARGS@}']


def generate(run, mode, url, arguments, seconds):
    """Runs the generator, at most four times as long as asked and a minute; its one line of JSON."""
    argv = [run.harness / "loadgen", mode, "--url", url, *arguments]
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, timeout=seconds * 4 + 60
    )
    if done.returncode != 0:
        raise RuntimeError(f"loadgen {mode}: {done.stderr[-400:]}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    if "error" in result:
        raise RuntimeError(f"loadgen {mode} {url}: {result['error']}")
    return result


def calls(run, url, concurrent, seconds, arguments):
    """A closed loop of calls. `max` far away: the time alone ends it."""
    bounds = ["--conc", concurrent, "--dur", seconds, "--warm", run.warm, "--max", 1_000_000_000]
    return generate(run, "call", url, bounds + arguments, seconds)


def get(run, url, seconds, status, headers=()):
    """A closed loop of GETs on one connection, every answer compared with the first."""
    argv = [run.bin / "bench-get", url, seconds, status, *headers]
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, timeout=seconds * 4 + 60
    )
    if done.returncode != 0:
        raise RuntimeError(f"bench-get {url}: {done.stderr[-400:]}")
    return json.loads(done.stdout)
