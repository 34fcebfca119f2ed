"""Pages that need no login: the login itself, and the static files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from aiohttp import web
from aiohttp.hdrs import RETRY_AFTER

from pipeline.broker.errors import PublishError
from pipeline.ops.logs import logger
from pipeline.web.auth import PRINCIPAL
from pipeline.web.client_address import client_address
from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.carried_forms import CARRIED_FIELD, opened
from pipeline.web.dashboard.page import LOGIN, PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import SESSION, PageRenderer, is_own_page
from pipeline.web.dashboard.sessions import Notice, Session
from pipeline.web.dashboard.time_zone import chosen_zone
from pipeline.web.dashboard.time_zone_page import keep_zone
from pipeline.web.errors import ApiError, WrongKeyError, not_found
from pipeline.web.routes import Parameter
from pipeline.web.services import LoginServices
from schemas.api_key import Access

log = logger(__name__)

_WRONG: Final = "This API key is not valid. Check it for missing characters."
_NOT_EVERYWHERE: Final = Notice(
    "bad",
    "This browser is logged out. Kafka did not confirm the logout, so a copy of the session cookie may still work elsewhere, for up to "
    "12 hours. If someone might have a copy, revoke the API key.",
)
_NEXT: Final = Parameter("next", "Page to open after the login.")
_NO_KEY: Final = "Enter your API key."


def public_pages(renderer: PageRenderer, api: LoginServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""
    handlers = _Handlers(renderer, api)
    return [
        DashboardPage("GET", "/login", handlers.login, None, (_NEXT,)),
        DashboardPage("POST", "/login", handlers.log_in, None, fields=("next", "key", "zone", CARRIED_FIELD)),
        DashboardPage("POST", "/logout", handlers.log_out, Access.VIEWER),
        DashboardPage("GET", "/static/{name}", handlers.asset, None),
        DashboardPage("GET", "/", handlers.home, Access.VIEWER),
    ]


class _Handlers:
    def __init__(self, renderer: PageRenderer, api: LoginServices) -> None:
        self._renderer = renderer
        self._api = api

    async def login(self, request: web.Request) -> web.Response:
        wanted = request.query.get("next", "")
        if request.get(PRINCIPAL) is not None:
            return self._renderer.redirect(request, _page(wanted))
        return self._form(request, 200, wanted)

    async def log_in(self, request: web.Request) -> web.Response:
        form, renderer, api = form_of(request), self._renderer, self._api
        wanted, key = form.get("next", ""), form.get("key", "").strip()
        if not key:
            return self._form(request, 422, wanted, _NO_KEY)
        try:
            who = api.login_throttle.checked(client_address(request, api.proxies), lambda: api.keys.owner(key))
        except WrongKeyError:
            return self._form(request, 401, wanted, _WRONG)
        except ApiError as error:
            response = self._form(request, error.status, wanted, str(error))
            response.headers.update({name: value for name, value in (error.headers or {}).items() if name == RETRY_AFTER})
            return response
        if request.get(PRINCIPAL) is not None:  # also invalidates copies of the previous user's cookie
            await self._end(request[SESSION])
        log.info("somebody logged in to the dashboard", key_id=who.key_id, role=who.role.value)
        # Always a new session, against session fixation.
        session = renderer.sessions.new(who.key_id)
        if (typed := opened(api.vault, form.get(CARRIED_FIELD, ""), api.clock())) is not None:
            request[SESSION], request[PRINCIPAL] = session, who
            response = renderer.show(request, "carried.html", carried=typed)
        else:
            response = renderer.redirect(request, _page(wanted))
        renderer.sessions.keep(request, response, session)
        if chosen_zone(request) is None:
            keep_zone(request, response, form.get("zone", ""))
        return response

    async def log_out(self, request: web.Request) -> web.Response:
        has_ended = await self._end(request[SESSION])
        response = self._renderer.redirect(
            request, LOGIN, Notice("good", "You are logged out.") if has_ended else _NOT_EVERYWHERE
        )
        self._renderer.sessions.end(response)
        return response

    async def _end(self, session: Session) -> bool:
        """End a session on the server. Returns False if Kafka does not confirm it in time."""
        api = self._api
        if session.key_id is None:
            return True
        try:
            async with asyncio.timeout(api.write_timeout_seconds):
                await api.ended_sessions.end(api.producer, session.id, session.key_id, session.until)
        except (TimeoutError, PublishError):
            log.warning("Kafka has not confirmed that a session has ended", key_id=session.key_id)
            return False
        log.info("somebody logged out of the dashboard", key_id=session.key_id)
        return True

    async def asset(self, request: web.Request) -> web.Response:
        found = self._renderer.assets.find(request.match_info["name"])
        if found is None:
            raise not_found()
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{found.digest}"'}
        return web.Response(body=found.content, content_type=found.content_type, charset="utf-8", headers=headers)

    async def home(self, request: web.Request) -> web.Response:
        return self._renderer.redirect(request, PREFIX)

    def _form(self, request: web.Request, status: int, wanted: str, error: str | None = None) -> web.Response:
        typed = form_of(request).get(CARRIED_FIELD, "") if request.method == "POST" else ""
        response = self._renderer.show(request, "login.html", status, next=wanted, error=error, carried=typed)
        # Even the login form needs a session for its token, so that a form on another site cannot log a browser in.
        self._renderer.sessions.keep(request, response, request[SESSION])
        return response


def _page(wanted: str) -> str:
    """The page to open after the login: the requested one, if it belongs to the dashboard."""
    return wanted if is_own_page(wanted) else PREFIX
