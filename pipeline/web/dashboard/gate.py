"""Who may pass: one middleware before every page looks at the session, the role and the CSRF token."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import MultiDictProxy

from pipeline.web.auth import PRINCIPAL, declared, require_role
from pipeline.web.dashboard.desk import SESSION, Desk
from pipeline.web.dashboard.pages import Page
from pipeline.web.errors import ApiError

FORM: Final = web.RequestKey("form", MultiDictProxy[str])
CSRF_FIELD: Final = "csrf"
_EXPIRED: Final = "This form is not valid any more. Go back, reload the page and send it again; log in first if you are asked to."


def gate(desk: Desk, pages: Mapping[tuple[str, str], Page]) -> Middleware:
    """A middleware that shows nobody a page that he may not see, and sends on who is not logged in."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        page = declared(request, pages)
        request[SESSION] = session = desk.sessions.of(request)
        if session.key_id is not None and desk.api.ended_sessions.has(session.id, session.key_id, session.until):
            request[SESSION] = session = desk.sessions.new()
        who = desk.api.keys.named(session.key_id) if session.key_id is not None else None
        if who is not None:
            request[PRINCIPAL] = who
        if page is None:
            # Nothing matched. Only who is logged in may learn that.
            return await handler(request) if who is not None else desk.to_login(request)
        if page.access is not None:
            if who is None:
                return desk.to_login(request)
            require_role(who, page.access)
        if page.method == "POST":
            request[FORM] = form = await _form(request)
            if not hmac.compare_digest(str(form.get(CSRF_FIELD, "")).encode(), session.csrf.encode()):
                raise ApiError(403, _EXPIRED)
        return await handler(request)

    return middleware


def form_of(request: web.Request) -> MultiDictProxy[str]:
    """The form that was sent; the middleware has read it."""
    return request[FORM]


async def _form(request: web.Request) -> MultiDictProxy[str]:
    """The form, as browsers send one without files.

    Raises:
        ApiError: 400, it broke off or is not text; 415, it is no such form.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise ApiError(415, "Forms are taken as application/x-www-form-urlencoded only.")
    try:
        fields = await request.post()
    except (ConnectionError, web.RequestPayloadError) as error:
        raise ApiError(400, "The form broke off; send it again.") from error
    except (LookupError, ValueError) as error:
        raise ApiError(400, "The form is not text in UTF-8; send it again.") from error
    return fields  # type: ignore[return-value]  # files come with multipart/form-data only
