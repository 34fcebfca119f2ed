"""A worker handles only records that still belong to it, and reports how it ended."""

from __future__ import annotations

import asyncio

from pipeline.broker.api import Partition, Record
from pipeline.broker.consumer import ConsumerOptions
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.record_worker import RecordWorker
from tests.unit.fake_kafka import record


async def test_a_record_that_now_belongs_to_another_process_is_not_handled() -> None:
    dealt_with: list[int] = []

    async def handle(record: Record) -> None:
        dealt_with.append(record.offset)

    worker = RecordWorker(
        MemoryBroker(),
        handle,
        ConsumerOptions(
            group="group",
            topics=["orders"],
            max_outstanding=10,
            max_outstanding_bytes=1000,
        ),
    )
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


async def test_a_record_in_doubt_waits_until_the_group_has_confirmed() -> None:
    dealt_with = asyncio.Event()

    async def handle(_: Record) -> None:
        dealt_with.set()

    worker = RecordWorker(
        MemoryBroker(),
        handle,
        ConsumerOptions(
            group="group",
            topics=["orders"],
            max_outstanding=10,
            max_outstanding_bytes=1000,
        ),
    )
    consumer = worker.consumer
    consumer._loop = asyncio.get_running_loop()
    mine = Partition("orders", 0)
    consumer._assignment.assign([mine])
    epoch = consumer._assignment.epoch(mine)
    assert epoch is not None
    running = asyncio.create_task(worker._run(record(b"{}")._replace(partition=mine, epoch=epoch)))
    await asyncio.sleep(0)
    consumer._wake_waiting()
    await asyncio.sleep(0)
    assert not dealt_with.is_set()
    consumer._member.lease.prove(consumer._broker.clock())
    consumer._wake_waiting()
    await asyncio.wait_for(running, 60)
    assert dealt_with.is_set()


async def test_records_that_arrive_while_others_wait_are_begun_after_them() -> None:
    """The order of a key's events depends on it."""
    dealt_with: list[int] = []

    async def handle(record: Record) -> None:
        dealt_with.append(record.offset)

    options = ConsumerOptions(group="group", topics=["orders"], max_outstanding=10, max_outstanding_bytes=1000)
    worker = RecordWorker(MemoryBroker(), handle, options)
    consumer = worker.consumer
    consumer._loop = asyncio.get_running_loop()
    mine = Partition("orders", 0)
    consumer._assignment.assign([mine])
    epoch = consumer._assignment.epoch(mine)
    assert epoch is not None

    def run(offset: int) -> asyncio.Task[None]:
        return asyncio.create_task(worker._run(record(b"{}")._replace(partition=mine, epoch=epoch, offset=offset)))

    running = [run(1), run(2)]
    await asyncio.sleep(0)
    consumer._member.lease.prove(consumer._broker.clock())
    running.append(run(3))  # the lease is valid again, but the waiting records have not been notified yet
    await asyncio.sleep(0)
    assert dealt_with == []
    consumer._wake_waiting()
    await asyncio.wait_for(asyncio.gather(*running), 60)
    assert dealt_with == [1, 2, 3]
