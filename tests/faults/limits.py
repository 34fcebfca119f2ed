"""Measures the limits: a load without pauses, and the cost of a fault according to the ledger. The accounts are pure."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from pipeline.broker.api import Position
from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from pipeline.devtools.simulator import Shop, SimulatedEvent
from tests.faults.deployment import Deployment
from tests.faults.evidence import Event, Evidence
from tests.faults.kafka_view import TopicOffset
from tests.faults.receivers import Request

PATH = "/erp"
"""The only endpoint, which gets every event: one delivery per event."""
_TICK_S = 0.01


@asynccontextmanager
async def steady_load(deployment: Deployment, rate: float, seed: int) -> AsyncIterator[dict[str, float]]:
    """Publish ``rate`` events a second while the block runs, with one producer; afterwards they are in ``deployment.events``.

    Yields when each event was published (seconds since 1970), by its id.
    """
    sent_at: dict[str, float] = {}
    producer = Producer(open_broker(deployment.settings), deployment.settings.topics.sources)
    await producer.start()
    sent: list[tuple[SimulatedEvent, asyncio.Future[Position]]] = []
    publishing = asyncio.create_task(_publish(deployment, producer, rate, seed, sent, sent_at))
    try:
        yield sent_at
    finally:
        publishing.cancel()
        await asyncio.wait([publishing])
    # Not after a failure: the broker may be down for good, and then nothing is acknowledged.
    positions = await asyncio.gather(*(acknowledged for _, acknowledged in sent))
    await producer.close()
    deployment.events += [
        Event(event.id, TopicOffset(*position[:3]), frozenset({PATH}))
        for (event, _), position in zip(sent, positions, strict=True)
    ]


async def _publish(
    deployment: Deployment,
    producer: Producer,
    rate: float,
    seed: int,
    sent: list[tuple[SimulatedEvent, asyncio.Future[Position]]],
    sent_at: dict[str, float],
) -> None:
    shop, began, topics = Shop(seed), time.monotonic(), deployment.settings.topics
    while True:
        while len(sent) < (time.monotonic() - began) * rate:
            event = shop.next_event(datetime.now(UTC))
            topic = getattr(topics, event.topic_kind)
            sent_at[event.id] = time.time()
            sent.append((event, producer.send(topic, key=event.key.encode(), value=event.value)))
        await asyncio.sleep(_TICK_S)


async def keep_one_endpoint(deployment: Deployment) -> None:
    """Delete all endpoints except the one that gets everything."""
    async with deployment.api() as client:
        for endpoint_id, path in deployment.paths.items():
            if path != PATH:
                (await client.delete(f"/api/webhook/endpoints/{endpoint_id}")).raise_for_status()


class Repeats(NamedTuple):
    """Repeated deliveries."""

    at: Sequence[float]

    def between(self, begin: float, end: float) -> int:
        return sum(begin <= at < end for at in self.at)


def repeats(requests: Iterable[Request], published_twice: Counter[str]) -> Repeats:
    """Return when deliveries were repeated, in the order of the ledger. Events that are in Kafka twice are due twice."""
    seen: Counter[str] = Counter()
    again = []
    for request in requests:
        seen[request.event_id] += 1
        if seen[request.event_id] > 1 + published_twice[request.event_id]:
            again.append(request.at)
    return Repeats(again)


def first_after(requests: Iterable[Request], at: float) -> float:
    """Return the seconds from a moment to the first delivery after it; infinite if there is none."""
    return min((request.at - at for request in requests if request.at > at), default=float("inf"))


def longest_silence(
    found: Evidence, sent_at: Mapping[str, float], partitions: Collection[tuple[str, int]], begin: float, end: float
) -> float:
    """Return the longest time between two moments in which events of these partitions waited and none was delivered."""
    theirs = {event.id for event in found.events if event.position[:2] in partitions}
    arrived: dict[str, float] = {}
    for request in found.requests:
        if request.event_id in theirs:
            arrived.setdefault(request.event_id, request.at)
    waits = [Wait(sent_at[event_id], arrived.get(event_id, math.inf)) for event_id in theirs]
    return longest_wait_in_vain(waits, begin, end)


class Wait(NamedTuple):
    """The time during which an event waited."""

    since: float
    until: float


def longest_wait_in_vain(waits: Iterable[Wait], begin: float, end: float) -> float:
    """Return the longest time between two moments in which events waited, and no wait ended."""
    within = sorted((wait for wait in waits if wait.since < end and wait.until > begin), key=lambda wait: wait.until)
    # The earliest start of the remaining waits, from the last one backwards.
    oldest = list(itertools.accumulate((wait.since for wait in reversed(within)), min))[::-1]
    ends = [begin, *(min(wait.until, end) for wait in within)]
    return max(
        (later - max(earlier, since) for (earlier, later), since in zip(itertools.pairwise(ends), oldest, strict=True)),
        default=0.0,
    )


def takeover(found: Evidence, sent_at: Mapping[str, float], partitions: Collection[tuple[str, int]], at: float) -> float:
    """Return the seconds from a kill to each partition's first delivery; a partition without events then counts from its first one."""
    partition_of = {event.id: event.position[:2] for event in found.events}
    first: dict[tuple[str, int], float] = {}
    for request in found.requests:
        partition = partition_of[request.event_id]
        if partition in partitions and request.at > at:
            first.setdefault(partition, request.at - max(at, sent_at[request.event_id]))
    return max(first.values(), default=float("inf"))
