"""Finds the first events, in time order, that a search for bodies may match, with the indexes of bodies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pipeline.core.search import Filter
from pipeline.store.bound_values import BoundValues
from pipeline.store.reader import INDEX_FIRST, Reader, Rows, sql
from pipeline.store.search.conditions import event_where, indexed_bodies
from pipeline.store.search.time_windows import TimeWindow, other_events, step

MANY_EVENTS: Final = 1_000
"""How many events a statement names, at most."""
_LONG_AGO: Final = 1
"""Just after 0, which stands for an unknown time."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RETRIED: Final = 24 * 3_600_000
"""Milliseconds. Nearly all attempts of an event are made within a day: the standard retries are over by then."""
_SPARSE: Final = 8
"""The window is shortened by a day only if the first events span more than this many days."""
_NEARLY: Final = 0.75
"""If the first part has this share of the wanted events, the rest is not searched."""
_LONG: Final = 90 * 24 * 3_600_000
"""Milliseconds. A shorter time is searched in one query."""

Events = Sequence[tuple[str, int]]
"""Ids, with the time received in milliseconds since 1970; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class FirstEvents:
    """All events whose attempts can be in a window, except for those of :meth:`late`. ``is_end``: nothing follows the window."""

    events: Events
    window: TimeWindow
    received: TimeWindow
    """When these events were received."""
    is_end: bool
    has_late: bool
    """Whether there may be attempts of other events."""
    has_unknown: bool
    """Whether there may be attempts that do not say when their event was received."""

    def late(self, required: Sequence[Filter], parameters: BoundValues) -> str:
        """The condition for attempts whose event was received earlier, or at an unknown time: a retry or a resend, rarely more
        than a few.
        """
        others = other_events(self.window, self.received, parameters, has_unknown=self.has_unknown)
        conditions = [others, *event_where(required, parameters)]
        conditions.append(f"({' OR '.join(indexed_bodies(required, parameters))})")
        meant = ("event_id IN (SELECT event_id FROM events WHERE", " AND ".join(conditions), ")")
        return sql("NOT (", self.received.sql("event_received_at", parameters), ") AND", *meant)

    def of_attempts(self, required: Sequence[Filter], parameters: BoundValues) -> str:
        """The condition for attempts of these events, or of late ones."""
        if not self.has_late:
            return of_events(self.events, parameters)
        late = self.late(required, parameters)
        return f"({of_events(self.events, parameters)} OR {late})" if self.events else late


async def first_events(
    reader: Reader, required: Sequence[Filter], left: TimeWindow, most: int, *, descending: bool
) -> FirstEvents | None:
    """The first events of ``left``, at most ``most``, and the window that needs no others. None: the indexes cannot answer."""
    if not indexed_bodies(required, BoundValues()):
        return None
    received = _received(left, descending=descending)
    rows: list[Sequence[Any]] = []
    end: int | None = None
    parts = _parts(left, descending=descending)
    for window in parts:
        parameters = BoundValues()
        queries = _event_queries(required, _within(received, window, left), most, parameters, descending=descending)
        unknown = f"NOT ({received.sql('event_received_at', parameters)}) LIMIT 1)"
        queries.append(sql("(SELECT 0, '', -1 FROM attempts WHERE", window.sql("created_at", parameters), "AND", unknown))
        rows += await reader.rows(" UNION ALL ".join(queries), parameters.values, more=INDEX_FIRST)
        found = sorted({(time, event_id) for time, event_id, index in rows if index >= 0}, reverse=descending)
        end = _last(found, rows, most, descending=descending)
        if end is None and window != parts[-1] and len(found) >= most * _NEARLY:
            end = window.first - 1 if descending else window.end
        if end is not None:
            break
    # Attempts that do not say when their event was received count as late.
    has_late = any(index < 0 for _, _, index in rows)
    if end is None:
        return FirstEvents(_named(found), left, received, is_end=True, has_late=has_late, has_unknown=has_late)
    received = _behind(received, end, descending=descending)
    # Most retries are made within a day. So if the window begins a day after the last event, few of its attempts belong to older
    # events.
    is_sparse = descending and left.end - end > _SPARSE * _RETRIED
    window = _behind(left, end + _RETRIED if is_sparse else end, descending=descending)
    found = [one for one in found if (one[0] > end if descending else one[0] < end)]
    return FirstEvents(_named(found), window, received, is_end=window == left, has_late=True, has_unknown=has_late)


def _parts(left: TimeWindow, *, descending: bool) -> list[TimeWindow]:
    """Split a long time in two: the quarter that is searched first, and the rest.

    ClickHouse reads the indexes of a whole part before the first row. If a text is frequent enough to fill a page, a quarter is
    enough.
    """
    length = left.end - left.first
    if length < _LONG:
        return [left]
    near, rest = step(left, length // 4, descending=descending)
    return [near, rest]


def _within(received: TimeWindow, window: TimeWindow, left: TimeWindow) -> TimeWindow:
    """When the events of a part's attempts were received: ``received``, cut to the part."""
    return replace(
        received,
        first=received.first if window.first == left.first else window.first,
        end=received.end if window.end == left.end else window.end,
        open_end=received.open_end and window.end == left.end,
    )


def _event_queries(
    required: Sequence[Filter], received: TimeWindow, most: int, parameters: BoundValues, *, descending: bool
) -> list[str]:
    """Statements for the first events that each index finds, one more than ``most``, with the number of the index."""
    conditions = [received.sql("received_at", parameters), *event_where(required, parameters)]
    order = f"ORDER BY received_at {'DESC' if descending else 'ASC'} LIMIT {most + 1:d}"
    select = ("(SELECT toUnixTimestamp64Milli(received_at), event_id,", "AS look FROM events WHERE")
    return [
        sql(select[0], f"{number:d}", select[1], " AND ".join([*conditions, body]), order, ")")
        for number, body in enumerate(indexed_bodies(required, parameters))
    ]


def _last(found: Sequence[tuple[int, str]], rows: Rows, most: int, *, descending: bool) -> int | None:
    """When the first event beyond the limit was received; None if all were found. ``found`` are the events of ``rows``.

    Some of the events received in the same millisecond may be missing.
    """
    last = [time for time, _ in found[most : most + 1]]
    for number in {index for _, _, index in rows if index >= 0}:
        times = [time for time, _, index in rows if index == number]
        last += [min(times) if descending else max(times)] if len(times) > most else []
    return (max(last) if descending else min(last)) if last else None


def _received(window: TimeWindow, *, descending: bool) -> TimeWindow:
    """When the events of a window's attempts were received, except for a few that were retried or resent days later.

    Newest first, the extra day costs nothing. Oldest first, its events would come first and have no attempts in the window.
    """
    if window.open_start:
        # The earliest attempts belong to events that were received before.
        return replace(window, first=_LONG_AGO, open_start=False)
    return replace(window, first=max(window.first - _RETRIED, _LONG_AGO)) if descending else window


def _named(found: Sequence[tuple[int, str]]) -> Events:
    return sorted((event_id, time) for time, event_id in found)


def _behind(window: TimeWindow, last: int, *, descending: bool) -> TimeWindow:
    """The part of a window before a time, in the search order."""
    if descending:
        return replace(window, first=max(window.first, last + 1), open_start=False)
    # An event may be newer than the end of an open window, which was looked up some seconds ago.
    end = last if window.open_end else min(window.end, last)
    return replace(window, end=max(window.first, end), open_end=False)


def of_events(events: Events, parameters: BoundValues) -> str:
    """The condition for attempts of these events. It includes the time, because for each id, a Bloom filter of ids passes one
    block in a hundred.
    """
    named = f"event_id IN {parameters.add([event_id for event_id, _ in events], 'Array(String)')}"
    # 0: an attempt may not say when its event was received.
    return f"event_received_at IN {constant_times([0, *(time for _, time in events)], parameters)} AND {named}"


def among(events: Events, parameters: BoundValues) -> str:
    """The condition for these events, over ``events``, with their times if all are known: the primary key begins with the time."""
    named = f"event_id IN {parameters.add([event_id for event_id, _ in events], 'Array(String)')}"
    times = [time for _, time in events]
    return f"received_at IN {constant_times(times, parameters)} AND {named}" if all(times) else named


def constant_times(milliseconds: Sequence[int], parameters: BoundValues) -> str:
    """Times, for IN. As constants, because ClickHouse does not use an index for the result of a function."""
    times = [f"{_EPOCH + timedelta(milliseconds=time):%Y-%m-%d %H:%M:%S.%f}"[:-3] for time in milliseconds]
    return parameters.add(times, "Array(DateTime64(3, 'UTC'))")
