"""Which partitions this consumer holds, under which epoch, and what may be committed for them.

Each assignment of a partition has an epoch of its own. A completion that carries another epoch belongs to an assignment that
was revoked: somebody else delivers those records now, and nothing may be committed for them here (promise 1).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from pipeline.broker.record import Partition
from pipeline.core.offsets import OffsetTracker


@dataclass(slots=True)
class _Held:
    epoch: int
    tracker: OffsetTracker = field(default_factory=OffsetTracker)


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

    def revoke(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Give partitions up. Returns what can still be committed for them."""
        with self._lock:
            revoked = [(partition, held) for partition in partitions if (held := self._held.pop(partition, None))]
        offsets = ((partition, held.tracker.committable()) for partition, held in revoked)
        return {partition: offset for partition, offset in offsets if offset is not None}

    def epoch(self, partition: Partition) -> int | None:
        """The epoch of a partition's assignment; None when it is not held."""
        held = self._held.get(partition)
        return held.epoch if held else None

    def start(self, partition: Partition, epoch: int, offset: int) -> bool:
        """Note that a record is handed over. False: its assignment is gone, do not hand it over."""
        with self._lock:
            held = self._held.get(partition)
            if held is None or held.epoch != epoch:
                return False
            held.tracker.start(offset)
            return True

    def finish(self, partition: Partition, epoch: int, offset: int) -> bool:
        """Note that a record has been dealt with. False: its assignment is gone, the completion is fenced."""
        with self._lock:
            held = self._held.get(partition)
            if held is None or held.epoch != epoch:
                return False
            held.tracker.finish(offset)
            return True

    def committable(self) -> dict[Partition, int]:
        """What can be committed and has not been."""
        with self._lock:
            offsets = ((partition, held.tracker.committable()) for partition, held in self._held.items())
            return {partition: offset for partition, offset in offsets if offset is not None}

    def committed(self, offsets: dict[Partition, int]) -> None:
        """Note that a commit was acknowledged."""
        with self._lock:
            for partition, offset in offsets.items():
                if held := self._held.get(partition):
                    held.tracker.committed(offset)

    @property
    def partitions(self) -> frozenset[Partition]:
        """The partitions that are held."""
        return frozenset(self._held)
