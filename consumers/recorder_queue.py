"""The records of one partition on their way to ClickHouse: collected into batches, inserted in order, retried until they are
stored.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.broker.api import Partition, Record
from pipeline.broker.consumer import GroupConsumer
from pipeline.broker.producer import SLICE_S
from pipeline.broker.start_offset import replaced
from pipeline.core.trace import TRACEPARENT, TraceContext, exemplar, trace_context
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from pipeline.store.batch_bisect import append_in_parts, is_one_record
from pipeline.store.errors import StoreError, StoreLimitError, StoreRowsError
from pipeline.store.rows import COLUMNS, Row, RowPosition, Table
from pipeline.store.writer import Writer
from schemas.codec import InvalidRecordError
from schemas.delivery import DeadLetterReason

if TYPE_CHECKING:
    from pipeline.ops.tracing import Tracing

log = logger(__name__)

_BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
_REQUEST_HEADERS: Final = list(COLUMNS[Table.ATTEMPTS]).index("request_headers")

_LATEST_S: Final = 0.2
"""How long after it was written a record may arrive: the producer (`kafka_linger_ms`) and the reader also collect batches. The
first records of a slice arrive within milliseconds, together with the last ones of the previous slice.
"""

ToRows = Callable[[RowPosition, Record], list[Row]]
"""Converts a record to rows; to none if the record is not stored."""


def batch_seconds(longest: float, wall: float) -> float:
    """How long to collect records from the first one on. ``wall``: when it arrived, in seconds since 1970.

    Producers write to one partition for a slice of time, by the wall clock. A batch that lasts about as long ends with its slice.
    So no record of the slice needs another insert, which would cost as much, and the batch does not wait for records that do not
    come.
    """
    if not SLICE_S <= longest < 2 * SLICE_S:
        return longest
    return SLICE_S - wall % SLICE_S + _LATEST_S


class TopicRecreatedError(Exception):
    """A topic's offsets are lower than those that ClickHouse holds: the topic was recreated."""


@dataclass(frozen=True, slots=True)
class RecordingContext:
    """What the queues of all partitions share. ``on_trouble`` is called when a queue's problem appears or disappears."""

    settings: Settings
    writer: Writer
    dead_letters: DeadLetters
    consumer: GroupConsumer
    tracing: Tracing | None = None
    on_trouble: Callable[[], None] = lambda: None


class PartitionQueue:
    """The records of one partition during one assignment, on their way into one table."""

    def __init__(
        self,
        context: RecordingContext,
        table: Table,
        to_rows: ToRows,
        partition: Partition,
        epoch: int,
    ) -> None:
        self.epoch = epoch
        self.problem: str | None = None
        self._settings = context.settings
        self._writer = context.writer
        self._dead_letters = context.dead_letters
        self._consumer = context.consumer
        self._table = table
        self._to_rows = to_rows
        self._partition = partition
        self._tracing = context.tracing
        self._on_trouble = context.on_trouble
        self._waiting: deque[Record] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self._no_waiting = False
        self._closed = False
        self._lost_from: int | None = None
        """From this offset on, the topic has lost records that ClickHouse holds."""
        self.task = asyncio.create_task(self._run())

    def add(self, record: Record) -> None:
        self._waiting.append(record)
        self._waiting_bytes += record.size
        self._changed.set()

    def stop_waiting(self) -> None:
        """Do not wait for batches to fill up."""
        self._no_waiting = True
        self._changed.set()

    def close(self) -> None:
        """The partition was revoked: forget what is queued. An insert under way may still succeed; the next owner will see it."""
        self._closed = True
        self.task.cancel()
        self._writer.forget(self._table, self._partition.number)
        self._finish(list(self._waiting))
        self._waiting.clear()

    async def _run(self) -> None:
        wanted = await self._persist(lambda: self._writer.assign(self._table, self._partition.number))
        start: int | None = None
        while True:
            batch = await self._next_batch()
            if start is None:
                start = batch[0].offset
                self._report_lost_rows(wanted, start)
            if batch[0].offset < wanted:
                self._find_lost_end(wanted, start)
                self._report_replaced(batch, wanted)
            try:
                rows, letters = self._rows([record for record in batch if record.offset >= wanted])
                await asyncio.gather(*letters)
                await self._write(rows, batch)
            except asyncio.CancelledError:
                if self._closed:  # the partition was revoked: the completions commit nothing, they only make room
                    self._finish(batch)
                raise
            self._measure(batch, rows)
            self._finish(batch)

    def _find_lost_end(self, wanted: int, start: int) -> None:
        """See whether the topic ends below what ClickHouse holds: from there on, its records are others than those that are stored.

        Raises:
            TopicRecreatedError: it is read from offset 0. All of its records would be mistaken for recorded ones and skipped.
        """
        end = self._consumer.end(self._partition)
        if self._consumer.missing.replaced_until.get(self._partition) == start:
            found = start  # the consumer has reported those before the group's commit
        elif end is not None and end < wanted:
            found = end
        else:
            return
        if start == 0:
            message = (
                f"ClickHouse holds records of {self._partition.topic}, partition {self._partition.number}, up to offset {wanted - 1:,}, "
                f"but the topic ends at {end:,}: it was recreated. Set clickhouse_database to a new database, or restore the topic."
            )
            raise TopicRecreatedError(message)
        self._lost_from = found if self._lost_from is None else min(found, self._lost_from)

    def _report_replaced(self, batch: list[Record], wanted: int) -> None:
        """Report records that are not recorded, because ClickHouse holds lost ones with their offsets."""
        if self._lost_from is None:
            return
        first, until = max(batch[0].offset, self._lost_from), min(batch[-1].offset + 1, wanted)
        if first < until:
            self._consumer.missing.note(replaced(self._settings.topics.recorder_group, self._partition, first, until))

    def _report_lost_rows(self, wanted: int, first: int) -> None:
        """ClickHouse had the records before the first one, because they are committed. If it lacks some, it was restored from a
        backup, or its machine lost power. (Or it refused them for good, or Kafka had removed them: both were reported then.)

        Not for endpoints, whose records are compacted, nor on a cluster, where a replica that is behind would look the same.
        """
        if self._table is Table.ENDPOINT_CHANGES or self._settings.clickhouse_cluster or not 0 < wanted < first:
            return
        log.warning(
            "ClickHouse lacks records that are committed; see docs/day-two.md#record-again-what-clickhouse-lost",
            table=self._table.value,
            partition=str(self._partition),
            first=wanted,
            last=first - 1,
        )

    def _finish(self, batch: list[Record]) -> None:
        for record in batch:
            self._consumer.finish(record)

    def _measure(self, batch: list[Record], rows: list[Row]) -> None:
        if self._table is Table.ATTEMPTS:
            now = time.time()
            example = exemplar(next(_traces(rows[-1:]), None))  # one for each batch is enough
            for record in batch:
                metrics.SEARCHABLE.observe(max(0.0, now - record.timestamp_ms / 1000), example)

    async def _next_batch(self) -> list[Record]:
        """Records in order: as many as a batch holds, or as have arrived in time."""
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        deadline = time.monotonic() + batch_seconds(self._settings.recorder_batch_seconds, time.time())
        while not self._is_full() and not self._no_waiting and (left := deadline - time.monotonic()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                break
        batch: list[Record] = []
        size = 0
        while self._waiting and len(batch) < self._settings.recorder_batch_records:
            size += self._waiting[0].size
            if batch and size > self._settings.recorder_batch_bytes:
                break
            record = self._waiting.popleft()
            self._waiting_bytes -= record.size
            batch.append(record)
        return batch

    def _is_full(self) -> bool:
        return (
            len(self._waiting) >= self._settings.recorder_batch_records
            or self._waiting_bytes >= self._settings.recorder_batch_bytes
        )

    def _rows(self, records: list[Record]) -> tuple[list[Row], list[asyncio.Future[Any]]]:
        rows: list[Row] = []
        letters: list[asyncio.Future[Any]] = []
        for record in records:
            try:
                rows += self._to_rows(RowPosition(self._partition.number, record.offset), record)
            except InvalidRecordError as error:
                letters.append(self._dead_letters.send(record, error.reason, str(error)))
        return rows, letters

    async def _write(self, rows: list[Row], batch: list[Record]) -> None:
        if not rows:
            return
        table = self._table.value
        records = {record.offset: record for record in batch}
        started = time.monotonic()
        with nullcontext() if self._tracing is None else self._tracing.batch(table, len(rows), attempts=self._links(rows)):
            stored = await append_in_parts(self._append, lambda offset, error: self._set_aside(records[offset], error), rows)
        metrics.BATCH_DURATION.labels(table).observe(time.monotonic() - started)
        metrics.BATCH_ROWS.labels(table).observe(len(rows))
        metrics.RECORDED.labels(table).inc(stored)

    def _links(self, rows: list[Row]) -> Iterable[TraceContext]:
        return _traces(rows) if self._table is Table.ATTEMPTS else ()

    async def _append(self, rows: Sequence[Row]) -> None:
        # One record cannot be split: if there is no room even for it, it waits.
        halved = (StoreRowsError,) if is_one_record(rows) else (StoreRowsError, StoreLimitError)
        await self._persist(lambda: self._writer.append(self._table, self._partition.number, rows), passed_on=halved)

    async def _set_aside(self, record: Record, error: StoreRowsError) -> None:
        """ClickHouse refuses the record for good: it becomes a dead letter, and later records continue."""
        metrics.UNRECORDED.labels(self._table.value).inc()
        log.error("a record cannot be recorded", partition=record.partition, offset=record.offset, error=str(error))
        if self._table is not Table.DEAD_LETTERS:  # its dead letter would be refused again, and so on; it stays in its topic
            await self._dead_letters.send(record, DeadLetterReason.NOT_RECORDABLE, str(error))

    async def _persist(self, statement: Callable[[], Any], passed_on: tuple[type[StoreError], ...] = ()) -> Any:
        """Run a statement until it succeeds: there is nothing else to do, and nothing may be skipped.

        Errors that the caller can handle are ``passed_on``.
        """
        tries = 0
        while True:
            try:
                result = await statement()
            except StoreError as error:
                if isinstance(error, passed_on):
                    raise
                self.problem = f"ClickHouse: {error}"
                self._on_trouble()
                log.debug("ClickHouse did not take a batch, trying again", partition=self._partition, error=str(error))
                await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
                tries += 1
            else:
                if self.problem is not None:
                    self.problem = None
                    self._on_trouble()
                return result


def _traces(attempts: Iterable[Row]) -> Iterator[TraceContext]:
    """The traces of attempts, for those that have one: the trace that their receivers got."""
    for row in attempts:
        found = trace_context(row[_REQUEST_HEADERS].get(TRACEPARENT))
        if found is not None:
            yield found
