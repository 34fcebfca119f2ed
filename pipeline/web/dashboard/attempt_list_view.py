"""The content of the page that searches attempts: rows, filters in words, and the histogram. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pipeline.store.search.aggregates import Histogram
from pipeline.store.search.queries import AttemptRow
from pipeline.store.search.summary import SearchSummary
from pipeline.web.dashboard.charts import Chart, ChartBar, columns
from pipeline.web.dashboard.filter_chips import ORDERS, FilterForm
from pipeline.web.dashboard.highlight import HighlightedText
from pipeline.web.dashboard.text_filters import iso, outcome, stamp, time_of, words
from pipeline.web.dashboard.time_zone import local
from pipeline.web.endpoint_names import EndpointName, end_shortened
from pipeline.web.request_values import digits
from schemas.event_types import BUILT_IN

_MAX_ENDPOINTS: Final = 200
"""The most endpoints that a menu shows. If there are more, the user types an id."""
_MAX_CHOSEN: Final = 28
_MAX_TITLE: Final = 120
TIMES: Final[Mapping[str, tuple[str, str]]] = {
    "today": ("today", ""),
    "yesterday": ("yesterday", "yesterday"),
    "last hour": ("-1h", ""),
    "last 24 hours": ("-24h", ""),
    "last 7 days": ("-7d", ""),
    "last 30 days": ("-30d", ""),
}
"""Preset time ranges, in the grammar of the search."""
_RELATIVE: Final = {since: name for name, (since, _) in TIMES.items()}


@dataclass(frozen=True, slots=True)
class AttemptListRow:
    """An attempt, and the excerpt of its body that matched."""

    attempt: AttemptRow
    excerpt: Sequence[HighlightedText] = ()


@dataclass(frozen=True, slots=True)
class AttemptListPage:
    """A page of rows. ``newer`` and ``older`` are the query strings of the adjacent pages, or None."""

    rows: Sequence[AttemptListRow] = ()
    newer: str | None = None
    older: str | None = None
    sorted_count: int = 0
    sorted_since: datetime | None = None
    """If attempts are not sorted by time and only the newest were sorted: how many, and the time of the oldest."""
    number: int = 1
    pages: int = 0
    """If attempts are not sorted by time: the number of this page, and of the last one that is known."""


@dataclass(frozen=True, slots=True)
class HistogramLink:
    """A bar of the histogram, and the search for its time."""

    bar: ChartBar
    href: str


@dataclass(frozen=True, slots=True)
class DrawnHistogram:
    """The histogram: its bars with their links, and the times at its ends."""

    chart: Chart
    slots: Sequence[HistogramLink]
    begin: str
    end: str


@dataclass(frozen=True, slots=True)
class AttemptListView:
    """The content of the page. ``found`` is None if the search was not possible; ``problems`` say why."""

    filters: FilterForm
    found: AttemptListPage | None
    summary: SearchSummary | None
    no_summary: str | None
    histogram: DrawnHistogram | None
    endpoints: Mapping[int, EndpointName]
    ignored: Sequence[str]
    problems: Sequence[str]
    event_names: Sequence[str] = BUILT_IN.names
    removed_names: Sequence[str] = ()
    """Event types that no longer exist. Their attempts are kept."""

    @property
    def endpoint_menu(self) -> Sequence[tuple[str, str]]:
        """The endpoints to choose from. Empty if there are too many, or if the search names another one."""
        menu = [("", "Any"), *((str(one.id), f"{one.name} · {one.id}") for one in self.endpoints.values())]
        asked = self.filters.values["endpoint"]
        return menu if len(menu) <= _MAX_ENDPOINTS and asked in dict(menu) else ()

    @property
    def event_menu(self) -> Sequence[tuple[str, str]]:
        """The event types to choose from, and the one in the search."""
        named = {one: words(one) for one in self.event_names} | {one: f"{words(one)} (removed)" for one in self.removed_names}
        asked = self.filters.values["event"]
        return [("", "Any"), *(named | {one: words(one) for one in [asked] if one and one not in named}).items()]

    @property
    def order_menu(self) -> Sequence[tuple[str, str]]:
        """The sort orders to choose from."""
        return list(ORDERS.items())

    @property
    def chosen(self) -> Mapping[str, str]:
        """The label of each filter chip: the selected value in a few words, or empty."""
        values = self.filters.values
        endpoint = values["endpoint"]
        endpoint_id = digits(endpoint)
        known = None if endpoint_id is None else self.endpoints.get(endpoint_id)
        return {
            "time": span_words(values["since"], values["until"]),
            "endpoint": end_shortened(known.name if known else endpoint, _MAX_CHOSEN),
            "event": words(values["event"]) if values["event"] else "",
            "result": " ".join(one for one in (outcome(values["state"]), values["code"]) if one),
            "about": end_shortened(" ".join(one for one in (values["order"], values["shipment"]) if one), _MAX_CHOSEN),
            "body": end_shortened(values["body"], _MAX_CHOSEN),
            "order_by": ORDERS.get(values["order_by"], "") if values["order_by"] else "",
        }

    @property
    def title(self) -> str:
        """The search in words, for the window title."""
        chosen = [text for name, text in self.chosen.items() if text and name != "order_by"]
        return ", ".join(["Attempts", *chosen, *(chip.label for chip in self.filters.chips)])[:_MAX_TITLE]


def span_words(since: str, until: str) -> str:
    """A time range as it was typed, in a few words."""
    if not since and not until:
        return ""
    if since and since == until:
        return _RELATIVE.get(since, since)
    if not until:
        return _RELATIVE.get(since, f"since {_time_words(since)}")
    return f"until {_time_words(until)}" if not since else f"{_time_words(since)} to {_time_words(until)}"


def _time_words(text: str) -> str:
    """A time in the reader's zone, in a few words. Other text is returned unchanged."""
    time = time_of(text)
    return text if time is None else f"{local(time).day} {local(time):%b %H:%M}"


def _label(time: datetime) -> str:
    return stamp(time).removesuffix(":00 UTC").removesuffix(" 00:00")


def drawn(histogram: Histogram, filters: FilterForm) -> DrawnHistogram:
    """The histogram of a search, each bar with the search for its time."""
    width = timedelta(seconds=histogram.seconds)
    chart = columns(
        [
            (
                f"{_label(bar.begins_at)}: {bar.attempts - bar.failures:,} delivered, {bar.failures:,} failed",
                bar.attempts - bar.failures,
                bar.failures,
            )
            for bar in histogram.bars
        ],
        width=720.0,
        height=72.0,
    )
    links = [
        filters.link(since=iso(bar.begins_at), until=iso(bar.begins_at + width - timedelta(milliseconds=1)))
        for bar in histogram.bars
    ]
    begins = [bar.begins_at for bar in histogram.bars]
    slots = [HistogramLink(bar, f"?{link}") for bar, link in zip(chart.bars, links, strict=True)]
    return DrawnHistogram(chart, slots, _label(begins[0]) if begins else "", _label(begins[-1] + width) if begins else "")
