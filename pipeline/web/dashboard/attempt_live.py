"""``/webhooks/attempts/live``: new attempts of a search as they are made, for example while somebody fixes a receiver.

A browser gets a page, which reloads itself if JavaScript is off. An ``EventSource`` gets server-sent events with rows for the
page's table. The stream ends when the session ends, the process stops, or the browser disconnects.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from aiohttp import web

from pipeline.core.search import beginning
from pipeline.store.search.queries import AttemptRow
from pipeline.web.api.attempts import asked
from pipeline.web.auth import principal_of
from pipeline.web.dashboard.attempt_list import ATTEMPTS
from pipeline.web.dashboard.attempt_list_view import AttemptListView
from pipeline.web.dashboard.filter_chips import FIELDS, read_filters, with_values
from pipeline.web.dashboard.page import DashboardPage
from pipeline.web.dashboard.page_renderer import SESSION, PageRenderer
from pipeline.web.dashboard.text_filters import iso
from pipeline.web.dashboard.time_zone import local
from pipeline.web.endpoint_names import endpoint_names
from pipeline.web.event_stream import (
    HEARTBEAT_SECONDS,
    LAST_EVENT,
    MissedAttempts,
    StreamForm,
    id_of_time,
    search_attempts,
    stream_attempts,
    wants_events,
)
from pipeline.web.routes import FILTERS, PAGE
from pipeline.web.services import LiveAttemptPageServices
from schemas.api_key import Access

_HEARTBEAT_SECONDS: Final = HEARTBEAT_SECONDS
_SHOWN: Final = 50


def attempt_live_pages(renderer: PageRenderer, api: LiveAttemptPageServices) -> Iterable[DashboardPage]:
    """The page, below ``/webhooks``."""

    async def live(request: web.Request) -> web.StreamResponse:
        query = await asked(api, request, local(api.clock()))
        if wants_events(request):
            form = StreamForm(
                rows=lambda rows: _rows(renderer, api, request, rows),
                problem=str,
                may_listen=lambda: _may_listen(api, request),
                over="You are logged out. Reload the page.",
                heartbeat_seconds=_HEARTBEAT_SECONDS,
                missed=lambda missed: _missed(renderer, request, missed),
            )
            return await stream_attempts(api, request, query, form)
        page = await search_attempts(api, replace(query, sorts=(), page=1, per_page=_SHOWN, after=beginning()))
        filters = read_filters(request.query.items())
        names = endpoint_names(api.registry.receivers())
        view = AttemptListView(filters, None, None, None, None, names, query.ignored, (), api.events.types.names)
        search = filters.query()
        live = f"{ATTEMPTS}/live" + (f"?{search}" if search else "")
        shown = id_of_time(max([api.clock(), *(one.created_at for one in page.items[:1])]))
        return renderer.show(
            request,
            "attempts_live.html",
            view=view,
            rows=page.items,
            live=live,
            shown=shown,
            search=f"{ATTEMPTS}?{search}",
        )

    return [DashboardPage("GET", "/attempts/live", live, Access.VIEWER, (FILTERS, *PAGE, LAST_EVENT))]


def _may_listen(api: LiveAttemptPageServices, request: web.Request) -> bool:
    """Whether the listener is still logged in, with the same role as at the start."""
    session = request[SESSION]
    if session.key_id is None or session.until <= api.clock():
        return False
    who = api.keys.named(session.key_id)
    is_over = api.ended_sessions.has(session.id, session.key_id, session.until)
    return not is_over and who is not None and who.role is principal_of(request).role


def _rows(renderer: PageRenderer, api: LiveAttemptPageServices, request: web.Request, attempts: Iterable[AttemptRow]) -> str:
    """Rows of the table, newest first."""
    names = endpoint_names(api.registry.receivers())
    return renderer.show(request, "attempt_rows_live.html", rows=list(attempts)[::-1], names=names).text or ""


def _missed(renderer: PageRenderer, request: web.Request, missed: MissedAttempts) -> str:
    """A row that says what is missing below it, with a link to the search for it."""
    times = {FIELDS["since"]: iso(missed.since), FIELDS["until"]: iso(missed.until - timedelta(milliseconds=1))}
    search = f"{ATTEMPTS}?{with_values(read_filters(request.query.items()).pairs, times)}"
    return renderer.show(request, "attempts_missed.html", missed=missed, search=search).text or ""
