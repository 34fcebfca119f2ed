"""The live view of attempts: its page, its stream, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest

from pipeline.core.search import Condition, Predicate
from pipeline.store.errors import StoreUnavailableError
from pipeline.web.attempt_streams import Listener, StreamMessage
from pipeline.web.dashboard import attempt_live
from pipeline.web.event_stream import id_of_time, time_of_id
from schemas.api_key import Access
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import NOW, Service

LIVE = "/webhooks/attempts/live"


@asynccontextmanager
async def stream(visitor: Visitor, query: str = "", **more: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """An open stream."""
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip"} | more
    async with asyncio.timeout(30), visitor.browser.get(LIVE + query, headers=headers, allow_redirects=False) as response:
        yield response


async def event(response: aiohttp.ClientResponse) -> str:
    """The next event. Comments are skipped."""
    while True:
        found = (await response.content.readuntil(b"\n\n")).decode()
        if found.startswith("event:"):
            return found


async def test_the_page_works_without_scripts(service: Service, admin: Visitor) -> None:
    await service.create(description="The ERP")
    service.attempts.rows = (attempt_row(id=12, endpoint_id=1, created_at=NOW),)
    seen = await admin.go(f"{LIVE}?q[state_eq]=failed&q[endpoint_id_eq]=1")
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in seen.html
    assert 'data-live-rows="/webhooks/attempts/live?q%5Bstate_eq%5D=failed&amp;q%5Bendpoint_id_eq%5D=1"' in seen.html
    assert 'href="/webhooks/attempts?q%5Bstate_eq%5D=failed&amp;q%5Bendpoint_id_eq%5D=1">Back to search' in seen.html
    assert ("The ERP" in seen.text, 'href="/webhooks/attempts/12"' in seen.html) == (True, True)
    assert f'data-shown="{id_of_time(NOW)}"' in seen.html


async def test_new_attempts_are_sent_as_rows(service: Service, admin: Visitor) -> None:
    service.attempts.rows = (attempt_row(id=12, created_at=NOW, order_number="R<1>\nx"),)
    async with stream(admin, "?q[state_eq]=failed") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert "Content-Encoding" not in response.headers
        assert response.headers["Cache-Control"] == "no-store"
        received = await event(response)
    assert received.startswith('event: attempts\ndata: <tr data-attempt="12">\n')
    *lines, last = received.strip().splitlines()[1:]
    assert all(line.startswith("data: ") for line in lines)
    assert last == f"id: {id_of_time(NOW)}", "so that a returning browser says what it has already got"
    assert "R&lt;1&gt;" in received
    assert "R<1>" not in received


async def test_a_browser_that_was_offline_is_told_what_it_missed(service: Service, admin: Visitor) -> None:
    """When it is back, only attempts of the last ten seconds are sent."""
    service.attempts.rows = tuple(attempt_row(id=one, created_at=NOW - timedelta(minutes=1)) for one in (11, 12))
    seen = id_of_time(NOW - timedelta(minutes=2))
    for query, headers in (("?q[state_eq]=failed", {"Last-Event-ID": seen}), (f"?q[state_eq]=failed&last_event_id={seen}", {})):
        async with stream(admin, query, **headers) as response:
            received = (await event(response)).replace("\ndata: ", " ")
        assert '<tr data-attempt="missed-2026-03-02T15:02:00.513Z"' in received
        assert "2 attempts are missing here." in received
        search = received.partition('<a href="')[2].partition('"')[0].replace("&amp;", "&")
        assert parse_qsl(search.partition("?")[2]) == [
            ("q[state_eq]", "failed"),
            ("q[created_at_gteq]", "2026-03-02T15:02:00.513Z"),
            ("q[created_at_lteq]", "2026-03-02T15:03:50.511Z"),
        ]
    [asked] = [one for one in service.attempts.queries if one.per_page == 1][:1]
    assert asked.conditions[-2:] == (
        Condition("created_at", Predicate.GTEQ, (NOW - timedelta(minutes=2, milliseconds=-1),)),
        Condition("created_at", Predicate.LT, (NOW - timedelta(seconds=10),)),
    )


@pytest.mark.parametrize("seen", [id_of_time(NOW - timedelta(seconds=9)), "", "-1", "9" * 15, "\N{SUPERSCRIPT TWO}"])
async def test_no_gap_is_reported_without_a_gap_or_a_valid_id(service: Service, admin: Visitor, seen: str) -> None:
    async with stream(admin, f"?last_event_id={seen}") as response:
        service.attempts.rows = (attempt_row(id=12, created_at=NOW),)
        assert 'data-attempt="12"' in await event(response)
    assert [one for one in service.attempts.queries if one.per_page == 1] == []


async def test_no_gap_is_reported_if_nothing_was_made_meanwhile(service: Service, admin: Visitor) -> None:
    async with stream(admin, f"?last_event_id={id_of_time(NOW - timedelta(hours=1))}") as response:
        service.attempts.rows = (attempt_row(id=12, created_at=NOW),)
        assert 'data-attempt="12"' in await event(response)


async def test_a_gap_that_cannot_be_counted_is_reported_as_possible(service: Service, admin: Visitor) -> None:
    service.attempts.error = StoreUnavailableError("gone")
    async with stream(admin, f"?last_event_id={id_of_time(NOW - timedelta(hours=1))}") as response:
        assert "attempts may be missing here." in await event(response)


async def test_heartbeats_say_up_to_when_nothing_is_missing(
    service: Service, admin: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_live, "_HEARTBEAT_SECONDS", 0.01)
    async with stream(admin) as response:
        beat = (await response.content.readuntil(b": still here\n\n")).decode().rpartition("\n\nid: ")[2]
    assert time_of_id(beat.partition("\n")[0]) == NOW - timedelta(seconds=5)


async def test_heartbeats_do_not_advance_while_clickhouse_hangs(
    service: Service, admin: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_live, "_HEARTBEAT_SECONDS", 0.01)
    service.attempts.seconds = 3600
    async with stream(admin) as response:
        service.now[0] = NOW + timedelta(minutes=1)
        beats = [(await response.content.readuntil(b": still here\n\n")).decode() for _ in range(3)]
    assert time_of_id(beats[-1].partition("id: ")[2].partition("\n")[0]) == NOW - timedelta(seconds=10)


async def test_a_browser_that_does_not_read_is_told_what_it_missed(
    service: Service, admin: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Listener] = []

    class Known(Listener):
        def __init__(self, *known: Any) -> None:
            super().__init__(*known)
            made.append(self)

    monkeypatch.setattr("pipeline.web.attempt_streams.Listener", Known)
    async with stream(admin) as response:
        await response.content.readuntil(b": here\n\n")
        [listener] = made
        for number in range(22):  # two more than the queue holds
            listener.send(StreamMessage((attempt_row(id=100 + number, created_at=NOW),)))
        assert "2 attempts are missing here." in (await event(response)).replace("\ndata: ", " ")
        assert 'data-attempt="102"' in await event(response)


async def test_the_stream_ends_with_the_session(service: Service, admin: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_live, "_HEARTBEAT_SECONDS", 0.01)
    await admin.go("/webhooks/endpoints")
    async with stream(admin) as response:
        await admin.send("/webhooks/logout")
        assert await event(response) == "event: over\ndata: You are logged out. Reload the page.\n\n"
        assert await response.content.read() == b""
    async with stream(admin) as response:
        assert response.status == 303


async def test_a_head_request_does_not_stay_open(service: Service, admin: Visitor) -> None:
    seen = await admin.go(LIVE, "HEAD", headers={"Accept": "text/event-stream"})
    assert (seen.status, seen.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


async def test_a_viewer_cannot_search_bodies_live(service: Service, visitor: Visitor) -> None:
    await visitor.log_in(await service.key(Access.VIEWER))
    async with stream(visitor, "?q[request_body_cont]=ada") as response:
        assert response.status == 403


async def test_open_streams_do_not_delay_a_stop(service: Service, admin: Visitor) -> None:
    async with stream(admin) as response:
        await response.content.readuntil(b"\n\n")
        async with asyncio.timeout(9):  # a server waits 10 s for requests in progress
            await service.stop()
        assert b"event: over" not in await response.content.read()
