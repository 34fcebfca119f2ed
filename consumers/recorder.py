"""The recorder hop: attempts, dispatches, dead letters and endpoint changes from Kafka into ClickHouse, each exactly once.

One partition's records are written in the order of their offsets, one batch at a time: insert, then commit. After a crash the
store says how far it got (``Writer.assign``), so that what was inserted and not committed is skipped.
While ClickHouse is down, Kafka is the buffer: batches are tried again until they are in, and delivery goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.broker.consumer import GroupConsumer
from pipeline.broker.record import Partition, Record
from pipeline.core.trace import TraceContext, exemplar
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.ops import metrics
from pipeline.ops.clock import utc_now
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from pipeline.store.connection import StoreError, StoreLimitError, StoreRowsError
from pipeline.store.halving import append_in_parts, is_one_record
from pipeline.store.rows import (
    Position,
    Row,
    Table,
    attempt_row,
    audit_row,
    dead_letter_row,
    endpoint_change_row,
    event_row,
    traces,
)
from pipeline.store.writer import Writer
from schemas.audit import AuditEntry
from schemas.bundle import attempts_to_record, dispatches_to_record
from schemas.codec import InvalidRecordError, from_header, from_json
from schemas.delivery import DEAD_LETTER_HEADER, DeadLetter, DeadLetterReason
from schemas.endpoint import EndpointRecord

if TYPE_CHECKING:
    from pipeline.ops.tracing import Tracing

log = logger(__name__)

_BACKOFF_S = (0.5, 1.0, 2.0, 5.0)

ToRows = Callable[[Position, Record], list[Row]]
"""Turns a record into rows; none for a record that is not recorded."""


class TopicMadeAnewError(Exception):
    """A topic counts from 0 again while ClickHouse holds records of its former self."""


class Recorder:
    """Reads what the other hops wrote, as group ``webhooks.recorder``."""

    def __init__(
        self,
        settings: Settings,
        consumer_config: dict[str, Any],
        *,
        writer: Writer,
        dead_letters: DeadLetters,
        tracing: Tracing | None = None,
    ) -> None:
        topics = settings.topics
        self._settings = settings
        self._writer = writer
        self._dead_letters = dead_letters
        self._tracing = tracing
        self._tables: dict[str, tuple[Table, ToRows]] = {
            topics.attempts: (Table.ATTEMPTS, _attempt_rows),
            topics.dispatches: (Table.EVENTS, _event_rows),
            topics.dead_letters: (Table.DEAD_LETTERS, _dead_letter_rows),
            topics.endpoints: (Table.ENDPOINT_CHANGES, _endpoint_change_rows),
            topics.audit: (Table.AUDIT_LOG, _audit_rows),
        }
        self._queues: dict[Partition, PartitionQueue] = {}
        self.consumer = GroupConsumer(
            consumer_config,
            group=topics.recorder_group,
            topics=topics.recorded,
            # Several batches: one being inserted, one being gathered.
            max_outstanding=settings.recorder_batch_rows * 4,
            max_outstanding_bytes=settings.max_outstanding_bytes,
            on_records=self._queue,
            on_revoked=self._revoked,
        )

    async def start(self) -> None:
        """Join the group."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Holds the error that ended the work."""
        await self.consumer.start()
        self.consumer.stopped.add_done_callback(self._consumer_stopped)

    async def stop(self, drain_seconds: float) -> None:
        """Write what is queued, commit, leave the group."""
        for queue in self._queues.values():
            queue.hurry()
        try:
            await self.consumer.stop(drain_seconds)
        finally:  # also when the poll loop had failed: no queue goes on without a store
            for queue in self._queues.values():
                queue.close()
            await asyncio.gather(*(queue.task for queue in self._queues.values()), return_exceptions=True)

    def problem(self) -> str | None:
        """Why the recorder is not ready (for health checks)."""
        stuck = next((queue.problem for queue in self._queues.values() if queue.problem), None)
        return stuck or self.consumer.problem()

    def _queue(self, records: list[Record]) -> None:
        for record in records:
            queue = self._queues.get(record.partition)
            if queue is None or queue.epoch != record.epoch:
                if queue is not None:
                    queue.close()
                queue = self._queues[record.partition] = self._open_queue(record)
            queue.add(record)

    def _open_queue(self, record: Record) -> PartitionQueue:
        table, to_rows = self._tables[record.partition.topic]
        queue = PartitionQueue(
            self._settings,
            self._writer,
            self._dead_letters,
            self.consumer,
            table,
            to_rows,
            record.partition,
            record.epoch,
            self._tracing,
        )
        queue.task.add_done_callback(self._queue_ended)
        return queue

    def _revoked(self, partitions: frozenset[Partition]) -> None:
        for partition in partitions:
            if queue := self._queues.pop(partition, None):
                queue.close()

    def _queue_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("a partition could not be recorded", exc_info=error)
            if not self.failed.done():
                self.failed.set_exception(error)

    def _consumer_stopped(self, stopped: asyncio.Future[None]) -> None:
        if not stopped.cancelled() and (error := stopped.exception()) and not self.failed.done():
            self.failed.set_exception(error)


class PartitionQueue:
    """The records of one partition during one assignment, on their way into one table."""

    def __init__(
        self,
        settings: Settings,
        writer: Writer,
        dead_letters: DeadLetters,
        consumer: GroupConsumer,
        table: Table,
        to_rows: ToRows,
        partition: Partition,
        epoch: int,
        tracing: Tracing | None = None,
    ) -> None:
        self.epoch = epoch
        self.problem: str | None = None
        self._settings = settings
        self._writer = writer
        self._dead_letters = dead_letters
        self._consumer = consumer
        self._table = table
        self._to_rows = to_rows
        self._partition = partition
        self._tracing = tracing
        self._waiting: deque[Record] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self._hurry = False
        self._closed = False
        self.task = asyncio.create_task(self._run())

    def add(self, record: Record) -> None:
        """Queue a record."""
        self._waiting.append(record)
        self._waiting_bytes += record.size
        self._changed.set()

    def hurry(self) -> None:
        """Do not wait for batches to fill."""
        self._hurry = True
        self._changed.set()

    def close(self) -> None:
        """The partition is gone: forget what is queued. An insert under way may still succeed; the next owner will see it."""
        self._closed = True
        self.task.cancel()
        self._writer.forget(self._table, self._partition.number)
        self._finish(list(self._waiting))
        self._waiting.clear()

    async def _run(self) -> None:
        wanted = await self._persist(lambda: self._writer.assign(self._table, self._partition.number))
        while True:
            batch = await self._next_batch()
            self._refuse_a_topic_made_anew(wanted)
            try:
                rows, letters = self._rows([record for record in batch if record.offset >= wanted])
                await asyncio.gather(*letters)
                await self._write(rows, batch)
            except asyncio.CancelledError:
                if self._closed:  # the partition is gone: the completions are fenced, they only make room
                    self._finish(batch)
                raise
            self._measure(batch, rows)
            self._finish(batch)

    def _refuse_a_topic_made_anew(self, wanted: int) -> None:
        """A topic that was deleted and made again counts from 0: its records would be taken for recorded ones and skipped."""
        end = self._consumer.end(self._partition)
        if end is not None and wanted > end:
            message = (
                f"ClickHouse holds records of {self._partition.topic}, partition {self._partition.number}, up to offset {wanted - 1:,}, "
                f"but the topic ends at {end:,}: it was made anew. Set clickhouse_database to a new database, or restore the topic."
            )
            raise TopicMadeAnewError(message)

    def _finish(self, batch: list[Record]) -> None:
        for record in batch:
            self._consumer.finish(record)

    def _measure(self, batch: list[Record], rows: list[Row]) -> None:
        if self._table is Table.ATTEMPTS:
            now = time.time()
            example = exemplar(next(traces(rows[-1:]), None))  # one a batch will do
            for record in batch:
                metrics.SEARCHABLE.observe(max(0.0, now - record.timestamp_ms / 1000), example)

    async def _next_batch(self) -> list[Record]:
        """Records in order: as many as a batch takes, or as came in time."""
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        deadline = time.monotonic() + self._settings.recorder_batch_seconds
        while not self._is_full() and not self._hurry and (left := deadline - time.monotonic()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                break
        batch: list[Record] = []
        size = 0
        while self._waiting and len(batch) < self._settings.recorder_batch_rows:
            size += self._waiting[0].size
            if batch and size > self._settings.recorder_batch_bytes:
                break
            record = self._waiting.popleft()
            self._waiting_bytes -= record.size
            batch.append(record)
        return batch

    def _is_full(self) -> bool:
        return (
            len(self._waiting) >= self._settings.recorder_batch_rows or self._waiting_bytes >= self._settings.recorder_batch_bytes
        )

    def _rows(self, records: list[Record]) -> tuple[list[Row], list[asyncio.Future[Any]]]:
        rows: list[Row] = []
        letters: list[asyncio.Future[Any]] = []
        for record in records:
            try:
                rows += self._to_rows(Position(self._partition.number, record.offset), record)
            except InvalidRecordError as error:
                letters.append(self._dead_letters.send(record, error.reason, str(error)))
        return rows, letters

    async def _write(self, rows: list[Row], batch: list[Record]) -> None:
        if not rows:
            return
        table = self._table.value
        records = {record.offset: record for record in batch}
        started = time.monotonic()
        with nullcontext() if self._tracing is None else self._tracing.batch(table, len(rows), attempts=self._traces(rows)):
            stored = await append_in_parts(self._append, lambda offset, error: self._set_aside(records[offset], error), rows)
        metrics.BATCH_DURATION.labels(table).observe(time.monotonic() - started)
        metrics.BATCH_ROWS.labels(table).observe(len(rows))
        metrics.RECORDED.labels(table).inc(stored)

    def _traces(self, rows: list[Row]) -> Iterable[TraceContext]:
        return traces(rows) if self._table is Table.ATTEMPTS else ()

    async def _append(self, rows: Sequence[Row]) -> None:
        # One record cannot be halved: when there is no room even for it, it waits.
        halved = (StoreRowsError,) if is_one_record(rows) else (StoreRowsError, StoreLimitError)
        await self._persist(lambda: self._writer.append(self._table, self._partition.number, rows), passed_on=halved)

    async def _set_aside(self, record: Record, error: StoreRowsError) -> None:
        """ClickHouse refuses the record for good: it becomes a dead letter, and those behind it go on."""
        metrics.UNRECORDED.labels(self._table.value).inc()
        log.error("a record cannot be recorded", partition=record.partition, offset=record.offset, error=str(error))
        if self._table is not Table.DEAD_LETTERS:  # that would be refused again, and so on; it stands in its topic
            await self._dead_letters.send(record, DeadLetterReason.NOT_RECORDABLE, str(error))

    async def _persist(self, statement: Callable[[], Any], passed_on: tuple[type[StoreError], ...] = ()) -> Any:
        """Run a statement until it succeeds: nothing else can be done, and nothing may be skipped.

        Errors that the caller can do something about are ``passed_on``.
        """
        tries = 0
        while True:
            try:
                result = await statement()
            except StoreError as error:
                if isinstance(error, passed_on):
                    raise
                self.problem = f"ClickHouse: {error}"
                log.warning("ClickHouse did not take a batch, trying again", partition=self._partition, error=str(error))
                await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
                tries += 1
            else:
                self.problem = None
                return result


def _attempt_rows(position: Position, record: Record) -> list[Row]:
    return [attempt_row(position, attempt, index) for index, attempt in enumerate(attempts_to_record(record.value))]


def _event_rows(position: Position, record: Record) -> list[Row]:
    return [event_row(position, dispatch, body) for dispatch, body in dispatches_to_record(record.headers, record.value)]


def _dead_letter_rows(position: Position, record: Record) -> list[Row]:
    try:
        letter = from_header(record.headers, DEAD_LETTER_HEADER, DeadLetter)
    except InvalidRecordError as error:
        # Somebody else wrote to the topic: it is a dead letter all the same, and it must not become another one.
        letter = DeadLetter(
            reason=DeadLetterReason.INVALID_RECORD,
            detail=str(error),
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            failed_at=_written_at(record),
        )
    return [dead_letter_row(position, letter, record.key, record.value, record.headers)]


def _written_at(record: Record) -> datetime:
    """By the record's timestamp; now, when a producer set one that is no time (microseconds, say)."""
    try:
        return datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return utc_now()


def _endpoint_change_rows(position: Position, record: Record) -> list[Row]:
    if record.value is None or record.key == b"id-claim":
        return []
    return [endpoint_change_row(position, from_json(record.value, EndpointRecord))]


def _audit_rows(position: Position, record: Record) -> list[Row]:
    return [audit_row(position, from_json(record.value, AuditEntry))]
