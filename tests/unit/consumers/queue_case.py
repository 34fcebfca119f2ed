"""A partition's queue with a writer and a consumer in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from consumers.recorder_queue import PartitionQueue, RecordingContext
from pipeline.broker.api import Partition, Record
from pipeline.broker.consumer import GroupConsumer
from pipeline.broker.missing_reports import MissingReports
from pipeline.broker.start_offset import MissingOffsets
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.ops.settings import Settings
from pipeline.store.errors import StoreRowsError
from pipeline.store.rows import COLUMNS, Row, RowPosition, Table
from pipeline.store.writer import Writer
from schemas.codec import InvalidRecordError
from schemas.delivery import DeadLetterReason
from tests.unit.fake_kafka import FakeProducer, record
from tests.unit.sample_events import NOW
from tests.waiting import until

PARTITION = Partition("webhooks.attempts", 3)
LONG = 60.0


class FakeWriter(Writer):
    """Keeps rows. ``errors`` are raised first, one per statement; ``gate`` blocks statements; offsets in ``refused`` are
    refused.
    """

    def __init__(self) -> None:
        self.wanted = 0
        self.appended: list[list[int]] = []
        self.tried: list[Sequence[Row]] = []
        self.errors: list[Exception] = []
        self.forgotten: list[tuple[Table, int]] = []
        self.refused: frozenset[int] = frozenset()
        self.in_progress = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def assign(self, table: Table, partition: int) -> int:
        assert partition == 3
        await self._statement()
        return self.wanted

    async def append(self, table: Table, partition: int, rows: Sequence[Row]) -> None:
        assert partition == 3
        self.tried.append(rows)
        if self.refused & {row[-1] for row in rows}:
            raise StoreRowsError("ClickHouse refused: a row.")
        assert self.in_progress == 0, "one batch at a time"
        self.in_progress += 1
        try:
            await self._statement()
        finally:
            self.in_progress -= 1
        self.appended.append([row[-1] for row in rows])

    def forget(self, table: Table, partition: int) -> None:
        self.forgotten.append((table, partition))

    async def _statement(self) -> None:
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)


class FakeConsumer:
    """Records which offsets are finished."""

    def __init__(self) -> None:
        self.finished: list[int] = []
        self.end_offset: int | None = None
        self.found: list[MissingOffsets] = []
        self.missing = MissingReports(self.found.append)

    def finish(self, finished: Record) -> None:
        self.finished.append(finished.offset)

    def end(self, partition: Partition) -> int | None:
        assert partition == PARTITION
        return self.end_offset


def to_rows(position: RowPosition, taken: Record) -> list[Row]:
    """``bad`` is an unusable record; ``skip`` is a record without a row."""
    assert position == (3, taken.offset)
    if taken.value == b"bad":
        raise InvalidRecordError(DeadLetterReason.NOT_JSON, "The value is not JSON.")
    return [] if taken.value == b"skip" else [(*({} for _ in COLUMNS[Table.ATTEMPTS]), *position)]


class Scene:
    """A queue and everything around it."""

    def __init__(
        self,
        *,
        rows: int = 1000,
        size: int = 1 << 30,
        seconds: float = LONG,
        hold: bool = False,
        table: Table = Table.ATTEMPTS,
    ) -> None:
        self.table = table
        self.writer = FakeWriter()
        self.consumer = FakeConsumer()
        self.producer = FakeProducer(hold=hold)
        self.skipped: set[int] = set()
        self.added: list[int] = []
        self.settings = Settings(
            _env_file=None, recorder_batch_records=rows, recorder_batch_bytes=max(size, 1024), recorder_batch_seconds=seconds
        )

    def open(self) -> PartitionQueue:
        self.queue = PartitionQueue(
            RecordingContext(
                self.settings,
                self.writer,
                DeadLetters(self.producer, "webhooks.dead-letters", lambda: NOW),
                cast("GroupConsumer", self.consumer),
            ),
            self.table,
            to_rows,
            PARTITION,
            1,
        )
        return self.queue

    def add(self, *offsets: int, value: bytes = b"x") -> None:
        for offset in offsets:
            self.added.append(offset)
            if value == b"skip":
                self.skipped.add(offset)
            self.queue.add(record(value, topic=PARTITION.topic, partition=3, offset=offset))

    async def until_finished(self, count: int) -> None:
        """Wait until this many records are finished."""
        await until(lambda: len(self.consumer.finished) >= count)

    async def ended(self) -> None:
        await asyncio.gather(self.queue.task, return_exceptions=True)


def opened(scenes: list[Scene], scene: Scene) -> Scene:
    scene.open()
    scenes.append(scene)
    return scene
