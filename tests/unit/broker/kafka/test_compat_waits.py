"""kafka-python's clients do not spin when there is nothing to do but wait, with a broker that does not answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.base import MemberState
from kafka.producer.sender import Sender
from kafka.protocol.metadata import MetadataResponse
from kafka.structs import ConsumerGroupMetadata

from pipeline.broker.kafka.compat import Speedups
from pipeline.broker.kafka.config import consumer_config, producer_config
from pipeline.ops.settings import Settings
from tests.waiting import wait_until

PARTITION = TopicPartition("orders", 0)


@pytest.fixture
def silent_broker() -> Iterator[int]:
    """Return the port of a server that accepts connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_polls_wait_while_the_answer_to_a_heartbeat_is_overdue(silent_broker: int, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(kafka_bootstrap_servers=f"127.0.0.1:{silent_broker}")
    consumer = KafkaConsumer(**consumer_config(settings), group_id="group", api_version=(2, 6))
    Speedups().speed_up_member(consumer)
    rounds = _counted(monkeypatch, KafkaConsumer, "_poll_once")
    try:
        # Everything assigned is paused, as in the retry when nothing is due.
        consumer.assign([PARTITION])
        consumer.seek(PARTITION, 0)
        consumer.pause(PARTITION)
        coordinator = consumer._coordinator
        coordinator.coordinator_id, coordinator.state = "coordinator-1", MemberState.STABLE
        monkeypatch.setattr(coordinator._client, "connected", lambda _: True)
        coordinator.heartbeat.last_send = time.monotonic() - 10
        coordinator.heartbeat.last_reset = time.monotonic() - 10
        assert coordinator.heartbeat.time_to_next_heartbeat() == 0
        for _ in range(5):
            consumer.poll(timeout_ms=100)
        assert len(rounds) < 50  # thousands without our change
    finally:
        consumer.close(autocommit=False, timeout_ms=0)


def test_a_poll_of_a_member_ends_with_the_join(silent_broker: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for its timeout, here a day."""
    settings = Settings(kafka_bootstrap_servers=f"127.0.0.1:{silent_broker}")
    consumer = KafkaConsumer(**consumer_config(settings), group_id="group", api_version=(2, 6))
    Speedups().speed_up_member(consumer)
    try:
        consumer.assign([PARTITION])
        consumer.seek(PARTITION, 0)
        consumer.pause(PARTITION)
        coordinator = consumer._coordinator
        monkeypatch.setattr(coordinator, "ensure_coordinator_ready", lambda **_: True)
        joined = ConsumerGroupMetadata("group", 1, "member", None, MemberState.STABLE)
        monkeypatch.setattr(consumer, "group_metadata", lambda: joined)
        consumer.poll(timeout_ms=24 * 3600 * 1000)
        joined = joined._replace(generation_id=-1)
        rounds = _counted(monkeypatch, KafkaConsumer, "_poll_once")
        consumer.poll(timeout_ms=50)
        assert rounds  # it waits for a join as kafka-python does
    finally:
        consumer.close(autocommit=False, timeout_ms=0)


@pytest.mark.parametrize("state", ["connecting", "five requests to answer", "no leader"])
def test_a_producer_waits_for_a_full_broker_and_for_a_leader(
    silent_broker: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(kafka_bootstrap_servers=f"127.0.0.1:{silent_broker}")
    config = producer_config(settings) | {"enable_idempotence": False, "api_version": (2, 6)}
    producer = KafkaProducer(**config)
    Speedups().end_busy_loops(producer)
    _know_leader(producer, silent_broker, leader=-1 if state == "no leader" else 1)
    try:
        producer.send(PARTITION.topic, value=b"record", partition=PARTITION.partition)
        connection = _connection(producer) if state != "no leader" else None
        if connection is not None and state == "five requests to answer":
            connection.connected, connection.initializing, connection.paused = True, False, {"max_in_flight"}
        turns = _counted(monkeypatch, Sender, "run_once")
        time.sleep(0.5)  # the test counts how often kafka-python's thread loops in this time
        assert len(turns) < 200  # ten thousand and more without our change
        assert turns or state == "no leader"  # for a leader, it waits until the metadata may be requested again
    finally:
        producer._sender.force_close()
        producer._sender.join(60)
        producer._closed = True


def _counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[None]:
    """Return a list that gets an entry for each call of the method from now on."""
    calls: list[None] = []
    method = getattr(owner, name)

    def counting(*arguments: Any, **named: Any) -> Any:
        calls.append(None)
        return method(*arguments, **named)

    monkeypatch.setattr(owner, name, counting)
    return calls


def _know_leader(producer: KafkaProducer, port: int, leader: int) -> None:
    topic = MetadataResponse.MetadataResponseTopic
    partition = topic.MetadataResponsePartition(
        error_code=0, partition_index=0, leader_id=leader, leader_epoch=0, replica_nodes=[1], isr_nodes=[1], offline_replicas=[]
    )
    producer._metadata._brokers = {1: MetadataResponse.MetadataResponseBroker(1, "127.0.0.1", port, None)}
    producer._metadata._partitions = {PARTITION.topic: {0: partition}}


def _connection(producer: KafkaProducer) -> Any:
    connections = producer._sender._client._manager._conns
    wait_until(lambda: 1 in connections)
    return connections[1]
