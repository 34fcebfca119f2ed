"""``GET /api/webhook/attempts/live``: a stream for programs, with the same attempts as the dashboard's live view."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import aiohttp
import pytest

from pipeline.store.errors import StoreUnavailableError
from pipeline.web.event_stream import id_of_time
from schemas.api_key import Access
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.endpoint_requests import request
from tests.unit.web.service import NOW, Service

PATH = "/api/webhook/attempts/live"
EVENTS = {"Accept": "text/event-stream"}


async def events(response: aiohttp.ClientResponse, count: int) -> list[str]:
    """The next events and comments, however long they are."""
    text = b""
    while text.count(b"\n\n") < count:
        text += await response.content.readany()
    return text.decode().split("\n\n")[:count]


async def test_attempts_are_streamed_to_clients_with_a_key(service: Service) -> None:
    _, made = await request(service, "POST", "/api/webhook/keys", json={"key": {"name": "tail", "role": "viewer"}})
    headers = EVENTS | {"Authorization": f"Bearer {made['key']}"}
    service.attempts.rows = (attempt_row(id=12, created_at=NOW),)
    async with asyncio.timeout(30), service.anonymous.get(f"{PATH}?q[state_eq]=failed&strict=1", headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        await response.content.readuntil(b": here\n\n")
        received = (await response.content.readuntil(b"\n\n")).decode()
        name, data, last_id = received.strip().split("\n")
        assert (name, last_id) == ("event: attempts", f"id: {id_of_time(NOW)}")
        [attempt] = json.loads(data.removeprefix("data: "))["attempts"]
        assert (attempt["id"], attempt["outcome"], attempt["token"]) == (12, "repeated", None)

        # The stream ends when the key is revoked, not some time later.
        assert (await request(service, "DELETE", f"/api/webhook/keys/{made['id']}"))[0] == 204
        service.attempts.rows = (attempt_row(id=13, created_at=NOW),)
        rest = (await response.content.read()).decode()
        assert (rest.count("event: attempts"), rest.count("event: over")) == (0, 1)


async def test_stream_requests_without_media_type_key_or_role_are_refused(service: Service) -> None:
    status, answer = await request(service, "GET", PATH)
    assert (status, answer["error"]) == (406, "This is an event stream. Request it with Accept: text/event-stream.")
    async with service.anonymous.get(PATH, headers=EVENTS) as response:
        assert response.status == 401
    viewer = {"Authorization": f"Bearer {await service.key(Access.VIEWER)}"}
    async with service.anonymous.get(f"{PATH}?q[request_body_cont]=ada", headers=EVENTS | viewer) as response:
        assert response.status == 403
    async with service.client.get(f"{PATH}?q[colour_eq]=red&strict=1", headers=EVENTS) as response:
        assert response.status == 422


async def test_a_client_that_returns_to_a_busy_search_is_told_what_it_missed(service: Service) -> None:
    """Only the last 200 attempts are kept for a returning client: here, those of two seconds."""
    times = {number: NOW - timedelta(milliseconds=10 * (251 - number)) for number in range(250, 0, -1)}
    service.attempts.rows = tuple(attempt_row(id=number, created_at=at) for number, at in times.items())
    back = f"{PATH}?last_event_id={id_of_time(NOW - timedelta(seconds=9))}"
    async with asyncio.timeout(30), service.client.get(PATH, headers=EVENTS) as first:
        await events(first, 4)  # the opening, the attempts, and how many are left out
        async with service.client.get(back, headers=EVENTS) as second:
            *_, earlier, latest = await events(second, 4)
    missed, shown = (json.loads(one.partition("data: ")[2].partition("\n")[0]) for one in (earlier, latest))
    assert (missed["attempts"], missed["missed"]["created_at_gteq"]) == ([], "2026-03-02T15:03:51.513Z")
    assert missed["missed"]["created_at_lt"] == "2026-03-02T15:03:58.503Z"
    assert [one["id"] for one in shown["attempts"]] == list(range(51, 251))


async def test_attempts_made_during_a_clickhouse_outage_are_reported_as_missed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.web.attempt_streams._SLOWER", 0.01)
    service.attempts.error = StoreUnavailableError("gone")
    async with asyncio.timeout(30), service.client.get(PATH, headers=EVENTS) as response:
        await response.content.readuntil(b"event: problem\n")
        service.now[0] = NOW + timedelta(minutes=5)
        for _ in range(2):  # the first may come from a poll that had already begun
            await response.content.readuntil(b"event: problem\n")
        service.attempts.rows, service.attempts.error = (attempt_row(id=12, created_at=service.now[0]),), None
        await response.content.readuntil(b"event: attempts\n")
        missed = json.loads((await response.content.readuntil(b"\n\n")).decode().removeprefix("data: "))
        shown = (await response.content.readuntil(b"\n\n")).decode()
    assert missed == {
        "attempts": [],
        "missed": {
            "created_at_gteq": "2026-03-02T15:03:50.512Z",
            "created_at_lt": "2026-03-02T15:08:00.512Z",
            "count": None,
            "count_is_exact": True,
        },
    }
    assert (shown.startswith("event: attempts\n"), '"id": 12' in shown) == (True, True)


@pytest.mark.parametrize(
    ("asked", "headers", "ignored"),
    [
        ("q[colour_eq]=red", {}, ["colour_eq: attempts have no attribute colour"]),
        ("endpoint_id_eq=7", {}, ["endpoint_id_eq: unknown parameter; filters look like q[order_number_eq]=R1"]),
        ("last_event_id=abc", {}, ["last_event_id: abc is not the id of an event, so what was missed is not known"]),
        ("", {"Last-Event-ID": "abc"}, ["last_event_id: abc is not the id of an event, so what was missed is not known"]),
    ],
)
async def test_a_stream_begins_with_what_has_no_effect(
    service: Service, asked: str, headers: dict[str, str], ignored: list[str]
) -> None:
    """Otherwise, a misspelt filter streams everything, and nobody hears of it."""
    async with asyncio.timeout(30), service.client.get(f"{PATH}?{asked}", headers=EVENTS | headers) as response:
        *_, first = await events(response, 3)
    assert first.startswith("event: attempts\ndata: ")
    assert json.loads(first.partition("data: ")[2]) == {"attempts": [], "ignored_filters": ignored}
    async with service.client.get(f"{PATH}?{asked}&strict=1", headers=EVENTS | headers) as response:
        assert response.status == 422


async def test_a_stream_that_ignores_nothing_begins_with_attempts(service: Service) -> None:
    service.attempts.rows = (attempt_row(id=12, created_at=NOW),)
    back = f"{PATH}?q[state_eq]=failed&last_event_id={id_of_time(NOW)}"
    async with asyncio.timeout(30), service.client.get(back, headers=EVENTS) as response:
        *_, first = await events(response, 3)
    assert json.loads(first.partition("data: ")[2].partition("\n")[0])["attempts"][0]["id"] == 12
