"""``/webhooks/resends``: all failed notifications of a search again. First how many, then a yes; then how far it is, and a way to stop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from pipeline.store.notifications import Failed
from pipeline.web.attempts_api import asked
from pipeline.web.audit import asker
from pipeline.web.dashboard.attempt_search import ATTEMPTS
from pipeline.web.dashboard.desk import Desk
from pipeline.web.dashboard.filters import Filters, read_filters
from pipeline.web.dashboard.pages import PREFIX, Page
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.errors import ApiError, InvalidError, not_found
from pipeline.web.queries import IGNORED
from pipeline.web.resend_runs import MOST, cancel_run, doubts, find_run, last_runs, preview, start_run
from pipeline.web.resend_runs_api import run_id
from pipeline.web.routes import FILTERS, PAGE
from pipeline.web.runs import Run
from schemas.api_key import Access

RESENDS: Final = f"{PREFIX}/resends"


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be sent. ``obstacles`` say why it cannot be."""

    filters: Filters
    found: Failed
    seconds: int
    """How long it takes, at least."""
    endpoints: Mapping[int, str]
    obstacles: Sequence[str]


def resend_pages(desk: Desk) -> Iterable[Page]:
    """The pages, below ``/webhooks``."""
    return [*_beginning(desk), *_watching(desk)]


def _beginning(desk: Desk) -> Iterable[Page]:
    async def new(request: web.Request) -> web.Response:
        query = await asked(desk.api, request)
        found = await preview(desk.api, query)
        obstacles = [
            f"A filter is not understood, and without it more would be sent than you mean: {one}"
            for one in (*request[IGNORED], *query.ignored)
        ]
        obstacles += doubts(query)
        if not found.is_all:
            obstacles.append(f"More than {MOST:,} notifications failed; narrow the filters, by time for example.")
        view = Preview(
            filters=read_filters(request.query.items()),
            found=found,
            seconds=round(len(found.notifications) * desk.api.runs.pause_seconds),
            endpoints={endpoint.id: endpoint.target_url for endpoint in desk.api.registry.all()},
            obstacles=obstacles,
        )
        return desk.show(request, "resend_new.html", view=view)

    async def start(request: web.Request) -> web.Response:
        try:
            run = await start_run(desk.api, asker(desk.api, request), await asked(desk.api, request))
        except InvalidError as error:
            sentences = [sentence for of_field in error.errors.values() for sentence in of_field]
            return desk.redirect(request, ATTEMPTS, Notice("bad", " ".join(sentences)))
        except ApiError as error:
            if error.status != 409:
                raise
            return desk.redirect(request, RESENDS, Notice("bad", str(error)))
        return desk.redirect(request, f"{RESENDS}/{run.id}")

    return [
        Page("GET", "/resends/new", new, Access.OPERATOR, (FILTERS, *PAGE)),
        Page("POST", "/resends", start, Access.OPERATOR, (FILTERS, *PAGE)),
    ]


def _watching(desk: Desk) -> Iterable[Page]:
    async def index(request: web.Request) -> web.Response:
        return desk.show(request, "resends.html", runs=await last_runs(desk.api))

    async def show(request: web.Request) -> web.Response:
        return desk.show(request, "resend.html", run=await _run(request))

    async def progress(request: web.Request) -> web.Response:
        return desk.show(request, "resend_progress.html", run=await _run(request))

    async def cancel(request: web.Request) -> web.Response:
        identifier = run_id(request)
        try:
            await cancel_run(desk.api, asker(desk.api, request), identifier)
        except ApiError as error:
            if error.status != 409:
                raise
            return desk.redirect(request, f"{RESENDS}/{identifier}", Notice("warning", str(error)))
        return desk.redirect(request, f"{RESENDS}/{identifier}")

    async def _run(request: web.Request) -> Run:
        run = await find_run(desk.api, run_id(request))
        if run is None:
            raise not_found()
        return run

    return [
        Page("GET", "/resends", index, Access.OPERATOR),
        Page("GET", "/resends/{id}", show, Access.OPERATOR),
        Page("GET", "/resends/{id}/progress", progress, Access.OPERATOR),
        Page("POST", "/resends/{id}/cancel", cancel, Access.OPERATOR),
    ]
