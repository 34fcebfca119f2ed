"""Which events a search for bodies means: the first ones in the order of time, as the index of the bodies finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.core.search import Filter
from pipeline.store.conditions import event_where, indexed_bodies
from pipeline.store.parameters import Parameters
from pipeline.store.reader import Reader, sql
from pipeline.store.walk import Span, other_events

MANY_EVENTS: Final = 1_000
"""So many are named in a statement, at most."""
_LONG_AGO: Final = 1
"""Behind the time that stands for one that is not known."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Events = Sequence[tuple[str, int]]
"""Ids, and when each was received, in milliseconds since 1970; 0 where that is not known."""


@dataclass(frozen=True, slots=True)
class FirstEvents:
    """All events that attempts of a window can be of. ``is_end``: there is nothing behind the window."""

    events: Events
    window: Span
    is_end: bool


async def first_events(
    reader: Reader, required: Sequence[Filter], left: Span, most: int, *, is_from_the_start: bool, descending: bool
) -> FirstEvents | None:
    """The first events of what is left, ``most`` or a few more, and the window that needs no others. None: the index cannot say.

    ``is_from_the_start``: nothing is stored before what is left. Then the very first attempts are of events that were received before.
    """
    parameters = Parameters()
    if not (bodies := indexed_bodies(required, parameters)):
        return None
    received = replace(left, first=_LONG_AGO) if is_from_the_start else left
    conditions = [received.sql("received_at", parameters), *event_where(required, parameters), *bodies]
    found = await _events(
        reader, conditions, parameters, f"ORDER BY received_at {'DESC' if descending else 'ASC'} LIMIT {most + 1:d}"
    )
    is_end = len(found) <= most
    if not is_end:
        # Of those that were received in the same millisecond as the last one, some may be missing.
        last = found[-1][1]
        received = replace(received, first=last + 1) if descending else replace(received, end=last)
    window = Span(max(left.first, received.first), max(left.first, received.end))
    late = await _late_events(reader, required, window, received)
    return FirstEvents(sorted({one for one in found if received.first <= one[1] < received.end} | late), window, is_end)


async def _late_events(reader: Reader, required: Sequence[Filter], window: Span, received: Span) -> set[tuple[str, int]]:
    """Events that were not received in a stretch of time, whose attempts are in a window all the same."""
    parameters = Parameters()
    condition = f"{window.sql('created_at', parameters)} AND NOT ({received.sql('event_received_at', parameters)})"
    select = "SELECT event_id, toUnixTimestamp64Milli(event_received_at) FROM attempts WHERE"
    rows = await reader.rows(sql(select, condition, f"LIMIT {MANY_EVENTS + 1:d}"), parameters.values)
    late = sorted({(event_id, time) for event_id, time in rows})
    if not late:
        return set()
    parameters = Parameters()
    candidates = among(late, parameters) if len(rows) <= MANY_EVENTS else other_events(window, received, parameters)
    conditions = [candidates, *event_where(required, parameters), *indexed_bodies(required, parameters)]
    return set(await _events(reader, conditions, parameters))


async def _events(reader: Reader, conditions: Sequence[str], parameters: Parameters, limit: str = "") -> list[tuple[str, int]]:
    select = "SELECT event_id, toUnixTimestamp64Milli(received_at) FROM events WHERE"
    rows = await reader.rows(sql(select, " AND ".join(conditions), limit), parameters.values)
    return [(event_id, time) for event_id, time in rows]


def of_events(events: Events, parameters: Parameters) -> str:
    """That an attempt is of one of some events. By time too: a Bloom filter of ids lets one block of a hundred pass for each of them."""
    named = f"event_id IN {parameters.add([event_id for event_id, _ in events], 'Array(String)')}"
    # 0: an attempt need not say when its event was received.
    return f"event_received_at IN {constant_times([0, *(time for _, time in events)], parameters)} AND {named}"


def among(events: Events, parameters: Parameters) -> str:
    """That an event is one of some, over ``events``. By time too, where all times are known: it begins the primary key."""
    named = f"event_id IN {parameters.add([event_id for event_id, _ in events], 'Array(String)')}"
    times = [time for _, time in events]
    return f"received_at IN {constant_times(times, parameters)} AND {named}" if all(times) else named


def constant_times(milliseconds: Sequence[int], parameters: Parameters) -> str:
    """Times, for IN. As constants: of what a function makes no index is asked."""
    times = [f"{_EPOCH + timedelta(milliseconds=time):%Y-%m-%d %H:%M:%S.%f}"[:-3] for time in milliseconds]
    return parameters.add(times, "Array(DateTime64(3, 'UTC'))")
