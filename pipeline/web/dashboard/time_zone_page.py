"""``/webhooks/time-zone``: the zone in which a browser shows times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from aiohttp import web

from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer, is_own_page
from pipeline.web.dashboard.sessions import came_over_tls
from pipeline.web.dashboard.time_zone import DEFAULT, ZONE_COOKIE, chosen_zone, zone_names, zone_of
from pipeline.web.routes import Parameter
from schemas.api_key import Access

_YEAR: Final = 365 * 86_400
_NEXT: Final = Parameter("next", "Page to open after choosing a zone.")
_UNKNOWN: Final = "This time zone does not exist. Names look like Europe/Berlin."


def time_zone_pages(renderer: PageRenderer) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""

    def form(request: web.Request, status: int, given: str, wanted: str, error: str | None = None) -> web.Response:
        return renderer.show(
            request, "time_zone.html", status, zones=_zones(), given=given, next=wanted, errors={"zone": [error]} if error else {}
        )

    async def show(request: web.Request) -> web.Response:
        return form(request, 200, chosen_zone(request) or DEFAULT, request.query.get("next", ""))

    async def choose(request: web.Request) -> web.Response:
        fields = form_of(request)
        given, wanted = fields.get("zone", "").strip(), fields.get("next", "")
        name = next((one for one in zone_names() if one.casefold() == given.replace(" ", "_").casefold()), given)
        if zone_of(name) is None:
            return form(request, 422, given, wanted, _UNKNOWN)
        response = renderer.redirect(request, wanted if is_own_page(wanted) else PREFIX)
        keep_zone(request, response, name)
        return response

    return [
        DashboardPage("GET", "/time-zone", show, Access.VIEWER, (_NEXT,)),
        DashboardPage("POST", "/time-zone", choose, Access.VIEWER, fields=("zone", "next")),
    ]


def keep_zone(request: web.Request, response: web.Response, name: str) -> None:
    """Store a zone in the browser's cookie. Unknown zones are not stored."""
    if zone_of(name) is not None:
        response.set_cookie(
            ZONE_COOKIE, name, max_age=_YEAR, path=PREFIX, secure=came_over_tls(request), httponly=True, samesite="Lax"
        )


def _zones() -> Sequence[str]:
    """The zones to choose from: UTC and the zones that are named after places."""
    return [
        DEFAULT,
        *sorted(one for one in zone_names() if "/" in one and not one.startswith(("Etc/", "SystemV/", "posix/", "right/"))),
    ]
