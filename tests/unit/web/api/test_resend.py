"""POST …/attempts/{id}/resend: the same body and webhook-id, through the delay topic for immediate deliveries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.store.errors import StoreUnavailableError
from pipeline.store.search.queries import AttemptDetail
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.codec import from_header
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord, Trigger
from schemas.own_records import members_of
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.endpoint_requests import NOT_FOUND, PATH, request, wrapped
from tests.unit.web.service import Service

RESEND = "/api/webhook/attempts/11/resend"
RECEIVED = datetime(2026, 3, 2, 15, 4, 0, 600_000, UTC)
BODY = '{"id":"evt_1","event_name":"shipment_shipped","data":{"note":"Grüße"}}'.encode()


def detail(**changes: object) -> AttemptDetail:
    return AttemptDetail(
        attempt=attempt_row(**({"endpoint_id": 1} | changes)),
        request_headers={"webhook-id": "evt_1"},
        response_headers=(("Server", "x"),),
        response_body="they know ada@example.com",
        response_body_encoding="text",
        response_truncated=False,
        request_body=BODY.decode(),
        siblings=(),
        event_received_at=RECEIVED,
    )


@pytest.fixture
async def recorded(service: Service) -> Service:
    """A service with an endpoint, and an attempt whose event is in the store."""
    await service.create()
    service.attempts.details[11] = detail()
    service.attempts.sent["evt_1"] = BODY
    return service


async def test_a_resend_is_in_kafka_when_it_is_answered(recorded: Service) -> None:
    status, body = await request(recorded, "POST", RESEND)

    assert (status, body) == (
        202,
        {
            "event_id": "evt_1",
            "event_name": "shipment_shipped",
            "endpoint_id": 1,
            "target_url": "http://127.0.0.1/hooks",
            "state": "queued",
        },
    )
    [record] = recorded.kafka.to("webhooks.delay.0s")
    assert (record.key, record.value) == (b"evt_1", BODY)
    delivery = from_header(record.headers, DELIVERY_HEADER, DeliveryRecord)
    assert (delivery.endpoint_id, delivery.attempt, delivery.trigger) == (1, 1, Trigger.RESEND)
    row = attempt_row()
    assert members_of(delivery.event) == {
        "id": "evt_1",
        "event_name": "shipment_shipped",
        "created_at": row.event_created_at,
        "order_number": "R758805215",
        "shipment_numbers": ("H12345678901",),
        "subscription_id": None,
        "stock_item_id": None,
        "skus": ("SKU-1", "SKU-2"),
        "received_at": RECEIVED,
        "key": None,
        "sequence": None,
    }
    [entry] = recorded.kafka.audits
    assert (entry.action, entry.subject, entry.detail) == (AuditAction.RESEND, "attempt 11", "event evt_1, endpoint 1")
    assert recorded.kafka.records.index(record) > 0, "the audit entry comes first"


async def test_attempts_that_cannot_be_resent(recorded: Service) -> None:
    recorded.attempts.details[12] = detail(endpoint_id=9)
    assert await request(recorded, "POST", "/api/webhook/attempts/13/resend") == (404, NOT_FOUND)
    status, body = await request(recorded, "POST", "/api/webhook/attempts/12/resend")
    assert (status, body["error"]) == (409, "Endpoint 9 was deleted, so nothing can be sent to it.")

    recorded.attempts.details[14] = detail(trigger="test")
    status, body = await request(recorded, "POST", "/api/webhook/attempts/14/resend")
    assert (status, body["error"][:15]) == (409, "This was a test")

    recorded.attempts.sent.clear()
    status, body = await request(recorded, "POST", RESEND)
    assert (status, body["error"][:39]) == (409, "The event cannot be resent, because its")

    await request(recorded, "PATCH", f"{PATH}/1", **wrapped(active=False))
    status, body = await request(recorded, "POST", RESEND)
    assert (status, body["error"]) == (409, "Endpoint 1 is paused. Resume it first.")

    await request(recorded, "PATCH", f"{PATH}/1", **wrapped(disabled=True))
    status, body = await request(recorded, "POST", RESEND)
    assert (status, body["error"]) == (409, "Endpoint 1 is disabled. Resume it first.")
    assert recorded.kafka.to("webhooks.delay.0s") == []
    assert recorded.kafka.audits == []


async def test_without_kafka_or_clickhouse_it_answers_503(recorded: Service) -> None:
    recorded.kafka.is_down = True
    status, body = await request(recorded, "POST", RESEND)
    assert (status, body["error"][:23]) == (503, "Kafka is not responding")
    recorded.attempts.error = StoreUnavailableError("gone")
    assert (await request(recorded, "POST", RESEND))[0] == 503


async def test_reading_bodies_is_audited_and_not_for_viewers(recorded: Service) -> None:
    path = "/api/webhook/attempts/11"
    for role, sees in ((Access.VIEWER, False), (Access.OPERATOR, True), (Access.ADMIN, True)):
        headers = {"Authorization": f"Bearer {await recorded.key(role)}"}
        async with recorded.anonymous.get(path, headers=headers) as response:
            body = await response.json()
        assert (response.status, body["bodies_hidden"]) == (200, not sees)
        assert (body["request_body"], body["response_body"]) == (
            (BODY.decode(), "they know ada@example.com") if sees else (None, "")
        )
    assert [(entry.role, entry.action, entry.subject) for entry in recorded.kafka.audits] == [
        (Access.OPERATOR, AuditAction.VIEW_BODY, "attempt 11"),
        (Access.ADMIN, AuditAction.VIEW_BODY, "attempt 11"),
    ]
    assert recorded.kafka.audits[0].remote_address == "127.0.0.1"
    recorded.kafka.is_down = True
    assert (await request(recorded, "GET", path))[0] == 503


@pytest.mark.parametrize("path", ["", "/facets", "/histogram"])
@pytest.mark.parametrize(
    ("name", "searched"),
    [
        ("request_body_cont", "request_body"),
        ("response_body_cont", "response_body"),
        ("request_body_not_eq", "request_body"),
        ("order_number_or_request_body_cont", "request_body"),
        ("request_body_cont_any][", "request_body"),
        ("g][0][m]=or&q[g][0][g][0][response_body_or_request_body_start", "request_body, response_body"),
        ("c][0][a][0][name]=request_body&q[c][0][p]=cont&q[c][0][v][0][value", "request_body"),
    ],
)
async def test_searching_in_bodies_needs_the_same_role(service: Service, name: str, searched: str, path: str) -> None:
    url = f"/api/webhook/attempts{path}?q[{name}]=ada@example.com"
    headers = {"Authorization": f"Bearer {await service.key(Access.VIEWER)}"}
    async with service.anonymous.get(url, headers=headers) as response:
        assert (response.status, await response.json()) == (
            403,
            {"error": "Searching in bodies needs a key with the operator role."},
        )
    assert (service.attempts.queries, service.kafka.audits) == ([], [])

    assert (await request(service, "GET", url))[0] == 200
    [entry] = service.kafka.audits
    assert (entry.action, entry.detail) == (AuditAction.SEARCH_BODIES, searched)
    assert "ada" not in repr(entry)
