"""Turns the samples of a deployment's own event types into events for the simulated OMS: new ids, times and order numbers. Pure."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from schemas.codec import format_time
from schemas.configured_events import ConfiguredEventType, texts_at


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """A record for the topic of its event type."""

    key: str
    value: bytes


def sample_record(kind: ConfiguredEventType, event_id: str, order_number: str | None, now: datetime) -> SampleRecord:
    """The sample as an event that happens ``now``, about this order if the event type refers to orders."""
    payload = copy.deepcopy(dict(kind.sample))
    pointers = kind.references.get("order_number", ())
    if order_number is not None:
        for pointer in pointers:
            _put(payload, pointer, order_number)
    numbers = [text for pointer in pointers for text in texts_at(payload, pointer)]
    event = {"id": event_id, "event_name": kind.name, "occurred_at": format_time(now), "data": payload}
    return SampleRecord(numbers[0] if numbers else event_id, msgspec.json.encode(event))


def _put(payload: Any, pointer: str, text: str) -> None:
    """Replace the text at a pointer. If there is no text, nothing changes."""
    *steps, last = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    for step in steps:
        payload = payload.get(step) if isinstance(payload, dict) else None
    if isinstance(payload, dict) and isinstance(payload.get(last), str):
        payload[last] = text
