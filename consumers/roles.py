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

from consumers.grants import Grantee, used_topics
from consumers.held import HeldDeliveries
from consumers.parts import (
    Deliveries,
    make_api,
    make_deliveries,
    make_fan_out,
    make_held,
    make_producer,
    make_recorder,
    make_retry,
    open_tracing,
)
from consumers.recorder import Recorder
from consumers.starting import Patience, Recording, prepare_store, watch_store
from consumers.upkeep import Upkeep
from pipeline.broker.api import TopicError, UnavailableError
from pipeline.broker.choice import open_broker
from pipeline.broker.kafka.probe import EVERY_SECONDS as ASKED_EVERY
from pipeline.broker.kafka.probe import BrokerProbe
from pipeline.broker.producer import Producer
from pipeline.broker.table import CompactedTable
from pipeline.broker.topic_ids import TopicIds
from pipeline.broker.worker import Worker
from pipeline.delivery.losses import Losses
from pipeline.endpoints.health import HealthTable
from pipeline.ops import metrics
from pipeline.ops.certificates import watch as watch_certificates
from pipeline.ops.clock import utc_now
from pipeline.ops.descriptors import Budget, descriptor_limit, raise_descriptor_limit
from pipeline.ops.health import Health
from pipeline.ops.logs import logger
from pipeline.ops.memory import give_back_large_blocks
from pipeline.ops.probes import Probe, Probes
from pipeline.ops.settings import Settings
from pipeline.ops.slots import claim_slot
from pipeline.ops.threads import in_thread
from pipeline.store.backfill import Backfill
from pipeline.store.connection import Connections
from pipeline.store.retention import Retention
from pipeline.web.api import Api
from pipeline.web.server import WebServer, make_app
from pipeline.web.visitors import VisitorLimits
from schemas.codec import to_json
from schemas.topic_ids import TOPIC_IDS_KEY

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
async def running(settings: Settings, roles: Collection[Role], *, ends_when_refused: bool = False) -> AsyncIterator[Running]:
    """Run roles in this process; on leaving, drain them: no more input, finish what is under way, commit, close.

    It begins when the roles work. While Kafka is away they wait for it, and the recorder for ClickHouse. What waiting cannot mend
    (a wrong password, a right that is missing) they wait for too, unless it ``ends_when_refused``.
    """
    _check(settings, roles)
    give_back_large_blocks()
    before, limit = raise_descriptor_limit()
    log.info("file descriptors", limit=limit, limit_at_start=before)
    async with AsyncExitStack() as stack:
        composition = _Composition(settings, frozenset(roles), stack, ends_when_refused=ends_when_refused)
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

    def __init__(self, settings: Settings, roles: frozenset[Role], stack: AsyncExitStack, *, ends_when_refused: bool) -> None:
        self._settings = settings
        self._roles = roles
        self._stack = stack
        self._ends_when_refused = ends_when_refused
        self._health = Health(starting=True)
        self._probes = Probes()
        self._budget = Budget(descriptor_limit(), settings.max_in_flight if roles & DELIVERING else 0)
        if problem := self._budget.problem():
            log.warning("there are too few file descriptors", problem=problem)
        self._health.warn("descriptors", self._budget.problem)

    async def start(self) -> Running:
        settings, roles = self._settings, self._roles
        self._tracing = open_tracing(settings, roles)
        if self._tracing is not None:
            self._stack.push_async_callback(asyncio.to_thread, self._tracing.close)  # the last: all others may end spans
        # Built first and started after the server: /healthz answers from the beginning on, and the API that it is starting.
        connections = Connections(settings) if roles & {Role.RECORDER, Role.API} else None
        self._broker = broker = open_broker(settings, slot=self._slot())
        producer = make_producer(settings, broker)
        self._losses = Losses(producer, settings.topics.endpoint_health)
        self._health.warn("records missing", self._losses.warning)
        self._topic_ids = TopicIds(
            used_topics((Grantee(role.value) for role in roles), settings.topics)[0] - {settings.topics.clock}
        )
        self._health.add("topics", self._topic_ids.problem)
        deliveries = make_deliveries(settings, broker, producer, self._tracing) if roles - {Role.RECORDER} else None
        api = None
        if Role.API in roles and deliveries is not None and connections is not None:
            api = make_api(settings, broker, producer, connections, deliveries)
        self._kafka = self._watch_kafka(producer)
        clickhouse, tables = self._prepare_store(connections) if connections is not None else (None, None)
        app = make_app(health=self._health, api=api, tracing=self._tracing)
        server = WebServer(app, settings.http_host, settings.http_port, VisitorLimits(most=self._budget.visitors))
        running = Running(await server.start(), roles, self._health)
        self._stack.push_async_callback(server.stop)  # for when a part below does not start
        self._probes.start()
        running.failures.append(self._made_anew)
        await self._start_clients(producer)
        await self._start_health_table(deliveries.health if deliveries is not None else None, producer)
        if deliveries is not None:
            running.failures += await self._start_deliveries(producer, deliveries)
        if api is not None:
            running.failures.append(await self._start_table("api keys", api.ring.table))
            running.failures.append(await self._start_table("sessions", api.ended_sessions.table))
            running.first_key = await self._settle(api)
        certificates = asyncio.create_task(watch_certificates(self._settings))
        self._stack.callback(certificates.cancel)
        # What the API works with is there now, and outlives it: requests under way are answered before that is taken down.
        self._stack.push_async_callback(server.stop)
        if connections is not None and clickhouse is not None and tables is not None:
            recorder = self._make_recorder(producer, connections) if Role.RECORDER in roles else None
            upkeep = self._make_upkeep(recorder, connections) if recorder is not None else None
            running.failures.append(await self._start_recording(clickhouse, Recording(tables, recorder, self._kafka, upkeep)))
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

    def _watch_kafka(self, producer: Producer) -> Patience:
        read, written = used_topics((Grantee(role.value) for role in self._roles), self._settings.topics)
        broker = BrokerProbe(self._settings, read=read, written=written)
        self._stack.push_async_callback(broker.close)
        self._stack.push_async_callback(self._probes.stop)
        self._health.warn("source topics", broker.warning)
        broker.on_ids = self._topic_ids.see
        self._made_anew: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails when a topic is made anew below the feet of a running process: its positions mean nothing any more."""
        were_anew: list[str] = []

        async def ask() -> None:
            """What brokers say of replicas may be old: also ask whether they take what is written."""
            nonlocal were_anew
            await broker.ask()
            are_anew = [] if self._health.starting else self._topic_ids.made_anew()
            if were_anew and are_anew and not self._made_anew.done():  # seen twice: one broker alone may be behind the others
                self._made_anew.set_exception(TopicError(str(self._topic_ids.problem())))
            were_anew = are_anew
            if problem := producer.problem():
                raise UnavailableError(problem)

        probe = self._probes.add("kafka", ask, every=ASKED_EVERY)
        return self._watch("Kafka", probe, needed_by={Role.FANOUT, Role.RETRY, Role.RECORDER})

    def _watch(self, name: str, probe: Probe, *, needed_by: Collection[Role]) -> Patience:
        """Let ``/readyz`` tell of a dependency. Who does not need it at all times is ready without it, once it has started."""
        always = not self._roles.isdisjoint(needed_by)
        for_start = always or name == "Kafka"  # every role waits for it
        patience = Patience(probe, ends_when_refused=self._ends_when_refused)
        if for_start:
            self._health.add_wait(name, patience.is_waiting)

        def is_needed() -> bool:
            return always or (for_start and self._health.starting)

        self._health.add(probe.outage.dependency, lambda: patience.problem() if is_needed() else None)
        self._health.warn(probe.outage.dependency, lambda: None if is_needed() else patience.problem())
        return patience

    async def _start_clients(self, producer: Producer) -> None:
        self._existing_topics = await self._kafka.take(lambda: in_thread(self._ensure_topics, "topics"))
        await self._kafka.take(producer.start)
        self._stack.push_async_callback(producer.close)

    async def _start_health_table(self, health: HealthTable | None, producer: Producer) -> None:
        """Read the topic that also tells which topics are known, and refuse those that were made anew."""
        table = health or HealthTable(self._broker, self._settings.topics.endpoint_health)
        table.on_missing = self._losses.learn
        table.on_topic_ids = self._topic_ids.learn
        await self._kafka.take(table.table.start)
        self._stack.push_async_callback(table.table.stop)
        await self._kafka.take(self._refuse_topics_made_anew)
        if (known := self._topic_ids.to_write(utc_now())) is not None:
            await producer.send(self._settings.topics.endpoint_health, key=TOPIC_IDS_KEY, value=to_json(known))

    async def _refuse_topics_made_anew(self) -> None:
        if problem := self._topic_ids.problem():
            raise TopicError(problem)

    def _ensure_topics(self) -> list[str]:
        """Make the topics that are missing; returns all that there are."""
        specs = self._settings.topics.specs()
        with self._broker.admin() as admin:
            if created := admin.create_missing(specs):
                log.info("made topics", topics=created)
            for difference in admin.differences(specs):
                log.warning("a topic is not as it must be; see `oms-webhooks topics`", difference=str(difference))
            self._topic_ids.see(admin.ids([spec.name for spec in specs]))
            return admin.names()

    async def _start_deliveries(self, producer: Producer, deliveries: Deliveries) -> list[asyncio.Future[None]]:
        await deliveries.clock.start(producer)
        self._stack.push_async_callback(deliveries.clock.stop)
        self._health.warn("clock", deliveries.clock.warning)
        registry = deliveries.registry
        # Deliveries to an endpoint whose secrets cannot be opened wait. With a wrong key all of them do; the API can still show everything.
        self._health.add("endpoints", registry.problem if self._roles & DELIVERING else registry.table.problem)
        await self._kafka.take(registry.table.start)
        self._stack.push_async_callback(registry.table.stop)
        registry.refuse_newer()
        if problem := registry.wrong_key() or registry.unusable():
            log.warning("not every endpoint can be delivered to", problem=problem)
        if unsent := {endpoint.id: endpoint.unsent_headers for endpoint in registry.all() if endpoint.unsent_headers}:
            log.warning("custom headers that look like the sender's own are not sent", headers_by_endpoint=unsent)
        await deliveries.sender.start()
        self._stack.push_async_callback(deliveries.sender.close)
        self._stack.callback(deliveries.watch.close)
        self._health.warn("own faults", deliveries.courier.own_faults.warning)
        self._stack.callback(deliveries.courier.own_faults.close)
        return [registry.table.stopped, deliveries.health.table.stopped]

    async def _start_table(self, name: str, table: CompactedTable) -> asyncio.Future[None]:
        self._health.add(name, table.problem)
        await self._kafka.take(table.start)
        self._stack.push_async_callback(table.stop)
        return table.stopped

    async def _settle(self, api: Api) -> str | None:
        """What an API process writes when it starts; returns the first admin key, when it had to be made."""
        await api.registry.settle(api.producer)
        return None if self._settings.api_keys else await api.ring.create_first(api.producer, at=utc_now())

    def _prepare_store(self, connections: Connections) -> tuple[Patience, asyncio.Task[None]]:
        """Make the tables in the background."""
        self._stack.push_async_callback(connections.close)
        probe = self._probes.add("clickhouse", connections.ping)
        connections.refuse_reads_while(lambda: probe.outage.problem)
        clickhouse = self._watch("ClickHouse", probe, needed_by={Role.RECORDER})
        tables = asyncio.create_task(prepare_store(connections, clickhouse))
        self._stack.push_async_callback(_cancel, tables)
        self._stack.push_async_callback(_cancel, asyncio.create_task(watch_store(connections, tables)))
        return clickhouse, tables

    async def _start_recording(self, clickhouse: Patience, recording: Recording) -> asyncio.Future[None]:
        self._stop_later(lambda: recording.stop(self._settings.drain_seconds))
        # Neither deliveries nor the API wait for ClickHouse. Where it answers at once, they wait for what is done in a moment.
        await recording.until_begun(unless=None if self._roles == {Role.RECORDER} else clickhouse.has_waited)
        return recording.task

    async def _start_workers(self, producer: Producer, deliveries: Deliveries) -> list[asyncio.Future[None]]:
        """The fan-out and the retry."""
        settings = self._settings
        workers: list[tuple[str, Worker | HeldDeliveries]] = []
        if Role.FANOUT in self._roles:
            workers.append(("fanout", make_fan_out(settings, self._broker, producer, deliveries, self._tracing).worker))
        if Role.RETRY in self._roles:
            retry = make_retry(settings, self._broker, producer, deliveries, self._existing_topics, self._tracing)
            workers += [("retry", retry.worker), ("held", make_held(settings, self._broker, producer, deliveries, retry))]
        for name, worker in workers:
            self._health.add(name, worker.problem)
            if isinstance(worker, Worker):
                worker.consumer.on_missing = self._losses.note
        await asyncio.gather(*(self._kafka.take(worker.start) for _, worker in workers))
        self._stop_later(lambda: asyncio.gather(*(worker.stop(settings.drain_seconds) for _, worker in workers)))
        return [worker.failed for _, worker in workers]

    def _make_recorder(self, producer: Producer, connections: Connections) -> Recorder:
        recorder = make_recorder(self._settings, self._broker, producer, connections, self._tracing)
        self._health.add("recorder", recorder.problem)
        recorder.consumer.on_missing = self._losses.note
        return recorder

    def _make_upkeep(self, recorder: Recorder, connections: Connections) -> Upkeep:
        jobs = (Retention(connections, self._settings.retention_days), Backfill(connections))
        return Upkeep(jobs, recorder.keeps_the_store)

    def _stop_later(self, stop: Callable[[], Awaitable[object]]) -> None:
        async def stop_and_go_on() -> None:
            try:
                await stop()
            except Exception as error:  # noqa: BLE001 - the part said what is wrong through its future; the others must still be taken down
                log.warning("a part did not stop cleanly", error=repr(error))

        self._stack.push_async_callback(stop_and_go_on)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
