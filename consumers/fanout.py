"""The fan-out: reads OMS events, and makes the first attempt at every endpoint that subscribed.

oms.orders, oms.shipments, oms.stock-items; webhooks.operational-events (only for the built-in receiver)
  -> dispatches (body, who matched), attempts, delay topics (failed), held (its endpoint is paused), ordered (its endpoint gets events in
     order), dead letters (unusable)
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zlib import crc32

from pipeline.broker.api import Broker, Receipt, Record
from pipeline.broker.consumer import ConsumerOptions
from pipeline.broker.record_batcher import EntryPosition, RecordBatcher
from pipeline.broker.record_worker import RecordWorker
from pipeline.core.trace import TraceContext, read_trace
from pipeline.delivery.consumer_services import ConsumerServices
from pipeline.delivery.delivery import Delivery
from pipeline.delivery.ordered_publisher import OrderedPublisher
from pipeline.delivery.records import delivery_record
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.subscriptions import MatchInput, ignore_failures
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from schemas.codec import InvalidRecordError, to_json
from schemas.delivery import DISPATCH_HEADER, DeadLetterReason, Dispatch, Trigger
from schemas.event import EventMeta
from schemas.event_codec import DecodedEvent, webhook_body, webhook_members
from schemas.operational import OPERATIONAL_NAMES

if TYPE_CHECKING:
    from pipeline.ops.tracing import Span, Tracing

log = logger(__name__)

_AHEAD_SECONDS = 3600
_OPERATIONAL = frozenset(OPERATIONAL_NAMES)
_IN_PARTS_FROM = 50
"""An event for this many endpoints is committed part by part. After a crash, one for fewer is sent again to all of them."""


@dataclass(slots=True)  # one per event; a frozen dataclass takes three times as long to create
class DispatchPlan:
    """What to do with an event: this body to these endpoints."""

    event: EventMeta
    body: bytes
    endpoints: list[Endpoint]
    received_at: datetime


class FanOut:
    """Reads the source topics as group ``webhooks.fanout``. Start it when the registry has caught up, not before."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        services: ConsumerServices,
    ) -> None:
        self._clock = services.clock
        self.events = settings.event_reader
        """Knows the current event types. `EventReader.use` replaces them."""
        self._kept_seconds = settings.retention_days * 86_400
        self._registry = services.registry
        self._service = services.service
        self._filter_failures = services.filter_failures
        self._group = settings.topics.fanout_group
        self._dispatches = RecordBatcher(services.producer, settings.topics.dispatches, separator=b"", header=DISPATCH_HEADER)
        self._ordered = OrderedPublisher(services.producer, settings.topics.ordered)
        self._dead_letters = services.dead_letters
        self._delivery_slots = asyncio.Semaphore(settings.max_outstanding_deliveries)
        self._parts = asyncio.Semaphore(settings.max_in_flight)
        """Limits the parts of large events under way: a delivery that has started cannot be recalled when the partition is lost."""
        tracing = services.tracing
        self.worker = RecordWorker(
            broker,
            self.handle if tracing is None else functools.partial(self._handle_traced, tracing),
            ConsumerOptions(
                group=self._group,
                topics=(*settings.topics.sources, settings.topics.operational_events),
                max_outstanding=settings.max_outstanding_records,
                max_outstanding_bytes=settings.max_outstanding_bytes,
                read_committed=True,  # records of an aborted transaction were never published
                wall=lambda: services.clock().timestamp(),
            ),
        )

    def add_topics(self, topics: Sequence[str]) -> None:
        """Also read these source topics, which must exist and be readable."""
        self._dead_letters.count_from_zero(topics)
        self.worker.consumer.add_topics(topics)

    async def handle(self, record: Record, span: Span | None = None) -> None:
        """Process one event. Returns when Kafka has acknowledged every record written for it.

        Without a ``span``, receivers get the trace context of the record.
        """
        try:
            plan = self.plan(record)
        except InvalidRecordError as error:
            if span is not None:
                span.fail(error.reason.value)
            await self._dead_letters.send(record, error.reason, str(error))
            return
        except Exception as error:  # a bad event must not stop the events behind it
            log.exception("an event could not be planned", partition=record.partition, offset=record.offset)
            if span is not None:
                span.fail(DeadLetterReason.UNEXPECTED_ERROR.value)
            detail = f"Unexpected {type(error).__name__}; see the log of the fan-out."
            await self._dead_letters.send(record, DeadLetterReason.UNEXPECTED_ERROR, detail)
            return
        dispatched = self._dispatch(record, plan)
        if span is not None:
            span.describe(_described(plan))
            trace: TraceContext | None = span.trace
        else:
            trace = read_trace(record.headers) if record.headers else None
        # A time that cannot be used says nothing about how long the event waited.
        written_at = None if plan.event.received_at is None else record.timestamp_ms / 1000
        divided = record.receipt if len(plan.endpoints) >= _IN_PARTS_FROM else None
        del record  # only the body is needed now; both may have megabytes
        await self._deliver(plan, divided, dispatched, trace, written_at)
        await dispatched

    async def _deliver(
        self,
        plan: DispatchPlan,
        divided: Receipt | None,
        dispatched: asyncio.Future[EntryPosition],
        trace: TraceContext | None,
        written_at: float | None,
    ) -> None:
        """Deliver an event to its endpoints. Deliveries in order are only written: the retry makes their attempts.

        ``divided``: the receipt of an event that is processed in parts, because it has very many endpoints.
        """
        event, body = plan.event, plan.body
        immediate = plan.endpoints if divided is None else self._unfinished(plan, divided)
        writing: asyncio.Task[None] | None = None
        if event.key is not None and (ordered := [endpoint for endpoint in immediate if endpoint.record.ordered]):
            immediate = [endpoint for endpoint in immediate if not endpoint.record.ordered]
            # Before the first await: tasks start in the order of the offsets.
            writing = self._write_in_order(plan, ordered, trace, divided, dispatched)

        def delivery_to(endpoint: Endpoint) -> Delivery:
            return Delivery(event, body, endpoint, 1, Trigger.EVENT, trace, written_at=written_at)

        try:
            if divided is not None:
                await self._deliver_in_parts(immediate, divided, dispatched, delivery_to)
            elif len(immediate) == 1:
                await self._service.deliver(delivery_to(immediate[0]))  # without a task of its own
            else:
                await _to_all(immediate, lambda endpoint: self._service.deliver(delivery_to(endpoint)), self._delivery_slots)
            if writing is not None:
                await writing
        finally:
            if writing is not None:
                writing.cancel()

    async def _handle_traced(self, tracing: Tracing, record: Record) -> None:
        parent = read_trace(record.headers)
        with tracing.record(*record.partition, record.offset, group=self._group, parent=parent) as span:
            handled = self.handle(record, span)
            del record  # this frame would keep the content, which the handler releases early
            await handled

    async def _deliver_in_parts(
        self,
        endpoints: Iterable[Endpoint],
        receipt: Receipt,
        dispatched: asyncio.Future[EntryPosition],
        delivery_to: Callable[[Endpoint], Delivery],
    ) -> None:
        """Deliver to very many endpoints. No delivery starts after the partition has moved to another process."""
        consumer = self.worker.consumer

        async def deliver(endpoint: Endpoint) -> None:
            if not await consumer.may_begin(receipt):
                return
            await self._service.deliver(delivery_to(endpoint))
            if not dispatched.done():
                await asyncio.wait([dispatched])
            if not dispatched.cancelled() and dispatched.exception() is None:
                consumer.finish_part(receipt, endpoint.id)

        await _to_all(endpoints, deliver, self._delivery_slots, self._parts)

    def _unfinished(self, plan: DispatchPlan, receipt: Receipt) -> list[Endpoint]:
        """The endpoints of a large event, without those that an earlier process finished.

        Endpoints that were registered in the meantime have higher ids than all others, and get the event. An endpoint that
        subscribed in the meantime may not, as if it had subscribed after the event.
        """
        ids = [endpoint.id for endpoint in plan.endpoints]
        left = frozenset(self.worker.consumer.divide(receipt, crc32(plan.event.id.encode()), ids))
        return [endpoint for endpoint in plan.endpoints if endpoint.id in left]

    def _write_in_order(
        self,
        plan: DispatchPlan,
        endpoints: Iterable[Endpoint],
        trace: TraceContext | None,
        divided: Receipt | None,
        dispatched: asyncio.Future[EntryPosition],
    ) -> asyncio.Task[None]:
        """Write deliveries in order. The processor of their lane makes the attempts (`consumers.ordered_deliveries`).

        ``divided``: the receipt of an event that is processed in parts.
        """
        records = [delivery_record(Delivery(plan.event, plan.body, endpoint, 1, Trigger.EVENT, trace)) for endpoint in endpoints]
        written = self._ordered.write(records, plan.body)

        def finish_parts(_: object) -> None:
            for future in (written, dispatched):
                if not future.done() or future.cancelled() or future.exception() is not None:
                    return
            if divided is not None:
                for record in records:
                    self.worker.consumer.finish_part(divided, record.endpoint_id)

        if divided is not None:
            written.add_done_callback(finish_parts)
            dispatched.add_done_callback(finish_parts)
        return written

    def plan(self, record: Record) -> DispatchPlan:
        """Decode and match.

        Raises:
            InvalidRecordError: the record is a dead letter.
        """
        now = self._clock()
        written_at = _written_at(record, self._kept_seconds, now.timestamp())
        event = self.events.event_of(record, written_at)
        endpoints = self._matching(event)
        return DispatchPlan(event.meta, webhook_body(event), endpoints, written_at or now)

    def _matching(self, event: DecodedEvent) -> list[Endpoint]:
        """The endpoints that get an event. An operational event has one receiver, if any."""
        meta, monitor = event.meta, self._filter_failures
        if meta.event_name in _OPERATIONAL:
            return [receiver] if (receiver := self._registry.operational) is not None else []
        version = self.events.types.version_getter(meta.event_name, event.payload)
        match_input = MatchInput(meta.event_name, event.payload, lambda: webhook_members(meta), version)
        endpoints = self._registry.matching(
            match_input, ignore_failures if monitor is None else lambda one: monitor.note(one, meta.id)
        )
        _count_matches(meta.event_name, len(endpoints))
        return endpoints

    def _dispatch(self, record: Record, plan: DispatchPlan) -> asyncio.Future[EntryPosition]:
        """Write the body once, with the endpoints that matched, even if none did."""
        dispatch = Dispatch(
            event=plan.event,
            endpoint_ids=tuple([endpoint.id for endpoint in plan.endpoints]),
            received_at=plan.received_at,
            source_topic=record.partition.topic,
            source_partition=record.partition.number,
            source_offset=record.offset,
            body_bytes=len(plan.body),
        )
        return self._dispatches.add(plan.body, day=plan.received_at.date(), header=to_json(dispatch))


async def _to_all(
    endpoints: Iterable[Endpoint], deliver: Callable[[Endpoint], Coroutine[Any, Any, None]], *places: asyncio.Semaphore
) -> None:
    """Deliver to many endpoints concurrently, in their order and within the limits: one event may match every endpoint."""
    deliveries: list[asyncio.Task[None]] = []

    def release(_: asyncio.Task[None]) -> None:
        for place in places:
            place.release()

    try:
        for endpoint in endpoints:
            for place in places:
                await place.acquire()
            delivery = asyncio.create_task(deliver(endpoint))
            delivery.add_done_callback(release)
            deliveries.append(delivery)
        await asyncio.gather(*deliveries)
    except asyncio.CancelledError:
        for delivery in deliveries:
            delivery.cancel()
        raise


def _count_matches(event_name: str, matches: int) -> None:
    metrics.EVENTS.count(event_name)
    if matches:
        metrics.MATCHES.count(event_name, number=matches)
    else:
        metrics.UNMATCHED.labels(event_name).inc()


def _described(plan: DispatchPlan) -> dict[str, str | int | float | bool]:
    return {
        "oms_webhooks.event.id": plan.event.id,
        "oms_webhooks.event.name": plan.event.event_name,
        "oms_webhooks.endpoints": len(plan.endpoints),
    }


def _written_at(record: Record, kept_seconds: float, now: float) -> datetime | None:
    """The record's timestamp, which is the same for every reader. None if it cannot be used.

    It cannot be used if it is missing, more than an hour in the future (clocks differ, and brokers refuse more), or so old that a
    row with it would be removed immediately.

    An attempt then does not say when its event was received. The current time is no substitute: if this process died before it
    wrote the dispatch, the next one would use another time, and a search would not get from the attempt to the body.
    """
    written = record.timestamp_ms / 1000
    return datetime.fromtimestamp(written, UTC) if now - kept_seconds < written <= now + _AHEAD_SECONDS else None
