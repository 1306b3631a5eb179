"""A local proxy that adds the API key, because the suites cannot send one. It owns nothing else: every byte of an
answer passes as it comes, and a Host or Origin that is not the proxy's own reaches the bridge unchanged."""

import asyncio
import threading

HEAD_LIMIT_BYTES = 64 * 1024


class Passthrough:
    """Listens on a free loopback port, in a thread of its own, until `close`."""

    def __init__(self, authority: str, key: str):
        self.authority = authority
        self.key = key
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait()

    def _run(self, ready: threading.Event):
        asyncio.set_event_loop(self.loop)
        start = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_LIMIT_BYTES)
        self.server = self.loop.run_until_complete(start)
        self.own = "127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def _request(self, head: bytes) -> bytes:
        lines = head.decode("latin-1").split("\r\n")
        kept = [lines[0]]
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            if name == "host" and value == self.own:
                line = f"Host: {self.authority}"
            if name == "origin" and value == f"http://{self.own}":
                line = f"Origin: http://{self.authority}"
            if line and name not in ("connection", "authorization"):
                kept.append(line)
        return _closing(kept + [f"Authorization: Bearer {self.key}"])

    async def _serve(self, reader, writer):
        bridge_writer = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            host, port = self.authority.split(":")
            bridge_reader, bridge_writer = await asyncio.open_connection(host, int(port))
            bridge_writer.write(self._request(head))
            up = asyncio.ensure_future(_copy(reader, bridge_writer))
            down = asyncio.ensure_future(_answer(bridge_reader, writer))
            # A side that leaves ends both: a client that hangs up cancels its call at the bridge.
            _, still = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            for task in still:
                task.cancel()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            for side in (writer, bridge_writer):
                if side is not None:
                    side.close()


def _closing(lines: list) -> bytes:
    """One request a connection: an answer ends where the bridge closes, and no second request slips by unchanged."""
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


async def _answer(reader, writer):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return
    lines = head.decode("latin-1").split("\r\n")
    writer.write(_closing([line for line in lines if line and not line.lower().startswith("connection:")]))
    await _copy(reader, writer)


async def _copy(reader, writer):
    try:
        while chunk := await reader.read(64 * 1024):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
