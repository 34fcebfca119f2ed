"""``/webhooks/go?text=…``: the search box of every page. It opens a timeline, an endpoint, an attempt, or the search."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from pipeline.web.auth import principal_of
from pipeline.web.dashboard.attempt_list import ATTEMPTS
from pipeline.web.dashboard.optional_reads import optional
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer, is_own_page
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dashboard.text_filters import is_segment, segment
from pipeline.web.errors import require_endpoints
from pipeline.web.quick_search import NamedEndpoint, Pasted, Reference, ReferenceKind, matching, named, recognize
from pipeline.web.routes import Parameter
from pipeline.web.services import AttemptListServices
from schemas.api_key import Access

_TEXT: Final = Parameter("text", "Text to search for: a number, a name, a URL, or any other text.")
_MAX_CHOICES: Final = 12
_NAMES: Final = {
    ReferenceKind.ORDER: "Order",
    ReferenceKind.SHIPMENT: "Shipment",
    ReferenceKind.SUBSCRIPTION: "Subscription",
    ReferenceKind.STOCK_ITEM: "Stock item",
    ReferenceKind.SKU: "SKU",
    ReferenceKind.EVENT: "Event",
    ReferenceKind.ATTEMPT: "Attempt",
}
_FOLDERS: Final = {
    ReferenceKind.ORDER: "orders",
    ReferenceKind.SHIPMENT: "shipments",
    ReferenceKind.SUBSCRIPTION: "subscriptions",
    ReferenceKind.STOCK_ITEM: "stock-items",
    ReferenceKind.ATTEMPT: "attempts",
}
_OURS: Final = re.compile(
    rf"{PREFIX}/(?:(?:orders|shipments|subscriptions|stock-items)/[^/?]+|(?:endpoints|attempts|dead-letters)(?:/[0-9]+)?)(?:\?.*)?"
)
"""Pages that people share links to."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A possible target page."""

    label: str
    href: str
    more: str = ""


def quick_search_pages(renderer: PageRenderer, api: AttemptListServices) -> Iterable[DashboardPage]:
    """The page, below ``/webhooks``."""
    return [DashboardPage("GET", "/go", _Handlers(renderer, api).go, Access.VIEWER, (_TEXT,))]


class _Handlers:
    def __init__(self, renderer: PageRenderer, api: AttemptListServices) -> None:
        self._renderer = renderer
        self._api = api

    async def go(self, request: web.Request) -> web.Response:
        api, redirect = self._api, partial(self._renderer.redirect, request)
        pasted = recognize(request.query.get("text", ""))
        if not pasted.text:
            return redirect(ATTEMPTS)
        if pasted.certain is not None:
            as_written = (await optional(api, _existing(api, pasted.guesses))).found if pasted.guesses else None
            return redirect(_reference(as_written[0] if as_written else pasted.certain).href)
        require_endpoints(api.registry)
        endpoints, is_exact = _matching(api, pasted)
        if not is_exact and (own := _own_page(request, pasted)):
            return redirect(own)
        looked = await optional(api, _existing(api, () if pasted.url and is_exact else pasted.guesses))
        found = _choices(pasted, endpoints, looked.found or ())
        return self._onward(request, pasted, found or _named(pasted), looked.problem, is_guess=bool(endpoints) and not is_exact)

    def _onward(
        self, request: web.Request, pasted: Pasted, found: Sequence[Choice], problem: str | None, *, is_guess: bool
    ) -> web.Response:
        """Redirect to the only result or, without results, to the search. If there are several, show them.

        If the numbers could not be looked up, the page says so: a guess or a search in bodies would look like the answer.
        """
        redirect = partial(self._renderer.redirect, request)
        if problem is not None and pasted.guesses and (is_guess or not found):
            return self._choose(request, pasted, found, problem)
        may_see_bodies = principal_of(request).role.covers(Access.OPERATOR)
        if len(found) == 1:
            return redirect(found[0].href, *(_doubts(pasted, found[0], is_guess=is_guess) if may_see_bodies else ()))
        if not found and pasted.url is not None:
            return redirect(f"{ATTEMPTS}?{urlencode({'q[target_url_cont]': pasted.url})}")
        if not found and may_see_bodies:
            return redirect(_in_bodies(pasted.text))
        return self._choose(request, pasted, found, problem)

    def _choose(self, request: web.Request, pasted: Pasted, found: Sequence[Choice], problem: str | None) -> web.Response:
        return self._renderer.show(
            request,
            "go.html",
            text=pasted.text,
            choices=found[:_MAX_CHOICES],
            more=max(len(found) - _MAX_CHOICES, 0),
            in_bodies=_in_bodies(pasted.text),
            problem=problem,
        )


def _matching(api: AttemptListServices, pasted: Pasted) -> tuple[Sequence[NamedEndpoint], bool]:
    """The matching endpoints, and whether that is certain. A guess is dropped if the text names an order or a shipment.

    The URL of an order's page may have the same host as an endpoint.
    """
    endpoints, is_exact = matching(named(api.registry.all()), pasted)
    return (endpoints, is_exact) if is_exact or pasted.mentioned is None else ((), False)


def _choices(pasted: Pasted, endpoints: Sequence[NamedEndpoint], references: Sequence[Reference]) -> list[Choice]:
    """The results. If a URL names something that exists, endpoints with the same host are left out."""
    is_page = pasted.url is not None and bool(references)
    found = [] if is_page else [Choice(one.name, f"{PREFIX}/endpoints/{one.id}", one.target_url) for one in endpoints]
    return found + [_reference(one) for one in references]


def _named(pasted: Pasted) -> list[Choice]:
    return [] if pasted.mentioned is None else [_reference(pasted.mentioned)]


def _doubts(pasted: Pasted, only: Choice, *, is_guess: bool) -> Iterable[Notice]:
    """A notice if the only result is a guess, because the user may have meant something else."""
    if pasted.url is None and only in _named(pasted):
        yield _or_in_bodies(pasted.text, f"mentions {only.label[:1].lower()}{only.label[1:]}")
    elif pasted.url is None and is_guess:
        yield _or_in_bodies(pasted.text, "matches this endpoint")


async def _existing(api: AttemptListServices, guesses: Sequence[Reference]) -> Sequence[Reference]:
    """The guesses that exist in the store, without duplicates."""
    known = await api.search.recorded_values([(one.kind.value, one.value) for one in guesses])
    return [one for one in guesses if (one.kind.value, one.value) in known]


def _reference(one: Reference) -> Choice:
    folder = _FOLDERS.get(one.kind) if is_segment(one.value) else None
    href = (
        f"{PREFIX}/{folder}/{segment(one.value)}" if folder else f"{ATTEMPTS}?{urlencode({f'q[{one.kind.value}_eq]': one.value})}"
    )
    return Choice(f"{_NAMES[one.kind]} {one.value}", href)


def _own_page(request: web.Request, pasted: Pasted) -> str | None:
    """The path of the dashboard page that a URL points to. A URL with another host must look like one of our pages."""
    path = pasted.path or ""
    if not is_own_page(path) or path.startswith((f"{PREFIX}/go", f"{PREFIX}/static/")):
        return None
    is_here = pasted.host in (None, request.host.casefold())
    return path if is_here or _OURS.fullmatch(path) else None


def _in_bodies(text: str) -> str:
    return f"{ATTEMPTS}?{urlencode({'q[request_body_cont]': text})}"


def _or_in_bodies(text: str, what: str) -> Notice:
    """A notice with a link that searches the bodies for the text instead."""
    short = text if len(text) <= 60 else f"{text[:60]}\N{HORIZONTAL ELLIPSIS}"
    return Notice(
        "good",
        f"\N{LEFT DOUBLE QUOTATION MARK}{short}\N{RIGHT DOUBLE QUOTATION MARK} {what}.",
        href=_in_bodies(text),
        label="Search in bodies instead",
    )
