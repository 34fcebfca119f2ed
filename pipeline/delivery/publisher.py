"""Writes the records of deliveries to Kafka: attempts, deliveries that are due later, and held deliveries."""

from __future__ import annotations

import asyncio
import functools
from datetime import timedelta
from typing import Final

from pipeline.broker.api import Position
from pipeline.broker.producer import Producer
from pipeline.broker.record_batcher import EntryPosition, RecordBatcher
from pipeline.delivery.records import DeliveryRecords
from pipeline.ops import metrics
from schemas.attempt import Attempt
from schemas.codec import to_header, to_json
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord
from schemas.topics import Topics, delay_label

_ATTEMPT_BYTES: Final = 4 * 1024
"""About how much of the producer's memory an attempt's record takes."""


class DeliveryPublisher:
    """One per process that delivers."""

    def __init__(self, producer: Producer, topics: Topics) -> None:
        self._producer = producer
        self._held = topics.held
        self._attempts = RecordBatcher(producer, topics.attempts, separator=b"\n")
        # Looked up once per delay of the schedule.
        self._later = functools.cache(lambda delay: (topics.delay(delay), metrics.RETRIES_SCHEDULED.labels(delay_label(delay))))

    async def room(self) -> None:
        """Wait while too many records are not acknowledged by Kafka: further ones would pile up here."""
        await self._producer.room(_ATTEMPT_BYTES)

    async def write(self, records: DeliveryRecords, *, urgent: bool = False) -> None:
        """Write the records of a delivery; returns when Kafka has all of them. ``urgent``: another delivery waits for that."""
        # Sent first and awaited last, so that the writes overlap.
        attempt_written = self.attempt(records.attempt, urgent=urgent) if records.attempt is not None else None
        if records.follows is not None:
            if records.delay is None:
                await self.hold(records.follows, records.body)
            else:
                await self.schedule(records.follows, records.body, records.delay)
        if attempt_written is not None:
            await attempt_written

    def attempt(self, record: Attempt, *, urgent: bool = False) -> asyncio.Future[EntryPosition]:
        """Write an attempt; the future is done when Kafka has it. ``urgent``: a caller waits for that."""
        return self._attempts.add(to_json(record), day=record.created_at.date(), urgent=urgent)

    async def schedule(self, record: DeliveryRecord, body: bytes, delay: timedelta) -> Position:
        """Write a delivery that is due after ``delay``; returns when Kafka has it."""
        await self._producer.room(len(body))
        topic, scheduled = self._later(delay)
        scheduled.inc()
        headers = [to_header(DELIVERY_HEADER, record)]
        return await self._producer.send(topic, key=record.event.id.encode(), value=body, headers=headers, spread=True)

    async def hold(self, record: DeliveryRecord, body: bytes) -> None:
        """Write a delivery whose endpoint is paused; returns when Kafka has it. An endpoint's deliveries share one partition."""
        await self._producer.room(len(body))
        headers = [to_header(DELIVERY_HEADER, record)]
        await self._producer.send(self._held, key=str(record.endpoint_id).encode(), value=body, headers=headers)
