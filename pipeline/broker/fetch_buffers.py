"""Fetched records that were not handed over yet, by partition. No I/O.

A partition with buffered records is not fetched, so each buffer holds at most one fetch. Records that are not due yet may use half
of the consumer's memory; beyond that, the ones that are due last are evicted, and fetched again in time.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pipeline.broker.api import Fetched, Partition, size_of

DueIn = Callable[[Fetched], float]
"""Called when a record arrives. Returns in how many seconds it may be handed over; 0 or less: immediately."""


class Buffered(NamedTuple):
    """A record as a client fetched it, the epoch in which it was fetched, its size in bytes, and when it is due."""

    epoch: int
    record: Fetched
    size: int
    due: float


class _Queue:
    __slots__ = ("bytes", "records")

    def __init__(self) -> None:
        self.records: deque[Buffered] = deque()
        self.bytes = 0

    @property
    def head(self) -> Buffered | None:
        return self.records[0] if self.records else None


class FetchBuffers:
    """Used by the fetch thread.

    ``now`` and due times are seconds of ``clock``, which never goes back, so setting the wall clock does not affect waiting records.
    """

    def __init__(self, due_in: DueIn | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._due_in = due_in
        self._clock = clock
        self._queues: dict[Partition, _Queue] = {}
        self._evicted: dict[Partition, float] = {}

    def add(self, partition: Partition, epoch: int, records: Iterable[Fetched]) -> None:
        """Add fetched records, in offset order."""
        queue = self._queues.setdefault(partition, _Queue())
        for record in records:
            size = size_of(record.key, record.value, record.headers)
            # The clock is read last: if time passes in between, a record is due slightly late, but never early.
            due = -math.inf if self._due_in is None else self._due_in(record) + self._clock()
            queue.records.append(Buffered(epoch, record, size, due))
            queue.bytes += size
        if not queue.records:
            del self._queues[partition]

    def take(self, fits: Callable[[int], bool], now: float) -> Iterator[tuple[Partition, Buffered]]:
        """Take due records while they fit; ``fits`` is called for each record after the previous ones were processed.

        Partitions take turns: one that has yielded records moves to the end. No record overtakes one that does not fit.
        """
        for partition in list(self._queues):
            queue = self._queues[partition]
            first = head = queue.head
            while head is not None and head.due <= now and fits(head.size):
                queue.bytes -= queue.records.popleft().size
                yield partition, head
                head = queue.head
            if head is not first:
                del self._queues[partition]
                if head is not None:
                    self._queues[partition] = queue
            if head is not None and head.due <= now:
                return

    def drop(self, partition: Partition) -> None:
        """Forget a partition, because it belongs to another process."""
        self._queues.pop(partition, None)
        self._evicted.pop(partition, None)

    def evict(self, max_bytes: int, now: float) -> dict[Partition, int]:
        """Evict records that are not due, the latest ones first, until such records use at most ``max_bytes``.

        Returns the offset at which each of their partitions must be read again. They must not be fetched before they are due.
        """
        if self._due_in is None or self.bytes <= max_bytes:
            return {}
        waiting = sorted((due, partition) for partition in self._queues if (due := self._due_of(partition)) > now)
        held = sum(self._queues[partition].bytes for _, partition in waiting)
        offsets: dict[Partition, int] = {}
        while held > max_bytes:
            due, partition = waiting.pop()
            queue = self._queues.pop(partition)
            held -= queue.bytes
            offsets[partition] = queue.records[0].record.offset
            self._evicted[partition] = due
        return offsets

    def release_due(self, now: float) -> None:
        """Allow fetching partitions whose evicted records are due."""
        self._evicted = {partition: due for partition, due in self._evicted.items() if due > now}

    def next_due(self) -> float:
        """When the next record is due; infinity if there is none."""
        return min((*map(self._due_of, self._queues), *self._evicted.values()), default=math.inf)

    def heads(self) -> dict[Partition, Buffered]:
        """The first buffered record of each partition."""
        return {partition: queue.records[0] for partition, queue in self._queues.items()}

    @property
    def partitions(self) -> frozenset[Partition]:
        """The partitions that must not be fetched now."""
        return frozenset(self._queues) | frozenset(self._evicted)

    @property
    def bytes(self) -> int:
        """The size of all buffered records in bytes."""
        return sum(queue.bytes for queue in self._queues.values())

    def _due_of(self, partition: Partition) -> float:
        return self._queues[partition].records[0].due
