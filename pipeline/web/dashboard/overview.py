"""``/webhooks``: the current state of the whole pipeline. With JavaScript, the page polls ``/webhooks/live``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from aiohttp import web

from pipeline.core.circuit import CircuitState
from pipeline.core.counted import counted
from pipeline.store.reports.pipeline_overview import OverviewMinute, PipelineOverview
from pipeline.web.api.endpoint_answers import endpoint_values
from pipeline.web.dashboard.attempt_list import ATTEMPTS
from pipeline.web.dashboard.charts import Chart, columns
from pipeline.web.dashboard.endpoint_list import EndpointListRow, endpoint_rows
from pipeline.web.dashboard.filter_chips import search_link
from pipeline.web.dashboard.optional_reads import optional
from pipeline.web.dashboard.page import DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.text_filters import minute
from pipeline.web.endpoint_names import endpoint_name
from pipeline.web.errors import require_endpoints
from pipeline.web.services import EndpointStatsServices
from schemas.api_key import Access
from schemas.http.endpoints import EndpointAnswer

_SHOWN = 20
"""How many endpoints to show: the busiest ones. The endpoint list has all of them."""

_MINUTE = timedelta(minutes=1)
_SEARCHES: Final[Mapping[str, Mapping[str, str]]] = {
    "all": {},
    "succeeded": {"state": "succeeded"},
    "failed": {"state": "failed"},
}


def overview_pages(
    renderer: PageRenderer, api: EndpointStatsServices, warnings: Callable[[], Mapping[str, str]]
) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``. ``warnings`` returns the problems of this process, by the name of the check."""

    async def values(template: str, request: web.Request) -> web.Response:
        require_endpoints(api.registry)
        now = api.clock()
        hour, days, letters = await asyncio.gather(
            optional(api, api.reports.overview(now)),
            optional(api, api.reports.endpoint_days(now)),
            optional(api, api.reports.count_unrepaired_dead_letters()),
        )
        endpoints = [EndpointAnswer(**endpoint_values(api, one)) for one in api.registry.all()]
        rows = endpoint_rows(endpoints, days.found, now, api.events.types)
        return renderer.show(
            request,
            template,
            hour=hour.found,
            chart=_chart(hour.found.minutes) if hour.found is not None else None,
            waiting_at=_waiting_at(hour.found, endpoints),
            problem=hour.problem or days.problem or letters.problem,
            troubled=[row for row in rows if is_troubled(row.endpoint)],
            busiest=sorted(rows, key=_attempts, reverse=True)[:_SHOWN],
            count=len(rows),
            warnings=list(warnings().values()),
            letters=letters.found or 0,
            last_hour={name: _since(hour.found, **values) for name, values in _SEARCHES.items()} if hour.found else {},
        )

    async def page(request: web.Request) -> web.Response:
        return await values("overview.html", request)

    async def live(request: web.Request) -> web.Response:
        return await values("overview_live.html", request)

    return [DashboardPage("GET", "", page, Access.VIEWER), DashboardPage("GET", "/live", live, Access.VIEWER)]


def is_troubled(endpoint: EndpointAnswer) -> bool:
    """Whether an endpoint needs attention: it fails, is on hold, or was disabled for its failures. A pause is intentional.

    So does one that is not verified: what is held for it expires, and nobody has decided that.
    """
    if endpoint.problem is not None or endpoint.state == "unverified":
        return True
    if endpoint.state == "active":
        return endpoint.failing_since is not None or endpoint.circuit != CircuitState.CLOSED
    return endpoint.state == "disabled" and endpoint.disabled_by is None


def _since(hour: PipelineOverview, **values: str) -> str:
    """The search for the attempts of the hour in the statistics."""
    return f"{ATTEMPTS}?{search_link(hour.minutes[0].begins_at, hour.minutes[-1].begins_at + _MINUTE, **values)}"


def _attempts(row: EndpointListRow) -> int:
    return row.day.succeeded + row.day.failed if row.day is not None else 0


def _waiting_at(hour: PipelineOverview | None, endpoints: Sequence[EndpointAnswer]) -> str:
    """The name of the endpoint of the oldest waiting delivery."""
    waiting = hour.oldest_waiting if hour is not None else None
    if waiting is None:
        return ""
    known = (endpoint_name(one.description, one.target_url) for one in endpoints if one.id == waiting.endpoint_id)
    return next(known, f"endpoint {waiting.endpoint_id}")


def _chart(minutes: Sequence[OverviewMinute]) -> Chart:
    return columns(
        [
            (
                f"{minute(one.begins_at)}: {counted(one.events, 'event')}, {one.succeeded:,} delivered, {one.failed:,} failed",
                one.succeeded,
                one.failed,
            )
            for one in minutes
        ],
        width=720,
        height=100,
        hrefs=[f"{ATTEMPTS}?{search_link(one.begins_at, one.begins_at + _MINUTE)}" for one in minutes],
    )
