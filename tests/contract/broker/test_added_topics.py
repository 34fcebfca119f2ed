"""Topics added to a running group: every client reads all of them, and keeps its partitions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from pipeline.broker.api import Broker, Committed, Partition, Record
from pipeline.broker.consumer import ConsumerOptions, GroupConsumer
from pipeline.broker.factory import open_broker
from pipeline.broker.readable_topics import check_topics
from tests.contract.broker.backends import Backend, Heard, RealBackend, take_part
from tests.waiting import until


def test_a_member_keeps_its_partitions_when_it_subscribes_to_more_topics(backend: Backend) -> None:
    first, second = backend.topic(partitions=2), backend.topic(partitions=2, name="added")
    gone: list[Partition] = []

    class Keeping(Heard):
        def revoked(self, partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
            gone.extend(partitions)
            return super().revoked(partitions)

    heard = Keeping()
    member = backend.member(first, heard)
    take_part([member], lambda: len(heard.held) == 2)
    member.subscribe([first, second])
    if backend.forgets_joins:
        member.poll(10.0)  # the whole join in one poll: the next one would forget it (takes seconds on the embedded broker)
    take_part([member], lambda: len(heard.held) == 4)
    assert heard.held == {Partition(topic, number) for topic in (first, second) for number in range(2)}
    assert gone == []


@pytest.mark.apache
def test_a_member_alone_also_keeps_them_with_the_public_api(kafka: RealBackend) -> None:
    """kafka-python waits for the join only in the poll that starts it: with polls of 0 seconds, it never ended."""
    if kafka.settings.kafka_client != "kafka-python":
        pytest.skip("only kafka-python has speed-ups")
    kafka.settings = kafka.settings.model_copy(update={"kafka_speedups": False})
    test_a_member_keeps_its_partitions_when_it_subscribes_to_more_topics(kafka)


def test_members_that_know_different_topics_share_them(backend: Backend) -> None:
    backend.lacks("when the leader of a group joins again, it does not tell the others, and waits for them")
    if backend.forgets_joins:
        pytest.skip("kafka-python without speed-ups: waits for a join only in the poll that begins it")
    first, second = backend.topic(partitions=4), backend.topic(partitions=4, name="added")
    knowing, unknowing = Heard(), Heard()
    members = [backend.member(first, knowing), backend.member(first, unknowing)]
    take_part(members, lambda: len(knowing.held) + len(unknowing.held) == 4)
    members[0].subscribe([first, second])
    take_part(members, lambda: len(knowing.held | unknowing.held) == 8)
    assert {partition.topic for partition in unknowing.held} <= {first}
    members[1].subscribe([first, second])
    take_part(members, lambda: len(knowing.held | unknowing.held) == 8 and len(knowing.held) == len(unknowing.held))


def test_whether_topics_are_readable_is_known_without_a_group(backend: Backend) -> None:
    empty, full = backend.topic(), backend.topic(name="full")
    backend.write(Partition(full, 0), b"x")
    found = check_topics(backend.broker(), [empty, full, f"{backend.prefix}nowhere"])
    assert (list(found.readable), list(found.missing), found.refused) == ([empty, full], [f"{backend.prefix}nowhere"], {})


@pytest.mark.slow  # joins on the embedded broker take half a session timeout each
@pytest.mark.parametrize("speedups", [True, False])
async def test_two_processes_read_an_added_topic_once(kafka: RealBackend, speedups: bool) -> None:
    if not speedups and kafka.settings.kafka_client != "kafka-python":
        pytest.skip("only kafka-python has them")
    settings = kafka.settings.model_copy(update={"kafka_speedups": speedups})
    first, second = kafka.topic(partitions=2), kafka.topic(partitions=2, name="added")
    began: Counter[tuple[str, bytes | None]] = Counter()
    # If a join gets stuck, the member joins again, and repeats what was in progress: without the speed-ups, kafka-python sometimes
    # forgets a join, and the embedded broker does not notify members of one.
    is_exact = speedups and not kafka.is_embedded

    def write(topic: str, wave: str) -> None:
        for number in range(2):
            kafka.write(Partition(topic, number), *(f"{wave}-{number}-{each}".encode() for each in range(20)))

    async def all_are_committed() -> bool:
        return await asyncio.to_thread(kafka.committed_records) >= 200

    async with (
        _process(open_broker(settings), kafka.group, first, began) as one,
        _process(open_broker(settings), kafka.group, first, began) as other,
    ):
        await asyncio.to_thread(write, first, "a")
        await until(lambda: len(began) == 40)
        await asyncio.to_thread(write, second, "before")
        one.add_topics([second])
        await asyncio.to_thread(write, second, "between")
        await asyncio.sleep(0.3)  # either order is right: the other one notices while the first one joins, or later
        other.add_topics([second])
        await asyncio.to_thread(write, first, "b")
        await asyncio.to_thread(write, second, "after")
        await until(lambda: len(began) == 200)
        assert one.problem() is None
        # During a join, no member commits.
        if is_exact:
            await until(all_are_committed)
    if is_exact:
        assert set(began.values()) == {1}, began.most_common(5)
    kafka.lacks("lets nobody join for long when all members of a group with several topics have left")
    async with _process(open_broker(settings), kafka.group, first, began, also=[second]):
        await asyncio.to_thread(write, second, "restarted")
        await until(lambda: len(began) == 240)
    if is_exact:
        assert set(began.values()) == {1}, began.most_common(5)


@pytest.mark.apache
@pytest.mark.timeout(180)
async def test_a_static_member_that_died_before_joining_with_a_topic_still_reads_it(kafka: RealBackend) -> None:
    first, second = kafka.topic(partitions=2), kafka.topic(partitions=2, name="added")
    heard = Heard()
    killed = kafka.broker("a").group_client(kafka.group, [first], heard)
    await asyncio.to_thread(take_part, [killed], lambda: len(heard.held) == 2)
    await asyncio.to_thread(killed.close, leave=False)
    await asyncio.to_thread(kafka.write, Partition(second, 1), b"x")
    began: Counter[tuple[str, bytes | None]] = Counter()
    async with _process(kafka.broker("a"), kafka.group, first, began, also=[second]):
        await until(lambda: began[second, b"x"] == 1)


@asynccontextmanager
async def _process(
    broker: Broker, group: str, topic: str, began: Counter[tuple[str, bytes | None]], also: Sequence[str] = ()
) -> AsyncIterator[GroupConsumer]:
    consumer: GroupConsumer

    def begin(records: list[Record]) -> None:
        for record in records:
            if consumer.is_current(record):
                began[record.partition.topic, bytes(record.value or b"")] += 1
            consumer.finish(record)

    options = ConsumerOptions(group=group, topics=[topic], max_outstanding=100, max_outstanding_bytes=1024 * 1024)
    consumer = GroupConsumer(broker, options, on_records=begin)
    consumer.add_topics(also)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop(5)
