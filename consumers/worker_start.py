"""Starts the workers of the fan-out and the retry, and drains them at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from consumers.added_topics import AddedTopics
from consumers.concurrent_steps import stopped, together
from consumers.dependencies import KafkaDependency
from consumers.kafka_context import KafkaContext
from consumers.role import Role
from consumers.start_context import StartContext
from consumers.startup import StartupRetries
from consumers.wiring import DeliveryContext, make_fan_out, make_held, make_ordered, make_retry

if TYPE_CHECKING:
    from consumers.fanout import FanOut
    from consumers.held_deliveries import HeldDeliveries
    from consumers.ordered_deliveries import OrderedDeliveries
    from pipeline.broker.record_worker import RecordWorker
    from pipeline.ops.tracing import Tracing

    _Worker = RecordWorker | HeldDeliveries | OrderedDeliveries


class WorkerStart:
    """The fan-out and the retry, whichever this process has."""

    def __init__(
        self,
        context: StartContext,
        kafka: KafkaContext,
        dependency: KafkaDependency,
        deliveries: DeliveryContext,
        tracing: Tracing | None,
    ) -> None:
        self._context = context
        self._kafka = kafka
        self._dependency = dependency
        self._deliveries = deliveries
        self._tracing = tracing

    async def start(self, existing_topics: Collection[str]) -> list[asyncio.Future[None]]:
        """Returns the futures that fail when a worker fails. ``existing_topics`` are the topics in Kafka."""
        context, settings = self._context, self._context.settings
        workers: list[tuple[str, _Worker]] = []
        if Role.FANOUT in context.roles:
            fan_out = make_fan_out(settings, self._kafka.broker, self._kafka.producer, self._deliveries, self._tracing)
            await self._follow_added_topics(fan_out)
            workers.append(("fanout", fan_out.worker))
        if Role.RETRY in context.roles:
            workers += self._retry_workers(existing_topics)
        for name, worker in workers:
            context.health.add(name, worker.problem)
            worker.consumer.missing.on_missing = self._kafka.losses.note
        if Role.RETRY in context.roles:
            self._deliveries.expiry.start()
            context.stack.push_async_callback(self._deliveries.expiry.stop)
        started = [worker for _, worker in workers]
        await start_and_drain_later(started, self._dependency.retries, context.stack, settings.drain_seconds)
        return [worker.failed for worker in started]

    def _retry_workers(self, existing_topics: Collection[str]) -> list[tuple[str, _Worker]]:
        settings, broker, producer = self._context.settings, self._kafka.broker, self._kafka.producer
        retry = make_retry(settings, broker, producer, self._deliveries, existing_topics, self._tracing)
        held = make_held(settings, broker, producer, self._deliveries, retry)
        ordered = make_ordered(settings, broker, producer, self._deliveries)
        self._context.health.warn("ordered", ordered.warning)
        return [("retry", retry.worker), ("held", held), ("ordered", ordered)]

    async def _follow_added_topics(self, fan_out: FanOut) -> None:
        """Topics that can be read already are read from the start."""

        def read(topics: Sequence[str]) -> None:
            self._dependency.probe.also_reads(topics)
            fan_out.add_topics(topics)

        kafka, topics, catalogue = self._kafka, self._context.settings.topics, self._deliveries.event_types
        added = AddedTopics(kafka.broker, kafka.producer, topics, catalogue, kafka.topic_ids, read)
        self._context.health.warn("added topics", added.warning)
        await added.start()
        self._context.stack.push_async_callback(added.stop)


async def start_and_drain_later(
    workers: Sequence[_Worker], retries: StartupRetries, stack: AsyncExitStack, drain_seconds: float
) -> None:
    """Start workers concurrently. Those that have started are drained at the end, even if another one did not start."""
    started: list[_Worker] = []

    async def start(worker: _Worker) -> None:
        started.append(worker)  # before: a start that is cancelled may already have joined the group
        await retries.run(worker.start)

    stack.push_async_callback(lambda: asyncio.gather(*(stopped(worker.stop(drain_seconds)) for worker in started)))
    await together(*(start(worker) for worker in workers))
