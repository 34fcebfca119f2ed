"""Where reading a partition begins, and what is missing there. Pure.

Kafka's own reset policies (``earliest``, ``latest``) answer this without a word: one sends the whole retention again, the other skips what
was never read. So no client is given a policy; this module decides, and what it decides is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.broker.api import Bounds, Committed, Partition
from pipeline.core.offsets import Commit, decode_finished, encode_finished


@dataclass(frozen=True, slots=True)
class Missing:
    """Records that Kafka acknowledged, and removed before this group had read them."""

    group: str
    partition: Partition
    first_offset: int
    until: int
    """The first offset that is left."""
    records: int
    """How many of the offsets between the two were not dealt with. What a transaction writes for itself counts too."""

    def __str__(self) -> str:
        return (
            f"{self.records} records of {self.partition}, offsets {self.first_offset} to {self.until - 1}, are gone: Kafka removed them before "
            f"group {self.group} had read them. Raise the topic's retention.ms, and find out why the group was so far behind."
        )

    def beyond(self, told_until: int) -> Missing | None:
        """Without what was told before: the offsets below this one."""
        first = max(self.first_offset, told_until)
        records = min(self.records, self.until - first)
        return Missing(self.group, self.partition, first, self.until, records) if records > 0 else None


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """``last`` is what the group's commit must say from now on; ``finished`` are offsets beyond it that were dealt with before."""

    last: Committed
    finished: frozenset[int] = frozenset()
    missing: Missing | None = None


def starting_point(group: str, partition: Partition, committed: Committed | None, bounds: Bounds) -> StartingPoint:
    """Where a group goes on that has committed this. A group that comes for the first time reads all that there is."""
    if committed is None:
        return StartingPoint(Committed(bounds.first))
    finished = frozenset(decode_finished(committed.offset, committed.metadata))
    if committed.offset >= bounds.first:
        return StartingPoint(committed, finished)
    left = frozenset(offset for offset in finished if offset >= bounds.first)
    last = Committed(bounds.first, encode_finished(Commit(bounds.first, tuple(sorted(left)), 0)))
    gone = bounds.first - committed.offset - (len(finished) - len(left))
    return StartingPoint(last, left, Missing(group, partition, committed.offset, bounds.first, gone) if gone else None)


def overtaken(group: str, partition: Partition, position: int, bounds: Bounds) -> Missing | None:
    """What a reader misses whose position is below the first offset that is left."""
    gone = bounds.first - position
    return Missing(group, partition, position, bounds.first, gone) if gone > 0 else None
