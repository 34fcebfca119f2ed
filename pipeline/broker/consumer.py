"""A member of a consumer group: kafka-python polls in a thread of its own, records go to the event loop, completions come back.

What the poll thread does, over and over: poll; keep what came in a buffer per partition; hand over what is due while there is
room; drain completions and commit the lowest unfinished offsets. A partition with a buffer is paused, and all are when what is
buffered and what is outstanding reach ``max_outstanding_bytes``: memory stays bounded.
kafka-python is not asyncio and a consumer belongs to one thread: nothing else ever touches it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from pipeline.broker.assignment import Assignment
from pipeline.broker.buffers import Buffers, DueIn
from pipeline.broker.commits import Commits, finished_earlier, to_kafka
from pipeline.broker.gathering import Gathering
from pipeline.broker.kafka.assignor import Assignor
from pipeline.broker.kafka.membership import Rebalances, see_join_through
from pipeline.broker.kafka.silence import Silence
from pipeline.broker.kafka.waits import wait_cheaply
from pipeline.broker.lag import Lag, waiting_since
from pipeline.broker.outstanding import Outstanding
from pipeline.broker.record import Partition, Receipt, Record
from pipeline.ops import metrics
from pipeline.ops.logs import logger

log = logger(__name__)

_EVERYTHING_FETCHED = 1_000_000_000
"""Records a poll may return. kafka-python 3.0.12 never gives back the rest of a fetch that was half taken when its partition was
paused (Fetcher.fetched_records: a used-up PartitionRecords is false but not None), so a poll takes all of it. Memory is bounded
by the bytes of a fetch instead."""
_FETCH_BYTES = 4 * 1024 * 1024
"""Of a fetch, before it is decompressed. There is one at a time from each broker. A batch that is larger comes alone."""
_JOIN_POLL_MS = 1000
"""A join that finishes between two polls is started again: poll for long while there is no assignment."""
_IDLE_POLL_MS = 100
_DRAIN_POLL_MS = 10
_ROOM_WAIT_S = 0.1
_GATHER_S = 0.02
"""Each turn of the poll thread takes the interpreter from the loop: where all room is taken, completions of so long are waited for."""
_ERROR_BACKOFF_S = 1.0
_CLOSE_MS = 5_000


class GroupConsumer:
    """Reads topics as a member of a group.

    ``on_records`` gets the records on the event loop, in order within a partition; the owner calls :meth:`finish` for each when
    everything that came of it is acknowledged. ``on_revoked`` says which partitions are gone. At most ``max_outstanding`` records
    of ``max_outstanding_bytes`` in all are handed over and not finished; a larger record is handed over alone.
    """

    def __init__(
        self,
        config: dict[str, Any],
        *,
        group: str,
        topics: Sequence[str],
        max_outstanding: int,
        max_outstanding_bytes: int,
        on_records: Callable[[list[Record]], None],
        on_revoked: Callable[[frozenset[Partition]], None] | None = None,
        due_in: DueIn | None = None,
        partition_fetch_bytes: int = 512 * 1024,
    ) -> None:
        self._assignor = Assignor()
        self._config = config | {
            "group_id": group,
            "partition_assignment_strategy": [self._assignor],
            "max_poll_records": _EVERYTHING_FETCHED,
            "fetch_max_bytes": _FETCH_BYTES,
            "max_partition_fetch_bytes": partition_fetch_bytes,
        }
        self._group = group
        self._topics = list(topics)
        self._on_records = on_records
        self._on_revoked = on_revoked
        self._assignment = Assignment()
        self._commits = Commits(group, self._assignment)
        self._buffers = Buffers(due_in)
        self._max_waiting_bytes = max_outstanding_bytes // 2
        self._outstanding = Outstanding(max_outstanding, max_outstanding_bytes)
        self._lag = Lag(group, self._topics, self._assignment, self._buffers, self._outstanding)
        self._completions: deque[tuple[Partition, int, int]] = deque()
        self._room = threading.Event()
        self._stop_at: float | None = None
        self._is_member = False
        self._polled_at = time.monotonic()
        self._silence = Silence(group, self._config)
        self._ends: dict[Partition, int | None] = {}
        self._gathering = Gathering()

    async def start(self) -> None:
        """Start the thread; raises what went wrong while connecting."""
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self.stopped: asyncio.Future[None] = self._loop.create_future()
        """Done when the thread has ended; holds the error that ended it."""
        self._thread = threading.Thread(target=self._run, name=f"poll {self._group}", daemon=True)
        self._thread.start()
        await self._started

    async def stop(self, drain_seconds: float) -> None:
        """Hand over nothing more, wait for what is under way, commit, leave the group."""
        self._stop_at = time.monotonic() + drain_seconds
        self._room.set()
        await self.stopped

    def finish(self, record: Record | Receipt) -> None:
        """Everything that came of the record is acknowledged by Kafka (or ClickHouse): its offset may be committed."""
        self._completions.append((record.partition, record.epoch, record.offset))
        self._outstanding.finish(record.size)
        if not self._room.is_set():  # set() takes a lock; the poll thread looks for room after it has cleared this
            self._room.set()

    def is_current(self, record: Record) -> bool:
        """Whether the record's partition is still held under the epoch that it was taken under."""
        return self._assignment.epoch(record.partition) == record.epoch

    @property
    def outstanding(self) -> int:
        """Records handed over and not finished."""
        return self._outstanding.records

    def end(self, partition: Partition) -> int | None:
        """The end of a partition as the latest fetch saw it; None before the first one."""
        return self._ends.get(partition)

    def problem(self) -> str | None:
        """Why this consumer is not ready (for health checks)."""
        if not self._is_member:
            return f"this process is not a member of group {self._group} yet, or was put out of it"
        silent = time.monotonic() - self._polled_at
        return f"no poll for {silent:.0f} s" if silent > 30 else None

    # --- the poll thread ---

    def _run(self) -> None:
        try:
            consumer = KafkaConsumer(**self._config)
            wait_cheaply(consumer)
            consumer.subscribe(self._topics, listener=Rebalances(consumer, self.assigned, self.revoked))
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits start()
            self._tell(self._started, error)
            return
        self._lag.show()
        self._tell(self._started, None)
        failure: Exception | None = None
        try:
            while not self._drained():
                self._turn(consumer)
        except Exception as error:
            log.exception("consumer failed", group=self._group)
            failure = error
        try:
            self._close(consumer)
        except Exception:
            # Whatever it is (kafka-python's own thread may have died), whoever waits for the end must not wait for ever. What could not be
            # committed is delivered again.
            log.exception("the consumer could not be closed in order", group=self._group)
        self._lag.forget()
        self._tell(self.stopped, failure)

    def _tell(self, future: asyncio.Future[None], error: Exception | None) -> None:
        def settle() -> None:
            if not future.done():
                future.set_exception(error) if error else future.set_result(None)

        self._loop.call_soon_threadsafe(settle)

    def _drained(self) -> bool:
        if self._stop_at is None:
            return False
        return self.outstanding <= 0 or time.monotonic() > self._stop_at

    def _turn(self, consumer: KafkaConsumer) -> None:
        try:
            polled = consumer.poll(timeout_ms=self._poll_timeout_ms(consumer))
        except KafkaError as error:
            if not error.retriable:
                raise
            # Brokers come and go; kafka-python reconnects by itself.
            metrics.CONSUMER_ERRORS.labels(self._group).inc()
            log.warning("poll failed, polling on", group=self._group, error=repr(error))
            time.sleep(_ERROR_BACKOFF_S)
            return
        self._polled_at = time.monotonic()
        held = self._buffers.bytes
        for (topic, number), records in polled.items():
            partition = Partition(topic, number)
            epoch = self._assignment.epoch(partition)
            if epoch is not None:
                if self._assignment.needs_resuming(partition):
                    self._assignment.resume(partition, finished_earlier(consumer, partition))
                self._ends[partition] = consumer.highwater(TopicPartition(topic, number))
                wall, now = time.time(), time.monotonic()
                self._buffers.add(partition, epoch, records, now, wall)
        came = self._buffers.bytes - held
        self._hand_over(consumer)
        self._pause_and_resume(consumer)
        self._settle(consumer)
        if self._outstanding.is_full(self._buffers.bytes):
            self._room.clear()
            if self._outstanding.is_full(self._buffers.bytes):
                self._room.wait(_ROOM_WAIT_S)
                time.sleep(_GATHER_S)
            self._hand_over(consumer)
            self._pause_and_resume(consumer)
        elif self._stop_at is None and (seconds := self._gathering.seconds(came)):
            time.sleep(seconds)

    def _poll_timeout_ms(self, consumer: KafkaConsumer) -> int:
        # Also with partitions: members keep theirs while they join again (others came or went, a topic has grown).
        is_joining = see_join_through(consumer)
        if self._stop_at is not None:
            return _DRAIN_POLL_MS
        if is_joining or not self._assignment.partitions:
            return _JOIN_POLL_MS
        if self._outstanding.is_full(self._buffers.bytes):
            return 1
        milliseconds = (self._buffers.next_due() - time.monotonic()) * 1000 + 1
        return int(min(max(milliseconds, 1), _IDLE_POLL_MS))

    def _hand_over(self, consumer: KafkaConsumer) -> None:
        """Hand over what is due while there is room, one partition after the other."""
        if self._stop_at is not None or self._silence.leaves_in_doubt(consumer, time.monotonic()):
            return
        batch: list[Record] = []
        for partition, buffered in self._buffers.take(self._outstanding.fits, time.monotonic()):
            epoch, record, size, _ = buffered
            if self._assignment.start(partition, epoch, record.offset, waiting_since(buffered)):
                self._outstanding.add(size)
                batch.append(Record(partition, record.offset, record.timestamp, record.key, record.value, record.headers, epoch))
        if batch:
            self._loop.call_soon_threadsafe(self._on_records, batch)
        metrics.OUTSTANDING.labels(self._group).set(self.outstanding)

    def _pause_and_resume(self, consumer: KafkaConsumer) -> None:
        """Fetch from partitions without a buffer, and only while there is room for what comes."""
        assigned = consumer.assignment()
        now = time.monotonic()
        self._buffers.wake(now)
        for partition, offset in self._buffers.send_to_sleep(self._max_waiting_bytes, now).items():
            if TopicPartition(*partition) in assigned:
                consumer.seek(TopicPartition(*partition), offset)
        wanted = assigned
        if self._outstanding.leaves_room(self._buffers.bytes):
            wanted = {TopicPartition(*partition) for partition in self._buffers.partitions} & assigned
        paused = consumer.paused()
        if wanted - paused:
            consumer.pause(*(wanted - paused))
        if paused - wanted:
            consumer.resume(*((paused - wanted) & assigned))

    def _settle(self, consumer: KafkaConsumer) -> None:
        """Drain completions; measure and commit when it is time."""
        self._drain_completions()
        if self._commits.is_due():
            metrics.OUTSTANDING_BYTES.labels(self._group).set(self._outstanding.bytes)
            metrics.BUFFERED_BYTES.labels(self._group).set(self._buffers.bytes)
            self._is_member = consumer.group_metadata().generation_id >= 0
            self._lag.measure(consumer)
            self._commits.send(consumer)

    def _drain_completions(self) -> None:
        while self._completions:
            partition, epoch, offset = self._completions.popleft()
            if not self._assignment.finish(partition, epoch, offset):
                metrics.FENCED.labels(self._group).inc()

    def _close(self, consumer: KafkaConsumer) -> None:
        self._drain_completions()
        self._commits.finish(consumer)
        try:
            consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
        except KafkaError as error:
            log.warning("could not leave the group in time", group=self._group, error=repr(error))

    # --- kafka-python's I/O thread ---

    def assigned(self, partitions: Iterable[Any]) -> None:
        """Partitions came."""
        self._assignment.assign(Partition(*partition) for partition in partitions)
        metrics.REBALANCES.labels(self._group, "assigned").inc()

    def revoked(self, consumer: KafkaConsumer, partitions: Iterable[Any], *, lost: bool) -> None:
        """Partitions go: their completions are fenced from here on. Never blocks."""
        gone = frozenset(Partition(*partition) for partition in partitions)
        if lost:
            self._is_member = False
            self._assignor.forget()
        self._drain_completions()
        commits = self._assignment.revoke(gone)
        for partition in gone:
            self._buffers.drop(partition)
        metrics.REBALANCES.labels(self._group, "lost" if lost else "revoked").inc()
        if commits and not lost:
            consumer.commit_async(to_kafka(commits))
        if self._on_revoked is not None and gone:
            self._loop.call_soon_threadsafe(self._on_revoked, gone)
