"""What processors of held deliveries work with: what is let go of, what they share, and the facts that they tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from pipeline.broker.api import Record
from pipeline.broker.producer import Producer
from pipeline.broker.seeking_consumer import SeekingConsumer
from pipeline.core.held_ledger import NOWHERE, HeldLedger, OffsetBound, ReportedHeld
from pipeline.delivery.holding import Fate, from_milliseconds, milliseconds
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.ops.clock import Clock
from pipeline.ops.once_a_minute import OnceAMinute
from schemas.health import HealthFact, HealthRecord
from schemas.operational import OPERATIONAL_ENDPOINT_ID
from schemas.topics import Topics


class LeavingDelivery(NamedTuple):
    """A delivery that is let go of."""

    endpoint_id: int
    record: Record
    fate: Fate

    @property
    def place(self) -> OffsetBound:
        """Where it stands."""
        return place_of(self.record)


@dataclass(frozen=True, slots=True)
class HeldContext:
    """What all processors of a process share. ``let_go`` returns when what comes of the delivery is acknowledged by Kafka."""

    browser: SeekingConsumer
    producer: Producer
    registry: Registry
    health: HealthTable
    topics: Topics
    hold: timedelta
    clock: Clock
    is_time_certain: Callable[[], bool]
    let_go: Callable[[LeavingDelivery], Awaitable[None]]
    until_there_is_room: Callable[[], Awaitable[None]]
    said: OnceAMinute = field(default_factory=OnceAMinute)
    """Log lines about what affects all partitions at once."""


def place_of(record: Record) -> OffsetBound:
    """Where a record stands."""
    return OffsetBound(record.offset, record.timestamp_ms)


def endpoint_id_of(record: Record) -> int:
    """Whose it is. What has no such key goes on to the retry, which sets aside what it cannot use."""
    key = record.key or b""
    return int(key) if key.isdigit() and len(key) < 20 else OPERATIONAL_ENDPOINT_ID


def told_of(fact: HealthRecord) -> ReportedHeld:
    """A fact that was told, as a ledger takes it."""
    done = OffsetBound(fact.done, milliseconds(fact.done_at)) if fact.done_at else NOWHERE
    counted = OffsetBound(fact.counted, milliseconds(fact.counted_at)) if fact.counted_at else NOWHERE
    return ReportedHeld(fact.held, done, counted)


def fact_of(context: HeldContext, partition: int, ledger: HeldLedger, endpoint_id: int) -> HealthRecord:
    """What there is to tell of an endpoint."""
    endpoint = context.registry.get(endpoint_id)
    waiting, done = ledger.waiting.get(endpoint_id), ledger.done(endpoint_id)
    counted = waiting.counted if waiting is not None else done
    return HealthRecord(
        endpoint_id=endpoint_id,
        endpoint_version=endpoint.record.version if endpoint is not None else 0,
        fact=HealthFact.HELD,
        at=context.clock(),
        since=from_milliseconds(waiting.since_ms) if waiting is not None else None,
        partition=partition,
        held=waiting.count if waiting is not None else 0,
        done=done.offset,
        done_at=from_milliseconds(done.time_ms) if done != NOWHERE else None,
        counted=counted.offset,
        counted_at=from_milliseconds(counted.time_ms) if counted != NOWHERE else None,
    )
