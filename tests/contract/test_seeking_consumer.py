"""A group member that seeks back and forth in its partitions, on a broker.

Most tests take a second or more: on the embedded broker, a join takes half a session timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.producer import Producer
from pipeline.broker.seeking_consumer import FetchedPage, SeekingConsumer
from pipeline.ops.settings import Settings
from schemas.topics import TopicSpec
from tests.waiting import until


@pytest.fixture
async def settings(bootstrap_servers: str, topic_prefix: str) -> Settings:
    found = Settings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_replication_factor=1,
        kafka_session_timeout_ms=6000,
        kafka_fetch_max_wait_ms=100,  # the embedded broker is polled: at 30 ms, this takes half a core
    )

    def create() -> None:
        with KafkaTopicAdmin(found) as admin:
            admin.create_missing([TopicSpec(f"{topic_prefix}held", "any", "delete", 3_600_000, partitions=2, broker_time=True)])

    await asyncio.to_thread(create)
    return found


@pytest.fixture
async def producer(settings: Settings, topic_prefix: str) -> AsyncIterator[Producer]:
    producer = Producer(open_broker(settings), [f"{topic_prefix}held"])
    await producer.start()
    yield producer
    await producer.close()


class Member:
    """A consumer and its partitions."""

    def __init__(self, settings: Settings, prefix: str) -> None:
        self.held: set[int] = set()
        self.consumer = SeekingConsumer(
            open_broker(settings),
            group=f"{prefix}group",
            topic=f"{prefix}held",
            on_assigned=self.held.update,
            on_revoked=self.held.difference_update,
        )

    async def until_holding(self, count: int) -> None:
        await until(lambda: len(self.held) == count, lambda: f"it holds {self.held}")

    async def read(self, partition: int, offset: int | None, until: int) -> list[int]:
        """Read from one offset to another; returns the offsets read."""
        found: list[int] = []
        while not found or found[-1] < until - 1:
            fetched = await asyncio.wait_for(self.consumer.fetch(partition, offset, 0.1), 30)
            found += [record.offset for record in fetched.records]
            offset = fetched.next
        return found


@asynccontextmanager
async def member(settings: Settings, prefix: str) -> AsyncIterator[Member]:
    one = Member(settings, prefix)
    await one.consumer.start()
    try:
        yield one
    finally:
        await one.consumer.stop()


async def write(producer: Producer, prefix: str, partition: int, count: int, size: int = 10) -> None:
    sent = [producer.send(f"{prefix}held", key=b"7", value=b"x" * size, partition=partition) for _ in range(count)]
    assert {position.partition for position in await asyncio.gather(*sent)} == {partition}


async def test_records_can_be_read_repeatedly(settings: Settings, producer: Producer, topic_prefix: str) -> None:
    await write(producer, topic_prefix, 0, 300, size=5_000)
    async with member(settings, topic_prefix) as one:
        await one.until_holding(2)
        everything = list(range(300))
        assert await one.read(0, None, 300) == everything
        assert await one.read(0, 40, 300) == everything[40:]
        assert await one.read(0, 7, 300) == everything[7:]
        # At the end it returns no records after its timeout, or those that arrive.
        empty = await asyncio.wait_for(one.consumer.fetch(0, 300, 0.0), 30)
        assert empty == FetchedPage([], 300, is_end=True)
        waiting = asyncio.create_task(one.consumer.fetch(0, 300, 30.0))
        await write(producer, topic_prefix, 0, 1)
        assert [record.offset for record in (await asyncio.wait_for(waiting, 30)).records] == [300]
        # An empty partition ends at its start.
        assert await asyncio.wait_for(one.consumer.fetch(1, None, 0.0), 30) == FetchedPage([], 0, is_end=True)
        assert one.consumer.problem() is None


async def test_the_next_member_starts_at_the_committed_offsets_only(
    settings: Settings, producer: Producer, topic_prefix: str
) -> None:
    await write(producer, topic_prefix, 0, 50)
    async with member(settings, topic_prefix) as one:
        await one.until_holding(2)
        assert await one.read(0, None, 50) == list(range(50))
    async with member(settings, topic_prefix) as two:
        await two.until_holding(2)
        assert await two.read(0, None, 50) == list(range(50)), "reading commits nothing"
        two.consumer.commit(0, 20)
    async with member(settings, topic_prefix) as three:
        await three.until_holding(2)
        assert await three.read(0, None, 50) == list(range(20, 50))


async def test_two_members_share_the_partitions_and_one_takes_them_over(
    settings: Settings, producer: Producer, topic_prefix: str
) -> None:
    await write(producer, topic_prefix, 0, 5)
    await write(producer, topic_prefix, 1, 5)
    async with member(settings, topic_prefix) as one:
        await one.until_holding(2)
        async with member(settings, topic_prefix) as two:
            await asyncio.gather(one.until_holding(1), two.until_holding(1))
            assert one.held | two.held == {0, 1}
            for each in (one, two):
                [partition] = each.held
                assert await each.read(partition, None, 5) == list(range(5))
        await one.until_holding(2)
        for partition in (0, 1):
            assert await one.read(partition, 0, 5) == list(range(5))
