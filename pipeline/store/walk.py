"""Which windows of time a search looks at, one after the other, until its page is full. Pure.

Where the index of the bodies says when the first events that can be meant were received, the first window reaches as far as these.
Otherwise it is small. Each further one is sixteen times as long, or less: as long as it takes to fill the page if what is looked for
is as frequent as it was so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.core.search import NOTHING, Condition, Cursor, Filter, Predicate
from pipeline.store.conditions import milliseconds
from pipeline.store.parameters import Parameters

_HOUR: Final = 3_600_000
_DAY: Final = 24 * _HOUR
_FIRST_ROWS: Final = 4_000
"""Attempts in the first window, if they were spread evenly."""
_WIDER: Final = 16
_WIDER_AT_LEAST: Final = 4
"""A needle that is frequent lately may never have been before: its windows must not stay small for a year."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in milliseconds since 1970: from ``first`` up to, and without, ``end``."""

    first: int
    end: int

    def without(self, part: Span) -> Span:
        """What is left without a part that begins or ends with this one; it may be empty."""
        return Span(self.first, part.first) if part.end == self.end else Span(part.end, self.end)

    def sql(self, column: str, parameters: Parameters) -> str:
        """That a time lies within."""
        return f"{column} >= {parameters.time(self.first)} AND {column} < {parameters.time(self.end)}"


def asked_span(whole: Span, required: Sequence[Filter], cursor: Cursor | None) -> Span:
    """The part of the history that can hold what is asked for. It may be empty (``end`` not behind ``first``)."""
    first, end = whole.first, whole.end
    for one in required:
        if one == NOTHING:
            return Span(first, first)
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
    return Span(first, end)


@dataclass(slots=True)
class Progress:
    """How many attempts a walk is for, and how many it has found so far."""

    wanted: int
    found: int = 0


def first_width(whole: Span, rows: int) -> int:
    """How long the first window is, in milliseconds; ``rows`` are in ``whole``."""
    return min(max((whole.end - whole.first) * _FIRST_ROWS // max(rows, 1), 1), 30 * _DAY)


def next_width(width: int, looked_at: int, progress: Progress) -> int:
    """How long the window behind one of ``width`` is, when so many milliseconds were looked at in all."""
    widest = width * _WIDER
    if not progress.found:
        return widest
    missing = max(progress.wanted - progress.found, 0)
    return min(max(2 * looked_at * missing // progress.found, width * _WIDER_AT_LEAST), widest)


def step(left: Span, width: int, *, descending: bool) -> tuple[Span, Span]:
    """The next window of what is left, and what is left then."""
    length = left.end - left.first
    # What would be left is not left for another window when it is hardly more than this one.
    width = width if length > 2 * width else length
    if descending:
        return Span(left.end - width, left.end), Span(left.first, left.end - width)
    return Span(left.first, left.first + width), Span(left.first + width, left.end)


def candidate_events(whole: Span, window: Span, parameters: Parameters) -> str:
    """An expression over ``events`` that leaves out none whose attempts are in the window.

    Most attempts are made soon after their event was received; the others are looked up.
    """
    if window.first <= whole.first:
        return "1"
    soon = Span(window.first - max(window.end - window.first, _HOUR), window.end + _HOUR)
    return f"({soon.sql('received_at', parameters)} OR {other_events(window, soon, parameters)})"


def other_events(window: Span, received: Span, parameters: Parameters) -> str:
    """An expression over ``events``: those whose attempts are in the window, but that were not received in another stretch of time.

    These are few (late repeats, resends, a backlog). The column ``event_received_at`` of an attempt says which, and it is the beginning
    of the primary key of ``events``.
    """
    in_window = window.sql("created_at", parameters)
    known = received.sql("event_received_at", parameters)
    late = ("received_at IN (SELECT event_received_at FROM attempts WHERE", in_window, "AND NOT (", known, "))")
    unknown = "event_received_at = toDateTime64(0, 3, 'UTC')"
    unsaid = ("event_id IN (SELECT event_id FROM attempts WHERE", in_window, "AND", unknown, ")")
    return " ".join(("(", *late, "OR", *unsaid, ")"))
