"""100 webhook endpoints in their own process; half of them turn hostile on command.

    python -m tests.bench.hostile received.txt

Lines on standard input set their state: ``healthy`` or ``hostile``. The port is printed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

ROOT = Path(__file__).resolve().parents[2]
ENDPOINTS = 100
GROUPS = 10
"""Endpoints of one group get the same events: ten endpoints, five of them healthy throughout."""
KINDS = ("silent", "silent", "late", "reset", "error", "healthy", "healthy", "healthy", "healthy", "healthy")
LATE_SECONDS = 9.0
OK = b"HTTP/1.1 204 No Content\r\n\r\n"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
HEALTHY, HOSTILE = b"healthy\n", b"hostile\n"


def kind_of(endpoint_id: int) -> str:
    """Return what an endpoint turns into; ids start at 1."""
    return KINDS[(endpoint_id - 1) // GROUPS]


class Endpoints(asyncio.Protocol):
    """One connection to one of the endpoints; its path is the endpoint's id. Healthy ones record every request."""

    is_hostile = False

    def __init__(self, ledger: int) -> None:
        self._ledger = ledger
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = int(_header(head, b"content-length"))
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            endpoint_id = int(head[6 : head.index(b" ", 6)])
            self._answer(endpoint_id, _header(head, b"webhook-id").decode())

    def _answer(self, endpoint_id: int, event_id: str) -> None:
        kind = kind_of(endpoint_id)
        if kind == "healthy":
            os.write(self._ledger, f"{time.time():.6f} {endpoint_id} {event_id}\n".encode())
        match kind if Endpoints.is_hostile else "healthy":
            case "healthy":
                self._transport.write(OK)
            case "late":
                asyncio.get_running_loop().call_later(LATE_SECONDS, self._write, OK)
            case "reset":
                connection = self._transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._transport.abort()
            case "error":
                self._transport.write(ERROR)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


def _header(head: bytes, name: bytes) -> bytes:
    lowered = head.lower()
    at = lowered.index(b"\r\n" + name + b":") + len(name) + 3
    return head[at:].split(b"\r\n", 1)[0].strip()


async def serve(ledger: int) -> None:
    """Serve until standard input closes; a line there sets the endpoints' state."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Endpoints(ledger), "127.0.0.1", 0, backlog=4096)
    stopped = asyncio.Event()

    def told() -> None:
        line = sys.stdin.buffer.readline()
        Endpoints.is_hostile = line == HOSTILE
        if not line:
            stopped.set()

    loop.add_reader(sys.stdin, told)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stopped.wait()


class Received(NamedTuple):
    """A request to a healthy endpoint, and its time (seconds since 1970)."""

    at: float
    endpoint_id: int
    event_id: str


class ReceiverProcess:
    """The process of the receivers, for the benchmark."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        command = [sys.executable, "-m", "tests.bench.hostile", str(ledger)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def become(self, manner: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(manner)
        self._process.stdin.flush()

    def received(self) -> list[Received]:
        lines = self._ledger.read_text().splitlines()
        return [Received(float(at), int(number), event) for at, number, event in map(str.split, lines)]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(30)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


if __name__ == "__main__":
    uvloop.run(serve(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)))
