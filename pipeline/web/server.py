"""The HTTP server of a role: health and metrics for every role, and the API if the role has one."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pipeline.core.listen_errors import listen_error
from pipeline.core.trace import TRACEPARENT, TRACESTATE, exemplar, trace_context
from pipeline.ops import metrics
from pipeline.ops.health import Health
from pipeline.ops.logs import logger
from pipeline.web.compression import EVENT_STREAM, compress
from pipeline.web.connection_guard import ConnectionGuard, ConnectionLimits
from pipeline.web.errors import json_errors
from pipeline.web.health_routes import ops_routes
from pipeline.web.routes import SLASH, TRACE, is_of_the_api

if TYPE_CHECKING:
    from pipeline.ops.tracing import Tracing
    from pipeline.web.services import Api

log = logger(__name__)

MAX_BODY_BYTES: Final = 1024 * 1024
_SECURITY_HEADERS: Final = {
    # Bodies contain answers of receivers. Browsers must never treat JSON as a page, or show our pages in a frame.
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
MAX_URL_BYTES: Final = 1024 * 1024
"""A search may have long lists of numbers. If a list is too long, the search itself says so."""
_READS: Final = frozenset({"GET", "HEAD"})
_GONE: Final = "499"
"""The status that counts requests whose client disconnected before the answer. It is never sent."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SHUTDOWN_SECONDS: Final = 10.0
_BACKLOG: Final = 1024


class _WithoutRequests(logging.Filter):
    """Drops aiohttp's logs of invalid requests: they quote the request, including its Authorization header."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        # By name, because aiohttp does not export the parser's exceptions.
        is_of_the_parser = any(kind.__name__ == "HttpProcessingError" for kind in type(error).__mro__)
        if not is_of_the_parser and not isinstance(error, web.RequestPayloadError):
            return True
        log.debug("a request could not be parsed", error=type(error).__name__)
        return False


_http_log = logging.getLogger("pipeline.web.http")
_http_log.addFilter(_WithoutRequests())


def make_app(*, health: Health, api: Api | None = None, tracing: Tracing | None = None) -> web.Application:
    """One application: ``/healthz``, ``/startupz``, ``/readyz``, ``/metrics``; with an ``api`` also ``/api/…`` and ``/webhooks/…``."""
    observers = [_observe] if tracing is None else [_traced(tracing), _observe]
    app = web.Application(middlewares=[_finish_changes, *observers, compress, json_errors], client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(_add_security_headers)
    app.add_routes(ops_routes(health))
    if api is not None:
        # Imported here, because the other roles only serve health and metrics, and start faster without it.
        from pipeline.web.site_application import add_site  # noqa: PLC0415

        add_site(app, api, health)
    return app


async def _add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)


@web.middleware
async def _observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count, time and log a request, without its query string, which may contain customer data."""
    started = time.perf_counter()
    try:
        response = await handler(request)
    except asyncio.CancelledError:
        metrics.API_REQUESTS.labels(*_named(request), _GONE).inc()
        raise
    seconds = time.perf_counter() - started
    route, method = _named(request)
    metrics.API_REQUESTS.labels(route, method, str(response.status)).inc()
    trace = request.get(TRACE)
    if response.content_type != EVENT_STREAM:  # a stream lasts as long as somebody watches
        metrics.API_DURATION.labels(route).observe(seconds, exemplar(trace))
    log.debug(
        "request",
        route=route,
        method=method,
        status=response.status,
        duration_ms=round(seconds * 1000, 3),
        trace_id=None if trace is None else trace.trace_id,
    )
    return response


@web.middleware
async def _finish_changes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """If the client disconnects, a change is completed. A read is canceled, with its searches."""
    if request.method in _READS:
        return await handler(request)
    change = asyncio.ensure_future(handler(request))
    _changes.add(change)
    change.add_done_callback(_changed)
    return await asyncio.shield(change)


_changes: Final[set[asyncio.Future[web.StreamResponse]]] = set()
"""The changes in progress. asyncio itself keeps only weak references to tasks."""


def _changed(change: asyncio.Future[web.StreamResponse]) -> None:
    _changes.discard(change)
    if not change.cancelled():
        change.exception()  # mark it as retrieved: if nobody waits any more, asyncio would log it


def _traced(tracing: Tracing) -> Middleware:
    """A middleware with a span for each request to the API. Probes and scrapes have none."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        route, method = _named(request)
        if not is_of_the_api(route):
            return await handler(request)
        parent = trace_context(request.headers.get(TRACEPARENT), request.headers.get(TRACESTATE))
        with tracing.request(method, route, parent=parent) as span:
            request[TRACE] = span.trace
            response = await handler(request)
            span.describe({"http.response.status_code": response.status})
            if response.status >= 500:
                span.fail(str(response.status))
            return response

    return middleware


def _named(request: web.Request) -> tuple[str, str]:
    """The route and method of a request, as labels of metrics: a fixed set of values, which clients cannot extend."""
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unmatched"
    if is_of_the_api(route):
        route = route.removesuffix(SLASH)
    return route, request.method if request.method in _METHODS else "other"


class WebServer:
    """Serves an application on one address."""

    def __init__(self, app: web.Application, host: str, port: int, limits: ConnectionLimits | None = None) -> None:
        self._limits = limits or ConnectionLimits()
        self._visitors = ConnectionGuard(self._make_protocol, self._limits)
        app.middlewares.insert(0, self._visitors.middleware())
        # Do not decompress bodies: nobody needs that here, and they could be decompression bombs.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_http_log,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            auto_decompress=False,
            handler_cancellation=True,
            max_line_size=MAX_URL_BYTES,
            keepalive_timeout=self._limits.idle_seconds,
        )
        self._server: asyncio.Server | None = None
        self._host = host
        self._port = port

    async def start(self) -> str:
        """Listen, and return the URL. Port 0 selects a free port.

        Raises:
            ListenError: the address cannot be used.
        """
        await self._runner.setup()
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._visitors, self._host, self._port, backlog=_BACKLOG)
        except OSError as error:
            await self._runner.cleanup()
            port, host = "set OMS_WEBHOOKS_HTTP_PORT", "set OMS_WEBHOOKS_HTTP_HOST"
            raise listen_error(error, self._host, self._port, other_port=port, other_host=host) from error
        except BaseException:
            await self._runner.cleanup()
            raise
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """Accept no more requests, wait a while for those in progress, and close. A second call does nothing."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _make_protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None:
            raise RuntimeError("the server is not running; call start() first")
        return server()
