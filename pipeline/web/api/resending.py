"""``POST …/attempts/{id}/resend``, ``/webhook/resends`` (all failed ones of a search) and ``/webhook/replays`` (past events).

The client of a replay keeps its position and requests one step after another; nothing runs in this process between steps. A
step is answered when Kafka has all of it, so the client knows what was sent, even if one side dies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from msgspec import structs

from pipeline.store.reports.notification_history import ReplayPosition, ReplayRequest
from pipeline.web.api.attempts import asked
from pipeline.web.api.wrapped_input import parse_wrapped
from pipeline.web.errors import InvalidError, not_found
from pipeline.web.request_values import IGNORED, digits, path_id, read_body
from pipeline.web.resend_runs import ResendRun, resend_objections
from pipeline.web.responses import answer
from pipeline.web.routes import FILTERS, STRICT, TRACE, Route
from pipeline.web.services import ResendServices
from schemas.api_key import Access
from schemas.http.attempts import EndpointCount
from schemas.http.operations import ResendAnswer
from schemas.http.replays import ReplayAnswer, ReplayBody, ReplayInput, ReplayPreview, ReplayPreviewBody, ReplayStep
from schemas.http.resends import ResendPreviewAnswer, ResendRunAnswer, ResendRunsAnswer

_ID: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_ID_SCHEMA: Final = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
_WRAPPER: Final = 'Send what to replay: {"replay": {"endpoint_ids": [7], "since": "…", "until": "…"}}.'
_REQUIRED: Final = ("endpoint_ids", "since", "until")
_MAX_DIGITS: Final = 15


async def resend(api: ResendServices, request: web.Request) -> web.Response:
    sent = await api.resender.attempt(api.audit.actor(request), path_id(request), request.get(TRACE))
    return answer(
        ResendAnswer(
            event_id=sent.event.id,
            event_name=sent.event.event_name,
            endpoint_id=sent.endpoint.id,
            target_url=sent.endpoint.target_url,
        ),
        202,
    )


RESEND_ROUTES: Final[Sequence[Route[ResendServices]]] = (
    Route(
        "POST",
        "/webhook/attempts/{id}/resend",
        resend,
        Access.OPERATOR,
        "Resend a notification",
        {202: ResendAnswer},
        "With the endpoint's current settings, subscribed or not, and with the same body and webhook-id. It is retried like "
        "any delivery. When this answers, Kafka has it.",
        errors=(409, 422, 503),
    ),
)
"""The route that resends one notification."""


async def preview_resends(api: ResendServices, request: web.Request) -> web.Response:
    query = await asked(api, request)
    if reasons := resend_objections(query):
        # What is ignored may be why there is no filter.
        raise InvalidError({"q": [*request.get(IGNORED, ()), *query.ignored, *reasons]})
    found = await api.runs.preview(query)
    return answer(
        ResendPreviewAnswer(
            notifications=len(found.notifications),
            attempts=found.attempts,
            is_complete=found.is_all,
            endpoints=[EndpointCount(endpoint_id=one, count=count) for one, count in found.by_endpoint.items()],
            ignored_filters=list(query.ignored),
        )
    )


async def start_run(api: ResendServices, request: web.Request) -> web.Response:
    return answer(_shown(await api.runs.start(api.audit.actor(request), await asked(api, request))), 202)


async def list_runs(api: ResendServices, _: web.Request) -> web.Response:
    return answer(ResendRunsAnswer(runs=[_shown(run) for run in await api.runs.last()]))


async def show_run(api: ResendServices, request: web.Request) -> web.Response:
    return answer(_shown(await api.runs.find(run_id(request))))


async def cancel_run(api: ResendServices, request: web.Request) -> web.Response:
    return answer(_shown(await api.runs.cancel(api.audit.actor(request), run_id(request))), 202)


RESEND_RUN_ROUTES: Final[Sequence[Route[ResendServices]]] = (
    Route(
        "GET",
        "/webhook/resends/preview",
        preview_resends,
        Access.OPERATOR,
        "Preview a resend of all failed notifications of a search",
        {200: ResendPreviewAnswer},
        "Several failed attempts of an event at an endpoint are one notification. Tests, and notifications that have been "
        "delivered since, are left out. Needs a filter. Every filter needs a value.",
        parameters=(FILTERS, STRICT),
        errors=(422, 503),
    ),
    Route(
        "GET",
        "/webhook/resends",
        list_runs,
        Access.OPERATOR,
        "List the latest resend runs",
        {200: ResendRunsAnswer},
        errors=(422, 503),
    ),
    Route(
        "POST",
        "/webhook/resends",
        start_run,
        Access.OPERATOR,
        "Resend all failed notifications of a search",
        {202: ResendRunAnswer},
        "Each is resent once, oldest first, at a limited rate. Notifications that the endpoint has acknowledged by then are "
        "left out. Needs a filter. A filter that is not understood, or has no value, is an error.",
        parameters=(FILTERS,),
        errors=(409, 422, 503),
    ),
    Route(
        "GET",
        "/webhook/resends/{id}",
        show_run,
        Access.OPERATOR,
        "Get the progress of a resend run",
        {200: ResendRunAnswer},
        errors=(422, 503),
        id_schema=_ID_SCHEMA,
    ),
    Route(
        "POST",
        "/webhook/resends/{id}/cancel",
        cancel_run,
        Access.OPERATOR,
        "Cancel a resend run",
        {202: ResendRunAnswer},
        "It stops before its next batch, in whichever process it runs. Notifications that were already resent are delivered.",
        errors=(409, 422, 503),
        id_schema=_ID_SCHEMA,
    ),
)
"""The routes that resend all failed notifications of a search."""


def run_id(request: web.Request) -> str:
    """The ``{id}`` in the path.

    Raises:
        ApiError: 404, it is not the id of a run.
    """
    text = request.match_info["id"]
    if not _ID.fullmatch(text):
        raise not_found()
    return text


def _shown(run: ResendRun) -> ResendRunAnswer:
    return ResendRunAnswer(
        id=run.id, started_by=run.started_by, started_at=run.started_at, heard_at=run.heard_at, **structs.asdict(run.progress)
    )


async def preview_replay(api: ResendServices, request: web.Request) -> web.Response:
    given = parse_wrapped(
        await read_body(request), "replay", ReplayInput, hint=_WRAPPER, required=_REQUIRED, types=api.events.types
    )
    events, notifications = await api.resender.count_replay(_wanted(given))
    return answer(ReplayPreview(events=events, notifications=notifications))


async def replay_step(api: ResendServices, request: web.Request) -> web.Response:
    given = parse_wrapped(
        await read_body(request), "replay", ReplayStep, hint=_WRAPPER, required=(*_REQUIRED, "run"), types=api.events.types
    )
    who, after = api.audit.actor(request), _place(given.after)
    done = await api.resender.replay(who, _wanted(given), after, given.limit, None if given.skip else given.run)
    next_place = None if done.end is None else f"{done.end.received_ms}.{done.end.event_id}"
    return answer(ReplayAnswer(events=done.events, sent=done.sent, skipped=done.skipped, next=next_place))


REPLAY_ROUTES: Final[Sequence[Route[ResendServices]]] = (
    Route(
        "POST",
        "/webhook/replays/preview",
        preview_replay,
        Access.ADMIN,
        "Preview a replay",
        {200: ReplayPreview},
        body=ReplayPreviewBody,
        errors=(409, 503),
    ),
    Route(
        "POST",
        "/webhook/replays",
        replay_step,
        Access.ADMIN,
        "Send the next events of a replay",
        {200: ReplayAnswer},
        "Sent as resends, with the endpoints' current settings and the same bodies and webhook-ids. Each event is sent once, "
        "even if it was dispatched twice. When this answers, Kafka has the whole step; after a 503, part of it may have been "
        "sent.",
        body=ReplayBody,
        errors=(409, 503),
    ),
)
"""The routes that replay past events."""


def _wanted(given: ReplayInput) -> ReplayRequest:
    return ReplayRequest(
        since=given.since,
        until=given.until,
        endpoint_ids=given.endpoint_ids,
        event_names=given.event_names,
        order_numbers=given.order_numbers,
        matched_only=given.matched_only,
    )


def _place(text: str | None) -> ReplayPosition | None:
    if text is None:
        return None
    time, _, event_id = text.partition(".")
    milliseconds = digits(time, _MAX_DIGITS)
    if milliseconds is None or not event_id:
        raise InvalidError({"after": ["after must be the value of next from the previous step."]})
    return ReplayPosition(milliseconds, event_id)
