"""POST …/dead_letters/{id}/republish: checked as the fan-out checks, on record, to the topic that it came from."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.store.reports import DeadLetterDetail, DeadLetterSummary
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


def mended(**fields: Any) -> dict[str, Any]:
    return {"json": {"record": fields}}


async def test_mended_bytes_go_where_the_record_came_from(service: Service) -> None:
    service.reports.letters = [letter()]
    status, body = await request(service, "POST", PATH, **mended(value={"content": EVENT.decode()}))

    assert (status, body) == (
        202,
        {"event_id": "evt-1", "event_name": "order_completed", "topic": "oms.orders", "partition": 0, "offset": 0},
    )
    [record] = service.kafka.to("oms.orders")
    assert (record.key, record.value, record.headers) == (b"R1", EVENT, [("trace", b"\xff")])
    [entry] = service.kafka.audits
    assert (entry.action, entry.subject) == (AuditAction.REPUBLISH, "dead letter 7")
    assert entry.detail == "to oms.orders, event evt-1, mended: value"
    assert service.kafka.records.index(record) == 1, "the audit comes first"


async def test_as_it_was_and_with_a_key(service: Service) -> None:
    service.reports.letters = [letter(value=EVENT, key=None)]
    status, body = await request(service, "POST", PATH)
    assert (status, body["errors"]) == (
        422,
        {"key": ["The record has no key; give the order number (stock events: the stock item id)."]},
    )

    key = base64.b64encode(b"R\xff").decode()
    assert (await request(service, "POST", PATH, **mended(key={"content": key, "encoding": "base64"})))[0] == 202
    [record] = service.kafka.to("oms.orders")
    assert (record.key, record.value) == (b"R\xff", EVENT)
    assert service.kafka.audits[0].detail == "to oms.orders, event evt-1, mended: key"


@pytest.mark.parametrize(
    ("one", "sent", "field", "words"),
    [
        (letter(), {}, "value", "The value is not JSON"),
        (letter(value=None), {}, "value", "The record has no value"),
        (letter(value=EVENT, truncated=True), {}, "value", "Only the beginning of this record is here"),
        (letter(), {"value": {"content": '{"id":"x","event_name":"order_lost"}'}}, "value", "event_name is none of the seven"),
        (letter(), {"value": {"content": "***", "encoding": "base64"}}, "value", "content is not base64."),
        (letter(), {"value": 7}, "value", 'value must be bytes such as {"content": "…", "encoding": "text"}'),
        (letter(), {"key": "R1"}, "key", 'key must be bytes such as {"content": "…", "encoding": "text"}'),
        (letter(), {"value": {"encoding": "text"}}, "value", "value must be bytes such as"),
    ],
)
async def test_what_would_be_a_dead_letter_again_is_refused(
    service: Service, one: DeadLetterDetail, sent: dict[str, Any], field: str, words: str
) -> None:
    service.reports.letters = [one]
    status, body = await request(service, "POST", PATH, data=json.dumps({"record": sent}))

    assert (status, body["errors"][field][0][: len(words)]) == (422, words)
    assert service.kafka.records == []


async def test_what_came_from_elsewhere_or_is_not_there(service: Service) -> None:
    assert await request(service, "POST", PATH) == (404, NOT_FOUND)
    service.reports.letters = [letter(topic="webhooks.attempts", value=EVENT)]
    status, body = await request(service, "POST", PATH)
    assert (status, body["error"][:35]) == (409, "It came from webhooks.attempts, whi")
    service.reports.letters = [letter(value=EVENT)]
    service.kafka.is_down = True
    assert (await request(service, "POST", PATH))[0] == 503
    assert (await request(service, "POST", PATH, data=b"[]"))[0] == 422
