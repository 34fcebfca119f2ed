"""``/api/webhook/resends``: send all failed notifications of a search again, and watch or cancel that."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from aiohttp import web

from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.attempts_api import asked
from pipeline.web.audit import asker
from pipeline.web.errors import InvalidError, not_found
from pipeline.web.resend_runs import cancel_run, doubts, find_run, last_runs, preview, start_run
from pipeline.web.routes import FILTERS, STRICT, Route
from pipeline.web.runs import Run
from schemas.api_key import Access
from schemas.http_api import EndpointCount
from schemas.http_resends import ResendPreviewAnswer, ResendRunAnswer, ResendRunsAnswer

_ID: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_ID_SCHEMA: Final = {"type": "string", "pattern": "^[0-9a-f]{16}$"}


def resend_run_routes(api: Api) -> Iterable[Route]:
    """The routes, below ``/api``."""

    async def look(request: web.Request) -> web.Response:
        query = await asked(api, request)
        if reasons := doubts(query):
            raise InvalidError({"q": reasons})
        found = await preview(api, query)
        return answer(
            ResendPreviewAnswer(
                notifications=len(found.notifications),
                attempts=found.attempts,
                is_complete=found.is_all,
                endpoints=[EndpointCount(endpoint_id=one, count=count) for one, count in found.by_endpoint.items()],
                ignored_filters=list(query.ignored),
            )
        )

    async def start(request: web.Request) -> web.Response:
        return answer(_shown(await start_run(api, asker(api, request), await asked(api, request))), 202)

    async def index(_: web.Request) -> web.Response:
        return answer(ResendRunsAnswer(runs=[_shown(run) for run in await last_runs(api)]))

    async def show(request: web.Request) -> web.Response:
        run = await find_run(api, run_id(request))
        if run is None:
            raise not_found()
        return answer(_shown(run))

    async def cancel(request: web.Request) -> web.Response:
        return answer(_shown(await cancel_run(api, asker(api, request), run_id(request))), 202)

    return [
        Route(
            "GET",
            "/webhook/resends/preview",
            look,
            Access.OPERATOR,
            "What resending all failed ones of a search would send",
            {200: ResendPreviewAnswer},
            "Several failed attempts of an event at an endpoint are one notification. What has been delivered since is left out, and so are tests. "
            "Needs a filter, and a value for each.",
            parameters=(FILTERS, STRICT),
            errors=(422, 503),
        ),
        Route(
            "GET",
            "/webhook/resends",
            index,
            Access.OPERATOR,
            "The last runs that resend many",
            {200: ResendRunsAnswer},
            errors=(422, 503),
        ),
        Route(
            "POST",
            "/webhook/resends",
            start,
            Access.OPERATOR,
            "Resend all failed notifications of a search",
            {202: ResendRunAnswer},
            "Each once, the oldest first, at a bounded rate, as a single resend does it; what the endpoint has acknowledged by then is "
            "left out. Needs a filter; one that is not understood, or has no value, is an error here.",
            parameters=(FILTERS,),
            errors=(409, 422, 503),
        ),
        Route(
            "GET",
            "/webhook/resends/{id}",
            show,
            Access.OPERATOR,
            "How far a run has come",
            {200: ResendRunAnswer},
            errors=(422, 503),
            id_schema=_ID_SCHEMA,
        ),
        Route(
            "POST",
            "/webhook/resends/{id}/cancel",
            cancel,
            Access.OPERATOR,
            "Stop a run",
            {202: ResendRunAnswer},
            "It stops before its next batch, whichever process carries it out. What was resent is not taken back.",
            errors=(409, 422, 503),
            id_schema=_ID_SCHEMA,
        ),
    ]


def run_id(request: web.Request) -> str:
    """The ``{id}`` in the path.

    Raises:
        ApiError: 404, no run has such an id.
    """
    text = request.match_info["id"]
    if not _ID.fullmatch(text):
        raise not_found()
    return text


def _shown(run: Run) -> ResendRunAnswer:
    return ResendRunAnswer(
        id=run.id, started_by=run.started_by, started_at=run.started_at, heard_at=run.heard_at, **run.progress.model_dump()
    )
