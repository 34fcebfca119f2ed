"""Logs that end, or have ended, below what was read from them.

A broker may have an old state for a moment. Or it has lost records: the offsets of the lost ones are then given to other records,
which nobody has read. The last record that was read shows which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.broker.api import FetchClient, Fetched, OffsetRange, Partition
from pipeline.broker.errors import UnavailableError
from pipeline.broker.start_offset import MissingOffsets, replaced
from pipeline.ops.logs import logger
from pipeline.ops.once_a_minute import OnceAMinute

log = logger(__name__)

_RECHECK_S: Final = 5.0
"""How often a log that ends below the position is checked again."""


@dataclass(slots=True)
class ReadSoFar:
    """How far a partition was read."""

    position: int
    last: tuple[int, int] | None = None
    """The offset and the timestamp of the record before the position; None if it was not read here."""
    doubted_from: int | None = None
    """From this offset on, the log may have other records below the position than those that were read."""

    @property
    def next(self) -> int:
        """The offset to fetch from: the position, or in a doubt the last record before it, so that it can be compared."""
        return self.position if self.doubted_from is None or self.last is None else self.last[0]


@dataclass(slots=True)
class _Cut:
    end: int
    lowest: int
    """The lowest end that was seen."""
    looked_at: float


class LostEnds:
    """Those of one consumer. Used by its fetch thread; :meth:`problem` by any thread."""

    def __init__(self, group: str, on_missing: Callable[[MissingOffsets], None], clock: Callable[[], float]) -> None:
        self._group = group
        self._on_missing = on_missing
        self._clock = clock
        self._cut: dict[Partition, _Cut] = {}
        self._repeats = OnceAMinute(clock)

    @property
    def partitions(self) -> frozenset[Partition]:
        """The partitions whose logs end below the position: they must not be fetched."""
        return frozenset(self._cut)

    def problem(self) -> str | None:
        """Why a partition is not read."""
        for partition, cut in list(self._cut.items()):
            return (
                f"{partition} ends at offset {cut.end}, below what group {self._group} has read: the topic was recreated or has lost "
                "records. Nothing is read from it. To read it from its beginning, run: "
                f"oms-webhooks topics --accept-recreated {partition.topic}"
            )
        return None

    def forget(self, partition: Partition) -> None:
        """The partition is not read any more."""
        self._cut.pop(partition, None)

    def note(self, partition: Partition, position: int, end: int) -> None:
        """The log ends below the position."""
        if times := self._repeats.times(partition):
            log.error("a log ends below what was read", partition=str(partition), position=position, end=end, times=times)
        known = self._cut.get(partition)
        self._cut[partition] = _Cut(end, end if known is None else min(end, known.lowest), self._clock())

    def recheck(self, client: FetchClient, read: Mapping[Partition, ReadSoFar]) -> Iterable[Partition]:
        """Check the logs again: a broker that returned an old state may return the new one by now. Returns those that are as long
        again, to be fetched from `ReadSoFar.next`.
        """
        now = self._clock()
        due = [partition for partition, cut in self._cut.items() if now - cut.looked_at > _RECHECK_S]
        if not due:
            return ()
        try:
            found = client.bounds(due)
        except UnavailableError:  # their broker is away; the other partitions must not wait for it
            for partition in due:
                self._cut[partition].looked_at = self._clock()
            return ()
        grown = []
        for partition, bounds in found.items():
            if bounds.end >= read[partition].position:
                self.doubt(partition, read[partition], self._cut.pop(partition).lowest, bounds)
                grown.append(partition)
            else:
                self.note(partition, read[partition].position, bounds.end)
        return grown

    def doubt(self, partition: Partition, read: ReadSoFar, first: int, bounds: OffsetRange) -> None:
        """A log that ended at ``first``, below the position, is as long again. Either it has its old end back, or the offsets that
        it had lost were given to other records. If the last record that was read is not there to show which, they are reported.
        """
        if read.doubted_from is not None:
            first = min(first, read.doubted_from)
        if read.last is None or read.last[0] < bounds.first:
            read.doubted_from = None
            self._on_missing(replaced(self._group, partition, first, read.position))
        else:
            read.doubted_from = first

    def compare(self, partition: Partition, read: ReadSoFar, records: Sequence[Fetched]) -> None:
        """End a doubt with the records that were fetched from `ReadSoFar.next`."""
        first, read.doubted_from = read.doubted_from, None
        if (records[0].offset, records[0].timestamp) == read.last:
            log.info("a log has caught up with what was read", partition=str(partition))
        elif first is not None:
            self._on_missing(replaced(self._group, partition, first, read.position))
