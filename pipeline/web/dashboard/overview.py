"""``/webhooks``: how the whole pipeline does, now. The page fetches ``/webhooks/live`` again and again; without JavaScript, reload it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from aiohttp import web

from pipeline.core.circuit import CircuitState
from pipeline.store.overview import Minute, Overview
from pipeline.web.dashboard.charts import Chart, columns
from pipeline.web.dashboard.desk import Desk
from pipeline.web.dashboard.endpoint_list import Row, endpoint_rows
from pipeline.web.dashboard.figures import figures
from pipeline.web.dashboard.pages import Page
from pipeline.web.endpoint_changes import require_endpoints
from pipeline.web.endpoints_api import endpoint_values
from schemas.api_key import Access
from schemas.http_api import EndpointAnswer

_SHOWN = 20
"""How many endpoints: those that are sent most. The list has all of them."""


def overview_pages(desk: Desk) -> Iterable[Page]:
    """The pages, below ``/webhooks``."""

    async def values(template: str, request: web.Request) -> web.Response:
        api = desk.api
        require_endpoints(api)
        now = api.clock()
        hour, days = await asyncio.gather(figures(api, api.reports.overview(now)), figures(api, api.reports.endpoint_days(now)))
        endpoints = [EndpointAnswer(**endpoint_values(api, one)) for one in api.registry.all()]
        rows = endpoint_rows(endpoints, days.found, now)
        return desk.show(
            request,
            template,
            hour=hour.found,
            chart=_chart(hour.found.minutes) if hour.found is not None else None,
            waiting_at=_target_url(hour.found, endpoints),
            problem=hour.problem or days.problem,
            troubled=[row for row in rows if is_troubled(row.endpoint)],
            busiest=sorted(rows, key=_attempts, reverse=True)[:_SHOWN],
            count=len(rows),
            warnings=list(desk.warnings().values()),
        )

    async def page(request: web.Request) -> web.Response:
        return await values("overview.html", request)

    async def live(request: web.Request) -> web.Response:
        return await values("overview_live.html", request)

    return [Page("GET", "", page, Access.VIEWER), Page("GET", "/live", live, Access.VIEWER)]


def is_troubled(endpoint: EndpointAnswer) -> bool:
    """Whether somebody should look at an endpoint: it fails, is held back or was disabled. A pause is what somebody wanted."""
    if endpoint.state == "active":
        return endpoint.failing_since is not None or endpoint.circuit != CircuitState.CLOSED
    return endpoint.state == "disabled"


def _attempts(row: Row) -> int:
    return row.day.succeeded + row.day.failed if row.day is not None else 0


def _target_url(hour: Overview | None, endpoints: Sequence[EndpointAnswer]) -> str:
    waiting = hour.oldest_waiting if hour is not None else None
    return next((one.target_url for one in endpoints if waiting is not None and one.id == waiting.endpoint_id), "")


def _chart(minutes: Sequence[Minute]) -> Chart:
    return columns(
        [
            (
                f"{one.begins_at:%H:%M} UTC: {one.events:,} events, {one.succeeded:,} succeeded, {one.failed:,} failed",
                one.succeeded,
                one.failed,
            )
            for one in minutes
        ],
        width=720,
        height=100,
    )
