"""An MCP server over stdio with one tool, which tries what a hostile server would. Standard library only."""

import ctypes
import json
import os
import socket
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH = 16


def system_call(result):
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def read(path, **_):
    with open(path, "rb") as file:
        return f"{len(file.read(65536))} bytes"


def listing(path, **_):
    return f"{len(os.listdir(path))} entries"


def write(path, **_):
    with open(path, "wb") as file:
        return f"{file.write(b'x')} bytes"


def fill(path, size, **_):
    with open(path, "wb", buffering=0) as file:
        block, written = b"\0" * (1 << 20), 0
        while written < size:
            written += file.write(block)
    return f"{written} bytes"


def trace(pid, **_):
    system_call(LIBC.ptrace(PTRACE_ATTACH, pid, None, None))
    return "attached"


def peek(pid, **_):
    with open(f"/proc/{pid}/mem", "rb"):
        return "open"


def signal(pid, **_):
    os.kill(pid, 0)
    return "may signal"


def mount(path, **_):
    system_call(LIBC.mount(b"none", path.encode(), b"tmpfs", 0, None))
    return "mounted"


def namespace(**_):
    system_call(LIBC.unshare(0x10000000))
    return "a namespace of its own"


def allocate(size, **_):
    return f"{len(bytearray(size))} bytes"


def forks(count, **_):
    for _index in range(count):
        if os.fork() == 0:
            time.sleep(300)
            os._exit(0)
    return f"{count} processes"


def connect(path, **_):
    host, port = path.rsplit(":", 1)
    socket.create_connection((host, int(port)), timeout=5).close()
    return "connected"


ATTACKS = {
    function.__name__: function
    for function in (
        read, listing, write, fill, trace, peek, signal, mount, namespace, allocate, forks, connect,
    )
}
TOOL = {
    "name": "attack",
    "description": "Tries one thing.",
    "inputSchema": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
}


def attack(arguments):
    what = arguments.pop("what")
    try:
        return f"done: {ATTACKS[what](**arguments)}"
    except MemoryError:
        return "refused: ENOMEM"
    except OSError as error:
        return f"refused: {error.strerror or error}"


def answer(request):
    method = request["method"]
    if method == "initialize":
        return {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "attacker", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        text = attack(dict(request["params"].get("arguments", {})))
        return {"content": [{"type": "text", "text": text}]}
    return {} if method == "ping" else None


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request or "method" not in request:
        continue
    result = answer(request)
    reply = {"jsonrpc": "2.0", "id": request["id"]}
    if result is None:
        reply["error"] = {"code": -32601, "message": "no such method"}
    else:
        reply["result"] = result
    print(json.dumps(reply), flush=True)
