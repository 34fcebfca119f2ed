"""A worker deals with what is still its own, and tells how it ended."""

from __future__ import annotations

import asyncio

from pipeline.broker.api import Partition, Record
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.worker import Worker
from tests.unit.fake_kafka import record


async def test_a_record_that_is_somebody_elses_by_now_is_not_dealt_with() -> None:
    dealt_with: list[int] = []

    async def handle(record: Record) -> None:
        dealt_with.append(record.offset)

    worker = Worker(MemoryBroker(), handle, group="group", topics=["orders"], max_outstanding=10, max_outstanding_bytes=1000)
    consumer = worker.consumer
    consumer._loop = asyncio.get_running_loop()
    mine, former = Partition("orders", 0), Partition("orders", 1)
    consumer._assignment.assign([mine])
    consumer._member.lease.prove(consumer._broker.clock())
    epoch = consumer._assignment.epoch(mine)
    assert epoch is not None
    for partition, number in ((mine, epoch), (mine, epoch - 1), (former, epoch)):
        taken = record(b"{}")._replace(partition=partition, epoch=number, offset=number + 10 * partition.number)
        await worker._run(taken)
    assert dealt_with == [epoch]


async def test_what_is_in_doubt_waits_until_the_group_has_confirmed() -> None:
    dealt_with = asyncio.Event()

    async def handle(_: Record) -> None:
        dealt_with.set()

    worker = Worker(MemoryBroker(), handle, group="group", topics=["orders"], max_outstanding=10, max_outstanding_bytes=1000)
    consumer = worker.consumer
    consumer._loop = asyncio.get_running_loop()
    mine = Partition("orders", 0)
    consumer._assignment.assign([mine])
    epoch = consumer._assignment.epoch(mine)
    assert epoch is not None
    running = asyncio.create_task(worker._run(record(b"{}")._replace(partition=mine, epoch=epoch)))
    await asyncio.sleep(0)
    consumer._look_again()
    await asyncio.sleep(0)
    assert not dealt_with.is_set()
    consumer._member.lease.prove(consumer._broker.clock())
    consumer._look_again()
    await asyncio.wait_for(running, 5)
    assert dealt_with.is_set()
