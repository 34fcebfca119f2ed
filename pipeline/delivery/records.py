"""Turns the outcome of a delivery into records: the attempt, and the delivery that follows. Pure; no credentials get here."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from pipeline.core.exchange import NoResponse
from pipeline.core.outcome import Delivered, Exhausted, RetryLater, error_sentence
from pipeline.delivery.delivery import (
    AttemptResult,
    Delivery,
    DeliveryOutcome,
    DiscardedDelivery,
    HeldDelivery,
    ParkedDelivery,
)
from schemas.attempt import Attempt, AttemptState, Outcome
from schemas.delivery import DeliveryRecord, Trigger

_STATUS_CODES = range(100, 1000)
"""Three digits. Anything else that a receiver may send means nothing, and the record cannot hold it."""


@dataclass(slots=True)  # one per delivery; a frozen dataclass takes three times as long to create
class DeliveryRecords:
    """What is written about a delivery: the ``attempt`` that was made, and the delivery that ``follows``, with the body.

    It follows after ``delay``, or, if that is None, when its endpoint is resumed.
    """

    attempt: Attempt | None
    follows: DeliveryRecord | None = None
    body: bytes = field(default=b"", repr=False)
    delay: timedelta | None = None


def records_of(outcome: DeliveryOutcome, now: datetime) -> DeliveryRecords:
    """The records of a delivery. ``now``: the time of a discarded attempt."""
    match outcome:
        case AttemptResult(delivery=delivery, verdict=RetryLater(delay)):
            return DeliveryRecords(attempt_record(outcome), next_delivery(delivery), delivery.body, delay)
        case AttemptResult():
            return DeliveryRecords(attempt_record(outcome))
        case ParkedDelivery(delivery=delivery, delay=delay):
            return DeliveryRecords(None, parked_delivery(delivery), delivery.body, delay)
        case HeldDelivery(delivery=delivery):
            return DeliveryRecords(None, delivery_record(delivery), delivery.body)
        case DiscardedDelivery():
            return DeliveryRecords(discarded_record(outcome, now))


def attempt_record(result: AttemptResult) -> Attempt:
    """Describe an attempt that was made."""
    delivery, exchange = result.delivery, result.exchange
    body, encoding = _as_text(exchange.body)
    match result.verdict:
        case Delivered():
            outcome, next_attempt_at = Outcome.DELIVERED, None
        case RetryLater(delay):
            outcome, next_attempt_at = Outcome.RETRIED, result.finished_at + delay
        case Exhausted():
            outcome, next_attempt_at = Outcome.EXHAUSTED, None
    return Attempt(
        event=delivery.event,
        endpoint_id=delivery.endpoint.id,
        target_url=delivery.endpoint.target_url,
        attempt=delivery.attempt,
        trigger=delivery.trigger,
        state=AttemptState.SUCCEEDED if outcome is Outcome.DELIVERED else AttemptState.FAILED,
        outcome=outcome,
        # Creating a timedelta from an integer takes a third of the time.
        created_at=result.finished_at - timedelta(microseconds=round(exchange.duration_ms * 1000)),
        duration_ms=round(exchange.duration_ms, 3),
        first_byte_ms=None if isinstance(exchange, NoResponse) else round(exchange.first_byte_ms, 3),
        http_status_code=exchange.status if exchange.status in _STATUS_CODES else None,
        failure=exchange.failure.value if isinstance(exchange, NoResponse) else None,
        error=error_sentence(exchange),
        next_attempt_at=next_attempt_at,
        request_headers=dict(result.sent.shown_headers),
        response_headers=exchange.headers,
        response_body=body,
        response_body_encoding=encoding,
        response_truncated=not isinstance(exchange, NoResponse) and exchange.body_truncated,
    )


def discarded_record(discarded: DiscardedDelivery, now: datetime) -> Attempt:
    """Describe an attempt that was due but not made, and why."""
    due = discarded.record
    return Attempt(
        event=due.event,
        endpoint_id=due.endpoint_id,
        target_url=discarded.target_url,
        attempt=due.attempt,
        trigger=due.trigger,
        state=AttemptState.FAILED,
        outcome=discarded.outcome,
        created_at=now,
        duration_ms=0.0,
        error=discarded.reason,
        request_headers={},
    )


def delivery_record(delivery: Delivery) -> DeliveryRecord:
    """The record of an unchanged delivery, which is held."""
    return _record(delivery, delivery.attempt, delivery.trigger, delivery.parked)


def parked_delivery(delivery: Delivery) -> DeliveryRecord:
    """The same attempt, parked once more."""
    return _record(delivery, delivery.attempt, delivery.trigger, delivery.parked + 1)


def next_delivery(delivery: Delivery) -> DeliveryRecord:
    """The attempt after one that was not acknowledged."""
    # A resend stays a resend: its retries are made even if the endpoint does not subscribe to the event type.
    trigger = Trigger.RESEND if delivery.trigger is Trigger.RESEND else Trigger.RETRY
    return _record(delivery, delivery.attempt + 1, trigger, 0)


def _record(delivery: Delivery, attempt: int, trigger: Trigger, parked: int) -> DeliveryRecord:
    trace = delivery.trace  # the next attempt belongs to the same trace, even in another process
    return DeliveryRecord(
        later=delivery.kept,
        event=delivery.event,
        endpoint_id=delivery.endpoint.id,
        attempt=attempt,
        trigger=trigger,
        parked=parked,
        traceparent=None if trace is None else trace.traceparent,
        tracestate=None if trace is None else trace.tracestate or None,
    )


def _as_text(body: bytes) -> tuple[str, Literal["text", "base64"]]:
    try:
        return body.decode(), "text"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"
