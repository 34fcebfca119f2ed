"""Writers: where records are written, in which order they are acknowledged, and how each refusal is reported."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

import pytest

from pipeline.broker.api import Partition, Pending, ProducerClient
from pipeline.broker.errors import PublishError, UnavailableError
from pipeline.broker.factory import open_broker
from schemas.topics import TopicSpec
from tests.contract.broker.backends import Backend, RealBackend, numbered, read, settled
from tests.contract.broker.conftest import CLIENTS
from tests.waiting import wait_until


def test_records_of_a_partition_are_acknowledged_in_order(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    writer = backend.writer(topic)
    sent = [writer.send(topic, number % 2, None, value, (), None) for number, value in enumerate(numbered(1_000))]
    while not all(pending.is_done for pending in sent):
        writer.serve()
        for line in (sent[0::2], sent[1::2]):
            # From the last to the first, so that acknowledgements during this check cannot look out of order.
            done = [pending.is_done for pending in reversed(line)]
            assert sorted(done) == done, "a record was acknowledged before an earlier one"
    positions = [writer.position(pending) for pending in sent]
    assert [(each.topic, each.partition, each.offset) for each in positions] == [
        (topic, number % 2, number // 2) for number in range(1_000)
    ]
    reader = backend.reader({Partition(topic, 0): 0, Partition(topic, 1): 0})
    found = read(reader, 1_000)
    assert [record.value for record in found[Partition(topic, 1)]] == numbered(1_000)[1::2]


def test_the_key_determines_the_partition(backend: Backend) -> None:
    topic = backend.topic(partitions=5)
    writer = backend.writer(topic)
    keys = [f"R{number}".encode() for number in range(40)]
    first = settled(writer, [writer.send(topic, None, key, b"", (), None) for key in keys])
    second = settled(writer, [writer.send(topic, None, key, b"", (), None) for key in keys])
    assert [each.partition for each in first] == [each.partition for each in second]
    assert len({each.partition for each in first}) > 1


def test_all_clients_choose_the_same_partition(kafka: RealBackend) -> None:
    topic = kafka.topic(partitions=5)
    keys = [f"R{number}".encode() for number in range(40)]
    chosen = []
    for client in CLIENTS:
        writer = open_broker(kafka.settings.model_copy(update={"kafka_client": client})).producer_client([topic])
        chosen.append(
            [each.partition for each in settled(writer, [writer.send(topic, None, key, b"", (), None) for key in keys])]
        )
        writer.close(10)
    assert chosen[0] == chosen[1]


def test_the_partitions_of_a_topic_are_known(backend: Backend) -> None:
    topic = backend.topic(partitions=3)
    assert set(backend.writer(topic).partitions(topic)) == {0, 1, 2}


def test_a_missing_topic_has_no_known_partitions(backend: Backend) -> None:
    backend.lacks("makes topics that are asked for")
    topic = backend.topic()
    writer = backend.writer(topic)
    with pytest.raises(UnavailableError):
        writer.partitions(f"{topic}-missing")


def test_a_missing_partition_is_refused(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    writer = backend.writer(topic)
    with pytest.raises(PublishError, match=topic):
        settled(writer, [writer.send(topic, 7, None, b"nowhere", (), None)])
    assert settled(writer, [writer.send(topic, 1, None, b"there", (), None)])[0].offset == 0


def test_added_partitions_become_known(backend: Backend) -> None:
    backend.lacks("adds no partitions")
    topic = backend.topic(partitions=1)
    writer = backend.writer(topic)
    assert set(writer.partitions(topic)) == {0}
    with backend.broker().admin() as admin:
        admin.grow(admin.planned_growth([TopicSpec(topic, "any", "delete", 60_000)], 3))

    def are_known() -> bool:
        writer.serve()
        return set(writer.partitions(topic)) == {0, 1, 2}

    wait_until(are_known)


def test_closing_sends_remaining_records(backend: Backend) -> None:
    topic = backend.topic()
    writer = backend.writer(topic)
    sent = [writer.send(topic, 0, None, value, (), None) for value in numbered(100)]
    writer.close(30)
    assert all(pending.is_done for pending in sent)
    assert [writer.position(pending).offset for pending in sent] == list(range(100))


@pytest.mark.apache
def test_a_refused_record_does_not_affect_others(kafka: RealBackend) -> None:
    topic = kafka.topic_with({"max.message.bytes": "2000"})
    writer = kafka.writer(topic)
    before = settled(writer, [writer.send(topic, 0, None, b"before", (), None)])
    refused = writer.send(topic, 0, None, os.urandom(50_000), (), None)  # random bytes cannot be compressed
    with pytest.raises(PublishError, match=f"does not accept a record for {topic}: "):
        settled(writer, [refused])
    after = settled(writer, [writer.send(topic, 0, None, b"after", (), None)])
    assert [each.offset for each in before + after] == [0, 1]


@pytest.mark.apache
def test_records_in_progress_with_a_refused_record_are_written(kafka: RealBackend) -> None:
    topic, other = kafka.topic_with({"max.message.bytes": "2000"}), kafka.topic(partitions=2)
    partitions = (Partition(topic, 0), Partition(other, 0), Partition(other, 1))
    writer = kafka.writer(topic, other)
    sent: dict[Partition, list[Pending]] = {}
    refused: list[Pending] = []
    for number in range(600):
        if number in {50, 51, 300}:
            refused.append(writer.send(topic, 0, None, os.urandom(50_000), (), None))
        partition = partitions[number % 3]
        sent.setdefault(partition, []).append(writer.send(*partition, None, str(number).encode(), (), None))
        if number % 10 == 0:
            writer.serve()
            time.sleep(0.005)  # so that some are acknowledged, some in progress, and some held
    wait_until(lambda: _served(writer, refused, all))
    for pending in refused:
        with pytest.raises(PublishError):
            writer.position(pending)
    for partition, pendings in sent.items():
        offsets = [each.offset for each in settled(writer, pendings)]
        if kafka.settings.kafka_client == "kafka-python" or partition.topic == other:
            assert offsets == sorted(offsets)
        found = {record.offset: record.value for record in read(kafka.reader({partition: 0}), max(offsets) + 1)[partition]}
        assert [found[offset] for offset in offsets] == [
            str(number).encode() for number in range(600) if partitions[number % 3] == partition
        ]


def _served(writer: ProducerClient, sent: list[Pending], which: Callable[[Iterable[bool]], bool]) -> bool:
    writer.serve()
    return which(pending.is_done for pending in sent)


@pytest.mark.apache
def test_a_writer_can_be_closed_while_a_record_is_refused(kafka: RealBackend) -> None:
    topic = kafka.topic_with({"max.message.bytes": "2000"})
    writer = kafka.writer(topic)
    sent = [writer.send(topic, 0, None, os.urandom(50_000) if number == 1 else b"small", (), None) for number in range(20)]
    wait_until(lambda: _served(writer, sent, any))
    sent += [writer.send(topic, 0, None, b"late", (), None) for _ in range(20)]
    writer.close(30)
    assert all(pending.is_done for pending in sent)
    with pytest.raises(PublishError):
        writer.position(sent[1])
    assert all(writer.position(pending).topic == topic for pending in sent[:1] + sent[2:])


@pytest.mark.apache
def test_the_broker_sets_timestamps_if_the_topic_says_so(kafka: RealBackend) -> None:
    by_broker = kafka.topic_with({"message.timestamp.type": "LogAppendTime"})
    by_writer = kafka.topic(name="by-writer")
    writer = kafka.writer(by_broker, by_writer)
    stamped = 1_700_000_000_123
    found = settled(writer, [writer.send(topic, 0, None, b"", (), stamped) for topic in (by_broker, by_writer)])
    assert found[0].timestamp_ms > stamped + 1_000_000
    assert found[1].timestamp_ms == stamped


def test_no_broker_is_reachable(kafka: RealBackend) -> None:
    settings = kafka.settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(UnavailableError, match="No Kafka broker can be used"):
        open_broker(settings).producer_client(["any"])
    with pytest.raises(UnavailableError, match="No Kafka broker can be used"):
        open_broker(settings).fetch_client(partition_bytes=1024)
