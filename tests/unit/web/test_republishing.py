"""POST …/dead_letters/{id}/republish: checked like the fan-out does, audited, and written to the topic that it came from."""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.store.reports.recent import DeadLetterDetail, DeadLetterSummary
from schemas.audit import AuditAction
from schemas.codec import to_header
from schemas.delivery import DEAD_LETTER_HEADER, DeadLetter, DeadLetterReason
from schemas.event import EventType
from schemas.samples import sample_payload
from tests.unit.web.endpoint_requests import NOT_FOUND, request
from tests.unit.web.service import NOW, Service

EVENT = json.dumps(
    {
        "id": "evt-1",
        "event_name": "order_completed",
        "occurred_at": "2026-03-02T15:04:00.512Z",
        "data": sample_payload(EventType.ORDER_COMPLETED),
    }
).encode()
PATH = "/api/webhook/dead_letters/7/republish"


def letter(
    identifier: int = 7,
    *,
    topic: str = "oms.orders",
    key: bytes | None = b"R1",
    value: bytes | None = b"{",
    truncated: bool = False,
) -> DeadLetterDetail:
    why = DeadLetter(
        reason=DeadLetterReason.NOT_JSON,
        detail="no",
        topic=topic,
        partition=1,
        offset=5,
        failed_at=NOW,
        truncated=truncated,
    )
    summary = DeadLetterSummary(identifier, "not_json", "no", topic, 1, 5, datetime(2026, 3, 2, tzinfo=UTC), len(value or b""))
    return DeadLetterDetail(summary, key, value, (("trace", b"\xff"), to_header(DEAD_LETTER_HEADER, why)))


def repaired(**fields: Any) -> dict[str, Any]:
    return {"json": {"record": fields}}


async def test_repaired_bytes_are_published_to_the_source_topic(service: Service) -> None:
    service.reports.letters = [letter()]
    status, body = await request(service, "POST", PATH, **repaired(value={"content": EVENT.decode()}))

    assert (status, body) == (
        202,
        {"event_id": "evt-1", "event_name": "order_completed", "topic": "oms.orders", "partition": 0, "offset": 0},
    )
    [record] = service.kafka.to("oms.orders")
    assert (record.key, record.value, record.headers) == (b"R1", EVENT, [("trace", b"\xff")])
    entry, done = service.kafka.audits
    assert (entry.action, entry.subject) == (AuditAction.REPUBLISH, "dead letter 7")
    assert entry.detail == "to oms.orders, event evt-1, repaired: value"
    assert service.kafka.records.index(record) == 1, "the audit entry comes first"
    assert done.detail == "published to oms.orders, partition 0, offset 0, event evt-1", "it counts as repaired only now"


async def test_an_unchanged_record_can_be_republished_with_a_new_key(service: Service) -> None:
    service.reports.letters = [letter(value=EVENT, key=None)]
    status, body = await request(service, "POST", PATH)
    assert (status, body["errors"]) == (
        422,
        {"key": ["The record has no key. Enter the order number or, for stock events, the stock item id."]},
    )

    key = base64.b64encode(b"R\xff").decode()
    assert (await request(service, "POST", PATH, **repaired(key={"content": key, "encoding": "base64"})))[0] == 202
    [record] = service.kafka.to("oms.orders")
    assert (record.key, record.value) == (b"R\xff", EVENT)
    assert service.kafka.audits[0].detail == "to oms.orders, event evt-1, repaired: key"


@pytest.mark.parametrize(
    ("one", "sent", "field", "words"),
    [
        (letter(), {}, "value", "The value is not JSON"),
        (letter(value=None), {}, "value", "The record has no value"),
        (letter(value=EVENT, truncated=True), {}, "value", "Only the beginning of this record is stored here"),
        (
            letter(),
            {"value": {"content": '{"id":"x","event_name":"order_lost"}'}},
            "value",
            "event_name is not one of the built-in event types",
        ),
        (letter(), {"value": {"content": "***", "encoding": "base64"}}, "value", "content is not base64."),
        (letter(), {"value": 7}, "value", 'value must be bytes such as {"content": "…", "encoding": "text"}'),
        (letter(), {"key": "R1"}, "key", 'key must be bytes such as {"content": "…", "encoding": "text"}'),
        (letter(), {"value": {"encoding": "text"}}, "value", "value must be bytes such as"),
    ],
)
async def test_a_record_that_would_be_a_dead_letter_again_is_refused(
    service: Service, one: DeadLetterDetail, sent: dict[str, Any], field: str, words: str
) -> None:
    service.reports.letters = [one]
    status, body = await request(service, "POST", PATH, data=json.dumps({"record": sent}))

    assert (status, body["errors"][field][0][: len(words)]) == (422, words)
    assert service.kafka.records == []


async def test_missing_dead_letters_and_those_of_our_own_topics_are_refused(service: Service) -> None:
    assert await request(service, "POST", PATH) == (404, NOT_FOUND)
    service.reports.letters = [letter(topic="webhooks.attempts", value=EVENT)]
    status, body = await request(service, "POST", PATH)
    assert (status, body["error"][:35]) == (409, "This record came from webhooks.atte")
    service.reports.letters = [letter(value=EVENT)]
    service.kafka.is_down = True
    assert (await request(service, "POST", PATH))[0] == 503
    assert (await request(service, "POST", PATH, data=b"[]"))[0] == 422


async def test_dismissing_a_dead_letter_records_who_and_when(service: Service) -> None:
    path = "/api/webhook/dead_letters/7/dismiss"
    assert await request(service, "POST", path) == (404, NOT_FOUND)
    service.reports.letters = [letter(topic="webhooks.delay.5s")]
    service.kafka.is_down = True
    assert (await request(service, "POST", path))[0] == 503
    service.kafka.is_down = False
    status, body = await request(service, "POST", path)
    entry = service.kafka.audits[-1]
    assert (status, body["dismissed"], body["repaired_by"], body["repaired_at"]) == (
        202,
        True,
        entry.actor_name,
        "2026-03-02T15:04:00.512Z",
    )
    assert (entry.action, entry.subject) == (AuditAction.DISMISS_DEAD_LETTER, "dead letter 7")
    for is_repaired, count in (("false", 0), ("true", 1)):
        params = {"q[repaired_eq]": is_repaired}
        assert (await request(service, "GET", "/api/webhook/dead_letters", params=params))[1]["total_count"] == count
    assert [record.partition.topic for record in service.kafka.records] == ["webhooks.audit"], "nothing is published"


async def test_an_event_is_published_to_the_topic_of_its_type(service: Service) -> None:
    service.reports.letters = [letter(topic="oms.shipments", value=EVENT)]
    status, body = await request(service, "POST", PATH)

    assert (status, body["topic"]) == (202, "oms.orders")
    assert [record.value for record in service.kafka.to("oms.orders")] == [EVENT]


async def test_a_dead_letter_in_another_record_form_is_read_with_its_headers(service: Service) -> None:
    headers = (("id", b"evt-1"), ("eventType", b"order_completed"))
    service.reports.letters = [dataclasses.replace(letter(value=b"{}"), headers=headers)]
    payload = json.dumps(sample_payload(EventType.ORDER_COMPLETED))
    status, body = await request(service, "POST", PATH, **repaired(value={"content": payload}))

    assert (status, body["event_id"]) == (202, "evt-1")
    assert service.kafka.to("oms.orders")[0].headers == list(headers)


async def test_an_empty_key_is_a_missing_key(service: Service) -> None:
    service.reports.letters = [letter(value=EVENT, key=b"")]
    status, body = await request(service, "POST", PATH)
    assert (status, list(body["errors"])) == (422, ["key"])


async def test_dead_letters_of_an_added_topic_can_be_republished_once_their_type_is_back(service: Service) -> None:
    entry = {"name": "refund_issued", "topic": "oms.refunds", "description": "Refunded.", "schema": {}, "sample": {}}
    event = {"id": "evt-1", "event_name": "refund_issued", "occurred_at": "2026-03-02T15:04:00Z", "data": {}}
    service.reports.letters = [letter(topic="oms.refunds", value=json.dumps(event).encode())]
    assert (await request(service, "POST", PATH))[0] == 409, "not a source topic yet"
    await request(service, "POST", "/api/webhook/event_types", json={"event_type": entry})
    await request(service, "DELETE", "/api/webhook/event_types/refund_issued")
    assert (await request(service, "POST", PATH))[0] == 422, "its type is unknown"
    await request(service, "POST", "/api/webhook/event_types", json={"event_type": entry})
    assert (await request(service, "POST", PATH))[0] == 202
    assert len(service.kafka.to("oms.refunds")) == 1
