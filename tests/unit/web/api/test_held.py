"""POST …/endpoints/{id}/held/drop: the request states the number; the drop is durable, exact and audited."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from schemas.api_key import Access
from schemas.audit import AuditAction
from tests.unit.sample_events import held_fact
from tests.unit.web.endpoint_requests import PATH, request, wrapped
from tests.unit.web.service import API_KEY, NOW, Service

ACTOR = f"api-key:{hashlib.sha256(API_KEY.encode()).hexdigest()[:8]}"


@pytest.fixture
async def paused(service: Service) -> Service:
    """A paused endpoint with 297 deliveries held in two partitions."""
    identifier = await service.create()
    await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(active=False))
    service.learn(held_fact(identifier, 200, partition=2), held_fact(identifier, 97, partition=4))
    return service


async def drop(service: Service, body: Any) -> tuple[int, Any]:
    return await request(service, "POST", f"{PATH}/1/held/drop", json=body)


async def test_a_drop_is_in_the_endpoints_record_when_it_is_answered(paused: Service) -> None:
    assert (await request(paused, "GET", f"{PATH}/1"))[1]["held_count"] == 297

    assert await drop(paused, {"count": 297}) == (200, {"dropped": 297})

    record = paused.kafka.changes[-1]
    assert (record.change, record.changed_by, record.active) == ("drop_held", ACTOR, False)
    assert [(one.partition, one.below, one.until, one.dropped_by) for one in record.drops] == [
        (2, 5_000, NOW, ACTOR),
        (4, 5_000, NOW, ACTOR),
    ]
    [entry] = paused.kafka.audits
    assert (entry.action, entry.subject, entry.detail) == (AuditAction.DROP_HELD, "endpoint 1", "297 held deliveries")
    shown = (await request(paused, "GET", f"{PATH}/1"))[1]
    assert (shown["held_count"], shown["held_since"]) == (0, None)


async def test_a_wrong_number_drops_nothing_and_returns_the_right_one(paused: Service) -> None:
    changes = len(paused.kafka.changes)

    status, body = await drop(paused, {"count": 296})

    assert (status, body) == (
        409,
        {
            "error": "297 are held for this endpoint now, not 296, so nothing was dropped. Send the current number.",
            "held_count": 297,
        },
    )
    assert len(paused.kafka.changes) == changes
    assert paused.kafka.audits == []


async def test_deliveries_held_after_a_drop_are_counted_separately(paused: Service) -> None:
    await drop(paused, {"count": 297})
    paused.learn(held_fact(1, 3, partition=2, counted=5_100), held_fact(1, 0, partition=4))

    assert (await drop(paused, {"count": 297}))[1]["held_count"] == 3
    assert (await drop(paused, {"count": 3}))[0] == 200
    assert [(one.partition, one.below) for one in paused.kafka.changes[-1].drops] == [(4, 5_000), (2, 5_100)]


async def test_nothing_is_dropped_for_an_active_endpoint(paused: Service) -> None:
    await request(paused, "PATCH", f"{PATH}/1", **wrapped(active=True))

    status, body = await drop(paused, {"count": 297})

    assert (status, body["error"]) == (
        409,
        "The endpoint is active, so its held deliveries are already being sent. Pause it first.",
    )


async def test_nothing_is_dropped_if_the_audit_entry_cannot_be_written(paused: Service) -> None:
    paused.kafka.is_down = True

    assert (await drop(paused, {"count": 297}))[0] == 503
    assert paused.kafka.changes[-1].drops == ()


@pytest.mark.parametrize(
    "body", [{}, {"count": "297"}, {"count": 0}, {"count": -1}, {"count": True}, {"count": 1.5}, [], 7, {"count": None}]
)
async def test_an_invalid_number_is_refused(paused: Service, body: Any) -> None:
    status, answer = await drop(paused, body)

    assert status == 422
    assert "count" in answer["errors"] or "count" in str(answer["errors"]["body"])


async def test_operators_may_not_drop(paused: Service) -> None:
    headers = {"Authorization": f"Bearer {await paused.key(Access.OPERATOR)}"}
    async with paused.anonymous.post(f"{PATH}/1/held/drop", json={"count": 297}, headers=headers) as response:
        assert response.status == 403
    assert (await request(paused, "POST", f"{PATH}/9/held/drop", json={"count": 1}))[0] == 404
