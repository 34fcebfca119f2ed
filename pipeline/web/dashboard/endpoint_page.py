"""``/webhooks/endpoints/{id}``: one endpoint, how it is, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from pipeline.web.dashboard.charts import Chart, columns
from pipeline.web.dashboard.desk import Desk
from pipeline.web.dashboard.endpoint_forms import page_of
from pipeline.web.dashboard.figures import figures
from pipeline.web.dashboard.gate import form_of
from pipeline.web.dashboard.pages import PREFIX, Page
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dashboard.texts import milliseconds
from pipeline.web.endpoint_changes import find_endpoint
from pipeline.web.endpoints_api import endpoint_values
from pipeline.web.queries import path_id
from pipeline.web.stats_api import endpoint_stats
from pipeline.web.trial_api import first_event, try_endpoint
from pipeline.web.wrapped_input import validated
from schemas.api_key import Access
from schemas.event import EventType
from schemas.http_api import AttemptDetailAnswer, EndpointAnswer
from schemas.http_operations import StatsAnswer, TestInput


def endpoint_pages(desk: Desk) -> Iterable[Page]:
    """The pages, below ``/webhooks``."""

    async def show(request: web.Request) -> web.Response:
        api = desk.api
        endpoint = find_endpoint(api, path_id(request))
        day = await figures(api, endpoint_stats(api, endpoint.id))
        return desk.show(
            request,
            "endpoint.html",
            endpoint=EndpointAnswer(**endpoint_values(api, endpoint)),
            changed_by=endpoint.record.changed_by,
            hold=api.hold,
            secrets=len(endpoint.keys(api.clock())),
            stats=day.found,
            problem=day.problem,
            chart=_chart(day.found) if day.found is not None else None,
            event_types=[event.value for event in EventType],
            first_event=first_event(endpoint).value,
        )

    async def test(request: web.Request) -> web.Response:
        endpoint = find_endpoint(desk.api, path_id(request))
        chosen = validated({"event_name": form_of(request).get("event_name")}, TestInput).event_name
        attempt = await try_endpoint(desk.api, request, endpoint, chosen)
        return desk.redirect(request, page_of(endpoint), _told(attempt))

    return [
        Page("GET", "/endpoints/{id}", show, Access.VIEWER),
        Page("POST", "/endpoints/{id}/test", test, Access.OPERATOR, fields=("event_name",)),
    ]


def _chart(stats: StatsAnswer) -> Chart:
    return columns(
        [
            (f"{one.start:%H:%M} UTC: {one.succeeded:,} succeeded, {one.failed:,} failed", one.succeeded, one.failed)
            for one in stats.buckets
        ],
        width=720,
        height=100,
    )


def _told(attempt: AttemptDetailAnswer) -> Notice:
    """The outcome of a test delivery."""
    took, link = milliseconds(attempt.duration_ms), f"{PREFIX}/attempts/{attempt.id}"
    if attempt.state == "succeeded":
        text = f"Test acknowledged: {attempt.event_name} was answered with {attempt.http_status_code} in {took}."
        return Notice("good", text, href=link, label="Look at the attempt")
    text = f"Test not acknowledged ({attempt.event_name}, {took}). {attempt.error or ''}"
    return Notice("bad", text, href=link, label="Look at the attempt")
