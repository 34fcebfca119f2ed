"""A sender in its own process with few descriptors, and many healthy endpoints.

Arguments: the port where each address of 127.0.0.0/8 is an endpoint, how many of them, the limit of descriptors, how many requests at once,
how many idle connections are kept, and how to send (1: with aiohttp's internals, 0: with its public API). Prints the number of
requests per outcome as JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import Counter

import structlog
import uvloop

from pipeline.core.exchange import Request, Response
from pipeline.core.local_faults import NotSent
from pipeline.sender.client import Sender
from pipeline.sender.limits import SenderLimits
from tests.contract.http_endpoint import LOOPBACK

_ROUNDS = 2


async def run(port: int, endpoints: int, connections: int, idle: int, speedups: int) -> Counter[str]:
    """Send a request to every endpoint, all at once; and again, while connections are kept open."""
    outcomes: Counter[str] = Counter()
    async with Sender(SenderLimits(connections=connections, idle=idle), LOOPBACK, speedups=bool(speedups)) as sender:

        async def post(number: int) -> None:
            url = f"http://127.1.{number // 250}.{number % 250 + 1}:{port}/"
            outcome = await sender.post(Request(url, {}, b"{}"))
            match outcome:
                case Response():
                    outcomes[str(outcome.status)] += 1
                case NotSent():
                    outcomes[outcome.fault.value] += 1
                case _:
                    outcomes[outcome.failure.value] += 1

        for _ in range(_ROUNDS):
            await asyncio.gather(*map(post, range(endpoints)))
    return outcomes


def main() -> None:
    port, endpoints, descriptors, connections, idle, speedups = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(runner.run(run(port, endpoints, connections, idle, speedups)), sys.stdout)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the output is read
    main()
