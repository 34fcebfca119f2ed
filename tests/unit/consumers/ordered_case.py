"""A partition of ``webhooks.ordered`` in memory, the fan-outs that write to it, and successive processes that keep it.

Each process may die at any write. Endpoints answer as the test says. Every request is recorded in the order in which they got it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from msgspec import structs

from consumers.ordered_deliveries import take_progress
from consumers.ordered_partition import OrderedPartition
from consumers.ordered_values import AttemptsInFlight, OrderedContext
from pipeline.broker.api import Partition, Position, Record
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.producer import Producer
from pipeline.broker.seeking_consumer import FetchedPage, SeekingConsumer
from pipeline.core.exchange import Exchange
from pipeline.core.outcome import Delivered, Exhausted, RetryLater, Verdict
from pipeline.core.retry_policies import RetryPolicies
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.delivery import (
    AttemptResult,
    Delivery,
    DeliveryOutcome,
    DiscardedDelivery,
    ParkedDelivery,
    SignedRequest,
)
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from schemas.codec import to_header, to_json
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord, Trigger
from schemas.event_key import event_key, record_key
from schemas.lane_progress import LaneProgress, lane_key
from tests.unit.fake_kafka import record
from tests.unit.sample_events import META, NOW, endpoint_record

VAULT = Vault(Vault.new_key())
SETTINGS = Settings(_env_file=None)
TOPICS = SETTINGS.topics
HOLD = timedelta(days=SETTINGS.hold_days)
START_MS = 1_772_463_840_000
DELAYS = tuple(timedelta(seconds=seconds) for seconds in (5, 60, 600))
PARTITION = 0


@dataclass(frozen=True)
class Event:
    """An event of a source topic."""

    key: str
    offset: int
    id: str


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as an endpoint got it, and the answer."""

    endpoint_id: int
    event: str
    key: str
    attempt: int
    answer: str


@dataclass
class Kafka(Producer):
    """What outlives a process."""

    ordered: list[Record] = field(default_factory=list)
    progress: list[tuple[bytes | None, bytes | None]] = field(default_factory=list)
    health: list[Record] = field(default_factory=list)
    letters: list[bytes | None] = field(default_factory=list)
    committed: int = 0
    dies_at: int | None = None
    """The number of writes before the process dies. It gets no acknowledgement of later ones."""
    writes: int = 0
    table: HealthTable | None = None

    @property
    def is_dead(self) -> bool:
        return self.dies_at is not None and self.writes >= self.dies_at

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
        acknowledged: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        if self.is_dead:
            return acknowledged  # the process is dead
        self.writes += 1
        if topic == TOPICS.ordered_progress:
            assert partition == PARTITION
            self.progress.append((key, value))
        elif topic == TOPICS.dead_letters:
            self.letters.append(value)
        else:
            assert topic == TOPICS.endpoint_health
            self.health.append(record(value, topic=topic, key=key, offset=len(self.health)))
            if self.table is not None:
                self.table.apply([self.health[-1]])
        if not self.is_dead:
            acknowledged.set_result(Position(topic, partition or 0, 0))
        return acknowledged

    async def room(self, size: int) -> None:
        await asyncio.sleep(0)

    def load(self) -> Mapping[bytes, LaneProgress]:
        lanes: dict[bytes, LaneProgress] = {}
        for key, value in self.progress:
            take_progress(lanes, key, value)
        return lanes


class FakeSeekingConsumer:
    """Reads the topic in memory, a few records at a time."""

    is_member_certain = True

    def __init__(self, kafka: Kafka, most: int = 5, commit_every: int = 1, turns: int = 1) -> None:
        """``commit_every``: how many fetches apart pending offsets are committed. ``turns``: how many turns of the event loop a
        fetch takes.
        """
        self._turns = turns
        self._kafka = kafka
        self._most = most
        self._commit_every = commit_every
        self._fetches = 0
        self._pending = kafka.committed
        self.is_kept = True

    def is_assigned(self, _: int) -> bool:
        return self.is_kept

    async def fetch(self, _: int, offset: int | None, __: float) -> FetchedPage:
        for _ in range(self._turns):
            await asyncio.sleep(0)
        self._fetches += 1
        if self._fetches % self._commit_every == 0 and not self._kafka.is_dead:
            self._kafka.committed = self._pending
        at = self._kafka.committed if offset is None else offset
        records = self._kafka.ordered[at:][: self._most]
        end = records[-1].offset + 1 if records else max(at, len(self._kafka.ordered))
        return FetchedPage(records, end, end >= len(self._kafka.ordered))

    def commit(self, _: int, offset: int) -> None:
        assert offset >= self._pending
        self._pending = offset


class World:
    """The endpoints, Kafka, and the current process."""

    def __init__(self, *endpoint_ids: int) -> None:
        self.kafka = Kafka({}, [])  # type: ignore[arg-type]
        self.kafka.ordered, self.kafka.progress, self.kafka.health, self.kafka.letters = [], [], [], []
        self.kafka.writes, self.kafka.committed = 0, 0
        self.now_ms = START_MS
        self.events: list[Event] = []
        self.endpoints = {one: structs.replace(endpoint_record(one), ordered=True) for one in endpoint_ids}
        self.answers: dict[tuple[int, str], list[str]] = {}
        """The endpoint's answers to an event, one per attempt; after the last one, ``ok``."""
        self.asked: list[ReceivedRequest] = []
        self.discarded: list[DiscardedDelivery] = []
        self.most_at_once: dict[bytes, int] = {}
        self._in_progress: dict[bytes, int] = {}
        self.is_time_certain = True
        self.in_flight = AttemptsInFlight(1000, 64 * 1024 * 1024)
        self._task: asyncio.Task[None] | None = None
        self.processor: OrderedPartition | None = None
        self.consumer = FakeSeekingConsumer(self.kafka)
        self.health = HealthTable(MemoryBroker(), TOPICS.endpoint_health)
        self.registry = Registry(MemoryBroker(), TOPICS.endpoints, VAULT, health=self.health)
        self.policies = RetryPolicies(DELAYS)

    # --- what happens around it ---

    def publish(self, key: str, *endpoint_ids: int) -> Event:
        """An event that a fan-out writes for its endpoints."""
        event = Event(key, len(self.events), f"evt-{len(self.events)}")
        self.events.append(event)
        self.write(event, *endpoint_ids)
        return event

    def write(self, event: Event, *endpoint_ids: int, trigger: Trigger = Trigger.EVENT) -> None:
        """A fan-out writes an event, possibly again."""
        self.now_ms += 1
        meta = structs.replace(
            META,
            id=event.id,
            key=event_key("oms.orders", 0, event.key.encode()),
            sequence=event.offset,
            received_at=datetime.fromtimestamp((START_MS + event.offset) / 1000, UTC),
        )
        for endpoint_id in endpoint_ids or tuple(self.endpoints):
            due = DeliveryRecord(event=meta, endpoint_id=endpoint_id, attempt=1, trigger=trigger)
            self.append(lane_key(endpoint_id, record_key(meta.key or "")), b"{}", [to_header(DELIVERY_HEADER, due)])

    def append(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Append a record, with the time of the broker's clock."""
        place = Partition(TOPICS.ordered, PARTITION)
        self.kafka.ordered.append(Record(place, len(self.kafka.ordered), self.now_ms, key, value, list(headers), 0))

    def change(self, endpoint_id: int, **values: Any) -> None:
        before = self.endpoints[endpoint_id]
        self.endpoints[endpoint_id] = structs.replace(before, **values, version=before.version + 1)
        self._read(endpoint_id)

    # --- what the processor calls ---

    @property
    def seconds(self) -> float:
        return self.now_ms / 1000

    async def outcome(self, delivery: Delivery) -> DeliveryOutcome:
        key = lane_key(delivery.endpoint.id, record_key(delivery.event.key or ""))
        self._in_progress[key] = self._in_progress.get(key, 0) + 1
        self.most_at_once[key] = max(self.most_at_once.get(key, 0), self._in_progress[key])
        try:
            await asyncio.sleep(0)
            if self.kafka.is_dead:
                await asyncio.get_running_loop().create_future()
            answers = self.answers.get((delivery.endpoint.id, delivery.event.id), [])
            answer = answers.pop(0) if answers else "ok"
            if answer == "refused":
                return ParkedDelivery(delivery, "circuit_open", timedelta(hours=1), timedelta(seconds=5))
            self.asked.append(
                ReceivedRequest(delivery.endpoint.id, delivery.event.id, delivery.event.key or "", delivery.attempt, answer)
            )
        finally:
            self._in_progress[key] -= 1
        return AttemptResult(
            delivery, cast("SignedRequest", None), cast("Exchange", None), _verdict(answer, delivery.attempt), NOW, NOW
        )

    async def settle(self, outcome: DeliveryOutcome, *, in_place: bool = False) -> None:
        if isinstance(outcome, DiscardedDelivery):
            self.discarded.append(outcome)
            return
        assert in_place
        if isinstance(outcome, AttemptResult):
            await asyncio.sleep(0)
            self.kafka.writes += 1  # the record of the attempt
            if self.kafka.is_dead:
                await asyncio.get_running_loop().create_future()

    # --- the process ---

    def start(self, most: int = 5, commit_every: int = 1, turns: int = 1) -> None:
        self.kafka.dies_at, self.kafka.writes = None, 0
        self._in_progress.clear()
        self.in_flight = AttemptsInFlight(1000, 64 * 1024 * 1024)
        self.consumer = FakeSeekingConsumer(self.kafka, most, commit_every, turns)
        self.health = HealthTable(MemoryBroker(), TOPICS.endpoint_health)
        self.health.apply(self.kafka.health)
        self.kafka.table = self.health
        self.registry = Registry(MemoryBroker(), TOPICS.endpoints, VAULT, health=self.health)
        for one in self.endpoints:
            self._read(one)

        async def load(_: int) -> Mapping[bytes, LaneProgress]:
            await asyncio.sleep(0)
            return self.kafka.load()

        context = OrderedContext(
            consumer=cast("SeekingConsumer", self.consumer),
            producer=self.kafka,
            registry=self.registry,
            health=self.health,
            service=cast("DeliveryService", self),
            dead_letters=DeadLetters(self.kafka, TOPICS.dead_letters, lambda: NOW),
            topics=TOPICS,
            hold=HOLD,
            clock=lambda: NOW,
            broker_seconds=lambda: self.seconds,
            steady=lambda: self.seconds,
            is_time_certain=lambda: self.is_time_certain,
            load=load,
            in_flight=self.in_flight,
        )
        self.processor = OrderedPartition(context, PARTITION)
        self._task = asyncio.create_task(self.processor.run())

    async def live(self, turns: int = 100) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        assert self._task is not None
        if self._task.done():
            self._task.result()

    async def until_quiet(self) -> None:
        """Wait until nothing more happens at this time."""
        before: object = None
        for _ in range(500):
            await self.live(40)
            now = len(self.asked), len(self.discarded), len(self.kafka.progress), self.kafka.committed
            if now == before:
                return
            before = now
        raise AssertionError("it does not become quiet")

    async def until_all_ended(self) -> None:
        """Let time pass until every delivery has ended."""
        for _ in range(200):
            await self.until_quiet()
            if self.processor is not None and not self.processor.waiting and self.kafka.committed == len(self.kafka.ordered):
                return
            self.now_ms += 60_000
        raise AssertionError("a delivery waits forever")

    async def die(self) -> None:
        """Die at once: written records stay, and nothing is finished."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.kafka.table = None

    def held_back(self, endpoint_id: int) -> int:
        """The number of deliveries held back, as the API gets it."""
        return self.health.ordered(endpoint_id).count

    def _read(self, endpoint_id: int) -> None:
        endpoint = self.endpoints[endpoint_id]
        self.registry._apply([record(to_json(endpoint), topic=TOPICS.endpoints, key=str(endpoint.id).encode())])


def _verdict(answer: str, attempt: int) -> Verdict:
    if answer == "ok":
        return Delivered()
    return RetryLater(DELAYS[attempt - 1]) if attempt <= len(DELAYS) else Exhausted()


def inversions(asked: Sequence[ReceivedRequest]) -> list[tuple[ReceivedRequest, ReceivedRequest]]:
    """Pairs of requests in which an event was sent after a later one of its lane."""
    found: list[tuple[ReceivedRequest, ReceivedRequest]] = []
    last: dict[tuple[int, str], ReceivedRequest] = {}
    for one in asked:
        before = last.get((one.endpoint_id, one.key))
        if before is not None and _number(before) > _number(one):
            found.append((before, one))
        last[one.endpoint_id, one.key] = one
    return found


def _number(asked: ReceivedRequest) -> int:
    return int(asked.event.removeprefix("evt-"))
