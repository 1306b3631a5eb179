"""Agents for the bridge's tunnel: real ones, idle ones made of frames, and a line that can be cut.

Everything idle lives on one event loop in a thread of its own; only the standard library is needed.
"""

import asyncio
import base64
import json
import os
import socket
import struct
import threading

SUBPROTOCOL = "paperbot.tunnel.v1"
SECONDS = 60
# The bridge lets one user have so many.
AGENTS_PER_USER = 64


class Loop:
    """An event loop in a thread."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine, seconds=SECONDS):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)


class Gate:
    """A port that leads to another; `cut` ends all its connections with RST on both sides."""

    def __init__(self, loop, port, target):
        self.loop, self.port, self.target, self.writers = loop, port, target, set()
        loop.run(self._open())

    async def _open(self):
        self.server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    async def _carry(self, reader, writer):
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, back}
        await asyncio.gather(_pump(reader, back), _pump(there, writer))
        self.writers -= {writer, back}

    def cut(self):
        self.loop.run(self._cut())

    async def _cut(self):
        for writer in self.writers:
            kernel = writer.get_extra_info("socket")
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _close(self):
        self.server.close()
        await self._cut()

    def close(self):
        self.loop.run(self._close())


async def _pump(reader, writer):
    try:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class Idle:
    """Is let in, answers pings, and says nothing else unless told."""

    def __init__(self, agent_id, token):
        self.agent_id, self.token, self.seq, self.connection, self.lost = agent_id, token, 0, None, None

    async def connect(self, port):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write(
            f"GET /v1/agents/tunnel HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
        )
        head = await self.reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head:
            raise RuntimeError(f"no tunnel: {head[:200]!r}")
        meta = {"hostname": "bench", "os": "linux", "arch": "x86_64", "pid": 1, "version": "0"}
        hello = {"agent_meta": meta, "resume": {"running": [], "results": []}, "protocol": {"min": 1, "max": 1}}
        self.say("HELLO", hello)
        self.say("AUTH", {"token": self.token})
        welcome = await self._frame()
        if welcome is None or welcome["type"] != "HELLO_ACK":
            raise RuntimeError(f"not let in: {welcome}")
        self.connection = welcome["conn_session_id"]
        self.listening = asyncio.create_task(self._listen())

    def say(self, kind, payload):
        self.seq += 1
        frame = {"v": 1, "type": kind, "agent_id": self.agent_id, "seq": self.seq, "ts": 1, "payload": payload}
        if self.connection:
            frame["conn_session_id"] = self.connection
        text = json.dumps(frame).encode()
        size = bytes([0x80 | len(text)]) if len(text) < 126 else bytes([0x80 | 126]) + struct.pack(">H", len(text))
        # A mask of zeroes: the text stands as it is.
        self.writer.write(b"\x81" + size + bytes(4) + text)

    async def _frame(self):
        """The next text frame; None when the bridge closed."""
        while True:
            first, size = await self.reader.readexactly(2)
            if size >= 126:
                width, form = (2, ">H") if size == 126 else (8, ">Q")
                (size,) = struct.unpack(form, await self.reader.readexactly(width))
            body = await self.reader.readexactly(size)
            if first & 0x0F == 8:
                return None
            if first & 0x0F == 1:
                return json.loads(body)

    async def _listen(self):
        try:
            while frame := await self._frame():
                if frame["type"] == "PING":
                    self.say("PONG", {})
            self.lost = "closed by the bridge"
        except (OSError, asyncio.IncompleteReadError) as error:
            self.lost = f"{type(error).__name__}: {error}"

    async def close(self):
        self.listening.cancel()
        self.writer.transport.abort()


def tokens(bridge, count):
    """[(agent_id, token)…] of as many users as that needs."""
    made = []
    for first in range(0, count, AGENTS_PER_USER):
        user = f"owner{first // AGENTS_PER_USER}"
        bridge.json("POST", "/v1/users", {"user": user, "workspaces": [{"workspace": "default", "roles": ["operator"]}]})
        client = bridge.new_client()
        client.key = bridge.json("POST", "/v1/keys", {"user": user})["key"]
        for number in range(first, min(first + AGENTS_PER_USER, count)):
            issued = client.json("POST", "/v1/agents/tokens", {"agent_id": f"idle-{number:05}"})
            made.append((issued["agent_id"], issued["token"]))
        client.close()
    return made


class Agent:
    """A real `paperbot-mcp agent run` with directories of its own; `servers` as in its file."""

    def __init__(self, run, agent_id, address, token, servers=()):
        home = run.home(f"agent-{agent_id}")
        config = {
            "version": 1,
            "server": {"url": f"ws://{address}/v1/agents/tunnel", "token_file": str(home / "token")},
            "agent": {"id": agent_id},
            "mcp_servers": list(servers),
        }
        (home / "token").write_text(token)
        # JSON is YAML.
        (home / "config.yaml").write_text(json.dumps(config))
        env = dict(os.environ, HOME=str(home), XDG_STATE_HOME=str(home / "state"), XDG_CONFIG_HOME=str(home / "xdg"))
        argv = [run.bin / "paperbot-mcp", "agent", "run", "--config", home / "config.yaml"]
        with open(home / "log", "wb") as log:
            self.child = run.start(argv, env=env, stderr=log)
