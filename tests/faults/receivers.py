"""Webhook endpoints in their own process, one per path, and the ledger of their requests.

A lean HTTP server: it must not be what limits a run. Every request is in the ledger before it is answered:

    python -m tests.faults.receivers ledger.txt '{"path": "/flaky", "fail_rate": 0.2}'
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, cast

import uvloop

from tests.ready_pipe import is_readable

ROOT = Path(__file__).resolve().parents[2]

ACKNOWLEDGED = 204
FAILED = 500
NOT_ANSWERED = 0
RESET = -1
ANSWERS = {
    ACKNOWLEDGED: b"HTTP/1.1 204 No Content\r\n\r\n",
    FAILED: b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 10\r\n\r\nno luck :(",
}
REQUEST_LINE = re.compile(rb"POST (\S+) HTTP/1\.1\r\n")
WEBHOOK_ID = re.compile(rb"\r\nwebhook-id: *(\S+)\r\n", re.IGNORECASE)
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Request(NamedTuple):
    """A line of the ledger: the request, its time (seconds since 1970), its answer (0: none, -1: a reset of the connection), and
    a hash of the body."""

    at: float
    path: str
    event_id: str
    status: int
    body_hash: str

    @property
    def is_acknowledged(self) -> bool:
        return self.status == ACKNOWLEDGED


class Ledger:
    """Reads the file while it is written; ``requests`` contains what was read so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[Request] = []
        self._read_bytes = 0

    def read_on(self) -> list[Request]:
        """Return the requests since the last call."""
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        new = list(_parsed(whole))
        self.requests += new
        return new


def _parsed(lines: bytes) -> Iterator[Request]:
    for line in lines.decode().splitlines():
        at, path, event_id, status, body_hash = line.split()
        yield Request(float(at), path, event_id, int(status), body_hash)


@dataclass(frozen=True)
class Behaviour:
    """How the endpoint at ``path`` misbehaves, as shares of its requests from 0 to 1. All other requests are acknowledged at once."""

    path: str = ""
    fail_rate: float = 0.0
    slow_rate: float = 0.0
    slow_seconds: float = 0.0
    seed: int = 0
    reset_rate: float = 0.0
    hang_rate: float = 0.0
    marked: str = ""
    """If set, only requests whose bodies contain it fail (``fail_rate``)."""


class Receivers:
    """Decides on every answer, and writes every request down."""

    def __init__(self, ledger: int, behaviours: Iterable[Behaviour]) -> None:
        self._ledger = ledger
        self._behaviours = {behaviour.path: behaviour for behaviour in behaviours}
        self._random = {behaviour.path: random.Random(behaviour.seed) for behaviour in self._behaviours.values()}

    def answer(self, path: str, event_id: str, body: bytes) -> tuple[int, float]:
        """Return the answer, and after how many seconds to send it."""
        behaviour = self._behaviours.get(path.partition("?")[0])
        if behaviour is not None and behaviour.marked.encode() not in body:
            behaviour = None
        status, seconds = self._choose(behaviour) if behaviour is not None else (ACKNOWLEDGED, 0.0)
        body_hash = hashlib.blake2b(body, digest_size=10).hexdigest()
        os.write(self._ledger, f"{time.time():.6f} {path} {event_id} {status} {body_hash}\n".encode())
        return status, seconds

    def _choose(self, behaviour: Behaviour) -> tuple[int, float]:
        own = self._random[behaviour.path]
        chance = own.random()
        seconds = behaviour.slow_seconds if own.random() < behaviour.slow_rate else 0.0
        for status, rate in ((FAILED, behaviour.fail_rate), (RESET, behaviour.reset_rate), (NOT_ANSWERED, behaviour.hang_rate)):
            if chance < rate:
                return status, seconds
            chance -= rate
        return ACKNOWLEDGED, seconds


class Connection(asyncio.Protocol):
    """One connection with requests in sequence. An incomplete request is not in the ledger."""

    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport is not one by its class

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head, start = self._data[: end + 2], end + 4
            line, event_id, length = REQUEST_LINE.match(head), WEBHOOK_ID.search(head), CONTENT_LENGTH.search(head)
            if line is None or event_id is None or length is None:
                raise ValueError(f"not the request of a webhook: {head!r}")
            stop = start + int(length[1])
            if len(self._data) < stop:
                return
            body, self._data = self._data[start:stop], self._data[stop:]
            status, seconds = self._receivers.answer(line[1].decode(), event_id[1].decode(), body)
            if seconds:
                asyncio.get_running_loop().call_later(seconds, self._answer, status)
            else:
                self._answer(status)

    def _answer(self, status: int) -> None:
        if status == RESET:
            self._transport.abort()
        elif status != NOT_ANSWERED and not self._transport.is_closing():  # the client may have been killed
            self._transport.write(ANSWERS[status])


async def serve(receivers: Receivers) -> None:
    """Serve on a free port, which is printed, until standard input closes, because the parent process is gone."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(receivers), "127.0.0.1", 0, backlog=1024)
    stopped = asyncio.Event()
    loop.add_reader(sys.stdin, stopped.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stopped.wait()


class ReceiverProcess:
    """The process of the receivers, for tests."""

    def __init__(self, ledger: Path, *behaviours: Behaviour) -> None:
        self.ledger = Ledger(ledger)
        chosen = [json.dumps(asdict(behaviour)) for behaviour in behaviours]
        command = [sys.executable, "-m", "tests.faults.receivers", str(ledger), *chosen]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        ready = is_readable(self._process.stdout, 30)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.stop()
            raise RuntimeError("the receivers did not start; what they wrote to stderr says why")
        self.url = f"http://127.0.0.1:{int(line)}"

    def stop(self) -> None:
        """End the process, and keep the ledger."""
        self._process.kill()
        self._process.wait(30)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ledger", help="the file that every request is written to")
    parser.add_argument("behaviours", nargs="*", help="a Behaviour as JSON, for each path that misbehaves")
    options = parser.parse_args()
    ledger = os.open(options.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    behaviours = [Behaviour(**json.loads(behaviour)) for behaviour in options.behaviours]
    uvloop.run(serve(Receivers(ledger, behaviours)))


if __name__ == "__main__":
    main()
