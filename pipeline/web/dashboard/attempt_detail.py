"""``/webhooks/attempts/{id}``: what was sent, what was answered, what there is to do about it; and sending it again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from pipeline.web.advice import for_receiver
from pipeline.web.attempts_api import attempt_in_full
from pipeline.web.audit import asker
from pipeline.web.curl import curl
from pipeline.web.dashboard.desk import Desk
from pipeline.web.dashboard.highlight import Piece, marked
from pipeline.web.dashboard.pages import PREFIX, Page
from pipeline.web.dashboard.pretty import pretty
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.errors import ApiError
from pipeline.web.queries import path_id
from pipeline.web.resend_api import resend_attempt
from pipeline.web.routes import Parameter
from schemas.api_key import Access
from schemas.http_api import AttemptAnswer, AttemptDetailAnswer

_MOST_FIND: Final = 20_000
_FIND: Final = Parameter("find", "What is marked in the request's body.")


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the time that an attempt took, in milliseconds, and as a share of 1,000."""

    name: str
    kind: str
    duration_ms: float
    begin: float
    width: float


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows."""

    attempt: AttemptDetailAnswer
    advice: str | None
    request_body: Sequence[Piece]
    response_body: str
    phases: Sequence[Phase]
    curl: str
    timeline: Sequence[AttemptAnswer]
    is_known: bool
    """Whether the endpoint is still registered."""


def attempt_detail_pages(desk: Desk) -> Iterable[Page]:
    """The pages, below ``/webhooks``."""

    async def show(request: web.Request) -> web.Response:
        attempt = await attempt_in_full(desk.api, request)
        wanted = request.query.get("find", "").strip()[:_MOST_FIND]
        view = View(
            attempt=attempt,
            advice=for_receiver(attempt.outcome, attempt.failure, attempt.http_status_code),
            request_body=marked(pretty(attempt.request_body or ""), [wanted] if wanted else []),
            response_body=pretty(attempt.response_body) if attempt.response_body_encoding == "text" else attempt.response_body,
            phases=phases(attempt),
            curl=curl(attempt.target_url, attempt.request_headers, attempt.request_body),
            timeline=timeline(attempt),
            is_known=desk.api.registry.get(attempt.endpoint_id) is not None,
        )
        return desk.show(request, "attempt.html", view=view)

    async def resend(request: web.Request) -> web.Response:
        identifier = path_id(request)
        here = f"{PREFIX}/attempts/{identifier}"
        try:
            _, endpoint = await resend_attempt(desk.api, asker(desk.api, request), identifier)
        except ApiError as error:
            if error.status != 409:
                raise
            return desk.redirect(request, here, Notice("bad", str(error)))
        done = f"It is on its way to endpoint {endpoint.id} again. Its attempt will be in the timeline in a moment."
        return desk.redirect(request, here, Notice("good", done))

    return [
        Page("GET", "/attempts/{id}", show, Access.VIEWER, (_FIND,)),
        Page("POST", "/attempts/{id}/resend", resend, Access.OPERATOR),
    ]


def phases(attempt: AttemptAnswer) -> Sequence[Phase]:
    """The parts of its time: until the answer began (connecting included), and until it was read."""
    if attempt.first_byte_ms is None or not attempt.duration_ms:
        return ()
    waiting = min(attempt.first_byte_ms, attempt.duration_ms)
    share = round(waiting / attempt.duration_ms * 1000, 1)
    return (
        Phase("until the answer began", "waiting", waiting, 0, share),
        Phase("reading the answer", "reading", attempt.duration_ms - waiting, share, round(1000 - share, 1)),
    )


def timeline(attempt: AttemptDetailAnswer) -> Sequence[AttemptAnswer]:
    """All attempts of this event at this endpoint, the oldest first."""
    return sorted([attempt, *attempt.siblings], key=lambda one: (one.created_at, one.id))
