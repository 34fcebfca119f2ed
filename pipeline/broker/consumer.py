"""A member of a consumer group: kafka-python polls in a thread of its own, records go to the event loop, completions come back.

What the poll thread does, over and over: poll; keep what came in a buffer per partition; hand over what is due while there is
room; drain completions and commit the lowest unfinished offsets. A partition with a buffer is paused: memory stays bounded.
kafka-python is not asyncio and a consumer belongs to one thread: nothing else ever touches it.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from pipeline.broker.assignment import Assignment
from pipeline.broker.record import Partition, Record
from pipeline.core.offsets import Commit, decode_finished, encode_finished
from pipeline.ops import metrics
from pipeline.ops.logs import logger

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord

log = logger(__name__)

_EVERYTHING_FETCHED = 1_000_000_000
"""Records a poll may return. kafka-python 3.0.12 never gives back the rest of a fetch that was half taken when its partition was
paused (Fetcher.fetched_records: a used-up PartitionRecords is false but not None), so a poll takes all of it. Memory is bounded
by the bytes of a fetch instead."""
_FETCH_BYTES = 16 * 1024 * 1024
_JOIN_POLL_MS = 1000
"""A join that finishes between two polls is started again: poll for long while there is no assignment."""
_IDLE_POLL_MS = 100
_ROOM_WAIT_S = 0.1
_COMMIT_INTERVAL_S = 0.25
_ERROR_BACKOFF_S = 1.0
_FINAL_COMMIT_MS = 5_000
_COMMITTED_MS = 10_000

DueAt = Callable[["ConsumerRecord"], float]
"""When a record may be handed over, in seconds since 1970."""


class GroupConsumer:
    """Reads topics as a member of a group.

    ``on_records`` gets the records on the event loop, in order within a partition; the owner calls :meth:`finish` for each when
    everything that came of it is acknowledged. ``on_revoked`` says which partitions are gone.
    """

    def __init__(
        self,
        config: dict[str, Any],
        *,
        group: str,
        topics: Sequence[str],
        max_outstanding: int,
        on_records: Callable[[list[Record]], None],
        on_revoked: Callable[[frozenset[Partition]], None] | None = None,
        due_at: DueAt | None = None,
        partition_fetch_bytes: int = 1024 * 1024,
    ) -> None:
        self._config = config | {
            "group_id": group,
            "partition_assignment_strategy": [CooperativeStickyAssignor],
            "max_poll_records": _EVERYTHING_FETCHED,
            "fetch_max_bytes": _FETCH_BYTES,
            "max_partition_fetch_bytes": partition_fetch_bytes,
        }
        self._group = group
        self._topics = list(topics)
        self._max_outstanding = max_outstanding
        self._on_records = on_records
        self._on_revoked = on_revoked
        self._due_at = due_at
        self._assignment = Assignment()
        self._buffers: dict[Partition, deque[tuple[int, ConsumerRecord]]] = {}
        self._completions: deque[tuple[Partition, int, int]] = deque()
        self._handed_over = 0  # counted by the poll thread
        self._finished = 0  # counted by the event loop
        self._room = threading.Event()
        self._stop_at: float | None = None
        self._commit_due = 0.0
        self._commit_in_flight = False
        self._is_member = False
        self._polled_at = time.monotonic()
        self._ends: dict[Partition, int | None] = {}
        self._waiting_since: dict[Partition, float] = {}
        self._measured: set[TopicPartition] = set()

    async def start(self) -> None:
        """Start the thread; raises what went wrong while connecting."""
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self.stopped: asyncio.Future[None] = self._loop.create_future()
        """Done when the thread has ended; holds the error that ended it."""
        self._thread = threading.Thread(target=self._run, name=f"poll {self._group}", daemon=True)
        self._thread.start()
        await self._started
        for topic in self._topics:
            metrics.OLDEST_UNFINISHED.labels(self._group, topic).set_function(functools.partial(self._oldest_seconds, topic))

    async def stop(self, drain_seconds: float) -> None:
        """Hand over nothing more, wait for what is under way, commit, leave the group."""
        self._stop_at = time.monotonic() + drain_seconds
        self._room.set()
        await self.stopped

    def finish(self, record: Record) -> None:
        """Everything that came of the record is acknowledged by Kafka (or ClickHouse): its offset may be committed."""
        self._completions.append((record.partition, record.epoch, record.offset))
        self._finished += 1
        self._room.set()

    def is_current(self, record: Record) -> bool:
        """Whether the record's partition is still held under the epoch that it was taken under."""
        return self._assignment.epoch(record.partition) == record.epoch

    @property
    def outstanding(self) -> int:
        """Records handed over and not finished."""
        return self._handed_over - self._finished

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
            consumer.subscribe(self._topics, listener=_Rebalances(self, consumer))
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits start()
            self._tell(self._started, error)
            return
        self._tell(self._started, None)
        failure: Exception | None = None
        try:
            while not self._drained():
                self._turn(consumer)
        except Exception as error:
            log.exception("consumer failed", group=self._group)
            failure = error
        self._close(consumer)
        self._forget_measurements()
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
            polled = consumer.poll(timeout_ms=self._poll_timeout_ms())
        except KafkaError as error:
            if not error.retriable:
                raise
            # Brokers come and go; kafka-python reconnects by itself.
            metrics.CONSUMER_ERRORS.labels(self._group).inc()
            log.warning("poll failed, polling on", group=self._group, error=repr(error))
            time.sleep(_ERROR_BACKOFF_S)
            return
        self._polled_at = time.monotonic()
        for (topic, number), records in polled.items():
            partition = Partition(topic, number)
            epoch = self._assignment.epoch(partition)
            if epoch is not None:
                if self._assignment.needs_resuming(partition):
                    self._assignment.resume(partition, self._finished_earlier(consumer, partition))
                self._ends[partition] = consumer.highwater(TopicPartition(topic, number))
                self._buffers.setdefault(partition, deque()).extend((epoch, record) for record in records)
        self._hand_over()
        self._pause_what_is_buffered(consumer)
        self._settle(consumer)
        if self._buffers and not self._has_room() and self._stop_at is None:
            self._room.clear()
            if not self._has_room():
                self._room.wait(_ROOM_WAIT_S)
            self._hand_over()
            self._pause_what_is_buffered(consumer)

    def _finished_earlier(self, consumer: KafkaConsumer, partition: Partition) -> set[int]:
        """What the last commit says was finished beyond its offset. Without an answer it is done again: at least once."""
        try:
            committed = consumer.committed(TopicPartition(*partition), metadata=True, timeout_ms=_COMMITTED_MS)
        except KafkaError as error:
            log.warning("the last commit cannot be read; some records are done again", partition=partition, error=repr(error))
            return set()
        return decode_finished(committed.offset, committed.metadata) if committed is not None else set()

    def _poll_timeout_ms(self) -> int:
        if not self._assignment.partitions:
            return _JOIN_POLL_MS
        if self._due_at is None or not self._buffers:
            return _IDLE_POLL_MS
        next_due = min(self._due_at(buffer[0][1]) for buffer in self._buffers.values())
        return max(1, min(_IDLE_POLL_MS, int((next_due - time.time()) * 1000) + 1))

    def _has_room(self) -> bool:
        return self.outstanding < self._max_outstanding

    def _hand_over(self) -> None:
        """Hand over what is due while there is room, one partition after the other."""
        if self._stop_at is not None:
            return
        now = time.time()
        batch: list[Record] = []
        for partition in list(self._buffers):
            buffer = self._buffers[partition]
            while buffer and self.outstanding < self._max_outstanding:
                epoch, record = buffer[0]
                if self._due_at is not None and self._due_at(record) > now:
                    break
                buffer.popleft()
                if self._assignment.start(partition, epoch, record.offset, self._since(record)):
                    self._handed_over += 1
                    batch.append(
                        Record(partition, record.offset, record.timestamp, record.key, record.value, record.headers, epoch)
                    )
            # The next turn begins with another partition: none waits behind a busier one for ever.
            del self._buffers[partition]
            if buffer:
                self._buffers[partition] = buffer
        if batch:
            self._loop.call_soon_threadsafe(self._on_records, batch)
        metrics.OUTSTANDING.labels(self._group).set(self.outstanding)

    def _pause_what_is_buffered(self, consumer: KafkaConsumer) -> None:
        assigned = consumer.assignment()
        buffered = {TopicPartition(*partition) for partition in self._buffers} & assigned
        paused = consumer.paused()
        if buffered - paused:
            consumer.pause(*(buffered - paused))
        if paused - buffered:
            consumer.resume(*((paused - buffered) & assigned))

    def _settle(self, consumer: KafkaConsumer) -> None:
        """Drain completions; commit when it is time."""
        self._drain_completions()
        now = time.monotonic()
        if now < self._commit_due or self._commit_in_flight:
            return
        self._commit_due = now + _COMMIT_INTERVAL_S
        self._is_member = consumer.group_metadata().generation_id >= 0
        self._measure(consumer)
        commits = self._assignment.committable()
        if commits:
            self._commit_in_flight = True
            consumer.commit_async(_to_commit(commits), callback=functools.partial(self._committed, commits))

    def _drain_completions(self) -> None:
        while self._completions:
            partition, epoch, offset = self._completions.popleft()
            if not self._assignment.finish(partition, epoch, offset):
                metrics.FENCED.labels(self._group).inc()

    def _committed(self, commits: dict[Partition, Commit], _: object, response: object) -> None:
        self._commit_in_flight = False
        if isinstance(response, Exception):
            # Expected during a rebalance. Nothing is lost: the next commit says the same or more.
            metrics.COMMITS.labels(self._group, "failed").inc()
            log.info("commit failed", group=self._group, error=repr(response))
            return
        metrics.COMMITS.labels(self._group, "ok").inc()
        self._assignment.committed(commits)

    def _since(self, record: ConsumerRecord) -> float:
        """Since when a record waits for us, in seconds since 1970: since it was written or, in a delay topic, due."""
        return self._due_at(record) if self._due_at is not None else record.timestamp / 1000

    def _measure(self, consumer: KafkaConsumer) -> None:
        """Note how far behind we are. The ages are computed when they are scraped, also when this thread hangs."""
        heads = {partition: self._since(buffer[0][1]) for partition, buffer in list(self._buffers.items()) if buffer}
        self._waiting_since = heads | self._assignment.oldest()
        assigned = consumer.assignment()
        for partition in self._measured - assigned:
            metrics.CONSUMER_LAG.remove(self._group, partition.topic, str(partition.partition))
        self._measured &= assigned
        for partition in assigned:
            end = consumer.highwater(partition)
            if end is None:
                continue
            # What is buffered has been polled and not been looked at.
            buffer = self._buffers.get(Partition(*partition))
            position = buffer[0][1].offset if buffer else _position(consumer, partition)
            behind = end - (end if position is None else position)
            metrics.CONSUMER_LAG.labels(self._group, partition.topic, str(partition.partition)).set(max(0, behind))
            self._measured.add(partition)

    def _oldest_seconds(self, topic: str) -> float:
        """How long the oldest record of a topic waits; 0 when none does. For the scrape, on the event loop."""
        waiting = [since for partition, since in self._waiting_since.items() if partition.topic == topic]
        return max(0.0, time.time() - min(waiting)) if waiting else 0.0

    def _close(self, consumer: KafkaConsumer) -> None:
        self._drain_completions()
        commits = self._assignment.committable()
        try:
            if commits:
                consumer.commit(_to_commit(commits), timeout_ms=_FINAL_COMMIT_MS)
        except KafkaError as error:
            log.warning("final commit failed; some records will be delivered again", group=self._group, error=repr(error))
        try:
            consumer.close(autocommit=False, timeout_ms=_FINAL_COMMIT_MS)
        except KafkaError as error:
            log.warning("could not leave the group in time", group=self._group, error=repr(error))

    def _forget_measurements(self) -> None:
        """What we held is somebody else's now: it must not look as if it stood still here."""
        for partition in self._measured:
            metrics.CONSUMER_LAG.remove(self._group, partition.topic, str(partition.partition))
        for topic in self._topics:
            metrics.OLDEST_UNFINISHED.remove(self._group, topic)

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
        self._drain_completions()
        commits = self._assignment.revoke(gone)
        for partition in gone:
            self._buffers.pop(partition, None)
        metrics.REBALANCES.labels(self._group, "lost" if lost else "revoked").inc()
        if commits and not lost:
            consumer.commit_async(_to_commit(commits))
        if self._on_revoked is not None and gone:
            self._loop.call_soon_threadsafe(self._on_revoked, gone)


def _to_commit(commits: dict[Partition, Commit]) -> dict[TopicPartition, OffsetAndMetadata]:
    return {
        TopicPartition(*partition): OffsetAndMetadata(commit.offset, encode_finished(commit), -1)
        for partition, commit in commits.items()
    }


def _position(consumer: KafkaConsumer, partition: TopicPartition) -> int | None:
    try:
        position: int | None = consumer.position(partition, timeout_ms=0)
    except KafkaError:
        return None  # not known yet; asking for longer would hold up the poll loop
    return position


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python is untyped
    """Called on kafka-python's I/O thread while the poll thread waits inside poll() or close()."""

    def __init__(self, owner: GroupConsumer, consumer: KafkaConsumer) -> None:
        self._owner = owner
        self._consumer = consumer

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._owner.assigned(assigned)

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._owner.revoked(self._consumer, revoked, lost=False)

    def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self._owner.revoked(self._consumer, lost, lost=True)
