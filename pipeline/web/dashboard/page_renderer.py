"""Renders pages, with the browser's session and the templates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.endpoints.registry import Registry
from pipeline.ops.clock import Clock
from pipeline.web.auth import PRINCIPAL, Principal
from pipeline.web.dashboard import text_filters
from pipeline.web.dashboard.assets import Assets
from pipeline.web.dashboard.csrf import masked
from pipeline.web.dashboard.page import LOGIN, PREFIX, DashboardPage
from pipeline.web.dashboard.sessions import Notice, Session, Sessions
from pipeline.web.dashboard.time_zone import DEFAULT, chosen_zone
from pipeline.web.dashboard.visible_text import visible
from pipeline.web.docs_site import has_docs
from pipeline.web.endpoint_names import middle, without_scheme
from pipeline.web.key_ring import KeyRing
from pipeline.web.request_values import IGNORED
from schemas.api_key import Access

SESSION: Final = web.RequestKey("session", Session)


@dataclass(frozen=True, slots=True)
class Entry:
    """A navigation link in the header of every page."""

    label: str
    href: str


_GUIDE: Final = f"{PREFIX}/guide"
"""Public, and not a page of the dashboard (see pipeline/web/guide.py)."""
_DOCS: Final = "/docs"
"""The documentation site, if this installation has it (see pipeline/web/docs_site.py)."""
_NAVIGATION: Final = (
    Entry("Overview", PREFIX),
    Entry("Endpoints", f"{PREFIX}/endpoints"),
    Entry("Attempts", f"{PREFIX}/attempts"),
    Entry("Dead letters", f"{PREFIX}/dead-letters"),
    Entry("API keys", f"{PREFIX}/keys"),
    Entry("Guide", _GUIDE),
)


@cache
def _assets_and_templates() -> tuple[Assets, Environment]:
    """The static files and the templates. Each process compiles a template when it is first used.

    Names, URLs and texts come from others, so invisible characters are made visible in every value that a page prints. A value
    that a form sends back must stay unchanged: the template escapes it itself (``|e``).
    """
    assets = Assets()
    templates = Environment(
        loader=PackageLoader("pipeline.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
        auto_reload=False,
    )
    templates.globals |= {"asset": assets.url, "query": urlencode, "prefix": PREFIX}
    templates.filters |= text_filters.FILTERS
    templates.filters |= {one.__name__: one for one in (middle, without_scheme)}
    return assets, templates


class PageRenderer:
    """Renders pages. There is one per process."""

    def __init__(self, sessions: Sessions, registry: Registry, ring: KeyRing, clock: Clock) -> None:
        """``registry`` knows whether the encryption key is wrong, ``ring`` the names of people."""
        self.sessions = sessions
        self._registry = registry
        self._ring = ring
        self._clock = clock
        self.assets, self._templates = _assets_and_templates()
        self._access: dict[str, Access | None] = {}

    def know(self, pages: Iterable[DashboardPage]) -> None:
        """Register the pages. The navigation shows only pages that the reader may see."""
        self._access = {page.key[1]: page.access for page in pages if page.method == "GET"}

    def show(self, request: web.Request, template: str, status: int = 200, **values: object) -> web.Response:
        """Render a template with ``values`` and the context from :meth:`_context`."""
        session = request.get(SESSION) or self.sessions.of(request)
        text = self._templates.get_template(f"dashboard/{template}").render(**self._context(request, session), **values)
        response = web.Response(text=text, status=status, content_type="text/html")
        self.sessions.clear_notices(request, response)
        return response

    def redirect(self, request: web.Request, to: str, *notices: Notice) -> web.Response:
        """Redirect to a page of the dashboard, which shows the notices. With 303, the browser continues with GET."""
        response = web.Response(status=303, headers={"Location": to})
        if notices:
            self.sessions.add_notices(request, response, notices)
        return response

    def to_login(self, request: web.Request) -> web.Response:
        """Redirect to the login, which then redirects to the requested page, if it can be requested again."""
        wanted = request.raw_path if request.method in ("GET", "HEAD") else ""
        return self.redirect(request, f"{LOGIN}?{urlencode({'next': wanted})}" if is_own_page(wanted) else LOGIN)

    def _context(self, request: web.Request, session: Session) -> dict[str, object]:
        who = request.get(PRINCIPAL)
        return {
            "csrf": masked(session.csrf),
            "here": request.path,
            "ignored_parameters": request.get(IGNORED, ()),
            "navigation": self._navigation(who),
            "notices": self.sessions.notices(request),
            "now": self._clock(),
            "who": who,
            "zone": chosen_zone(request),
            "default_zone": DEFAULT,
            "docs": _DOCS if has_docs() else "",
            # The URL to return to, with its search, if it is not too long.
            "here_in_full": request.raw_path if request.method == "GET" and is_own_page(request.raw_path) else PREFIX,
            "wrong_key": self._registry.wrong_key() if who else None,
            "who_name": self._ring.person(who.actor) if who else "",
            "person": self._ring.person,
            "may_operate": who is not None and who.role.covers(Access.OPERATOR),
            "may_change": who is not None and who.role.covers(Access.ADMIN),
        }

    def _navigation(self, who: Principal | None) -> Sequence[Entry]:
        if who is None:
            return ()
        return [
            entry
            for entry in _NAVIGATION
            if entry.href == _GUIDE
            or (entry.href in self._access and ((needed := self._access[entry.href]) is None or who.role.covers(needed)))
        ]


_MAX_NEXT: Final = 2000
"""Characters. There is no redirect to longer URLs (searches with thousands of values), because proxies limit the length."""


def is_own_page(path: str) -> bool:
    """Whether a redirect there is safe. Only pages of the dashboard are, because anyone can write a link to the login."""
    is_below = path == PREFIX or path.startswith((f"{PREFIX}/", f"{PREFIX}?"))
    return is_below and len(path) <= _MAX_NEXT and path.isascii() and path.isprintable() and "\\" not in path
