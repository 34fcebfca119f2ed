"""``GET /api/webhook/endpoints/{id}/stats``: the statistics of an endpoint for the last 24 hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Final

from aiohttp import web

from pipeline.web.endpoint_writes import find_endpoint
from pipeline.web.request_values import path_id
from pipeline.web.responses import answer
from pipeline.web.routes import Route
from pipeline.web.search_errors import searching
from pipeline.web.services import StatsServices
from schemas.api_key import Access
from schemas.http.operations import BucketAnswer, DurationAnswer, LastFailureAnswer, StatsAnswer

_BUCKETS: Final = 24
_WIDTH: Final = timedelta(hours=1)


async def show(api: StatsServices, request: web.Request) -> web.Response:
    endpoint = find_endpoint(api, path_id(request))
    async with searching(api):
        return answer(await endpoint_stats(api, endpoint.id))


STATS_ROUTES: Final[Sequence[Route[StatsServices]]] = (
    Route(
        "GET",
        "/webhook/endpoints/{id}/stats",
        show,
        Access.VIEWER,
        "Get the statistics of an endpoint for the last 24 hours",
        {200: StatsAnswer},
        errors=(422, 503),
    ),
)


async def endpoint_stats(api: StatsServices, endpoint_id: int) -> StatsAnswer:
    """The statistics of an endpoint for the last 24 hours. Raises the store's errors."""
    until = api.clock()
    found = await api.reports.endpoint_stats(endpoint_id, until, buckets=_BUCKETS, width=_WIDTH)
    succeeded = sum(bucket.succeeded for bucket in found.buckets)
    failed = sum(bucket.failed for bucket in found.buckets)
    made = succeeded + failed
    return StatsAnswer(
        endpoint_id=endpoint_id,
        since=until - _BUCKETS * _WIDTH,
        until=until,
        attempts=made,
        succeeded=succeeded,
        failed=failed,
        discarded=found.discarded,
        success_rate=succeeded / made if made else None,
        duration_ms=None if found.duration_ms is None else _durations(found.duration_ms),
        last_failure=None if found.last_failure is None else LastFailureAnswer(**asdict(found.last_failure)),
        buckets=[BucketAnswer(**asdict(bucket)) for bucket in found.buckets],
    )


def _durations(percentiles: tuple[float, float, float]) -> DurationAnswer:
    half, most, nearly_all = percentiles
    return DurationAnswer(p50=round(half, 3), p95=round(most, 3), p99=round(nearly_all, 3))
