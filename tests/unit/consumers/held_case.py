"""A partition of ``webhooks.held`` in memory, and successive processes that keep it. Each may die at any write."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

from msgspec import structs

from consumers.held_deliveries import HeldDeliveries
from consumers.held_partition import HeldPartition
from pipeline.broker.api import Partition, Position, Record
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.producer import Producer
from pipeline.broker.seeking_consumer import FetchedPage, SeekingConsumer
from pipeline.delivery.consumer_services import ConsumerServices
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.delivery import DiscardedDelivery
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from schemas.attempt import Outcome
from schemas.codec import from_header, to_header, to_json
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord, Trigger
from schemas.endpoint import EndpointRecord, HeldDrop
from tests.unit.fake_kafka import record
from tests.unit.sample_events import META, NOW, endpoint_record

VAULT = Vault(Vault.new_key())
HOLD = timedelta(days=14)
SETTINGS = Settings(_env_file=None, hold_days=HOLD.days)
TOPICS = SETTINGS.topics
AT_ONCE = "webhooks.delay.0s"
START_MS = 1_772_463_840_000


@dataclass
class Kafka(Producer):
    """What outlives a process: the topic of held deliveries, the health topic, released and ended deliveries, and the commit."""

    held: list[Record] = field(default_factory=list)
    health: list[Record] = field(default_factory=list)
    released: list[tuple[int, str]] = field(default_factory=list)
    ended: list[tuple[int, str, str]] = field(default_factory=list)
    committed: int | None = None
    now_ms: int = START_MS
    first: int = 0
    """The first offset of the topic. Earlier records are gone."""
    dies_at: int | None = None
    """The number of writes before the process dies. It gets no acknowledgement of later ones."""
    writes: int = 0
    table: HealthTable | None = None

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
        if self.dies_at is not None and self.writes >= self.dies_at:
            return acknowledged  # the process is dead
        self.writes += 1
        position = self._write(topic, key, value, headers)
        if self.dies_at is None or self.writes < self.dies_at:
            acknowledged.set_result(position)
        return acknowledged

    def _write(self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> Position:
        if topic == TOPICS.held:
            self.append(key, value, headers)
            return Position(topic, 0, len(self.held) - 1)
        if topic == TOPICS.endpoint_health:
            self.health.append(record(value, topic=topic, key=key, offset=len(self.health)))
            if self.table is not None:
                self.table.apply([self.health[-1]])
                self.table.table._next = len(self.health)
            return Position(topic, 0, len(self.health) - 1)
        assert topic == AT_ONCE
        delivery = from_header(headers, DELIVERY_HEADER, DeliveryRecord)
        self.released.append((delivery.endpoint_id, delivery.event.id))
        return Position(topic, 0, len(self.released) - 1)

    def append(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Append a record, with the time of the broker's clock."""
        self.held.append(Record(Partition(TOPICS.held, 0), len(self.held), self.now_ms, key, value, list(headers), 0))

    async def room(self, size: int) -> None:
        await asyncio.sleep(0)

    def fetch(self, offset: int, most: int) -> list[Record]:
        return self.held[max(offset, self.first) :][:most]


class RecordingDeliveryService:
    """Records discarded deliveries."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka

    async def settle(self, discarded: DiscardedDelivery) -> None:
        if self._kafka.dies_at is not None and self._kafka.writes >= self._kafka.dies_at:
            await asyncio.get_running_loop().create_future()
        self._kafka.writes += 1
        self._kafka.ended.append((discarded.record.endpoint_id, discarded.record.event.id, discarded.kind))
        assert (discarded.outcome is Outcome.EXPIRED) == (discarded.kind == "expired")


class FakeSeekingConsumer:
    """Reads the topic in memory, a few records at a time."""

    is_member_certain = True

    def __init__(self, kafka: Kafka, most: int = 7) -> None:
        self._kafka = kafka
        self._most = most

    async def fetch(self, _: int, offset: int | None, __: float) -> FetchedPage:
        await asyncio.sleep(0)
        at = (self._kafka.committed or 0) if offset is None else offset
        records = self._kafka.fetch(at, self._most)
        end = records[-1].offset + 1 if records else max(at, len(self._kafka.held))
        return FetchedPage(records, end, end >= len(self._kafka.held))

    def commit(self, _: int, offset: int) -> None:
        if self._kafka.dies_at is None or self._kafka.writes < self._kafka.dies_at:
            self._kafka.committed = offset


class World:
    """The endpoints, Kafka, and the current process."""

    def __init__(self, *endpoint_ids: int) -> None:
        self.kafka = Kafka({}, [])  # type: ignore[arg-type]
        self.kafka.held, self.kafka.health, self.kafka.released, self.kafka.ended = [], [], [], []
        self.endpoints = {one: endpoint_record(one, active=False) for one in endpoint_ids}
        self.sent: list[tuple[int, str]] = []
        self.is_time_certain = True
        self._task: asyncio.Task[None] | None = None
        self.processor: HeldPartition | None = None
        self.health = HealthTable(MemoryBroker(), TOPICS.endpoint_health)
        self.registry = Registry(MemoryBroker(), TOPICS.endpoints, VAULT, health=self.health)

    # --- what happens around it ---

    def hold(self, endpoint_id: int, count: int = 1) -> None:
        for _ in range(count):
            event_id = f"evt-{len(self.sent)}"
            event = structs.replace(META, id=event_id)
            delivery = DeliveryRecord(event=event, endpoint_id=endpoint_id, attempt=1, trigger=Trigger.EVENT)
            self.kafka.append(str(endpoint_id).encode(), b"{}", [to_header(DELIVERY_HEADER, delivery)])
            self.sent.append((endpoint_id, event_id))
            self.kafka.now_ms += 1

    def change(self, endpoint_id: int, **values: Any) -> None:
        before = self.endpoints[endpoint_id]
        self.endpoints[endpoint_id] = structs.replace(before, **values, version=before.version + 1)
        self._read(self.endpoints[endpoint_id])

    def drop(self, endpoint_id: int) -> int:
        """Drop as the API does, if anything is held. Returns the number."""
        held = self.registry.held(self.registry.get(endpoint_id) or _unknown())
        drops = tuple(
            HeldDrop(partition=part.partition, below=part.counted, until=part.counted_at, dropped_by="ada", dropped_at=NOW)
            for part in held.parts
            if part.partition is not None and part.counted_at is not None
        )
        if drops:
            self.change(endpoint_id, drops=drops)
        return held.count

    # --- the process ---

    async def start(self) -> None:
        self.health = HealthTable(MemoryBroker(), TOPICS.endpoint_health)
        self.health.apply(self.kafka.health)
        self.health.table._next = len(self.kafka.health)
        self.kafka.table = self.health
        self.kafka.dies_at, self.kafka.writes = None, 0
        self.registry = Registry(MemoryBroker(), TOPICS.endpoints, VAULT, health=self.health)
        for one in self.endpoints.values():
            self._read(one)
        held = HeldDeliveries(
            SETTINGS,
            MemoryBroker(),
            ConsumerServices(
                registry=self.registry,
                service=cast("DeliveryService", RecordingDeliveryService(self.kafka)),
                producer=self.kafka,
                dead_letters=DeadLetters(self.kafka, "webhooks.dead-letters", lambda: NOW),
                clock=lambda: NOW,
            ),
            health=self.health,
            backlog=lambda: 0,
            is_time_certain=lambda: self.is_time_certain,
        )
        self.processor = HeldPartition(
            replace(held._context, consumer=cast("SeekingConsumer", FakeSeekingConsumer(self.kafka))), 0
        )
        self._task = asyncio.create_task(self.processor.run())

    async def live(self, turns: int = 400) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        assert self._task is not None
        if self._task.done():
            self._task.result()

    async def until_quiet(self) -> None:
        before: object = None
        for _ in range(100):
            await self.live(100)
            now = len(self.kafka.released), len(self.kafka.ended), len(self.kafka.held), self.counts()
            if now == before:
                return
            before = now
        raise AssertionError("it does not become quiet")

    async def die(self) -> None:
        """Die at once: written records stay, and nothing is finished."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.kafka.table = None

    def counts(self) -> dict[int, int]:
        found = {one: self.health.held(one).count for one in self.endpoints}
        return {one: count for one, count in found.items() if count}

    def outcomes(self) -> Counter[tuple[int, str]]:
        """How often each delivery was released or ended."""
        return Counter(self.kafka.released) + Counter((endpoint_id, event) for endpoint_id, event, _ in self.kafka.ended)

    def _read(self, endpoint: EndpointRecord) -> None:
        self.registry._apply([record(to_json(endpoint), topic=TOPICS.endpoints, key=str(endpoint.id).encode())])


def _unknown() -> Any:
    raise AssertionError("there is no such endpoint")


def at(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, NOW.tzinfo)
