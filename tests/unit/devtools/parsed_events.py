"""Events of the simulated shop, parsed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.devtools.simulator import Shop, SimulatedEvent
from schemas.event import EventType

START = datetime(2026, 3, 2, 15, 4, tzinfo=UTC)
RATE = 10.0


@dataclass(frozen=True)
class ParsedEvent:
    event: SimulatedEvent
    envelope: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.envelope["data"]
        return data


def parsed_events(seed: int, count: int) -> list[ParsedEvent]:
    return [ParsedEvent(event, json.loads(event.value)) for event in itertools.islice(Shop(seed).events(RATE, START), count)]


def named(events: Sequence[ParsedEvent], *names: EventType) -> list[ParsedEvent]:
    return [one for one in events if one.event.event_name in names]
