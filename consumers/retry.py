"""The retry hop: a delivery from a delay topic, when it is due, to its next attempt.

Every record of a delay topic waits equally long, so due times rise with offsets: the head of a partition is always the next
one due. The partition is paused until then; nothing is skipped and nothing is scanned.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from pipeline.broker.record import Record
from pipeline.broker.worker import Worker
from pipeline.delivery.courier import Courier
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import Registry
from pipeline.ops import metrics
from pipeline.ops.settings import Settings
from schemas.codec import InvalidRecordError, from_header
from schemas.delivery import DELIVERY_HEADER, DeadLetterReason, Delivery, Trigger
from schemas.topics import delay_label

_PARTITION_FETCH_BYTES = 128 * 1024
"""There are many partitions (each delay has its own), and what was fetched waits in memory until it is due."""


class Retry:
    """Reads the delay topics as group ``webhooks.retry``. Start it when the registry has caught up, not before."""

    def __init__(
        self,
        settings: Settings,
        consumer_config: dict[str, Any],
        *,
        registry: Registry,
        courier: Courier,
        dead_letters: DeadLetters,
        existing_topics: Collection[str] = (),
    ) -> None:
        """``existing_topics`` are those that Kafka has: a delay that left the schedule may still hold deliveries."""
        topics = settings.topics
        found = ((topic, topics.delay_of(topic)) for topic in (*topics.delay_topics, *existing_topics))
        self._delays: dict[str, timedelta] = {topic: delay for topic, delay in found if delay is not None}
        self._delay_seconds = {topic: delay.total_seconds() for topic, delay in self._delays.items()}
        self._registry = registry
        self._courier = courier
        self._dead_letters = dead_letters
        self.worker = Worker(
            consumer_config,
            self.handle,
            group=topics.retry_group,
            topics=tuple(self._delays),
            max_outstanding=settings.max_outstanding_records,
            max_outstanding_bytes=settings.max_outstanding_bytes,
            partition_fetch_bytes=_PARTITION_FETCH_BYTES,
            due_in=self._due_in,
        )

    def _due_in(self, record: Any, now: float) -> float:
        """In how many seconds a record that came at ``now`` is due. A clock that is wrong prolongs no wait beyond the delay."""
        delay = self._delay_seconds[record.topic]
        return min(float(record.timestamp) / 1000 + delay - now, delay)

    async def handle(self, record: Record) -> None:
        """Make the attempt that is due; returns when everything that came of it is acknowledged by Kafka."""
        topic = record.partition.topic
        metrics.RETRIES_DUE.labels(delay_label(self._delays[topic])).inc()
        metrics.RETRY_LATENESS.observe(max(0.0, time.time() - record.timestamp_ms / 1000 - self._delay_seconds[topic]))
        try:
            delivery = from_header(record.headers, DELIVERY_HEADER, Delivery)
            body = _body(record)
        except InvalidRecordError as error:
            await self._dead_letters.send(record, error.reason, str(error))
            return
        endpoint = self._registry.receiver(delivery.endpoint_id)
        kind, reason = _why_not(endpoint, delivery)
        if endpoint is None or reason:
            await self._courier.discard(
                delivery.event,
                delivery.endpoint_id,
                endpoint.target_url if endpoint else "",
                attempt=delivery.attempt,
                trigger=delivery.trigger,
                reason=reason,
                kind=kind,
            )
            return
        await self._courier.deliver(
            delivery.event,
            body,
            endpoint,
            attempt=delivery.attempt,
            trigger=delivery.trigger,
            parked=delivery.parked,
            kept=delivery.model_extra or {},
        )


def _body(record: Record) -> bytes:
    if record.value is None:
        raise InvalidRecordError(DeadLetterReason.NULL_VALUE, "The delivery has no body.")
    return record.value


def _why_not(endpoint: Endpoint | None, delivery: Delivery) -> tuple[str, str]:
    """Why an attempt that is due is not made: as a word and as a sentence; both empty when it is made."""
    if endpoint is None:
        return "endpoint_deleted", "The endpoint was deleted before this attempt was due."
    if endpoint.disabled is not None and endpoint.record.active:
        return "endpoint_disabled", f"The endpoint was disabled when this attempt was due. {endpoint.disabled.detail}"
    if not endpoint.active:
        return "endpoint_paused", "The endpoint was paused when this attempt was due."
    if delivery.trigger is not Trigger.RESEND and delivery.event.event_name not in endpoint.events:
        return "not_subscribed", "The endpoint was no longer subscribed to this event type when the attempt was due."
    return "", ""
