"""Sending a notification again: the one rule, for a single resend, for each of a run, and for replays."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

from pipeline.core.trace import TraceContext
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops import metrics
from pipeline.store.search import AttemptRow
from pipeline.web.api import Api
from pipeline.web.audit import Asker, put_on_record
from pipeline.web.errors import ApiError
from schemas.audit import AuditAction
from schemas.codec import to_header
from schemas.delivery import DELIVERY_HEADER, Delivery, Trigger
from schemas.event import EventMeta
from schemas.topics import delay_label

_AT_ONCE: Final = timedelta(0)
_UNCONFIRMED: Final = (
    "Kafka has not confirmed the resend in time. It may still be made: look at the attempts before you try again."
)


async def send_again(
    api: Api,
    who: Asker,
    attempt: AttemptRow,
    received_at: datetime | None,
    body: bytes | None,
    *,
    run: str = "",
    trace: TraceContext | None = None,
) -> Endpoint:
    """Send the notification of an attempt again, to the endpoint as it is now; returns when Kafka has it.

    It is on record before. ``body`` is the event's, None when it is not in ClickHouse; ``run`` is the id of the run that does it;
    ``trace``, where there is one, is that of the request that asked for it.

    Raises:
        ApiError: 409, it cannot be sent again as things are; 503, Kafka does not answer.
    """
    if attempt.trigger == Trigger.TEST:
        raise ApiError(409, "This was a test, with a sample. Tests are not sent again: send another one to the endpoint.")
    endpoint = addressee(api, attempt.endpoint_id)
    if body is None:
        raise ApiError(409, "The body of this event is not in ClickHouse (not yet, or no longer): it cannot be sent again.")
    detail = f"event {attempt.event_id}, endpoint {attempt.endpoint_id}" + (f", run {run}" if run else "")
    await put_on_record(api, who, AuditAction.RESEND, f"attempt {attempt.id}", detail)
    await send_delivery(api, event_meta(attempt, received_at), endpoint.id, body, trace)
    return endpoint


def addressee(api: Api, endpoint_id: int) -> Endpoint:
    """The endpoint as it is now.

    Raises:
        ApiError: 409, nothing can be sent to it.
    """
    endpoint = api.registry.get(endpoint_id)
    if endpoint is None:
        raise ApiError(409, f"Endpoint {endpoint_id} was deleted: nothing can be sent to it any more.")
    if not endpoint.active:
        raise ApiError(409, f"Endpoint {endpoint.id} is paused: make it active first.")
    return endpoint


async def send_delivery(api: Api, event: EventMeta, endpoint_id: int, body: bytes, trace: TraceContext | None = None) -> None:
    """Put a delivery into the topic of what is due at once; returns when Kafka has it.

    Raises:
        ApiError: 503, Kafka does not answer; the delivery may be made all the same.
    """
    delivery = Delivery(
        event=event,
        endpoint_id=endpoint_id,
        attempt=1,
        trigger=Trigger.RESEND,
        traceparent=None if trace is None else trace.traceparent,
        tracestate=None if trace is None else trace.tracestate or None,
    )
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


def event_meta(attempt: AttemptRow, received_at: datetime | None) -> EventMeta:
    """What the records about the event of an attempt hold."""
    return EventMeta(
        id=attempt.event_id,
        event_name=attempt.event_name,
        created_at=attempt.event_created_at,
        order_number=attempt.order_number,
        shipment_numbers=attempt.shipment_numbers,
        subscription_id=attempt.subscription_id,
        stock_item_id=attempt.stock_item_id,
        skus=attempt.skus,
        received_at=received_at,
    )
