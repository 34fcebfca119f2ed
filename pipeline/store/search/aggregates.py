"""Aggregates of a search: counts by state, event type and endpoint, and when the attempts were made.

All attempts are counted if that is cheap: no text has to be read, and the indexes leave no more than :data:`EXACT_ROWS` rows.
Otherwise the hourly aggregates answer if they can; if not, the newest attempts are counted and the answer says since when. So a
common word costs the same however long the history is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.core.search import AttemptQuery
from pipeline.store.bound_values import BoundValues
from pipeline.store.reader import Reader, sql
from pipeline.store.search.conditions import has_body, milliseconds
from pipeline.store.search.counting import AttemptCounts, hourly, hours, newest
from pipeline.store.search.find import Finder, can_count_without_texts
from pipeline.store.search.time_windows import TimeWindow

DEFAULT_BARS: Final = 60
MAX_BARS: Final = 400
EXACT_ROWS: Final = 2_000_000
"""Rows of narrow columns that may be read to count all attempts: a fraction of a second on one core."""

MAX_COUNTED_BY_BODY: Final = 1_000
"""How many attempts are counted in a search for bodies, where each body has to be read."""
_MINUTE: Final = 60_000
_DAY: Final = 1440 * _MINUTE
WIDTHS: Final = (*(minutes * _MINUTE for minutes in (1, 5, 15, 60, 180, 720)), _DAY, 7 * _DAY, 28 * _DAY)
"""Possible widths of bars, in milliseconds."""
# The first Monday of 1970, so that the bars of a histogram are calendar weeks.
MONDAY: Final = 4 * _DAY
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Facets:
    """Counts, largest first. ``since`` is when the oldest counted attempt was made; None if all were counted."""

    total: int
    states: dict[str, int]
    events: dict[str, int]
    endpoints: dict[int, int]
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class AggregateBar:
    """One time interval."""

    begins_at: datetime
    attempts: int
    failures: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bars of ``seconds`` each, oldest first, without gaps. ``since`` is when the oldest counted attempt was made; None if all
    were counted.
    """

    seconds: int
    bars: tuple[AggregateBar, ...]
    since: datetime | None = None


async def facets(reader: Reader, query: AttemptQuery) -> Facets:
    """Count what a search finds."""
    parameters = BoundValues()
    scope = await Finder(reader).scope(query, parameters)
    if scope is None:
        return Facets(0, {}, {}, {})
    if await _is_cheap(reader, query, scope[1], parameters):
        select = "SELECT state, event_name, endpoint_id, count() FROM attempts WHERE"
        rows = await reader.rows(sql(select, scope[1], "GROUP BY 1, 2, 3"), parameters.values)
        return facets_of(AttemptCounts([(state, event, endpoint, count) for state, event, endpoint, count in rows], ()))
    span = hours(query.required)
    return facets_of((await hourly(reader, query, span))[0] if span is not None else await _newest(reader, query))


async def histogram(reader: Reader, query: AttemptQuery, bars: int = DEFAULT_BARS) -> Histogram:
    """Count a search's attempts by time, in at most ``bars`` bars (more if even the widest are too narrow)."""
    parameters = BoundValues()
    scope = await Finder(reader).scope(query, parameters, exactly=True)
    if scope is None:
        return Histogram(WIDTHS[0] // 1000, ())
    span, condition = scope
    width = width_of(span, bars)
    if await _is_cheap(reader, query, condition, parameters):
        bar = f"intDiv(toUnixTimestamp64Milli(created_at) - {MONDAY:d}, {width:d}) AS bar"
        select = ("SELECT", bar, ", count(), countIf(state = 'failed') FROM attempts WHERE")
        rows = await reader.rows(sql(*select, condition, "GROUP BY bar"), parameters.values)
        counts = {number: (attempts, failures) for number, attempts, failures in rows}
        return Histogram(width // 1000, _bars(counts, numbers(span, width), width))
    if (whole_hours := hours(query.required)) is not None:
        by_hours, step = await hourly(reader, query, whole_hours)
        if width % step == 0:
            return histogram_of(by_hours, numbers(span, width), width)
    latest = await _newest(reader, query)
    if latest.since is not None:
        span = TimeWindow(milliseconds(latest.since), span.end)
        width = width_of(span, bars)
    return histogram_of(latest, numbers(span, width), width)


def facets_of(counts: AttemptCounts) -> Facets:
    """Counts by state, event type and endpoint."""
    states: Counter[str] = Counter()
    events: Counter[str] = Counter()
    endpoints: Counter[int] = Counter()
    for state, event, endpoint, count in counts.by_kind:
        states[state] += count
        events[event] += count
        endpoints[endpoint] += count
    by_frequency = dict(states.most_common()), dict(events.most_common()), dict(endpoints.most_common())
    return Facets(states.total(), *by_frequency, counts.since)


def histogram_of(counts: AttemptCounts, shown: range, width: int) -> Histogram:
    """Counts by time, for the bars with these numbers."""
    attempts: Counter[int] = Counter()
    failures: Counter[int] = Counter()
    for state, time, count in counts.by_time:
        number = (time - MONDAY) // width
        attempts[number] += count
        if state == "failed":
            failures[number] += count
    together = {number: (count, failures[number]) for number, count in attempts.items()}
    return Histogram(width // 1000, _bars(together, shown, width), counts.since)


def numbers(span: TimeWindow, width: int) -> range:
    """The numbers of the bars that cover a time span; bar 0 begins at :data:`MONDAY`."""
    return range((span.first - MONDAY) // width, (span.end - 1 - MONDAY) // width + 1)


def width_of(span: TimeWindow, bars: int, widths: Sequence[int] = WIDTHS) -> int:
    """The smallest width that divides a time span into at most ``bars`` bars; otherwise the largest width."""
    return next((one for one in widths if len(numbers(span, one)) <= bars), widths[-1])


def _bars(counts: dict[int, tuple[int, int]], shown: range, width: int) -> tuple[AggregateBar, ...]:
    return tuple(
        AggregateBar(_EPOCH + timedelta(milliseconds=number * width + MONDAY), *counts.get(number, (0, 0))) for number in shown
    )


async def _newest(reader: Reader, query: AttemptQuery) -> AttemptCounts:
    return await newest(reader, query, MAX_COUNTED_BY_BODY if any(map(has_body, query.required)) else None)


async def _is_cheap(reader: Reader, query: AttemptQuery, condition: str, parameters: BoundValues) -> bool:
    """Whether counting all attempts that a search finds is cheap. ClickHouse estimates how many rows its indexes leave."""
    if not can_count_without_texts(query):
        return False
    estimate = ("SELECT sum(rows) FROM (EXPLAIN ESTIMATE SELECT state FROM attempts WHERE", condition, ")")
    [(rows,)] = await reader.rows(sql(*estimate), parameters.values)
    return int(rows) <= EXACT_ROWS
