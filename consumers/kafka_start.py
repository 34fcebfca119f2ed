"""Starts the parts that wait only for Kafka: the topics, the producer and its clock, and the tables that are kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from consumers.concurrent_steps import together
from consumers.kafka_context import KafkaContext
from consumers.role import DELIVERING, KNOWING_TYPES
from consumers.start_context import StartContext
from consumers.startup import StartupRetries
from consumers.unread_tables import UnreadTables
from pipeline.broker.errors import TopicError
from pipeline.broker.table import CompactedTable
from pipeline.ops.clock import utc_now
from pipeline.ops.daemon_threads import in_thread
from pipeline.ops.logs import logger
from schemas.codec import to_json
from schemas.topic_ids import TOPIC_IDS_KEY

if TYPE_CHECKING:
    from consumers.wiring import DeliveryContext
    from pipeline.delivery.broker_clock import BrokerClock

log = logger(__name__)


class KafkaStart:
    """Each step is tried again while Kafka is unavailable."""

    def __init__(self, context: StartContext, kafka: KafkaContext, retries: StartupRetries) -> None:
        self._context = context
        self._kafka = kafka
        self._retries = retries

    async def ensure_topics(self) -> list[str]:
        """Create missing topics; returns all that exist."""
        return await self._retries.run(lambda: in_thread(self._ensure_topics, "topics"))

    async def start_parts(self, deliveries: DeliveryContext | None) -> None:
        """Start the parts that only wait for Kafka, concurrently."""
        self._watch_tables()
        if deliveries is None:
            await together(self._start_producer(), self._start_health_table())
            return
        registry, is_delivering = deliveries.registry, bool(self._context.roles & DELIVERING)
        steps: list[Coroutine[Any, Any, object]] = [
            self._start_producer(self._kafka.clock),
            self._start_health_table(),
            # Deliveries to an endpoint whose secrets cannot be opened wait. With a wrong key all of them wait, but the API can still
            # show everything.
            self.start_table(registry.table, "endpoints", registry.problem if is_delivering else None),
        ]
        # No event is read before the event types are known: it would become a dead letter.
        if self._context.roles & KNOWING_TYPES:
            steps.append(self.start_table(deliveries.event_types.table, "event types"))
        if is_delivering:
            steps.append(self.start_table(deliveries.rate_shares.table))
        await together(*steps)

    async def start_table(
        self, table: CompactedTable, health_name: str | None = None, problem: Callable[[], str | None] | None = None
    ) -> asyncio.Future[None]:
        """``problem`` is checked instead of the table's. A table without ``health_name`` is not checked."""
        if health_name is not None:
            self._context.health.add(health_name, problem or table.problem)
        await self._retries.run(table.start)
        self._context.stack.push_async_callback(table.stop)
        return table.stopped

    async def write_new_topic_ids(self) -> None:
        """Record the ids of topics that were seen for the first time."""
        topic = self._context.settings.topics.endpoint_health
        if (known := self._kafka.topic_ids.to_write(utc_now())) is not None:
            await self._kafka.producer.send(topic, key=TOPIC_IDS_KEY, value=to_json(known))

    def _ensure_topics(self) -> list[str]:
        specs = self._context.settings.topics.specs()
        with self._kafka.broker.admin() as admin:
            if created := admin.create_missing(specs):
                log.info("created topics", topics=created)
            for difference in admin.differences(specs):
                log.warning(
                    "a topic differs from its required configuration; see `oms-webhooks topics`", difference=str(difference)
                )
            self._kafka.topic_ids.note_current(admin.ids([spec.name for spec in specs]))
            return admin.names()

    def _watch_tables(self) -> None:
        read, _ = self._context.topics()
        unread = UnreadTables(self._kafka.broker, self._context.settings.topics, read)
        self._context.health.warn("tables", unread.warning)
        self._context.in_background(unread.follow(), "tables")

    async def _start_producer(self, clock: BrokerClock | None = None) -> None:
        """Also starts the clock that uses it."""
        await self._retries.run(self._kafka.producer.start)
        self._context.stack.push_async_callback(self._kafka.producer.close)
        if clock is not None:
            await clock.start(self._kafka.producer)
            self._context.stack.push_async_callback(clock.stop)
            self._context.health.warn("clock", clock.warning)

    async def _start_health_table(self) -> None:
        """Read the topic that also contains the known topics, and refuse recreated ones."""
        await self.start_table(self._kafka.health.table)
        await self._retries.run(self._refuse_recreated_topics)

    async def _refuse_recreated_topics(self) -> None:
        if problem := self._kafka.topic_ids.problem():
            raise TopicError(problem)
