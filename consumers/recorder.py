"""The recorder: copies attempts, dispatches, dead letters and endpoint changes from Kafka to ClickHouse, each exactly once.

The records of a partition are written in the order of their offsets, one batch at a time: insert, then commit. After a crash, the
store says how far it got (``Writer.assign``), so records that were inserted but not committed are skipped.
While ClickHouse is down, Kafka is the buffer: batches are retried until they are stored, and delivery continues.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from consumers.recorder_queue import PartitionQueue, RecordingContext, ToRows
from pipeline.broker.api import Broker, Partition, Record
from pipeline.broker.consumer import ConsumerOptions, GroupConsumer
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.ops.clock import utc_now
from pipeline.ops.logs import logger
from pipeline.ops.outage_log import OutageLog
from pipeline.ops.settings import Settings
from pipeline.store.rows import (
    Row,
    RowPosition,
    Table,
    attempt_row,
    audit_row,
    dead_letter_row,
    endpoint_change_row,
    event_row,
)
from pipeline.store.writer import Writer
from schemas.audit import AuditEntry
from schemas.batch import read_attempts, read_dispatches
from schemas.codec import InvalidRecordError, from_header, from_json
from schemas.delivery import DEAD_LETTER_HEADER, DeadLetter, DeadLetterReason
from schemas.endpoint import EndpointRecord

if TYPE_CHECKING:
    from pipeline.ops.tracing import Tracing

log = logger(__name__)

_GATHER_S: Final = 0.1


class Recorder:
    """Reads the records of the other roles, as group ``webhooks.recorder``."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
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
        self._outage = OutageLog("clickhouse, for what is recorded")
        self.consumer = GroupConsumer(
            broker,
            ConsumerOptions(
                group=topics.recorder_group,
                topics=topics.recorded,
                # Several batches: one being inserted, one being collected.
                max_outstanding=settings.recorder_batch_records * 4,
                max_outstanding_bytes=settings.max_outstanding_bytes,
                # A batch covers one time slice: it does not wait for records that are fetched slightly later.
                gather_seconds=min(_GATHER_S, settings.recorder_batch_seconds / 10),
            ),
            on_records=self._queue,
            on_revoked=self._revoked,
        )

    async def start(self) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """The error that ended the work."""
        await self.consumer.start()
        self.consumer.stopped.add_done_callback(self._consumer_stopped)

    async def stop(self, drain_seconds: float) -> None:
        """Write what is queued, commit, leave the group."""
        for queue in self._queues.values():
            queue.stop_waiting()
        try:
            await self.consumer.stop(drain_seconds)
        finally:  # also if the poll loop failed: no queue continues without a store
            for queue in self._queues.values():
                queue.close()
            await asyncio.gather(*(queue.task for queue in self._queues.values()), return_exceptions=True)

    def is_maintainer(self) -> bool:
        """Whether this is the recorder that does the maintenance (see `maintenance.py`)."""
        return self.consumer.holds(Partition(self._settings.topics.attempts, 0))

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
        context = RecordingContext(
            self._settings, self._writer, self._dead_letters, self.consumer, self._tracing, self._log_outage
        )
        queue = PartitionQueue(context, table, to_rows, record.partition, record.epoch)
        queue.task.add_done_callback(self._queue_ended)
        return queue

    def _log_outage(self) -> None:
        """Log for all partitions together: while ClickHouse is down, each of them keeps trying."""
        troubles = [queue.problem for queue in self._queues.values() if queue.problem]
        if troubles:
            self._outage.failed(troubles[0])
        else:
            self._outage.answered()

    def _revoked(self, partitions: frozenset[Partition]) -> None:
        for partition in partitions:
            if queue := self._queues.pop(partition, None):
                queue.close()
        self._log_outage()

    def _queue_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("a partition could not be recorded", exc_info=error)
            if not self.failed.done():
                self.failed.set_exception(error)

    def _consumer_stopped(self, stopped: asyncio.Future[None]) -> None:
        if not stopped.cancelled() and (error := stopped.exception()) and not self.failed.done():
            self.failed.set_exception(error)


def _attempt_rows(position: RowPosition, record: Record) -> list[Row]:
    return [attempt_row(position, attempt, index) for index, attempt in enumerate(read_attempts(record.value))]


def _event_rows(position: RowPosition, record: Record) -> list[Row]:
    return [event_row(position, dispatch, body) for dispatch, body in read_dispatches(record.headers, record.value)]


def _dead_letter_rows(position: RowPosition, record: Record) -> list[Row]:
    try:
        letter = from_header(record.headers, DEAD_LETTER_HEADER, DeadLetter)
    except InvalidRecordError as error:
        # Another program wrote to the topic. The record is stored as a dead letter, and must not become another one.
        letter = DeadLetter(
            reason=DeadLetterReason.INVALID_RECORD,
            detail=str(error),
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            failed_at=_timestamp_or_now(record),
        )
    return [dead_letter_row(position, letter, record.key, record.value, record.headers)]


def _timestamp_or_now(record: Record) -> datetime:
    """The record's timestamp; the current time if a producer set an invalid one (microseconds, for example)."""
    try:
        return datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return utc_now()


def _endpoint_change_rows(position: RowPosition, record: Record) -> list[Row]:
    if record.value is None or record.key == b"id-claim":
        return []
    return [endpoint_change_row(position, from_json(record.value, EndpointRecord))]


def _audit_rows(position: RowPosition, record: Record) -> list[Row]:
    return [audit_row(position, from_json(record.value, AuditEntry))]
