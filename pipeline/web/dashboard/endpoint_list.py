"""``/webhooks/endpoints``: all endpoints with their state and their last 24 hours. Filter by name, URL and state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from aiohttp import web

from pipeline.core.circuit import CircuitState
from pipeline.store.reports.endpoint_days import EndpointDay, first_hour
from pipeline.store.search.queries import ResultPage as Found
from pipeline.web.api.endpoint_answers import endpoint_values
from pipeline.web.api.endpoint_filters import parse_endpoint_filters
from pipeline.web.dashboard.charts import Chart, columns
from pipeline.web.dashboard.endpoint_fields import subscribes_to_all
from pipeline.web.dashboard.filter_chips import with_values
from pipeline.web.dashboard.optional_reads import optional
from pipeline.web.dashboard.page import DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.text_filters import hour
from pipeline.web.endpoint_names import EndpointName, endpoint_name, named
from pipeline.web.errors import require_endpoints
from pipeline.web.request_values import page_and_size
from pipeline.web.routes import FILTERS, PAGE, Parameter
from pipeline.web.services import EndpointStatsServices
from schemas.api_key import Access
from schemas.event_types import EventTypes
from schemas.http.endpoints import EndpointAnswer

_PER_PAGE: Final = 50
_FIND: Final = Parameter("find", "Part of a name or URL.")
_STATE: Final = Parameter("state", "Only endpoints in this state.")
_SORT: Final = Parameter("sort", "Sort order: trouble, name, busiest, newest.")
SORTS: Final[Mapping[str, str]] = {
    "": "Needs attention first",
    "name": "By name",
    "busiest": "Busiest first",
    "newest": "Newest first",
}
STATES: Final[Mapping[str, str]] = {
    "disabled": "Disabled",
    "unusable": "Unusable",
    "unverified": "Unverified",
    "down": "Down",
    "failing": "Failing",
    "paused": "Paused",
    "active": "Active",
}
"""States in words, worst first."""
_TROUBLE: Final = {state: place for place, state in enumerate(STATES)}


@dataclass(frozen=True, slots=True)
class EndpointListRow:
    """An endpoint and its last 24 hours. ``day`` is None if it is not available."""

    endpoint: EndpointAnswer
    name: EndpointName
    day: EndpointDay | None
    chart: Chart | None
    subscribes_to_all: bool


@dataclass(frozen=True, slots=True)
class EndpointListView:
    """The content of the page. ``counts``: endpoints by state, of those that match the other filters."""

    rows: Sequence[EndpointListRow]
    page: Found[EndpointAnswer]
    counts: Mapping[str, int]
    find: str
    state: str
    sort: str
    pairs: Sequence[tuple[str, str]]

    @property
    def is_filtered(self) -> bool:
        """Whether endpoints are left out."""
        return bool(self.find or self.state or any(key.startswith("q") for key, _ in self.pairs))

    def link(self, **changes: str) -> str:
        """The query string with other values."""
        return with_values(self.pairs, changes)


def endpoint_list_pages(renderer: PageRenderer, api: EndpointStatsServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""

    async def index(request: web.Request) -> web.Response:
        require_endpoints(api.registry)
        filters = parse_endpoint_filters(request.query.items())
        find, state, sort = (request.query.get(name, "").strip() for name in ("find", "state", "sort"))
        known = [EndpointAnswer(**endpoint_values(api, one)) for one in api.registry.all() if filters.accepts(one)]
        found = [one for one in known if _is_called(one, find)]
        counts = Counter(map(shown_state, found))
        wanted = [one for one in found if not state or shown_state(one) == state]
        now = api.clock()
        days = await optional(api, api.reports.endpoint_days(now))
        wanted.sort(key=_order(sort, days.found or {}))
        number, size = page_and_size(request)
        size = size if request.query.get("per_page", "").strip() else _PER_PAGE
        page = Found(tuple(wanted[(number - 1) * size :][:size]), len(wanted), number, size)
        pairs = [(key, value) for key, value in request.query.items() if value.strip()]
        view = EndpointListView(
            endpoint_rows(page.items, days.found, now, api.events.types), page, counts, find, state, sort, pairs
        )
        return renderer.show(
            request, "endpoints.html", view=view, problem=days.problem, ignored=filters.ignored, sorts=SORTS, states=STATES
        )

    return [DashboardPage("GET", "/endpoints", index, Access.VIEWER, (FILTERS, *PAGE, _FIND, _STATE, _SORT))]


def endpoint_rows(
    endpoints: Iterable[EndpointAnswer], days: Mapping[int, EndpointDay] | None, now: datetime, types: EventTypes
) -> list[EndpointListRow]:
    """The rows of endpoints. ``days`` is None if it is not available."""
    return [_row(endpoint, days, now, types) for endpoint in endpoints]


def shown_state(endpoint: EndpointAnswer) -> str:
    """The one state that matters most: one of :data:`STATES`."""
    if endpoint.problem:
        return "unusable"
    if endpoint.state != "active":
        return endpoint.state
    if endpoint.circuit != CircuitState.CLOSED:
        return "down"
    return "failing" if endpoint.failing_since is not None else "active"


def day_chart(day: EndpointDay, until: datetime) -> Chart:
    """The last 24 hours, hour by hour."""
    begins = first_hour(until)
    return columns(
        [
            (f"{hour(begins + number * timedelta(hours=1))}: {good:,} delivered, {bad:,} failed", good, bad)
            for number, (good, bad) in enumerate(day.hours)
        ]
    )


def _is_called(endpoint: EndpointAnswer, find: str) -> bool:
    """Whether all words of the query are in the description or the URL, or the query is the id."""
    text = f"{endpoint.description}\n{endpoint.target_url}".casefold()
    return find == str(endpoint.id) or all(word in text for word in find.casefold().split())


def _order(sort: str, days: Mapping[int, EndpointDay]) -> Callable[[EndpointAnswer], Any]:
    def name(one: EndpointAnswer) -> tuple[str, int]:
        return endpoint_name(one.description, one.target_url).casefold(), one.id

    def busy(one: EndpointAnswer) -> tuple[int, int]:
        day = days.get(one.id)
        return -(day.succeeded + day.failed) if day is not None else 0, one.id

    def trouble(one: EndpointAnswer) -> tuple[int, tuple[str, int]]:
        return _TROUBLE[shown_state(one)], name(one)

    orders: Mapping[str, Callable[[EndpointAnswer], Any]] = {"name": name, "busiest": busy, "newest": lambda one: -one.id}
    return orders.get(sort, trouble)


def _row(endpoint: EndpointAnswer, days: Mapping[int, EndpointDay] | None, now: datetime, types: EventTypes) -> EndpointListRow:
    day = days.get(endpoint.id, EndpointDay()) if days is not None else None
    name = named(endpoint.id, endpoint.description, endpoint.target_url)
    return EndpointListRow(
        endpoint, name, day, day_chart(day, now) if day is not None else None, subscribes_to_all(endpoint.events, types)
    )
