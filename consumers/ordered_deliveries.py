"""Deliveries in order: if an endpoint asks for it, events with the same key are delivered one after the other.

The fan-out writes them to ``webhooks.ordered``. Each partition of the topic has one processor at a time (group
``webhooks.ordered``), which makes the attempts. Other endpoints are not affected: if no endpoint asks for order, no process joins
the group.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from consumers.ordered_partition import OrderedPartition
from consumers.ordered_values import AttemptsInFlight, OrderedContext
from consumers.partition_processors import PartitionProcessors
from pipeline.broker.api import Broker, FetchClient, Partition
from pipeline.broker.errors import BrokerError, UnavailableError
from pipeline.broker.failure_backoff import FailureBackoff
from pipeline.broker.seeking_consumer import SeekingConsumer
from pipeline.core.counted import counted
from pipeline.delivery.consumer_services import ConsumerServices
from pipeline.endpoints.health import HealthTable
from pipeline.ops import metrics
from pipeline.ops.clock import steady_seconds
from pipeline.ops.daemon_threads import in_thread
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from schemas.codec import InvalidRecordError, from_json
from schemas.lane_progress import LaneProgress

log = logger(__name__)

_FETCH_BYTES: Final = 1024 * 1024
_POLL_S: Final = 0.1
_MIN_HELD_BACK_S: Final = 60.0
_CHECK_S: Final = 60.0
"""How often the topic is checked for deliveries while no endpoint asks for order."""
_BARRIER: Final = b"barrier"
"""The key of marker records. They have no value. When one has been read, so has everything that was written before it."""


class OrderedDeliveries:
    """Runs beside the retry. Start it when the registry has caught up, not before."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        services: ConsumerServices,
        *,
        health: HealthTable,
        broker_seconds: Callable[[], float | None],
        is_time_certain: Callable[[], bool],
    ) -> None:
        """``broker_seconds``: the broker's time; None while it is unknown. Nothing expires while ``is_time_certain`` is false."""
        self._broker = broker
        self._producer = services.producer
        self._progress = settings.topics.ordered_progress
        self._next_check_at = -math.inf
        self._unseen: str | None = None
        """Why it is unknown whether deliveries wait in order."""
        self._trouble = FailureBackoff(log)
        self._loading = asyncio.Semaphore(2)
        self._processors = PartitionProcessors(
            broker,
            group=settings.topics.ordered_group,
            topic=settings.topics.ordered,
            make=lambda number: OrderedPartition(self._context, number),
            failure="deliveries in order cannot be kept",
            is_wanted=self._is_wanted,
        )
        self._context = OrderedContext(
            consumer=self._processors.consumer,
            producer=services.producer,
            registry=services.registry,
            health=health,
            service=services.service,
            dead_letters=services.dead_letters,
            topics=settings.topics,
            hold=timedelta(days=settings.hold_days),
            clock=services.clock,
            broker_seconds=broker_seconds,
            steady=steady_seconds,
            is_time_certain=is_time_certain,
            load=self._load,
            in_flight=AttemptsInFlight(settings.max_outstanding_records, settings.max_outstanding_bytes),
        )

    async def start(self) -> None:
        """Join the group, as soon as an endpoint asks for order or a delivery waits in order."""
        metrics.ORDERED_WAITING.set_function(lambda: float(sum(processor.waiting for processor in self._processors.all)))
        metrics.ORDERED_HELD_BACK.set_function(lambda: float(sum(processor.held_back for processor in self._processors.all)))
        metrics.ORDERED_READY.set_function(lambda: float(sum(processor.ready for processor in self._processors.all)))
        metrics.ORDERED_OLDEST.set_function(
            lambda: max((processor.oldest_seconds for processor in self._processors.all), default=0.0)
        )
        metrics.ORDERED_OVERDUE.set_function(
            lambda: max((processor.overdue_seconds for processor in self._processors.all), default=0.0)
        )
        metrics.ORDERED_EXPIRING.set_function(lambda: float(sum(processor.expiring for processor in self._processors.all)))
        await self._processors.start()

    @property
    def consumer(self) -> SeekingConsumer:
        """Reads the topic."""
        return self._processors.consumer

    @property
    def failed(self) -> asyncio.Future[None]:
        """The error that ended the work."""
        return self._processors.failed

    async def stop(self, drain_seconds: float) -> None:
        """Finish what has started, commit, leave the group."""
        await self._processors.stop(drain_seconds)

    def problem(self) -> str | None:
        """Why nothing is delivered in order (for health checks)."""
        return self._unseen or self._processors.problem()

    def warning(self) -> str | None:
        """Which lanes have waited for more than a moment, and why, in words for ``/readyz``; None if there are none.

        Deliveries to a paused endpoint are left out: they are meant to wait.
        """
        heads = [head for processor in self._processors.all for head in processor.heads if head.due_ms is not None]
        oldest = min(heads, key=lambda head: head.since_ms, default=None)
        if oldest is None or (seconds := self._context.now_ms() / 1000 - oldest.since_ms / 1000) < _MIN_HELD_BACK_S:
            return None
        waiting = sum(processor.waiting for processor in self._processors.all)
        return (
            f"{counted(waiting, 'delivery waits', 'deliveries wait')} in order, and {counted(len(heads), 'lane is', 'lanes are')} held back, one of them for {seconds:,.0f} s by event "
            f"{oldest.event_id} at endpoint {oldest.endpoint_id} ({oldest.reason}). A lane continues when its event succeeds or ends."
        )

    # --- whether there is anything to do ---

    async def _is_wanted(self) -> bool:
        """Whether an endpoint asks for order, or deliveries are left of one that no longer does."""
        if self._context.registry.has_ordered:
            self._unseen = None
            return True
        if steady_seconds() < self._next_check_at:
            return False
        topic = self._context.topics.ordered
        try:
            partitions = [Partition(topic, number) for number in self._producer.partitions(topic)]
            has_records = await in_thread(lambda: self._holds_records(partitions), "ordered deliveries")
        except BrokerError as error:
            self._unseen = f"{topic} cannot be read: {error}"
            self._next_check_at = steady_seconds() + self._trouble.note(
                "the topic of deliveries in order cannot be read", error=str(error)
            )
            return False
        self._trouble.over("the topic of deliveries in order can be read again")
        self._unseen, self._next_check_at = None, steady_seconds() + _CHECK_S
        return has_records

    def _holds_records(self, partitions: Sequence[Partition]) -> bool:
        client = self._broker.fetch_client(partition_bytes=_FETCH_BYTES)
        try:
            return any(bounds.end > bounds.first for bounds in client.bounds(partitions).values())
        finally:
            client.close()

    # --- what earlier processors have written ---

    async def _load(self, partition: int) -> Mapping[bytes, LaneProgress]:
        """The progress of a partition's lanes, including what the previous owner wrote."""
        place = Partition(self._progress, partition)
        async with self._loading:
            barrier = await self._producer.send(self._progress, key=_BARRIER, value=None, partition=partition)
            stopping = threading.Event()
            try:
                return await in_thread(lambda: self._read(place, barrier.offset, stopping), "ordered progress")
            finally:
                stopping.set()

    def _read(self, place: Partition, up_to: int, stopping: threading.Event) -> dict[bytes, LaneProgress]:
        lanes: dict[bytes, LaneProgress] = {}
        trouble = FailureBackoff(log)
        while not stopping.is_set():
            client: FetchClient | None = None
            try:
                client = self._broker.fetch_client(partition_bytes=_FETCH_BYTES)
                client.assign({place: client.bounds([place])[place].first})
                lanes.clear()
                while not stopping.is_set():
                    for record in client.poll(_POLL_S).get(place, ()):
                        take_progress(lanes, record.key, record.value)
                        if record.offset >= up_to:
                            return lanes
            except UnavailableError as error:
                stopping.wait(
                    trouble.note("the progress of lanes cannot be read for now", partition=str(place), error=str(error))
                )
            finally:
                if client is not None:
                    client.close()
        return lanes


def take_progress(lanes: dict[bytes, LaneProgress], key: bytes | None, value: bytes | None) -> None:
    """Apply a record of ``webhooks.ordered-progress``, in the topic's order.

    A processor that was frozen may write less progress than its successor has written. A lane never goes back.
    """
    if key is None:
        return
    if value is None:
        lanes.pop(key, None)
        return
    try:
        progress = from_json(value, LaneProgress)
    except InvalidRecordError as error:
        metrics.TABLE_ERRORS.inc()
        log.warning("the progress of a lane cannot be used", lane=key.decode(errors="replace"), error=str(error))
        return
    known = lanes.get(key)
    is_older = (
        known is not None
        and progress.done_ms <= known.done_ms
        and (progress.done, progress.attempt) < (known.done, known.attempt)
    )
    if not is_older:
        lanes[key] = progress
