"""A quick summary of a search for a page, however much it finds.

If a search only concerns endpoints, event types, states and whole hours, the hourly counts (``attempts_hourly``) cover all of it.
Otherwise a limited number of the newest attempts is counted, and the page says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.core.search import AttemptQuery
from pipeline.store.reader import Reader
from pipeline.store.search import counting
from pipeline.store.search.aggregates import WIDTHS, Facets, Histogram, facets_of, histogram_of, numbers, width_of
from pipeline.store.search.attempt_rows import AttemptRow
from pipeline.store.search.conditions import has_body
from pipeline.store.search.counting import AttemptCounts, counted, hourly, hours, newest
from pipeline.store.search.time_windows import TimeWindow

MAX_BY_BODY: Final = 25
"""How many attempts are counted in a search for bodies: as many as a page shows, because each body has to be read."""
_FEW_HOURS: Final = 6
_FEWEST_BARS: Final = 20


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """The counts of a search: only of the newest attempts, unless ``is_all``."""

    facets: Facets
    histogram: Histogram

    @property
    def is_all(self) -> bool:
        """Whether everything that the search finds was counted."""
        return self.facets.since is None


async def summary(reader: Reader, query: AttemptQuery, bars: int) -> SearchSummary:
    """Count what a search finds."""
    counts, finest, is_all = AttemptCounts((), ()), WIDTHS[0], False
    if (span := hours(query.required)) is not None:
        (counts, finest), is_all = await hourly(reader, query, span), True
    if not is_all or _are_few(counts):
        most = MAX_BY_BODY if any(map(has_body, query.required)) else counting.MAX_COUNTED
        counts, finest = await newest(reader, query, most), WIDTHS[0]
    return SearchSummary(facets_of(counts), _histogram(counts, [one for one in WIDTHS if one >= finest], bars))


def summary_of(attempts: Sequence[AttemptRow], *, is_all: bool, bars: int) -> SearchSummary:
    """Count the attempts that were found: all, or the newest."""
    since = None if is_all or not attempts else min(one.created_at for one in attempts)
    counts = counted(((one.created_at, one.state, one.event_name, one.endpoint_id) for one in attempts), since)
    return SearchSummary(facets_of(counts), _histogram(counts, WIDTHS, bars))


def _are_few(counts: AttemptCounts) -> bool:
    """Whether hours are too coarse for so few attempts. False if there are none."""
    times = {time for _, time, _ in counts.by_time}
    return 0 < len(times) <= _FEW_HOURS and sum(count for *_, count in counts.by_time) <= counting.MAX_COUNTED


def _histogram(counts: AttemptCounts, widths: Sequence[int], bars: int) -> Histogram:
    if not counts.by_time:
        return Histogram(widths[0] // 1000, (), counts.since)
    times = [time for _, time, _ in counts.by_time]
    span = TimeWindow(min(times), max(times) + 1)
    width = width_of(span, bars, widths)
    shown = numbers(span, width)
    # A bar or two would fill the chart and say nothing.
    return histogram_of(counts, range(min(shown.start, shown.stop - _FEWEST_BARS), shown.stop), width)
