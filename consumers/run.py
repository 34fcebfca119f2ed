"""The composition root: starts the roles from the settings, runs them, and stops them in order.

Only this module knows in which order the parts need each other; consumers/wiring.py builds them.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consumers.added_topics import AddedTopics
from consumers.garbage_collection import close_forgotten_sockets, freeze_startup_objects, tune_for_event_loop
from consumers.grants import Grantee, used_topics
from consumers.startup import StartupRetries
from consumers.unread_tables import UnreadTables
from consumers.wiring import (
    PROXY_ASKED_EVERY,
    DeliveryContext,
    egress_proxy_question,
    make_deliveries,
    make_fan_out,
    make_held,
    make_ordered,
    make_producer,
    make_retry,
    open_tracing,
)
from pipeline.broker.errors import TopicError, UnavailableError
from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.readiness_probe import EVERY_SECONDS as ASKED_EVERY
from pipeline.broker.kafka.readiness_probe import BrokerProbe
from pipeline.broker.producer import Producer
from pipeline.broker.table import CompactedTable
from pipeline.broker.topic_ids import TopicIds
from pipeline.delivery.broker_clock import BrokerClock
from pipeline.delivery.missing_records import MissingRecords
from pipeline.endpoints.health import HealthTable
from pipeline.ops import metrics
from pipeline.ops.allocator import give_back_large_blocks
from pipeline.ops.certificates import watch as watch_certificates
from pipeline.ops.clock import utc_now
from pipeline.ops.daemon_threads import in_thread
from pipeline.ops.dependency_probes import Probe, Probes
from pipeline.ops.file_descriptors import DescriptorBudget, descriptor_limit, raise_descriptor_limit
from pipeline.ops.health import Health
from pipeline.ops.instance_slots import claim_slot
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from pipeline.web.connection_guard import ConnectionLimits
from pipeline.web.server import WebServer, make_app
from schemas.codec import to_json
from schemas.topic_ids import TOPIC_IDS_KEY

if TYPE_CHECKING:
    from consumers.fanout import FanOut
    from consumers.held_deliveries import HeldDeliveries
    from consumers.ordered_deliveries import OrderedDeliveries
    from consumers.recorder import Recorder
    from consumers.store_wiring import Recording
    from pipeline.broker.record_worker import RecordWorker
    from pipeline.sender.client import Sender
    from pipeline.store.connection import Connections
    from pipeline.web.services import Api

    _Worker = RecordWorker | HeldDeliveries | OrderedDeliveries

log = logger(__name__)


class Role(enum.StrEnum):
    """The task of a process."""

    FANOUT = "fanout"
    RETRY = "retry"
    RECORDER = "recorder"
    API = "api"


ALL_ROLES = frozenset(Role)
DELIVERING = frozenset({Role.FANOUT, Role.RETRY})
_KNOWING_TYPES = frozenset({Role.FANOUT, Role.API})
"""They read events as producers write them. The other roles read only our own records."""


class RoleError(Exception):
    """A role cannot start; ``str(error)`` says what to do."""


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
        message = "There is no key for endpoint secrets. Create one with `oms-webhooks new-key`, and set OMS_WEBHOOKS_ENCRYPTION_KEY in every role."
        raise RoleError(message)
    if len({Role.RECORDER, Role.API} & set(roles)) == 1 and not settings.has_lasting_store:
        message = (
            "No ClickHouse is configured. A temporary directory would be lost at exit, and the recorder and the API could not share it. Set "
            "OMS_WEBHOOKS_CLICKHOUSE_URL, or run `oms-webhooks all` with OMS_WEBHOOKS_CLICKHOUSE_PATH."
        )
        raise RoleError(message)


class _Composition:
    """Starts the parts in the order of their dependencies. The exit stack stops them in reverse order."""

    def __init__(self, settings: Settings, roles: frozenset[Role], stack: AsyncExitStack, *, ends_when_refused: bool) -> None:
        self._settings = settings
        self._roles = roles
        self._stack = stack
        self._ends_when_refused = ends_when_refused
        self._sender: Sender | None = None
        self._health = Health(starting=True)
        self._probes = Probes()
        self._budget = DescriptorBudget(descriptor_limit(), settings.max_in_flight if roles & DELIVERING else 0)
        if problem := self._budget.problem():
            log.warning("there are too few file descriptors", problem=problem)
        self._health.warn("descriptors", self._budget.problem)

    async def start(self) -> Running:
        settings, roles = self._settings, self._roles
        self._tracing = open_tracing(settings, roles)
        if self._tracing is not None:
            self._stack.push_async_callback(asyncio.to_thread, self._tracing.close)  # closed last: the other parts may end spans
        # Also while the start waits for Kafka, perhaps for a day.
        self._in_background(close_forgotten_sockets(self._connections_to_endpoints), "garbage")
        # Built first, but started after the server: /healthz answers from the beginning, and the API answers that it is starting.
        connections = self._connections() if roles & {Role.RECORDER, Role.API} else None
        self._broker = broker = open_broker(settings, slot=self._slot())
        producer = make_producer(settings, broker)
        self._losses = MissingRecords(producer, settings.topics.endpoint_health)
        self._health.warn("records missing", self._losses.warning)
        self._topic_ids = TopicIds(
            used_topics((Grantee(role.value) for role in roles), settings.topics)[0]
            - {settings.topics.clock, settings.topics.rate_shares}  # their records mean nothing a few seconds later
        )
        self._health.add("topics", self._topic_ids.problem)
        deliveries = api = None
        if roles - {Role.RECORDER}:
            deliveries = make_deliveries(settings, broker, producer, self._tracing)
            self._sender = deliveries.sender
            self._watch_egress_proxy(deliveries)
        if Role.API in roles and deliveries is not None and connections is not None:
            from consumers.store_wiring import make_api  # noqa: PLC0415 - see _connections

            api = make_api(settings, broker, producer, connections, deliveries)
        self._kafka = self._watch_kafka(producer)
        clickhouse, tables = self._prepare_store(connections) if connections is not None else (None, None)
        # Stopped before what they ask is closed: a question to closed connections would count as an outage.
        self._stack.push_async_callback(self._probes.stop)
        server = WebServer(
            make_app(health=self._health, api=api, tracing=self._tracing),
            settings.http_host,
            settings.http_port,
            ConnectionLimits(most=self._budget.visitors),
        )
        running = Running(await server.start(), roles, self._health)
        self._stack.push_async_callback(server.stop)  # in case a part below does not start
        self._probes.start()
        running.failures.append(self._topics_recreated)
        self._existing_topics = await self._kafka.run(lambda: in_thread(self._ensure_topics, "topics"))
        await self._start_on_kafka(producer, deliveries)
        if (known := self._topic_ids.to_write(utc_now())) is not None:
            await producer.send(settings.topics.endpoint_health, key=TOPIC_IDS_KEY, value=to_json(known))
        if deliveries is not None:
            running.failures += await self._start_deliveries(deliveries)
        if api is not None:
            running.failures += [
                await self._start_table(api.ring.table, "api keys"),
                await self._start_table(api.ended_sessions.table, "sessions"),
            ]
            await self._settle(api)
        self._in_background(watch_certificates(self._settings), "certificates")
        # Everything that the API needs exists now, and is stopped after it, so requests under way are answered.
        self._stack.push_async_callback(server.stop)
        if connections is not None and clickhouse is not None and tables is not None:
            recorder = self._make_recorder(producer, connections) if Role.RECORDER in roles else None
            running.failures.append(await self._start_recording(clickhouse, self._recording(tables, recorder, connections)))
        if roles & DELIVERING and deliveries is not None:
            running.failures += await self._start_workers(producer, deliveries)
            tune_for_event_loop()
        running.first_key = await self._first_key(api)
        freeze_startup_objects()
        for role in roles:
            metrics.ROLE.labels(role).set(1)
            self._stack.callback(metrics.ROLE.remove, role)
        self._health.starting = False
        return running

    def _in_background(self, work: Coroutine[Any, Any, None], part: str) -> None:
        """Run work that nothing waits for. If it fails, the log says so."""

        def ended(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("a background task has failed", part=part, exc_info=error)

        task = asyncio.create_task(work)
        task.add_done_callback(ended)
        self._stack.callback(task.cancel)

    def _connections_to_endpoints(self) -> int:
        return 0 if self._sender is None else self._sender.connections

    def _connections(self) -> Connections:
        """Code that uses ClickHouse is loaded only here and below: without it, the fan-out and the retry start in half the time."""
        from pipeline.store.connection import Connections  # noqa: PLC0415 - see above

        return Connections(self._settings)

    def _slot(self) -> str | None:
        """The name of this process's group members, which survives a restart."""
        if not self._settings.kafka_static_members:
            return None
        slot = claim_slot(f"{self._settings.kafka_bootstrap_servers} {self._settings.kafka_topic_prefix} {sorted(self._roles)}")
        self._stack.callback(slot.release)
        return slot.name

    def _watch_kafka(self, producer: Producer) -> StartupRetries:
        read, written = used_topics((Grantee(role.value) for role in self._roles), self._settings.topics)
        self._broker_probe = broker = BrokerProbe(self._settings, read=read, written=written)
        self._stack.push_async_callback(broker.close)
        self._health.warn("source topics", broker.warning)
        self._health.warn("retention", broker.retention_warning)
        broker.on_ids = self._topic_ids.note_current
        self._topics_recreated: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails if a topic is recreated while the process runs: the offsets that it knows then mean nothing."""
        were_recreated: list[str] = []

        async def ask() -> None:
            """The brokers' view of replicas may be outdated, so also ask whether they accept writes."""
            nonlocal were_recreated
            await broker.ask()
            are_recreated = [] if self._health.starting else self._topic_ids.recreated()
            # Seen twice, because one broker alone may be behind the others.
            if were_recreated and are_recreated and not self._topics_recreated.done():
                self._topics_recreated.set_exception(TopicError(str(self._topic_ids.problem())))
            were_recreated = are_recreated
            if problem := producer.problem():
                raise UnavailableError(problem)

        probe = self._probes.add("kafka", ask, every=ASKED_EVERY)
        return self._watch("Kafka", probe, needed_by={Role.FANOUT, Role.RETRY, Role.RECORDER})

    def _watch_egress_proxy(self, deliveries: DeliveryContext) -> None:
        """Deliveries are parked while it is down. The process stays ready: taking it out of service would not help."""
        if (ask := egress_proxy_question(self._settings, deliveries.guard)) is not None:
            outage = self._probes.add("egress_proxy", ask, every=PROXY_ASKED_EVERY).outage
            self._health.warn("egress proxy", lambda: outage.problem)

    def _watch(self, name: str, probe: Probe, *, needed_by: Collection[Role]) -> StartupRetries:
        """Include a dependency in ``/readyz``. A role that does not always need it is ready without it, once it has started."""
        always = not self._roles.isdisjoint(needed_by)
        for_start = always or name == "Kafka"  # every role waits for it
        retries = StartupRetries(probe, ends_when_refused=self._ends_when_refused)
        if for_start:
            self._health.add_wait(name, retries.is_waiting)

        def is_needed() -> bool:
            return always or (for_start and self._health.starting)

        self._health.add(probe.outage.dependency, lambda: retries.problem() if is_needed() else None)
        self._health.warn(probe.outage.dependency, lambda: None if is_needed() else retries.problem())
        return retries

    async def _start_on_kafka(self, producer: Producer, deliveries: DeliveryContext | None) -> None:
        """Start the parts that only wait for Kafka, concurrently."""
        self._watch_tables()
        if deliveries is None:
            health = HealthTable(self._broker, self._settings.topics.endpoint_health)
            await _together(self._start_producer(producer), self._start_health_table(health))
            return
        registry = deliveries.registry
        steps: list[Coroutine[Any, Any, object]] = [
            self._start_producer(producer, deliveries.clock),
            self._start_health_table(deliveries.health),
            # Deliveries to an endpoint whose secrets cannot be opened wait. With a wrong key all of them wait, but the API can still
            # show everything.
            self._start_table(registry.table, "endpoints", registry.problem if self._roles & DELIVERING else None),
        ]
        if self._roles & _KNOWING_TYPES:  # no event is read before the event types are known: it would become a dead letter
            steps.append(self._start_table(deliveries.event_types.table, "event types"))
        if self._roles & DELIVERING:
            steps.append(self._start_table(deliveries.rate_shares.table))
        await _together(*steps)

    async def _start_producer(self, producer: Producer, clock: BrokerClock | None = None) -> None:
        """Also starts the clock that uses it."""
        await self._kafka.run(producer.start)
        self._stack.push_async_callback(producer.close)
        if clock is not None:
            await clock.start(producer)
            self._stack.push_async_callback(clock.stop)
            self._health.warn("clock", clock.warning)

    async def _start_health_table(self, health: HealthTable) -> None:
        """Read the topic that also contains the known topics, and refuse recreated ones."""
        health.on_missing = self._losses.learn
        health.on_topic_ids = self._topic_ids.learn
        await self._start_table(health.table)
        await self._kafka.run(self._refuse_recreated_topics)

    async def _refuse_recreated_topics(self) -> None:
        if problem := self._topic_ids.problem():
            raise TopicError(problem)

    def _ensure_topics(self) -> list[str]:
        """Create missing topics; returns all that exist."""
        specs = self._settings.topics.specs()
        with self._broker.admin() as admin:
            if created := admin.create_missing(specs):
                log.info("created topics", topics=created)
            for difference in admin.differences(specs):
                log.warning(
                    "a topic differs from its required configuration; see `oms-webhooks topics`", difference=str(difference)
                )
            self._topic_ids.note_current(admin.ids([spec.name for spec in specs]))
            return admin.names()

    async def _start_deliveries(self, deliveries: DeliveryContext) -> list[asyncio.Future[None]]:
        registry = deliveries.registry
        registry.refuse_newer()
        if problem := registry.wrong_key() or registry.unusable():
            log.warning("not every endpoint can be delivered to", problem=problem)
        if unsent := {endpoint.id: endpoint.unsent_headers for endpoint in registry.all() if endpoint.unsent_headers}:
            log.warning("custom headers that look like the sender's own are not sent", headers_by_endpoint=unsent)
        tables_read = []
        if self._roles & _KNOWING_TYPES:
            tables_read.append(deliveries.event_types.table.stopped)
        if self._roles & DELIVERING:
            self._stack.push_async_callback(deliveries.rate_shares.close)  # it writes, so the producer is closed after it
            tables_read.append(deliveries.rate_shares.table.stopped)
        admission = deliveries.delivery_service.admission
        metrics.SLOW_ENDPOINTS.set_function(lambda: admission.slow_endpoints)
        metrics.ENDPOINT_ATTEMPTS.show(self._settings.metrics_top_endpoints)
        await deliveries.sender.start()
        self._stack.push_async_callback(deliveries.sender.close)
        self._stack.callback(deliveries.health_monitor.close)
        self._stack.callback(deliveries.filter_failures.close)
        self._health.warn("own faults", deliveries.delivery_service.own_faults.warning)
        self._stack.callback(deliveries.delivery_service.own_faults.close)
        return [registry.table.stopped, deliveries.health.table.stopped, *tables_read]

    async def _start_table(
        self, table: CompactedTable, health_name: str | None = None, problem: Callable[[], str | None] | None = None
    ) -> asyncio.Future[None]:
        """``problem`` is checked instead of the table's. A table without ``health_name`` is not checked."""
        if health_name is not None:
            self._health.add(health_name, problem or table.problem)
        await self._kafka.run(table.start)
        self._stack.push_async_callback(table.stop)
        return table.stopped

    def _watch_tables(self) -> None:
        read, _ = used_topics((Grantee(role.value) for role in self._roles), self._settings.topics)
        unread = UnreadTables(self._broker, self._settings.topics, read)
        self._health.warn("tables", unread.warning)
        self._in_background(unread.follow(), "tables")

    async def _settle(self, api: Api) -> None:
        """What an API process writes when it starts."""
        await api.registry.settle(api.producer)
        await api.catalogue.settle(api.producer)

    async def _first_key(self, api: Api | None) -> str | None:
        """The first admin key, if it had to be created.

        The last step: if another one failed after it, the key would never be shown, and there would be no other.
        """
        if api is None or self._settings.api_keys:
            return None
        return await api.ring.create_first(api.producer, at=utc_now())

    def _prepare_store(self, connections: Connections) -> tuple[StartupRetries, asyncio.Task[None]]:
        """Create the tables in the background."""
        self._stack.push_async_callback(connections.close)
        probe = self._probes.add("clickhouse", connections.ping)
        connections.refuse_reads_while(lambda: probe.outage.problem)
        clickhouse = self._watch("ClickHouse", probe, needed_by={Role.RECORDER})
        from consumers.store_wiring import prepare_store, watch_store  # noqa: PLC0415 - see _connections

        tables = asyncio.create_task(prepare_store(connections, clickhouse))
        self._stack.push_async_callback(_cancel, tables)
        self._stack.push_async_callback(_cancel, asyncio.create_task(watch_store(connections, tables)))
        return clickhouse, tables

    async def _start_recording(self, clickhouse: StartupRetries, recording: Recording) -> asyncio.Future[None]:
        self._stack.push_async_callback(lambda: _stopped(recording.stop(self._settings.drain_seconds)))
        # Neither deliveries nor the API wait for ClickHouse. If it answers immediately, they wait for what takes a moment.
        await recording.until_started(unless=None if self._roles == {Role.RECORDER} else clickhouse.has_waited)
        return recording.task

    async def _start_workers(self, producer: Producer, deliveries: DeliveryContext) -> list[asyncio.Future[None]]:
        """The fan-out and the retry."""
        settings = self._settings
        workers: list[tuple[str, _Worker]] = []
        if Role.FANOUT in self._roles:
            fan_out = make_fan_out(settings, self._broker, producer, deliveries, self._tracing)
            await self._follow_added_topics(producer, deliveries, fan_out)
            workers.append(("fanout", fan_out.worker))
        if Role.RETRY in self._roles:
            retry = make_retry(settings, self._broker, producer, deliveries, self._existing_topics, self._tracing)
            held = make_held(settings, self._broker, producer, deliveries, retry)
            ordered = make_ordered(settings, self._broker, producer, deliveries)
            self._health.warn("ordered", ordered.warning)
            workers += [("retry", retry.worker), ("held", held), ("ordered", ordered)]
        for name, worker in workers:
            self._health.add(name, worker.problem)
            worker.consumer.missing.on_missing = self._losses.note
        if Role.RETRY in self._roles:
            deliveries.expiry.start()
            self._stack.push_async_callback(deliveries.expiry.stop)
        await self._start_and_drain_later([worker for _, worker in workers])
        return [worker.failed for _, worker in workers]

    async def _start_and_drain_later(self, workers: Sequence[_Worker]) -> None:
        """Start workers concurrently. Those that have started are drained at the end, even if another one did not start."""
        started: list[_Worker] = []

        async def start(worker: _Worker) -> None:
            started.append(worker)  # before: a start that is cancelled may already have joined the group
            await self._kafka.run(worker.start)

        self._stack.push_async_callback(
            lambda: asyncio.gather(*(_stopped(worker.stop(self._settings.drain_seconds)) for worker in started))
        )
        await _together(*(start(worker) for worker in workers))

    async def _follow_added_topics(self, producer: Producer, deliveries: DeliveryContext, fan_out: FanOut) -> None:
        """Topics that can be read already are read from the start."""

        def read(topics: Sequence[str]) -> None:
            self._broker_probe.also_reads(topics)
            fan_out.add_topics(topics)

        catalogue = deliveries.event_types
        added = AddedTopics(self._broker, producer, self._settings.topics, catalogue, self._topic_ids, read)
        self._health.warn("added topics", added.warning)
        await added.start()
        self._stack.push_async_callback(added.stop)

    def _make_recorder(self, producer: Producer, connections: Connections) -> Recorder:
        from consumers.store_wiring import make_recorder  # noqa: PLC0415 - see _connections

        recorder = make_recorder(self._settings, self._broker, producer, connections, self._tracing)
        self._health.add("recorder", recorder.problem)
        recorder.consumer.missing.on_missing = self._losses.note
        return recorder

    def _recording(self, tables: asyncio.Task[None], recorder: Recorder | None, connections: Connections) -> Recording:
        from consumers.store_wiring import Recording, make_maintenance  # noqa: PLC0415 - see _connections

        maintenance = make_maintenance(self._settings, recorder, connections) if recorder is not None else None
        return Recording(tables, recorder, self._kafka, maintenance)


async def _stopped(stopping: Awaitable[object]) -> None:
    try:
        await stopping
    except Exception as error:  # noqa: BLE001 - the part reported it through its future; the others must still be stopped
        log.warning("a part did not stop cleanly", error=repr(error))


async def _together(*steps: Coroutine[Any, Any, object]) -> None:
    """Run steps of the start concurrently. If one fails, the others are cancelled."""
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            await _cancel(task)


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
