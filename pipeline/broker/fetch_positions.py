"""What the fetch thread reads, and from where: translates the assignment into positions for a client.

We keep the positions ourselves. Records below a position are dropped, so that nothing is repeated if a client continues at an
older offset (for example, because a broker came back with an old state, or because of a wrong leader epoch).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from pipeline.broker.api import FetchClient, Fetched, Partition
from pipeline.broker.assignment import Assignment
from pipeline.broker.fetch_buffers import FetchBuffers
from pipeline.broker.lost_ends import LostEnds, ReadSoFar
from pipeline.broker.start_offset import MissingOffsets, overtaken
from pipeline.ops.logs import logger
from pipeline.ops.once_a_minute import OnceAMinute

log = logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Read(ReadSoFar):
    epoch: int


class FetchPositions:
    """Used by the fetch thread; :meth:`problem` by any thread."""

    def __init__(
        self,
        group: str,
        assignment: Assignment,
        buffers: FetchBuffers,
        on_missing: Callable[[MissingOffsets], None],
        clock: Callable[[], float],
    ) -> None:
        self._group = group
        self._assignment = assignment
        self._buffers = buffers
        self._on_missing = on_missing
        self._read: dict[Partition, _Read] = {}
        self._repeats = OnceAMinute(clock)
        self._lost_ends = LostEnds(group, on_missing, clock)
        self.ends: dict[Partition, int] = {}

    @property
    def partitions(self) -> frozenset[Partition]:
        return frozenset(self._read)

    def positions(self) -> dict[Partition, int]:
        """The offset that is fetched next, by partition."""
        return {partition: read.position for partition, read in self._read.items()}

    def problem(self) -> str | None:
        """Why a held partition is not read."""
        return self._lost_ends.problem()

    def follow(self, client: FetchClient) -> None:
        """Read the partitions that are held now, and no others."""
        ready = self._assignment.ready()
        if any(ready.get(partition, (0, 0))[0] != read.epoch for partition, read in self._read.items()) or len(ready) != len(
            self._read
        ):
            self._take_over(client, ready)
        for partition in self._lost_ends.recheck(client, self._read):
            client.seek(partition, self._read[partition].next)

    def _take_over(self, client: FetchClient, ready: dict[Partition, tuple[int, int]]) -> None:
        for partition, read in list(self._read.items()):
            if partition not in ready or ready[partition][0] != read.epoch:
                del self._read[partition]
                self._lost_ends.forget(partition)
                self._buffers.drop(partition)
        added = {partition: held for partition, held in ready.items() if partition not in self._read}
        for partition, (epoch, start) in added.items():
            self._read[partition] = _Read(start, epoch=epoch)
        client.assign(self.positions())
        for partition, (_, start) in added.items():
            client.seek(partition, start)  # it may have been read before, under another epoch

    def take(self, client: FetchClient, partition: Partition, records: Sequence[Fetched]) -> tuple[int, Sequence[Fetched]]:
        """Advance the position. Returns the epoch of the partition, and the fetched records without those below the position."""
        read = self._read.get(partition)
        if read is None or not records or self._assignment.epoch(partition) != read.epoch:
            return 0, ()
        if read.doubted_from is not None:
            self._lost_ends.compare(partition, read, records)
            records = [record for record in records if record.offset >= read.position]
        elif records[0].offset < read.position:
            if times := self._repeats.times(partition):
                log.warning(
                    "a client returned records that were already read; they are dropped",
                    partition=str(partition),
                    position=read.position,
                    offset=records[0].offset,
                    times=times,
                )
            records = [record for record in records if record.offset >= read.position]
        if records:
            read.position = records[-1].offset + 1
            read.last = (records[-1].offset, records[-1].timestamp)
        self._see_end(client, partition)
        return read.epoch, records

    def go_back(self, client: FetchClient, partition: Partition, offset: int) -> None:
        """Read a partition again from an evicted record on."""
        read = self._read.get(partition)
        if read is not None:
            read.position, read.last, read.doubted_from = offset, None, None
            client.seek(partition, offset)

    def out_of_range(self, client: FetchClient, partitions: Iterable[Partition]) -> None:
        """Positions are not in the logs: find out why, and continue if that is safe."""
        concerned = [partition for partition in partitions if partition in self._read]
        for partition, bounds in client.bounds(concerned).items():
            read = self._read[partition]
            if missing := overtaken(self._group, partition, read.position, bounds):
                self._on_missing(missing)
                read.position, read.last, read.doubted_from = bounds.first, None, None
            elif bounds.end < read.position:
                self._lost_ends.note(partition, read.position, bounds.end)
            elif read.last is not None and read.last[0] >= bounds.first:  # it may have lost its end, and have grown since
                self._lost_ends.doubt(partition, read, read.last[0], bounds)
            else:
                read.doubted_from = None
            client.seek(partition, read.next)

    def paused(self, buffered: Collection[Partition]) -> frozenset[Partition]:
        """Partitions that must not be fetched now: those with buffered records, and those whose log ends below our position."""
        return frozenset(buffered) | self._lost_ends.partitions

    def known_ends(self, client: FetchClient) -> dict[Partition, int]:
        """The ends of the partitions according to the latest fetches."""
        for partition in self._read:
            self._see_end(client, partition)
        return {partition: self.ends[partition] for partition in self._read if partition in self.ends}

    def _see_end(self, client: FetchClient, partition: Partition) -> None:
        end = client.end(partition)
        if end is not None:
            self.ends[partition] = end
