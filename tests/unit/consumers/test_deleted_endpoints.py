"""A process forgets what it knows of an endpoint when the endpoint is deleted."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import SecretStr

from consumers.wiring import make_deliveries
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.core.circuit import CircuitState
from pipeline.core.filters.evaluation import FilterFault
from pipeline.delivery.broker_clock import BrokerClock
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.subscriptions import FilterFailure
from pipeline.endpoints.vault import Vault
from pipeline.ops import metrics
from pipeline.ops.settings import Settings
from schemas.codec import to_json
from tests.unit.fake_kafka import FakeProducer, record
from tests.unit.sample_events import endpoint_record

MANY = 50


@pytest.fixture
def settings() -> Settings:
    return Settings(encryption_key=SecretStr(Vault.new_key()), metrics_top_endpoints=5)


def shown() -> set[str]:
    [family] = metrics.ENDPOINT_ATTEMPTS.collect()
    return {sample.labels["endpoint"] for sample in family.samples}


def state(deliveries: Any) -> dict[str, int]:
    """The number of endpoints that each part keeps state of."""
    watch, failures, admission = deliveries.health_monitor, deliveries.filter_failures, deliveries.delivery_service.admission
    parts = {
        "reported facts": watch._written_facts,
        "quiet": watch._quiet,
        "failed filters": failures._reported_at,
        "filters to report": failures._waiting,
        "slow": admission._limiter._shares._usages,
        "circuits": admission._circuits,
        "attempts": metrics.ENDPOINT_ATTEMPTS._counts,
    }
    return {name: len(part) for name, part in parts.items() if part}


async def test_no_state_is_kept_of_deleted_endpoints(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.ENDPOINT_ATTEMPTS, "_counts", defaultdict(lambda: defaultdict(int)))
    metrics.ENDPOINT_ATTEMPTS.show(settings.metrics_top_endpoints)
    broker, topics = MemoryBroker(), settings.topics
    health = HealthTable(broker, topics.endpoint_health)
    deliveries = make_deliveries(settings, broker, FakeProducer(), BrokerClock(topics.clock), health, None)
    registry, admission = deliveries.registry, deliveries.delivery_service.admission
    registry.table._loop = asyncio.get_running_loop()
    topic = settings.topics.endpoints
    for number in range(1, MANY + 1):
        key, written = str(number).encode(), replace(endpoint_record(number), target_url=f"https://{number}.example.com/")
        registry._apply([record(to_json(written), topic=topic, key=key)])
        endpoint = registry.get(number)
        assert endpoint is not None
        metrics.ENDPOINT_ATTEMPTS.count(number, "failed")
        deliveries.health_monitor.circuit_changed(endpoint, CircuitState.OPEN, 60.0)
        deliveries.filter_failures.note(FilterFailure("order_completed", "data.x > 1", FilterFault.TYPE, "", number), "evt_1")
        deliveries.filter_failures.report()
        deliveries.filter_failures.note(FilterFailure("order_completed", "data.x > 1", FilterFault.TYPE, "", number), "evt_2")
        deliveries.filter_failures.report()
        token = admission._limiter._shares.enter(number, 0.0)
        assert token is not None
        admission._limiter._shares.start(number, token, 0.0)
        admission._limiter._shares.leave(number, token, 100.0)
        admission._circuit(endpoint)
        if number == MANY:
            assert set(state(deliveries).values()) == {1}, "nothing is left of the deleted ones"
            assert shown() == {str(number)}
        registry._apply([record(to_json(replace(written, version=2, deleted=True)), topic=topic, key=key)])

    assert state(deliveries) == {}
    deliveries.filter_failures.close()
    deliveries.health_monitor.close()
