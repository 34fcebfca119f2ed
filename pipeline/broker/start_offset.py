"""Where reading a partition begins, and what is missing there. Pure.

Kafka's own reset policies (``earliest``, ``latest``) answer this without a word: one sends the whole retention again, the other skips what
was never read. So no client is given a policy; this module decides, and what it decides is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.broker.api import Committed, OffsetRange, Partition
from pipeline.core.offsets import Commit, Kept, decode_metadata, encode_metadata
from pipeline.core.record_progress import RecordProgress


@dataclass(frozen=True, slots=True)
class MissingOffsets:
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

    def beyond(self, told_until: int) -> MissingOffsets | None:
        """Without what was told before: the offsets below this one."""
        first = max(self.first_offset, told_until)
        records = min(self.records, self.until - first)
        return MissingOffsets(self.group, self.partition, first, self.until, records) if records > 0 else None


@dataclass(frozen=True, slots=True)
class StartOffset:
    """``last`` is what the group's commit must say from now on; ``finished`` are offsets beyond it that were dealt with before, and
    ``progress`` is what was done of others. ``is_unreadable``: the commit has metadata that says nothing to us.
    """

    last: Committed
    finished: frozenset[int] = frozenset()
    missing: MissingOffsets | None = None
    progress: tuple[RecordProgress, ...] = ()
    is_unreadable: bool = False


def starting_point(group: str, partition: Partition, committed: Committed | None, bounds: OffsetRange) -> StartOffset:
    """Where a group goes on that has committed this. A group that comes for the first time reads all that there is."""
    if committed is None:
        return StartOffset(Committed(bounds.first))
    read = decode_metadata(committed.offset, committed.metadata)
    kept, is_unreadable = read or Kept(), read is None
    if committed.offset >= bounds.first:
        return StartOffset(committed, kept.finished, None, kept.progress, is_unreadable)
    left = frozenset(offset for offset in kept.finished if offset >= bounds.first)
    progress = tuple(each for each in kept.progress if each.offset >= bounds.first)
    last = Committed(bounds.first, encode_metadata(Commit(bounds.first, tuple(sorted(left)), 0, progress=progress)))
    gone = bounds.first - committed.offset - (len(kept.finished) - len(left))
    missing = MissingOffsets(group, partition, committed.offset, bounds.first, gone) if gone else None
    return StartOffset(last, left, missing, progress, is_unreadable)


def overtaken(group: str, partition: Partition, position: int, bounds: OffsetRange) -> MissingOffsets | None:
    """What a reader misses whose position is below the first offset that is left."""
    gone = bounds.first - position
    return MissingOffsets(group, partition, position, bounds.first, gone) if gone > 0 else None
