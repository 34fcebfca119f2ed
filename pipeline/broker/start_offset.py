"""Decides where to start reading a partition, and which records are missing. Pure.

Kafka's reset policies (``earliest``, ``latest``) decide this silently: one repeats everything that is retained, the other skips
records that were never read. So no client gets a policy; this module decides, and its decision is reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.broker.api import Committed, OffsetRange, Partition
from pipeline.core.counted import counted
from pipeline.core.offsets import Commit, Kept, decode_metadata, encode_metadata
from pipeline.core.record_progress import RecordProgress


@dataclass(frozen=True, slots=True)
class MissingOffsets:
    """Records that Kafka acknowledged, and that this group does not read: Kafka removed them before, or they replaced others."""

    group: str
    partition: Partition
    first_offset: int
    until: int
    """The first remaining offset; for replaced records, where reading continues."""
    records: int
    """How many of the offsets between the two were not processed. A transaction's own markers count too."""
    are_replaced: bool = False
    """The log lost records that the group had read, and gave their offsets to these."""

    def __str__(self) -> str:
        if self.are_replaced:
            return (
                f"{self.partition} lost records that group {self.group} had read, and other records have their offsets now: "
                f"{self.first_offset} to {self.until - 1}. These are not read. Find out how the broker lost records (an unclean "
                "election, a power failure with a single replica)."
            )
        return (
            f"Kafka removed {counted(self.records, 'record')} of {self.partition}, offsets {self.first_offset} to {self.until - 1}, "
            f"before group {self.group} had read that far. Raise the topic's retention.ms, and find out why the "
            "group was so far behind."
        )

    def beyond(self, reported_until: int) -> MissingOffsets | None:
        """The part at or above an offset, because the rest was already reported; None if nothing remains."""
        first = max(self.first_offset, reported_until)
        records = min(self.records, self.until - first)
        return replace(self, first_offset=first, records=records) if records > 0 else None


@dataclass(frozen=True, slots=True)
class StartOffset:
    """``last`` is what the group must commit from now on. ``finished`` are later offsets that are already finished, and
    ``progress`` is the progress of others. ``is_unreadable``: the commit's metadata cannot be read.
    """

    last: Committed
    finished: frozenset[int] = frozenset()
    missing: MissingOffsets | None = None
    progress: tuple[RecordProgress, ...] = ()
    is_unreadable: bool = False


def starting_point(group: str, partition: Partition, committed: Committed | None, bounds: OffsetRange) -> StartOffset:
    """Where a group continues after this commit. A new group starts at the first offset."""
    if committed is None:
        return StartOffset(Committed(bounds.first))
    read = decode_metadata(committed.offset, committed.metadata)
    kept, is_unreadable = read or Kept(), read is None
    if committed.offset >= bounds.first:
        # If the log has lost its end, the offsets at and above it will be those of other records.
        finished = frozenset(offset for offset in kept.finished if offset < bounds.end)
        return StartOffset(committed, finished, None, kept.progress, is_unreadable)
    left = frozenset(offset for offset in kept.finished if offset >= bounds.first)
    progress = tuple(each for each in kept.progress if each.offset >= bounds.first)
    last = Committed(bounds.first, encode_metadata(Commit(bounds.first, tuple(sorted(left)), 0, progress=progress)))
    gone = bounds.first - committed.offset - (len(kept.finished) - len(left))
    missing = MissingOffsets(group, partition, committed.offset, bounds.first, gone) if gone else None
    return StartOffset(last, left, missing, progress, is_unreadable)


def overtaken(group: str, partition: Partition, position: int, bounds: OffsetRange) -> MissingOffsets | None:
    """The records that a reader misses if its position is below the first remaining offset; None if it misses none."""
    gone = bounds.first - position
    return MissingOffsets(group, partition, position, bounds.first, gone) if gone > 0 else None


def replaced(group: str, partition: Partition, first: int, position: int) -> MissingOffsets:
    """The records between ``first`` and a reader's position that took the place of those that were read."""
    return MissingOffsets(group, partition, first, position, position - first, are_replaced=True)
