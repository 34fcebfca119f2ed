"""The routes of every role: is the process alive, has it started, can it do its work, and its metrics."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client.exposition import choose_encoder

from pipeline.ops import metrics
from pipeline.ops.health import STARTING, Health
from pipeline.web.errors import StartingError


def ops_routes(health: Health) -> Iterable[web.RouteDef]:
    """``/healthz``, ``/startupz``, ``/readyz`` and ``/metrics``. They need no API key."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def startupz(_: web.Request) -> web.Response:
        if not health.starting:
            return web.json_response({"status": "started"})
        if health.waiting_for:  # 200, because a restart would not help: the process would wait again
            return web.json_response({"status": "waiting", "waiting_for": health.waiting_for})
        return web.json_response({"status": STARTING}, status=503)

    async def readyz(_: web.Request) -> web.Response:
        warnings = health.warnings()
        details = {"warnings": warnings} if warnings else {}
        if problems := health.problems():
            return web.json_response({"status": "not ready", "problems": problems, **details}, status=503)
        return web.json_response({"status": "ready", **details})

    return [
        web.get("/healthz", healthz),
        web.get("/startupz", startupz),
        web.get("/readyz", readyz),
        web.get("/metrics", _metrics),
    ]


def refuse_until_started(health: Health) -> Middleware:
    """A middleware that answers 503 while the parts that the API needs are starting."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if health.starting:
            raise StartingError(health.waiting_for)
        return await handler(request)

    return middleware


def say_what_is_waited_for(health: Health) -> Middleware:
    """A middleware that adds what the start waits for. It runs before the check of API keys, which does not know the reason."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except StartingError:
            raise StartingError(health.waiting_for) from None

    return middleware


async def _metrics(request: web.Request) -> web.Response:
    # Prometheus asks for OpenMetrics; people and older scrapers ask for text.
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(metrics.registry), headers={"Content-Type": content_type})
