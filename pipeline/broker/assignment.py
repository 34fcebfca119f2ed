"""Which partitions this consumer holds, under which epoch, and what may be committed for them.

Each assignment of a partition has an epoch of its own. A completion that carries another epoch belongs to an assignment that
was revoked: somebody else delivers those records now, and nothing may be committed for them here (promise 1).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from pipeline.broker.record import Partition
from pipeline.core.offsets import Commit, OffsetTracker


@dataclass(slots=True)
class _Held:
    epoch: int
    tracker: OffsetTracker = field(default_factory=OffsetTracker)
    resumed: bool = False
    waiting: deque[tuple[int, float]] = field(default_factory=deque)
    """The records from the lowest unfinished one on: offset, and since when it waits."""

    def committable(self) -> Commit | None:
        commit = self.tracker.committable()
        return None if commit is None else commit._replace(epoch=self.epoch)


class Assignment:
    """Thread-safe: the poll thread, kafka-python's I/O thread (rebalances) and the event loop meet here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epochs = count(1)
        self._held: dict[Partition, _Held] = {}

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Take partitions; one that is held already keeps its epoch (cooperative rebalancing)."""
        with self._lock:
            for partition in partitions:
                if partition not in self._held:
                    self._held[partition] = _Held(next(self._epochs))

    def revoke(self, partitions: Iterable[Partition]) -> dict[Partition, Commit]:
        """Give partitions up. Returns what can still be committed for them."""
        with self._lock:
            revoked = [(partition, held) for partition in partitions if (held := self._held.pop(partition, None))]
        commits = ((partition, held.committable()) for partition, held in revoked)
        return {partition: commit for partition, commit in commits if commit is not None}

    def epoch(self, partition: Partition) -> int | None:
        """The epoch of a partition's assignment; None when it is not held."""
        held = self._held.get(partition)
        return held.epoch if held else None

    def needs_resuming(self, partition: Partition) -> bool:
        """Whether it is not known yet what an earlier assignment of the partition finished (see :meth:`resume`)."""
        held = self._held.get(partition)
        return held is not None and not held.resumed

    def resume(self, partition: Partition, finished: Iterable[int]) -> None:
        """Before the first record is handed over: these were finished by an earlier assignment."""
        with self._lock:
            held = self._held.get(partition)
            if held is not None and not held.resumed:
                held.tracker, held.resumed = OffsetTracker(finished), True

    def start(self, partition: Partition, epoch: int, offset: int, since: float = 0.0) -> bool:
        """Note that a record is taken. False: do not hand it over; its assignment is gone, or an earlier one finished it.

        ``since`` is when it began to wait, in seconds of any one clock; see :meth:`oldest`.
        """
        with self._lock:
            held = self._held.get(partition)
            if held is None or held.epoch != epoch or not held.tracker.start(offset):
                return False
            held.waiting.append((offset, since))
            return True

    def oldest(self) -> dict[Partition, float]:
        """Since when the lowest unfinished record of each partition waits (its ``since``); nothing where all is finished.

        Call it now and then: it forgets what has been finished.
        """
        with self._lock:
            for held in self._held.values():
                lowest = held.tracker.lowest_unfinished
                while held.waiting and (lowest is None or held.waiting[0][0] < lowest):
                    held.waiting.popleft()
            return {partition: held.waiting[0][1] for partition, held in self._held.items() if held.waiting}

    def finish(self, partition: Partition, epoch: int, offset: int) -> bool:
        """Note that a record has been dealt with. False: its assignment is gone, the completion is fenced."""
        with self._lock:
            held = self._held.get(partition)
            if held is None or held.epoch != epoch:
                return False
            held.tracker.finish(offset)
            return True

    def committable(self) -> dict[Partition, Commit]:
        """What can be committed and has not been."""
        with self._lock:
            commits = ((partition, held.committable()) for partition, held in self._held.items())
            return {partition: commit for partition, commit in commits if commit is not None}

    def committed(self, commits: dict[Partition, Commit]) -> None:
        """Note that commits were acknowledged. One of an assignment that is gone says nothing of a later one."""
        with self._lock:
            for partition, commit in commits.items():
                held = self._held.get(partition)
                if held is not None and held.epoch == commit.epoch:
                    held.tracker.committed(commit)

    @property
    def partitions(self) -> frozenset[Partition]:
        """The partitions that are held."""
        return frozenset(self._held)
