"""What is on record about an order, a shipment or a subscription: its events with who matched, and their attempts."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipeline.core.search import Condition, Predicate
from pipeline.store.attempts import ATTEMPT_COLUMNS, AttemptRow, attempt_of
from pipeline.store.conditions import milliseconds, where
from pipeline.store.parameters import Parameters
from pipeline.store.reader import Reader, columns, sql

MOST_EVENTS: Final = 200
MOST_ATTEMPTS: Final = 2_000


class About(enum.StrEnum):
    """What a story is about, by the attribute that attempts are found by."""

    ORDER = "order_number"
    SHIPMENT = "shipment_number"
    SUBSCRIPTION = "subscription_id"


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as it was received. ``endpoint_ids`` are those that matched then; nobody may have."""

    event_id: str
    event_name: str
    created_at: datetime
    received_at: datetime
    order_number: str | None
    shipment_numbers: tuple[str, ...]
    subscription_id: str | None
    endpoint_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """The newest events and attempts, the newest first. ``is_complete`` is False where there are more than are shown."""

    events: tuple[EventRow, ...]
    attempts: tuple[AttemptRow, ...]
    is_complete: bool


_EVENT_COLUMNS: Final = (
    *("event_id", "event_name", "created_at", "received_at", "order_number", "shipment_numbers", "subscription_id"),
    "endpoint_ids",
)


async def record_of(reader: Reader, about: About, value: str) -> Record:
    """Look up what is on record; bounded, whatever has happened to an order."""
    condition = Condition(about.value, Predicate.EQ, (value,))
    parameters = Parameters()
    # Columns of the same names, and Bloom filters on them, are in both tables.
    test = where([condition], parameters)
    # What a test sent has the references of a sample: it is nobody's story.
    newest = f"AND source_topic != 'test' ORDER BY received_at DESC, event_id LIMIT {MOST_EVENTS + 1:d}"
    events = await reader.rows(sql("SELECT", columns(_EVENT_COLUMNS), "FROM events WHERE", test, newest), parameters.values)
    # An event that is not in `events` (yet) may have attempts, so these are not asked for by the events' ids. An attempt is made
    # after its event was received: with the oldest event shown, the rest of the time need not be looked at.
    if len(events) > MOST_EVENTS:
        since = parameters.time(milliseconds(events[MOST_EVENTS - 1][_EVENT_COLUMNS.index("received_at")]))
        test = f"{test} AND created_at >= {since}"
    newest = f"AND trigger != 'test' ORDER BY created_at DESC, id DESC LIMIT {MOST_ATTEMPTS + 1:d}"
    attempts = await reader.rows(sql("SELECT", columns(ATTEMPT_COLUMNS), "FROM attempts WHERE", test, newest), parameters.values)
    return Record(
        _once(map(_event, events[:MOST_EVENTS])),
        tuple(map(attempt_of, attempts[:MOST_ATTEMPTS])),
        is_complete=len(events) <= MOST_EVENTS and len(attempts) <= MOST_ATTEMPTS,
    )


def _event(row: Sequence[Any]) -> EventRow:
    values = dict(zip(_EVENT_COLUMNS, row, strict=True))
    values.update({name: tuple(values[name]) for name in ("shipment_numbers", "endpoint_ids")})
    values.update({name: values[name] or None for name in ("order_number", "subscription_id")})
    return EventRow(**values)


def _once(events: Iterable[EventRow]) -> tuple[EventRow, ...]:
    """Each event once: a fan-out that crashed may have dispatched it again."""
    return tuple({event.event_id: event for event in events}.values())
