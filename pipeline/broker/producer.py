"""The producer: acks=all, idempotent, with acknowledgements that can be awaited.

kafka-python settles its futures on a thread of its own. Instead of a wake-up of the event loop for each, the loop looks at the
oldest future of each partition every few milliseconds while something is outstanding: a partition is acknowledged in order.
(Records whose key chooses the partition wait in one line a topic; there it may take a little longer.)
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from pipeline.broker.kafka.config import opening_session
from pipeline.broker.kafka.waits import wait_while_full
from pipeline.broker.record import size_of
from pipeline.ops import metrics
from pipeline.ops.logs import logger

log = logger(__name__)

_LOOK_AFTER_S = 0.004
_RESEND_AFTER_S = 1.0
_CLOSE_TIMEOUT_S = 10.0
_SLICE_S = 0.1
"""How long records that may go anywhere go to one partition: large batches cost less than many small ones."""


class PublishError(Exception):
    """Kafka will not take a record, and sending it again is of no use (too large, no permission, the producer is closed)."""


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
    partition: int | None
    acknowledged: asyncio.Future[Position]

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes until it is acknowledged."""
        return size_of(self.key, self.value, self.headers)


class Producer:
    """Writes records. One per process; used from the event loop only."""

    def __init__(self, config: dict[str, Any], topics: Sequence[str], *, max_bytes: int = 64 * 1024 * 1024) -> None:
        """``max_bytes`` is what :meth:`room` bounds."""
        self._config = config
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._topics = topics
        self._outstanding: dict[tuple[str, int | None], deque[tuple[Any, _Send]]] = {}
        self._looking = False
        self._closing = False

    async def start(self) -> None:
        """Connect, and learn of every topic: send() would block the loop for metadata otherwise.

        Raises:
            NoSessionError: no broker answered.
        """
        self._loop = asyncio.get_running_loop()
        self._producer = await asyncio.to_thread(self._connect)
        self._slices = dict.fromkeys(self._topics, (0.0, -1))
        metrics.UNACKNOWLEDGED.set_function(lambda: float(sum(map(len, self._outstanding.values()))))

    def _connect(self) -> KafkaProducer:
        with opening_session(self._config["bootstrap_servers"]):
            producer = KafkaProducer(**self._config)
        wait_while_full(producer)
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
        self._look()

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        spread: bool = False,
    ) -> asyncio.Future[Position]:
        """Write a record. The future is done when all in-sync replicas have it.

        ``spread`` says that any partition will do; otherwise the key chooses it (murmur2, as every Kafka client does).
        A record that Kafka could not take for now is sent again until it is acknowledged; the future fails with PublishError only
        when that is of no use.
        """
        partition = self._any_partition(topic) if spread else None
        send = _Send(topic, key, value, headers, partition, self._loop.create_future())
        self._bytes += send.size
        self._send(send)
        return send.acknowledged

    async def room(self, size: int) -> None:
        """Wait until there is room for a record of about ``size`` bytes among what Kafka has not acknowledged.

        kafka-python takes records without end while the brokers are away. So whoever makes many records of one (an event has
        many endpoints, each with an attempt and perhaps a repeat with the whole body) asks for room first. A record that is
        larger than the bound gets it when it is alone.
        """
        if not self._waiting and self._fits(self._bytes, size):
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((size, turn))
        self._look_later()
        await turn

    def _fits(self, taken: int, size: int) -> bool:
        return self._closing or not taken or taken + size <= self._max_bytes

    def _any_partition(self, topic: str) -> int:
        until, partition = self._slices[topic]
        now = time.monotonic()
        if now >= until:
            # What the client knows by now: partitions may have been added.
            known = self._producer.partitions_for(topic)
            partition = min((number for number in known if number > partition), default=min(known))
            self._slices[topic] = (now + _SLICE_S, partition)
        return partition

    def _send(self, send: _Send) -> None:
        try:
            future = self._producer.send(
                send.topic, key=send.key, value=send.value, headers=list(send.headers), partition=send.partition
            )
        except Exception as error:  # noqa: BLE001 - KafkaError and what kafka-python's checks raise: the waiter must learn of it
            self._failed(send, error)
            return
        self._outstanding.setdefault((send.topic, send.partition), deque()).append((future, send))
        self._look_later()

    def _look_later(self) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_later(_LOOK_AFTER_S, self._look)

    def _look(self) -> None:
        """Settle what has been acknowledged since the last look."""
        left = False
        for outstanding in self._outstanding.values():
            while outstanding and outstanding[0][0].is_done:
                self._settle(*outstanding.popleft())
            left = left or bool(outstanding)
        metrics.UNACKNOWLEDGED_BYTES.set(self._bytes)
        self._let_in()
        self._looking = False
        if (left or self._waiting) and not self._closing:
            self._look_later()

    def _let_in(self) -> None:
        """Wake as many of those that wait as there is room for, the first ones first."""
        taken = self._bytes
        while self._waiting and self._fits(taken, self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.done():  # its delivery may have been cancelled
                turn.set_result(None)
                taken += size

    def _settle(self, future: Any, send: _Send) -> None:
        if future.exception is not None:
            self._failed(send, future.exception)
            return
        self._bytes -= send.size
        _produced(send.topic).inc()
        if not send.acknowledged.done():  # its waiter may have been cancelled
            metadata = future.value
            send.acknowledged.set_result(Position(send.topic, metadata.partition, metadata.offset))

    def _failed(self, send: _Send, error: Exception) -> None:
        if isinstance(error, KafkaError) and error.retriable and not self._closing:
            metrics.PRODUCE_RETRIES.labels(send.topic).inc()
            log.warning("Kafka did not acknowledge a record, sending it again", topic=send.topic, error=repr(error))
            self._loop.call_later(_RESEND_AFTER_S, self._send, send)
            return
        self._bytes -= send.size
        metrics.PRODUCE_FAILURES.labels(send.topic).inc()
        if not send.acknowledged.done():
            failure = PublishError(f"Kafka does not take a record for {send.topic}: {error}")
            failure.__cause__ = error
            send.acknowledged.set_exception(failure)


_produced = functools.cache(metrics.PRODUCED.labels)
