"""What the fetch thread reads, and from where: translates the assignment into positions for a client.

We keep the positions ourselves. Records below a position are dropped, so that nothing is repeated if a client continues at an
older offset (for example, because a broker came back with an old state, or because of a wrong leader epoch).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.broker.api import FetchClient, Fetched, OffsetRange, Partition
from pipeline.broker.assignment import Assignment
from pipeline.broker.errors import UnavailableError
from pipeline.broker.fetch_buffers import FetchBuffers
from pipeline.broker.start_offset import MissingOffsets, overtaken, replaced
from pipeline.ops.logs import logger
from pipeline.ops.once_a_minute import OnceAMinute

log = logger(__name__)

_RECHECK_S: Final = 5.0
"""How often a log that ends below our position is checked again."""


@dataclass(slots=True)
class _Read:
    epoch: int
    position: int
    last: tuple[int, int] | None = None
    """The offset and the timestamp of the record before the position; None if it was not read here."""
    doubted_from: int | None = None
    """From this offset on, the log may have other records below the position than those that were read."""


@dataclass(slots=True)
class _Cut:
    """A log that ends below our position."""

    end: int
    lowest: int
    """The lowest end that was seen."""
    looked_at: float


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
        self._clock = clock
        self._read: dict[Partition, _Read] = {}
        self._repeats = OnceAMinute(clock)
        self._cut: dict[Partition, _Cut] = {}
        self.ends: dict[Partition, int] = {}

    @property
    def partitions(self) -> frozenset[Partition]:
        return frozenset(self._read)

    def positions(self) -> dict[Partition, int]:
        """The offset that is fetched next, by partition."""
        return {partition: read.position for partition, read in self._read.items()}

    def problem(self) -> str | None:
        """Why a held partition is not read."""
        for partition, cut in list(self._cut.items()):
            return (
                f"{partition} ends at offset {cut.end}, below what group {self._group} has read: the topic was recreated or has lost "
                "records. Nothing is read from it. To read it from its beginning, run: "
                f"oms-webhooks topics --accept-recreated {partition.topic}"
            )
        return None

    def follow(self, client: FetchClient) -> None:
        """Read the partitions that are held now, and no others."""
        ready = self._assignment.ready()
        if any(ready.get(partition, (0, 0))[0] != read.epoch for partition, read in self._read.items()) or len(ready) != len(
            self._read
        ):
            self._take_over(client, ready)
        self._check_cut_logs(client)

    def _take_over(self, client: FetchClient, ready: dict[Partition, tuple[int, int]]) -> None:
        for partition, read in list(self._read.items()):
            if partition not in ready or ready[partition][0] != read.epoch:
                del self._read[partition]
                self._cut.pop(partition, None)
                self._buffers.drop(partition)
        added = {partition: held for partition, held in ready.items() if partition not in self._read}
        for partition, (epoch, start) in added.items():
            self._read[partition] = _Read(epoch, start)
        client.assign(self.positions())
        for partition, (_, start) in added.items():
            client.seek(partition, start)  # it may have been read before, under another epoch

    def take(self, client: FetchClient, partition: Partition, records: Sequence[Fetched]) -> tuple[int, Sequence[Fetched]]:
        """Advance the position. Returns the epoch of the partition, and the fetched records without those below the position."""
        read = self._read.get(partition)
        if read is None or not records or self._assignment.epoch(partition) != read.epoch:
            return 0, ()
        if read.doubted_from is not None:
            records = self._compare(partition, read, read.doubted_from, records)
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
                if partition not in self._cut:
                    log.error("a log ends below what was read", partition=str(partition), position=read.position, end=bounds.end)
                self._note_end(partition, bounds.end)
            elif read.last is not None and read.last[0] >= bounds.first:  # it may have lost its end, and have grown since
                self._doubt(client, partition, read.last[0], bounds)
                continue
            else:
                read.doubted_from = None
            client.seek(partition, read.position)

    def _note_end(self, partition: Partition, end: int) -> None:
        known = self._cut.get(partition)
        self._cut[partition] = _Cut(end, end if known is None else min(end, known.lowest), self._clock())

    def _check_cut_logs(self, client: FetchClient) -> None:
        """Check logs that end below our position again: a broker that returned an old state may return the new one by now."""
        now = self._clock()
        due = [partition for partition, cut in self._cut.items() if now - cut.looked_at > _RECHECK_S]
        if not due:
            return
        try:
            found = client.bounds(due)
        except UnavailableError:  # their broker is away; the other partitions must not wait for it
            for partition in due:
                self._cut[partition].looked_at = self._clock()
            return
        for partition, bounds in found.items():
            if bounds.end >= self._read[partition].position:
                self._doubt(client, partition, self._cut.pop(partition).lowest, bounds)
            else:
                self._note_end(partition, bounds.end)

    def _doubt(self, client: FetchClient, partition: Partition, first: int, bounds: OffsetRange) -> None:
        """A log that ended at ``first``, below our position, is as long again. Either it has its old end back, or the offsets that
        it had lost were given to other records, which nobody has read. The last record that was read shows which.
        """
        read = self._read[partition]
        if read.last is None or read.last[0] < bounds.first:
            self._on_missing(replaced(self._group, partition, first, read.position))
            client.seek(partition, read.position)
            return
        read.doubted_from = first if read.doubted_from is None else min(first, read.doubted_from)
        client.seek(partition, read.last[0])

    def _compare(self, partition: Partition, read: _Read, first: int, records: Sequence[Fetched]) -> Sequence[Fetched]:
        """See :meth:`_doubt`. Returns the records from the position on."""
        read.doubted_from = None
        if (records[0].offset, records[0].timestamp) == read.last:
            log.info("a log has caught up with what was read", partition=str(partition))
        else:
            self._on_missing(replaced(self._group, partition, first, read.position))
        return [record for record in records if record.offset >= read.position]

    def paused(self, buffered: Collection[Partition]) -> frozenset[Partition]:
        """Partitions that must not be fetched now: those with buffered records, and those whose log ends below our position."""
        return frozenset(buffered) | frozenset(self._cut)

    def known_ends(self, client: FetchClient) -> dict[Partition, int]:
        """The ends of the partitions according to the latest fetches."""
        for partition in self._read:
            self._see_end(client, partition)
        return {partition: self.ends[partition] for partition in self._read if partition in self.ends}

    def _see_end(self, client: FetchClient, partition: Partition) -> None:
        end = client.end(partition)
        if end is not None:
            self.ends[partition] = end
