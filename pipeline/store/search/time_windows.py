"""Chooses the time windows that a search reads one after the other, until its page is full. Pure.

If the index of bodies says when the first possible events were received, the first window extends to them. Otherwise it is small.
Each further window is up to sixteen times as long: long enough to fill the page if matches stay as frequent as they were so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pipeline.core.search import NOTHING, Condition, Cursor, Filter, Predicate
from pipeline.store.bound_values import BoundValues
from pipeline.store.search.conditions import milliseconds

_HOUR: Final = 3_600_000
_DAY: Final = 24 * _HOUR
_EVER: Final = 2**62
_FIRST_ROWS: Final = 4_000
"""Attempts in the first window, if they were spread evenly."""
_WIDER: Final = 16
_WIDER_AT_LEAST: Final = 4
"""A text that is frequent now may never have occurred before: the windows must not stay small for a year."""


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """An interval in milliseconds since 1970, from ``first`` (inclusive) to ``end`` (exclusive).

    An open interval includes everything earlier (``open_start``) or later (``open_end``): ``first`` and ``end`` come from a
    recent look at the store, and rows have arrived since.
    """

    first: int
    end: int
    open_start: bool = False
    open_end: bool = False

    def without(self, part: TimeWindow) -> TimeWindow:
        """The rest without a part at its beginning or end; it may be empty, but not if it is open."""
        if part.end == self.end and part.open_end == self.open_end:
            return TimeWindow(self.first, part.first, open_start=self.open_start)
        return TimeWindow(part.end, max(self.end, part.end + self.open_end), open_end=self.open_end)

    def sql(self, column: str, parameters: BoundValues) -> str:
        """The condition that a time lies within."""
        bounds = [] if self.open_start else [f"{column} >= {parameters.time(self.first)}"]
        bounds += [] if self.open_end else [f"{column} < {parameters.time(self.end)}"]
        return " AND ".join(bounds) or "1"


_EMPTY: Final = TimeWindow(0, 0)


def requested_span(whole: TimeWindow, required: Sequence[Filter], cursor: Cursor | None, *, exactly: bool = False) -> TimeWindow:
    """The part of the history that a search can match. It may be empty (``end`` not after ``first``).

    Its ends lie within ``whole``; if it extends as far as ``whole``, it is open. ``exactly``: nothing has arrived since ``whole``
    was read, so everything outside is empty.
    """
    first, end = -_EVER, _EVER
    for one in required:
        if one == NOTHING:
            return _EMPTY
        if not isinstance(one, Condition) or one.attribute != "created_at" or not one.values:
            continue
        times = [milliseconds(value) for value in one.values if not isinstance(value, str | int | float)]
        if one.predicate in (Predicate.GT, Predicate.GTEQ, Predicate.EQ, Predicate.IN):
            first = max(first, min(times))
        if one.predicate in (Predicate.LT, Predicate.LTEQ, Predicate.EQ, Predicate.IN):
            end = min(end, max(times) + 1)
    if cursor is not None and cursor.descending:
        end = min(end, cursor.created_at_ms + 1)
    elif cursor is not None:
        first = max(first, cursor.created_at_ms)
    is_outside = exactly and (first >= whole.end or end <= whole.first)
    if is_outside or first >= end or whole.first >= whole.end:
        return _EMPTY
    return TimeWindow(
        min(max(first, whole.first), whole.end - 1),
        max(min(end, whole.end), whole.first + 1),
        open_start=first <= whole.first,
        open_end=end >= whole.end,
    )


@dataclass(slots=True)
class WindowProgress:
    """How many attempts a search wants, and how many it has found so far."""

    wanted: int
    found: int = 0


def first_width(whole: TimeWindow, rows: int) -> int:
    """The length in milliseconds of the first window for a search that reads bodies; ``whole`` contains ``rows``."""
    return min(width_of_rows(whole, rows), 30 * _DAY)


def width_of_rows(whole: TimeWindow, rows: int) -> int:
    """An estimate of the length of the first window, in milliseconds; ``whole`` contains ``rows``."""
    return max((whole.end - whole.first) * _FIRST_ROWS // max(rows, 1), 1)


def next_width(width: int, examined: int, progress: WindowProgress) -> int:
    """The length of the window after one of ``width``; ``examined`` is the length of all windows so far."""
    widest = width * _WIDER
    if not progress.found:
        return widest
    missing = max(progress.wanted - progress.found, 0)
    return min(max(2 * examined * missing // progress.found, width * _WIDER_AT_LEAST), widest)


def step(left: TimeWindow, width: int, *, descending: bool) -> tuple[TimeWindow, TimeWindow]:
    """The next window of the rest, and the new rest."""
    length = left.end - left.first
    # Do not leave a remainder that is hardly larger than this window.
    width = width if length > 2 * width else length
    if descending:
        start = left.end - width
        return replace(left, first=start, open_start=left.open_start and start == left.first), replace(
            left, end=start, open_end=False
        )
    end = left.first + width
    return replace(left, end=end, open_end=left.open_end and end == left.end), replace(left, first=end, open_start=False)


def windows_without_bodies(
    left: TimeWindow, width: int, progress: WindowProgress, *, is_one: bool, descending: bool
) -> Iterator[TimeWindow]:
    """A few windows, for a search that reads no bodies: each is one query, which reads from its end until it has enough.

    ``width`` is the length of the first window for one page; for thousands of rows, that window is longer and a second one follows.
    The last window is the rest. A year is not read at once, because reading it in order takes half a second at ten million
    attempts. ``is_one``: an index says what to read, so one query is enough.
    """
    if is_one:
        yield left
        return
    are_many = progress.wanted > _FIRST_ROWS
    first = width * _WIDER if are_many else width
    window, left = step(left, first, descending=descending)
    yield window
    if are_many and left.first < left.end:
        window, left = step(left, _second_width(first, progress), descending=descending)
        yield window
    if left.first < left.end:
        yield left


def _second_width(width: int, progress: WindowProgress) -> int:
    """Twice what fills the page if matches stay as frequent as in the first window."""
    if not progress.found:
        return width * _WIDER
    missing = max(progress.wanted - progress.found, 0)
    return min(max(2 * width * missing // progress.found, width), width * _WIDER)


def candidate_events(whole: TimeWindow, window: TimeWindow, parameters: BoundValues) -> str:
    """An expression over ``events`` that includes every event with attempts in the window.

    Most attempts are made soon after their event was received; the others are looked up.
    """
    if window.first <= whole.first:
        return "1"
    nearby = TimeWindow(window.first - max(window.end - window.first, _HOUR), window.end + _HOUR, open_end=window.open_end)
    return f"({nearby.sql('received_at', parameters)} OR {other_events(window, nearby, parameters)})"


def other_events(window: TimeWindow, received: TimeWindow, parameters: BoundValues, *, has_unknown: bool = True) -> str:
    """An expression over ``events``: those with attempts in the window that were received outside another interval.

    There are few of these (late retries, resends, a backlog). The column ``event_received_at`` of an attempt says when, and it
    begins the primary key of ``events``. ``has_unknown``: some attempts may not say it, and are looked up by id.
    """
    in_window = window.sql("created_at", parameters)
    known = received.sql("event_received_at", parameters)
    late = ("received_at IN (SELECT event_received_at FROM attempts WHERE", in_window, "AND NOT (", known, "))")
    if not has_unknown:
        return " ".join(late)
    unknown = "event_received_at = toDateTime64(0, 3, 'UTC')"
    unsaid = ("event_id IN (SELECT event_id FROM attempts WHERE", in_window, "AND", unknown, ")")
    return " ".join(("(", *late, "OR", *unsaid, ")"))
