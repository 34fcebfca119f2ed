"""The partitions that this consumer holds: the epoch of each, where it is read from, and what may be committed for it.

The life of a partition here::

    assigned --(the group thread finds where to start)--> ready --(the fetch thread reads)--> ... --> revoked or lost
       epoch n                                                                                       epoch n has ended

Each assignment of a partition has its own epoch. A completion with another epoch belongs to an assignment that has ended:
another process delivers those records now, and nothing may be committed for them here (promise 1).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from pipeline.broker.api import Committed, Partition
from pipeline.core.offsets import Commit, OffsetTracker, encode_metadata
from pipeline.core.record_progress import RecordParts, RecordProgress


@dataclass(slots=True)
class _Held:
    epoch: int
    tracker: OffsetTracker = field(default_factory=OffsetTracker)
    start: int | None = None
    """Where reading starts; None until it is known."""
    last: Committed | None = None
    """The group's commit, as far as this process knows."""
    waiting: deque[tuple[int, float]] = field(default_factory=deque)
    """The records from the lowest unfinished one on: offset, and when it started to wait."""
    is_released: bool = False
    """No further records are started: the partition is about to be revoked."""

    def committable(self) -> Commit | None:
        commit = self.tracker.committable()
        return None if commit is None else commit._replace(epoch=self.epoch)


class StartPosition(NamedTuple):
    """Where to start with a partition: at ``last.offset``."""

    partition: Partition
    epoch: int
    last: Committed
    finished: Collection[int] = ()
    """Later records that an earlier assignment finished."""
    progress: Collection[RecordProgress] = ()
    """The progress of an earlier assignment in other records."""


def committed_of(commit: Commit) -> Committed:
    """A commit as it is stored for the group."""
    return Committed(commit.offset, encode_metadata(commit))


class Assignment:
    """Thread-safe: used by the group thread, the fetch thread, the client's own thread (rebalances) and the event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epochs = count(1)
        self._held: dict[Partition, _Held] = {}
        self.on_change: Callable[[], None] = lambda: None
        """Called on any thread when partitions become readable or are gone; it must not block."""

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Add partitions. One that is already held keeps its epoch (cooperative rebalancing)."""
        with self._lock:
            for partition in partitions:
                if partition not in self._held:
                    self._held[partition] = _Held(next(self._epochs))

    def release(self, partitions: Iterable[Partition]) -> bool:
        """Start no more records of partitions that are about to be revoked. Returns whether all started records are finished."""
        with self._lock:
            going = [held for partition in partitions if (held := self._held.get(partition))]
            for held in going:
                held.is_released = True
            return all(held.tracker.lowest_unfinished is None for held in going)

    def revoke(self, partitions: Iterable[Partition]) -> dict[Partition, Commit]:
        """Remove partitions. Returns what can still be committed for them."""
        with self._lock:
            revoked = [(partition, held) for partition in partitions if (held := self._held.pop(partition, None))]
        self.on_change()
        commits = ((partition, held.committable()) for partition, held in revoked)
        return {partition: commit for partition, commit in commits if commit is not None}

    def epoch(self, partition: Partition) -> int | None:
        """The epoch of a partition's assignment; None if it is not held."""
        held = self._held.get(partition)
        return held.epoch if held else None

    def unready(self) -> dict[Partition, int]:
        """The partitions whose starting offset is not known yet, with their epochs."""
        with self._lock:
            return {partition: held.epoch for partition, held in self._held.items() if held.start is None}

    def begin(self, *starts: StartPosition) -> None:
        """Make partitions readable. Partitions assigned together become readable together, so that one fetch covers them."""
        with self._lock:
            for partition, epoch, last, finished, progress in starts:
                held = self._held.get(partition)
                if held is not None and held.epoch == epoch and held.start is None:
                    held.tracker, held.start, held.last = OffsetTracker(finished, progress), last.offset, last
        self.on_change()

    def ready(self) -> dict[Partition, tuple[int, int]]:
        """The readable partitions: the epoch, and where reading starts in it."""
        with self._lock:
            return {partition: (held.epoch, held.start) for partition, held in self._held.items() if held.start is not None}

    def start(self, partition: Partition, epoch: int, offset: int, since: float = 0.0) -> bool:
        """Note that a record is started. False: do not process it; its assignment has ended or is about to, or an earlier one
        finished it.

        ``since`` is when it started to wait, in seconds of any one clock; see :meth:`oldest`.
        """
        with self._lock:
            held = self._held.get(partition)
            if held is None or held.epoch != epoch or held.is_released or not held.tracker.start(offset):
                return False
            held.waiting.append((offset, since))
            return True

    def oldest(self) -> dict[Partition, float]:
        """When the lowest unfinished record of each partition started to wait (its ``since``). Partitions without one are omitted.

        Call it regularly: it also drops finished records.
        """
        with self._lock:
            for held in self._held.values():
                lowest = held.tracker.lowest_unfinished
                while held.waiting and (lowest is None or held.waiting[0][0] < lowest):
                    held.waiting.popleft()
            return {partition: held.waiting[0][1] for partition, held in self._held.items() if held.waiting}

    def finish(self, partition: Partition, epoch: int, offset: int) -> bool:
        """Note that a record is finished. False: its assignment has ended, and the completion is ignored."""
        with self._lock:
            held = self._held.get(partition)
            if held is None or held.epoch != epoch:
                return False
            held.tracker.finish(offset)
            return True

    def divide(self, partition: Partition, epoch: int, offset: int, check: int, parts: Sequence[int]) -> RecordParts | None:
        """Note that a record is processed in parts (see `pipeline.core.record_progress`). None: its assignment has ended."""
        with self._lock:
            held = self._held.get(partition)
            return held.tracker.divide(offset, check, parts) if held is not None and held.epoch == epoch else None

    def finish_part(self, partition: Partition, epoch: int, offset: int, part: int) -> None:
        """Note that a part of a record is finished. No effect if its assignment has ended."""
        with self._lock:
            held = self._held.get(partition)
            if held is not None and held.epoch == epoch:
                held.tracker.finish_part(offset, part)

    def committable(self) -> dict[Partition, Commit]:
        """What can be committed and is not committed yet."""
        with self._lock:
            commits = ((partition, held.committable()) for partition, held in self._held.items())
            return {partition: commit for partition, commit in commits if commit is not None}

    def committed(self, commits: dict[Partition, Commit]) -> None:
        """Note that commits were acknowledged. A commit of an ended assignment says nothing about a later one."""
        with self._lock:
            for partition, commit in commits.items():
                held = self._held.get(partition)
                if held is not None and held.epoch == commit.epoch:
                    held.tracker.committed(commit)
                    held.last = committed_of(commit)

    def last_committed(self) -> dict[Partition, Committed]:
        """The group's commits for the partitions that are read, as far as this process knows."""
        with self._lock:
            return {partition: held.last for partition, held in self._held.items() if held.last is not None}

    @property
    def partitions(self) -> frozenset[Partition]:
        return frozenset(self._held)
