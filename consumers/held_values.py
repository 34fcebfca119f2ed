"""What keepers of held deliveries work with: what is let go of, what they share, and the facts that they tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from pipeline.broker.api import Record
from pipeline.broker.browser import Browser
from pipeline.broker.producer import Producer
from pipeline.core.held import NOWHERE, Bound, Shelf, Told
from pipeline.delivery.holding import Fate, from_milliseconds, milliseconds
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.ops.clock import Clock
from schemas.health import HealthFact, HealthRecord
from schemas.operational import OPERATIONAL_ENDPOINT_ID
from schemas.topics import Topics


class Leaving(NamedTuple):
    """A delivery that is let go of."""

    endpoint_id: int
    record: Record
    fate: Fate

    @property
    def place(self) -> Bound:
        """Where it stands."""
        return place_of(self.record)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all keepers of a process share. ``let_go`` returns when what comes of the delivery is acknowledged by Kafka."""

    browser: Browser
    producer: Producer
    registry: Registry
    health: HealthTable
    topics: Topics
    hold: timedelta
    clock: Clock
    is_time_certain: Callable[[], bool]
    let_go: Callable[[Leaving], Awaitable[None]]
    until_there_is_room: Callable[[], Awaitable[None]]


def place_of(record: Record) -> Bound:
    """Where a record stands."""
    return Bound(record.offset, record.timestamp_ms)


def endpoint_id_of(record: Record) -> int:
    """Whose it is. What has no such key goes on to the retry, which sets aside what it cannot use."""
    key = record.key or b""
    return int(key) if key.isdigit() and len(key) < 20 else OPERATIONAL_ENDPOINT_ID


def told_of(fact: HealthRecord) -> Told:
    """A fact that was told, as a shelf takes it."""
    done = Bound(fact.done, milliseconds(fact.done_at)) if fact.done_at else NOWHERE
    counted = Bound(fact.counted, milliseconds(fact.counted_at)) if fact.counted_at else NOWHERE
    return Told(fact.held, done, counted)


def fact_of(around: Surroundings, partition: int, shelf: Shelf, endpoint_id: int) -> HealthRecord:
    """What there is to tell of an endpoint."""
    endpoint = around.registry.get(endpoint_id)
    waiting, done = shelf.waiting.get(endpoint_id), shelf.done(endpoint_id)
    counted = waiting.counted if waiting is not None else done
    return HealthRecord(
        endpoint_id=endpoint_id,
        endpoint_version=endpoint.record.version if endpoint is not None else 0,
        fact=HealthFact.HELD,
        at=around.clock(),
        since=from_milliseconds(waiting.since_ms) if waiting is not None else None,
        partition=partition,
        held=waiting.count if waiting is not None else 0,
        done=done.offset,
        done_at=from_milliseconds(done.time_ms) if done != NOWHERE else None,
        counted=counted.offset,
        counted_at=from_milliseconds(counted.time_ms) if counted != NOWHERE else None,
    )
