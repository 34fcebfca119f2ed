"""Readers: which records they return, from which position, in which order, and how many at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.broker.api import OffsetRange, Partition
from pipeline.broker.errors import OutOfRangeError
from tests.contract.broker.backends import Backend, RealBackend, numbered, read, settled
from tests.waiting import wait_until


def test_a_record_is_read_as_it_was_written(backend: Backend) -> None:
    topic = backend.topic()
    writer = backend.writer(topic)
    headers = [("name", b"value"), ("name", b"again"), ("empty", b"")]
    sent = [
        writer.send(topic, 0, b"key", b"value", headers, 1_700_000_000_123),
        writer.send(topic, 0, b"removed", None, (), 1_700_000_000_456),
        writer.send(topic, 0, b"", b"", (), None),
    ]
    positions = settled(writer, sent)
    assert [position.offset for position in positions] == [0, 1, 2]
    reader = backend.reader({Partition(topic, 0): 0})
    first, second, third = read(reader, 3)[Partition(topic, 0)]
    assert (first.topic, first.offset, first.key, first.value) == (topic, 0, b"key", b"value")
    assert [tuple(header) for header in first.headers] == headers
    assert (second.offset, second.key, second.value, list(second.headers)) == (1, b"removed", None, [])
    assert (third.key, third.value) == (b"", b"")
    if isinstance(backend, RealBackend):  # the broker in memory has its own clock
        assert (first.timestamp, second.timestamp) == (1_700_000_000_123, 1_700_000_000_456)
        assert third.timestamp > 1_700_000_000_456


def test_reading_starts_at_the_given_position(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    one, other = Partition(topic, 0), Partition(topic, 1)
    backend.write(one, *numbered(10))
    backend.write(other, *numbered(10))
    reader = backend.reader({one: 4})
    assert [record.offset for record in read(reader, 6)[one]] == [4, 5, 6, 7, 8, 9]
    reader.assign({one: 0, other: 8})  # the first partition continues at its position
    assert [record.offset for record in read(reader, 2)[other]] == [8, 9]
    backend.write(one, b"more")
    assert {partition: [record.offset for record in records] for partition, records in read(reader, 1).items()} == {one: [10]}
    reader.assign({other: 0})
    backend.write(one, b"unread")
    backend.write(other, b"read")
    assert {partition: [record.offset for record in records] for partition, records in read(reader, 1).items()} == {other: [10]}


def test_seeking_drops_records_fetched_ahead(backend: Backend) -> None:
    topic = backend.topic()
    partition = Partition(topic, 0)
    backend.write(partition, *numbered(2_000, 100))
    reader = backend.reader({partition: 0})
    taken = read(reader, 1)[partition]
    for offset in (0, 3, len(taken) // 2, 1_999, 7):
        reader.seek(partition, offset)
        assert reader.position(partition) == offset
        again = read(reader, min(500, 2_000 - offset))[partition]
        assert [record.offset for record in again] == list(range(offset, offset + len(again)))


def test_another_thread_can_wake_a_waiting_reader(backend: Backend) -> None:
    topic = backend.topic()
    partition = Partition(topic, 0)
    reader = backend.reader({partition: 0})
    # A minute: without the wake, this test would take that long. If a poll cannot be interrupted, none may be long.
    seconds = 60.0 if reader.longest_poll >= 1.0 else reader.longest_poll
    with ThreadPoolExecutor(1) as other:
        for _ in range(3):
            waiting = other.submit(reader.poll, seconds)
            reader.wake()  # before or during the wait: either ends the poll
            assert waiting.result(30) == {}
    reader.allow_long_polls()
    backend.write(partition, b"came")
    assert [record.value for record in read(reader, 1)[partition]] == [b"came"]


def test_resting_loses_no_record_and_reads_none_twice(backend: Backend) -> None:
    topic = backend.topic()
    partition = Partition(topic, 0)
    backend.write(partition, *numbered(2_000, 100))
    reader = backend.reader({partition: 0})
    seen: list[int] = []
    while len(seen) < 2_000:
        seen += [record.offset for record in read(reader, 1).get(partition, ())]
        reader.pause([partition])
        for _ in range(5):
            reader.idle()
        reader.pause([])
    assert seen == list(range(2_000))
    reader.idle()  # though it is not paused
    backend.write(partition, *numbered(10))
    for _ in range(20):
        reader.idle()
    assert [record.offset for record in read(reader, 10)[partition]] == list(range(2_000, 2_010))


def test_a_paused_partition_waits_and_loses_nothing(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    one, other = Partition(topic, 0), Partition(topic, 1)
    backend.write(one, *numbered(2_000, 100))
    reader = backend.reader({one: 0, other: 0})
    seen: list[int] = []
    while len(seen) < 2_000:
        seen += [record.offset for record in read(reader, 1).get(one, ())]
        reader.pause([one])
        written = backend.write(other, b"of the other")[0]
        while True:
            polled = reader.poll(0.1)
            assert one not in polled
            if other in polled:
                assert polled[other][-1].offset == written.offset
                break
        reader.pause([])
        if len(seen) < 1_000:
            reader.seek(one, len(seen))
    assert seen == list(range(2_000))


def test_a_partition_paused_before_a_seek_stays_paused(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    one, other = Partition(topic, 0), Partition(topic, 1)
    backend.write(one, *numbered(10))
    reader = backend.reader({one: 0, other: 0})
    read(reader, 10)
    reader.pause([one])
    reader.seek(one, 2)
    backend.write(other, b"of the other")
    assert set(read(reader, 1)) == {other}
    reader.pause([])
    assert [record.offset for record in read(reader, 8)[one]] == list(range(2, 10))


def test_a_partition_given_up_while_paused_is_read_when_it_comes_back(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    one, other = Partition(topic, 0), Partition(topic, 1)
    backend.write(one, *numbered(10))
    backend.write(other, *numbered(10))
    reader = backend.reader({one: 0, other: 0})
    read(reader, 20)
    reader.pause([one, other])
    reader.assign({other: 10})
    reader.pause([])
    reader.assign({one: 5, other: 10})
    assert [record.offset for record in read(reader, 5)[one]] == [5, 6, 7, 8, 9]


def test_the_end_is_known_after_a_fetch(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    full, empty = Partition(topic, 0), Partition(topic, 1)
    backend.write(full, *numbered(5))
    reader = backend.reader({full: 0, empty: 0})
    read(reader, 5)
    assert reader.end(full) == 5

    def is_known() -> bool:
        assert not reader.poll(0.05)
        return reader.end(empty) == 0 and reader.position(empty) == 0 and reader.position(full) == 5

    wait_until(is_known)


def test_a_position_beyond_the_end_is_reported_until_a_seek(backend: Backend) -> None:
    backend.lacks("never says that a position is out of range")
    topic = backend.topic(partitions=2)
    cut, whole = Partition(topic, 0), Partition(topic, 1)
    backend.write(cut, *numbered(3))
    reader = backend.reader({cut: 30, whole: 0})
    for _ in range(2):
        with pytest.raises(OutOfRangeError) as told:
            wait_until(lambda: bool(reader.poll(0.1)))
        assert told.value.partitions == {cut}
    reader.pause([cut])
    reader.seek(cut, 1)
    backend.write(whole, b"goes on")
    assert set(read(reader, 1)) == {whole}
    reader.pause([])
    assert [record.offset for record in read(reader, 2)[cut]] == [1, 2]


def test_a_position_overtaken_by_retention_is_reported(backend: Backend) -> None:
    topic = backend.topic()
    partition = Partition(topic, 0)
    backend.write(partition, *numbered(10))
    backend.remove_before(partition, 6)
    reader = backend.reader({partition: 2})
    with pytest.raises(OutOfRangeError) as told:
        wait_until(lambda: bool(reader.poll(0.1)))
    assert told.value.partitions == {partition}
    assert reader.bounds([partition]) == {partition: OffsetRange(6, 10)}
    reader.seek(partition, 6)
    assert [record.offset for record in read(reader, 4)[partition]] == [6, 7, 8, 9]


def test_a_record_larger_than_a_fetch_is_returned_alone(backend: Backend) -> None:
    topic = backend.topic()
    partition = Partition(topic, 0)
    large = b"x" * 700_000
    backend.write(partition, b"before", large, b"after")
    reader = backend.reader({partition: 0}, partition_bytes=16 * 1024)
    assert [record.value for record in read(reader, 3)[partition]] == [b"before", large, b"after"]


@pytest.mark.apache
def test_a_poll_is_bounded(kafka: RealBackend) -> None:
    topic = kafka.topic(partitions=8)
    for number in range(8):
        kafka.write(Partition(topic, number), *(os.urandom(100_000) for _ in range(60)))
    reader = kafka.reader({Partition(topic, number): 0 for number in range(8)}, partition_bytes=512 * 1024)
    sizes: list[int] = []
    while sum(sizes) < 8 * 60 * 100_000:
        sizes.append(sum(len(record.value or b"") for records in reader.poll(1.0).values() for record in records))
    assert max(sizes) <= 10 * 1024 * 1024


@pytest.mark.apache
def test_records_of_aborted_transactions_are_not_read(kafka: RealBackend) -> None:
    """The last offset belongs to a marker, not to a record; the position still reaches the end."""
    from kafka import KafkaProducer  # noqa: PLC0415

    topic = kafka.topic()
    partition = Partition(topic, 0)
    producer = KafkaProducer(bootstrap_servers=kafka.settings.kafka_bootstrap_servers, transactional_id=f"{topic}-writer")
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, value=b"kept", partition=0).get(60)
    producer.commit_transaction()
    producer.begin_transaction()
    producer.send(topic, value=b"taken back", partition=0).get(60)
    producer.abort_transaction()
    producer.close()
    committed = kafka.reader({partition: 0}, read_committed=True)
    assert [record.value for record in read(committed, 1)[partition]] == [b"kept"]
    wait_until(lambda: not committed.poll(0.1) and committed.position(partition) == 4 == committed.end(partition))
    everything = kafka.reader({partition: 0})
    assert [record.value for record in read(everything, 2)[partition]] == [b"kept", b"taken back"]
    wait_until(lambda: not everything.poll(0.1) and everything.position(partition) == 4 == everything.end(partition))
