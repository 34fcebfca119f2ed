"""The records about an order, a shipment, a subscription or a stock item: events with their endpoints, and attempts."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipeline.core.search import Condition, Predicate
from pipeline.store.bound_values import BoundValues
from pipeline.store.reader import IN_ORDER, INDEX_FIRST, Reader, Rows, columns, sql
from pipeline.store.search.attempt_rows import EVENT_COLUMNS, OWN_COLUMNS, AttemptRow, attempt_of_event
from pipeline.store.search.conditions import milliseconds, where
from pipeline.store.search.first_events import constant_times
from pipeline.store.search.time_windows import TimeWindow, step, width_of_rows

MAX_EVENTS: Final = 200
MAX_STOCK_EVENTS: Final = 30
"""For a stock item, which has thousands of events. Its attempts are spread over all blocks of their time: showing more means
reading more days.
"""
MAX_ATTEMPTS: Final = 2_000
_FIRST_WINDOW: Final = 40
"""For the newest events of a stock item, the first time window has forty times as many attempts as that of a search."""
_WIDER: Final = 16


class TimelineSubject(enum.StrEnum):
    """The subject of a timeline: the attribute by which attempts are found."""

    ORDER = "order_number"
    SHIPMENT = "shipment_number"
    SUBSCRIPTION = "subscription_id"
    STOCK_ITEM = "stock_item_id"


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as it was received. ``endpoint_ids`` are the endpoints that matched then, if any."""

    event_id: str
    event_name: str
    created_at: datetime
    received_at: datetime
    order_number: str | None
    shipment_numbers: tuple[str, ...]
    subscription_id: str | None
    endpoint_ids: tuple[int, ...]
    stock_item_id: int | None = None
    skus: tuple[str, ...] = ()
    event_key: str = ""
    """Empty if it has none, or was recorded before keys were."""


@dataclass(frozen=True, slots=True)
class TimelineRecords:
    """The newest events and attempts, newest first. ``is_complete`` is False if there are more than are shown."""

    events: tuple[EventRow, ...]
    attempts: tuple[AttemptRow, ...]
    is_complete: bool


_ID, _EVENT_ID, _CREATED_AT = (OWN_COLUMNS.index(name) for name in ("id", "event_id", "created_at"))
_ALL_TIME: Final = TimeWindow(0, 0, open_start=True, open_end=True)
_SETTINGS: Final = {**IN_ORDER, **INDEX_FIRST}
_EVENT_COLUMNS: Final = (
    *("event_id", "event_name", "created_at", "received_at", "order_number", "shipment_numbers", "subscription_id"),
    *("endpoint_ids", "stock_item_id", "skus", "event_key"),
)


async def record_of(reader: Reader, about: TimelineSubject, value: str) -> TimelineRecords:
    """Look up the records, within limits however many there are. A stock item's ``value`` is a whole number."""
    condition = Condition(about.value, Predicate.EQ, (int(value) if about is TimelineSubject.STOCK_ITEM else value,))
    # An event that is not in `events` (yet) may have attempts, so attempts are not looked up by the events' ids.
    if about is not TimelineSubject.STOCK_ITEM:
        most = MAX_EVENTS
        events, rows = await asyncio.gather(_events(reader, condition, most + 1), _attempts(reader, condition, None))
    else:
        # An attempt is made after its event was received, so the time before the oldest shown event is left out.
        most = MAX_STOCK_EVENTS
        events = await _newest_events(reader, condition, most + 1)
        rows = await _attempts(reader, condition, _since(events, most))
    if (since := _since(events, most)) is not None:
        rows = [row for row in rows if row[_CREATED_AT] >= since]
    attempts = await _with_events(reader, rows, events)
    is_complete, shown = len(events) <= most and len(attempts) <= MAX_ATTEMPTS, events[:most]
    if len(attempts) > MAX_ATTEMPTS:
        shown, attempts = _with_all_attempts(shown, attempts[:MAX_ATTEMPTS])
    return TimelineRecords(_once(shown), tuple(attempts), is_complete)


async def _newest_events(reader: Reader, condition: Condition, most: int) -> list[EventRow]:
    """The newest of possibly thousands of events, by time windows: a single query over all time would read from each part."""
    stored = await reader.stored()
    left = TimeWindow(stored.first, stored.end, open_start=True, open_end=True)
    width = _FIRST_WINDOW * width_of_rows(left, stored.rows)
    found: list[EventRow] = []
    while left.first < left.end and len(found) < most:
        window, left = step(left, width, descending=True)
        found += await _events(reader, condition, most - len(found), window)
        width *= _WIDER
    return found


async def _events(reader: Reader, condition: Condition, most: int, window: TimeWindow = _ALL_TIME) -> list[EventRow]:
    """The newest events of a time window."""
    parameters = BoundValues()
    # Both tables have columns of the same names, with Bloom filters.
    test = f"{where([condition], parameters)} AND {window.sql('received_at', parameters)}"
    # A test has the references of a sample: it belongs to no timeline.
    newest = f"AND source_topic != 'test' ORDER BY received_at DESC, event_id LIMIT {most:d}"
    statement = sql("SELECT", columns(_EVENT_COLUMNS), "FROM events WHERE", test, newest)
    return list(map(_event, await reader.rows(statement, parameters.values, more=_SETTINGS)))


async def _attempts(reader: Reader, condition: Condition, since: datetime | None) -> Rows:
    """The newest attempts, one more than are shown, with `OWN_COLUMNS`.

    A year's attempts are spread over a hundred blocks or more, and reading a column from all of them takes a few milliseconds.
    """
    parameters = BoundValues()
    test = where([condition], parameters)
    if since is not None:
        test = f"{test} AND created_at >= {parameters.time(milliseconds(since))}"
    newest = f"AND trigger != 'test' ORDER BY created_at DESC, id DESC LIMIT {MAX_ATTEMPTS + 1:d}"
    statement = sql("SELECT", columns(OWN_COLUMNS), "FROM attempts WHERE", test, newest)
    return await reader.rows(statement, parameters.values, more=_SETTINGS)


async def _with_events(reader: Reader, rows: Rows, events: Sequence[EventRow]) -> list[AttemptRow]:
    """The attempts, with the columns of their events. Few have another event than these: it is left out, or not recorded yet."""
    known: dict[str, Sequence[Any]] = {one.event_id: _of_attempts(one) for one in events}
    if others := [row for row in rows if row[_EVENT_ID] not in known]:
        parameters = BoundValues()
        made = f"created_at IN {constant_times([milliseconds(row[_CREATED_AT]) for row in others], parameters)}"
        named = f"id IN {parameters.add([row[_ID] for row in others], 'Array(Int64)')}"
        statement = sql("SELECT event_id,", columns(EVENT_COLUMNS), "FROM attempts WHERE", made, "AND", named)
        known |= {event_id: event for event_id, *event in await reader.rows(statement, parameters.values)}
    return [attempt_of_event(row, known[row[_EVENT_ID]]) for row in rows if row[_EVENT_ID] in known]


def _of_attempts(event: EventRow) -> Sequence[Any]:
    """What the attempts of an event have of it: `EVENT_COLUMNS`."""
    return (
        *(event.event_name, event.created_at, event.order_number, event.shipment_numbers, event.subscription_id),
        *(event.stock_item_id, event.skus),
    )


def _since(events: Sequence[EventRow], most: int) -> datetime | None:
    """When the oldest of the ``most`` shown events was received, if there are older ones."""
    return events[most - 1].received_at if len(events) > most else None


def _with_all_attempts(events: list[EventRow], attempts: list[AttemptRow]) -> tuple[list[EventRow], list[AttemptRow]]:
    """The events that have no other attempts than these newest ones. An older event would look as if it had not been sent.

    If one event alone has more attempts than are shown, nothing is left out.
    """
    oldest = attempts[-1].created_at
    left_out = {one.event_id for one in events if one.received_at <= oldest}
    kept = [one for one in events if one.event_id not in left_out]
    return (kept, [one for one in attempts if one.event_id not in left_out]) if kept else (events, attempts)


def _event(row: Sequence[Any]) -> EventRow:
    values = dict(zip(_EVENT_COLUMNS, row, strict=True))
    values.update({name: tuple(values[name]) for name in ("shipment_numbers", "endpoint_ids", "skus")})
    values.update({name: values[name] or None for name in ("order_number", "subscription_id")})
    return EventRow(**values)


def _once(events: Iterable[EventRow]) -> tuple[EventRow, ...]:
    """Each event once: a fan-out that crashed may have dispatched it again."""
    return tuple({event.event_id: event for event in events}.values())
