"""Records of each topic that the recorder reads, and a writer that keeps rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pipeline.broker.api import Record
from pipeline.ops.settings import Settings
from pipeline.store.rows import Row, Table
from pipeline.store.writer import Writer
from schemas.codec import to_header
from schemas.delivery import DEAD_LETTER_HEADER, DISPATCH_HEADER, DeadLetter, DeadLetterReason, Dispatch
from tests.unit.fake_kafka import record
from tests.unit.sample_events import GOLDEN, META, NOW

SETTINGS = Settings(_env_file=None, recorder_batch_records=1, kafka_topic_prefix="t.")
DISPATCH = Dispatch(
    event=META, endpoint_ids=(7,), received_at=NOW, source_topic="oms.orders", source_partition=3, source_offset=41
)
LETTER = DeadLetter(
    reason=DeadLetterReason.NOT_JSON, detail="The value is not JSON.", topic="oms.orders", partition=3, offset=41, failed_at=NOW
)


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.v1.json").read_bytes().strip()


def taken(topic: str, value: bytes | None, *, epoch: int = 1, **more: Any) -> Record:
    return record(value, topic=f"t.webhooks.{topic}", epoch=epoch, **more)


ATTEMPT = taken("attempts", golden("attempt"))
EVENT = taken("dispatches", b'{"body": 1.10}', headers=[to_header(DISPATCH_HEADER, DISPATCH)])
DEAD = taken("dead-letters", b"\xff", key=None, headers=[("trace", b"\xfe"), to_header(DEAD_LETTER_HEADER, LETTER)])
AUDIT = taken("audit", golden("audit"), key=b"api-key:0a1b2c3d")
CHANGE = taken("endpoints", golden("endpoint"), key=b"7", partition=0)


class FakeWriter(Writer):
    """Keeps rows by table; ``error`` is raised by each append."""

    def __init__(self) -> None:
        self.rows: list[tuple[Table, int, Row]] = []
        self.assigned: list[tuple[Table, int]] = []
        self.forgotten: list[tuple[Table, int]] = []
        self.error: Exception | None = None
        self.tries = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def assign(self, table: Table, partition: int) -> int:
        self.assigned.append((table, partition))
        return 0

    async def append(self, table: Table, partition: int, rows: Sequence[Row]) -> None:
        await self.gate.wait()
        self.tries += 1
        if self.error:
            raise self.error
        self.rows += [(table, partition, row) for row in rows]

    def forget(self, table: Table, partition: int) -> None:
        self.forgotten.append((table, partition))
