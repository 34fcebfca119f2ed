"""A compacted topic as a table in memory: ready when caught up, and able to wait for an offset (read your writes)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from pipeline.broker.kafka.waits import wait_cheaply
from pipeline.broker.record import Partition, Record
from pipeline.ops import metrics
from pipeline.ops.logs import logger

log = logger(__name__)

_POLL_MS = 100


class CompactedTable:
    """Reads a one-partition topic from its beginning, in a thread of its own, and keeps reading.

    ``on_records`` gets every record on the event loop, in the order of the topic. When it raises, reading ends.
    """

    def __init__(self, config: dict[str, Any], topic: str, on_records: Callable[[list[Record]], None]) -> None:
        self._config = config | {"group_id": None}
        self._partition = TopicPartition(topic, 0)
        self._on_records = on_records
        self._next = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._stopping = threading.Event()
        self._refusal: Exception | None = None
        self.is_caught_up = False

    async def start(self) -> None:
        """Start reading and return when everything that stood in the topic has been read."""
        self._loop = asyncio.get_running_loop()
        self._caught_up: asyncio.Future[None] = self._loop.create_future()
        self.stopped: asyncio.Future[None] = self._loop.create_future()
        """Done when reading has ended; holds the error that ended it."""
        self._thread = threading.Thread(target=self._run, name=f"table {self._partition.topic}", daemon=True)
        self._thread.start()
        await asyncio.wait([self._caught_up, self.stopped], return_when=asyncio.FIRST_COMPLETED)
        if self.stopped.done():
            self.stopped.result()

    async def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        await asyncio.wait([self.stopped])

    async def wait_for(self, offset: int, timeout: float = 10.0) -> None:
        """Return when the record at ``offset`` has been handed to ``on_records``.

        Raises:
            TimeoutError: it was not read in time.
        """
        if self._next > offset:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((offset, future))
        await asyncio.wait_for(future, timeout)

    def problem(self) -> str | None:
        """Why the table is not ready (for health checks)."""
        return None if self.is_caught_up else f"{self._partition.topic} has not been read to its end yet"

    def _run(self) -> None:
        failure: Exception | None = None
        consumer: KafkaConsumer | None = None
        try:
            consumer = KafkaConsumer(**self._config)
            wait_cheaply(consumer)
            consumer.assign([self._partition])
            consumer.seek_to_beginning(self._partition)
            while not self._stopping.is_set():
                self._turn(consumer)
        except Exception as error:
            log.exception("reading the table failed", topic=self._partition.topic)
            failure = error
        try:
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=2_000)
        except Exception:
            # Whatever it is (kafka-python's own thread may have died), whoever waits for the end must not wait for ever.
            log.exception("the table's consumer could not be closed in order", topic=self._partition.topic)
        self._loop.call_soon_threadsafe(self._stop, failure)

    def _turn(self, consumer: KafkaConsumer) -> None:
        try:
            polled = consumer.poll(timeout_ms=_POLL_MS, max_records=1000)
        except KafkaError as error:
            if not error.retriable:
                raise
            metrics.TABLE_POLL_ERRORS.inc()
            log.warning("poll failed, polling on", topic=self._partition.topic, error=repr(error))
            self._stopping.wait(1.0)
            return
        records = [
            Record(Partition(*self._partition), record.offset, record.timestamp, record.key, record.value, record.headers, 0)
            for record in polled.get(self._partition, ())
        ]
        # The end as a fetch saw it is right on every broker; ListOffsets(LATEST) is not (the embedded one's is too low).
        end = consumer.highwater(self._partition)
        position = consumer.position(self._partition, timeout_ms=0)
        caught_up = end is not None and position is not None and position >= end
        if records or (caught_up and not self.is_caught_up):
            self._loop.call_soon_threadsafe(self._apply, records, position or 0, caught_up)

    def _apply(self, records: Sequence[Record], position: int, caught_up: bool) -> None:
        if self._refusal is not None:
            return
        try:
            self._on_records(list(records))
        except Exception as error:  # noqa: BLE001 - the thread ends, and `stopped` tells
            self._refusal = error
            self._stopping.set()
            return
        self._next = max(self._next, position)
        if caught_up and not self.is_caught_up:
            self.is_caught_up = True
            self._caught_up.set_result(None)
        reached = [future for offset, future in self._waiters if offset < self._next]
        self._waiters = [(offset, future) for offset, future in self._waiters if offset >= self._next]
        for future in reached:
            if not future.done():
                future.set_result(None)

    def _stop(self, failure: Exception | None) -> None:
        failure = failure or self._refusal
        if failure is None:
            self.stopped.set_result(None)
        else:
            self.stopped.set_exception(failure)
