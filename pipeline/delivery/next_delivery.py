"""The delivery that follows from an attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.trace import TraceContext
from schemas.attempt import Attempt
from schemas.delivery import Delivery, Trigger


def repeat(record: Attempt, kept: Mapping[str, Any]) -> Delivery:
    """The attempt after one that was not acknowledged. ``kept`` is what the delivery holds of a newer release."""
    # What was asked for stays so: its repeats are made though the endpoint does not subscribe to the event type.
    trigger = Trigger.RESEND if record.trigger is Trigger.RESEND else Trigger.REPEAT
    return Delivery(**kept, event=record.event, endpoint_id=record.endpoint_id, attempt=record.attempt + 1, trigger=trigger)


def traced(delivery: Delivery, trace: TraceContext | None) -> Delivery:
    """The next attempt belongs to the same trace, also in the hands of another process."""
    if trace is None:
        return delivery
    return delivery.model_copy(update={"traceparent": trace.traceparent, "tracestate": trace.tracestate or None})
