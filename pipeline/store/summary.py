"""What a search finds, counted for a page: quickly, however much it finds.

Where a search asks for endpoints, event types, states and whole hours only, the hourly counts (``attempts_hourly``) answer for all of
it. Otherwise the newest attempts are counted, a bounded number of them, and the page says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.core.search import AttemptQuery, Condition, Filter, Predicate, beginning
from pipeline.store.attempts import AttemptRow
from pipeline.store.conditions import has_body, milliseconds, where
from pipeline.store.figures import MONDAY, WIDTHS, Bar, Facets, Histogram, numbers
from pipeline.store.find import Finder
from pipeline.store.parameters import Parameters
from pipeline.store.reader import Reader, sql
from pipeline.store.walk import Span

MOST: Final = 5_000
"""Attempts that are counted one by one."""
MOST_BY_BODY: Final = 60
"""Of a search for bodies: each of them has to be read."""
_HOUR: Final = 3_600_000
_FEW_HOURS: Final = 6
_FEWEST_BARS: Final = 20
_HOURLY: Final = frozenset({"endpoint_id", "event_name", "state", "created_at"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Counts:
    """The same attempts, counted twice."""

    by_kind: Sequence[tuple[str, str, int, int]]
    """State, event type, endpoint, count."""
    by_time: Sequence[tuple[str, int, int]]
    """State, time (milliseconds since 1970), count."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a search. ``is_all`` is False when they are those of the newest attempts only."""

    facets: Facets
    histogram: Histogram
    is_all: bool


async def summary(reader: Reader, query: AttemptQuery, bars: int) -> Summary:
    """Count what a search finds."""
    counts, finest, is_all = _Counts((), ()), WIDTHS[0], False
    if (span := _hours(query.required)) is not None:
        (counts, finest), is_all = await _hourly(reader, query, span), True
    if not is_all or _are_few(counts):
        (counts, is_all), finest = await _newest(reader, query), WIDTHS[0]
    return Summary(_facets(counts), _histogram(counts, [one for one in WIDTHS if one >= finest], bars), is_all)


def summary_of(attempts: Sequence[AttemptRow], *, is_all: bool, bars: int) -> Summary:
    """Count attempts that were found: all that there are, or the newest."""
    counts = _counted((one.created_at, one.state, one.event_name, one.endpoint_id) for one in attempts)
    return Summary(_facets(counts), _histogram(counts, WIDTHS, bars), is_all)


def _are_few(counts: _Counts) -> bool:
    """Whether hours are too coarse for what there is: then there is little, too."""
    hours = {time for _, time, _ in counts.by_time}
    return len(hours) <= _FEW_HOURS and sum(count for *_, count in counts.by_time) <= MOST


def _hours(required: Sequence[Filter]) -> Span | None:
    """The time that is asked for, where the hourly counts know all that is asked for; None otherwise."""
    first, end = -(2**62), 2**62
    for one in required:
        if not isinstance(one, Condition) or one.attribute not in _HOURLY:
            return None
        if one.attribute != "created_at":
            continue
        values = [milliseconds(value) for value in one.values if isinstance(value, datetime)]
        # LTEQ of the last millisecond of an hour is that whole hour.
        moment = values[0] + (one.predicate is Predicate.LTEQ) if values else 1
        if one.predicate not in (Predicate.GTEQ, Predicate.LT, Predicate.LTEQ) or moment % _HOUR:
            return None
        first, end = (max(first, moment), end) if one.predicate is Predicate.GTEQ else (first, min(end, moment))
    return Span(first, end)


async def _hourly(reader: Reader, query: AttemptQuery, span: Span) -> tuple[_Counts, int]:
    """Counts, and how many milliseconds each time covers: a day where hours would be too many for a chart."""
    times = "toUnixTimestamp64Milli(min(created_at)), toUnixTimestamp64Milli(max(created_at))"
    [(first, last, stored)] = await reader.rows(sql("SELECT", times, ", count() FROM attempts"), {})
    # The hourly counts outlive the attempts.
    span = Span(max(span.first, first - first % _HOUR), min(span.end, last + 1))
    if not stored or span.first >= span.end:
        return _Counts((), ()), _HOUR
    parameters = Parameters()
    conditions = [one for one in query.required if isinstance(one, Condition)]
    test = where([one for one in conditions if one.attribute in ("endpoint_id", "event_name")], parameters)
    within = f"hour >= {parameters.time(span.first)} AND hour < {parameters.time(span.end)}"
    step = 24 * _HOUR if span.end - span.first > 60 * 24 * _HOUR else _HOUR
    hour = f"intDiv(toUnixTimestamp(hour), {step // 1000:d}) * {step:d} AS time"
    counted = "sum(attempts) - sum(failures), sum(failures)"
    # Not by all of it at once: a year would be a row for each day, endpoint and event type.
    groups = "GROUP BY GROUPING SETS ((event_name, endpoint_id), (time))"
    select = sql("SELECT grouping(time), event_name, endpoint_id,", hour, ",", counted, "FROM attempts_hourly WHERE", within)
    by_kind, by_time = [], []
    for is_kind, event, endpoint, time, good, bad in await reader.rows(sql(select, "AND", test, groups), parameters.values):
        for state, count in (("succeeded", good), ("failed", bad)):
            if not count or not all(_has_state(condition, state) for condition in conditions):
                continue
            if is_kind:
                by_kind.append((state, event, endpoint, count))
            else:
                by_time.append((state, time, count))
    return _Counts(by_kind, by_time), step


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


async def _newest(reader: Reader, query: AttemptQuery) -> tuple[_Counts, bool]:
    finder = Finder(reader, ("created_at", "id", "state", "event_name", "endpoint_id"))
    # Behind a cursor nothing is counted beside.
    most = MOST_BY_BODY if any(map(has_body, query.required)) else MOST
    found = await finder.find(replace(query, sorts=(), page=1, per_page=most, after=beginning()))
    return _counted((time, state, event, endpoint) for time, _, state, event, endpoint in found.rows), found.next_cursor is None


def _counted(attempts: Iterable[tuple[datetime, str, str, int]]) -> _Counts:
    rows = list(attempts)
    by_kind = [(state, event, endpoint, 1) for _, state, event, endpoint in rows]
    return _Counts(by_kind, [(state, milliseconds(time), 1) for time, state, *_ in rows])


def _facets(counts: _Counts) -> Facets:
    states: Counter[str] = Counter()
    events: Counter[str] = Counter()
    endpoints: Counter[int] = Counter()
    for state, event, endpoint, count in counts.by_kind:
        states[state] += count
        events[event] += count
        endpoints[endpoint] += count
    return Facets(states.total(), dict(states.most_common()), dict(events.most_common()), dict(endpoints.most_common()))


def _histogram(counts: _Counts, widths: Sequence[int], bars: int) -> Histogram:
    if not counts.by_time:
        return Histogram(widths[0] // 1000, ())
    times = [time for _, time, _ in counts.by_time]
    span = Span(min(times), max(times) + 1)
    width = next((one for one in widths if len(numbers(span, one)) <= bars), widths[-1])
    shown = numbers(span, width)
    # A bar or two would fill the chart and say nothing.
    shown = range(min(shown.start, shown.stop - _FEWEST_BARS), shown.stop)
    good: Counter[int] = Counter()
    bad: Counter[int] = Counter()
    for state, time, count in counts.by_time:
        (bad if state == "failed" else good)[(time - MONDAY) // width] += count
    return Histogram(
        width // 1000,
        tuple(
            Bar(_EPOCH + timedelta(milliseconds=number * width + MONDAY), good[number] + bad[number], bad[number])
            for number in shown
        ),
    )
