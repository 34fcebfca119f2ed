"""``/webhooks/keys``: the API keys. They also give access to the dashboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from aiohttp import web

from pipeline.web.api.keys import create_key, find_key, revoke_key
from pipeline.web.api.wrapped_input import validated
from pipeline.web.auth import principal_of
from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.errors import InvalidError
from pipeline.web.services import KeyServices
from schemas.api_key import Access
from schemas.http.keys import KeyInput

_LIST: Final = f"{PREFIX}/keys"
_ROLES: Final = (
    (Access.VIEWER, "Can view endpoints and attempts, but not bodies."),
    (Access.OPERATOR, "Can also view bodies (customer data), resend and send test events."),
    (Access.ADMIN, "Can also change endpoints and API keys."),
)
_BLANK: Final[Mapping[str, str]] = {"name": "", "owner": "", "role": Access.VIEWER}


def key_pages(renderer: PageRenderer, api: KeyServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""
    handlers = _Handlers(renderer, api)
    return [
        DashboardPage("GET", "/keys", handlers.index, Access.ADMIN),
        DashboardPage("POST", "/keys", handlers.create, Access.ADMIN, fields=("name", "owner", "role")),
        DashboardPage("GET", "/keys/{id}/revoke", handlers.ask_revoke, Access.ADMIN),
        DashboardPage("POST", "/keys/{id}/revoke", handlers.revoke, Access.ADMIN),
    ]


class _Handlers:
    def __init__(self, renderer: PageRenderer, api: KeyServices) -> None:
        self._renderer = renderer
        self._api = api

    async def index(self, request: web.Request) -> web.Response:
        return self._list(request)

    async def create(self, request: web.Request) -> web.Response:
        form = form_of(request)
        typed = {name: form.get(name, "") for name in ("name", "owner", "role")}
        try:
            record, key = await create_key(self._api, request, validated(typed, KeyInput))
        except InvalidError as error:
            return self._list(request, 422, typed, error.errors)
        text = f"The key “{record.name}” ({record.role.value}) was created. Copy it now: it is shown only once and is not stored."
        return self._renderer.redirect(request, _LIST, Notice("good", text, secret=key))

    async def ask_revoke(self, request: web.Request) -> web.Response:
        record = find_key(self._api, request.match_info["id"])
        own = ["You are logged in with this key, so you will be logged out."] if self._is_own(request, record.id) else []
        return self._renderer.show(
            request,
            "confirm.html",
            title="Revoke this key?",
            subject=", ".join(filter(None, (record.owner, record.name, record.role.value))),
            sentences=[
                "The key stops working, and everyone who is logged in with it is logged out. This cannot be undone.",
                *own,
            ],
            button="Revoke key",
            is_harmful=True,
            action=f"{_LIST}/{record.id}/revoke",
            back=_LIST,
        )

    async def revoke(self, request: web.Request) -> web.Response:
        record = await revoke_key(self._api, request, request.match_info["id"])
        return self._renderer.redirect(request, _LIST, Notice("good", f"The key “{record.name}” was revoked."))

    def _list(
        self,
        request: web.Request,
        status: int = 200,
        typed: Mapping[str, str] = _BLANK,
        errors: Mapping[str, Sequence[str]] | None = None,
    ) -> web.Response:
        keys = self._api.ring.valid()
        return self._renderer.show(
            request,
            "keys.html",
            status,
            keys=keys,
            used={key.id: self._api.ring.last_used(key.id) for key in keys},
            roles=[(one.value, text) for one, text in _ROLES],
            **typed,
            errors=errors or {},
        )

    def _is_own(self, request: web.Request, identifier: str) -> bool:
        return principal_of(request).key_id == identifier
