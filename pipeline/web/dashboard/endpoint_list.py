"""``/webhooks/endpoints``: every endpoint, how it is, and how it did in the last 24 hours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import web

from pipeline.store.endpoint_days import EndpointDay, first_hour
from pipeline.store.search import Page as Found
from pipeline.web.dashboard.charts import Chart, columns
from pipeline.web.dashboard.desk import Desk
from pipeline.web.dashboard.endpoint_input import hears_everything
from pipeline.web.dashboard.figures import figures
from pipeline.web.dashboard.pages import Page
from pipeline.web.endpoint_changes import require_endpoints
from pipeline.web.endpoint_filters import parse_endpoint_filters
from pipeline.web.endpoints_api import endpoint_values
from pipeline.web.queries import page_and_size
from pipeline.web.routes import FILTERS, PAGE
from schemas.api_key import Access
from schemas.http_api import EndpointAnswer


@dataclass(frozen=True, slots=True)
class Row:
    """An endpoint and its last 24 hours; ``day`` is None when nobody knows."""

    endpoint: EndpointAnswer
    day: EndpointDay | None
    chart: Chart | None
    hears_everything: bool


def endpoint_list_pages(desk: Desk) -> Iterable[Page]:
    """The pages, below ``/webhooks``."""

    async def index(request: web.Request) -> web.Response:
        api = desk.api
        require_endpoints(api)
        filters = parse_endpoint_filters(request.query.items())
        endpoints = [endpoint for endpoint in api.registry.all() if filters.accepts(endpoint)]
        number, size = page_and_size(request)
        page = Found(tuple(endpoints[(number - 1) * size :][:size]), len(endpoints), number, size)
        now = api.clock()
        days = await figures(api, api.reports.endpoint_days(now))
        rows = endpoint_rows([EndpointAnswer(**endpoint_values(api, one)) for one in page.items], days.found, now)
        return desk.show(
            request,
            "endpoints.html",
            rows=rows,
            page=page,
            problem=days.problem,
            ignored=filters.ignored,
            url_filter=request.query.get("q[target_url_cont]", ""),
        )

    return [Page("GET", "/endpoints", index, Access.VIEWER, (FILTERS, *PAGE))]


def endpoint_rows(endpoints: Iterable[EndpointAnswer], days: Mapping[int, EndpointDay] | None, now: datetime) -> list[Row]:
    """The rows of endpoints; ``days`` is None when nobody knows."""
    return [_row(endpoint, days, now) for endpoint in endpoints]


def day_chart(day: EndpointDay, until: datetime) -> Chart:
    """The last 24 hours, hour by hour."""
    begins = first_hour(until)
    return columns(
        [
            (f"{begins + number * timedelta(hours=1):%H:%M} UTC: {good:,} succeeded, {bad:,} failed", good, bad)
            for number, (good, bad) in enumerate(day.hours)
        ]
    )


def _row(endpoint: EndpointAnswer, days: Mapping[int, EndpointDay] | None, now: datetime) -> Row:
    day = days.get(endpoint.id, EndpointDay()) if days is not None else None
    return Row(endpoint, day, day_chart(day, now) if day is not None else None, hears_everything(endpoint.events))
