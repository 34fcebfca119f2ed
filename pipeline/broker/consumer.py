"""A group consumer: passes the records of its partitions to the event loop, and takes completions back.

It has two threads, each with its own client: one keeps membership (`pipeline.broker.member`), the other fetches. The fetch thread
loops: apply the assignment; fetch; buffer records by partition; hand over due records while there is room. A partition with
buffered records is paused. All are paused if buffered and outstanding records reach ``max_outstanding_bytes``, so memory is
bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.broker.api import Broker, FetchClient, Fetched, Partition, Receipt, Record
from pipeline.broker.assignment import Assignment
from pipeline.broker.errors import OutOfRangeError, UnavailableError
from pipeline.broker.failure_backoff import FailureBackoff
from pipeline.broker.fetch_backoff import GATHER_S, FetchBackoff
from pipeline.broker.fetch_buffers import DueIn, FetchBuffers
from pipeline.broker.fetch_positions import FetchPositions
from pipeline.broker.in_flight import InFlight
from pipeline.broker.lag import Lag, waiting_since
from pipeline.broker.member import Member
from pipeline.broker.missing_reports import MissingReports
from pipeline.broker.start_offset import MissingOffsets
from pipeline.ops import metrics
from pipeline.ops.daemon_threads import start_thread
from pipeline.ops.logs import logger

log = logger(__name__)

_DOUBT_POLL_S: Final = 0.1
"""While membership is in doubt, polls are short, so that processing continues soon after it is confirmed."""
_ROOM_WAIT_S: Final = 0.1
_GATHER_S: Final = 0.02
"""Each iteration of the fetch thread takes the GIL from the event loop. If there is no room, it waits this long between two."""
_DRAIN_S: Final = 0.01
_MEASURED_EVERY_S: Final = 1.0
_SILENT_S: Final = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerOptions:
    """What a group consumer reads, and how much at a time.

    At most ``max_outstanding`` records with ``max_outstanding_bytes`` in total are handed over and not finished; a larger record
    is handed over alone. ``due_in`` returns in how many seconds a record is due (default: immediately). ``read_committed``: skip
    records of aborted transactions. ``gather_seconds``: how long records may accumulate at the broker after a small fetch.
    ``wall``: the current time by the clock that stamps the records, in seconds since 1970; it is called on the fetch thread.
    """

    group: str
    topics: Sequence[str]
    max_outstanding: int
    max_outstanding_bytes: int
    due_in: DueIn | None = None
    partition_fetch_bytes: int = 512 * 1024
    read_committed: bool = False
    gather_seconds: float = GATHER_S
    wall: Callable[[], float] = time.time


class GroupConsumer:
    """Reads topics as a member of a group.

    ``on_records`` gets the records on the event loop, in order within a partition. The owner calls :meth:`finish` for each when
    all of its results are acknowledged. ``on_revoked`` is called with revoked partitions, ``on_missing`` with records that were
    removed before they were read.
    """

    def __init__(
        self,
        broker: Broker,
        options: ConsumerOptions,
        *,
        on_records: Callable[[list[Record]], None],
        on_revoked: Callable[[frozenset[Partition]], None] | None = None,
        on_missing: Callable[[MissingOffsets], None] | None = None,
    ) -> None:
        self._broker = broker
        self._group = group = options.group
        topics = list(options.topics)
        self._on_records = on_records
        self._on_revoked = on_revoked
        self.missing = MissingReports(on_missing)
        self._partition_fetch_bytes = options.partition_fetch_bytes
        self._read_committed = options.read_committed
        self._assignment = Assignment()
        self._member = Member(broker, group, topics, self._assignment, on_gone=self._gone, on_missing=self.missing.note)
        self._buffers = FetchBuffers(options.due_in, broker.clock)
        self._max_waiting_bytes = options.max_outstanding_bytes // 2
        self._outstanding = InFlight(options.max_outstanding, options.max_outstanding_bytes)
        self._reading = FetchPositions(group, self._assignment, self._buffers, self.missing.note, broker.clock)
        self._wall = options.wall
        self._lag = Lag(group, topics, self._assignment, self._buffers, self._outstanding, broker.clock)
        self._room = threading.Event()
        self._stopping = threading.Event()
        self._stop_at: float | None = None
        self._clock = broker.clock
        self._client: FetchClient | None = None
        self._turned_at = self._clock()
        self._measured_at = self._clock()
        self._gathering = FetchBackoff(options.gather_seconds)
        self._assignment.on_change = self._end_poll
        self._trouble = FailureBackoff(log)
        self._in_doubt: list[asyncio.Future[None]] = []
        """Futures that wait until the fetch thread checks the lease again."""

    async def start(self) -> None:
        """Start both threads."""
        self._loop = asyncio.get_running_loop()
        self.stopped: asyncio.Future[None] = self._loop.create_future()
        """Done when both threads have ended; holds the error that ended them."""
        self._member_ended = self._member.start()
        self._fetch_ended = start_thread(self._run, f"fetch {self._group}")
        self._member_ended.add_done_callback(self._one_ended)
        self._fetch_ended.add_done_callback(self._one_ended)

    async def stop(self, drain_seconds: float) -> None:
        """Hand over no more records, wait for those in progress, commit, and leave the group."""
        self._stop_at = self._clock() + drain_seconds
        self._stopping.set()
        self._room.set()
        self._end_poll()
        await asyncio.wait([self._fetch_ended])
        self._member.stop()
        await self.stopped

    def _one_ended(self, ended: asyncio.Future[None]) -> None:
        """One thread has ended. If it failed, stop the other, which is useless without it."""
        if ended.exception() is not None:
            self._stop_at = 0.0
            self._stopping.set()
            self._room.set()
            self._end_poll()
            self._member.stop()
        if not (self._fetch_ended.done() and self._member_ended.done()) or self.stopped.done():
            return
        error = self._fetch_ended.exception() or self._member_ended.exception()
        if error is not None:
            self.stopped.set_exception(error)
        else:
            self.stopped.set_result(None)

    def finish(self, record: Record | Receipt) -> None:
        """All results of the record are acknowledged by Kafka (or ClickHouse): its offset may be committed."""
        self._member.finish(record)
        self._outstanding.finish(record.size)
        if not self._room.is_set():  # set() takes a lock; the fetch thread checks for room after clearing this
            self._room.set()

    def divide(self, record: Record | Receipt, check: int, parts: Sequence[int]) -> tuple[int, ...]:
        """Process a record in parts (ascending numbers from 1): finished parts are committed before the whole record is.

        Returns the remaining parts: an earlier assignment, here or in another process, may have finished the others. Start them in
        this order, and call :meth:`finish_part` for each. ``check`` distinguishes the record from another one at the same offset.
        """
        divided = self._assignment.divide(record.partition, record.epoch, record.offset, check, parts)
        if divided is None:
            return tuple(parts)
        if divided.is_foreign:
            log.warning(
                "the committed progress belongs to another record; no part is skipped",
                partition=str(record.partition),
                offset=record.offset,
            )
        return divided.left

    def finish_part(self, record: Record | Receipt, part: int) -> None:
        """All results of a part are acknowledged by Kafka."""
        self._member.finish_part(record, part)

    def is_current(self, record: Record | Receipt) -> bool:
        """Whether the record's partition is still held under the epoch of the record."""
        return self._assignment.epoch(record.partition) == record.epoch

    def holds(self, partition: Partition) -> bool:
        """Whether the partition is assigned to this consumer."""
        return self._assignment.epoch(partition) is not None

    async def may_begin(self, record: Record | Receipt) -> bool:
        """Whether the record may be processed now. Waits while membership is in doubt (see `pipeline.broker.lease`).

        Calls return in the order in which they were made, even if some of them have to wait.
        """
        while self.is_current(record) and (self._in_doubt or not self._member.lease.is_valid()):
            turned = self._loop.create_future()
            self._in_doubt.append(turned)
            await turned
        return self.is_current(record)

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        """Call it on the event loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting
            self._loop.call_soon_threadsafe(call, *arguments)

    def _wake_waiting(self) -> None:
        waiting, self._in_doubt = self._in_doubt, []
        for turned in waiting:
            if not turned.done():  # its delivery may have been cancelled
                turned.set_result(None)

    def add_topics(self, topics: Sequence[str]) -> None:
        """Also read these topics, which exist and are readable: from the group's committed offset, or from their beginning.

        Current partitions and records in progress are kept. May be called before the start.
        """
        self._lag.add_topics(topics)
        self._member.add_topics(topics)

    @property
    def topics(self) -> Sequence[str]:
        """The topics that are read, or are about to be."""
        return self._lag.topics

    @property
    def outstanding(self) -> int:
        """Records handed over and not finished."""
        return self._outstanding.records

    def end(self, partition: Partition) -> int | None:
        """The end of a partition according to the latest fetch; None before the first one."""
        return self._reading.ends.get(partition)

    def problem(self) -> str | None:
        """Why this consumer is not ready (for health checks)."""
        if problem := self._member.problem() or self._reading.problem():
            return problem
        silent = self._clock() - self._turned_at
        return f"nothing was fetched for {silent:.0f} s" if silent > _SILENT_S else None

    # --- the fetch thread ---

    def _run(self) -> None:
        self._lag.show()
        try:
            while not self._drained():
                self._rest(self.step())
        except Exception:
            log.exception("consumer failed", group=self._group)
            raise
        finally:
            if self._client is not None:
                self._client.close()
            self._lag.forget()
            self._post(self._wake_waiting)

    def _drained(self) -> bool:
        if self._stop_at is None:
            return False
        return self.outstanding <= 0 or self._clock() > self._stop_at

    def step(self) -> float:
        """Run one iteration. Returns the minimum number of seconds until the next one."""
        pause, fetched_bytes = 0.0, 0
        try:
            if self._client is None:
                self._client = self._broker.fetch_client(
                    partition_bytes=self._partition_fetch_bytes, read_committed=self._read_committed
                )
            self._reading.follow(self._client)
            fetched_bytes = self._take(self._client, self._fetch(self._client))
            self._trouble.over("fetching works again", group=self._group)
        except OutOfRangeError as error:
            self._out_of_range(error.partitions)
        except UnavailableError as error:
            # Brokers come and go; clients reconnect by themselves.
            metrics.CONSUMER_ERRORS.labels(self._group).inc()
            pause = self._trouble.note("fetching failed; trying again", group=self._group, error=str(error))
        self._turned_at = self._clock()
        if self._in_doubt:
            self._post(self._wake_waiting)
        self._hand_over()
        if self._client is not None:
            self._pause(self._client)
            self._measure(self._client)
        return pause or self._gathering.seconds(fetched_bytes)

    def _rest(self, seconds: float) -> None:
        """Wait for ``seconds``, and for room. Wait only briefly after this consumer was stopped."""
        if self._stop_at is not None:
            time.sleep(_DRAIN_S)
            return
        self._room.clear()
        if self._outstanding.is_full(self._buffers.bytes):
            self._room.wait(_ROOM_WAIT_S)
            seconds = max(seconds, _GATHER_S)
        if not self._reading.partitions:
            seconds = max(seconds, _GATHER_S)
        if seconds:
            self._stopping.wait(seconds)

    def _fetch(self, client: FetchClient) -> Mapping[Partition, Sequence[Fetched]]:
        if self._stop_at is not None:
            return {}
        if not self._reading.partitions:
            client.idle()
            return {}
        return client.poll(self._poll_seconds(client))

    def _out_of_range(self, partitions: frozenset[Partition]) -> None:
        if self._client is None:
            return
        try:
            self._reading.out_of_range(self._client, partitions)
        except UnavailableError as error:
            self._trouble.note("the first offset of a partition cannot be read", group=self._group, error=str(error))

    def _poll_seconds(self, client: FetchClient) -> float:
        if self._outstanding.is_full(self._buffers.bytes):
            return 0.001
        is_sure = not self._in_doubt and self._member.lease.is_valid()
        longest = client.longest_poll if is_sure else min(client.longest_poll, _DOUBT_POLL_S)
        return min(max(self._buffers.next_due() - self._clock() + 0.001, 0.001), longest)

    def _take(self, client: FetchClient, fetched: Mapping[Partition, Sequence[Fetched]]) -> int:
        """Buffer fetched records; returns their size in bytes."""
        held = self._buffers.bytes
        for partition, records in fetched.items():
            epoch, wanted = self._reading.take(client, partition, records)
            if wanted:
                self._buffers.add(partition, epoch, wanted)
        return self._buffers.bytes - held

    def _hand_over(self) -> None:
        """Hand over due records while there is room, one partition after the other."""
        if self._stop_at is not None or not self._member.lease.is_valid():
            return
        batch: list[Record] = []
        now, wall = self._clock(), self._wall()
        for partition, buffered in self._buffers.take(self._outstanding.fits, now):
            epoch, record, size, _ = buffered
            if self._assignment.start(partition, epoch, record.offset, waiting_since(buffered, now, wall)):
                self._outstanding.add(size)
                batch.append(Record(partition, record.offset, record.timestamp, record.key, record.value, record.headers, epoch))
        if batch:
            self._post(self._on_records, batch)
        metrics.OUTSTANDING.labels(self._group).set(self.outstanding)

    def _pause(self, client: FetchClient) -> None:
        """Fetch only partitions without buffered records, and only while there is room."""
        now = self._clock()
        self._buffers.release_due(now)
        for partition, offset in self._buffers.evict(self._max_waiting_bytes, now).items():
            self._reading.go_back(client, partition, offset)
        has_room = self._outstanding.leaves_room(self._buffers.bytes)
        client.pause(self._reading.paused(self._buffers.partitions) if has_room else self._reading.partitions)

    def _measure(self, client: FetchClient) -> None:
        now = self._clock()
        if now - self._measured_at >= _MEASURED_EVERY_S:
            self._measured_at = now
            self._lag.measure(self._reading.positions(), self._reading.known_ends(client), self._wall())

    # --- any thread ---

    def _end_poll(self) -> None:
        """End the poll: there is something else to do than to wait for records."""
        if self._client is not None:
            self._client.wake()

    def _gone(self, partitions: frozenset[Partition]) -> None:
        if self._on_revoked is not None and partitions:
            self._post(self._on_revoked, partitions)
