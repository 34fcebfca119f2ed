"""A topic with one partition as a table in memory: ready when it has caught up; can wait for an offset (read your writes)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.broker.api import Broker, FetchClient, Fetched, Partition, Record
from pipeline.broker.errors import BrokerError, NoSessionError, OutOfRangeError, RefusedError, TopicError, UnavailableError
from pipeline.broker.failure_backoff import FailureBackoff
from pipeline.ops import metrics
from pipeline.ops.logs import logger

log = logger(__name__)

_CATCHING_UP_S: Final = 0.1
_FETCH_BYTES: Final = 1024 * 1024


class CompactedTable:
    """Reads a topic with one partition from its beginning, in a separate thread, and keeps reading.

    ``on_records`` gets every record on the event loop, in the order of the topic. If it raises, reading ends. Before that, ``prepare``
    gets the record on the thread, for work that would keep the loop busy. It must not raise.
    """

    def __init__(
        self,
        broker: Broker,
        topic: str,
        on_records: Callable[[list[Record]], None],
        prepare: Callable[[Record], None] | None = None,
    ) -> None:
        self._broker = broker
        self._partition = Partition(topic, 0)
        self._on_records = on_records
        self._prepare = prepare
        self._next = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._stopping = threading.Event()
        self._position = 0
        self._trouble = FailureBackoff(log)
        self._refusal: Exception | None = None
        self._client: FetchClient | None = None
        self.is_caught_up = False
        self._is_patient = False

    async def start(self) -> None:
        """Start reading, and return when all existing records have been read.

        Raises:
            NoSessionError: Kafka accepted no connection. It can be started again.
        """
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
        self._end()
        await asyncio.wait([self.stopped])

    def _end(self) -> None:
        self._stopping.set()
        if self._client is not None:
            self._client.wake()

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
        client: FetchClient | None = None
        try:
            client = self._client = self._broker.fetch_client(partition_bytes=_FETCH_BYTES)
            self._begin(client)
            while not self._stopping.is_set():
                self._turn(client)
        except NoSessionError as error:
            failure = error
        except Exception as error:
            log.exception("reading the table failed", topic=self._partition.topic)
            failure = error
        if client is not None:
            client.close()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting
            self._loop.call_soon_threadsafe(self._stop, failure)

    def _begin(self, client: FetchClient) -> None:
        """Start reading at the beginning."""
        while not self._stopping.is_set():
            try:
                self._position = client.bounds([self._partition])[self._partition].first
            except UnavailableError as error:
                self._pause(error)
                continue
            client.assign({self._partition: self._position})
            return

    def _pause(self, error: BrokerError) -> None:
        metrics.TABLE_POLL_ERRORS.inc()
        self._stopping.wait(self._trouble.note("a table cannot be read", topic=self._partition.topic, error=str(error)))

    def _turn(self, client: FetchClient) -> None:
        try:
            fetched = self._fetch(client)
        except UnavailableError as error:
            self._pause(error)
            return
        except TopicError:
            raise
        except RefusedError as error:
            if not self.is_caught_up:
                raise
            self._pause(
                error
            )  # a right was removed: what was read is better than nothing, and a restart could not read it either
            return
        self._trouble.over("a table can be read again", topic=self._partition.topic)
        records = [
            Record(self._partition, record.offset, record.timestamp, record.key, record.value, record.headers, 0)
            for record in fetched
            if record.offset >= self._position
        ]
        if not self._prepare_all(records):
            return
        if records:
            self._position = records[-1].offset + 1
        # The end in a fetch response is right on every broker; ListOffsets(LATEST) is not (too low on the embedded one).
        end = client.end(self._partition)
        caught_up = end is not None and self._reached(client, end)
        if caught_up and not self._is_patient:
            self._is_patient = True
            client.allow_long_polls()  # not earlier: whether a topic is empty is known only when its first fetch ends
        if records or (caught_up and not self.is_caught_up):
            self._loop.call_soon_threadsafe(self._apply, records, self._position, caught_up)

    def _prepare_all(self, records: Sequence[Record]) -> bool:
        """False: reading is to end."""
        for record in records:
            if self._prepare is None:
                break
            if self._stopping.is_set():
                return False
            self._prepare(record)
        return True

    def _fetch(self, client: FetchClient) -> Sequence[Fetched]:
        try:
            # A record ends the wait; so does a stop.
            return client.poll(client.longest_poll if self.is_caught_up else _CATCHING_UP_S).get(self._partition, ())
        except OutOfRangeError as error:
            topic, first = self._partition.topic, client.bounds([self._partition])[self._partition].first
            reason = (
                f"Kafka removed records of {topic} before they were read: offsets {self._position} to {first - 1}."
                if self._position < first
                else f"{topic} was recreated or has lost records that were already read."
            )
            raise TopicError(f"{reason} Restart this process.") from error

    def _reached(self, client: FetchClient, end: int) -> bool:
        """Whether everything below the end was read. Compaction and transactions leave offsets without records."""
        position = client.position(self._partition)
        if position is not None:
            self._position = max(self._position, position)
        return self._position >= end

    def _apply(self, records: Sequence[Record], position: int, caught_up: bool) -> None:
        if self._refusal is not None:
            return
        try:
            self._on_records(list(records))
        except Exception as error:  # noqa: BLE001 - the thread ends, and `stopped` gets the error
            self._refusal = error
            self._end()
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
