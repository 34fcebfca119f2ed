"""``/webhooks/resends``: pages to resend all failed notifications of a search, to watch the progress, and to stop a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from pipeline.endpoints.registry import state_of
from pipeline.store.reports.notification_history import FailedNotifications
from pipeline.web.api.attempts import asked
from pipeline.web.api.resending import run_id
from pipeline.web.dashboard.attempt_list import ATTEMPTS
from pipeline.web.dashboard.filter_chips import FilterForm, at_this_time, read_filters
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dashboard.time_zone import local
from pipeline.web.endpoint_names import endpoint_names
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.request_values import IGNORED
from pipeline.web.resend_runs import MAX_RESENT, ResendRun, resend_objections
from pipeline.web.routes import FILTERS, PAGE
from pipeline.web.services import NotificationServices
from schemas.api_key import Access
from schemas.operational import OPERATIONAL_ENDPOINT_ID

RESENDS: Final = f"{PREFIX}/resends"


@dataclass(frozen=True, slots=True)
class Preview:
    """The notifications to send. ``obstacles`` say why they cannot be sent."""

    filters: FilterForm
    confirmed: str
    """The query string of the search, with its times as they were for this page."""
    found: FailedNotifications
    seconds: int
    """The minimum duration."""
    endpoints: Mapping[int, str]
    left_out: Mapping[int, str]
    """Why nothing is sent to an endpoint now, by its id."""
    obstacles: Sequence[str]

    @property
    def sent(self) -> int:
        """How many notifications are sent if nothing changes."""
        return sum(count for endpoint_id, count in self.found.by_endpoint.items() if endpoint_id not in self.left_out)


def resend_pages(renderer: PageRenderer, api: NotificationServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""
    return [*_beginning(renderer, api), *_watching(renderer, api)]


def _beginning(renderer: PageRenderer, api: NotificationServices) -> Iterable[DashboardPage]:
    async def new(request: web.Request) -> web.Response:
        now = local(api.clock())
        query = await asked(api, request, now)
        found = await api.runs.preview(query)
        obstacles = [
            f"A filter is not valid, and without it more would be resent than you want: {one}"
            for one in (*request[IGNORED], *query.ignored)
        ]
        obstacles += resend_objections(query)
        if not found.is_all:
            obstacles.append(f"More than {MAX_RESENT:,} notifications failed. Narrow the filters, for example by time.")
        filters = read_filters(request.query.items())
        view = Preview(
            filters=filters,
            confirmed=urlencode(at_this_time(filters.pairs, now)),
            found=found,
            seconds=round(len(found.notifications) * api.runs.pause_seconds),
            endpoints={one.id: one.name for one in endpoint_names(api.registry.receivers()).values()},
            left_out=_left_out(api, found.by_endpoint),
            obstacles=obstacles,
        )
        return renderer.show(request, "resend_new.html", view=view)

    async def start(request: web.Request) -> web.Response:
        try:
            query = await asked(api, request, local(api.clock()))
            run = await api.runs.start(api.audit.actor(request), query)
        except InvalidError as error:
            return renderer.redirect(request, ATTEMPTS, Notice("bad", " ".join(error.sentences)))
        except ApiError as error:
            if error.status != 409:
                raise
            return renderer.redirect(request, RESENDS, Notice("bad", str(error)))
        return renderer.redirect(request, f"{RESENDS}/{run.id}")

    return [
        DashboardPage("GET", "/resends/new", new, Access.OPERATOR, (FILTERS, *PAGE)),
        DashboardPage("POST", "/resends", start, Access.OPERATOR, (FILTERS, *PAGE)),
    ]


def _left_out(api: NotificationServices, ids: Iterable[int]) -> Mapping[int, str]:
    found: dict[int, str] = {}
    for one in ids:
        endpoint = api.registry.receiver(one)
        if endpoint is None:
            found[one] = "deleted"
        elif one == OPERATIONAL_ENDPOINT_ID:
            found[one] = "operational events"
        elif not endpoint.active:
            found[one] = state_of(endpoint)
    return found


def _watching(renderer: PageRenderer, api: NotificationServices) -> Iterable[DashboardPage]:
    async def index(request: web.Request) -> web.Response:
        return renderer.show(request, "resends.html", runs=await api.runs.last(), replays=await api.runs.replays())

    async def show(request: web.Request) -> web.Response:
        return renderer.show(request, "resend.html", run=await _run(request))

    async def progress(request: web.Request) -> web.Response:
        return renderer.show(request, "resend_progress.html", run=await _run(request))

    async def cancel(request: web.Request) -> web.Response:
        identifier = run_id(request)
        try:
            await api.runs.cancel(api.audit.actor(request), identifier)
        except ApiError as error:
            if error.status != 409:
                raise
            return renderer.redirect(request, f"{RESENDS}/{identifier}", Notice("warning", str(error)))
        return renderer.redirect(request, f"{RESENDS}/{identifier}")

    async def _run(request: web.Request) -> ResendRun:
        return await api.runs.find(run_id(request))

    return [
        DashboardPage("GET", "/resends", index, Access.OPERATOR),
        DashboardPage("GET", "/resends/{id}", show, Access.OPERATOR),
        DashboardPage("GET", "/resends/{id}/progress", progress, Access.OPERATOR),
        DashboardPage("POST", "/resends/{id}/cancel", cancel, Access.OPERATOR),
    ]
