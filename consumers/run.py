"""The composition root: starts the roles from the settings, runs them, and stops them in order.

Only this module knows in which order the parts need each other; consumers/wiring.py builds them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumers.delivery_start import start_deliveries
from consumers.dependencies import KafkaDependency, watch_egress_proxy, watch_kafka
from consumers.garbage_collection import close_forgotten_sockets, freeze_startup_objects, tune_for_event_loop
from consumers.kafka_context import KafkaContext, make_kafka
from consumers.kafka_start import KafkaStart
from consumers.role import ALL_ROLES, DELIVERING, Role, RoleError, check_settings
from consumers.start_context import StartContext, start_context
from consumers.wiring import DeliveryContext, make_deliveries, open_tracing
from consumers.worker_start import WorkerStart
from pipeline.ops import metrics
from pipeline.ops.allocator import give_back_large_blocks
from pipeline.ops.certificates import watch as watch_certificates
from pipeline.ops.clock import utc_now
from pipeline.ops.file_descriptors import raise_descriptor_limit
from pipeline.ops.health import Health
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from pipeline.web.connection_guard import ConnectionLimits
from pipeline.web.server import WebServer, make_app

if TYPE_CHECKING:
    from consumers.store_start import StoreInPreparation
    from pipeline.ops.tracing import Tracing
    from pipeline.store.connection import Connections
    from pipeline.web.services import Api

__all__ = ["ALL_ROLES", "Role", "RoleError", "Running", "running"]

log = logger(__name__)


@dataclass(slots=True)
class Running:
    """What runs in this process, for the banner and for code that waits for its end."""

    url: str
    roles: frozenset[Role]
    health: Health
    first_key: str | None = field(default=None, repr=False)
    """An admin key that was created because there was none: show it once. It is not stored."""
    failures: list[asyncio.Future[None]] = field(default_factory=list)

    async def until_failed(self) -> None:
        """Never returns; raises the error that ended a part."""
        done, _ = await asyncio.wait(self.failures, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()


@asynccontextmanager
async def running(settings: Settings, roles: Collection[Role], *, ends_when_refused: bool = False) -> AsyncIterator[Running]:
    """Run roles in this process. At the end of the block, drain them: no more input, finish what is under way, commit, close.

    The block starts when the roles work. While Kafka is unavailable they wait for it, and the recorder waits for ClickHouse. With
    ``ends_when_refused``, a problem that waiting cannot fix (a wrong password, a missing right) is raised instead.
    """
    check_settings(settings, roles)
    give_back_large_blocks()
    before, limit = raise_descriptor_limit()
    log.info("file descriptors", limit=limit, limit_at_start=before)
    async with AsyncExitStack() as stack:
        yield await start(start_context(settings, frozenset(roles), stack, ends_when_refused=ends_when_refused))
        log.info("stopping", roles=sorted(roles))


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is built before the server starts. Nothing of it has connected yet."""

    tracing: Tracing | None
    kafka: KafkaContext
    deliveries: DeliveryContext | None
    api: Api | None
    dependency: KafkaDependency
    store: StoreInPreparation | None


async def start(context: StartContext) -> Running:
    """Start the parts in the order of their dependencies. The exit stack stops them in reverse order."""
    # From the first scrape: the dashboards of a role also show processes that wait for Kafka or ClickHouse.
    for role in context.roles:
        metrics.ROLE.labels(role).set(1)
        context.stack.callback(metrics.ROLE.remove, role)
    # Built first, but started after the server: /healthz answers from the beginning, and the API answers that it is starting.
    parts = _build(context)
    # Stopped before what they ask is closed: a question to closed connections would count as an outage.
    context.stack.push_async_callback(context.probes.stop)
    server = _make_server(context, parts)
    running = Running(await server.start(), context.roles, context.health)
    context.stack.push_async_callback(server.stop)  # in case a part below does not start
    context.probes.start()
    running.failures.append(parts.dependency.recreated)
    kafka = KafkaStart(context, parts.kafka, parts.dependency.retries)
    existing_topics = await kafka.ensure_topics()
    await kafka.start_parts(parts.deliveries)
    await kafka.write_new_topic_ids()
    if parts.deliveries is not None:
        running.failures += await start_deliveries(context, parts.deliveries)
    if parts.api is not None:
        running.failures += await _start_api(parts.api, kafka)
    context.in_background(watch_certificates(context.settings), "certificates")
    # Everything that the API needs exists now, and is stopped after it, so requests under way are answered.
    context.stack.push_async_callback(server.stop)
    running.failures += await _start_consumers(context, parts, existing_topics)
    running.first_key = await _first_key(context, parts.api)
    freeze_startup_objects()
    context.health.starting = False
    return running


def _build(context: StartContext) -> _Parts:
    """Nothing is awaited here, so the background tasks begin when the server starts."""
    settings = context.settings
    tracing = open_tracing(settings, context.roles)
    if tracing is not None:
        context.stack.push_async_callback(asyncio.to_thread, tracing.close)  # closed last: the other parts may end spans
    connections = _connections(context)
    kafka = make_kafka(context)
    deliveries = api = None
    if context.roles - {Role.RECORDER}:
        deliveries = make_deliveries(settings, kafka.broker, kafka.producer, kafka.clock, kafka.health, tracing)
        watch_egress_proxy(context, deliveries.guard)
    # Also while the start waits for Kafka, perhaps for a day.
    context.in_background(close_forgotten_sockets(lambda: _connections_to_endpoints(deliveries)), "garbage")
    if Role.API in context.roles and deliveries is not None and connections is not None:
        from consumers.store_wiring import make_api  # noqa: PLC0415 - see _connections

        api = make_api(settings, kafka.broker, kafka.producer, connections, deliveries)
    dependency = watch_kafka(context, kafka)
    store = _start_store(context, connections) if connections is not None else None
    return _Parts(tracing, kafka, deliveries, api, dependency, store)


def _connections(context: StartContext) -> Connections | None:
    """Code that uses ClickHouse is loaded only here and below: without it, the fan-out and the retry start in half the time."""
    if not context.roles & {Role.RECORDER, Role.API}:
        return None
    from pipeline.store.connection import Connections  # noqa: PLC0415 - see above

    return Connections(context.settings)


def _connections_to_endpoints(deliveries: DeliveryContext | None) -> int:
    return 0 if deliveries is None else deliveries.sender.connections


def _start_store(context: StartContext, connections: Connections) -> StoreInPreparation:
    from consumers.store_start import start_store  # noqa: PLC0415 - see _connections

    return start_store(context, connections)


def _make_server(context: StartContext, parts: _Parts) -> WebServer:
    return WebServer(
        make_app(health=context.health, api=parts.api, tracing=parts.tracing),
        context.settings.http_host,
        context.settings.http_port,
        ConnectionLimits(most=context.descriptors.visitors),
    )


async def _start_api(api: Api, kafka: KafkaStart) -> list[asyncio.Future[None]]:
    tables_read = [
        await kafka.start_table(api.ring.table, "api keys"),
        await kafka.start_table(api.ended_sessions.table, "sessions"),
    ]
    # What an API process writes when it starts.
    await api.registry.settle(api.producer)
    await api.catalogue.settle(api.producer)
    return tables_read


async def _start_consumers(context: StartContext, parts: _Parts, existing_topics: Collection[str]) -> list[asyncio.Future[None]]:
    """Start what the roles consume with: the recorder, the fan-out and the retry."""
    failures: list[asyncio.Future[None]] = []
    if parts.store is not None:
        from consumers.store_start import start_recording  # noqa: PLC0415 - see _connections

        failures.append(await start_recording(context, parts.store, parts.kafka, parts.dependency.retries, parts.tracing))
    if context.roles & DELIVERING and parts.deliveries is not None:
        workers = WorkerStart(context, parts.kafka, parts.dependency, parts.deliveries, parts.tracing)
        failures += await workers.start(existing_topics)
        tune_for_event_loop()
    return failures


async def _first_key(context: StartContext, api: Api | None) -> str | None:
    """The first admin key, if it had to be created.

    The last step: if another one failed after it, the key would never be shown, and there would be no other.
    """
    if api is None or context.settings.api_keys:
        return None
    return await api.ring.create_first(api.producer, at=utc_now())
