"""Starts what the fan-out, the retry and the API's test deliveries share, when the endpoints are known."""

from __future__ import annotations

import asyncio

from consumers.role import DELIVERING, KNOWING_TYPES
from consumers.start_context import StartContext
from consumers.wiring import DeliveryContext
from pipeline.endpoints.registry import Registry
from pipeline.ops import metrics
from pipeline.ops.logs import logger

log = logger(__name__)


async def start_deliveries(context: StartContext, deliveries: DeliveryContext) -> list[asyncio.Future[None]]:
    """Returns the futures of the tables that are read."""
    registry, stack, service = deliveries.registry, context.stack, deliveries.delivery_service
    registry.refuse_newer()
    _warn_of_endpoints(registry)
    tables_read = []
    if context.roles & KNOWING_TYPES:
        tables_read.append(deliveries.event_types.table.stopped)
    if context.roles & DELIVERING:
        stack.push_async_callback(deliveries.rate_shares.close)  # it writes, so the producer is closed after it
        tables_read.append(deliveries.rate_shares.table.stopped)
    metrics.SLOW_ENDPOINTS.set_function(lambda: service.admission.slow_endpoints)
    metrics.ENDPOINT_ATTEMPTS.show(context.settings.metrics_top_endpoints)
    await deliveries.sender.start()
    stack.push_async_callback(deliveries.sender.close)
    stack.callback(deliveries.health_monitor.close)
    stack.callback(deliveries.filter_failures.close)
    context.health.warn("own faults", service.own_faults.warning)
    stack.callback(service.own_faults.close)
    return [registry.table.stopped, deliveries.health.table.stopped, *tables_read]


def _warn_of_endpoints(registry: Registry) -> None:
    if problem := registry.wrong_key() or registry.unusable():
        log.warning("not every endpoint can be delivered to", problem=problem)
    if unsent := {endpoint.id: endpoint.unsent_headers for endpoint in registry.all() if endpoint.unsent_headers}:
        log.warning("custom headers that look like the sender's own are not sent", headers_by_endpoint=unsent)
