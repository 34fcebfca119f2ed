"""Values of the processors of held deliveries: released deliveries, what the processors share, and the facts that they report."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from consumers.partition_processors import offset_bound_of
from pipeline.broker.api import Record
from pipeline.broker.producer import Producer
from pipeline.broker.seeking_consumer import SeekingConsumer
from pipeline.core.held_ledger import NOWHERE, HeldLedger, OffsetBound, ReportedHeld
from pipeline.delivery.holding import HeldAction, from_milliseconds, milliseconds
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.ops.clock import Clock
from pipeline.ops.once_a_minute import OnceAMinute
from schemas.health import HealthFact, HealthRecord
from schemas.operational import OPERATIONAL_ENDPOINT_ID
from schemas.topics import Topics


class ReleasedDelivery(NamedTuple):
    """A delivery that is being released."""

    endpoint_id: int
    record: Record
    action: HeldAction

    @property
    def place(self) -> OffsetBound:
        """Its offset and time."""
        return offset_bound_of(self.record)


@dataclass(frozen=True, slots=True)
class HeldContext:
    """What all processors of a process share. ``release`` returns when Kafka has the results of the delivery."""

    consumer: SeekingConsumer
    producer: Producer
    registry: Registry
    health: HealthTable
    topics: Topics
    hold: timedelta
    clock: Clock
    is_time_certain: Callable[[], bool]
    release: Callable[[ReleasedDelivery], Awaitable[None]]
    until_there_is_room: Callable[[], Awaitable[None]]
    repeats: OnceAMinute = field(default_factory=OnceAMinute)
    """Logs once what affects all partitions."""


def endpoint_id_of(record: Record) -> int:
    """The endpoint of a record. A record without such a key goes to the retry, which turns it into a dead letter."""
    key = record.key or b""
    return int(key) if key.isdigit() and len(key) < 20 else OPERATIONAL_ENDPOINT_ID


def reported_of(fact: HealthRecord) -> ReportedHeld:
    """A reported fact in the form of the ledger."""
    done = OffsetBound(fact.done, milliseconds(fact.done_at)) if fact.done_at else NOWHERE
    counted = OffsetBound(fact.counted, milliseconds(fact.counted_at)) if fact.counted_at else NOWHERE
    return ReportedHeld(fact.held, done, counted)


def fact_of(context: HeldContext, partition: int, ledger: HeldLedger, endpoint_id: int) -> HealthRecord:
    """The fact to report about an endpoint."""
    endpoint = context.registry.get(endpoint_id)
    since_ms, done, counted = ledger.since_ms(endpoint_id), ledger.done(endpoint_id), ledger.counted(endpoint_id)
    return HealthRecord(
        endpoint_id=endpoint_id,
        endpoint_version=endpoint.record.version if endpoint is not None else 0,
        fact=HealthFact.HELD,
        at=context.clock(),
        since=from_milliseconds(since_ms) if since_ms is not None else None,
        partition=partition,
        held=ledger.count(endpoint_id),
        done=done.offset,
        done_at=from_milliseconds(done.time_ms) if done != NOWHERE else None,
        counted=counted.offset,
        counted_at=from_milliseconds(counted.time_ms) if counted != NOWHERE else None,
    )
