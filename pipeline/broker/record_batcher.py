"""Combines several entries into one record: the results of a delivery are small, and kafka-python's cost is per record.

Measured with tests/bench/path.py: two records per delivery (its dispatch, its attempt) took nearly half of its CPU time. An entry
waits a few milliseconds for others, longer if few arrive. It is acknowledged with its record: if the process dies before that,
the input of its delivery is not committed, and the delivery is made again.
"""

from __future__ import annotations

import asyncio
import functools
from datetime import date
from typing import NamedTuple

from pipeline.broker.api import Position
from pipeline.broker.producer import Producer
from schemas.batch import MAX_BATCHED

_GATHER_S = 0.02
_MAX_GATHERS = 5
"""The longest wait of an entry, as a multiple of `_GATHER_S`. It delays when an attempt can be searched."""
_WANTED = 16
"""How many entries a record should have, if that many arrive in time. Each record costs the fan-out, Kafka and the recorder some
wake-ups.
"""
_SPARSE = 5.0
"""Entries per second. At lower rates, each entry is alone in its record anyway."""
_RATE_OVER_S = 1.0
_FULL_BYTES = 256 * 1024


class EntryPosition(NamedTuple):
    """The position of an entry in Kafka: its record, and its number there (from 0)."""

    partition: int
    offset: int
    number: int


class BatchPace:
    """How long entries wait, depending on the rate of the last second or so. No I/O and no clock."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._entries = 0
        self._periods = 1

    def count(self) -> None:
        """Count an entry."""
        self._entries += 1

    def seconds(self, now: float) -> float:
        """How many seconds from ``now`` (by the clock of the event loop) until the next record is closed.

        Records of all topics are closed at the same moments, or at some of them, so that one request carries them all.
        """
        if self._since is None:
            self._since = now
        elif (passed := now - self._since) >= _RATE_OVER_S:
            a_second = self._entries / passed
            self._periods = batch_periods(a_second)
            self._since, self._entries = now, 0
        period = self._periods * _GATHER_S
        return period - now % period


def batch_periods(a_second: float) -> int:
    """How many periods of `_GATHER_S` entries wait at this rate (entries per second)."""
    if a_second < _SPARSE:
        return 1
    return max(1, min(int(_WANTED / (a_second * _GATHER_S)), _MAX_GATHERS))


class RecordBatcher:
    """Batches the entries for one topic. ``separator`` separates their values; line breaks separate their headers.

    All entries of a record are of the same UTC day: the recorder inserts a record as a whole or not at all, and ClickHouse can
    guarantee this only within one partition of a table, which consists of whole days.
    """

    def __init__(self, producer: Producer, topic: str, *, separator: bytes, header: str | None = None) -> None:
        self._producer = producer
        self._topic = topic
        self._separator = separator
        self._header = header
        self._open: dict[date, _Batch] = {}
        self._pace = BatchPace()

    @functools.cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def add(self, value: bytes, *, day: date, header: bytes = b"", urgent: bool = False) -> asyncio.Future[EntryPosition]:
        """Write an entry. The future is done when all in-sync replicas have it; PublishError if Kafka refuses its record.

        ``urgent``: something waits for the acknowledgement, such as the next delivery of a lane.
        """
        batch = self._open.get(day)
        if batch is not None and not batch.has_room(len(value) + len(header)):
            self._close(day, batch)
            batch = None
        self._pace.count()
        now = self._loop.time()
        if batch is None:
            seconds = _until_next(now) if urgent else self._pace.seconds(now)
            batch = self._open[day] = _Batch(now + seconds)
            self._loop.call_later(seconds, self._close, day, batch)
        elif urgent and batch.closes_at > now + (seconds := _until_next(now)):
            batch.closes_at = now + seconds
            self._loop.call_later(seconds, self._close, day, batch)
        acknowledged: asyncio.Future[EntryPosition] = self._loop.create_future()
        batch.add(value, header, acknowledged)
        return acknowledged

    def _close(self, day: date, batch: _Batch) -> None:
        if self._open.get(day) is not batch:  # closed earlier, because it was full or needed soon
            return
        del self._open[day]
        headers = [(self._header, b"\n".join(batch.headers))] if self._header else []
        written = self._producer.send(
            self._topic, key=None, value=self._separator.join(batch.values), headers=headers, spread=True
        )
        written.add_done_callback(batch.settle)


def _until_next(now: float) -> float:
    """How many seconds until the next moment at which records may be closed."""
    return _GATHER_S - now % _GATHER_S


class _Batch:
    __slots__ = ("_acknowledged", "_size", "closes_at", "headers", "values")

    def __init__(self, closes_at: float) -> None:
        self.closes_at = closes_at
        self.values: list[bytes] = []
        self.headers: list[bytes] = []
        self._acknowledged: list[asyncio.Future[EntryPosition]] = []
        self._size = 0

    def has_room(self, size: int) -> bool:
        return len(self.values) < MAX_BATCHED and self._size + size <= _FULL_BYTES

    def add(self, value: bytes, header: bytes, acknowledged: asyncio.Future[EntryPosition]) -> None:
        self.values.append(value)
        self.headers.append(header)
        self._acknowledged.append(acknowledged)
        self._size += len(value) + len(header)

    def settle(self, written: asyncio.Future[Position]) -> None:
        """Pass the acknowledgement of the record on to its entries."""
        error = None if written.cancelled() else written.exception()
        for index, acknowledged in enumerate(self._acknowledged):
            if acknowledged.done():  # its waiter was cancelled
                continue
            if written.cancelled():
                acknowledged.cancel()
            elif error is not None:
                acknowledged.set_exception(error)
            else:
                position = written.result()
                acknowledged.set_result(EntryPosition(position.partition, position.offset, index))
