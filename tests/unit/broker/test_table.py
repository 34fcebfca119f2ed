"""A table whose position is not in its log ends and says why. One that may no longer be read keeps its content."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.broker.api import Partition, Record
from pipeline.broker.errors import RefusedError, TopicError, UnavailableError
from pipeline.broker.memory.broker import MemoryBroker, MemoryFetchClient
from pipeline.broker.memory.cluster import Cluster
from pipeline.broker.table import CompactedTable

TOPIC = "webhooks.rate-shares"
ONLY = Partition(TOPIC, 0)


class World:
    """A table that a test moves step by step, and that has read ten records."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.cluster.create(TOPIC, 1)
        self.broker = MemoryBroker(self.cluster)
        self.table = CompactedTable(self.broker, TOPIC, lambda _: None)
        self.table._loop = asyncio.get_running_loop()
        self.table._caught_up = self.table._loop.create_future()
        self.client = MemoryFetchClient(self.broker)
        self.write(10)
        self.table._begin(self.client)
        self.table._turn(self.client)

    def write(self, count: int) -> None:
        for _ in range(count):
            self.cluster.append(ONLY, b"key", b"value")


async def test_records_that_retention_removed_are_not_called_a_lost_end() -> None:
    world = World()
    world.write(20)
    world.cluster.log(ONLY).remove_before(25)
    with pytest.raises(
        TopicError, match=r"Kafka removed records of webhooks\.rate-shares before they were read: offsets 10 to 24"
    ):
        world.table._turn(world.client)


async def test_a_table_that_is_stopping_prepares_no_more_records() -> None:
    world, prepared = World(), list[int]()

    def prepare(record: Record) -> None:
        prepared.append(record.offset)
        world.table._stopping.set()

    world.table._prepare = prepare
    world.write(20)
    world.table._turn(world.client)
    assert prepared == [10]


@pytest.mark.parametrize("is_as_long_again", [False, True])
async def test_a_log_that_lost_its_end_is_reported(is_as_long_again: bool) -> None:
    world = World()
    world.cluster.log(ONLY).truncate(6)
    if is_as_long_again:
        world.write(8)
        world.broker.faults.diverged.add(ONLY)
    with pytest.raises(TopicError, match=r"webhooks\.rate-shares was recreated or has lost records that were already read"):
        world.table._turn(world.client)


async def test_while_the_reason_is_unknown_the_table_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.cluster.log(ONLY).truncate(6)

    def no_leader(_: object) -> None:
        raise UnavailableError("it has no leader")

    with monkeypatch.context() as patch:
        patch.setattr(world.client, "bounds", no_leader)
        world.table._stopping.set()  # so that it does not wait for long
        world.table._turn(world.client)
    with pytest.raises(TopicError):
        world.table._turn(world.client)


async def test_a_table_that_may_no_longer_be_read_keeps_its_content_and_tries_again() -> None:
    world = World()
    world.table._stopping.set()  # so that it does not wait
    world.broker.faults.unreadable.add(TOPIC)
    with pytest.raises(RefusedError):
        world.table._turn(world.client)  # the start fails and names the missing permission
    world.table.is_caught_up = True
    world.table._turn(world.client)
    world.write(1)
    world.broker.faults.unreadable.clear()
    world.table._turn(world.client)
    assert world.table._position == 11
