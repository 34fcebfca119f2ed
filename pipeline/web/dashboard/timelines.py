"""``/webhooks/orders/{number}``, ``/shipments/…``, ``/subscriptions/…``, ``/stock-items/…``: what each endpoint received."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from pipeline.core.circuit import CircuitState
from pipeline.core.counted import counted
from pipeline.core.search import parse_query
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import state_of
from pipeline.store.reports.timeline import TimelineRecords, TimelineSubject
from pipeline.web.advice import for_receiver
from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.optional_reads import optional
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.sessions import Notice, own_address
from pipeline.web.dashboard.text_filters import segment
from pipeline.web.endpoint_names import name_of
from pipeline.web.errors import ApiError, InvalidError, not_found, require_endpoints
from pipeline.web.quick_search import canonical_number
from pipeline.web.request_values import digits
from pipeline.web.search_errors import searching
from pipeline.web.services import NotificationServices
from pipeline.web.timeline_sentences import Sentence, headline, note, sentence
from pipeline.web.timelines import EndpointDelivery, EndpointState, EndpointTimeline, Timeline, build_timeline
from schemas.api_key import Access
from schemas.delivery import Trigger

_MOST: Final = 255
"""Characters of a number. The references of an event have the same limit."""
_MAX_SHIPMENTS: Final = 100
_MAX_AT_ONCE: Final = 100
"""The most notifications that a button resends directly. For more, the user confirms the number first."""
_ENDPOINT: Final = "endpoint"
_NOTHING: Final = TimelineRecords((), (), is_complete=True)


@dataclass(frozen=True, slots=True)
class TimelineKind:
    """A kind of page: its subject, name and path."""

    about: TimelineSubject
    name: str
    folder: str
    what: str
    """The name of its number."""

    def path(self, number: str) -> str:
        return f"{PREFIX}/{self.folder}/{segment(number)}"

    def may_be(self, number: str) -> bool:
        """Whether a number is possible. The id of a stock item is a whole number."""
        return self.about is not TimelineSubject.STOCK_ITEM or digits(number) is not None

    def filters(self, number: str, endpoints: Sequence[int | str] = ()) -> Sequence[tuple[str, str]]:
        """The filters that find its attempts, at all endpoints or at these."""
        at = "q[endpoint_id_eq]" if len(endpoints) == 1 else "q[endpoint_id_in][]"
        return [(f"q[{self.about.value}_eq]", number), *((at, str(one)) for one in endpoints)]

    def search(self, number: str, endpoints: Sequence[int | str] = ()) -> str:
        """The query string of :meth:`filters`."""
        return urlencode(self.filters(number, endpoints))


KINDS: Final = (
    TimelineKind(TimelineSubject.ORDER, "Order", "orders", "order number"),
    TimelineKind(TimelineSubject.SHIPMENT, "Shipment", "shipments", "shipment number"),
    TimelineKind(TimelineSubject.SUBSCRIPTION, "Subscription", "subscriptions", "subscription id"),
    TimelineKind(TimelineSubject.STOCK_ITEM, "Stock item", "stock-items", "stock item id"),
)


@dataclass(frozen=True, slots=True)
class ShownEndpoint:
    """An endpoint's part of the page: its status, and advice."""

    part: EndpointTimeline
    said: Sentence
    advice: str | None
    notes: Sequence[tuple[EndpointDelivery, Sentence]]


@dataclass(frozen=True, slots=True)
class TimelineView:
    """The content of the page. ``own`` and ``of_shipments`` are the targets of the two links; the latter is None without shipments.

    ``canonical``: if nothing was found, another way to write the number, and its page.
    """

    kind: TimelineKind
    number: str
    timeline: Timeline
    headline: Sentence
    endpoints: Sequence[ShownEndpoint]
    own: str
    of_shipments: str | None
    link: str
    is_sent_at_once: bool
    canonical: tuple[str, str] | None
    resent: Mapping[tuple[str, int], tuple[str, datetime]]
    """Who last resent an event to an endpoint, and when."""


def timeline_pages(renderer: PageRenderer, api: NotificationServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""
    return [page for kind in KINDS for page in _pages(renderer, api, kind)]


def _pages(renderer: PageRenderer, api: NotificationServices, kind: TimelineKind) -> Iterable[DashboardPage]:
    handlers = _Handlers(renderer, api, kind)
    path = f"/{kind.folder}/{{number}}"
    return (
        DashboardPage("GET", path, handlers.show, Access.VIEWER),
        DashboardPage("POST", f"{path}/resend", handlers.resend, Access.OPERATOR, fields=(_ENDPOINT,)),
    )


class _Handlers:
    def __init__(self, renderer: PageRenderer, api: NotificationServices, kind: TimelineKind) -> None:
        self._renderer = renderer
        self._api = api
        self._kind = kind

    async def show(self, request: web.Request) -> web.Response:
        api, kind, number = self._api, self._kind, self._number(request)
        require_endpoints(api.registry)
        record = _NOTHING
        if kind.may_be(number):
            async with searching(api):
                record = await api.search.record_of(kind.about, number)
        ids = {one for event in record.events for one in event.endpoint_ids} | {one.endpoint_id for one in record.attempts}
        timeline = build_timeline(record, endpoint_states(api, ids), api.clock())
        resent = {} if not (again := _resent(record)) else (await optional(api, api.reports.resends(*again))).found or {}
        view = TimelineView(
            kind=kind,
            number=number,
            timeline=timeline,
            headline=headline(timeline) if timeline.events else (),
            endpoints=[_shown(one) for one in timeline.endpoints],
            own=f"{PREFIX}/attempts?{kind.search(number)}",
            of_shipments=_of_shipments(timeline),
            link=f"{own_address(request)}{kind.path(number)}",
            is_sent_at_once=timeline.is_complete and timeline.resendable <= _MAX_AT_ONCE,
            canonical=None if timeline.events else self._canonical(number),
            resent={place: (done.name or api.audit.person(done.actor), done.at) for place, done in resent.items()},
        )
        return self._renderer.show(request, "timeline.html", view=view)

    async def resend(self, request: web.Request) -> web.Response:
        """Resend the failed notifications that were not delivered since, to one endpoint, to several, or to all."""
        api, kind, number = self._api, self._kind, self._number(request)
        require_endpoints(api.registry)
        endpoints = [one.strip() for one in form_of(request).getall(_ENDPOINT, []) if one.strip()]
        only = digits(endpoints[0]) if len(endpoints) == 1 else None
        back = partial(self._renderer.redirect, request, kind.path(number))
        try:
            if only is not None:
                api.resender.addressee(only)  # it may have been paused since the page was loaded
            query = parse_query(kind.filters(number, endpoints), api.clock())
            run = await api.runs.start(api.audit.actor(request), query)
        except InvalidError as error:
            return back(Notice("bad", " ".join(error.sentences)))
        except ApiError as error:
            if error.status != 409:
                raise
            return back(Notice("bad", str(error)))
        count = run.progress.total
        if not count:
            return back(
                Notice("good", "There is nothing to resend. All failed notifications have been delivered in the meantime.")
            )
        known = None if only is None else api.registry.get(only)
        to = f" to {name_of(known).name}" if known is not None else ""
        text = f"{counted(count, 'notification is', 'notifications are')} being resent{to}. Reload this page to see the result."
        return back(Notice("good", text, href=f"{PREFIX}/resends/{run.id}", label="View progress"))

    def _number(self, request: web.Request) -> str:
        number = request.match_info["number"]
        if len(number) > _MOST:
            raise not_found()
        return number

    def _canonical(self, number: str) -> tuple[str, str] | None:
        """The canonical form of the number and its page, if it differs."""
        other = canonical_number(number)
        return (other, self._kind.path(other)) if other != number else None


def _resent(record: TimelineRecords) -> tuple[Sequence[str], datetime] | None:
    """The events that were resent, and the time from which to search for who resent them. None if none were resent."""
    events = {one.event_id for one in record.attempts if one.trigger == Trigger.RESEND}
    return (sorted(events), min(one.created_at for one in record.attempts)) if events else None


def endpoint_states(api: NotificationServices, ids: Iterable[int]) -> Mapping[int, EndpointState]:
    """The current state of endpoints, by id. Endpoints that are not registered are left out."""
    return {one: _endpoint_state(api, endpoint) for one in ids if (endpoint := api.registry.get(one)) is not None}


def _endpoint_state(api: NotificationServices, endpoint: Endpoint) -> EndpointState:
    health, record = api.registry.health, endpoint.record
    return EndpointState(
        id=endpoint.id,
        name=name_of(endpoint).name,
        target_url=endpoint.target_url,
        state=state_of(endpoint),
        is_down=health is not None and health.circuit(record, api.clock()) is not CircuitState.CLOSED,
        failing_since=health.failing_since(record) if health is not None else None,
        disabled_at=endpoint.record.disabled_at or (endpoint.disabled.at if endpoint.disabled is not None else None),
        held_count=api.registry.held(endpoint).count,
        problem=endpoint.problem,
        is_ordered=record.ordered,
        max_per_second=record.max_per_second,
    )


def _shown(part: EndpointTimeline) -> ShownEndpoint:
    return ShownEndpoint(part, sentence(part), _advice(part), [(one, note(one)) for one in part.deliveries])


def _advice(part: EndpointTimeline) -> str | None:
    """Advice on the last failed attempt, if there is any."""
    failed = [one.last for one in part.missing if one.last is not None]
    if not failed or part.endpoint.state != "active" or part.endpoint.problem is not None:
        return None
    last = max(failed, key=lambda one: (one.created_at, one.id))
    return for_receiver(last.outcome, last.failure, last.http_status_code)


def _of_shipments(timeline: Timeline) -> str | None:
    numbers = timeline.shipment_numbers[:_MAX_SHIPMENTS]
    pairs = [("q[shipment_number_in][]", number) for number in numbers]
    return f"{PREFIX}/attempts?{urlencode(pairs)}" if pairs else None
