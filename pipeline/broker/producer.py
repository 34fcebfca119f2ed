"""The producer: acks=all, idempotent, with acknowledgements that can be awaited.

kafka-python's futures are settled on its sender thread, a batch at a time. They are collected there and handed to the event
loop together: a wake-up a batch, not one a record.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from pipeline.ops import metrics
from pipeline.ops.logs import logger

log = logger(__name__)

_RESEND_AFTER_S = 1.0
_CLOSE_TIMEOUT_S = 10.0


class Position(NamedTuple):
    """Where Kafka put a record."""

    topic: str
    partition: int
    offset: int


class _Send(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    acknowledged: asyncio.Future[Position]


class Producer:
    """Writes records. One per process; used from the event loop only."""

    def __init__(self, config: dict[str, Any], topics: Sequence[str]) -> None:
        self._config = config
        self._topics = topics
        self._settled: deque[tuple[_Send, Position | Exception]] = deque()
        self._wake_up_scheduled = False
        self._closing = False

    async def start(self) -> None:
        """Connect, and learn of every topic: send() would block the loop for metadata otherwise."""
        self._loop = asyncio.get_running_loop()
        self._producer = await asyncio.to_thread(self._connect)

    def _connect(self) -> KafkaProducer:
        producer = KafkaProducer(**self._config)
        try:
            for topic in self._topics:
                producer.partitions_for(topic)
        except BaseException:
            producer.close(timeout=0)
            raise
        return producer

    async def close(self) -> None:
        """Send what is left, and disconnect."""
        self._closing = True
        try:
            await asyncio.to_thread(self._producer.close, timeout=_CLOSE_TIMEOUT_S)
        except KafkaError as error:
            log.warning("producer closed with records that Kafka did not acknowledge", error=repr(error))

    def send(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> asyncio.Future[Position]:
        """Write a record. The future is done when all in-sync replicas have it.

        A record that Kafka could not take for now is sent again until it is acknowledged; the future fails only when that is
        of no use (too large, no permission).
        """
        send = _Send(topic, key, value, headers, self._loop.create_future())
        self._send(send)
        return send.acknowledged

    def _send(self, send: _Send) -> None:
        try:
            future = self._producer.send(send.topic, key=send.key, value=send.value, headers=list(send.headers))
        except KafkaError as error:
            self._failed(send, error)
            return
        future.add_callback(self._on_sender_thread, send)
        future.add_errback(self._on_sender_thread, send)

    def _on_sender_thread(self, send: _Send, result: Any) -> None:
        self._settled.append(
            (send, result if isinstance(result, Exception) else Position(send.topic, result.partition, result.offset))
        )
        if not self._wake_up_scheduled:
            self._wake_up_scheduled = True
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        # Reset first: what is appended from here on schedules another wake-up.
        self._wake_up_scheduled = False
        while self._settled:
            send, result = self._settled.popleft()
            if isinstance(result, Exception):
                self._failed(send, result)
            else:
                metrics.PRODUCED.labels(send.topic).inc()
                if not send.acknowledged.done():  # its waiter may have been cancelled
                    send.acknowledged.set_result(result)

    def _failed(self, send: _Send, error: Exception) -> None:
        if isinstance(error, KafkaError) and error.retriable and not self._closing:
            metrics.PRODUCE_RETRIES.labels(send.topic).inc()
            log.warning("Kafka did not acknowledge a record, sending it again", topic=send.topic, error=repr(error))
            self._loop.call_later(_RESEND_AFTER_S, self._send, send)
        elif not send.acknowledged.done():
            send.acknowledged.set_exception(error)
