"""A member of a consumer group that goes back and forth in its partitions: whoever keeps a partition asks for what it wants to read.

The group says who keeps a partition. What is committed is where its next keeper begins, and nothing else is committed: unlike a
GroupConsumer, this one reads without finishing what it has read. A partition is fetched only while it is asked for, so memory is bounded by one
fetch each.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.structs import OffsetAndMetadata

from pipeline.broker.api import NotMemberError, Partition, Record, UnavailableError
from pipeline.broker.kafka.assignor import Assignor
from pipeline.broker.kafka.compat import hooks_for
from pipeline.broker.kafka.config import consumer_config
from pipeline.broker.kafka.errors import ours
from pipeline.broker.kafka.membership import Rebalances, see_join_through
from pipeline.broker.kafka.session import opening_session
from pipeline.broker.kafka.silence import Silence
from pipeline.broker.trouble import Trouble
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

log = logger(__name__)

_EVERYTHING_FETCHED = 1_000_000_000  # see broker.consumer
_JOIN_POLL_MS = 1000  # see broker.consumer
_IDLE_POLL_MS = 100
_BUSY_POLL_MS = 10
_BUSY_S = 0.5
_COMMITTED_MS = 10_000
_CLOSE_MS = 5_000
_LONGEST_SILENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records in the order of their offsets; where to read on; and whether that is the end of the partition, as far as is known."""

    records: list[Record]
    next: int
    is_end: bool


@dataclass(slots=True)
class _Request:
    offset: int | None
    until: float
    answer: asyncio.Future[Fetched]


class Browser:
    """Reads one topic. Every method but those of the threads is for the event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        group: str,
        topic: str,
        on_assigned: Callable[[frozenset[int]], None],
        on_revoked: Callable[[frozenset[int]], None],
        partition_fetch_bytes: int = 512 * 1024,
    ) -> None:
        self._assignor = Assignor()
        self._hooks = hooks_for(settings)
        self._config = self._hooks.configure(consumer_config(settings)) | {
            "auto_offset_reset": "earliest",
            "group_id": group,
            "partition_assignment_strategy": [self._assignor],
            "max_poll_records": _EVERYTHING_FETCHED,
            "max_partition_fetch_bytes": partition_fetch_bytes,
        }
        self._group = group
        self._topic = topic
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._trouble = Trouble(log)
        self._silence = Silence(group, self._config)
        self._asked: deque[tuple[int, _Request]] = deque()
        self._commits: deque[tuple[int, int]] = deque()
        self._requests: dict[int, _Request] = {}
        self._positions: dict[int, int] = {}
        self._stopping = threading.Event()
        self._is_member = False
        self._is_in_doubt = False
        self._polled_at = self._read_at = time.monotonic()

    async def start(self) -> None:
        """Start the thread; raises what went wrong while connecting."""
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self.stopped: asyncio.Future[None] = self._loop.create_future()
        """Done when the thread has ended; holds the error that ended it."""
        threading.Thread(target=self._run, name=f"poll {self._group}", daemon=True).start()
        await self._started

    async def stop(self) -> None:
        """Commit what was to be committed, and leave the group."""
        self._stopping.set()
        await self.stopped

    async def fetch(self, partition: int, offset: int | None, wait_seconds: float) -> Fetched:
        """Read a partition from an offset on (None: from what is committed), as much as one fetch brings.

        Without records at the end of the partition, when none have come in ``wait_seconds``. Ask again when this has answered, and
        only for a partition that is assigned; one that is revoked meanwhile is not answered.
        """
        answer: asyncio.Future[Fetched] = self._loop.create_future()
        self._asked.append((partition, _Request(offset, time.monotonic() + wait_seconds, answer)))
        return await answer

    def commit(self, partition: int, offset: int) -> None:
        """Everything below the offset has been dealt with: the next one who keeps the partition begins there."""
        self._commits.append((partition, offset))

    @property
    def is_sure(self) -> bool:
        """Whether the partitions are certainly still ours: not right after a silence, in which the group may have given us up."""
        return not self._is_in_doubt and time.monotonic() - self._polled_at < _LONGEST_SILENCE_S + _JOIN_POLL_MS / 1000

    def problem(self) -> str | None:
        """Why this consumer is not ready (for health checks)."""
        if not self._is_member:
            return f"this process is not a member of group {self._group} yet, or was put out of it"
        silent = time.monotonic() - self._polled_at
        return f"no poll for {silent:.0f} s" if silent > 30 else None

    # --- the poll thread ---

    def _run(self) -> None:
        try:
            with opening_session(self._config) as met:
                consumer = KafkaConsumer(**met)
            self._hooks.wait_cheaply(consumer)
            self._hooks.poll_cheaply(consumer)
            consumer.subscribe([self._topic], listener=Rebalances(consumer, self.assigned, self.revoked))
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits start()
            self._tell(self._started, error)
            return
        self._tell(self._started, None)
        failure: Exception | None = None
        try:
            while not self._stopping.is_set():
                self._turn(consumer)
        except Exception as error:
            log.exception("consumer failed", group=self._group)
            failure = error
        try:
            self._send_commits(consumer, last=True)
            consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
        except Exception:
            # Whatever it is (kafka-python's own thread may have died), whoever waits for the end must not wait for ever.
            log.exception("the consumer could not be closed in order", group=self._group)
        self._tell(self.stopped, failure)

    def _tell(self, future: asyncio.Future[None], error: Exception | None) -> None:
        def settle() -> None:
            if not future.done():
                future.set_exception(error) if error else future.set_result(None)

        self._loop.call_soon_threadsafe(settle)

    def _turn(self, consumer: KafkaConsumer) -> None:
        try:
            polled = consumer.poll(timeout_ms=self._poll_timeout_ms(consumer))
            now = time.monotonic()
            self._is_in_doubt = self._silence.leaves_in_doubt(consumer, now)
            self._polled_at = now
            self._is_member = consumer.group_metadata().generation_id >= 0
            for (_, number), records in polled.items():
                self._came(number, records, consumer)
            self._take_requests(consumer)
            self._answer_at_the_end(consumer, now)
            self._fetch_what_is_asked_for(consumer)
            self._send_commits(consumer)
        except KafkaError as error:
            if not isinstance(ours(error), UnavailableError | NotMemberError):
                raise
            # Brokers come and go; kafka-python reconnects by itself, and joins again.
            metrics.CONSUMER_ERRORS.labels(self._group).inc()
            self._stopping.wait(self._trouble.note("poll failed, polling on", group=self._group, error=repr(error)))
        else:
            self._trouble.over("polling works again", group=self._group)

    def _poll_timeout_ms(self, consumer: KafkaConsumer) -> int:
        if see_join_through(consumer) or not consumer.assignment():
            return _JOIN_POLL_MS
        return _BUSY_POLL_MS if time.monotonic() - self._read_at < _BUSY_S else _IDLE_POLL_MS

    def _came(self, number: int, records: list[Any], consumer: KafkaConsumer) -> None:
        self._read_at = time.monotonic()
        request = self._requests.get(number)
        if request is None or self._is_in_doubt:  # nobody wants it now; it is read again when somebody does
            self._positions.pop(number, None)
            return
        wanted = [record for record in records if request.offset is None or record.offset >= request.offset]
        position = self._positions[number] = records[-1].offset + 1
        if not wanted:
            return
        partition = Partition(self._topic, number)
        taken = [Record(partition, one.offset, one.timestamp, one.key, one.value, one.headers, 0) for one in wanted]
        self._answer(number, Fetched(taken, position, position >= (self._end(consumer, number) or 0)))

    def _end(self, consumer: KafkaConsumer, number: int) -> int | None:
        # As a fetch saw it, it is right on every broker; ListOffsets(LATEST) is not (the embedded one's is too low).
        end: int | None = consumer.highwater(TopicPartition(self._topic, number))
        return end

    def _answer(self, number: int, fetched: Fetched) -> None:
        request = self._requests.pop(number)

        def settle() -> None:
            if not request.answer.done():  # its asker may be gone
                request.answer.set_result(fetched)

        self._loop.call_soon_threadsafe(settle)

    def _take_requests(self, consumer: KafkaConsumer) -> None:
        """Go where the requests want to read."""
        assigned = {partition.partition for partition in consumer.assignment()}
        while self._asked:
            number, request = self._asked.popleft()
            if number in assigned:
                self._requests[number] = request
        for number, request in list(self._requests.items()):
            if request.offset is None:
                request.offset = self._beginning(consumer, number)
            if self._positions.get(number) != request.offset:
                consumer.seek(TopicPartition(self._topic, number), request.offset)
                self._positions[number] = request.offset

    def _beginning(self, consumer: KafkaConsumer, number: int) -> int:
        partition = TopicPartition(self._topic, number)
        offset: int | None = consumer.committed(partition, timeout_ms=_COMMITTED_MS)
        if offset is None:
            consumer.seek_to_beginning(partition)
            offset = consumer.position(partition, timeout_ms=_COMMITTED_MS)
        if offset is None:
            raise KafkaTimeoutError("the beginning of a partition was not found in time")
        return offset

    def _answer_at_the_end(self, consumer: KafkaConsumer, now: float) -> None:
        for number, request in list(self._requests.items()):
            position = consumer.position(TopicPartition(self._topic, number), timeout_ms=0)
            end = self._end(consumer, number)
            if now >= request.until and position is not None and end is not None and position >= end:
                self._answer(number, Fetched([], position, is_end=True))

    def _fetch_what_is_asked_for(self, consumer: KafkaConsumer) -> None:
        assigned, paused = consumer.assignment(), consumer.paused()
        wanted = {partition for partition in assigned if partition.partition in self._requests}
        if idle := assigned - wanted - paused:
            consumer.pause(*idle)
        if asked_for := wanted & paused:
            consumer.resume(*asked_for)

    def _send_commits(self, consumer: KafkaConsumer, *, last: bool = False) -> None:
        commits: dict[TopicPartition, OffsetAndMetadata] = {}
        assigned = consumer.assignment()
        while self._commits:
            number, offset = self._commits.popleft()
            if (partition := TopicPartition(self._topic, number)) in assigned:
                commits[partition] = OffsetAndMetadata(offset, "", -1)
        if not commits:
            return
        if last:
            consumer.commit(commits, timeout_ms=_CLOSE_MS)
        else:
            consumer.commit_async(commits, callback=functools.partial(_committed, self._group))

    # --- kafka-python's I/O thread ---

    def assigned(self, partitions: Iterable[Any]) -> None:
        """Partitions came."""
        came = frozenset(partition.partition for partition in partitions)
        metrics.REBALANCES.labels(self._group, "assigned").inc()
        if came:
            self._loop.call_soon_threadsafe(self._on_assigned, came)

    def revoked(self, _: KafkaConsumer, partitions: Iterable[Any], *, lost: bool) -> None:
        """Partitions go. Never blocks."""
        gone = frozenset(partition.partition for partition in partitions)
        if lost:
            self._is_member = False
            self._assignor.forget()
        for number in gone:
            self._requests.pop(number, None)
            self._positions.pop(number, None)
        metrics.REBALANCES.labels(self._group, "lost" if lost else "revoked").inc()
        if gone:
            self._loop.call_soon_threadsafe(self._on_revoked, gone)


def _committed(group: str, _: object, response: object) -> None:
    """Expected to fail during a rebalance. Nothing depends on it but where the next one begins to read."""
    is_failed = isinstance(response, Exception)
    metrics.COMMITS.labels(group, "failed" if is_failed else "ok").inc()
    if is_failed:
        log.info("commit failed", group=group, error=repr(response))
