"""The parts of the roles that use ClickHouse: the recorder and the API. Other roles do not load this, so they start in half the
time.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from consumers.maintenance import Maintenance
from consumers.recorder import Recorder
from consumers.startup import StartupRetries
from consumers.wiring import DeliveryContext
from pipeline.broker.api import Broker
from pipeline.broker.producer import Producer
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.delivery.verification import EndpointVerifier
from pipeline.endpoints.source_topics import SourceTopics
from pipeline.ops.clock import utc_now
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from pipeline.store.backfill import Backfill
from pipeline.store.backfill_hourly import backfill_hourly
from pipeline.store.connection import Connections
from pipeline.store.erase import Eraser
from pipeline.store.errors import StoreError
from pipeline.store.migrate import migrate
from pipeline.store.pending_mutations import watch_pending_mutations
from pipeline.store.reports.history import EventHistory
from pipeline.store.reports.notification_history import NotificationHistory
from pipeline.store.reports.recent import Reports
from pipeline.store.retention import Retention
from pipeline.store.search.queries import Search
from pipeline.store.sql_console import SqlConsole
from pipeline.store.writer import Writer
from pipeline.web.audit import AuditLog
from pipeline.web.auth import ApiKeys
from pipeline.web.key_ring import KeyRing
from pipeline.web.resend_runs import ResendRuns
from pipeline.web.resending import Resender
from pipeline.web.revoked_sessions import EndedSessions
from pipeline.web.services import Api

if TYPE_CHECKING:
    from pipeline.ops.tracing import Tracing

log = logger(__name__)


def make_api(
    settings: Settings, broker: Broker, producer: Producer, connections: Connections, deliveries: DeliveryContext
) -> Api:
    """The services of the HTTP API."""
    topics, clock, seconds = settings.topics, deliveries.clock.now, settings.request_timeout_seconds + 10.0
    ring, events = KeyRing(broker, topics.api_keys), settings.event_reader
    reports = Reports(connections, longest_delay=settings.retry_policies.delays[-1])
    history = EventHistory(connections, settings.event_types.names)
    deliveries.event_types.follow(events.use)
    deliveries.event_types.follow(history.use)
    audit = AuditLog(producer, topics.audit, clock, settings.trusted_proxies, ring.person)
    resender = Resender(
        registry=deliveries.registry,
        producer=producer,
        topics=topics,
        audit=audit,
        notifications=NotificationHistory(connections),
        reports=reports,
        events=events,
    )
    return Api(
        registry=deliveries.registry,
        producer=producer,
        policies=settings.retry_policies,
        vault=deliveries.vault,
        guard=deliveries.guard,
        search=Search(connections),
        reports=reports,
        delivery_service=deliveries.delivery_service,
        topics=topics,
        ring=ring,
        keys=ApiKeys(settings.api_keys, ring.opening),
        ended_sessions=EndedSessions(broker, topics.ended_sessions, clock),
        eraser=Eraser(connections),
        history=history,
        catalogue=deliveries.event_types,
        source_topics=SourceTopics(broker, settings.kafka_topic_prefix),
        audit=audit,
        resender=resender,
        runs=ResendRuns(resender),
        events=events,
        clock=clock,
        hold=timedelta(days=settings.hold_days),
        disable_after=timedelta(days=settings.disable_after_days),
        proxies=settings.trusted_proxies,
        test_timeout_seconds=seconds,
        verifier=_verifier(settings, producer, deliveries.delivery_service, seconds),
        # A ClickHouse server is queried directly, with its own users and roles (deploy/clickhouse).
        analyst=SqlConsole(connections) if connections.is_embedded else None,
    )


def _verifier(settings: Settings, producer: Producer, service: DeliveryService, seconds: float) -> EndpointVerifier:
    return EndpointVerifier(
        deliveries=service,
        producer=producer,
        dispatches=settings.topics.dispatches,
        origin=settings.webhook_origin,
        seconds=seconds,
    )


def make_recorder(
    settings: Settings, broker: Broker, producer: Producer, connections: Connections, tracing: Tracing | None
) -> Recorder:
    topics = settings.topics
    dead_letters = DeadLetters(producer, topics.dead_letters, utc_now, read_topics=topics.recorded)
    return Recorder(settings, broker, writer=Writer(connections), dead_letters=dead_letters, tracing=tracing)


def make_maintenance(settings: Settings, recorder: Recorder, connections: Connections) -> Maintenance:
    """The maintenance jobs of the store."""
    jobs = (Retention(connections, settings.retention_days), Backfill(connections))
    return Maintenance(jobs, recorder.is_maintainer)


async def prepare_store(connections: Connections, retries: StartupRetries) -> None:
    """Create or upgrade the tables; until that is done, reads and writes are refused immediately, with the reason.

    Raises:
        StoreError: the embedded ClickHouse cannot run.
    """

    async def prepare() -> None:
        try:
            await migrate(connections)
            await Backfill(connections).at_the_start()
            if lacking := await backfill_hourly(connections):
                log.warning("the hourly figures lacked attempts, probably after a crash; they were repaired", attempts=lacking)
        except StoreError as error:
            connections.hold(str(error))
            raise

    connections.hold(f"{connections.where} is not ready yet: its tables are being checked.")
    # There is no point in waiting for an embedded engine: nobody else can repair it.
    await (prepare() if connections.is_embedded else retries.run(prepare))
    connections.release()


async def watch_store(connections: Connections, tables: asyncio.Task[None]) -> None:
    """When the tables exist: report the pending rebuilds in the background, until there are none."""
    await asyncio.wait([tables])
    if not tables.cancelled() and tables.exception() is None:
        await watch_pending_mutations(connections)


class Recording:
    """The recorder, started in the background when its tables exist: deliveries and the API do not need ClickHouse.

    Until then, the recorder is not a member of its group: Kafka is the buffer, and other recorders that can store records get the
    partitions.
    """

    def __init__(
        self, tables: asyncio.Task[None], recorder: Recorder | None, kafka: StartupRetries, maintenance: Maintenance | None = None
    ) -> None:
        """``tables``: the task that creates them. Without a ``recorder``, nothing else runs. ``maintenance`` runs beside the recorder."""
        self._recorder = recorder
        self._maintenance = maintenance
        self._kafka = kafka
        self._started = asyncio.Event()
        self.task = asyncio.create_task(self._record(tables))
        """Never done, except with the error that ended it."""

    async def until_started(self, unless: asyncio.Event | None = None) -> None:
        """Return when it has started, or ``unless`` is set. Raises the error that ended it."""
        events = [self._started] if unless is None else [self._started, unless]
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait([self.task, *waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if self.task.done():
            self.task.result()

    async def stop(self, drain_seconds: float) -> None:
        """Write what is queued, commit, leave the group; or stop waiting."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if self._recorder is not None and self._started.is_set():
            await self._recorder.stop(drain_seconds)

    async def _record(self, tables: asyncio.Task[None]) -> None:
        await tables
        if self._recorder is not None:
            await self._kafka.run(self._recorder.start)
        self._started.set()
        maintenance = asyncio.create_task(self._maintenance.run()) if self._maintenance is not None else None
        try:
            await (
                asyncio.get_running_loop().create_future() if self._recorder is None else asyncio.shield(self._recorder.failed)
            )
        finally:
            if maintenance is not None:
                maintenance.cancel()
                await asyncio.gather(maintenance, return_exceptions=True)
