"""When a process joins the group of ordered deliveries: only if an endpoint wants events in order."""

from __future__ import annotations

import threading
from typing import cast

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from consumers import partition_processors
from consumers.ordered_deliveries import OrderedDeliveries
from pipeline.broker.api import Partition
from pipeline.broker.errors import PublishError
from pipeline.broker.failure_backoff import FailureBackoff
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.memory.cluster import Cluster
from pipeline.broker.producer import Producer
from pipeline.delivery.consumer_services import ConsumerServices
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from schemas.codec import to_json
from tests.unit.fake_kafka import record
from tests.unit.sample_events import NOW, endpoint_record
from tests.waiting import until

VAULT = Vault(Vault.new_key())
SETTINGS = Settings(_env_file=None)
TOPICS = SETTINGS.topics
PLACE = Partition(TOPICS.ordered, 0)
WRITTEN = (TOPICS.ordered, TOPICS.ordered_progress, TOPICS.dead_letters)


class Process:
    """A retry's ordered deliveries, on a broker in memory."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        for topic in WRITTEN:
            self.cluster.create(topic, 1)
        self.broker = MemoryBroker(self.cluster)
        self.registry = Registry(MemoryBroker(), TOPICS.endpoints, VAULT)
        self.producer = Producer(self.broker, WRITTEN)
        services = ConsumerServices(
            registry=self.registry,
            service=cast("DeliveryService", None),  # nothing is delivered here
            producer=self.producer,
            dead_letters=DeadLetters(self.producer, TOPICS.dead_letters, lambda: NOW),
            clock=lambda: NOW,
        )
        self.ordered = OrderedDeliveries(
            SETTINGS,
            self.broker,
            services,
            health=HealthTable(MemoryBroker(), TOPICS.endpoint_health),
            broker_seconds=lambda: None,
            is_time_certain=lambda: False,
        )
        self.asked = 0
        """How often it was asked whether to join."""
        self._is_wanted = self.ordered._is_wanted
        self.ordered._processors._is_wanted = self._ask

    async def _ask(self) -> bool:
        self.asked += 1
        return await self._is_wanted()

    async def start(self) -> None:
        await self.producer.start()
        await self.ordered.start()

    async def stop(self) -> None:
        await self.ordered.stop(1.0)
        await self.producer.close()

    def register(self, *, ordered: bool, version: int) -> None:
        endpoint = structs.replace(endpoint_record(7, version=version), ordered=ordered)
        self.registry._apply([record(to_json(endpoint), topic=TOPICS.endpoints, key=b"7")])

    @property
    def has_joined(self) -> bool:
        group = self.cluster.coordinator.groups.get(TOPICS.ordered_group)
        return group is not None and bool(group.members)


@pytest.fixture(autouse=True)
def asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_processors, "_ASKED_APART_S", 0.001)


async def test_nobody_joins_if_no_endpoint_wants_order() -> None:
    process = Process()
    process.register(ordered=False, version=1)
    await process.start()
    await until(lambda: process.asked >= 100 or process.has_joined)
    assert (process.has_joined, process.ordered.problem(), process.ordered.failed.done()) == (False, None, False)
    await process.stop()


async def test_the_first_endpoint_that_wants_order_makes_the_process_join() -> None:
    process = Process()
    await process.start()
    process.register(ordered=True, version=1)
    await until(lambda: process.has_joined)
    process.register(ordered=False, version=2)
    process.cluster.append(PLACE, b"7", b"not a delivery", [])
    dead_letters = Partition(TOPICS.dead_letters, 0)
    await until(lambda: process.cluster.log(dead_letters).end, "records written for it meanwhile are stranded")
    assert process.has_joined
    await process.stop()
    assert not process.has_joined


async def test_records_left_behind_make_the_process_join() -> None:
    process = Process()
    process.cluster.append(PLACE, b"7", b"not a delivery", [])
    await process.start()
    await until(lambda: process.has_joined)
    await process.stop()


async def test_it_checks_again_when_kafka_is_back() -> None:
    process = Process()
    process.cluster.append(PLACE, b"7", b"not a delivery", [])
    await process.producer.start()
    process.cluster.is_away = True
    await process.ordered.start()
    await until(process.ordered.problem)
    assert (process.has_joined, process.ordered.failed.done()) == (False, False)
    assert "cannot be read: no broker answers" in str(process.ordered.problem())
    process.cluster.is_away = False
    await until(lambda: process.has_joined)
    await until(lambda: process.ordered.problem() is None)
    await process.stop()


async def test_an_unreadable_topic_is_reported_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process()

    def refuse(topic: str) -> list[int]:
        raise PublishError(f"{topic} may not be looked at")

    monkeypatch.setattr(process.producer, "partitions", refuse)
    await process.start()
    await until(lambda: process.ordered.problem() is not None)
    assert "may not be looked at" in str(process.ordered.problem())
    process.register(ordered=True, version=1)
    await until(lambda: process.has_joined)
    await until(lambda: process.ordered.problem() is None)
    await process.stop()


async def test_unreadable_progress_is_logged_at_most_once_a_minute() -> None:
    process = Process()
    process.cluster.is_away = True
    now = 0.0

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            nonlocal now
            now += timeout or 0.0
            if now >= 3600.0:
                self.set()
            return self.is_set()

    with capture_logs() as logs, pytest.MonkeyPatch.context() as patch:
        patch.setattr("consumers.ordered_deliveries.FailureBackoff", lambda log: FailureBackoff(log, clock=lambda: now))
        assert process.ordered._read(Partition(TOPICS.ordered_progress, 0), 10, Stopping()) == {}
    assert 2 <= len(logs) <= 61, "there was a line per second"
