"""Access control: one middleware checks the session, the role and the CSRF token of every request to a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import MultiDictProxy

from pipeline.web.auth import PRINCIPAL, declared, require_role
from pipeline.web.dashboard.carried_forms import CarriedForm, carried, sealed
from pipeline.web.dashboard.csrf import is_token
from pipeline.web.dashboard.page import LOGOUT, DashboardPage
from pipeline.web.dashboard.page_renderer import SESSION, PageRenderer
from pipeline.web.errors import ApiError
from pipeline.web.services import LoginServices

FORM: Final = web.RequestKey("form", MultiDictProxy[str])
CSRF_FIELD: Final = "csrf"
_EXPIRED: Final = "This form has expired. Go back, reload the page and submit the form again. Log in first if you are asked to."


def auth_middleware(renderer: PageRenderer, api: LoginServices, pages: Mapping[tuple[str, str], DashboardPage]) -> Middleware:
    """A middleware that denies pages to users without the role, and redirects users without a session to the login."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        page = declared(request, pages)
        request[SESSION] = session = renderer.sessions.of(request)
        if session.key_id is not None and api.ended_sessions.has(session.id, session.key_id, session.until):
            request[SESSION] = session = renderer.sessions.new()
        who = api.keys.named(session.key_id) if session.key_id is not None else None
        if who is not None:
            request[PRINCIPAL] = who
            api.ring.note_use(api.producer, who.key_id, api.clock())
        if page is None:
            # Nothing matched. Only users who are logged in may learn that.
            return await handler(request) if who is not None else renderer.to_login(request)
        if page.access is not None:
            if who is None:
                return await _after_login(renderer, api, request)
            require_role(who, page.access)
        if page.method == "POST":
            request[FORM] = form = await _form(request)
            if not is_token(str(form.get(CSRF_FIELD, "")), session.csrf):
                # The page is older than the login: show the form again before anything is done.
                kept = _kept(request, form, api.clock()) if who is not None and page.access is not None else None
                if kept is None:
                    raise ApiError(403, _EXPIRED)
                return renderer.show(request, "carried.html", carried=kept)
        return await handler(request)

    return middleware


async def _after_login(renderer: PageRenderer, api: LoginServices, request: web.Request) -> web.Response:
    """Redirect to the login, and keep the form that was sent. Who logs out without a session is logged out already."""
    if request.method != "POST" or request.path == LOGOUT:
        return renderer.to_login(request)
    try:
        kept = _kept(request, await _form(request), api.clock())
    except ApiError:
        kept = None
    if kept is None:
        return renderer.to_login(request)
    response = renderer.show(request, "login.html", 401, next="", error=None, carried=sealed(api.vault, kept))
    renderer.sessions.keep(request, response, request[SESSION])
    return response


def _kept(request: web.Request, form: MultiDictProxy[str], now: datetime) -> CarriedForm | None:
    return carried(request, [(name, value) for name, value in form.items() if name != CSRF_FIELD], now)


def form_of(request: web.Request) -> MultiDictProxy[str]:
    """The form of the request. The middleware has read it."""
    return request[FORM]


async def _form(request: web.Request) -> MultiDictProxy[str]:
    """The form, as browsers send one without files.

    Raises:
        ApiError: 400, the form is incomplete or is not text; 415, the form has another content type.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise ApiError(415, "Forms must be sent as application/x-www-form-urlencoded.")
    try:
        fields = await request.post()
    except (ConnectionError, web.RequestPayloadError) as error:
        raise ApiError(400, "The form is incomplete. Submit it again.") from error
    except (LookupError, ValueError) as error:
        raise ApiError(400, "The form is not valid UTF-8 text. Submit it again.") from error
    return fields  # type: ignore[return-value]  # files come with multipart/form-data only
