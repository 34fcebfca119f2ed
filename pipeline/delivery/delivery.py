"""The input of a delivery (`Delivery`) and its result (`DeliveryOutcome`), which is one of four cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from msgspec import UNSET, Raw, UnsetType

from pipeline.core.exchange import Exchange, Request
from pipeline.core.outcome import Verdict
from pipeline.core.trace import TraceContext
from pipeline.endpoints.endpoint import Endpoint
from schemas.attempt import Outcome
from schemas.delivery import DeliveryRecord, Trigger
from schemas.event import EventMeta

if TYPE_CHECKING:
    from pipeline.ops.tracing import Span


@dataclass(slots=True)  # one per delivery; a frozen dataclass takes three times as long to create
class Delivery:
    """One event on its way to one endpoint.

    ``attempt`` counts from 1. ``parked`` says how often the delivery was postponed without an attempt. ``trace`` is its trace
    context, which is passed to the receiver and to the next delivery. ``written_at`` is set for the first attempt of an event:
    when the event was written to Kafka, in seconds since 1970. ``kept`` holds members that a newer release added to its record;
    the next record keeps them.
    """

    event: EventMeta
    body: bytes = field(repr=False)
    endpoint: Endpoint
    attempt: int = 1
    trigger: Trigger = Trigger.EVENT
    trace: TraceContext | None = None
    parked: int = 0
    written_at: float | None = None
    kept: dict[str, Raw] | UnsetType = UNSET


def delivery_of(record: DeliveryRecord, body: bytes, endpoint: Endpoint, trace: TraceContext | None) -> Delivery:
    """The delivery in a record of a delay topic."""
    return Delivery(
        record.event,
        body,
        endpoint,
        record.attempt,
        record.trigger,
        trace,
        record.parked,
        kept=record.later,
    )


@dataclass(slots=True)  # one per delivery; a frozen dataclass takes three times as long to create
class SignedRequest:
    """The request, and its headers without credentials, which may be stored and shown."""

    request: Request = field(repr=False)
    shown_headers: Mapping[str, str]


@dataclass(slots=True)
class AttemptResult:
    """An attempt that was made, and its verdict. The secrets of the endpoint are already removed from the exchange.

    ``trace`` is the attempt's own trace context. ``span``, if spans are made, is still open.
    """

    delivery: Delivery
    sent: SignedRequest
    exchange: Exchange
    verdict: Verdict
    started_at: datetime
    finished_at: datetime
    trace: TraceContext | None = None
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class ParkedDelivery:
    """A delivery that is postponed for ``delay`` without an attempt. ``reason`` is one word, for the metrics.

    ``at_least``: an earlier attempt would be useless. The delay may be longer, so that fewer records are rewritten.
    """

    delivery: Delivery
    reason: str
    delay: timedelta
    at_least: timedelta = field(default=timedelta(0), compare=False)


@dataclass(frozen=True, slots=True)
class HeldDelivery:
    """A delivery that waits until its paused or disabled endpoint is resumed."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class DiscardedDelivery:
    """A delivery that was due and will not be made.

    ``kind`` is the reason as one word, for the metrics; ``reason`` is a sentence. ``outcome``: discarded, or expired.
    ``target_url`` is empty when the endpoint is gone.
    """

    record: DeliveryRecord
    target_url: str
    kind: str
    reason: str
    trace: TraceContext | None = None
    outcome: Outcome = Outcome.DISCARDED


DeliveryOutcome: TypeAlias = AttemptResult | ParkedDelivery | HeldDelivery | DiscardedDelivery
