"""``/webhooks/endpoints/{id}``: one endpoint, its state, and its actions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from pipeline.endpoints.endpoint import Endpoint
from pipeline.web.api.endpoint_answers import endpoint_values
from pipeline.web.api.send_test_event import first_event, send_test_event
from pipeline.web.api.stats import endpoint_stats
from pipeline.web.api.wrapped_input import validated
from pipeline.web.dashboard.attempt_list import ATTEMPTS
from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.charts import Chart, columns
from pipeline.web.dashboard.endpoint_forms import page_of
from pipeline.web.dashboard.filter_chips import search_link
from pipeline.web.dashboard.optional_reads import optional
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dashboard.text_filters import hour, milliseconds
from pipeline.web.endpoint_names import name_of
from pipeline.web.endpoint_writes import find_endpoint
from pipeline.web.request_values import path_id
from pipeline.web.services import EndpointPageServices
from schemas.api_key import Access
from schemas.http.attempts import AttemptDetailAnswer
from schemas.http.endpoints import EndpointAnswer
from schemas.http.operations import StatsAnswer, TestInput

_HOUR: Final = timedelta(hours=1)
_EXPIRES_SOON: Final = timedelta(days=21)
"""The same threshold as in the alert."""


def endpoint_pages(renderer: PageRenderer, api: EndpointPageServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""

    async def show(request: web.Request) -> web.Response:
        endpoint = find_endpoint(api, path_id(request))
        day = await optional(api, endpoint_stats(api, endpoint.id))
        return renderer.show(
            request,
            "endpoint.html",
            endpoint=EndpointAnswer(**endpoint_values(api, endpoint)),
            name=name_of(endpoint).name,
            changed_by=endpoint.record.changed_by,
            hold=api.hold,
            secrets=len(endpoint.keys(api.clock())),
            certificate_ends=_certificate_ends(endpoint, api.clock()),
            stats=day.found,
            problem=day.problem,
            chart=_chart(day.found) if day.found is not None else None,
            event_types=list(api.events.types.names),
            first_event=first_event(endpoint, api.events.types),
        )

    async def test(request: web.Request) -> web.Response:
        endpoint = find_endpoint(api, path_id(request))
        chosen = validated({"event_name": form_of(request).get("event_name")}, TestInput, types=api.events.types).event_name
        attempt = await send_test_event(api, request, endpoint, chosen)
        return renderer.redirect(request, page_of(endpoint), _test_notice(attempt))

    return [
        DashboardPage("GET", "/endpoints/{id}", show, Access.VIEWER),
        DashboardPage("POST", "/endpoints/{id}/test", test, Access.OPERATOR, fields=("event_name",)),
    ]


def _certificate_ends(endpoint: Endpoint, now: datetime) -> str | None:
    """Whether its client certificate has expired, or expires soon."""
    stored = endpoint.record.client_certificate
    if stored is None or stored.expires_at - now > _EXPIRES_SOON:
        return None
    return "expired" if stored.expires_at <= now else "soon"


def _chart(stats: StatsAnswer) -> Chart:
    return columns(
        [
            (f"{hour(one.start)}: {one.succeeded:,} delivered, {one.failed:,} failed", one.succeeded, one.failed)
            for one in stats.buckets
        ],
        width=720,
        height=100,
        hrefs=[f"{ATTEMPTS}?{search_link(one.start, one.start + _HOUR, endpoint=stats.endpoint_id)}" for one in stats.buckets],
    )


def _test_notice(attempt: AttemptDetailAnswer) -> Notice:
    """The outcome of a test delivery."""
    took, link = milliseconds(attempt.duration_ms), f"{PREFIX}/attempts/{attempt.id}"
    if attempt.state == "succeeded":
        text = f"Test acknowledged: {attempt.event_name} returned {attempt.http_status_code} in {took}."
        return Notice("good", text, href=link, label="View attempt")
    text = f"Test not acknowledged ({attempt.event_name}, {took}). {attempt.error or ''}"
    return Notice("bad", text, href=link, label="View attempt")
