"""``/api/webhook/replays``: events of the past go to endpoints again, step by step.

Whoever replays holds the place that it has come to and asks for one step after the other; nothing runs in this process in between. A
step is answered when Kafka has all of it. So what is known to be sent is known at the other end too, whichever side dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from aiohttp import web

from pipeline.broker.api import PublishError
from pipeline.store.replay import Place, Replayed, Wanted
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.audit import audit
from pipeline.web.endpoint_changes import require_endpoints
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.queries import read_body
from pipeline.web.resending import addressee, send_delivery
from pipeline.web.routes import Route
from pipeline.web.searching import searching
from pipeline.web.wrapped_input import parse_wrapped
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.http_daytwo import ReplayAnswer, ReplayBody, ReplayInput, ReplayPreview, ReplayPreviewBody, ReplayStep

_WRAPPER: Final = 'Say what to replay: {"replay": {"endpoint_ids": [7], "since": "…", "until": "…"}}.'
_REQUIRED: Final = ("endpoint_ids", "since", "until")
_MOST_DIGITS: Final = 15


def replay_routes(api: Api) -> Iterable[Route]:
    """The routes, below ``/api``."""

    async def preview(request: web.Request) -> web.Response:
        given = parse_wrapped(await read_body(request), "replay", ReplayInput, hint=_WRAPPER, required=_REQUIRED)
        _check_endpoints(api, given)
        async with searching(api):
            events, notifications = await api.replays.count(_wanted(given))
        return answer(ReplayPreview(events=events, notifications=notifications))

    async def step(request: web.Request) -> web.Response:
        given = parse_wrapped(await read_body(request), "replay", ReplayStep, hint=_WRAPPER, required=(*_REQUIRED, "run"))
        after = _place(given.after)
        _check_endpoints(api, given)
        async with searching(api):
            page = await api.replays.page(_wanted(given), after, given.limit)
        sent = 0
        if page and not given.skip:
            detail = f"{len(page)} events to endpoints {', '.join(map(str, given.endpoint_ids))}, behind {given.after or 'the beginning'}"
            await audit(api, request, AuditAction.REPLAY, f"replay {given.run}", detail)
            sent = await _send(api, page)
        is_end = len(page) < given.limit
        skipped = sum(one.body is None for one in page)
        next_place = None if is_end else _text(page[-1].place)
        return answer(ReplayAnswer(events=len(page), sent=sent, skipped=skipped, next=next_place))

    return [
        Route(
            "POST",
            "/webhook/replays/preview",
            preview,
            Access.ADMIN,
            "What a replay would send",
            {200: ReplayPreview},
            body=ReplayPreviewBody,
            errors=(409, 503),
        ),
        Route(
            "POST",
            "/webhook/replays",
            step,
            Access.ADMIN,
            "Send the next events of a replay",
            {200: ReplayAnswer},
            "To the endpoints as they are now, with the same bodies and webhook-ids, as resends. Each event comes once, though it may "
            "have been dispatched twice. Kafka has all of the step when it is answered; after a 503 some of it may be on its way.",
            body=ReplayBody,
            errors=(409, 503),
        ),
    ]


def _wanted(given: ReplayInput) -> Wanted:
    return Wanted(
        since=given.since,
        until=given.until,
        endpoint_ids=given.endpoint_ids,
        event_names=tuple(event.value for event in given.event_names),
        order_numbers=given.order_numbers,
        matched_only=given.matched_only,
    )


def _check_endpoints(api: Api, given: ReplayInput) -> None:
    require_endpoints(api)
    for endpoint_id in given.endpoint_ids:
        # Somebody typed the id, whereas that of a resend once was an endpoint's.
        if api.registry.get(endpoint_id) is None:
            raise ApiError(409, f"There is no endpoint {endpoint_id}: it was deleted, or never made.")
        addressee(api, endpoint_id)


async def _send(api: Api, page: Sequence[Replayed]) -> int:
    """Put a page into the topic of what is due at once; returns how many notifications it made, when Kafka has all of them."""
    due = [(one, endpoint_id) for one in page if one.body is not None for endpoint_id in one.endpoint_ids]
    try:
        await asyncio.gather(*(send_delivery(api, one.meta, endpoint_id, one.body or b"") for one, endpoint_id in due))
    except PublishError as error:
        raise ApiError(503, str(error)) from error
    return len(due)


def _text(place: Place) -> str:
    return f"{place.received_ms}.{place.event_id}"


def _place(text: str | None) -> Place | None:
    if text is None:
        return None
    time, _, event_id = text.partition(".")
    if not (time.isascii() and time.isdigit() and len(time) <= _MOST_DIGITS and event_id):
        raise InvalidError({"after": ["after must be the next of the step before."]})
    return Place(int(time), event_id)
