"""The events of a run with ordered deliveries, and its check: requests after a later event of their key. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.devtools.simulator import SimulatedEvent
from schemas.event import EventType
from tests.faults.receivers import Request

KEYS = 500
BAD = "BAD"
"""Part of the numbers of orders whose deliveries often fail."""


@dataclass
class Orders:
    """Generates events: the n-th has the key n modulo 500."""

    made: dict[str, SimulatedEvent] = field(default_factory=dict)

    def take(self, count: int, *, bad: bool) -> list[SimulatedEvent]:
        """Return the next events. Without ``bad``, no delivery of them fails at the ordered endpoints."""
        events = [self._event(len(self.made) + number, bad=bad) for number in range(count)]
        self.made |= {event.id: event for event in events}
        return events

    def _event(self, number: int, *, bad: bool) -> SimulatedEvent:
        key = number % KEYS
        mark = BAD if bad and key % 10 == 0 else "R"
        order = {"number": f"{mark}{key:09d}", "total": "12.50", "line_items": [], "shipments": []}
        now, event_id = datetime.now(UTC), f"evt-{number}"
        name = EventType.ORDER_COMPLETED
        value = {"id": event_id, "event_name": name.value, "occurred_at": now.isoformat(timespec="milliseconds"), "data": order}
        return SimulatedEvent("orders", f"R{key:09d}", json.dumps(value).encode(), name, event_id, now)


def inversions(requests: Iterable[Request], places: Mapping[str, tuple[str, int, int]]) -> list[tuple[str, str, str]]:
    """Return requests after one for a later event of their key: path and both events. ``places``: key, partition and offset by event."""
    latest: dict[tuple[str, str, int], tuple[int, str]] = {}
    found: list[tuple[str, str, str]] = []
    for request in requests:
        key, partition, offset = places[request.event_id]
        before = latest.get((request.path, key, partition), (-1, ""))
        if offset < before[0]:
            found.append((request.path, request.event_id, before[1]))
        latest[request.path, key, partition] = max(before, (offset, request.event_id))
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
