"""The dashboard as a separate application, so that no spelling of a path can bypass its middleware."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pipeline.ops.health import Health
from pipeline.web.dashboard.auth_middleware import auth_middleware
from pipeline.web.dashboard.page_parameters import check_page_parameters
from pipeline.web.dashboard.page_renderer import PageRenderer, is_own_page
from pipeline.web.dashboard.page_table import dashboard_pages
from pipeline.web.dashboard.sessions import Sessions
from pipeline.web.dashboard.time_zone import in_time_zone
from pipeline.web.errors import explained
from pipeline.web.health_routes import refuse_until_started
from pipeline.web.services import Api

_HEADERS: Final = {
    # Only our own files: no inline script, no inline style, no other host, no frame. Forms are sent only to us.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # URLs contain search terms, so other sites must not see them. Our own pages get the Origin, which shows whether TLS is used.
    "Referrer-Policy": "same-origin",
}


def dashboard(api: Api, health: Health) -> web.Application:
    """The application that is mounted at ``/webhooks``."""
    renderer = PageRenderer(Sessions(api.vault, api.clock), api.registry, api.ring, api.clock)
    pages = dashboard_pages(renderer, api, health.warnings)
    renderer.know(pages)
    by_key = {page.key: page for page in pages}
    app = web.Application(
        middlewares=[
            in_time_zone(),
            page_errors(renderer),
            refuse_until_started(health),
            auth_middleware(renderer, api, by_key),
            check_page_parameters(by_key),
        ]
    )
    app.on_response_prepare.append(_add_security_headers)
    app.on_shutdown.append(lambda _: api.streams.stop())
    app.add_routes([page.definition() for page in pages])
    return app


def page_errors(renderer: PageRenderer) -> Middleware:
    """A middleware that answers every error as a page."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            if isinstance(error, web.HTTPException) and error.status < 400:
                raise
            if isinstance(error, web.HTTPNotFound) and (meant := _without_slash(request)):
                return renderer.redirect(request, meant)
            problem = explained(request, error)
        response = renderer.show(request, "error.html", problem.status, problem=problem)
        response.headers.update(problem.headers or {})
        return response

    return middleware


def _without_slash(request: web.Request) -> str | None:
    """The address without the slashes at its end, if it has any: ``/webhooks/attempts/`` means the list of attempts."""
    path, sign, query = request.raw_path.partition("?")
    bare = path.rstrip("/") + sign + query
    return bare if request.method == "GET" and path.endswith("/") and is_own_page(bare) else None


async def _add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
