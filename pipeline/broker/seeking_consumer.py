"""A member of a consumer group that can seek in its partitions: the owner of a partition requests what it wants to read.

The group decides who owns a partition. The committed offset is where the next owner of a partition starts, and nothing else is
committed: unlike a GroupConsumer, this one reads without finishing records. A partition is fetched only on request, so memory is
limited to one fetch each. As in a GroupConsumer, there are two threads and two clients: one keeps membership, the other fetches.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.broker.api import Broker, FetchClient, Fetched, Partition, Receipt, Record
from pipeline.broker.assignment import Assignment
from pipeline.broker.errors import OutOfRangeError, UnavailableError
from pipeline.broker.failure_backoff import FailureBackoff
from pipeline.broker.lost_ends import LostEnds, ReadSoFar
from pipeline.broker.member import Member
from pipeline.broker.missing_reports import MissingReports
from pipeline.broker.start_offset import overtaken
from pipeline.ops import metrics
from pipeline.ops.daemon_threads import start_thread
from pipeline.ops.logs import logger

log = logger(__name__)

_IDLE_S: Final = 1.0
_DOUBT_POLL_S: Final = 0.1
_BUSY_POLL_S: Final = 0.01
_BUSY_S: Final = 0.5
_SILENT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """Records in offset order; where to continue; and whether that is the end of the partition, as far as is known."""

    records: list[Record]
    next: int
    is_end: bool


@dataclass(slots=True)
class _Request:
    offset: int | None
    until: float
    answer: asyncio.Future[FetchedPage]


class SeekingConsumer:
    """Reads one topic. All methods are for the event loop, except those that the threads call."""

    def __init__(
        self,
        broker: Broker,
        *,
        group: str,
        topic: str,
        on_assigned: Callable[[frozenset[int]], None],
        on_revoked: Callable[[frozenset[int]], None],
        partition_fetch_bytes: int = 512 * 1024,
    ) -> None:
        self._broker = broker
        self._group = group
        self._topic = topic
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._fetch_bytes = partition_fetch_bytes
        self._assignment = Assignment()
        self.missing = MissingReports()
        self._member = Member(broker, group, [topic], self._assignment, on_gone=self._gone, on_missing=self.missing.note)
        self._asked: deque[tuple[int, _Request]] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._epochs: dict[int, int] = {}
        """The partitions that are read, and the epochs of their assignments."""
        self._requests: dict[int, _Request] = {}
        self._positions: dict[int, int] = {}
        self._read_so_far: dict[Partition, ReadSoFar] = {}
        """How far the partitions were read, whatever their owners read again."""
        self._lost_ends = LostEnds(group, self.missing.note, broker.clock)
        self._client: FetchClient | None = None
        self._no_waiting = False
        self._assignment.on_change = self._end_wait
        self._trouble = FailureBackoff(log)
        self._turned_at = self._read_at = broker.clock()

    async def start(self) -> None:
        """Start both threads."""
        self._loop = asyncio.get_running_loop()
        self.stopped: asyncio.Future[None] = self._loop.create_future()
        """Done when both threads have ended; holds the error that ended them."""
        self._member_ended = self._member.start()
        self._fetch_ended = start_thread(self._run, f"fetch {self._group}")
        self._member_ended.add_done_callback(self._one_ended)
        self._fetch_ended.add_done_callback(self._one_ended)

    async def stop(self) -> None:
        """Commit the requested offsets, and leave the group."""
        self._end_fetching()
        await asyncio.wait([self._fetch_ended])
        self._member.stop()
        await self.stopped

    def _end_fetching(self) -> None:
        self._stopping.set()
        self._end_wait()

    def stop_waiting(self) -> None:
        """Answer requests without waiting for records: the callers are about to stop."""
        self._no_waiting = True
        self._end_wait()

    def _end_wait(self) -> None:
        """End the wait of the fetch thread: it has something else to do. Called on any thread."""
        self._wake.set()
        if self._client is not None:
            self._client.wake()

    def _one_ended(self, ended: asyncio.Future[None]) -> None:
        """One thread has ended. If it failed, stop the other, which is useless without it."""
        if ended.exception() is not None:
            self._end_fetching()
            self._member.stop()
        if not (self._fetch_ended.done() and self._member_ended.done()) or self.stopped.done():
            return
        error = self._fetch_ended.exception() or self._member_ended.exception()
        self.stopped.set_exception(error) if error else self.stopped.set_result(None)

    async def fetch(self, partition: int, offset: int | None, wait_seconds: float) -> FetchedPage:
        """Read a partition from an offset on (None: the committed one), as much as one fetch returns.

        The page is empty if no record arrived at the end of the partition for ``wait_seconds``. Send the next request after the
        answer, and only for an assigned partition. If the partition is revoked in the meantime, the request is never answered.
        """
        answer: asyncio.Future[FetchedPage] = self._loop.create_future()
        self._asked.append((partition, _Request(offset, self._broker.clock() + wait_seconds, answer)))
        self._end_wait()
        return await answer

    def commit(self, partition: int, offset: int) -> None:
        """Everything below the offset is finished: the next owner of the partition starts there."""
        place = Partition(self._topic, partition)
        epoch, known = self._assignment.epoch(place), self._assignment.last_committed().get(place)
        if epoch is None or known is None or offset <= known.offset:
            return
        with contextlib.suppress(ValueError):  # a commit of the same offset is in progress
            if self._assignment.start(place, epoch, offset - 1):
                self._member.finish(Receipt(place, offset - 1, epoch, 0))
        self._assignment.oldest()  # drops finished records

    @property
    def is_member_certain(self) -> bool:
        """Whether the partitions are certainly still ours (see `pipeline.broker.lease`)."""
        return self._member.lease.is_valid()

    def is_assigned(self, partition: int) -> bool:
        """Whether the partition is assigned to this process, as far as it knows (see :attr:`is_member_certain`)."""
        return self._assignment.epoch(Partition(self._topic, partition)) is not None

    def problem(self) -> str | None:
        """Why this consumer is not ready (for health checks)."""
        if problem := self._member.problem() or self._lost_ends.problem():
            return problem
        silent = self._broker.clock() - self._turned_at
        return f"nothing was fetched for {silent:.0f} s" if silent > _SILENT_S else None

    # --- the fetch thread ---

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._stopping.wait(self.step())
        except Exception:
            log.exception("consumer failed", group=self._group)
            raise
        finally:
            if self._client is not None:
                self._client.close()

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        """Call it on the event loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting
            self._loop.call_soon_threadsafe(call, *arguments)

    def step(self) -> float:
        """Run one iteration. Returns the minimum number of seconds until the next one."""
        pause = 0.0
        self._wake.clear()  # a wake-up from here on concerns this iteration or the next one
        try:
            if self._client is None:
                self._client = self._broker.fetch_client(partition_bytes=self._fetch_bytes)
            self._follow(self._client)
            self._take_requests(self._client)
            self._read(self._client)
            self._trouble.over("fetching works again", group=self._group)
        except UnavailableError as error:
            # Brokers come and go; clients reconnect by themselves.
            metrics.CONSUMER_ERRORS.labels(self._group).inc()
            pause = self._trouble.note("fetching failed; trying again", group=self._group, error=str(error))
        self._turned_at = self._broker.clock()
        return pause

    def _follow(self, client: FetchClient) -> None:
        """Read the partitions that are held now, and no others."""
        ready = {place.number: held for place, held in self._assignment.ready().items()}
        epochs = {number: epoch for number, (epoch, _) in ready.items()}
        if epochs == self._epochs:
            return
        before, self._epochs = self._epochs, epochs
        for number in before:
            if epochs.get(number) != before[number]:
                place = Partition(self._topic, number)
                self._requests.pop(number, None)
                self._positions.pop(number, None)
                self._read_so_far.pop(place, None)
                self._lost_ends.forget(place)
        positions = {number: self._positions.get(number, start) for number, (_, start) in ready.items()}
        client.assign({Partition(self._topic, number): position for number, position in positions.items()})
        for number, epoch in epochs.items():
            if before.get(number) != epoch:
                self._post(self._report_assigned, number, epoch)

    def _report_assigned(self, number: int, epoch: int) -> None:
        """On the event loop: a partition can be read, unless it was revoked in the meantime."""
        if self._assignment.epoch(Partition(self._topic, number)) == epoch:
            self._on_assigned(frozenset({number}))

    def _take_requests(self, client: FetchClient) -> None:
        """Move to the offsets of the requests."""
        while self._asked:
            number, request = self._asked.popleft()
            if number in self._epochs:
                self._requests[number] = request
        for place in self._lost_ends.recheck(client, self._read_so_far):
            self._positions.pop(place.number, None)
        wanted: set[int] = set()
        for number, request in self._requests.items():
            place = Partition(self._topic, number)
            if request.offset is None:
                committed = self._assignment.last_committed().get(place)
                if committed is None:
                    continue  # it was revoked; the next iteration sees that
                request.offset = committed.offset
            read = self._read_so_far.setdefault(place, ReadSoFar(request.offset))
            read.position = max(read.position, request.offset)
            start = request.offset if read.doubted_from is None else read.next
            if self._positions.get(number) != start:
                client.seek(place, start)
                self._positions[number] = start
            if place not in self._lost_ends.partitions and self._member.lease.is_valid():
                wanted.add(number)
        client.pause([Partition(self._topic, number) for number in self._epochs if number not in wanted])

    def _read(self, client: FetchClient) -> None:
        now = self._broker.clock()
        if not self._member.lease.is_valid():
            client.idle()
            self._wake.wait(_DOUBT_POLL_S)
            return
        if not self._readable_requests():
            client.idle()
            self._wake.wait(_IDLE_S)
            return
        try:
            fetched = client.poll(self._poll_seconds(client, now))
        except OutOfRangeError as error:
            self._out_of_range(client, error.partitions)
            return
        self._hand_over(client, fetched)
        self._answer_at_the_end(client)

    def _readable_requests(self) -> list[_Request]:
        """Those whose logs do not end below what was read."""
        cut = {place.number for place in self._lost_ends.partitions}
        return [request for number, request in self._requests.items() if number not in cut]

    def _poll_seconds(self, client: FetchClient, now: float) -> float:
        """At most until the next request must be answered without records."""
        if now - self._read_at < _BUSY_S or self._no_waiting:
            return _BUSY_POLL_S
        left = min(request.until for request in self._readable_requests()) - now
        return min(left if left > 0 else _DOUBT_POLL_S, client.longest_poll)

    def _hand_over(self, client: FetchClient, fetched: Mapping[Partition, Sequence[Fetched]]) -> None:
        for place, records in fetched.items():
            self._read_at = self._broker.clock()
            number = place.number
            request, epoch = self._requests.get(number), self._epochs.get(number)
            if request is None or request.offset is None or epoch is None:  # fetched again on request
                self._positions.pop(number, None)
                continue
            read = self._read_so_far[place]
            if read.doubted_from is not None:
                self._lost_ends.compare(place, read, records)
                self._positions.pop(number, None)
                continue
            taken = [
                Record(place, one.offset, one.timestamp, one.key, one.value, one.headers, epoch)
                for one in records
                if one.offset >= request.offset
            ]
            if taken and taken[-1].offset >= read.position:
                read.position, read.last = taken[-1].offset + 1, (taken[-1].offset, taken[-1].timestamp_ms)
            if taken:
                self._answer(number, FetchedPage(taken, taken[-1].offset + 1, taken[-1].offset + 1 >= (client.end(place) or 0)))

    def _answer_at_the_end(self, client: FetchClient) -> None:
        now = self._broker.clock()
        for number, request in list(self._requests.items()):
            place = Partition(self._topic, number)
            # The end in a fetch response is right on every broker; ListOffsets(LATEST) is not (too low on the embedded one).
            position, end = client.position(place), client.end(place)
            if self._positions.get(number) != request.offset:
                continue  # the log must be compared first
            if (now >= request.until or self._no_waiting) and position is not None and end is not None and position >= end:
                self._answer(number, FetchedPage([], position, is_end=True))

    def _answer(self, number: int, fetched: FetchedPage) -> None:
        request = self._requests.pop(number)
        self._positions[number] = fetched.next

        def settle() -> None:
            if not request.answer.done():  # its caller may be gone
                request.answer.set_result(fetched)

        self._post(settle)

    def _out_of_range(self, client: FetchClient, places: frozenset[Partition]) -> None:
        """The requested offset is not in the log: continue at its beginning, or wait for a log that has lost its end. Or the log
        may have lost its end, and have grown since.
        """
        concerned = [place for place in places if place.number in self._requests and place in self._read_so_far]
        for place, bounds in client.bounds(concerned).items():
            request, read = self._requests[place.number], self._read_so_far[place]
            self._positions.pop(place.number, None)
            if request.offset is not None and (missing := overtaken(self._group, place, request.offset, bounds)):
                self.missing.note(missing)
                request.offset = bounds.first
            elif bounds.end < read.position:
                self._lost_ends.note(place, read.position, bounds.end)
            elif read.last is not None and read.last[0] >= bounds.first:
                self._lost_ends.doubt(place, read, read.last[0], bounds)
            else:
                read.doubted_from = None

    # --- any thread ---

    def _gone(self, places: frozenset[Partition]) -> None:
        if places:
            self._post(self._on_revoked, frozenset(place.number for place in places))
