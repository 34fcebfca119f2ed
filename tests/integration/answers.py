"""Raw HTTP servers that answer as a test says, and the outcome of an event for each of them."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from schemas.topics import parse_delay
from tests.integration.conftest import Pipeline, event_bytes
from tests.waiting import until

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]

DELAYS = ("100ms", "100ms", "200ms", "200ms", "300ms")
"""The retry schedule of the pipelines in these tests."""


class Endpoint:
    """A raw HTTP server: the test decides its answers, down to the bytes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.requests: list[tuple[str, bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append((headers["webhook-id"], body))
            await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sender gave up, as some of these tests expect
        finally:
            writer.close()


def status(code: int) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        location = "Location: /elsewhere\r\n" if 300 <= code < 400 else ""
        writer.write(f"HTTP/1.1 {code} X\r\n{location}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()

    return answer


async def truncated(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
    await writer.drain()


async def reset(writer: asyncio.StreamWriter) -> None:
    transport = writer.transport
    transport.abort()


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


@asynccontextmanager
async def listening(endpoint: Endpoint, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
    finally:
        server.close()


async def every_endpoint_gets(pipeline: Pipeline, endpoints: dict[str, Endpoint], wanted: dict[str, int]) -> None:
    """Send one event to all endpoints; check that each gets the right number of requests, all with one webhook-id and body."""
    names: dict[int, str] = {}
    async with AsyncExitStack() as servers:
        for name, endpoint in endpoints.items():
            url = await servers.enter_async_context(listening(endpoint))
            names[(await pipeline.register(url))["id"]] = name
        await pipeline.publish(event_bytes("evt-many"))
        found = await until(lambda: recorded(pipeline, "evt-many", sum(wanted.values())))

    assert Counter(names[each["endpoint_id"]] for each in found) == wanted
    assert {name: len(endpoint.requests) for name, endpoint in endpoints.items()} == wanted
    assert {request[0] for endpoint in endpoints.values() for request in endpoint.requests} == {"evt-many"}
    assert len({request[1] for endpoint in endpoints.values() for request in endpoint.requests}) == 1
    for each in found:
        name = names[each["endpoint_id"]]
        acknowledged = wanted[name] == 1
        assert each["state"] == ("succeeded" if acknowledged else "failed")
        assert each["outcome"] == ("delivered" if acknowledged else "exhausted" if each["attempt"] == 6 else "repeated")
        assert name in (str(each["http_status_code"]), each["failure"])
        assert (each["error"] is None) == acknowledged
    _assert_the_delays_were_kept(found)


def _assert_the_delays_were_kept(found: list[dict[str, Any]]) -> None:
    """Check that at least the delay passes between attempts (Kafka's timestamps are whole ms)."""
    by_endpoint: dict[int, list[dict[str, Any]]] = {}
    for each in sorted(found, key=lambda each: each["attempt"]):
        by_endpoint.setdefault(each["endpoint_id"], []).append(each)
    for attempts in by_endpoint.values():
        for delay, earlier, later in zip(DELAYS, attempts, attempts[1:], strict=False):
            ended = datetime.fromisoformat(earlier["created_at"]) + timedelta(milliseconds=earlier["duration_ms"])
            waited = datetime.fromisoformat(later["created_at"]) - ended
            assert waited >= parse_delay(delay) - timedelta(milliseconds=3), (earlier, later)


async def recorded(pipeline: Pipeline, event_id: str, wanted: int) -> list[dict[str, Any]]:
    """Wait for an event's attempts; there must never be more than ``wanted``."""
    found = await pipeline.attempts(event_id_eq=event_id)
    assert len(found) <= wanted, f"{len(found)} attempts are recorded, more than {wanted}"
    return found if len(found) == wanted else []
