"""Fast counts for any search: from the hourly aggregates, or of the newest attempts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from pipeline.core.search import AttemptQuery, Condition, Filter, Predicate, beginning
from pipeline.store.bound_values import BoundValues
from pipeline.store.reader import Reader, sql
from pipeline.store.search.conditions import milliseconds, where
from pipeline.store.search.find import Finder
from pipeline.store.search.time_windows import TimeWindow

MAX_COUNTED: Final = 5_000
"""How many attempts are counted one by one, at most."""
HOUR: Final = 3_600_000
_DAY: Final = 24 * HOUR
_BY_HOURS_UP_TO: Final = 60 * _DAY
"""Longer time spans are counted by days, because a chart has no room for so many hours."""
_EVER: Final = 2**62
_KEPT: Final = "hour >= (SELECT toStartOfHour(min(created_at)) FROM attempts)"
"""The hourly counts are kept longer than the attempts. The minimum is in the parts' indexes: no rows are read."""
_KEPT_DAYS: Final = "toStartOfDay(hour) >= (SELECT toStartOfDay(min(created_at)) FROM attempts)"
_COUNTED: Final = "sum(attempts) - sum(failures), sum(failures)"
_HOURLY: Final = frozenset({"endpoint_id", "event_name", "state", "created_at"})
_BY_DAYS: Final[Mapping[str, int]] = {"optimize_time_filter_with_preimage": 0}
"""Otherwise, ClickHouse reads hours when days are asked for, and does not use the daily sums (migration 0043)."""


@dataclass(frozen=True, slots=True)
class AttemptCounts:
    """The same attempts, counted by two criteria."""

    by_kind: Sequence[tuple[str, str, int, int]]
    """State, event type, endpoint, count."""
    by_time: Sequence[tuple[str, int, int]]
    """State, time (milliseconds since 1970), count."""
    since: datetime | None = None
    """When the oldest counted attempt was made; None if all were counted."""


def hours(required: Sequence[Filter]) -> TimeWindow | None:
    """The time span of a search, if the hourly counts can answer it completely; otherwise None."""
    first, end = -_EVER, _EVER
    for one in required:
        if not isinstance(one, Condition) or one.attribute not in _HOURLY:
            return None
        if one.attribute != "created_at":
            continue
        values = [milliseconds(value) for value in one.values if isinstance(value, datetime)]
        # LTEQ with the last millisecond of an hour means that whole hour.
        moment = values[0] + (one.predicate is Predicate.LTEQ) if values else 1
        if one.predicate not in (Predicate.GTEQ, Predicate.LT, Predicate.LTEQ) or moment % HOUR:
            return None
        first, end = (max(first, moment), end) if one.predicate is Predicate.GTEQ else (first, min(end, moment))
    return TimeWindow(first, end)


async def hourly(reader: Reader, query: AttemptQuery, span: TimeWindow) -> tuple[AttemptCounts, int]:
    """Counts, and how many milliseconds each time stands for: a day's if there are too many hours for a chart."""
    stored = await reader.stored()
    if not stored.rows or span.first >= span.end:
        return AttemptCounts((), ()), HOUR
    parameters = BoundValues()
    conditions = [one for one in query.required if isinstance(one, Condition)]
    test = where([one for one in conditions if one.attribute in ("endpoint_id", "event_name")], parameters)
    if min(span.end, stored.end) - max(span.first, stored.first) > _BY_HOURS_UP_TO:
        step, statement, settings = _DAY, _by_days(span, test, parameters), _BY_DAYS
    else:
        step, statement, settings = HOUR, _by_hours(span, test, parameters), {}
    by_kind, by_time = [], []
    for is_kind, event, endpoint, time, good, bad in await reader.rows(statement, parameters.values, more=settings):
        for state, count in (("succeeded", good), ("failed", bad)):
            if not count or not all(_has_state(condition, state) for condition in conditions):
                continue
            if is_kind:
                by_kind.append((state, event, endpoint, count))
            else:
                by_time.append((state, time, count))
    return AttemptCounts(by_kind, by_time), step


def _by_hours(span: TimeWindow, test: str, parameters: BoundValues) -> str:
    """Counts of succeeded and failed attempts, by event type and endpoint, and by time.

    Not by all three together: that would be a row for each hour, endpoint and event type.
    """
    within = " AND ".join((_KEPT, *_bounds("hour", span, parameters)))
    select = ("SELECT grouping(time), event_name, endpoint_id, toUnixTimestamp(hour) * 1000 AS time,", _COUNTED)
    groups = "GROUP BY GROUPING SETS ((event_name, endpoint_id), (time))"
    return sql(*select, "FROM attempts_hourly WHERE", within, "AND", test, groups)


def _by_days(span: TimeWindow, test: str, parameters: BoundValues) -> str:
    """The same by days (UTC). Whole days have sums; hours are only read where the time span begins or ends within a day."""
    first = span.first if span.first == -_EVER else -(-span.first // _DAY) * _DAY
    end = span.end if span.end == _EVER else span.end // _DAY * _DAY
    edges = [edge for edge in (TimeWindow(span.first, first), TimeWindow(end, span.end)) if edge.first < edge.end]
    parts = [
        " AND ".join((_KEPT_DAYS, *_bounds("toStartOfDay(hour)", TimeWindow(first, end), parameters))),
        *(" AND ".join((_KEPT, *_bounds("hour", edge, parameters))) for edge in edges),
    ]
    selects = []
    for within in parts:
        source = sql(_COUNTED, "FROM attempts_hourly WHERE", within, "AND", test)
        selects.append(sql("SELECT 1, event_name, endpoint_id, 0,", source, "GROUP BY event_name, endpoint_id"))
        day = "toUnixTimestamp(toStartOfDay(hour)) * 1000"
        selects.append(sql("SELECT 0, '', 0,", day, ",", source, "GROUP BY toStartOfDay(hour)"))
    return " UNION ALL ".join(selects)


def _bounds(column: str, span: TimeWindow, parameters: BoundValues) -> list[str]:
    bounds = [] if span.first == -_EVER else [f"{column} >= {parameters.time(span.first)}"]
    return bounds + ([] if span.end == _EVER else [f"{column} < {parameters.time(span.end)}"])


def _has_state(condition: Condition, state: str) -> bool:
    if condition.attribute != "state":
        return True
    match condition.predicate:
        case Predicate.EQ | Predicate.IN:
            return state in condition.values
        case Predicate.NOT_EQ | Predicate.NOT_IN:
            return state not in condition.values
        case _:  # every attempt has one
            return condition.predicate in (Predicate.PRESENT, Predicate.NOT_NULL)


async def newest(reader: Reader, query: AttemptQuery, most: int | None = None) -> AttemptCounts:
    """Counts of the newest attempts that a search finds; of all of them if there are at most ``most`` (:data:`MAX_COUNTED`)."""
    finder = Finder(reader, ("created_at", "id", "state", "event_name", "endpoint_id"))
    # A page after a cursor shows no counts.
    found = await finder.find(replace(query, sorts=(), page=1, per_page=most or MAX_COUNTED, after=beginning()))
    rows = [(time, state, event, endpoint) for time, _, state, event, endpoint in found.rows]
    return counted(rows, since=None if found.next_cursor is None else rows[-1][0])


def counted(attempts: Iterable[tuple[datetime, str, str, int]], since: datetime | None) -> AttemptCounts:
    """Count attempts: the time, state, event type and endpoint of each."""
    rows = list(attempts)
    by_kind = [(state, event, endpoint, 1) for _, state, event, endpoint in rows]
    return AttemptCounts(by_kind, [(state, milliseconds(time), 1) for time, state, *_ in rows], since)
