"""A producer without Kafka: it keeps what is sent, and acknowledges at once or when the test says so."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.broker.api import Partition, Position, Record
from pipeline.broker.producer import Producer


@dataclass(slots=True)
class Sent:
    """A record that was sent, and its acknowledgement."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    position: Position
    acknowledged: asyncio.Future[Position] = field(repr=False)

    def acknowledge(self) -> None:
        """Acknowledge the record."""
        if not self.acknowledged.done():
            self.acknowledged.set_result(self.position)


class FakeProducer(Producer):
    """Keeps what is sent. ``hold``: nothing is acknowledged until the test does so. ``errors``: topics whose records are
    refused. ``rooms``: how many calls of ``room`` return at once; later ones wait until ``freed`` is set. None: there is always
    room.
    """

    def __init__(self, *, hold: bool = False) -> None:
        self.sent: list[Sent] = []
        self.hold = hold
        self.errors: dict[str, Exception] = {}
        self.rooms: int | None = None
        self.freed = asyncio.Event()
        self._ends: Counter[str] = Counter()

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        spread: bool = False,
        partition: int | None = None,
    ) -> asyncio.Future[Position]:
        """Keep a record."""
        _refuse_what_kafka_python_refuses(key, value, headers)
        position = Position(topic, partition or 0, self._ends[topic])
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        if error := self.errors.get(topic):
            future.set_exception(error)
            return future
        self._ends[topic] += 1
        sent = Sent(topic, key, value, list(headers), position, future)
        self.sent.append(sent)
        if not self.hold:
            sent.acknowledge()
        return future

    def send_at(self, topic: str, *, key: bytes, value: bytes, timestamp_ms: int) -> asyncio.Future[Position]:
        """Keep a record, without its timestamp."""
        return self.send(topic, key=key, value=value)

    async def room(self, size: int) -> None:
        """Wait for room, as the test says."""
        assert size >= 0
        if self.rooms is None:
            return
        self.rooms -= 1
        if self.rooms < 0:
            await self.freed.wait()

    def to(self, topic: str) -> list[Sent]:
        """Return what was sent to a topic."""
        return [sent for sent in self.sent if sent.topic == topic]


def _refuse_what_kafka_python_refuses(key: object, value: object, headers: Sequence[tuple[Any, Any]]) -> None:
    """Check what KafkaProducer.send() checks in kafka-python 3.0.12; the producer passes these errors on, unlike KafkaErrors."""
    if key is None and value is None:
        raise ValueError("Need at least one: key or value")
    if not all(isinstance(name, str) and isinstance(content, bytes) for name, content in headers):
        raise TypeError("All headers items must be (str, bytes) tuples")


def record(
    value: bytes | None,
    *,
    topic: str = "oms.orders",
    key: bytes | None = b"R1",
    headers: Sequence[tuple[str, bytes]] = (),
    offset: int = 41,
    partition: int = 3,
    timestamp_ms: int = 1_772_463_840_600,
    epoch: int = 1,
) -> Record:
    """Return a record as the poll loop hands it over."""
    return Record(Partition(topic, partition), offset, timestamp_ms, key, value, headers, epoch)


async def settle() -> None:
    """Let every task run until it waits for something that the test must provide."""
    for _ in range(20):
        await asyncio.sleep(0)
