"""Processes this run started: their start, their end by pid, and what /proc tells of them.

Never ends a process it did not start, save one that holds this run's own scratch directory in its
command line or environment, which nothing else can.
"""

import collections
import os
import pathlib
import signal
import socket
import subprocess
import time

PROC = pathlib.Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 15
# Begins the names of the store's files.
STORE = "bridge.db"
# What its connections' threads are called, as far as the kernel shows it.
STORE_THREAD = "sqlx-sqlite"


def start(argv, **options):
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("stdout", subprocess.DEVNULL)
    options.setdefault("stderr", subprocess.DEVNULL)
    return subprocess.Popen([str(word) for word in argv], **options)


def stop(child):
    """SIGTERM, patience, SIGKILL; True when it left by itself."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return False
    return True


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_port(port, child, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if child.poll() is not None:
            raise RuntimeError(f"{child.args[0]} ended with {child.returncode} before it listened")
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on {port}")


def _read(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def _stat(pid):
    """The fields after the command's name; empty when the process is gone."""
    return _read(PROC / str(pid) / "stat").rpartition(") ")[2].split()


def _all():
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def tree(root):
    """`root` and its descendants, zombies included."""
    children = {}
    for pid in _all():
        fields = _stat(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def holding(text):
    """Processes with `text` in their command line or environment: children that lost their parent too."""
    found = []
    for pid in _all():
        if pid == os.getpid():
            continue
        for name in ("cmdline", "environ"):
            try:
                if text.encode() in (PROC / str(pid) / name).read_bytes():
                    found.append(pid)
                    break
            except OSError:
                pass
    return found


def cpu_s(pid):
    """User and system seconds of one process so far."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def _kib(path, name):
    for line in _read(path).splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def rss_kib(pid):
    return _kib(PROC / str(pid) / "status", "VmRSS:")


def pss_kib(pid):
    return _kib(PROC / str(pid) / "smaps_rollup", "Pss:")


def files(pid):
    """Open descriptors by what they are: a path's name, `socket`, `pipe`."""
    found = collections.Counter()
    for link in (PROC / str(pid) / "fd").iterdir():
        try:
            found[os.readlink(link).partition(":[")[0].rpartition("/")[2]] += 1
        except OSError:
            pass
    return found


def _threads(pid):
    """Names of the threads."""
    names = []
    for task in (PROC / str(pid) / "task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except OSError:
            pass
    return names


def facts(pid):
    """What must be as before once load is gone. `files` and `threads` are without those of the store's pool: each of
    its connections has a thread of its own. `pool` counts its files."""
    opened = files(pid)
    pool = sum(count for name, count in opened.items() if name.startswith(STORE))
    return {
        "rss_kib": rss_kib(pid),
        "pss_kib": pss_kib(pid),
        "files": sum(opened.values()) - pool,
        "pool": pool,
        "open": opened,
        "threads": sum(not name.startswith(STORE_THREAD) for name in _threads(pid)),
        "processes": len(tree(pid)) - 1,
    }


def settled(pid, enough, seconds):
    """Looks every half second until `enough(facts)`, at most so long; the last facts either way."""
    end = time.monotonic() + seconds
    while True:
        now = facts(pid)
        if enough(now) or time.monotonic() >= end:
            return now
        time.sleep(0.5)
