"""Attempts as they are made: the page, the stream, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from pipeline.web.dashboard import attempt_live
from schemas.api_key import Access
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import NOW, Service

LIVE = "/webhooks/attempts/live"


@asynccontextmanager
async def stream(visitor: Visitor, query: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
    """An open stream."""
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip"}
    async with asyncio.timeout(30), visitor.browser.get(LIVE + query, headers=headers, allow_redirects=False) as response:
        yield response


async def event(response: aiohttp.ClientResponse) -> str:
    """The next event; comments are passed over."""
    while True:
        found = (await response.content.readuntil(b"\n\n")).decode()
        if found.startswith("event:"):
            return found


async def test_the_page_works_without_a_script(service: Service, admin: Visitor) -> None:
    await service.create(description="The ERP")
    service.attempts.rows = (attempt_row(id=12, endpoint_id=1),)
    seen = await admin.go(f"{LIVE}?q[state_eq]=failed&q[endpoint_id_eq]=1")
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in seen.html
    assert 'data-live-rows="/webhooks/attempts/live?q%5Bstate_eq%5D=failed&amp;q%5Bendpoint_id_eq%5D=1"' in seen.html
    assert 'href="/webhooks/attempts?q%5Bstate_eq%5D=failed&amp;q%5Bendpoint_id_eq%5D=1">Back to the search' in seen.html
    assert ("The ERP" in seen.text, 'href="/webhooks/attempts/12"' in seen.html) == (True, True)


async def test_new_attempts_come_as_rows(service: Service, admin: Visitor) -> None:
    service.attempts.rows = (attempt_row(id=12, created_at=NOW, order_number="R<1>\nx"),)
    async with stream(admin, "?q[state_eq]=failed") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert "Content-Encoding" not in response.headers
        assert response.headers["Cache-Control"] == "no-store"
        told = await event(response)
    assert told.startswith('event: attempts\ndata: <tr data-attempt="12">\n')
    assert all(line.startswith("data: ") for line in told.strip().splitlines()[1:])
    assert "R&lt;1&gt;" in told
    assert "R<1>" not in told


async def test_it_ends_with_the_session(service: Service, admin: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_live, "_HEARTBEAT_SECONDS", 0.01)
    await admin.go("/webhooks/endpoints")
    async with stream(admin) as response:
        await admin.send("/webhooks/logout")
        assert await event(response) == "event: over\ndata: You are logged out. Reload the page.\n\n"
        assert await response.content.read() == b""
    async with stream(admin) as response:
        assert response.status == 303


async def test_a_look_at_its_head_ends(service: Service, admin: Visitor) -> None:
    seen = await admin.go(LIVE, "HEAD", headers={"Accept": "text/event-stream"})
    assert (seen.status, seen.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


async def test_a_viewer_does_not_watch_bodies(service: Service, visitor: Visitor) -> None:
    await visitor.log_in(await service.key(Access.VIEWER))
    async with stream(visitor, "?q[request_body_cont]=ada") as response:
        assert response.status == 403


async def test_the_process_stops_at_once(service: Service, admin: Visitor) -> None:
    async with stream(admin) as response:
        await response.content.readuntil(b"\n\n")
        async with asyncio.timeout(9):  # a server waits 10 s for what is being answered
            await service.stop()
        assert b"event: over" not in await response.content.read()
