"""``GET /api/webhook/attempts/live``: the attempts of a search as they are recorded, as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from pipeline.web.api.attempts import asked, attempt_answer
from pipeline.web.auth import principal_of
from pipeline.web.compression import EVENT_STREAM
from pipeline.web.errors import ApiError
from pipeline.web.event_stream import (
    LAST_EVENT,
    MissedAttempts,
    StreamForm,
    ignored_last_event,
    stream_attempts,
    wants_events,
)
from pipeline.web.request_values import IGNORED, refuse_ignored
from pipeline.web.routes import FILTERS, STRICT, Route
from pipeline.web.services import LiveAttemptServices
from schemas.api_key import Access
from schemas.http.attempts import MissedAttemptsAnswer


async def live(api: LiveAttemptServices, request: web.Request) -> web.StreamResponse:
    query = await asked(api, request)
    if request.method == "HEAD":
        return web.Response(headers={"Content-Type": f"{EVENT_STREAM}; charset=utf-8"})
    if not wants_events(request):
        raise ApiError(406, f"This is an event stream. Request it with Accept: {EVENT_STREAM}.")
    ignored_event = ignored_last_event(request)
    refuse_ignored(request, ignored_event)
    ignored = [*request.get(IGNORED, ()), *query.ignored, *ignored_event]
    who = principal_of(request)

    def may_listen() -> bool:
        now = api.keys.named(who.key_id)
        return now is not None and now.role is who.role

    form = StreamForm(
        rows=lambda rows: json.dumps({"attempts": [attempt_answer(row).model_dump(mode="json") for row in rows]}),
        problem=lambda text: json.dumps({"error": text}),
        may_listen=may_listen,
        over=json.dumps({"error": "The API key is no longer valid, or its role has changed."}),
        missed=_missed,
        ignored=json.dumps({"attempts": [], "ignored_filters": ignored}) if ignored else "",
    )
    return await stream_attempts(api, request, query, form)


ATTEMPT_EVENT_ROUTES: Final[Sequence[Route[LiveAttemptServices]]] = (
    Route(
        "GET",
        "/webhook/attempts/live",
        live,
        Access.VIEWER,
        "Watch the attempts of a search as they are recorded",
        {200: EVENT_STREAM},
        'Server-sent events, for Accept: text/event-stream. attempts: {"attempts": [...]}, oldest first, each as in the '
        'list; problem: {"error": ...}, and the stream continues; over: {"error": ...}, and it ends. After a reconnection, '
        "an attempt may be sent again, with the same id. A client that states the id of its last event gets, in attempts, "
        "missed: {created_at_gteq, created_at_lt, count, count_is_exact}, if there were attempts that are no longer sent. So does any "
        "client after an outage of ClickHouse of more than a minute. If a filter or parameter has no effect, the first event is attempts, "
        "with an empty list and ignored_filters.",
        parameters=(FILTERS, LAST_EVENT, STRICT),
        errors=(406, 422, 503),
    ),
)


def _missed(missed: MissedAttempts) -> str:
    answer = MissedAttemptsAnswer(
        created_at_gteq=missed.since, created_at_lt=missed.until, count=missed.count, count_is_exact=missed.is_exact
    )
    return json.dumps({"attempts": [], "missed": answer.model_dump(mode="json")})
