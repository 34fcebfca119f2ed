"""How records become batches: which are written, skipped, or become dead letters."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.consumers.queue_case import Scene, opened
from tests.unit.fake_kafka import settle
from tests.unit.virtual_time import in_virtual_time

# --- batches ---


async def test_a_batch_is_written_when_it_has_enough_rows(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=3))
    scene.add(0, 1)
    await settle()
    assert scene.writer.appended == []
    assert scene.consumer.finished == []

    scene.add(2)
    await settle()
    assert scene.writer.appended == [[0, 1, 2]]
    assert scene.consumer.finished == [0, 1, 2]


async def test_a_batch_is_written_when_it_has_enough_bytes(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(size=4000))
    scene.add(0, value=b"x" * 2000)
    await settle()
    assert scene.writer.appended == []

    scene.add(1, value=b"x" * 2000)
    await settle()
    assert scene.writer.appended == [[0]], "both together exceed a batch"
    scene.add(2, value=b"x" * 2000)
    await settle()
    assert scene.writer.appended == [[0], [1]]


async def test_a_record_larger_than_a_batch_is_written_alone(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(size=1024))
    scene.add(0, value=b"x" * 5000)
    scene.add(1, value=b"x" * 5000)
    await settle()

    assert scene.writer.appended == [[0], [1]]


@in_virtual_time("consumers.recorder_queue.time.monotonic")
async def test_a_batch_is_written_when_it_is_old_enough() -> None:
    scene = Scene(seconds=60.0)
    scene.open()
    scene.add(0, 1)
    await asyncio.sleep(59)
    assert scene.writer.appended == []

    scene.add(2)
    await asyncio.sleep(2)
    assert scene.writer.appended == [[0, 1, 2]], "its age counts from its first record"


async def test_stop_waiting_writes_at_once(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene())
    scene.add(0, 1)
    await settle()

    scene.queue.stop_waiting()
    await settle()
    assert scene.writer.appended == [[0, 1]]
    scene.add(2)
    await settle()
    assert scene.writer.appended == [[0, 1], [2]]


async def test_batches_follow_each_other_in_the_order_of_offsets(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=4, seconds=0.01))
    scene.writer.gate.clear()
    scene.add(*range(10))
    await settle()
    scene.writer.gate.set()
    await scene.until_finished(10)

    assert scene.writer.appended == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert scene.consumer.finished == list(range(10))


# --- what is written, skipped, or becomes a dead letter ---


async def test_stored_records_are_skipped_and_finished(scenes: list[Scene]) -> None:
    scene = Scene(rows=4)
    scene.writer.wanted = 43
    opened(scenes, scene)
    scene.add(41, 42, 43, 44)
    await settle()

    assert scene.writer.appended == [[43, 44]]
    assert scene.consumer.finished == [41, 42, 43, 44]


async def test_a_stored_batch_is_not_written_again(scenes: list[Scene]) -> None:
    scene = Scene(rows=2)
    scene.writer.wanted = 43
    opened(scenes, scene)
    scene.add(41, 42)
    await settle()

    assert scene.writer.tried == []
    assert scene.consumer.finished == [41, 42]


async def test_records_without_a_row_are_finished(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=3))
    scene.add(0, value=b"skip")
    scene.add(1)
    scene.add(2, value=b"skip")
    await settle()

    assert scene.writer.appended == [[1]]
    assert scene.consumer.finished == [0, 1, 2]


async def test_an_unusable_record_becomes_a_dead_letter_and_the_rest_is_written(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=3))
    scene.add(0)
    scene.add(1, value=b"bad")
    scene.add(2)
    await settle()

    assert scene.writer.appended == [[0, 2]]
    assert [(sent.topic, sent.value) for sent in scene.producer.sent] == [("webhooks.dead-letters", b"bad")]
    assert scene.consumer.finished == [0, 1, 2]


async def test_nothing_is_finished_before_a_dead_letter_is_acknowledged(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=2, hold=True))
    scene.add(0)
    scene.add(1, value=b"bad")
    await settle()
    assert scene.consumer.finished == []

    scene.producer.sent[0].acknowledge()
    await settle()
    assert scene.writer.appended == [[0]]
    assert scene.consumer.finished == [0, 1]


async def test_a_dead_letter_is_not_written_twice_if_later_rows_are_stored(scenes: list[Scene]) -> None:
    scene = Scene(rows=3)
    scene.writer.wanted = 2
    opened(scenes, scene)
    scene.add(0)
    scene.add(1, value=b"bad")
    scene.add(2)
    await settle()

    assert scene.producer.sent == []
    assert scene.writer.appended == [[2]]


async def test_a_dead_letter_refused_by_kafka_ends_the_queue(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=2))
    scene.producer.errors["webhooks.dead-letters"] = PermissionError("not allowed")
    scene.add(0)
    scene.add(1, value=b"bad")

    with pytest.raises(PermissionError):
        await scene.queue.task
    assert scene.consumer.finished == []
    assert scene.writer.appended == []
