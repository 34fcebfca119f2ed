"""``POST /api/webhook/endpoints/{id}/test``: send a sample event to an endpoint, and return its answer."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from aiohttp import web
from msgspec.structs import asdict

from pipeline.broker.errors import PublishError
from pipeline.core.local_faults import NotSentError
from pipeline.core.trace import TraceContext
from pipeline.delivery.delivery import Delivery
from pipeline.delivery.unpublished_event import UnpublishedEvent, dispatch_unpublished
from pipeline.endpoints.endpoint import Endpoint
from pipeline.store.rows import attempt_id
from pipeline.web.api.wrapped_input import parse_wrapped
from pipeline.web.endpoint_writes import find_endpoint
from pipeline.web.errors import ApiError
from pipeline.web.request_values import path_id, read_body
from pipeline.web.responses import answer
from pipeline.web.routes import TRACE, Route
from pipeline.web.services import SendTestServices
from schemas.api_key import Access
from schemas.attempt import Attempt
from schemas.audit import AuditAction
from schemas.codec import format_time
from schemas.delivery import Trigger
from schemas.event import EventMeta
from schemas.event_codec import decode_event, webhook_body
from schemas.event_types import BUILT_IN, EventTypes
from schemas.http.attempts import AttemptDetailAnswer
from schemas.http.operations import TestAnswer, TestBody, TestInput
from schemas.topics import MAX_EVENT_BYTES_LIMIT

TEST_SOURCE: Final = "test"
"""Stands for the source topic in the row of an event that no producer published."""

_WRAPPER: Final = 'The body may be empty, or must be wrapped: {"test": {"event_name": "order_completed"}}.'
_LATE: Final = "The test did not finish in time, or Kafka did not confirm its record. The event may have been sent. Check the attempts of the endpoint."

_UNRECORDED: Final = (
    "The event was sent, but Kafka does not accept the record of the test, so the endpoint's response is not known here."
)


@dataclass(frozen=True, slots=True)
class SampleEvent:
    """An event that did not happen."""

    meta: EventMeta
    body: bytes


def sample_event(
    event_type: str, event_id: str, at: datetime, types: EventTypes = BUILT_IN, version: int | None = None
) -> SampleEvent:
    """The sample of an event type, as if a producer had published it. Default: the newest version."""
    published = {
        "id": event_id,
        "event_name": event_type,
        "occurred_at": format_time(at),
        "data": types.sample(event_type, version),
    }
    value = json.dumps(published, ensure_ascii=False).encode()
    event = decode_event(value, max_bytes=MAX_EVENT_BYTES_LIMIT, configured=types.configured)
    return SampleEvent(event.meta, webhook_body(event))


async def send_sample(api: SendTestServices, request: web.Request) -> web.Response:
    endpoint = find_endpoint(api, path_id(request))
    body = await read_body(request)
    given = parse_wrapped(body, "test", TestInput, hint=_WRAPPER, types=api.events.types) if body.strip() else TestInput()
    return answer(TestAnswer(attempt=await send_test_event(api, request, endpoint, given.event_name)))


SEND_TEST_EVENT_ROUTES: Final[Sequence[Route[SendTestServices]]] = (
    Route(
        "POST",
        "/webhook/endpoints/{id}/test",
        send_sample,
        Access.OPERATOR,
        "Send a sample event to an endpoint",
        {200: TestAnswer},
        "Sent once, immediately, without retries, even if the endpoint is paused or not subscribed. The response is the "
        "attempt. It is recorded with the trigger test and an event id that starts with test_. Its state says whether the "
        "endpoint acknowledged it.",
        body=TestBody,
        errors=(409, 503),
    ),
)


async def send_test_event(
    api: SendTestServices, request: web.Request, endpoint: Endpoint, event_type: str | None = None
) -> AttemptDetailAnswer:
    """Send the sample of an event type to an endpoint now. Default: its first one. The test is recorded in the audit log.

    Raises:
        ApiError: 409, nothing can be sent to it; 503, the test did not end in time, a fault of our own prevented it, or its record
            was refused.
    """
    if endpoint.problem is not None:
        raise ApiError(409, f"Nothing can be sent to endpoint {endpoint.id}: {endpoint.problem}")
    chosen = event_type or first_event(endpoint, api.events.types)
    await api.audit.put(request, AuditAction.TEST, f"endpoint {endpoint.id}", chosen)
    try:
        async with asyncio.timeout(api.test_timeout_seconds):
            return await _send(api, endpoint, chosen, request.get(TRACE))
    except TimeoutError:
        raise ApiError(503, _LATE) from None
    except NotSentError as error:
        raise ApiError(503, f"Nothing was sent. The endpoint is not at fault. {error}") from None
    except PublishError as error:
        raise ApiError(503, f"{_UNRECORDED} {error}") from error


def first_event(endpoint: Endpoint, types: EventTypes = BUILT_IN) -> str:
    """The first known event type that an endpoint subscribes to."""
    known = [name for name in types.in_order(endpoint.record.events) if name in types.by_name]
    return known[0] if known else types.names[0]


async def _send(api: SendTestServices, endpoint: Endpoint, event_type: str, trace: TraceContext | None) -> AttemptDetailAnswer:
    now = api.clock()
    pinned = endpoint.record.event_type_versions.get(event_type)
    event = sample_event(event_type, f"test_{secrets.token_hex(12)}", now, api.events.types, pinned)
    meta = msgspec.structs.replace(event.meta, received_at=now)
    dispatched = dispatch_unpublished(
        api.producer, api.topics.dispatches, UnpublishedEvent(meta, event.body, endpoint.id, TEST_SOURCE), now
    )
    attempt, place = await api.delivery_service.test(Delivery(meta, event.body, endpoint, trigger=Trigger.TEST, trace=trace))
    await dispatched
    return _shown(attempt, attempt_id(*place), event.body)


def _shown(attempt: Attempt, identifier: int, body: bytes) -> AttemptDetailAnswer:
    values = {name: value for name, value in asdict(attempt).items() if name not in ("schema_version", "event")}
    event = asdict(attempt.event)
    return AttemptDetailAnswer(
        **values,
        **{name: event[name] for name in ("order_number", "shipment_numbers", "subscription_id", "stock_item_id", "skus")},
        id=identifier,
        event_id=attempt.event.id,
        event_name=attempt.event.event_name,
        event_created_at=attempt.event.created_at,
        request_body=body.decode(),
        siblings=[],
    )
