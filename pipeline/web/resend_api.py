"""``POST /api/webhook/attempts/{id}/resend``: send a notification again, as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from aiohttp import web

from pipeline.core.trace import TraceContext
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops import metrics
from pipeline.store.search import AttemptDetail, AttemptRow
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.attempts_api import searching
from pipeline.web.audit import audit
from pipeline.web.endpoint_changes import require_endpoints
from pipeline.web.errors import ApiError, not_found
from pipeline.web.queries import path_id
from pipeline.web.routes import TRACE, Route
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.codec import to_header
from schemas.delivery import DELIVERY_HEADER, Delivery, Trigger
from schemas.event import EventMeta
from schemas.http_operations import ResendAnswer
from schemas.topics import delay_label

_AT_ONCE: Final = timedelta(0)
_UNCONFIRMED: Final = (
    "Kafka has not confirmed the resend in time. It may still be made: look at the attempts before you try again."
)


def resend_routes(api: Api) -> Iterable[Route]:
    """The route, below ``/api``."""

    async def resend(request: web.Request) -> web.Response:
        identifier = path_id(request)
        require_endpoints(api)
        async with searching(api):
            found = await api.search.attempt(identifier)
            if found is None:
                raise not_found()
            attempt = found.attempt
            body = await api.reports.event_body(attempt.event_id)
        endpoint = _addressee(api, attempt)
        if body is None:
            raise ApiError(409, "The body of this event is not in ClickHouse (not yet, or no longer): it cannot be sent again.")
        detail = f"event {attempt.event_id}, endpoint {attempt.endpoint_id}"
        await audit(api, request, AuditAction.RESEND, f"attempt {identifier}", detail)
        await _send(api, _delivery(event_meta(found), endpoint.id, request.get(TRACE)), body)
        return answer(
            ResendAnswer(
                event_id=attempt.event_id,
                event_name=attempt.event_name,
                endpoint_id=endpoint.id,
                target_url=endpoint.target_url,
            ),
            202,
        )

    return [
        Route(
            "POST",
            "/webhook/attempts/{id}/resend",
            resend,
            Access.OPERATOR,
            "Send a notification again",
            {202: ResendAnswer},
            "To the endpoint as it is now, subscribed or not, with the same body and webhook-id. Repeats follow as of any delivery. "
            "Kafka has it when this is answered.",
            errors=(409, 422, 503),
        )
    ]


def _addressee(api: Api, attempt: AttemptRow) -> Endpoint:
    endpoint = api.registry.get(attempt.endpoint_id)
    if endpoint is None:
        raise ApiError(409, f"Endpoint {attempt.endpoint_id} was deleted: nothing can be sent to it any more.")
    if not endpoint.active:
        raise ApiError(409, f"Endpoint {endpoint.id} is paused: make it active first.")
    return endpoint


def _delivery(event: EventMeta, endpoint_id: int, trace: TraceContext | None) -> Delivery:
    return Delivery(
        event=event,
        endpoint_id=endpoint_id,
        attempt=1,
        trigger=Trigger.RESEND,
        traceparent=None if trace is None else trace.traceparent,
        tracestate=None if trace is None else trace.tracestate or None,
    )


async def _send(api: Api, delivery: Delivery, body: bytes) -> None:
    metrics.RETRIES_SCHEDULED.labels(delay_label(_AT_ONCE)).inc()
    sent = api.producer.send(
        api.topics.delay(_AT_ONCE),
        key=delivery.event.id.encode(),
        value=body,
        headers=[to_header(DELIVERY_HEADER, delivery)],
        spread=True,
    )
    try:
        async with asyncio.timeout(api.write_timeout_seconds):
            await sent
    except TimeoutError:
        raise ApiError(503, _UNCONFIRMED) from None


def event_meta(detail: AttemptDetail) -> EventMeta:
    """What the records about the event of an attempt hold."""
    attempt = detail.attempt
    return EventMeta(
        id=attempt.event_id,
        event_name=attempt.event_name,
        created_at=attempt.event_created_at,
        order_number=attempt.order_number,
        shipment_numbers=attempt.shipment_numbers,
        subscription_id=attempt.subscription_id,
        stock_item_id=attempt.stock_item_id,
        skus=attempt.skus,
        received_at=detail.event_received_at,
    )
