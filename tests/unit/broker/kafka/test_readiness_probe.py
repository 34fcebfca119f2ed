"""Whether Kafka does what a process needs: what the probe asks, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.broker.errors import UnavailableError
from pipeline.broker.kafka import readiness_probe
from pipeline.broker.kafka.readiness_probe import BrokerProbe
from pipeline.ops.settings import Settings

SETTINGS = Settings(_env_file=None, kafka_bootstrap_servers="kafka-1:9092")
ORDERS, HELD = SETTINGS.topics.orders, SETTINGS.topics.held


class FakeClient:
    """Three brokers; the second one leads ``oms.orders``, the third one nothing of ours."""

    def __init__(self) -> None:
        self.configs: dict[str, dict[str, str]] = {}

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        partition = {"partition_index": 0, "leader_id": 2, "replica_nodes": [2], "isr_nodes": [2]}
        return [{"name": name, "error_code": 0, "partitions": [partition]} for name in names]

    def describe_cluster(self) -> dict[str, Any]:
        return {"brokers": [{"broker_id": number, "host": f"kafka-{number}", "port": 9092} for number in (1, 2, 3)]}

    def describe_configs(self, wanted: list[Any], **_: object) -> dict[str, Any]:
        found = {topic: {name: {"value": value} for name, value in config.items()} for topic, config in self.configs.items()}
        return {"topic": found}

    def close(self) -> None:
        """Nothing is open."""


class Network:
    """Which brokers do not answer this process, and how often each was asked."""

    def __init__(self) -> None:
        self.silent: dict[str, str] = {}
        self.asked: list[Mapping[str, tuple[str, int]]] = []

    def ask(self, _: object, brokers: Mapping[str, tuple[str, int]]) -> dict[str, str]:
        self.asked.append(brokers)
        return {name: why for name, why in self.silent.items() if name in brokers}


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(readiness_probe, "silent_brokers", network.ask)
    return network


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def probe(client: FakeClient, network: Network, monkeypatch: pytest.MonkeyPatch) -> BrokerProbe:
    probe = BrokerProbe(SETTINGS, read=[ORDERS, HELD])
    monkeypatch.setattr(probe, "_session", lambda: client)
    return probe


async def test_an_unreachable_leader_is_named(probe: BrokerProbe, network: Network) -> None:
    """Another broker answers every request of the probe; the consumer waits for the leader and reports nothing."""
    await probe.ask()
    assert network.asked == [{"2": ("kafka-2", 9092)}]
    await probe.ask()
    assert len(network.asked) == 1, "not each time"

    network.silent["2"] = "No connection within 2 s: it is down, or a firewall drops the connection."
    probe._leaders_at -= 60
    await probe.ask()  # it may have died just now: its partitions are about to get another leader
    with pytest.raises(
        UnavailableError, match=f"Broker 2, which leads {ORDERS}, partition 0, and 1 more: No connection within 2 s"
    ):
        await probe.ask()
    network.silent.clear()
    await probe.ask()
    assert len(network.asked) == 4


async def test_a_warning_names_deliveries_that_kafka_would_remove_too_early(probe: BrokerProbe, client: FakeClient) -> None:
    """``hold_days`` was raised, and the topic was not changed."""
    required = next(spec.retention_ms for spec in SETTINGS.topics.specs() if spec.name == HELD)
    client.configs = {HELD: {"retention.ms": str(required - 1), "retention.bytes": "-1"}, ORDERS: {"retention.ms": "1"}}
    await probe.ask()
    warning = probe.retention_warning() or ""
    assert f"{HELD}: retention.ms is {required - 1}, and must be {required}" in warning
    assert ORDERS not in warning, "a deployment decides how long it keeps its events"
    client.configs[HELD]["retention.ms"] = str(required)
    probe._configs_at -= 600
    await probe.ask()
    assert probe.retention_warning() is None
