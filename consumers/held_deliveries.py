"""Held deliveries: deliveries to a paused or disabled endpoint wait in ``webhooks.held`` until it is resumed.

Each partition of the topic has one processor at a time (group ``webhooks.held``). Released deliveries go to the topic without
delay, from where the retry takes them. Dropped deliveries, those of deleted endpoints, and those that have waited for
``hold_days`` are recorded as ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from consumers.held_partition import HeldPartition
from consumers.held_values import HeldContext, ReleasedDelivery
from consumers.partition_processors import PartitionProcessors
from pipeline.broker.api import Broker
from pipeline.broker.seeking_consumer import SeekingConsumer
from pipeline.core.trace import trace_context
from pipeline.delivery.consumer_services import ConsumerServices
from pipeline.delivery.delivery import DiscardedDelivery
from pipeline.delivery.holding import HeldAction, drop_of
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.health import HealthTable
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from schemas.attempt import Outcome
from schemas.codec import InvalidRecordError, format_time, from_header
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord
from schemas.topics import delay_label

log = logger(__name__)

_AT_ONCE: Final = timedelta(0)
_LONGEST_WAIT_S: Final = 1.0
_CHECK_S: Final = 0.02


class HeldDeliveries:
    """Runs beside the retry. Start it when the registry has caught up, not before."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        services: ConsumerServices,
        *,
        health: HealthTable,
        backlog: Callable[[], int],
        is_time_certain: Callable[[], bool],
    ) -> None:
        """``backlog``: how many records the retry of this process is processing. Nothing expires while ``is_time_certain`` is
        false.
        """
        self._registry = services.registry
        self._producer = services.producer
        self._service = services.service
        self._dead_letters = services.dead_letters
        self._backlog = backlog
        self._most_in_hand = settings.max_outstanding_records // 2
        self._no_delay_topic = settings.topics.delay(_AT_ONCE)
        self._scheduled = metrics.RETRIES_SCHEDULED.labels(delay_label(_AT_ONCE))
        self._hold_days = settings.hold_days
        self._processors = PartitionProcessors(
            broker,
            group=settings.topics.held_group,
            topic=settings.topics.held,
            make=lambda number: HeldPartition(self._context, number),
            failure="the held deliveries cannot be kept",
        )
        self._context = HeldContext(
            consumer=self._processors.consumer,
            producer=services.producer,
            registry=services.registry,
            health=health,
            topics=settings.topics,
            hold=timedelta(days=settings.hold_days),
            clock=services.clock,
            is_time_certain=is_time_certain,
            release=self._release,
            until_there_is_room=self._until_there_is_room,
        )

    async def start(self) -> None:
        metrics.HELD.set_function(lambda: float(sum(processor.held for processor in self._processors.all)))
        metrics.HELD_EXPIRING.set_function(lambda: float(sum(processor.expiring for processor in self._processors.all)))
        await self._processors.start()

    @property
    def consumer(self) -> SeekingConsumer:
        return self._processors.consumer

    @property
    def failed(self) -> asyncio.Future[None]:
        """The error that ended the work."""
        return self._processors.failed

    async def stop(self, drain_seconds: float) -> None:
        """Finish what has started, commit, leave the group."""
        await self._processors.stop(drain_seconds)

    def problem(self) -> str | None:
        """Why held deliveries cannot be released (for health checks). While they are being counted, other work continues."""
        return self._processors.problem()

    # --- releasing ---

    async def _until_there_is_room(self) -> None:
        """Wait a moment while the retry is busy: its other work must not wait behind all held deliveries."""
        until = time.monotonic() + _LONGEST_WAIT_S
        while self._backlog() > self._most_in_hand and time.monotonic() < until:  # noqa: ASYNC110 - a counter of the consumer
            await asyncio.sleep(_CHECK_S)

    async def _release(self, released: ReleasedDelivery) -> None:
        record, action = released.record, released.action
        body = record.value or b""
        if action is HeldAction.RELEASE:
            await self._producer.room(len(body))
            self._scheduled.inc()
            # Unchanged: members of a newer release are kept, and the retry turns unusable records into dead letters.
            await self._producer.send(self._no_delay_topic, key=record.key, value=body, headers=record.headers, spread=True)
            metrics.RELEASED.inc()
            return
        try:
            held = from_header(record.headers, DELIVERY_HEADER, DeliveryRecord)
        except InvalidRecordError as error:
            await self._dead_letters.send(record, error.reason, str(error))
            return
        endpoint = self._registry.get(released.endpoint_id)
        target_url = endpoint.target_url if endpoint is not None else ""
        kind, reason, outcome = self._why(released, endpoint)
        trace = trace_context(held.traceparent, held.tracestate)
        await self._service.settle(DiscardedDelivery(held, target_url, kind, reason, trace, outcome))

    def _why(self, released: ReleasedDelivery, endpoint: Endpoint | None) -> tuple[str, str, Outcome]:
        """Why no attempt is made, as a word and as a sentence, and the outcome."""
        if released.action is HeldAction.EXPIRE:
            unit = "day" if self._hold_days == 1 else "days"
            reason = f"It was held for {self._hold_days:g} {unit} (hold_days): the endpoint was not resumed in that time."
            return "expired", reason, Outcome.EXPIRED
        drop = None
        if endpoint is not None:
            drop = drop_of(endpoint.record, released.record.partition.number, released.place)
        if drop is not None:
            reason = f"It was held for the endpoint, and dropped by {drop.dropped_by} at {format_time(drop.dropped_at)}."
            return "dropped", reason, Outcome.DISCARDED
        return "endpoint_deleted", "The endpoint was deleted while this attempt was held for it.", Outcome.DISCARDED
