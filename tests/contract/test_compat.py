"""The cost of a consumer's polls, with and without records."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import kafka.consumer.group
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.net.selector import NetworkSelector

from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.kafka.compat import Speedups
from pipeline.broker.kafka.config import consumer_config
from pipeline.broker.producer import Producer
from pipeline.ops.settings import Settings
from schemas.topics import TopicSpec

POLLS = 40


async def test_an_empty_poll_waits_and_leaves_no_garbage(bootstrap_servers: str, topic_prefix: str) -> None:
    # A fetch holds references to the polls that waited for it: it must end soon.
    settings = Settings(kafka_bootstrap_servers=bootstrap_servers, kafka_replication_factor=1, kafka_fetch_max_wait_ms=20)
    topic = TopicSpec(f"{topic_prefix}quiet", "any", "delete", 60_000, partitions=1)
    await asyncio.to_thread(_create, settings, topic)
    consumer = await asyncio.to_thread(_consumer, settings, topic)
    try:
        started = time.monotonic()
        left = await asyncio.to_thread(_garbage_of_polls, consumer)
        assert time.monotonic() - started > POLLS * 0.005
        assert left < POLLS  # without the quiet end: 200 objects per poll, which waits several times

        producer = Producer(open_broker(settings), [topic.name])
        await producer.start()
        await producer.send(topic.name, key=b"k", value=b"came")
        await producer.close()
        polled = await asyncio.to_thread(consumer.poll, timeout_ms=10_000)
        assert [record.value for records in polled.values() for record in records] == [b"came"]
    finally:
        await asyncio.to_thread(consumer.close)


async def test_a_poll_uses_no_other_thread(bootstrap_servers: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(kafka_bootstrap_servers=bootstrap_servers, kafka_replication_factor=1)
    topic = TopicSpec(f"{topic_prefix}asked", "any", "delete", 60_000, partitions=1)
    await asyncio.to_thread(_create, settings, topic)
    consumer = await asyncio.to_thread(_consumer, settings, topic)
    asked = 0
    run = NetworkSelector.run

    def count(loop: NetworkSelector, *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return run(loop, *arguments)

    monkeypatch.setattr(NetworkSelector, "run", count)
    try:
        for _ in range(POLLS):
            await asyncio.to_thread(consumer.poll, timeout_ms=1)
        assert asked == 0  # without the cheap wait: three times per poll and more
        assert consumer._net._io_thread is None
    finally:
        await asyncio.to_thread(consumer.close)


async def test_a_poll_waits_for_the_leader_of_a_new_partition(
    bootstrap_servers: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(kafka_bootstrap_servers=bootstrap_servers, kafka_replication_factor=1)
    topic = TopicSpec(f"{topic_prefix}led", "any", "delete", 60_000, partitions=1)
    await asyncio.to_thread(_create, settings, topic)
    producer = Producer(open_broker(settings), [topic.name])
    await producer.start()
    await producer.send(topic.name, key=b"k", value=b"waits")
    await producer.close()
    consumer = await asyncio.to_thread(_reader, settings)
    slept = 0
    sleep = time.sleep

    def count(seconds: float) -> None:
        nonlocal slept
        slept += 1
        sleep(seconds)

    monkeypatch.setattr(kafka.consumer.group.time, "sleep", count)
    try:
        consumer.assign([TopicPartition(topic.name, 0)])
        consumer.seek(TopicPartition(topic.name, 0), 0)
        polled = await asyncio.to_thread(consumer.poll, timeout_ms=30_000)
        assert [record.value for records in polled.values() for record in records] == [b"waits"]
        # On Apache Kafka, without the wait for the leader: ten times 100 ms, in which no client asks for it. (The embedded broker names all
        # leaders at the start.)
        assert slept == 0
    finally:
        await asyncio.to_thread(consumer.close)


def _reader(settings: Settings) -> KafkaConsumer:
    consumer = KafkaConsumer(**consumer_config(settings) | {"group_id": None})
    Speedups().speed_up_reader(consumer)
    return consumer


def _consumer(settings: Settings, topic: TopicSpec) -> KafkaConsumer:
    consumer = _reader(settings)
    partition = TopicPartition(topic.name, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    while consumer.highwater(partition) is None:  # until it has fetched once: from now on it waits only for records
        assert consumer.poll(timeout_ms=100) == {}
    return consumer


def _garbage_of_polls(consumer: KafkaConsumer) -> int:
    gc.collect()
    gc.disable()
    try:
        for _ in range(POLLS):
            assert consumer.poll(timeout_ms=5) == {}
        return gc.collect()
    finally:
        gc.enable()


def _create(settings: Settings, topic: TopicSpec) -> None:
    with KafkaTopicAdmin(settings) as admin:
        admin.create_missing([topic])
