"""``POST /api/webhook/endpoints/{id}/test``: a sample event to an endpoint, now, and what it answered."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiohttp import web

from pipeline.core.own_faults import NotSentError
from pipeline.core.trace import TraceContext
from pipeline.endpoints.endpoint import Endpoint
from pipeline.store.rows import attempt_id
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.audit import audit
from pipeline.web.endpoint_changes import find_endpoint
from pipeline.web.errors import ApiError
from pipeline.web.queries import path_id, read_body
from pipeline.web.routes import TRACE, Route
from pipeline.web.wrapped_input import parse_wrapped
from schemas.api_key import Access
from schemas.attempt import Attempt
from schemas.audit import AuditAction
from schemas.codec import decode_event, format_time, to_header, webhook_body
from schemas.delivery import DISPATCH_HEADER, Dispatch
from schemas.event import EventMeta, EventType
from schemas.http_api import AttemptDetailAnswer, in_order
from schemas.http_operations import TestAnswer, TestBody, TestInput
from schemas.samples import sample_payload
from schemas.topics import MAX_EVENT_BYTES_LIMIT

TEST_SOURCE: Final = "test"
"""What stands for the source topic in the row of an event that no producer published."""

_WRAPPER: Final = 'The body may be empty, or must be wrapped: {"test": {"event_name": "order_completed"}}.'
_LATE: Final = "The test did not end in time, or Kafka has not confirmed its record. It may have been sent: look at the attempts of the endpoint."


@dataclass(frozen=True, slots=True)
class SampleEvent:
    """An event that never happened."""

    meta: EventMeta
    body: bytes


def sample_event(event_type: EventType, event_id: str, at: datetime) -> SampleEvent:
    """The sample of an event type, as if a producer had published it."""
    published = {
        "id": event_id,
        "event_name": event_type.value,
        "occurred_at": format_time(at),
        "data": sample_payload(event_type),
    }
    event = decode_event(json.dumps(published, ensure_ascii=False).encode(), max_bytes=MAX_EVENT_BYTES_LIMIT)
    return SampleEvent(event.meta, webhook_body(event))


def trial_routes(api: Api) -> Iterable[Route]:
    """The route, below ``/api``."""

    async def test(request: web.Request) -> web.Response:
        endpoint = find_endpoint(api, path_id(request))
        body = await read_body(request)
        given = parse_wrapped(body, "test", TestInput, hint=_WRAPPER) if body.strip() else TestInput()
        return answer(TestAnswer(attempt=await try_endpoint(api, request, endpoint, given.event_name)))

    return [
        Route(
            "POST",
            "/webhook/endpoints/{id}/test",
            test,
            Access.OPERATOR,
            "Send a sample event to an endpoint",
            {200: TestAnswer},
            "Once, now, also to an endpoint that is paused or not subscribed; there are no repeats. The answer is the attempt, and it is "
            "recorded with the trigger test and an id that begins with test_. Whether the endpoint acknowledged it is its state.",
            body=TestBody,
            errors=(409, 503),
        )
    ]


async def try_endpoint(
    api: Api, request: web.Request, endpoint: Endpoint, event_type: EventType | None = None
) -> AttemptDetailAnswer:
    """Send the sample of an event type (by default of the endpoint's first) to an endpoint now; that it was done is on record.

    Raises:
        ApiError: 409, nothing can be sent to it; 503, the test did not end in time, or we could not send it.
    """
    if endpoint.problem is not None:
        raise ApiError(409, f"Nothing can be sent to endpoint {endpoint.id}: {endpoint.problem}")
    chosen = event_type or first_event(endpoint)
    await audit(api, request, AuditAction.TEST, f"endpoint {endpoint.id}", chosen.value)
    try:
        async with asyncio.timeout(api.test_timeout_seconds):
            return await _try(api, endpoint, chosen, request.get(TRACE))
    except TimeoutError:
        raise ApiError(503, _LATE) from None
    except NotSentError as error:
        raise ApiError(503, f"Nothing was sent, and the endpoint is not at fault. {error}") from None


def first_event(endpoint: Endpoint) -> EventType:
    """The first event type that an endpoint subscribed to."""
    known = [name for name in in_order(endpoint.record.events) if name in set(EventType)]
    return EventType(known[0]) if known else EventType.ORDER_COMPLETED


async def _try(api: Api, endpoint: Endpoint, event_type: EventType, trace: TraceContext | None) -> AttemptDetailAnswer:
    now = api.clock()
    event = sample_event(event_type, f"test_{secrets.token_hex(12)}", now)
    meta = event.meta.model_copy(update={"received_at": now})
    dispatch = Dispatch(
        event=meta,
        endpoint_ids=(endpoint.id,),
        received_at=now,
        source_topic=TEST_SOURCE,
        source_partition=0,
        source_offset=0,
    )
    # The body goes on record as any event's does, so that the attempt's details show it.
    dispatched = api.producer.send(
        api.topics.dispatches,
        key=meta.id.encode(),
        value=event.body,
        headers=[to_header(DISPATCH_HEADER, dispatch)],
        spread=True,
    )
    attempt, place = await api.courier.test(meta, event.body, endpoint, trace)
    await dispatched
    return _shown(attempt, attempt_id(*place), event.body)


def _shown(attempt: Attempt, identifier: int, body: bytes) -> AttemptDetailAnswer:
    values = attempt.model_dump(exclude={"schema_version", "event"})
    event = attempt.event.model_dump(exclude={"id", "event_name", "created_at"})
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
