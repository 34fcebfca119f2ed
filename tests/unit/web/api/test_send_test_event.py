"""POST …/{id}/test: a sample is sent at once, and its outcome is returned and recorded."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from pipeline.broker.errors import PublishError
from pipeline.core.redaction import REDACTED
from pipeline.core.signing import SigningKey, verify
from pipeline.store.rows import attempt_id
from schemas.attempt import Attempt
from schemas.audit import AuditAction
from schemas.codec import from_header, from_json
from schemas.delivery import DISPATCH_HEADER, Dispatch, Trigger
from schemas.event import EventType
from tests.unit.delivery.delivery_case import NO_ANSWER, answer
from tests.unit.web.endpoint_requests import NOT_FOUND, PATH, request, wrapped
from tests.unit.web.service import NOW, TOPICS, Service, running_service


async def test_a_sample_is_sent_at_once_and_its_outcome_returned_and_recorded(service: Service) -> None:
    _, created = await request(service, "POST", **wrapped(target_url="http://127.0.0.1/x", events=["order_completed"]))
    service.sender.exchange = answer(503, (("Server", "x"),), b"busy")

    status, body = await request(service, "POST", f"{PATH}/1/test", json={"test": {"event_name": "shipment_shipped"}})

    assert status == 200
    attempt = body["attempt"]
    assert (attempt["state"], attempt["outcome"], attempt["http_status_code"]) == ("failed", "exhausted", 503)
    assert (attempt["trigger"], attempt["attempt"], attempt["next_attempt_at"]) == ("test", 1, None)
    assert attempt["error"].startswith("The endpoint returned 503 (Service Unavailable)")
    assert (attempt["response_body"], attempt["response_headers"]) == ("busy", [["Server", "x"]])
    [sent] = service.sender.requests
    assert sent.url == "http://127.0.0.1/x"
    assert json.loads(sent.body)["event_name"] == "shipment_shipped"
    assert attempt["request_body"] == sent.body.decode()
    verify([SigningKey(created["secret"])], sent.headers, sent.body, now=int(NOW.timestamp()))

    [record] = service.kafka.to(TOPICS.attempts)
    recorded = from_json(record.value, Attempt)
    assert (recorded.trigger, recorded.event.id) == (Trigger.TEST, attempt["event_id"])
    assert attempt["event_id"].startswith("test_")
    assert attempt["id"] == attempt_id(record.partition.number, record.offset)
    [dispatched] = service.kafka.to(TOPICS.dispatches)
    assert dispatched.value == sent.body
    dispatch = from_header(dispatched.headers, DISPATCH_HEADER, Dispatch)
    assert (dispatch.event.id, dispatch.endpoint_ids, dispatch.source_topic) == (attempt["event_id"], (1,), "test")
    assert dispatch.event.received_at == dispatch.received_at == recorded.event.received_at == NOW
    [entry] = service.kafka.audits
    assert (entry.action, entry.subject, entry.detail) == (AuditAction.TEST, "endpoint 1", "shipment_shipped")
    assert not [one for one in service.kafka.records if "delay" in one.partition.topic], "a test is not retried"


@pytest.mark.parametrize("event_type", EventType)
async def test_every_event_type_has_a_sample(service: Service, event_type: EventType) -> None:
    await service.create()
    status, body = await request(service, "POST", f"{PATH}/1/test", json={"test": {"event_name": event_type.value}})
    assert (status, body["attempt"]["state"], body["attempt"]["event_name"]) == (200, "succeeded", event_type.value)


@pytest.mark.parametrize("options", [{}, {"data": b" "}, {"json": {"test": {}}}])
async def test_the_first_subscribed_event_is_the_default(service: Service, options: dict[str, object]) -> None:
    await service.create(events=["stock_item_out_of_stock", "order_cancelled"], active=False)
    status, body = await request(service, "POST", f"{PATH}/1/test", **options)
    assert (status, body["attempt"]["event_name"]) == (200, "order_cancelled")


async def test_a_missing_answer_is_an_outcome_too(service: Service) -> None:
    await service.create()
    service.sender.exchange = NO_ANSWER
    status, body = await request(service, "POST", f"{PATH}/1/test")
    assert (status, body["attempt"]["failure"], body["attempt"]["http_status_code"]) == (200, "timeout", None)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"x", "body"),
        (b"{}", "test"),
        (b'{"test": []}', "test"),
        *((b'{"test": {"event_name": %s}}' % one, "event_name") for one in (b'"x"', b"[]", b"1", b"{}")),
    ],
)
async def test_invalid_input_is_explained(service: Service, data: bytes, field: str) -> None:
    await service.create()
    status, body = await request(service, "POST", f"{PATH}/1/test", data=data)
    assert (status, list(body["errors"])) == (422, [field])
    assert not service.sender.requests


async def test_an_unknown_endpoint_is_not_tested(service: Service) -> None:
    assert await request(service, "POST", f"{PATH}/7/test") == (404, NOT_FOUND)


async def test_custom_headers_are_sent_and_recorded_by_name_only(service: Service) -> None:
    await service.create(headers={"X-Tenant": "s3cret-tenant", "Cookie": "a=1"}, token="t0ken")
    _, body = await request(service, "POST", f"{PATH}/1/test")
    [sent] = service.sender.requests
    assert (sent.headers["x-tenant"], sent.headers["cookie"], sent.headers["authorization"]) == (
        "s3cret-tenant",
        "a=1",
        "Bearer t0ken",
    )
    shown = body["attempt"]["request_headers"]
    assert (shown["x-tenant"], shown["cookie"]) == (REDACTED, REDACTED)
    assert "authorization" not in shown
    everything = b"".join(record.value or b"" for record in service.kafka.records)
    assert b"s3cret-tenant" not in everything


async def test_an_endpoint_whose_secrets_cannot_be_decrypted_is_not_tested(service: Service) -> None:
    await service.create()
    record = service.kafka.changes[-1]
    broken = replace(record, version=2, sealed_token="sealed-with-another-key")
    await service.kafka.registry.write(service.kafka, broken)
    status, body = await request(service, "POST", f"{PATH}/1/test")
    assert (status, body["error"].startswith("Nothing can be sent to endpoint 1: ")) == (409, True)


async def test_a_test_that_times_out_says_so() -> None:
    async with running_service(test_timeout_seconds=0.1) as service:
        await service.create()
        service.sender.before = asyncio.Event().wait
        status, body = await request(service, "POST", f"{PATH}/1/test")
    assert (status, body["error"].startswith("The test did not finish in time")) == (503, True)


@pytest.mark.parametrize("topic", [TOPICS.dispatches, TOPICS.attempts])
async def test_a_test_whose_record_is_refused_says_that_it_was_sent(service: Service, topic: str) -> None:
    await service.create()
    service.kafka.errors[topic] = PublishError(f"no permission to write {topic}")
    status, body = await request(service, "POST", f"{PATH}/1/test")
    assert (status, len(service.sender.requests)) == (503, 1)
    assert body["error"].startswith("The event was sent, but Kafka does not accept the record of the test")
    assert body["error"].endswith(f" no permission to write {topic}")


async def test_nothing_is_sent_if_the_audit_entry_cannot_be_written(service: Service) -> None:
    await service.create()
    service.kafka.is_down = True
    assert (await request(service, "POST", f"{PATH}/1/test"))[0] == 503
    assert not service.sender.requests
