"""The retry: takes a delivery from a delay topic when it is due, and makes the next attempt, or holds it if its endpoint is
paused.

Every record of a delay topic waits equally long, so due times rise with offsets: the head of a partition is always the next one
due. The partition is paused until then; nothing is skipped and nothing is scanned.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any

from pipeline.broker.api import Broker, Record
from pipeline.broker.consumer import ConsumerOptions
from pipeline.broker.record_worker import RecordWorker
from pipeline.core.local_faults import PARKED_IN_DOUBT
from pipeline.core.trace import TraceContext, exemplar, trace_context
from pipeline.delivery.consumer_services import ConsumerServices
from pipeline.delivery.delivery import DiscardedDelivery, delivery_of
from pipeline.ops import metrics
from pipeline.ops.settings import Settings
from schemas.codec import InvalidRecordError, from_header
from schemas.delivery import DELIVERY_HEADER, DeadLetterReason, DeliveryRecord, Trigger
from schemas.operational import OPERATIONAL_ENDPOINT_ID
from schemas.topics import delay_label

_PARTITION_FETCH_BYTES = 128 * 1024
"""There are many partitions (each delay has its own), and fetched records wait in memory until they are due."""
_NO_ENDPOINT = "There is no such endpoint: it was removed, or its record was lost."


class Retry:
    """Reads the delay topics as group ``webhooks.retry``. Start it when the registry has caught up, not before."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        services: ConsumerServices,
        *,
        existing_topics: Collection[str] = (),
        broker_seconds: Callable[[], float | None] = time.time,
    ) -> None:
        """``existing_topics`` are the topics in Kafka: a delay that is no longer in the schedule may still hold deliveries.

        ``broker_seconds`` is the broker's time, which stamps the records; None while it is unknown.
        """
        self._broker_seconds = broker_seconds
        topics = settings.topics
        found = ((topic, topics.delay_of(topic)) for topic in (*topics.delay_topics, *existing_topics))
        self._delays: dict[str, timedelta] = {topic: delay for topic, delay in found if delay is not None}
        self._delay_seconds = {topic: delay.total_seconds() for topic, delay in self._delays.items()}
        self._registry = services.registry
        self._service = services.service
        self._dead_letters = services.dead_letters
        self._tracing = services.tracing
        self._group = topics.retry_group
        self.worker = RecordWorker(
            broker,
            self.handle,
            ConsumerOptions(
                group=self._group,
                topics=tuple(self._delays),
                max_outstanding=settings.max_outstanding_records,
                max_outstanding_bytes=settings.max_outstanding_bytes,
                partition_fetch_bytes=_PARTITION_FETCH_BYTES,
                due_in=self._due_in,
            ),
        )

    def _due_in(self, record: Any) -> float:
        """In how many seconds a record is due, by the broker's clock: ours may be wrong, and jump.

        While the broker's time is unknown, nothing is due too early. No wait is longer than the delay, whatever the clocks say.
        """
        delay, now = self._delay_seconds[record.topic], self._broker_seconds()
        if now is None:
            return delay
        return min(float(record.timestamp) / 1000 + delay - now, delay)

    async def handle(self, record: Record) -> None:
        """Make the attempt that is due. Returns when Kafka has acknowledged all of its results."""
        delay = self._delays[record.partition.topic]
        age_seconds = (self._broker_seconds() or time.time()) - record.timestamp_ms / 1000
        try:
            due = from_header(record.headers, DELIVERY_HEADER, DeliveryRecord)
            body = _body(record)
        except InvalidRecordError as error:
            _count_due(delay, age_seconds, None)
            await self._dead_letters.send(record, error.reason, str(error))
            return
        trace = trace_context(due.traceparent, due.tracestate)
        _count_due(delay, age_seconds, trace)
        if self._tracing is None:
            await self._process(due, body, trace)
            return
        with self._tracing.record(*record.partition, record.offset, group=self._group, parent=trace) as span:
            span.describe({"oms_webhooks.event.id": due.event.id, "oms_webhooks.event.name": due.event.event_name})
            await self._process(due, body, span.trace)

    async def _process(self, due: DeliveryRecord, body: bytes, trace: TraceContext | None) -> None:
        endpoint = self._registry.receiver(due.endpoint_id)
        if endpoint is None and self._may_be_unread(due):
            await self._service.park_for_unknown_endpoint(due, body)
        elif endpoint is None:
            is_deleted = self._registry.is_deleted(due.endpoint_id)
            reason = "The endpoint was deleted before this attempt was due." if is_deleted else _NO_ENDPOINT
            await self._service.settle(DiscardedDelivery(due, "", "endpoint_deleted", reason, trace))
        elif endpoint.active and due.trigger is not Trigger.RESEND and due.event.event_name not in endpoint.events:
            reason = "The endpoint was no longer subscribed to this event type when the attempt was due."
            await self._service.settle(DiscardedDelivery(due, endpoint.target_url, "not_subscribed", reason, trace))
        else:
            await self._service.deliver(delivery_of(due, body, endpoint, trace))

    def _may_be_unread(self, due: DeliveryRecord) -> bool:
        """Whether the endpoint may be so new that this process has not read its record: another process has made the delivery."""
        is_registered = due.endpoint_id != OPERATIONAL_ENDPOINT_ID and not self._registry.is_deleted(due.endpoint_id)
        return is_registered and due.parked < PARKED_IN_DOUBT


def _count_due(delay: timedelta, age_seconds: float, trace: TraceContext | None) -> None:
    label = _label(delay)
    _due(label).inc()
    _lateness(label).observe(max(0.0, age_seconds - delay.total_seconds()), exemplar(trace))


# labels() takes a lock and builds a key each time, and there are few delays.
_label = functools.cache(delay_label)
_due = functools.cache(metrics.RETRIES_DUE.labels)
_lateness = functools.cache(metrics.RETRY_LATENESS.labels)


def _body(record: Record) -> bytes:
    if record.value is None:
        raise InvalidRecordError(DeadLetterReason.NULL_VALUE, "The delivery has no body.")
    return record.value
