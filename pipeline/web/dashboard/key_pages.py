"""``/webhooks/keys``: the API keys, which open the dashboard too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from aiohttp import web

from pipeline.web.auth import principal_of
from pipeline.web.dashboard.desk import Desk
from pipeline.web.dashboard.gate import form_of
from pipeline.web.dashboard.pages import PREFIX, Page
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.errors import InvalidError
from pipeline.web.keys_api import create_key, find_key, revoke_key
from pipeline.web.wrapped_input import validated
from schemas.api_key import Access
from schemas.http_operations import KeyInput

_LIST: Final = f"{PREFIX}/keys"
_ROLES: Final = (
    (Access.VIEWER, "Looks at endpoints and attempts, without bodies."),
    (Access.OPERATOR, "Sees bodies, which hold customers' data; resends and tests."),
    (Access.ADMIN, "Changes endpoints and API keys."),
)


def key_pages(desk: Desk) -> Iterable[Page]:
    """The pages, below ``/webhooks``."""
    handlers = _Handlers(desk)
    return [
        Page("GET", "/keys", handlers.index, Access.ADMIN),
        Page("POST", "/keys", handlers.create, Access.ADMIN, fields=("name", "role")),
        Page("GET", "/keys/{id}/revoke", handlers.ask_revoke, Access.ADMIN),
        Page("POST", "/keys/{id}/revoke", handlers.revoke, Access.ADMIN),
    ]


class _Handlers:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def index(self, request: web.Request) -> web.Response:
        return self._list(request)

    async def create(self, request: web.Request) -> web.Response:
        form = form_of(request)
        name, role = form.get("name", ""), form.get("role", "")
        try:
            record, key = await create_key(self._desk.api, request, validated({"name": name, "role": role}, KeyInput))
        except InvalidError as error:
            return self._list(request, 422, name, role, error.errors)
        text = f"The key of {record.name} ({record.role.value}) is made. Copy it now: it is shown this once and kept nowhere."
        return self._desk.redirect(request, _LIST, Notice("good", text, secret=key))

    async def ask_revoke(self, request: web.Request) -> web.Response:
        record = find_key(self._desk.api, request.match_info["id"])
        own = ["It is the key that you are logged in with: you are logged out, too."] if self._is_own(request, record.id) else []
        return self._desk.show(
            request,
            "confirm.html",
            title="Revoke this key?",
            subject=f"{record.name}, {record.role.value}",
            sentences=["It opens nothing any more, and who is logged in with it is logged out. This cannot be undone.", *own],
            button="Revoke the key",
            is_harmful=True,
            action=f"{_LIST}/{record.id}/revoke",
            back=_LIST,
        )

    async def revoke(self, request: web.Request) -> web.Response:
        record = await revoke_key(self._desk.api, request, request.match_info["id"])
        return self._desk.redirect(request, _LIST, Notice("good", f"The key of {record.name} is revoked."))

    def _list(
        self,
        request: web.Request,
        status: int = 200,
        name: str = "",
        role: str = Access.VIEWER,
        errors: Mapping[str, Sequence[str]] | None = None,
    ) -> web.Response:
        return self._desk.show(
            request,
            "keys.html",
            status,
            keys=self._desk.api.ring.valid(),
            roles=[(one.value, text) for one, text in _ROLES],
            name=name,
            role=role,
            errors=errors or {},
        )

    def _is_own(self, request: web.Request, identifier: str) -> bool:
        return principal_of(request).key_id == identifier
