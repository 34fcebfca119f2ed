"""The session in one cookie, and one-time notices in another. The server stores only the sessions that were logged out.

Both are encrypted and signed with keys that are derived from ``encryption_key``, so that all API processes read what one
of them wrote. A session names an API key and no role. The key is looked up at each request, so a revoked key ends its sessions. A
stolen session cookie stops working after the logout, when the key is revoked, or after ``SESSION_TIME``.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, TypeVar

import msgspec
from aiohttp import web

from pipeline.endpoints.vault import Vault, VaultError
from pipeline.ops.clock import Clock
from pipeline.web.dashboard.page import PREFIX
from pipeline.web.revoked_sessions import SESSION_TIME

SESSION_COOKIE: Final = "oms_webhooks_session"
NOTICES_COOKIE: Final = "oms_webhooks_notices"
_NOTICES_TIME: Final = timedelta(minutes=2)
_MAX_TEXT: Final = 400
"""In characters. Browsers accept cookies of up to 4096 bytes."""
_MAX_LINK: Final = 1200
"""A longer link is left out: with it, the cookie would not be accepted, and reverse proxies refuse answers with long headers."""

KindT = TypeVar("KindT")


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's session. Each of its forms contains ``csrf``. ``key_id`` is None until somebody logs in."""

    csrf: str
    until: datetime
    key_id: str | None = None

    @property
    def id(self) -> str:
        """The id under which the end of the session is recorded. It does not reveal the CSRF token."""
        return hashlib.sha256(f"session {self.csrf}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Notice:
    """A message that the next page shows once. ``secret`` can be copied there. ``href`` is a link with the text ``label``."""

    kind: Literal["good", "bad", "warning"]
    text: str
    secret: str | None = None
    href: str | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class _Notices:
    until: datetime
    notices: list[Notice]


class Sessions:
    """Reads and writes the cookies."""

    def __init__(self, vault: Vault, clock: Clock) -> None:
        self._vault = vault.derived("dashboard cookies")
        self._clock = clock

    def of(self, request: web.Request) -> Session:
        """The browser's session, or a new one if there is none or it has expired."""
        session = self._opened(request.cookies.get(SESSION_COOKIE), Session)
        return session if session is not None and session.until > self._clock() else self.new()

    def new(self, key_id: str | None = None) -> Session:
        """A session with an API key, or an anonymous one."""
        return Session(secrets.token_urlsafe(24), self._clock() + SESSION_TIME, key_id)

    def keep(self, request: web.Request, response: web.StreamResponse, session: Session) -> None:
        """Set the session cookie."""
        self._set(request, response, SESSION_COOKIE, msgspec.json.encode(session), SESSION_TIME)

    def end(self, response: web.StreamResponse) -> None:
        """Delete the session cookie."""
        response.del_cookie(SESSION_COOKIE, path=PREFIX)

    def add_notices(self, request: web.Request, response: web.StreamResponse, notices: Sequence[Notice]) -> None:
        """Show notices on the next page."""
        short = [
            replace(
                notice,
                text=notice.text[:_MAX_TEXT],
                href=None if notice.href is not None and len(notice.href) > _MAX_LINK else notice.href,
            )
            for notice in notices
        ]
        content = msgspec.json.encode(_Notices(self._clock() + _NOTICES_TIME, short))
        self._set(request, response, NOTICES_COOKIE, content, _NOTICES_TIME)

    def notices(self, request: web.Request) -> list[Notice]:
        """The notices to show on this page."""
        found = self._opened(request.cookies.get(NOTICES_COOKIE), _Notices)
        return found.notices if found is not None and found.until > self._clock() else []

    def clear_notices(self, request: web.Request, response: web.StreamResponse) -> None:
        """Delete the notices, so that no other page shows them."""
        if NOTICES_COOKIE in request.cookies:
            response.del_cookie(NOTICES_COOKIE, path=PREFIX)

    def _opened(self, cookie: str | None, kind: type[KindT]) -> KindT | None:
        if not cookie:
            return None
        try:
            return msgspec.json.decode(self._vault.open(cookie), type=kind)
        except (VaultError, msgspec.ValidationError):  # the latter if an earlier release wrote it
            return None

    def _set(self, request: web.Request, response: web.StreamResponse, name: str, content: bytes, lifetime: timedelta) -> None:
        response.set_cookie(
            name,
            self._vault.seal(content.decode()),
            max_age=int(lifetime.total_seconds()),
            path=PREFIX,
            secure=came_over_tls(request),
            httponly=True,
            # Lax, not Strict: other pages of the OMS link here, and users who follow such a link must stay logged in.
            samesite="Lax",
        )


def came_over_tls(request: web.Request) -> bool:
    """Whether the browser uses TLS, to us or to a proxy in front of us. If so, its cookies must only be sent over TLS.

    A false claim only affects the client that makes it, so no proxy needs to be trusted for this.
    """
    forwarded = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    return request.secure or forwarded == "https" or request.headers.get("Origin", "").startswith("https://")


def own_address(request: web.Request) -> str:
    """The base URL of this service as the browser sees it, for links to share."""
    return f"{'https' if came_over_tls(request) else 'http'}://{request.host}"
