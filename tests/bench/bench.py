#!/usr/bin/env python3
"""Everything the contract counts, in one run: sections in order, each bounded in time, alone with `--only`.

Loopback only. Processes are ended by pid, scratch directories removed, also after a failure. Exit code 1 when a
section failed (a wrong answer, a leak, a binary too large); a missed limit of speed or memory is told, not fatal.
"""

import argparse
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import threading
import traceback

import bridge
import processes
import report
from sections.audit import audit
from sections.calls import calls, soak
from sections.catalogue import catalogue
from sections.cli import cli
from sections.discovery import discovery
from sections.fairness import fairness
from sections.guards import guards
from sections.held import held
from sections.mcp import mcp
from sections.mutations import mutations
from sections.sessions import sessions
from sections.start import start
from sections.tunnel import tunnel

# name: (title, what runs it, seconds after which it is cut off)
SECTIONS = {
    "calls": ("Calls over REST", calls, 600),
    "mutations": ("Calls that act, each with a key", mutations, 180),
    "mcp": ("Calls, lists and clients over MCP", mcp, 900),
    "soak": ("Soak", soak, 300),
    "sessions": ("Sessions opened and closed", sessions, 600),
    "held": ("Sessions held", held, 600),
    "catalogue": ("Catalogue page", catalogue, 300),
    "guards": ("Policy, limits and the ledger by themselves", guards, 1260),
    "audit": ("A user's day among a million audit entries", audit, 600),
    "start": ("Start and memory at rest", start, 180),
    "cli": ("Command line", cli, 120),
    "tunnel": ("Calls through agents, idle agents, cut lines", tunnel, 600),
    "fairness": ("One tenant beside another's flood", fairness, 300),
    "discovery": ("Discovery", discovery, 1260),
}


class Cut(Exception):
    """The section had its time."""


class Run:
    """What a section is given: sizes, programs, a scratch directory, and the means to start things."""

    def __init__(self, args):
        self.root, self.bin, self.harness = args.root, args.bin, args.harness
        quick = args.quick
        self.rounds, self.seconds, self.soak, self.cycles = args.rounds, args.seconds, args.soak, args.cycles
        self.warm = 0.3 if quick else 1
        self.warm_cycles = 60 if quick else 500
        self.settle = 2 if quick else 5
        self.held = 100 if quick else 1000
        self.idle = 500 if quick else 10_000
        self.heartbeat = 3 if quick else 10
        self.clients = 100 if quick else 1000
        self.agents = 100 if quick else 1000
        self.lines = 5 if quick else 40
        self.audit_entries = 20_000 if quick else 1_000_000
        self.lists = 5 if quick else 30
        self.commands = 20 if quick else 200
        self.children = []
        self.cut = threading.Event()
        self.work = None
        self._limits = None

    def open(self, name):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix=f"paperbot-bench-{name}-"))

    def home(self, name):
        path = self.work / name
        path.mkdir(exist_ok=True)
        return path

    def start(self, argv, **options):
        child = processes.start(argv, **options)
        self.children.append(child)
        return child

    def limits(self):
        """Rate limits out of the way."""
        if self._limits is None:
            self._limits = bridge.raised_rates(self.bin / "paperbot-mcpd", self.work)
        return self._limits

    def bridge(self, config, home=None):
        home = home or pathlib.Path(tempfile.mkdtemp(prefix="home-", dir=self.work))
        daemon = bridge.Bridge(self.bin / "paperbot-mcpd", config, home)
        self.children.append(daemon.child)
        return daemon

    def stop(self, daemon):
        """Ends one early; True when it went by itself."""
        return daemon.stop()

    def close(self):
        """Ends all; what is left although it should not be, in words."""
        words = []
        for child in reversed(self.children):
            if not processes.stop(child):
                words.append(f"{child.args[0]} did not end within {processes.STOP_SECONDS} s of SIGTERM")
        self.children.clear()
        for pid in processes.holding(str(self.work)):
            words.append(f"process {pid} was left behind")
            processes.kill(pid)
        shutil.rmtree(self.work, ignore_errors=True)
        return words


def run_section(run, told, name):
    title, body, seconds = SECTIONS[name]
    told.begin(name, title)
    run.open(name)
    run.cut.clear()

    def cut(_signal, _frame):
        run.cut.set()
        raise Cut(f"cut off after {seconds} s")

    signal.signal(signal.SIGALRM, cut)
    signal.alarm(seconds)
    try:
        body(run, told)
    except Exception as error:
        traceback.print_exc()
        told.failed(f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
        for words in run.close():
            told.failed(words)
        told.end()


def arguments():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of paperbot-mcpd, paperbot-mcp, bench-get, bench-keyed, bench-static")
    parser.add_argument("--harness", type=pathlib.Path, required=True, help="folder of loadgen, echo_http, echo_stdio, floor")
    parser.add_argument("--root", type=pathlib.Path, default=here.parent.parent, help=argparse.SUPPRESS)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections by name, with commas")
    parser.add_argument("--quick", action="store_true", help="shows that the sections work; the figures mean nothing")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--soak", type=int)
    parser.add_argument("--cycles", type=int)
    parser.add_argument("--json", type=pathlib.Path, help="where all figures go (default: target/bench.json)")
    args = parser.parse_args()
    sizes = {"rounds": (3, 1), "seconds": (4, 1), "soak": (60, 3), "cycles": (10_000, 200)}
    for name, (whole, quick) in sizes.items():
        if getattr(args, name) is None:
            setattr(args, name, quick if args.quick else whole)
    args.only = [name.strip() for name in args.only.split(",") if name.strip()]
    unknown = [name for name in args.only if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    args.bin, args.harness = args.bin.resolve(), args.harness.resolve()
    args.json = args.json or args.root / "target" / "bench.json"
    return args


def main():
    args = arguments()
    # Ten thousand sessions: the daemon and the echo inherit it.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # An ended run still cleans up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    told = report.Report(args.json, report.head(args, args.root))
    run = Run(args)
    for name in SECTIONS:
        if name in args.only:
            run_section(run, told, name)
    sys.exit(told.summary())


if __name__ == "__main__":
    main()
