"""The fan-out hop: an OMS event in, its first attempt at every endpoint that subscribed to it out.

oms.orders, oms.shipments, oms.stock-items; webhooks.operational-events, for their built-in receiver alone
  -> dispatches (body, who matched), attempts, delay topics (failed), held (its endpoint is paused), dead letters (unusable)
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zlib import crc32

from pipeline.broker.api import Broker, Receipt, Record
from pipeline.broker.bundles import Bundles, Place
from pipeline.broker.producer import Producer
from pipeline.broker.worker import Worker
from pipeline.core.trace import TraceContext, read_trace
from pipeline.delivery.courier import Courier
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.holding import Holding
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import Registry
from pipeline.ops import metrics
from pipeline.ops.clock import Clock, utc_now
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from schemas.checked import checked
from schemas.codec import DecodedEvent, InvalidRecordError, decode_event, from_json, to_json, webhook_body
from schemas.delivery import DISPATCH_HEADER, DeadLetterReason, Delivery, Dispatch, Trigger
from schemas.event import SCHEMA_VERSION, EventMeta
from schemas.operational import OperationalEvent

if TYPE_CHECKING:
    from pipeline.ops.tracing import Span, Tracing

log = logger(__name__)

_AHEAD_SECONDS = 3600
_IN_PARTS_FROM = 50
"""An event for so many endpoints is committed while it is under way; after a crash, one for fewer is sent again to all of them."""


@dataclass(slots=True)  # one each event, and a frozen one takes three times as long to make
class Plan:
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
        *,
        registry: Registry,
        courier: Courier,
        producer: Producer,
        holding: Holding,
        dead_letters: DeadLetters,
        clock: Clock = utc_now,
        tracing: Tracing | None = None,
    ) -> None:
        self._clock = clock
        self._max_bytes = settings.max_event_bytes
        self._operational_events = settings.topics.operational_events
        self._kept_seconds = settings.retention_days * 86_400
        self._registry = registry
        self._courier = courier
        self._holding = holding
        self._group = settings.topics.fanout_group
        self._dispatches = Bundles(producer, settings.topics.dispatches, separator=b"", header=DISPATCH_HEADER)
        self._dead_letters = dead_letters
        self._places = asyncio.Semaphore(settings.max_outstanding_deliveries)
        self._parts = asyncio.Semaphore(settings.max_in_flight)
        """Parts of events for very many endpoints, under way: what is begun cannot be called back when the partition is lost."""
        self.worker = Worker(
            broker,
            self.handle if tracing is None else functools.partial(self._handle_traced, tracing),
            group=self._group,
            topics=(*settings.topics.sources, settings.topics.operational_events),
            max_outstanding=settings.max_outstanding_records,
            max_outstanding_bytes=settings.max_outstanding_bytes,
            read_committed=True,  # what a transaction wrote and took back was never published
        )

    async def handle(self, record: Record, span: Span | None = None) -> None:
        """Deal with one event; returns when everything that came of it is acknowledged by Kafka.

        Without a ``span`` of our own, receivers get the trace context of the record as it came.
        """
        try:
            plan = self.plan(record)
        except InvalidRecordError as error:
            if span is not None:
                span.fail(error.reason.value)
            await self._dead_letters.send(record, error.reason, str(error))
            return
        except Exception as error:  # whatever is wrong with it, it must not stop the events behind it
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
        written_at, receipt = record.timestamp_ms / 1000, record.receipt
        del record  # the body is all that is needed now; both may have megabytes
        if len(plan.endpoints) == 1:
            await self._deliver(plan, plan.endpoints[0], written_at, trace)  # without a task of its own
        elif len(plan.endpoints) < _IN_PARTS_FROM:
            await _to_all(plan.endpoints, lambda endpoint: self._deliver(plan, endpoint, written_at, trace), self._places)
        else:
            await self._deliver_in_parts(plan, receipt, dispatched, written_at, trace)
        await dispatched

    async def _handle_traced(self, tracing: Tracing, record: Record) -> None:
        parent = read_trace(record.headers)
        with tracing.record(*record.partition, record.offset, group=self._group, parent=parent) as span:
            handled = self.handle(record, span)
            del record  # it holds the content, and the handler does not any more
            await handled

    async def _deliver_in_parts(
        self, plan: Plan, receipt: Receipt, dispatched: asyncio.Future[Place], written_at: float, trace: TraceContext | None
    ) -> None:
        """To very many: those that an earlier process was done with are left out, and nothing is begun of what is another's by now.

        Endpoints that were registered meanwhile have higher numbers than all others, and get the event. One that has subscribed
        meanwhile may not, as if it had subscribed after the event.
        """
        consumer = self.worker.consumer
        left = frozenset(consumer.divide(receipt, crc32(plan.event.id.encode()), [endpoint.id for endpoint in plan.endpoints]))

        async def deliver(endpoint: Endpoint) -> None:
            if not await consumer.may_begin(receipt):
                return
            await self._deliver(plan, endpoint, written_at, trace)
            if not dispatched.done():
                await asyncio.wait([dispatched])
            if not dispatched.cancelled() and dispatched.exception() is None:
                consumer.finish_part(receipt, endpoint.id)

        await _to_all((endpoint for endpoint in plan.endpoints if endpoint.id in left), deliver, self._places, self._parts)

    def _deliver(
        self, plan: Plan, endpoint: Endpoint, written_at: float, trace: TraceContext | None
    ) -> Coroutine[Any, Any, None]:
        if not endpoint.active:
            delivery = Delivery(event=plan.event, endpoint_id=endpoint.id, attempt=1, trigger=Trigger.EVENT)
            return self._holding.hold(delivery, plan.body, trace)
        return self._courier.deliver(
            plan.event, plan.body, endpoint, attempt=1, trigger=Trigger.EVENT, written_at=written_at, trace=trace
        )

    def plan(self, record: Record) -> Plan:
        """Decode and match.

        Raises:
            InvalidRecordError: the record is a dead letter.
        """
        if record.key is None:
            message = "The record has no key; publish it with the order number (stock events: the stock item id) as its key."
            raise InvalidRecordError(DeadLetterReason.MISSING_KEY, message)
        now = self._clock()
        written_at = _written_at(record, self._kept_seconds, now.timestamp())
        received_at = written_at or now
        if record.partition.topic == self._operational_events:
            return self._operational_plan(record, written_at, received_at)
        event = decode_event(record.value, max_bytes=self._max_bytes, received_at=written_at)
        endpoints = self._registry.matching(event.meta.event_name, event.payload)
        metrics.EVENTS.count(event.meta.event_name)
        if endpoints:
            metrics.MATCHES.count(event.meta.event_name, number=len(endpoints))
        else:
            metrics.UNMATCHED.labels(event.meta.event_name).inc()
        return Plan(event.meta, webhook_body(event), endpoints, received_at)

    def _operational_plan(self, record: Record, written_at: datetime | None, received_at: datetime) -> Plan:
        told = from_json(record.value, OperationalEvent)
        event = DecodedEvent(told.meta, told.data.model_dump_json().encode())
        receiver = self._registry.operational
        meta = told.meta.model_copy(update={"received_at": written_at})
        return Plan(meta, webhook_body(event), [receiver] if receiver is not None else [], received_at)

    def _dispatch(self, record: Record, plan: Plan) -> asyncio.Future[Place]:
        """Write the body down once, with who matched: also when nobody did."""
        members = {
            "schema_version": SCHEMA_VERSION,
            "event": plan.event,
            "endpoint_ids": tuple([endpoint.id for endpoint in plan.endpoints]),
            "received_at": plan.received_at,
            "source_topic": record.partition.topic,
            "source_partition": record.partition.number,
            "source_offset": record.offset,
            "body_bytes": len(plan.body),
        }
        dispatch = checked(Dispatch, members)
        return self._dispatches.add(plan.body, day=plan.received_at.date(), header=to_json(dispatch))


async def _to_all(
    endpoints: Iterable[Endpoint], deliver: Callable[[Endpoint], Coroutine[Any, Any, None]], *places: asyncio.Semaphore
) -> None:
    """Deliver to many at once, in their order, and to no more than there are places: one event may match every endpoint there is."""
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


def _described(plan: Plan) -> dict[str, str | int | float | bool]:
    return {
        "oms_webhooks.event.id": plan.event.id,
        "oms_webhooks.event.name": plan.event.event_name,
        "oms_webhooks.endpoints": len(plan.endpoints),
    }


def _written_at(record: Record, kept_seconds: float, now: float) -> datetime | None:
    """When the record was written, by its timestamp: the same whoever reads it, and however often. None when it cannot be.

    That is none at all, one to come (microseconds, say; clocks may differ, and brokers refuse more than an hour), or one so old that
    a row with it would be removed at once.

    An attempt then does not say when its event was received. It must not name the time of a clock: when this process dies before the
    dispatch is written down, the next one reads another time, and a search would not get from the attempt to the body.
    """
    written = record.timestamp_ms / 1000
    return datetime.fromtimestamp(written, UTC) if now - kept_seconds < written <= now + _AHEAD_SECONDS else None
