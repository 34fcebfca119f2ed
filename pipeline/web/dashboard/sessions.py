"""Who is logged in, in a cookie; and what a page has to say once, in another. The server keeps only which sessions were logged out.

Both are encrypted and signed with keys that are derived from ``encryption_key``, so that all API processes read what one
of them wrote. A session names an API key and no role: the key is looked up at each request, and who has a key that was revoked is
out. A session of which somebody has stolen the cookie ends with the logout, with the key, or after ``SESSION_TIME``.
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
"""Characters. A browser takes cookies of 4096 bytes."""

KindT = TypeVar("KindT")


@dataclass(frozen=True, slots=True)
class Session:
    """A browser. ``csrf`` stands in each of its forms; ``key_id`` is None until somebody logs in."""

    csrf: str
    until: datetime
    key_id: str | None = None

    @property
    def id(self) -> str:
        """What names the session where it ends. Nobody can tell from it what stands in the forms."""
        return hashlib.sha256(f"session {self.csrf}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to say on the next page, once. ``secret`` is shown there to be copied; ``href`` leads on, with ``label``."""

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
        """The browser's session; a new one when it has none, or when it is over."""
        session = self._opened(request.cookies.get(SESSION_COOKIE), Session)
        return session if session is not None and session.until > self._clock() else self.new()

    def new(self, key_id: str | None = None) -> Session:
        """A session of somebody who has shown an API key, or of nobody."""
        return Session(secrets.token_urlsafe(24), self._clock() + SESSION_TIME, key_id)

    def keep(self, request: web.Request, response: web.StreamResponse, session: Session) -> None:
        """Give the session to the browser."""
        self._set(request, response, SESSION_COOKIE, msgspec.json.encode(session), SESSION_TIME)

    def end(self, response: web.StreamResponse) -> None:
        """Take the session from the browser."""
        response.del_cookie(SESSION_COOKIE, path=PREFIX)

    def say(self, request: web.Request, response: web.StreamResponse, notices: Sequence[Notice]) -> None:
        """Have the next page say something."""
        short = [replace(notice, text=notice.text[:_MAX_TEXT]) for notice in notices]
        content = msgspec.json.encode(_Notices(self._clock() + _NOTICES_TIME, short))
        self._set(request, response, NOTICES_COOKIE, content, _NOTICES_TIME)

    def notices(self, request: web.Request) -> list[Notice]:
        """What this page has to say."""
        found = self._opened(request.cookies.get(NOTICES_COOKIE), _Notices)
        return found.notices if found is not None and found.until > self._clock() else []

    def said(self, request: web.Request, response: web.StreamResponse) -> None:
        """Have no other page say it again."""
        if NOTICES_COOKIE in request.cookies:
            response.del_cookie(NOTICES_COOKIE, path=PREFIX)

    def _opened(self, cookie: str | None, kind: type[KindT]) -> KindT | None:
        if not cookie:
            return None
        try:
            return msgspec.json.decode(self._vault.open(cookie), type=kind)
        except (VaultError, msgspec.ValidationError):  # the latter when a release before this one wrote it
            return None

    def _set(self, request: web.Request, response: web.StreamResponse, name: str, content: bytes, lifetime: timedelta) -> None:
        response.set_cookie(
            name,
            self._vault.seal(content.decode()),
            max_age=int(lifetime.total_seconds()),
            path=PREFIX,
            secure=came_over_tls(request),
            httponly=True,
            # Lax, not Strict: other pages of the OMS link here, and who follows such a link is logged in.
            samesite="Lax",
        )


def came_over_tls(request: web.Request) -> bool:
    """Whether the browser talks TLS, to us or to a proxy before us: then its cookies must go no other way.

    Whoever lies about it does so to himself, so that no proxy needs to be trusted for this.
    """
    forwarded = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    return request.secure or forwarded == "https" or request.headers.get("Origin", "").startswith("https://")


def own_address(request: web.Request) -> str:
    """Where this service is, as the browser sees it: what a link that is sent to others begins with."""
    return f"{'https' if came_over_tls(request) else 'http'}://{request.host}"
