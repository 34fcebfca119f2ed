"""What was polled and has not been handed over yet, by partition. No I/O and no clock.

A partition that has something here is not fetched, so each holds one fetch at most. Records that are not due yet may hold half
of the memory that the consumer has; of those that exceed it, the ones that are due last are forgotten and read again in time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pipeline.broker.api import Fetched, Partition, size_of

DueIn = Callable[[Fetched, float], float]
"""In how many seconds from a moment (seconds since 1970) a record may be handed over, asked when it comes; 0 and below: at once."""


class Buffered(NamedTuple):
    """A record as a client fetched it, the epoch that it was polled under, its size in bytes, and when it is due."""

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

    ``now`` and what is due are seconds of a clock that never goes back: one that is set anew while records wait changes nothing.
    """

    def __init__(self, due_in: DueIn | None = None) -> None:
        self._due_in = due_in
        self._queues: dict[Partition, _Queue] = {}
        self._evicted: dict[Partition, float] = {}

    def add(self, partition: Partition, epoch: int, records: Iterable[Fetched], now: float = 0.0, wall: float = 0.0) -> None:
        """Keep what was polled, in the order of the offsets.

        ``wall`` is the same moment as ``now``, in seconds since 1970. Look at that clock first: should time pass in between, records
        are due a little late, and never early.
        """
        queue = self._queues.setdefault(partition, _Queue())
        for record in records:
            size = size_of(record.key, record.value, record.headers)
            due = -math.inf if self._due_in is None else now + self._due_in(record, wall)
            queue.records.append(Buffered(epoch, record, size, due))
            queue.bytes += size
        if not queue.records:
            del self._queues[partition]

    def take(self, fits: Callable[[int], bool], now: float) -> Iterator[tuple[Partition, Buffered]]:
        """Take what is due while it fits; ``fits`` is asked for each record when those before it have been dealt with.

        Every partition gets its turn: one that gave something goes to the end, and what does not fit is not overtaken.
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
        """Forget a partition: it is somebody else's."""
        self._queues.pop(partition, None)
        self._evicted.pop(partition, None)

    def evict(self, max_bytes: int, now: float) -> dict[Partition, int]:
        """Forget records that are not due, those that are due last first, until such records take at most ``max_bytes``.

        Returns from which offset each of their partitions must be read again; it is not to be fetched before it is due.
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
        """Let partitions be fetched whose records are due."""
        self._evicted = {partition: due for partition, due in self._evicted.items() if due > now}

    def next_due(self) -> float:
        """When the next record is due; infinity when there is none."""
        return min((*map(self._due_of, self._queues), *self._evicted.values()), default=math.inf)

    def heads(self) -> dict[Partition, Buffered]:
        """The first record that is held of each partition."""
        return {partition: queue.records[0] for partition, queue in self._queues.items()}

    @property
    def partitions(self) -> frozenset[Partition]:
        """The partitions that are not to be fetched now."""
        return frozenset(self._queues) | frozenset(self._evicted)

    @property
    def records(self) -> int:
        """How many records are held."""
        return sum(len(queue.records) for queue in self._queues.values())

    @property
    def bytes(self) -> int:
        """How many bytes they have."""
        return sum(queue.bytes for queue in self._queues.values())

    def _due_of(self, partition: Partition) -> float:
        return self._queues[partition].records[0].due
