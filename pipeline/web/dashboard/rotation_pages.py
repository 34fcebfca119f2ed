"""``/webhooks/endpoints/{id}/rotate`` and ``…/rotate_key_pair``: a new signing secret, or a new key pair, with an overlap."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from aiohttp import web

from pipeline.web.api.wrapped_input import validated
from pipeline.web.auth import principal_of
from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.endpoint_changes import rotate_key_pair, rotate_secret
from pipeline.web.endpoint_names import name_of
from pipeline.web.endpoint_writes import find_endpoint
from pipeline.web.request_values import digits, path_id
from pipeline.web.services import EndpointServices
from schemas.api_key import Access
from schemas.http.signatures import RotationInput

SECRET_SHOWN: Final = "Copy the signing secret now: it is shown only once. The receiver needs it to verify signatures."
_OVERLAPS: Final = (
    ("0", "0 hours: it becomes invalid immediately"),
    ("1", "1 hour"),
    ("24", "24 hours"),
    ("72", "3 days"),
    ("168", "7 days"),
)


def rotation_pages(renderer: PageRenderer, api: EndpointServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""
    handlers, one = _Handlers(renderer, api), "/endpoints/{id}"
    return [
        DashboardPage("GET", f"{one}/rotate", handlers.ask_secret, Access.ADMIN),
        DashboardPage("POST", f"{one}/rotate", handlers.make_secret, Access.ADMIN, fields=("overlap_hours",)),
        DashboardPage("GET", f"{one}/rotate_key_pair", handlers.ask_pair, Access.ADMIN),
        DashboardPage("POST", f"{one}/rotate_key_pair", handlers.make_pair, Access.ADMIN, fields=("overlap_hours",)),
    ]


class _Handlers:
    def __init__(self, renderer: PageRenderer, api: EndpointServices) -> None:
        self._renderer = renderer
        self._api = api

    async def ask_secret(self, request: web.Request) -> web.Response:
        return self._ask(
            request,
            "Create a new signing secret?",
            "Create new secret",
            "Requests will be signed with the new secret and, for the time that you choose, also with the current one. "
            "Use that time to give the new secret to the receiver.",
            "The new secret is shown once, on the next page.",
        )

    async def make_secret(self, request: web.Request) -> web.Response:
        overlap, actor = _overlap(request), principal_of(request).actor
        endpoint, secret = await rotate_secret(self._api, path_id(request), actor, None, overlap)
        made = f"The new signing secret is in use; {_valid(overlap)}. {SECRET_SHOWN}"
        return self._renderer.redirect(request, _page(endpoint.id), Notice("good", made, secret=secret))

    async def ask_pair(self, request: web.Request) -> web.Response:
        return self._ask(
            request,
            "Create a new key pair?",
            "Create new key pair",
            "Requests will be signed with the new key pair and, for the time that you choose, also with the current one.",
            "The public keys are on the endpoint's page and in the JWKS. Receivers that cache the JWKS need an overlap.",
        )

    async def make_pair(self, request: web.Request) -> web.Response:
        overlap, actor = _overlap(request), principal_of(request).actor
        endpoint = await rotate_key_pair(self._api, path_id(request), actor, None, overlap)
        made = f"The new key pair is in use; {_valid(overlap)}. Its public key is below."
        return self._renderer.redirect(request, _page(endpoint.id), Notice("good", made))

    def _ask(self, request: web.Request, title: str, button: str, *sentences: str) -> web.Response:
        endpoint = find_endpoint(self._api, path_id(request))
        return self._renderer.show(
            request,
            "confirm.html",
            title=title,
            called=name_of(endpoint),
            subject=endpoint.target_url,
            sentences=sentences,
            button=button,
            overlaps=_OVERLAPS,
            is_harmful=False,
            action=request.path,
            back=_page(endpoint.id),
        )


def _page(endpoint_id: int) -> str:
    return f"{PREFIX}/endpoints/{endpoint_id}"


def _overlap(request: web.Request) -> timedelta:
    text = form_of(request).get("overlap_hours", "")
    hours = digits(text)
    given = RotationInput() if not text else validated({"overlap_hours": text if hours is None else hours}, RotationInput)
    return timedelta(hours=given.overlap_hours)


def _valid(overlap: timedelta) -> str:
    hours = round(overlap.total_seconds() / 3600)
    if not hours:
        return "the old one is no longer valid"
    return f"the old one stays valid for another {hours} hours" if hours > 1 else "the old one stays valid for another hour"
