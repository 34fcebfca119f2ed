"""…/replays: past events, step by step, each once per endpoint."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pipeline.store.search.conditions import milliseconds
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.codec import from_header
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord, Trigger
from schemas.event import EventMeta, EventType
from tests.unit.web.endpoint_requests import PATH, request, wrapped
from tests.unit.web.service import NOW, Service

REPLAYS = "/api/webhook/replays"
RUN = "0a1b2c3d"
RANGE = {"since": "2026-03-01T00:00:00Z", "until": "2026-03-03T00:00:00Z"}


def past(number: int, *endpoint_ids: int, body: bytes | None = b"{}") -> tuple[EventMeta, tuple[int, ...], bytes | None]:
    received_at = NOW + timedelta(seconds=number)
    meta = EventMeta(id=f"evt.{number}", event_name="order_completed", created_at=NOW, received_at=received_at)
    return meta, endpoint_ids, body


def place(number: int) -> str:
    """The cursor of the event received so many seconds later."""
    return f"{milliseconds(NOW + timedelta(seconds=number))}.evt.{number}"


def of(**fields: object) -> dict[str, Any]:
    return {"json": {"replay": {"endpoint_ids": [1], **RANGE, **fields}}}


@pytest.fixture
async def filled(service: Service) -> Service:
    """A service with endpoints 1 and 3, and five events."""
    await service.create("http://127.0.0.1/1")
    await service.create("http://127.0.0.1/3")
    service.past.events = [past(1, 1, 3), past(2, 1), past(3, 1, body=None), past(4, 3), past(5, 1, 3)]
    return service


def deliveries(service: Service) -> list[DeliveryRecord]:
    return [from_header(one.headers, DELIVERY_HEADER, DeliveryRecord) for one in service.kafka.to("webhooks.delay.0s")]


async def test_a_preview_counts_and_sends_nothing(filled: Service) -> None:
    asked = of(endpoint_ids=[1, 3, 1], event_names=["order_completed"], order_numbers=["R1"], matched_only=False)
    assert await request(filled, "POST", f"{REPLAYS}/preview", **asked) == (200, {"events": 5, "notifications": 7})
    [wanted] = filled.past.asked
    assert (wanted.endpoint_ids, wanted.event_names) == ((1, 3), (EventType.ORDER_COMPLETED.value,))
    assert (wanted.order_numbers, wanted.matched_only) == (("R1",), False)
    assert filled.kafka.to("webhooks.delay.0s") == []


async def test_a_replay_step_by_step(filled: Service) -> None:
    after: str | None = None
    answers: list[dict[str, Any]] = []
    while not answers or after is not None:
        status, body = await request(filled, "POST", REPLAYS, **of(endpoint_ids=[1, 3], run=RUN, after=after, limit=2))
        assert status == 200
        answers.append(body)
        after = body["next"]

    assert answers == [
        {"events": 2, "sent": 3, "skipped": 0, "next": place(2)},
        {"events": 2, "sent": 1, "skipped": 1, "next": place(4)},
        {"events": 1, "sent": 2, "skipped": 0, "next": None},
    ]
    made = deliveries(filled)
    pairs = [(one.event.id, one.endpoint_id) for one in made]
    assert pairs == [("evt.1", 1), ("evt.1", 3), ("evt.2", 1), ("evt.4", 3), ("evt.5", 1), ("evt.5", 3)]
    assert {(one.attempt, one.trigger) for one in made} == {(1, Trigger.RESEND)}
    assert made[0].event == past(1)[0]
    entries = [(one.action, one.subject) for one in filled.kafka.audits]
    assert entries == [(AuditAction.REPLAY, f"replay {RUN}")] * 3
    assert filled.kafka.audits[1].detail == f"2 events to endpoints 1, 3, after {place(2)}"
    first_audit = next(index for index, one in enumerate(filled.kafka.records) if one.partition.topic == "webhooks.audit")
    first_sent = next(index for index, one in enumerate(filled.kafka.records) if one.partition.topic == "webhooks.delay.0s")
    assert first_audit < first_sent, "the audit entry comes first"


async def test_a_skipped_step_says_where_it_ends(filled: Service) -> None:
    status, body = await request(filled, "POST", REPLAYS, **of(run=RUN, limit=2, skip=True))
    assert (status, body) == (200, {"events": 2, "sent": 0, "skipped": 0, "next": place(2)})
    assert deliveries(filled) == []
    assert filled.kafka.audits == []


async def test_nothing_is_sent_to_a_paused_or_deleted_endpoint(filled: Service) -> None:
    await request(filled, "PATCH", f"{PATH}/3", **wrapped(active=False))
    for path, more in ((f"{REPLAYS}/preview", {}), (REPLAYS, {"run": RUN})):
        status, body = await request(filled, "POST", path, **of(endpoint_ids=[1, 3], **more))
        assert (status, body["error"]) == (409, "Endpoint 3 is paused. Resume it first.")
        status, body = await request(filled, "POST", path, **of(endpoint_ids=[9], **more))
        assert (status, body["error"]) == (409, "Endpoint 9 does not exist, or was deleted.")
    assert deliveries(filled) == []


async def test_without_kafka_it_answers_503(filled: Service) -> None:
    filled.kafka.is_down = True
    assert (await request(filled, "POST", REPLAYS, **of(run=RUN)))[0] == 503


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"endpoint_ids": []}, "endpoint_ids", "1 to 20 ids"),
        ({"endpoint_ids": [0]}, "endpoint_ids", "1 to 20 ids"),
        ({"endpoint_ids": list(range(1, 23))}, "endpoint_ids", "1 to 20 ids"),
        ({"since": "yesterday"}, "since", "a time with its zone"),
        ({"since": "2026-03-01T00:00:00"}, "since", "a time with its zone"),
        ({"until": "0001-01-01T00:00:00Z"}, "until", "years 1971 to 2200"),
        ({"event_names": ["no_such"]}, "event_names", "order_completed"),
        ({"order_numbers": ["\n"]}, "order_numbers", "order numbers"),
        ({"run": "x"}, "run", "hexadecimal"),
        ({"limit": 0}, "limit", "from 1 to 20"),
        ({"after": "x"}, "after", "value of next from the previous step"),
        ({"after": "12"}, "after", "value of next from the previous step"),
    ],
)
async def test_invalid_input_is_refused(filled: Service, fields: dict[str, Any], field: str, sentence: str) -> None:
    status, body = await request(filled, "POST", REPLAYS, **of(**({"run": RUN} | fields)))
    assert status == 422
    assert sentence in " ".join(body["errors"][field])
    assert deliveries(filled) == []


async def test_required_fields_and_role(service: Service) -> None:
    status, body = await request(service, "POST", REPLAYS, json={"replay": {}})
    assert (status, sorted(body["errors"])) == (422, ["endpoint_ids", "run", "since", "until"])
    async with service.anonymous.post(
        REPLAYS, headers={"Authorization": f"Bearer {await service.key(Access.OPERATOR)}"}, json={}
    ) as response:
        assert response.status == 403
