"""The composition root: builds each role from the settings, runs it, and takes it down in order.

Nothing else in the project knows how the parts fit together.
"""

from __future__ import annotations

import asyncio
import enum
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from consumers.fanout import FanOut
from consumers.recorder import Recorder
from consumers.retry import Retry
from pipeline.broker.admin import TopicAdmin
from pipeline.broker.client import consumer_config, producer_config
from pipeline.broker.producer import Producer
from pipeline.core.circuit import CircuitLimits
from pipeline.core.retry import RetrySchedule
from pipeline.delivery.courier import Courier
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.gate import Gate
from pipeline.delivery.watch import Watch
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.operational import operational_endpoint
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops.clock import utc_now
from pipeline.ops.health import Health
from pipeline.ops.logs import logger
from pipeline.ops.memory import give_back_large_blocks
from pipeline.ops.settings import Settings
from pipeline.sender.client import Sender, SenderLimits
from pipeline.sender.guard import AddressGuard
from pipeline.sender.lanes import Lanes
from pipeline.store.analyst import Analyst
from pipeline.store.connection import Connections
from pipeline.store.migrate import migrate
from pipeline.store.reports import Reports
from pipeline.store.search import Search
from pipeline.store.writer import Writer
from pipeline.web.api import Api
from pipeline.web.auth import ApiKeys
from pipeline.web.key_ring import KeyRing
from pipeline.web.server import WebServer, make_app

log = logger(__name__)


class Role(enum.StrEnum):
    """What a process does."""

    FANOUT = "fanout"
    RETRY = "retry"
    RECORDER = "recorder"
    API = "api"


ALL_ROLES = frozenset(Role)
DELIVERING = frozenset({Role.FANOUT, Role.RETRY})


class RoleError(Exception):
    """A role cannot start; ``str(error)`` says what to do."""


@dataclass(slots=True)
class Running:
    """What runs in this process: for the banner and for those who wait for it."""

    url: str
    roles: frozenset[Role]
    health: Health
    first_key: str | None = field(default=None, repr=False)
    """An admin key, made because there was none: to be shown once. It is kept nowhere."""
    failures: list[asyncio.Future[None]] = field(default_factory=list)

    async def until_failed(self) -> None:
        """Return never, but raise what ended a part of it."""
        done, _ = await asyncio.wait(self.failures, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()


@asynccontextmanager
async def running(settings: Settings, roles: Collection[Role]) -> AsyncIterator[Running]:
    """Run roles in this process; on leaving, drain them: no more input, finish what is under way, commit, close."""
    _check(settings, roles)
    give_back_large_blocks()
    async with AsyncExitStack() as stack:
        composition = _Composition(settings, frozenset(roles), stack)
        yield await composition.start()
        log.info("stopping", roles=sorted(roles))


def _check(settings: Settings, roles: Collection[Role]) -> None:
    if not settings.kafka_bootstrap_servers:
        message = "No Kafka is configured; set OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS, or run `oms-webhooks all`."
        raise RoleError(message)
    if settings.encryption_key is None and set(roles) != {Role.RECORDER}:
        message = (
            "No key for endpoint secrets; make one with `oms-webhooks new-key`, set OMS_WEBHOOKS_ENCRYPTION_KEY in every role."
        )
        raise RoleError(message)


def _favour_the_event_loop() -> None:
    """Give CPU time to deliveries. Measured with tests/bench/path.py's load: from 325 to 291 µs a delivery.

    What was built at start-up lives as long as the process, and the deliveries leave no cycles behind: the garbage collector need
    not walk through all of them again and again. Kafka's threads may wait a little longer for the interpreter: each hand-over
    costs the loop its caches.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
    sys.setswitchinterval(0.02)


def _gate(settings: Settings, watch: Watch) -> Gate:
    limits = CircuitLimits(
        failures=settings.circuit_failures,
        open_seconds=settings.circuit_open_seconds,
        max_open_seconds=settings.circuit_open_max_seconds,
        max_asked_seconds=settings.retry_delays[-1].total_seconds(),
    )
    wait = settings.endpoint_wait_seconds
    lanes = Lanes(settings.max_in_flight_per_endpoint, wait, settings.slow_budget)
    return Gate(lanes, limits, longest_wait=wait, most_waiting=settings.slow_budget, on_change=watch.circuit_changed)


class _Composition:
    """Builds the parts in the order of their needs. The exit stack takes them down in the opposite order."""

    def __init__(self, settings: Settings, roles: frozenset[Role], stack: AsyncExitStack) -> None:
        self._settings = settings
        self._roles = roles
        self._stack = stack
        self._health = Health()
        self._guard = AddressGuard(settings.allowed_networks)

    async def start(self) -> Running:
        settings, roles = self._settings, self._roles
        started = {"ready": False}
        self._health.add("startup", lambda: None if started["ready"] else "starting")
        # The parts that others need come first, and are taken down last.
        connections = await self._connections() if roles & {Role.RECORDER, Role.API} else None
        self._existing_topics = await asyncio.to_thread(self._ensure_topics)
        topics = [spec.name for spec in settings.topics.specs()]
        producer = Producer(producer_config(settings), topics, max_bytes=settings.max_outstanding_bytes)
        await producer.start()
        self._stack.push_async_callback(producer.close)
        registry = await self._registry() if roles - {Role.RECORDER} else None
        courier = None
        if registry is not None and registry.health is not None:
            courier = await self._courier(producer, registry.health)
        api = None
        first_key = None
        if Role.API in roles and registry is not None and courier is not None and connections is not None:
            await registry.settle(producer)
            ring = await self._key_ring()
            if not settings.api_keys:
                first_key = await ring.create_first(producer, at=utc_now())
            api = self._api(registry, producer, connections, courier, ring)
        server = WebServer(make_app(health=self._health, api=api), settings.http_host, settings.http_port)
        running = Running(await server.start(), roles, self._health, first_key)
        self._stack.push_async_callback(server.stop)
        if registry is not None and registry.health is not None:
            running.failures += [registry.table.stopped, registry.health.table.stopped]
        if api is not None:
            running.failures.append(api.ring.table.stopped)
        if Role.RECORDER in roles and connections is not None:
            running.failures.append(await self._recorder(producer, connections))
        if registry is not None and courier is not None:
            running.failures += await self._deliverers(producer, registry, courier)
        if roles & DELIVERING:
            _favour_the_event_loop()
        started["ready"] = True
        return running

    def _ensure_topics(self) -> list[str]:
        """Make the topics that are missing; returns all that there are."""
        specs = self._settings.topics.specs()
        with TopicAdmin(self._settings) as admin:
            if created := admin.create_missing(specs):
                log.info("made topics", topics=created)
            for difference in admin.differences(specs):
                log.warning("a topic is not as it must be; see `oms-webhooks topics`", difference=str(difference))
            return admin.names()

    async def _connections(self) -> Connections:
        connections = Connections(self._settings)
        self._stack.push_async_callback(connections.close)
        await migrate(connections, self._settings.retention_days)
        return connections

    async def _registry(self) -> Registry:
        key = self._settings.encryption_key
        vault = Vault(key.get_secret_value() if key else "")
        self._vault = vault
        config = consumer_config(self._settings)
        health = HealthTable(config, self._settings.topics.endpoint_health)
        operational = operational_endpoint(self._settings)
        registry = Registry(config, self._settings.topics.endpoints, vault, health=health, operational=operational)
        # Deliveries to an endpoint whose secrets cannot be opened wait; the API can do all its work all the same.
        self._health.add("endpoints", registry.problem if self._roles & DELIVERING else registry.table.problem)
        for table in (health.table, registry.table):
            await table.start()
            self._stack.push_async_callback(table.stop)
        registry.refuse_newer()
        return registry

    async def _key_ring(self) -> KeyRing:
        ring = KeyRing(consumer_config(self._settings), self._settings.topics.api_keys)
        self._health.add("api keys", ring.table.problem)
        await ring.table.start()
        self._stack.push_async_callback(ring.table.stop)
        return ring

    def _api(self, registry: Registry, producer: Producer, connections: Connections, courier: Courier, ring: KeyRing) -> Api:
        return Api(
            registry=registry,
            producer=producer,
            vault=self._vault,
            guard=self._guard,
            search=Search(connections),
            reports=Reports(connections),
            courier=courier,
            topics=self._settings.topics,
            ring=ring,
            keys=ApiKeys(self._settings.api_keys, ring.valid),
            clock=utc_now,
            proxies=self._settings.trusted_proxies,
            test_timeout_seconds=self._settings.request_timeout_seconds + 10.0,
            # A ClickHouse server is asked directly, with users and roles of its own (deploy/clickhouse).
            analyst=Analyst(connections) if connections.is_embedded else None,
        )

    async def _recorder(self, producer: Producer, connections: Connections) -> asyncio.Future[None]:
        dead_letters = DeadLetters(producer, self._settings.topics.dead_letters, utc_now)
        recorder = Recorder(
            self._settings, consumer_config(self._settings), writer=Writer(connections), dead_letters=dead_letters
        )
        self._health.add("recorder", recorder.problem)
        await recorder.start()
        self._stop_later(lambda: recorder.stop(self._settings.drain_seconds))
        return recorder.failed

    async def _courier(self, producer: Producer, health: HealthTable) -> Courier:
        """The fan-out, the retry and the API's test deliveries share a sender and its bounds."""
        settings = self._settings
        sender = Sender(
            SenderLimits(settings.max_in_flight, settings.request_timeout_seconds, settings.connect_timeout_seconds), self._guard
        )
        await sender.start()
        self._stack.push_async_callback(sender.close)
        disable_after = timedelta(days=settings.disable_after_days)
        watch = Watch(health, producer, settings.topics, utc_now, disable_after=disable_after)
        self._stack.callback(watch.close)
        return Courier(
            sender=sender,
            gate=_gate(settings, watch),
            watch=watch,
            producer=producer,
            topics=settings.topics,
            schedule=RetrySchedule(settings.retry_delays),
            clock=utc_now,
        )

    async def _deliverers(self, producer: Producer, registry: Registry, courier: Courier) -> list[asyncio.Future[None]]:
        """The fan-out and the retry."""
        settings, roles = self._settings, self._roles
        if not roles & DELIVERING:
            return []
        dead_letters = DeadLetters(producer, settings.topics.dead_letters, utc_now)
        config = consumer_config(settings)
        workers = []
        if Role.FANOUT in roles:
            fan_out = FanOut(settings, config, registry=registry, courier=courier, producer=producer, dead_letters=dead_letters)
            workers.append(("fanout", fan_out.worker))
        if Role.RETRY in roles:
            retry = Retry(
                settings,
                config,
                registry=registry,
                courier=courier,
                dead_letters=dead_letters,
                existing_topics=self._existing_topics,
            )
            workers.append(("retry", retry.worker))
        for name, worker in workers:
            self._health.add(name, worker.consumer.problem)
        await asyncio.gather(*(worker.start() for _, worker in workers))
        self._stop_later(lambda: asyncio.gather(*(worker.stop(settings.drain_seconds) for _, worker in workers)))
        return [worker.failed for _, worker in workers]

    def _stop_later(self, stop: Callable[[], Awaitable[object]]) -> None:
        async def stop_and_go_on() -> None:
            try:
                await stop()
            except Exception as error:  # noqa: BLE001 - the part said what is wrong through its future; the others must still be taken down
                log.warning("a part did not stop cleanly", error=repr(error))

        self._stack.push_async_callback(stop_and_go_on)
