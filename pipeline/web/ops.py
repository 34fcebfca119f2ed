"""What every role serves: is the process alive, can it do its work, and its metrics."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from pipeline.ops import metrics
from pipeline.ops.health import Health


def ops_routes(health: Health) -> Iterable[web.RouteDef]:
    """``/healthz``, ``/readyz`` and ``/metrics``; they need no API key."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        if problems := health.problems():
            return web.json_response({"status": "not ready", "problems": problems}, status=503)
        return web.json_response({"status": "ready"})

    return [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", _metrics)]


async def _metrics(request: web.Request) -> web.Response:
    # Prometheus asks for OpenMetrics, people and older scrapers for text; the encoder that fits answers with its own type.
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(metrics.registry), headers={"Content-Type": content_type})
