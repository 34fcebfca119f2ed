"""Values of the processors of lanes: what they share, what is blocked, and what they read from records."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from pipeline.broker.api import Record
from pipeline.broker.producer import Producer
from pipeline.broker.seeking_consumer import SeekingConsumer
from pipeline.core.lane_ledger import Source
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.delivery.holding import milliseconds
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.ops.clock import Clock
from schemas.delivery import DeliveryRecord, Trigger
from schemas.event_key import source_partition
from schemas.lane_progress import LaneProgress
from schemas.topics import Topics


class AttemptsInFlight:
    """The attempts under way of all processors of a process. Used from the event loop only."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._count = self._bytes = 0
        self.on_room: set[Callable[[], None]] = set()
        """Called when an attempt has ended."""

    @property
    def has_room(self) -> bool:
        """Whether another attempt may start. A record that is larger than the limit is processed alone."""
        return self._count < self._most and self._bytes < self._most_bytes

    def begin(self, size: int) -> None:
        """An attempt with a record of ``size`` bytes starts."""
        self._count += 1
        self._bytes += size

    def end(self, size: int) -> None:
        """An attempt has ended."""
        self._count -= 1
        self._bytes -= size
        for callback in tuple(self.on_room):
            callback()


@dataclass(frozen=True, slots=True)
class OrderedContext:
    """What all processors of a process share.

    ``broker_seconds``: the broker's time in seconds since 1970; None while it is unknown. ``steady``: seconds of a
    monotonic clock. ``load`` reads the progress of a partition's lanes.
    """

    consumer: SeekingConsumer
    producer: Producer
    registry: Registry
    health: HealthTable
    service: DeliveryService
    dead_letters: DeadLetters
    topics: Topics
    hold: timedelta
    clock: Clock
    broker_seconds: Callable[[], float | None]
    steady: Callable[[], float]
    is_time_certain: Callable[[], bool]
    load: Callable[[int], Awaitable[Mapping[bytes, LaneProgress]]]
    in_flight: AttemptsInFlight

    def now_ms(self) -> float:
        """The time of the broker's clock, in milliseconds since 1970; our own while that is unknown."""
        seconds = self.broker_seconds()
        return (time.time() if seconds is None else seconds) * 1000


@dataclass(slots=True)
class BodyCache:
    """Waiting records. They are kept in memory while there is room; the others are read again."""

    most_bytes: int
    _bytes: int = 0
    _records: dict[int, Record] = field(default_factory=dict)

    def put(self, record: Record) -> None:
        """Keep a record, if there is room."""
        if record.offset not in self._records and self._bytes + record.size <= self.most_bytes:
            self._records[record.offset] = record
            self._bytes += record.size

    def pop(self, offset: int) -> Record | None:
        """Remove and return a record."""
        record = self._records.pop(offset, None)
        if record is not None:
            self._bytes -= record.size
        return record


class HeldBack(NamedTuple):
    """Why the head of a lane does not start now. ``due_ms`` is by the broker's clock; None: when its endpoint is active again."""

    endpoint_id: int
    event_id: str
    event_key: str
    since_ms: int
    reason: str
    due_ms: int | None


def source_of(due: DeliveryRecord) -> Source | None:
    """Where the event came from; None for a resend, which is never treated as a duplicate."""
    event = due.event
    if due.trigger is Trigger.RESEND or event.key is None or event.sequence is None:
        return None
    time_ms = milliseconds(event.received_at) if event.received_at is not None else 0
    return Source(source_partition(event.key), event.sequence, time_ms)
