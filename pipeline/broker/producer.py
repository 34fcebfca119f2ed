"""The producer: acks=all, idempotent, with acknowledgements that can be awaited.

Clients receive acknowledgements on their own threads. Instead of waking the event loop for each, the loop checks the oldest record
of each partition every few milliseconds while records are outstanding: a partition is acknowledged in order. (Records whose key
determines the partition share one queue per topic; there it may take a little longer.)
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from pipeline.broker.api import Broker, Pending, Position, size_of
from pipeline.broker.errors import PublishError, UnavailableError
from pipeline.broker.failure_backoff import FailureBackoff
from pipeline.ops import metrics
from pipeline.ops.daemon_threads import in_thread
from pipeline.ops.logs import logger

log = logger(__name__)

_CHECK_ACKS_AFTER_S: Final = 0.015
"""Each check wakes the event loop, and because of `kafka_linger_ms` nothing is acknowledged sooner. At 200 deliveries per second,
a check every 4 ms was a sixth of what a delivery costs the fan-out.
"""
_SELDOM_S: Final = 5.0
"""How often the client is served while nothing is outstanding: librdkafka keeps errors about unavailable brokers until then."""
_NEW_PARTITION_S: Final = 300.0
"""For how long a partition may be unknown to the client before a record for it is refused. When partitions are added, clients learn of
them one after the other (`kafka_metadata_max_age_ms`), consumers perhaps before this one.
"""
_CLOSE_TIMEOUT_S: Final = 10.0
_SILENT_S: Final = 10.0
"""If a record is not acknowledged for this long, Kafka accepts no writes, whatever else it answers."""
SLICE_S: Final = 1.2
"""How long records that may go to any partition go to the same one. All processes switch at the same moments, by the wall clock.

At ordinary rates, the cost for ClickHouse is the number of inserts: 30 to 50 ms of CPU each, whatever is in them. The recorder
inserts the records of each partition separately. So the records of a slice are in one partition, and the recorder's batches last
as long as a slice: one insert per slice and table, not six a second. With longer slices, attempts would become searchable later
than promised (2 s, p95).
"""
_SLICE_BYTES: Final = 1024 * 1024
"""Above this size, the next slice starts early, so that at high rates all partitions get records and all recorders have work."""


class _Send(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    spread: bool
    partition: int | None
    timestamp_ms: int | None
    acknowledged: asyncio.Future[Position]
    since: float
    """When it was first sent, by the clock of the event loop."""

    @property
    def size(self) -> int:
        """Approximate memory use in bytes until it is acknowledged."""
        return size_of(self.key, self.value, self.headers)


class _Slice(NamedTuple):
    """The partition that a topic's records go to at the moment, and how many bytes went there. ``number``: slices since 1970."""

    number: int = -1
    partition: int = -1
    size: int = 0


class Producer:
    """Writes records. One per process; used from the event loop only."""

    def __init__(
        self,
        broker: Broker,
        topics: Sequence[str],
        *,
        max_bytes: int = 64 * 1024 * 1024,
        wall: Callable[[], float] = time.time,
        stamp: Callable[[], int | None] = lambda: None,
    ) -> None:
        """``max_bytes``: the limit of :meth:`room`. ``wall``: seconds since 1970, about the same in all processes. ``stamp``: the timestamp
        of records that are sent, in milliseconds since 1970; None: that of the wall clock.
        """
        self._wall = wall
        self._broker = broker
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._topics = topics
        self._slices = dict.fromkeys(topics, _Slice())
        self._outstanding: dict[tuple[str, int | None], deque[tuple[Pending, _Send]]] = {}
        self._trouble: dict[str, FailureBackoff] = {}
        self._serving = FailureBackoff(log)
        self._waiting_again: dict[int, _Send] = {}
        """Records that were not acknowledged and are about to be sent again, by their ``id()``."""
        self._is_check_scheduled = False
        self._closing = False
        self._stamp = stamp

    async def start(self) -> None:
        """Connect, and fetch the metadata of every topic.

        Raises:
            NoSessionError: no broker answered.
        """
        self._loop = asyncio.get_running_loop()
        self._client = await in_thread(lambda: self._broker.producer_client(self._topics), "producer start")
        self._seldom = self._loop.call_later(_SELDOM_S, self._check_acks_seldom)
        metrics.UNACKNOWLEDGED.set_function(lambda: float(sum(map(len, self._outstanding.values()))))

    async def close(self) -> None:
        """Send the remaining records, and disconnect."""
        self._closing = True
        self._seldom.cancel()
        await asyncio.to_thread(self._client.close, _CLOSE_TIMEOUT_S)
        self._check_acks()

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        spread: bool = False,
        partition: int | None = None,
    ) -> asyncio.Future[Position]:
        """Write a record. The future is done when all in-sync replicas have it.

        ``spread``: any partition will do. Otherwise it is ``partition``, or the key determines it (murmur2, as in every Kafka
        client). A record that Kafka does not accept at the moment is sent again until it is acknowledged. The future fails with
        PublishError only if that does not help.
        """
        acknowledged: asyncio.Future[Position] = self._loop.create_future()
        self._begin(_Send(topic, key, value, headers, spread, partition, self._stamp(), acknowledged, self._loop.time()))
        return acknowledged

    def send_at(self, topic: str, *, key: bytes, value: bytes, timestamp_ms: int) -> asyncio.Future[Position]:
        """Write a record with the given timestamp, in milliseconds since 1970; otherwise like :meth:`send`."""
        acknowledged: asyncio.Future[Position] = self._loop.create_future()
        self._begin(_Send(topic, key, value, (), False, None, timestamp_ms, acknowledged, self._loop.time()))
        return acknowledged

    def partitions(self, topic: str) -> Collection[int]:
        """The numbers of a topic's partitions.

        Raises:
            UnavailableError: they are not known yet.
            PublishError: no permission to describe the topic.
        """
        return self._client.partitions(topic)

    async def room(self, size: int) -> None:
        """Wait until there is room for a record of about ``size`` bytes among those that Kafka has not acknowledged.

        While the brokers are unavailable, kafka-python accepts records without limit. So code that turns one record into many (an
        event has many endpoints, each with an attempt and perhaps a retry with the whole body) waits for room first. A record that
        is larger than the limit gets room when it is alone.
        """
        if not self._waiting and self._fits(self._bytes, size):
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((size, turn))
        self._check_acks_later()
        await turn

    def problem(self) -> str | None:
        """How long Kafka has not acknowledged a record, in words, if that is long; None if writing works (for health checks)."""
        waiting = [pending[0][1] for pending in self._outstanding.values() if pending]
        oldest = min([*waiting, *self._waiting_again.values()], key=lambda send: send.since, default=None)
        if oldest is None or (seconds := self._loop.time() - oldest.since) < _SILENT_S:
            return None
        return (
            f"Kafka has not acknowledged a record of {oldest.topic} for {seconds:.0f} s. Are enough brokers available for its "
            "min.insync.replicas? The record is sent again until Kafka acknowledges it."
        )

    def is_stuck(self, topic: str) -> bool:
        """Whether a record of the topic has been unacknowledged for long. In a topic with one partition, others wait behind it."""
        waiting = [pending[0][1] for (name, _), pending in self._outstanding.items() if pending and name == topic]
        again = [send for send in self._waiting_again.values() if send.topic == topic]
        return any(self._loop.time() - send.since >= _SILENT_S for send in [*waiting, *again])

    def _fits(self, taken: int, size: int) -> bool:
        return self._closing or not taken or taken + size <= self._max_bytes

    def _any_partition(self, topic: str, size: int) -> int:
        slice_ = self._slices.get(topic, _Slice())
        number = int(self._wall() / SLICE_S)
        if slice_.number != number:
            known = sorted(self._client.partitions(topic))  # asked each time: partitions may have been added
            slice_ = _Slice(number, known[number % len(known)], size)
        elif slice_.size + size > _SLICE_BYTES:
            known = sorted(self._client.partitions(topic))
            slice_ = _Slice(number, next((each for each in known if each > slice_.partition), known[0]), size)
        else:
            slice_ = slice_._replace(size=slice_.size + size)
        self._slices[topic] = slice_
        return slice_.partition

    def _known_partition(self, send: _Send) -> int | None:
        """The partition of a record, if it must be a certain one."""
        is_known = send.partition is None or send.partition in self._client.partitions(send.topic)
        if not is_known and self._loop.time() - send.since < _NEW_PARTITION_S:
            raise UnavailableError(f"partition {send.partition} is not known yet")
        return send.partition

    def _begin(self, send: _Send) -> None:
        self._bytes += send.size
        self._send(send)

    def _send(self, send: _Send) -> None:
        """Pass a record to the client. Whatever fails, the record is sent again, or its future gets the error."""
        try:
            partition = self._any_partition(send.topic, send.size) if send.spread else self._known_partition(send)
            pending = self._client.send(send.topic, partition, send.key, send.value, send.headers, send.timestamp_ms)
        except Exception as error:  # noqa: BLE001 - even one that no client should raise: a delivery waits for this record
            self._failed(send, error)
            return
        self._outstanding.setdefault((send.topic, partition), deque()).append((pending, send))
        self._check_acks_later()

    def _send_again(self, send: _Send) -> None:
        self._waiting_again.pop(id(send), None)
        self._send(send)

    def _check_acks_later(self) -> None:
        if not self._is_check_scheduled:
            self._is_check_scheduled = True
            self._loop.call_later(_CHECK_ACKS_AFTER_S, self._check_acks)

    def _check_acks_seldom(self) -> None:
        if not self._is_check_scheduled:
            self._check_acks()
        if not self._closing:
            self._seldom = self._loop.call_later(_SELDOM_S, self._check_acks_seldom)

    def _check_acks(self) -> None:
        """Settle the records that were acknowledged since the last check."""
        self._is_check_scheduled = left = False
        try:
            self._client.serve()
        except Exception as error:  # noqa: BLE001 - whatever it is: acknowledged records must be settled, now and later
            self._serving.note("serving the Kafka client failed; trying again", error=repr(error))
        else:
            self._serving.over("serving the Kafka client works again")
        for outstanding in self._outstanding.values():
            while outstanding and outstanding[0][0].is_done:
                self._settle(*outstanding.popleft())
            left = left or bool(outstanding)
        metrics.UNACKNOWLEDGED_BYTES.set(self._bytes)
        self._let_in()
        if (left or self._waiting) and not self._closing:
            self._check_acks_later()

    def _let_in(self) -> None:
        """Wake waiting callers, in their order, as long as there is room."""
        taken = self._bytes
        while self._waiting and self._fits(taken, self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.done():  # its delivery may have been cancelled
                turn.set_result(None)
                taken += size

    def _settle(self, pending: Pending, send: _Send) -> None:
        try:
            position = self._client.position(pending)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(send, error)
            return
        self._bytes -= send.size
        _produced(send.topic).inc()
        if send.topic in self._trouble:
            self._trouble.pop(send.topic).over("Kafka acknowledges records again", topic=send.topic)
        if not send.acknowledged.done():  # its waiter may have been cancelled
            send.acknowledged.set_result(position)

    def _failed(self, send: _Send, error: Exception) -> None:
        if isinstance(error, UnavailableError) and not self._closing:
            metrics.PRODUCE_RETRIES.labels(send.topic).inc()
            trouble = self._trouble.setdefault(send.topic, FailureBackoff(log))
            seconds = trouble.note("Kafka did not acknowledge a record; sending it again", topic=send.topic, error=str(error))
            self._waiting_again[id(send)] = send
            self._loop.call_later(seconds, self._send_again, send)
            return
        self._bytes -= send.size
        metrics.PRODUCE_FAILURES.labels(send.topic).inc()
        if not send.acknowledged.done():
            if not isinstance(error, PublishError):
                failure = PublishError(f"Kafka does not accept a record for {send.topic}: {error}")
                failure.__cause__ = error
                error = failure
            send.acknowledged.set_exception(error)


_produced = functools.cache(metrics.PRODUCED.labels)
