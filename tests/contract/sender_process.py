"""A sender in its own process, so that its memory can be measured: 50 parallel requests, again and again.

Reads one line of JSON per run from standard input, ``{"url", "body_bytes"}``, and writes one: see `Run`. The first argument is a
file with the certificate authority to trust, the second says how to send: ``fast`` or ``plain``.
"""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
import uvloop

from pipeline.core.exchange import Exchange, NoResponse, Request
from pipeline.sender.client import Sender
from pipeline.sender.limits import SenderLimits
from tests.contract.http_endpoint import LOOPBACK, exchanged
from tests.waiting import until

PARALLEL = 50
LIMITS = SenderLimits(connections=PARALLEL, total_timeout=1.2, connect_timeout=1.0)


@dataclass(frozen=True, slots=True)
class Run:
    """``growth_bytes``: the peak of the resident memory minus its size when the process started.

    ``outcomes``: failure (or an empty string) and status of each request. ``sockets``: open ones, above those at the start.
    """

    growth_bytes: int
    sockets: int
    seconds: float
    outcomes: list[tuple[str, int | None]]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def open_sockets() -> int:
    return sum(is_socket(descriptor) for descriptor in Path("/proc/self/fd").iterdir())


def is_socket(descriptor: Path) -> bool:
    try:
        return str(descriptor.readlink()).startswith("socket:")
    except FileNotFoundError:  # The descriptor used to read the directory.
        return False


class MemoryWatch:
    """The peak of the resident memory while the block runs."""

    def __enter__(self) -> MemoryWatch:
        self.peak = resident_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.peak = max(self.peak, resident_bytes())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def summary(exchange: Exchange) -> tuple[str, int | None]:
    return exchange.failure.value if isinstance(exchange, NoResponse) else "", exchange.status


async def main(authority: str, wire: str) -> None:
    trust = ssl.create_default_context(cafile=authority)
    async with Sender(LIMITS, LOOPBACK, ssl_context=trust, speedups=wire == "fast") as sender:
        # Warm up, so that what any exchange loads is not counted.
        await asyncio.gather(*(sender.post(Request(f"{scheme}://127.0.0.1:1/", {}, b"")) for scheme in ("http", "https")))
        baseline, sockets = resident_bytes(), open_sockets()
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            body = bytes(order["body_bytes"])
            started = time.monotonic()
            with MemoryWatch() as watch:
                exchanges = await asyncio.gather(*(sender.post(Request(order["url"], {}, body)) for _ in range(PARALLEL)))
                # What endpoints send after the exchanges counts too.
                await asyncio.sleep(0.3)
            seconds = time.monotonic() - started
            await until(lambda: open_sockets() <= sockets)  # Reusable connections close after they have been idle.
            run = Run(watch.peak - baseline, open_sockets() - sockets, seconds, [summary(exchanged(one)) for one in exchanges])
            print(json.dumps(asdict(run)), flush=True)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the output is read
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
