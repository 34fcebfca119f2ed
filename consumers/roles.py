"""The composition root: starts each role from the settings, runs it, and takes it down in order.

Nothing else in the project knows in which order the parts need each other; consumers/parts.py builds them.
"""

from __future__ import annotations

import asyncio
import enum
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from consumers.parts import (
    Deliveries,
    make_api,
    make_deliveries,
    make_fan_out,
    make_producer,
    make_recorder,
    make_retry,
    open_tracing,
)
from consumers.recorder import Recorder
from pipeline.broker.choice import open_broker
from pipeline.broker.kafka.probe import BrokerProbe
from pipeline.broker.producer import Producer
from pipeline.ops import metrics
from pipeline.ops.certificates import watch as watch_certificates
from pipeline.ops.clock import utc_now
from pipeline.ops.health import Health
from pipeline.ops.logs import logger
from pipeline.ops.memory import give_back_large_blocks
from pipeline.ops.probes import Probes
from pipeline.ops.settings import Settings
from pipeline.ops.slots import claim_slot
from pipeline.store.connection import Connections
from pipeline.store.mend import mend_hourly_figures
from pipeline.store.migrate import migrate
from pipeline.store.search import Search
from pipeline.web.api import Api
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
    """Give CPU time to deliveries.

    What was built at start-up lives as long as the process, and deliveries leave no cycles behind, whether they succeed, fail or time out
    (nor does Kafka's client, see `pipeline.broker.kafka.compat`): the garbage collector need not walk through all of them again and again.
    Each time it does, it stops everything for 30 to 100 ms.

    Kafka's threads get the interpreter after 3 ms at the latest. They need it several times to hand a record over; with 20 ms each, deliveries
    waited for 20 to 40 ms whenever the loop was busy (tests/bench/isolation.py). With 1 ms, a delivery costs a tenth more CPU (tests/bench/path.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 10, 20)
    sys.setswitchinterval(0.003)


class _Composition:
    """Starts the parts in the order of their needs. The exit stack takes them down in the opposite order."""

    def __init__(self, settings: Settings, roles: frozenset[Role], stack: AsyncExitStack) -> None:
        self._settings = settings
        self._roles = roles
        self._stack = stack
        self._health = Health(starting=True)

    async def start(self) -> Running:
        settings, roles = self._settings, self._roles
        self._tracing = open_tracing(settings, roles)
        if self._tracing is not None:
            self._stack.push_async_callback(asyncio.to_thread, self._tracing.close)  # the last: all others may end spans
        # Built first and started after the server: /healthz answers from the beginning on, and the API that it is starting.
        connections = Connections(settings) if roles & {Role.RECORDER, Role.API} else None
        self._broker = broker = open_broker(settings, slot=self._slot())
        producer = make_producer(settings, broker)
        deliveries = make_deliveries(settings, broker, producer, self._tracing) if roles - {Role.RECORDER} else None
        api = None
        if Role.API in roles and deliveries is not None and connections is not None:
            api = make_api(settings, broker, producer, connections, deliveries)
        server = WebServer(make_app(health=self._health, api=api, tracing=self._tracing), settings.http_host, settings.http_port)
        running = Running(await server.start(), roles, self._health)
        self._stack.push_async_callback(server.stop)  # for when a part below does not start
        await self._start_clients(connections, producer)
        if deliveries is not None:
            running.failures += await self._start_deliveries(deliveries)
        if api is not None:
            running.failures.append(await self._start_keys(api.ring))
            running.first_key = await self._settle(api)
        self._watch_dependencies(connections)
        # What the API works with is there now, and outlives it: requests under way are answered before that is taken down.
        self._stack.push_async_callback(server.stop)
        if Role.RECORDER in roles and connections is not None:
            running.failures.append(
                await self._start_recorder(make_recorder(settings, broker, producer, connections, self._tracing))
            )
        if roles & DELIVERING and deliveries is not None:
            running.failures += await self._start_workers(producer, deliveries)
            _favour_the_event_loop()
        for role in roles:
            metrics.ROLE.labels(role).set(1)
            self._stack.callback(metrics.ROLE.remove, role)
        self._health.starting = False
        return running

    def _slot(self) -> str | None:
        """The name that this process's members have in their groups, also after a restart."""
        if not self._settings.kafka_static_members:
            return None
        slot = claim_slot(f"{self._settings.kafka_bootstrap_servers} {self._settings.kafka_topic_prefix} {sorted(self._roles)}")
        self._stack.callback(slot.release)
        return slot.name

    async def _start_clients(self, connections: Connections | None, producer: Producer) -> None:
        if connections is not None:
            self._stack.push_async_callback(connections.close)
            await migrate(connections, self._settings.retention_days)
            if lacking := await mend_hourly_figures(connections):
                log.warning("the hourly figures lacked attempts, as after a crash; they were mended", attempts=lacking)
        self._existing_topics = await asyncio.to_thread(self._ensure_topics)
        await producer.start()
        self._stack.push_async_callback(producer.close)

    def _ensure_topics(self) -> list[str]:
        """Make the topics that are missing; returns all that there are."""
        specs = self._settings.topics.specs()
        with self._broker.admin() as admin:
            if created := admin.create_missing(specs):
                log.info("made topics", topics=created)
            for difference in admin.differences(specs):
                log.warning("a topic is not as it must be; see `oms-webhooks topics`", difference=str(difference))
            return admin.names()

    async def _start_deliveries(self, deliveries: Deliveries) -> list[asyncio.Future[None]]:
        registry = deliveries.registry
        # Deliveries to an endpoint whose secrets cannot be opened wait; the API can do all its work all the same.
        self._health.add("endpoints", registry.problem if self._roles & DELIVERING else registry.table.problem)
        for table in (deliveries.health.table, registry.table):
            await table.start()
            self._stack.push_async_callback(table.stop)
        registry.refuse_newer()
        if problem := registry.problem():
            log.warning("not every endpoint can be delivered to", problem=problem)
        await deliveries.sender.start()
        self._stack.push_async_callback(deliveries.sender.close)
        self._stack.callback(deliveries.watch.close)
        return [registry.table.stopped, deliveries.health.table.stopped]

    async def _start_keys(self, ring: KeyRing) -> asyncio.Future[None]:
        self._health.add("api keys", ring.table.problem)
        await ring.table.start()
        self._stack.push_async_callback(ring.table.stop)
        return ring.table.stopped

    async def _settle(self, api: Api) -> str | None:
        """What an API process writes when it starts; returns the first admin key, when it had to be made."""
        await api.registry.settle(api.producer)
        return None if self._settings.api_keys else await api.ring.create_first(api.producer, at=utc_now())

    def _watch_dependencies(self, connections: Connections | None) -> None:
        probes, broker = Probes(), BrokerProbe(self._settings)
        self._stack.push_async_callback(broker.close)
        self._stack.push_async_callback(probes.stop)
        # Deliveries wait for Kafka by themselves, and the API has more to offer than searches: only metrics, but for the recorder.
        probes.watch("kafka", broker.ask)
        if connections is not None:
            clickhouse = probes.watch("clickhouse", Search(connections).ping)
            if Role.RECORDER in self._roles:
                self._health.add("clickhouse", clickhouse)
        certificates = asyncio.create_task(watch_certificates(self._settings))
        self._stack.callback(certificates.cancel)

    async def _start_recorder(self, recorder: Recorder) -> asyncio.Future[None]:
        self._health.add("recorder", recorder.problem)
        await recorder.start()
        self._stop_later(lambda: recorder.stop(self._settings.drain_seconds))
        return recorder.failed

    async def _start_workers(self, producer: Producer, deliveries: Deliveries) -> list[asyncio.Future[None]]:
        """The fan-out and the retry."""
        settings = self._settings
        workers = []
        if Role.FANOUT in self._roles:
            workers.append(("fanout", make_fan_out(settings, self._broker, producer, deliveries, self._tracing).worker))
        if Role.RETRY in self._roles:
            workers.append(
                ("retry", make_retry(settings, self._broker, producer, deliveries, self._existing_topics, self._tracing).worker)
            )
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
