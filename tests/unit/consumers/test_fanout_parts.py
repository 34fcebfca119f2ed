"""An event for very many endpoints: its progress is committed while it is in progress, and another process can continue it."""

from __future__ import annotations

import asyncio
from zlib import crc32

import pytest
from msgspec.structs import replace

from consumers.fanout import FanOut
from pipeline.broker.api import Committed, Partition
from pipeline.broker.assignment import Assignment, StartPosition
from pipeline.broker.errors import PublishError
from pipeline.core.offsets import Commit
from pipeline.core.record_progress import RecordProgress
from schemas.event_codec import decode_event
from tests.unit.consumers.fanout_case import SETTINGS, Scene, dispatch_of
from tests.unit.fake_kafka import settle
from tests.unit.sample_events import endpoint_record, event

PARTITION = Partition("oms.orders", 3)
OFFSET = 41
CHECK = crc32(decode_event(event(), max_bytes=100_000).meta.id.encode())


def scene_of(count: int, *, hold: bool = False, at_once: int = 512) -> Scene:
    settings = SETTINGS.model_copy(update={"max_in_flight": at_once})
    return Scene(*(endpoint_record(number) for number in range(1, count + 1)), hold=hold, settings=settings)


def assignment_of(fan_out: FanOut) -> Assignment:
    return fan_out.worker.consumer._assignment


async def assign_the_partition(fan_out: FanOut, *progress: RecordProgress) -> None:
    """As the consumer's threads do when they hand over the record."""
    consumer, assignment = fan_out.worker.consumer, assignment_of(fan_out)
    consumer._loop = asyncio.get_running_loop()
    assignment.assign([PARTITION])
    assignment.begin(StartPosition(PARTITION, 1, Committed(OFFSET), (), progress))
    assert assignment.start(PARTITION, 1, OFFSET)
    consumer._member.lease.prove(consumer._broker.clock())


def committable(fan_out: FanOut) -> Commit | None:
    fan_out.worker.consumer._member._drain()
    return assignment_of(fan_out).committable().get(PARTITION)


async def test_acknowledged_deliveries_are_committed_while_the_rest_is_in_progress() -> None:
    scene = scene_of(60, at_once=20)
    await assign_the_partition(scene.fan_out)
    scene.delivery_service.gate.clear()
    handling = scene.handling()
    await settle()
    assert [endpoint_id for _, _, endpoint_id, *_ in scene.delivery_service.delivered] == list(range(1, 21)), (
        "in order, and no more at once"
    )
    assert committable(scene.fan_out) is None

    scene.delivery_service.gate.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    scene.delivery_service.gate.clear()
    await settle()

    commit = committable(scene.fan_out)
    assert commit is not None
    assert (commit.offset, commit.finished) == (OFFSET, ())
    [progress] = commit.progress
    assert (progress.offset, progress.check, progress.up_to, progress.but) == (OFFSET, CHECK, 20, ())
    scene.delivery_service.gate.set()
    await handling
    assert len(scene.delivery_service.delivered) == 60


async def test_deliveries_already_done_are_skipped() -> None:
    scene = scene_of(60)
    await assign_the_partition(scene.fan_out, RecordProgress(OFFSET, CHECK, 50, (7, 48)))

    await scene.handling()

    assert [endpoint_id for _, _, endpoint_id, *_ in scene.delivery_service.delivered] == [7, 48, *range(51, 61)]
    [sent] = scene.producer.sent
    assert len(dispatch_of(sent).endpoint_ids) == 60, "the event matched all of them"


async def test_ordered_deliveries_count_as_done_once_kafka_has_them() -> None:
    """Switching ``ordered`` off meanwhile loses nothing: an unacknowledged delivery is not done."""
    scene = Scene(*(replace(endpoint_record(number), ordered=number in (3, 60)) for number in range(1, 61)), hold=True)
    await assign_the_partition(scene.fan_out)
    handling = scene.handling()
    await settle()
    assert len(scene.delivery_service.delivered) == 58
    in_order = scene.producer.to("webhooks.ordered")
    assert [sent.key for sent in in_order] == [b"3/R1", b"60/R1"]
    scene.producer.sent[0].acknowledge()  # the dispatch
    await settle()
    commit = committable(scene.fan_out)
    assert commit is not None
    assert (commit.progress[0].up_to, commit.progress[0].but) == (59, (3,))

    for sent in in_order:
        sent.acknowledge()
    await handling
    commit = committable(scene.fan_out)
    assert commit is not None
    assert (commit.progress[0].up_to, commit.progress[0].but) == (60, ())


async def test_ordered_deliveries_already_done_are_skipped() -> None:
    scene = Scene(*(replace(endpoint_record(number), ordered=number in (3, 7)) for number in range(1, 61)))
    await assign_the_partition(scene.fan_out, RecordProgress(OFFSET, CHECK, 59, (7,)))

    await scene.handling()

    assert [endpoint_id for _, _, endpoint_id, *_ in scene.delivery_service.delivered] == [60]
    assert [sent.key for sent in scene.producer.to("webhooks.ordered")] == [b"7/R1"]


async def test_progress_of_another_event_skips_nobody() -> None:
    scene = scene_of(60)
    await assign_the_partition(scene.fan_out, RecordProgress(OFFSET, CHECK + 1, 50))

    await scene.handling()

    assert len(scene.delivery_service.delivered) == 60


async def test_nothing_counts_as_done_before_the_dispatch_is_acknowledged() -> None:
    scene = scene_of(60, hold=True)
    await assign_the_partition(scene.fan_out)
    handling = scene.handling()
    await settle()
    assert len(scene.delivery_service.delivered) == 60
    assert committable(scene.fan_out) is None

    scene.producer.sent[0].acknowledge()
    await handling
    commit = committable(scene.fan_out)
    assert commit is not None
    assert commit.progress[0].up_to == 60


async def test_nothing_counts_as_done_if_the_dispatch_is_refused() -> None:
    scene = scene_of(60)
    scene.producer.errors["webhooks.dispatches"] = PublishError("too large")
    await assign_the_partition(scene.fan_out)

    with pytest.raises(PublishError):
        await scene.handling()

    assert committable(scene.fan_out) is None


async def test_a_process_that_lost_the_partition_starts_no_more_deliveries() -> None:
    """A process was frozen in the middle of a large event. When it is thawed, the partition belongs to another one."""
    scene = scene_of(60, at_once=20)
    await assign_the_partition(scene.fan_out)
    scene.delivery_service.gate.clear()
    handling = scene.handling()
    await settle()
    assignment_of(scene.fan_out).revoke([PARTITION])

    scene.delivery_service.gate.set()
    await handling

    assert len(scene.delivery_service.delivered) == 20
    assert committable(scene.fan_out) is None


async def test_no_more_deliveries_start_while_membership_is_uncertain() -> None:
    scene = scene_of(60, at_once=20)
    await assign_the_partition(scene.fan_out)
    consumer = scene.fan_out.worker.consumer
    scene.delivery_service.gate.clear()
    handling = scene.handling()
    await settle()
    consumer._member.lease.end()
    scene.delivery_service.gate.set()
    await settle()
    assert len(scene.delivery_service.delivered) == 20

    consumer._member.lease.prove(consumer._broker.clock())
    consumer._wake_waiting()
    await handling
    assert len(scene.delivery_service.delivered) == 60


async def test_an_event_for_few_endpoints_has_no_overhead() -> None:
    scene = scene_of(49)
    await assign_the_partition(scene.fan_out)

    await scene.handling()

    assert len(scene.delivery_service.delivered) == 49
    assert committable(scene.fan_out) is None
