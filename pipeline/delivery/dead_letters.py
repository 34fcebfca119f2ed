"""Unusable input stops nothing: it is set aside as it came, with where it came from and why it could not be used (promise 5)."""

from __future__ import annotations

import asyncio

from pipeline.broker.producer import Position, Producer
from pipeline.broker.record import Record
from pipeline.ops import metrics
from pipeline.ops.clock import Clock
from pipeline.ops.logs import logger
from schemas.codec import to_header
from schemas.delivery import DEAD_LETTER_HEADER, DeadLetter, DeadLetterReason

log = logger(__name__)


class DeadLetters:
    """Writes to ``webhooks.dead-letters``."""

    def __init__(self, producer: Producer, topic: str, clock: Clock) -> None:
        self._producer = producer
        self._topic = topic
        self._clock = clock

    def send(self, record: Record, reason: DeadLetterReason, detail: str) -> asyncio.Future[Position]:
        """Set a record aside: key, value and headers untouched. Done when Kafka has acknowledged it."""
        topic, partition = record.partition
        metrics.DEAD_LETTERS.labels(topic, reason.value).inc()
        log.warning("dead letter", topic=topic, partition=partition, offset=record.offset, reason=reason.value, detail=detail)
        letter = DeadLetter(
            reason=reason, detail=detail, topic=topic, partition=partition, offset=record.offset, failed_at=self._clock()
        )
        headers = [*record.headers, to_header(DEAD_LETTER_HEADER, letter)]
        return self._producer.send(self._topic, key=record.key, value=record.value, headers=headers)
