"""One daemon with directories of its own, and a client for what the sections ask it."""

import collections
import http.client
import json
import os
import subprocess
import threading
import time
import urllib.parse

import processes

START_SECONDS = 30


def raised_rates(binary, work):
    """Rate limits out of the way, for versions that have them: a closed loop is meant to be faster than them."""
    limits = {"in_flight_per_user": 1000}
    every = {"per_s": 1_000_000, "burst": 1_000_000}
    path = work / "probe.yaml"
    rates = limits | {"rate": {"user": every, "global": every}}
    path.write_text(json.dumps({"limits": rates}))
    known = subprocess.run([binary, "config", "check", path], capture_output=True, timeout=30).returncode == 0
    return rates if known else limits


class Client:
    """One kept connection with the admin's key; opened again when the bridge closed it while it was idle."""

    def __init__(self, address, key):
        self.address, self.key = address, key
        self.connection = None

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, bytes)"""
        data = None if body is None else json.dumps(body)
        head = {"content-type": "application/json"} | (headers or {})
        if self.key:
            head["authorization"] = f"Bearer {self.key}"
        for last in (False, True):
            fresh = self.connection is None
            if fresh:
                self.connection = http.client.HTTPConnection(self.address, timeout=60)
            try:
                self.connection.request(method, path, body=data, headers=head)
                answer = self.connection.getresponse()
                return answer.status, answer.headers, answer.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # Only a connection that was idle may have been closed under the request.
                self.close()
                if fresh or last:
                    raise
        raise AssertionError("unreachable")

    def status(self, path, headers):
        """The status of a GET alone: the body may be a stream without end."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {self.key}"} | headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def json(self, method, path, body=None):
        status, _, data = self.ask(method, path, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {data[:400].decode(errors='replace')}")
        return json.loads(data or b"null")

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Bridge:
    """Starts at once; `first_answer_ms` and `first_list_ms` tell how long a first caller waited."""

    def __init__(self, binary, config, home):
        self.home = home
        self.env = dict(os.environ, HOME=str(home), PAPERBOT_LOG="warn")
        for kind in ("DATA", "STATE", "CONFIG", "CACHE"):
            self.env[f"XDG_{kind}_HOME"] = str(home / kind.lower())
        path = home / "bridge.yaml"
        # JSON is YAML.
        path.write_text(json.dumps({"listen": "127.0.0.1:0"} | config))
        self.log = collections.deque(maxlen=50)
        began = time.monotonic()
        self.child = processes.start(
            [binary, "serve", "--config", path], env=self.env, stderr=subprocess.PIPE, text=True
        )
        self.pid = self.child.pid
        try:
            self._first_answers(began)
        except BaseException:
            self.stop()
            raise
        threading.Thread(target=self._drain, daemon=True).start()

    def _first_answers(self, began):
        self.url = None
        for line in self.child.stderr:
            self.log.append(line.rstrip())
            if "listening on http://" in line:
                self.url = line.split("listening on ", 1)[1].strip()
                break
            if time.monotonic() > began + START_SECONDS:
                break
        if self.url is None:
            raise RuntimeError("the bridge did not start: " + " | ".join(self.log))
        self.address = self.url.removeprefix("http://")
        status, _, _ = Client(self.address, None).ask("GET", "/healthz")
        self.first_answer_ms = (time.monotonic() - began) * 1000
        if status != 200:
            raise RuntimeError(f"/healthz: {status}")
        self.key = (self.home / "state/paperbot/admin.key").read_text().strip()
        self.client = self.new_client()
        self.json("GET", "/v1/catalog?limit=1")
        self.first_list_ms = (time.monotonic() - began) * 1000

    def _drain(self):
        for line in self.child.stderr:
            self.log.append(line.rstrip())

    def new_client(self):
        return Client(self.address, self.key)

    def json(self, method, path, body=None):
        return self.client.json(method, path, body)

    @property
    def bearer(self):
        return f"authorization: Bearer {self.key}"

    def wait_tools(self, server, count, seconds=30):
        """Until the catalogue holds `count` tools of the server."""
        end = time.monotonic() + seconds
        path = f"/v1/catalog?limit=1&server={urllib.parse.quote(server)}"
        while time.monotonic() < end:
            seen = {one["server"]: one for one in self.json("GET", path)["servers"]}
            if seen.get(server, {}).get("tools") == count:
                return
            time.sleep(0.05)
        raise RuntimeError(f"{server} never had {count} tools: {seen}")

    def stop(self):
        """True when it ended by itself after SIGTERM."""
        return processes.stop(self.child)
