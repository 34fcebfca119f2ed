"""Figures of what a search finds: counts by state, event type and endpoint, and when the attempts were made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.core.search import AttemptQuery
from pipeline.store.find import Finder
from pipeline.store.parameters import Parameters
from pipeline.store.reader import Reader, sql
from pipeline.store.walk import Span

DEFAULT_BARS: Final = 60
MAX_BARS: Final = 400

_MINUTE: Final = 60_000
_DAY: Final = 1440 * _MINUTE
WIDTHS: Final = (*(minutes * _MINUTE for minutes in (1, 5, 15, 60, 180, 720)), _DAY, 7 * _DAY, 28 * _DAY)
"""How wide bars may be, in milliseconds."""
# The first Monday of 1970: a week of a histogram is a week.
MONDAY: Final = 4 * _DAY
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Facets:
    """Counts; the most first."""

    total: int
    states: dict[str, int]
    events: dict[str, int]
    endpoints: dict[int, int]


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time."""

    begins_at: datetime
    attempts: int
    failures: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bars of ``seconds`` each, the oldest first, without gaps."""

    seconds: int
    bars: tuple[Bar, ...]


async def facets(reader: Reader, query: AttemptQuery) -> Facets:
    """Count what a search finds."""
    parameters = Parameters()
    states: Counter[str] = Counter()
    events: Counter[str] = Counter()
    endpoints: Counter[int] = Counter()
    if scope := await Finder(reader).scope(query, parameters):
        select = "SELECT state, event_name, endpoint_id, count() FROM attempts WHERE"
        for state, event, endpoint, count in await reader.rows(sql(select, scope[1], "GROUP BY 1, 2, 3"), parameters.values):
            states[state] += count
            events[event] += count
            endpoints[endpoint] += count
    return Facets(states.total(), dict(states.most_common()), dict(events.most_common()), dict(endpoints.most_common()))


async def histogram(reader: Reader, query: AttemptQuery, bars: int = DEFAULT_BARS) -> Histogram:
    """Count what a search finds by time, in at most ``bars`` bars (more where even the widest are not enough)."""
    parameters = Parameters()
    scope = await Finder(reader).scope(query, parameters)
    if scope is None:
        return Histogram(WIDTHS[0] // 1000, ())
    span, condition = scope
    width = next((one for one in WIDTHS if len(numbers(span, one)) <= bars), WIDTHS[-1])
    bar = f"intDiv(toUnixTimestamp64Milli(created_at) - {MONDAY:d}, {width:d}) AS bar"
    select = ("SELECT", bar, ", count(), countIf(state = 'failed') FROM attempts WHERE")
    found = await reader.rows(sql(*select, condition, "GROUP BY bar"), parameters.values)
    counts = {number: (attempts, failures) for number, attempts, failures in found}
    return Histogram(
        width // 1000,
        tuple(
            Bar(_EPOCH + timedelta(milliseconds=number * width + MONDAY), *counts.get(number, (0, 0)))
            for number in numbers(span, width)
        ),
    )


def numbers(span: Span, width: int) -> range:
    """The numbers of the bars of a width that a time takes; bar 0 begins at :data:`MONDAY`."""
    return range((span.first - MONDAY) // width, (span.end - 1 - MONDAY) // width + 1)
