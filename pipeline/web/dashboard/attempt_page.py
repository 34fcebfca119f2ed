"""``/webhooks/attempts/{id}``: the status of a notification, its requests and answers, advice, and the resend button."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiohttp import web

from pipeline.store.search.queries import AttemptDetail
from pipeline.web.advice import for_receiver
from pipeline.web.api.attempts import attempt_in_full, detail_answer
from pipeline.web.api.endpoint_answers import endpoint_values
from pipeline.web.body_access import show_bodies
from pipeline.web.curl import curl
from pipeline.web.dashboard.answer_diff import DiffLine, answer_diff
from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.json_view import JsonPiece, json_pieces
from pipeline.web.dashboard.notification_status import NotificationStatus, notification_status, ordinal
from pipeline.web.dashboard.optional_reads import optional
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.endpoint_names import endpoint_name
from pipeline.web.errors import ApiError, not_found
from pipeline.web.request_values import path_id, whole_number
from pipeline.web.routes import Parameter
from pipeline.web.search_errors import searching
from pipeline.web.services import AttemptPageServices
from schemas.api_key import Access
from schemas.delivery import Trigger
from schemas.http.attempts import AttemptAnswer, AttemptDetailAnswer
from schemas.http.endpoints import EndpointAnswer

_MAX_FIND: Final = 20_000
_FIND: Final = Parameter("find", "Text to mark in the request's body.")
_NOT_RECORDED: Final = "Attempt {} was not found. If it was made in the last few seconds, for example as a test, it is not recorded yet. Reload the page."
_COMPARE: Final = Parameter(
    "compare", "Another attempt to deliver the notification, to compare its response.", {"type": "integer"}
)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of an attempt's duration, in milliseconds and per mille."""

    name: str
    kind: str
    duration_ms: float
    begin: float
    width: float


@dataclass(frozen=True, slots=True)
class ComparedAnswers:
    """The answers to two attempts, the earlier one first."""

    earlier: AttemptAnswer
    later: AttemptAnswer
    lines: Sequence[DiffLine]


@dataclass(frozen=True, slots=True)
class AttemptView:
    """The content of the page."""

    attempt: AttemptDetailAnswer
    status: NotificationStatus
    advice: str | None
    request_body: Sequence[JsonPiece]
    response_body: Sequence[JsonPiece]
    find: str
    phases: Sequence[Phase]
    curl: str
    timeline: Sequence[AttemptAnswer]
    compared: ComparedAnswers | None
    endpoint_name: str
    is_known: bool
    """Whether the endpoint is registered, so that it has a page, and the notification can be resent."""
    is_deleted: bool
    """Whether the endpoint no longer exists. The receiver of operational events exists, but is not registered."""
    resent: tuple[str, datetime] | None
    """Who last resent it, and when."""


def attempt_detail_pages(renderer: PageRenderer, api: AttemptPageServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""
    handlers = _Handlers(renderer, api)
    return [
        DashboardPage("GET", "/attempts/{id}", handlers.show, Access.VIEWER, (_FIND, _COMPARE)),
        DashboardPage("GET", "/attempts/{id}/resend", handlers.ask_resend, Access.OPERATOR),
        DashboardPage("POST", "/attempts/{id}/resend", handlers.resend, Access.OPERATOR, fields=("again",)),
    ]


class _Handlers:
    def __init__(self, renderer: PageRenderer, api: AttemptPageServices) -> None:
        self._renderer = renderer
        self._api = api

    async def show(self, request: web.Request) -> web.Response:
        identifier = path_id(request)
        try:
            attempt = await attempt_in_full(self._api, request)
        except ApiError as error:
            if error.status != 404:
                raise
            raise ApiError(404, _NOT_RECORDED.format(identifier)) from None
        wanted = request.query.get("find", "").strip()[:_MAX_FIND]
        registry = self._api.registry
        endpoint = registry.receiver(attempt.endpoint_id)
        name = endpoint_name(endpoint.record.description if endpoint else "", attempt.target_url)
        is_text = attempt.response_body_encoding == "text"
        view = AttemptView(
            attempt=attempt,
            status=self._status(attempt),
            advice=None if endpoint is None else for_receiver(attempt.outcome, attempt.failure, attempt.http_status_code),
            request_body=json_pieces(attempt.request_body or "", [wanted] if wanted else []),
            response_body=json_pieces(attempt.response_body) if is_text else (JsonPiece(attempt.response_body),),
            find=wanted,
            phases=phases(attempt),
            curl=curl(attempt.target_url, attempt.request_headers, attempt.request_body),
            timeline=timeline(attempt),
            compared=await self._compared(request, attempt),
            endpoint_name=name,
            is_known=registry.get(attempt.endpoint_id) is not None,
            is_deleted=endpoint is None,
            resent=await self._resent(attempt),
        )
        return self._renderer.show(request, "attempt.html", view=view, ordinal=ordinal)

    async def _resent(self, attempt: AttemptDetailAnswer) -> tuple[str, datetime] | None:
        api, made = self._api, timeline(attempt)
        if not any(one.trigger == Trigger.RESEND for one in made):
            return None
        found = (await optional(api, api.reports.resends([attempt.event_id], made[0].created_at))).found or {}
        done = found.get((attempt.event_id, attempt.endpoint_id))
        return None if done is None else (done.name or api.audit.person(done.actor), done.at)

    async def ask_resend(self, request: web.Request) -> web.Response:
        found = await self._found(path_id(request))
        status = self._status(detail_answer(found))
        here = f"{PREFIX}/attempts/{found.attempt.id}"
        sentences = [
            "The receiver gets the same body with the same webhook-id again. A receiver that does not check these ids processes "
            "the event twice: it may send a second email or book the order again.",
            "The audit log records that you resent it.",
        ]
        if status.acknowledged is not None:
            answered = f"It was delivered: the endpoint returned {status.acknowledged.http_status_code}, {status.how}"
            sentences.insert(0, answered)
        return self._renderer.show(
            request,
            "confirm.html",
            title="Resend this notification?" if status.acknowledged is None else "Resend a delivered notification?",
            subject=f"{found.attempt.event_name} {found.attempt.order_number or found.attempt.event_id}, to {found.attempt.target_url}",
            sentences=sentences,
            button="Resend",
            fields={"again": "1"},
            is_harmful=False,
            action=f"{here}/resend",
            back=here,
        )

    async def resend(self, request: web.Request) -> web.Response:
        renderer, identifier = self._renderer, path_id(request)
        here = f"{PREFIX}/attempts/{identifier}"
        if (
            "again" not in form_of(request)
            and self._status(detail_answer(await self._found(identifier))).acknowledged is not None
        ):
            # It may have been delivered or resent since the page was loaded: ask first.
            return renderer.redirect(request, f"{here}/resend")
        try:
            endpoint = (await self._api.resender.attempt(self._api.audit.actor(request), identifier)).endpoint
        except ApiError as error:
            if error.status != 409:
                raise
            return renderer.redirect(request, here, Notice("bad", str(error)))
        done = f"The notification is queued for endpoint {endpoint.id}. The new attempt will appear in the list in a moment."
        return renderer.redirect(request, here, Notice("good", done))

    async def _found(self, identifier: int) -> AttemptDetail:
        async with searching(self._api):
            found = await self._api.search.attempt(identifier)
        if found is None:
            raise not_found()
        return found

    def _status(self, attempt: AttemptDetailAnswer) -> NotificationStatus:
        api = self._api
        endpoint = api.registry.receiver(attempt.endpoint_id)
        known = EndpointAnswer(**endpoint_values(api, endpoint)) if endpoint is not None else None
        return notification_status(timeline(attempt), known, api.clock())

    async def _compared(self, request: web.Request, attempt: AttemptDetailAnswer) -> ComparedAnswers | None:
        """The answers to this attempt and to another attempt of the notification, as far as the reader may see them."""
        wanted = whole_number(request, _COMPARE.name, 0)
        if wanted not in {one.id for one in attempt.siblings}:
            return None
        other = await show_bodies(self._api, request, detail_answer(await self._found(wanted)))
        earlier, later = sorted([attempt, other], key=_order)
        return ComparedAnswers(earlier, later, answer_diff(earlier, later))


def phases(attempt: AttemptAnswer) -> Sequence[Phase]:
    """The parts of the duration: until the answer started (including the connection), and reading the answer."""
    if attempt.first_byte_ms is None or not attempt.duration_ms:
        return ()
    waiting = min(attempt.first_byte_ms, attempt.duration_ms)
    share = round(waiting / attempt.duration_ms * 1000, 1)
    return (
        Phase("waiting for the response", "waiting", waiting, 0, share),
        Phase("reading the response", "reading", attempt.duration_ms - waiting, share, round(1000 - share, 1)),
    )


def timeline(attempt: AttemptDetailAnswer) -> Sequence[AttemptAnswer]:
    """All attempts of this event at this endpoint, oldest first."""
    return sorted([attempt, *attempt.siblings], key=_order)


def _order(one: AttemptAnswer) -> tuple[object, int]:
    return one.created_at, one.id
