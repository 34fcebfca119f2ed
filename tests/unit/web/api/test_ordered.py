"""The fields ``ordered`` and ``in_order`` of an endpoint, and replays to an endpoint that gets events in order."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from schemas.codec import from_header
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord, Trigger
from schemas.event import EventMeta
from schemas.health import HealthFact, HealthRecord
from tests.unit.web.endpoint_requests import INVALID, PATH, request, wrapped
from tests.unit.web.service import NOW, Service

RANGE = {"since": "2026-03-01T00:00:00Z", "until": "2026-03-03T00:00:00Z"}


async def test_ordered_is_switched_on_and_off(service: Service) -> None:
    identifier = await service.create(ordered=True)
    _, shown = await request(service, "GET", f"{PATH}/{identifier}")
    assert (shown["ordered"], shown["in_order"]) == (True, None)

    status, changed = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(ordered=False))
    assert (status, changed["ordered"]) == (200, False)
    assert [change.ordered for change in service.kafka.changes] == [True, False]


@pytest.mark.parametrize("value", [None, 1, "true", []])
async def test_ordered_is_a_boolean(service: Service, value: object) -> None:
    status, answer = await request(
        service, "POST", **wrapped(target_url="http://127.0.0.1/", events=["order_completed"], ordered=value)
    )
    assert status == 422
    assert answer == {"error": INVALID, "errors": {"ordered": ["ordered must be true or false."]}}


async def test_deliveries_held_back_are_shown(service: Service) -> None:
    identifier = await service.create(ordered=True)
    for partition, since in ((0, 1), (1, 30)):
        fact = HealthRecord(
            endpoint_id=identifier,
            endpoint_version=1,
            fact=HealthFact.ORDERED,
            at=NOW,
            since=NOW.replace(second=since),
            partition=partition,
            held=3,
            count=2,
            event_id=f"evt-{partition}",
            detail="oms.orders/0/R1",
            reason="retry",
            until=NOW,
        )
        service.learn(fact)

    _, shown = await request(service, "GET", f"{PATH}/{identifier}")
    held = shown["in_order"]
    assert (held["waiting"], held["keys"], held["event_id"], held["event_key"]) == (6, 4, "evt-0", "oms.orders/0/R1")
    assert (held["reason"], held["next_attempt_at"] is not None) == ("retry", True)


async def test_a_replay_is_appended_to_the_lanes(service: Service) -> None:
    await service.create("http://127.0.0.1/1", ordered=True)
    await service.create("http://127.0.0.1/3")
    event = EventMeta(
        id="evt.1", event_name="order_completed", created_at=NOW, received_at=NOW, key="oms.orders/0/R1", sequence=7
    )
    without = structs.replace(event, id="evt.2", key=None, sequence=None)
    service.past.events = [(event, (1, 3), b"{}"), (without, (1, 3), b"{}")]

    wanted: dict[str, Any] = {"endpoint_ids": [1, 3], **RANGE, "run": "0a1b2c3d"}
    status, answer = await request(service, "POST", "/api/webhook/replays", json={"replay": wanted})

    assert (status, answer["sent"]) == (200, 4)
    [sent] = service.kafka.to("webhooks.ordered")
    due = from_header(sent.headers, DELIVERY_HEADER, DeliveryRecord)
    assert (sent.key, due.event.id, due.trigger, due.attempt) == (b"1/R1", "evt.1", Trigger.RESEND, 1)
    assert len(service.kafka.to("webhooks.delay.0s")) == 3
