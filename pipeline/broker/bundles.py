"""Several entries in one record: what a delivery leaves behind is small, and kafka-python's cost is per record.

Measured with tests/bench/path.py: two records a delivery (its dispatch, its attempt) were nearly half of its CPU time.
An entry waits a few milliseconds for others. It is acknowledged when its record is: if the process dies before, the input of
its delivery is not committed, and the delivery is made again.
"""

from __future__ import annotations

import asyncio
import functools
from datetime import date
from typing import NamedTuple

from pipeline.broker.api import Position
from pipeline.broker.producer import Producer
from schemas.bundle import MAX_BUNDLE

_GATHER_S = 0.02
_FULL_BYTES = 256 * 1024


class Place(NamedTuple):
    """Where Kafka put an entry: its record, and its number there (from 0)."""

    partition: int
    offset: int
    number: int


class Bundles:
    """Entries on their way into one topic. ``separator`` stands between their values, line breaks between their headers.

    All entries of a record are of the same UTC day: the recorder inserts a record as a whole or not at all, and ClickHouse can
    promise that only within one partition of a table, which is made of whole days.
    """

    def __init__(self, producer: Producer, topic: str, *, separator: bytes, header: str | None = None) -> None:
        self._producer = producer
        self._topic = topic
        self._separator = separator
        self._header = header
        self._open: dict[date, _Bundle] = {}

    @functools.cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def add(self, value: bytes, *, day: date, header: bytes = b"") -> asyncio.Future[Place]:
        """Write an entry. The future is done when all in-sync replicas have it; PublishError when Kafka refuses its record."""
        bundle = self._open.get(day)
        if bundle is not None and not bundle.has_room(len(value) + len(header)):
            self._close(day, bundle)
            bundle = None
        if bundle is None:
            bundle = self._open[day] = _Bundle()
            # All topics' records are closed at the same moments: one request takes them all.
            self._loop.call_later(_GATHER_S - self._loop.time() % _GATHER_S, self._close, day, bundle)
        acknowledged: asyncio.Future[Place] = self._loop.create_future()
        bundle.add(value, header, acknowledged)
        return acknowledged

    def _close(self, day: date, bundle: _Bundle) -> None:
        if self._open.get(day) is not bundle:  # it was full before its time was up
            return
        del self._open[day]
        headers = [(self._header, b"\n".join(bundle.headers))] if self._header else []
        written = self._producer.send(
            self._topic, key=None, value=self._separator.join(bundle.values), headers=headers, spread=True
        )
        written.add_done_callback(bundle.settle)


class _Bundle:
    __slots__ = ("_acknowledged", "_size", "headers", "values")

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.headers: list[bytes] = []
        self._acknowledged: list[asyncio.Future[Place]] = []
        self._size = 0

    def has_room(self, size: int) -> bool:
        return len(self.values) < MAX_BUNDLE and self._size + size <= _FULL_BYTES

    def add(self, value: bytes, header: bytes, acknowledged: asyncio.Future[Place]) -> None:
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
                acknowledged.set_result(Place(position.partition, position.offset, index))
