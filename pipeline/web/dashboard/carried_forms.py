"""Forms that are sent after the session has ended. They are carried through the login, encrypted, and can be sent after it.

The server stores nothing. Only forms from our own pages are carried; a form from another site is never shown with a button.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from pipeline.endpoints.vault import Vault, VaultError
from pipeline.web.dashboard.page_renderer import is_own_page

CARRIED_FIELD: Final = "carried"
_MOST: Final = 200_000
"""In characters. Encrypted and encoded, they must fit into a form again."""
_LIFETIME: Final = timedelta(hours=1)
_MAX_SHOWN: Final = 200
_SECRET: Final = frozenset(
    ("token", "value", "key", "secret", "auth_password", "auth_key", "auth_client_secret", "signature_secret", "private_key")
)


@dataclass(frozen=True, slots=True)
class CarriedForm:
    """A form that was sent to ``path`` and not processed."""

    path: str
    fields: tuple[tuple[str, str], ...]
    until: datetime

    @property
    def shown(self) -> Sequence[tuple[str, str]]:
        """The fields to show: shortened, and without possible secrets."""
        return [
            (name.replace("_", " "), f"{value[:_MAX_SHOWN]}…" if len(value) > _MAX_SHOWN else value)
            for name, value in self.fields
            if value and name not in _SECRET
        ]


def carried(request: web.Request, fields: Sequence[tuple[str, str]], now: datetime) -> CarriedForm | None:
    """The form of a request, to be carried. None if it came from another site or is too long."""
    size = sum(len(name) + len(value) for name, value in fields)
    if not _came_from_us(request) or not is_own_page(request.raw_path) or size > _MOST:
        return None
    return CarriedForm(request.raw_path, tuple(fields), now + _LIFETIME)


def sealed(vault: Vault, form: CarriedForm) -> str:
    """A form, encrypted as a field of another form."""
    return _derived(vault).seal(msgspec.json.encode(form).decode())


def opened(vault: Vault, text: str, now: datetime) -> CarriedForm | None:
    """The decrypted form. None if we did not encrypt it, or if it is too old."""
    if not text:
        return None
    try:
        form = msgspec.json.decode(_derived(vault).open(text), type=CarriedForm)
    except (VaultError, msgspec.MsgspecError):
        return None
    return form if form.until > now and is_own_page(form.path) else None


def _derived(vault: Vault) -> Vault:
    return vault.derived("carried forms")


def _came_from_us(request: web.Request) -> bool:
    """Whether a page of this service sent it, according to the browser."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin", "")
    return bool(origin) and urlsplit(origin).netloc == request.host
