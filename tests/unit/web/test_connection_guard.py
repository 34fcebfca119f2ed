"""Connections to our own port: idle ones are closed, and requests are answered however many clients connect."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from pipeline.ops import metrics
from pipeline.ops.health import Health
from pipeline.web.connection_guard import ConnectionLimits
from pipeline.web.server import WebServer, make_app
from tests.waiting import until

HALF_OPEN = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
WHOLE = HALF_OPEN + b"\r\n"
QUICK = ConnectionLimits(most=50, head_seconds=0.3, body_seconds=0.3, idle_seconds=0.3, reading_seconds=0.3)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class GuardedServer:
    """A server and its clients."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.busy = 0
        self.busy_seconds = 0.0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.visitors: list[Stream] = []

    async def visit(self, sent: bytes) -> Stream:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(sent)
        self.visitors.append((reader, writer))
        return reader, writer

    async def ask(self) -> bytes:
        """Return the first line of the answer of ``/healthz``."""
        reader, writer = await self.visit(WHOLE)
        line = await asyncio.wait_for(reader.readline(), 60)
        writer.transport.abort()
        return line


@asynccontextmanager
async def street(limits: ConnectionLimits = QUICK) -> AsyncIterator[GuardedServer]:
    app = make_app(health=Health())

    async def read(request: web.Request) -> web.Response:
        return web.json_response({"bytes": len(await request.read())})

    async def slow(_: web.Request) -> web.Response:
        opened.busy += 1
        await asyncio.sleep(opened.busy_seconds)
        await opened.may_answer.wait()
        return web.json_response({})

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(64 * 1024 * 1024))

    app.router.add_post("/read", read)
    app.router.add_get("/slow", slow)
    app.router.add_get("/large", large)
    server = WebServer(app, "127.0.0.1", 0, limits)
    opened = GuardedServer(int((await server.start()).rpartition(":")[2]))
    try:
        yield opened
    finally:
        for _, writer in opened.visitors:
            writer.transport.abort()
        await server.stop()


def closed(reason: str) -> float:
    return metrics.registry.get_sample_value("oms_webhooks_http_closed_connections_total", {"reason": reason}) or 0.0


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """Read what is left. Fails if the connection is not closed in time."""
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(), 60)
    return b""


@pytest.mark.parametrize("sent", [b"", b"G", HALF_OPEN], ids=["nothing", "a letter", "half a head"])
async def test_an_unfinished_request_head_times_out(sent: bytes) -> None:
    before = closed("head")
    async with street() as opened:
        reader, _ = await opened.visit(sent)
        assert await until_closed(reader) == b""
    assert closed("head") == before + 1


async def test_a_request_head_that_trickles_in_gets_no_extra_time() -> None:
    async with street() as opened:
        reader, writer = await opened.visit(HALF_OPEN)

        async def trickle() -> None:
            with contextlib.suppress(OSError):
                while True:
                    writer.write(b"X: y\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        await until_closed(reader)
        trickling.cancel()


async def test_a_second_request_head_on_a_connection_has_its_own_time_limit() -> None:
    async with street(ConnectionLimits(head_seconds=0.3)) as opened:
        reader, writer = await opened.visit(WHOLE)
        assert b"200" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        writer.write(HALF_OPEN)
        await until_closed(reader)


async def test_an_unfinished_body_times_out() -> None:
    before = closed("body")
    async with street() as opened:
        reader, _ = await opened.visit(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        await until_closed(reader)
    assert closed("body") == before + 1


async def test_an_unread_answer_times_out() -> None:
    before = closed("reading")
    async with street() as opened:
        await opened.visit(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: closed("reading") > before)


async def test_a_request_in_progress_is_not_timed_out() -> None:
    """It takes a second: the time limits are those of a real server, and the longest is 0.3 s."""
    async with street() as opened:
        opened.busy_seconds = 1.0
        reader, _ = await opened.visit(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"200" in await until_closed(reader)


async def test_an_idle_connection_is_closed() -> None:
    async with street() as opened:
        reader, _ = await opened.visit(WHOLE)
        assert await until_closed(reader)


async def test_health_answers_despite_thousands_of_half_open_requests() -> None:
    """The worst case: none of them ever ends by itself, and they are six times as many as allowed.

    It takes a second or two: 3,000 connections are opened.
    """
    async with street(ConnectionLimits(most=500, head_seconds=300.0)) as opened:
        for _ in range(15):
            await asyncio.gather(*(opened.visit(HALF_OPEN) for _ in range(200)))
            started = time.monotonic()
            assert await opened.ask() == b"HTTP/1.1 200 OK\r\n"
            assert time.monotonic() - started < 60, "half-open requests last 300 s"
        assert metrics.registry.get_sample_value("oms_webhooks_http_connections") == 500


async def test_busy_connections_are_kept_and_new_ones_refused() -> None:
    before = closed("refused")
    async with street(ConnectionLimits(most=3)) as opened:
        opened.may_answer.clear()
        busy = [await opened.visit(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") for _ in range(3)]
        await until(lambda: opened.busy == 3)
        reader, _ = await opened.visit(WHOLE)
        assert await until_closed(reader) == b""
        assert closed("refused") == before + 1
        opened.may_answer.set()
        for reader, _ in busy:
            assert b"200" in await until_closed(reader)
        assert await opened.ask() == b"HTTP/1.1 200 OK\r\n"
