"""A partition's queue when things go wrong: nothing is finished before it is written."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from consumers.recorder_queue import TopicRecreatedError
from pipeline.broker.start_offset import MissingOffsets
from pipeline.ops import metrics
from pipeline.store.connection import StoreError, StoreLimitError, StoreRejectedError, StoreUnavailableError
from pipeline.store.rows import Table
from schemas.delivery import DEAD_LETTER_HEADER
from tests.property_examples import examples
from tests.unit.consumers.queue_case import PARTITION, Scene, opened
from tests.unit.fake_kafka import settle
from tests.unit.virtual_time import in_virtual_time
from tests.waiting import until

# --- errors of the store ---


@pytest.mark.parametrize("error", [StoreUnavailableError("not now"), StoreRejectedError("never"), StoreError("x")])
async def test_a_batch_is_retried_until_it_is_written(scenes: list[Scene], error: StoreError) -> None:
    scene = opened(scenes, Scene(rows=2))
    await settle()
    scene.writer.errors = [error] * 4
    scene.add(0, 1)
    await settle()
    assert scene.queue.problem == f"ClickHouse: {error}"
    assert scene.consumer.finished == []

    await scene.until_finished(2)
    assert scene.writer.appended == [[0, 1]]
    assert scene.consumer.finished == [0, 1]
    assert [scene.queue.problem] == [None]
    assert len(scene.writer.tried) == 5
    assert all(rows is scene.writer.tried[0] for rows in scene.writer.tried), (
        "the same rows: the store deduplicates them by their offsets"
    )


async def test_a_record_refused_by_clickhouse_is_a_dead_letter_and_the_rest_is_written(scenes: list[Scene]) -> None:
    refused = metrics.UNRECORDED.labels("attempts")
    before = refused._value.get()
    scene = opened(scenes, Scene(rows=4))
    await settle()
    scene.writer.refused = frozenset({1})
    scene.add(0, 1, 2, 3)
    await scene.until_finished(4)
    assert scene.writer.appended == [[0], [2, 3]]
    assert scene.consumer.finished == [0, 1, 2, 3]
    (letter,) = scene.producer.to("webhooks.dead-letters")
    assert b'"reason":"not_recordable"' in dict(letter.headers)[DEAD_LETTER_HEADER]
    assert refused._value.get() == before + 1


async def test_nothing_after_a_refused_record_is_written_before_its_dead_letter_is(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=4, hold=True))
    await settle()
    scene.writer.refused = frozenset({1})
    scene.add(0, 1, 2, 3)
    await until(lambda: scene.producer.sent)
    await settle()
    assert scene.writer.appended == [[0]]
    assert scene.consumer.finished == []


async def test_a_dead_letter_refused_by_clickhouse_makes_no_other_dead_letter(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=1, table=Table.DEAD_LETTERS))
    await settle()
    scene.writer.refused = frozenset({0})
    scene.add(0)
    await scene.until_finished(1)
    assert scene.consumer.finished == [0]
    assert scene.producer.to("webhooks.dead-letters") == []


async def test_a_single_record_that_exceeds_memory_waits(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=2))
    await settle()
    scene.writer.errors = [StoreLimitError("no memory")] * 5
    scene.add(0, 1)
    await scene.until_finished(2)
    assert scene.writer.appended == [[0], [1]]
    assert scene.producer.to("webhooks.dead-letters") == []


async def test_records_accumulate_while_the_store_is_away(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=2, seconds=0.01))
    await settle()
    scene.writer.errors = [StoreUnavailableError("not now")] * 3
    scene.add(0, 1)
    await settle()
    scene.add(2, 3, 4)
    await settle()
    assert scene.consumer.finished == []

    await scene.until_finished(5)
    assert scene.writer.appended == [[0, 1], [2, 3], [4]]


async def test_nothing_is_written_before_the_stores_progress_is_known(scenes: list[Scene]) -> None:
    scene = Scene(rows=1)
    scene.writer.errors = [StoreUnavailableError("not now")] * 3
    scene.writer.wanted = 1
    opened(scenes, scene)
    scene.add(0, 1)
    await settle()
    assert scene.writer.tried == []
    assert scene.consumer.finished == []
    assert scene.queue.problem == "ClickHouse: not now"

    await scene.until_finished(2)
    assert scene.writer.appended == [[1]]
    assert scene.consumer.finished == [0, 1]


async def test_an_error_of_another_kind_ends_the_queue(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=1))
    await settle()
    scene.writer.errors = [RuntimeError("a bug")]
    scene.add(0)

    with pytest.raises(RuntimeError):
        await scene.queue.task
    assert scene.consumer.finished == []


# --- a store that was restored from a backup ---


@pytest.mark.parametrize(
    ("wanted", "first", "table", "is_told"),
    [
        (5, 9, Table.ATTEMPTS, True),
        (9, 9, Table.ATTEMPTS, False),
        (12, 9, Table.ATTEMPTS, False),
        (0, 9, Table.ATTEMPTS, False),  # a new database
        (5, 9, Table.ENDPOINT_CHANGES, False),  # its topic is compacted
    ],
)
async def test_rows_lost_by_the_store_are_reported_once(
    scenes: list[Scene], wanted: int, first: int, table: Table, *, is_told: bool
) -> None:
    scene = Scene(rows=1, table=table)
    scene.writer.wanted = wanted
    with capture_logs() as lines:
        opened(scenes, scene)
        scene.add(first, first + 4)
        await scene.until_finished(2)
    reported = [(line["first"], line["last"]) for line in lines if line["event"].startswith("ClickHouse lacks records")]
    assert reported == [(5, 8)] * is_told


# --- a topic whose offsets start at 0 again ---


async def test_a_recreated_topic_is_refused_before_any_record_is_skipped(scenes: list[Scene]) -> None:
    scene = Scene(rows=1)
    scene.writer.wanted = 1000
    scene.consumer.end_offset = 5
    opened(scenes, scene)
    scene.add(0)

    with pytest.raises(
        TopicRecreatedError, match=r"webhooks\.attempts, partition 3, up to offset 999, but the topic ends at 5: it was recreated"
    ):
        await scene.queue.task
    assert scene.consumer.finished == []


@pytest.mark.parametrize("end", [None, 43, 44, 10_000])
async def test_a_topic_that_reaches_the_stores_progress_is_accepted(scenes: list[Scene], end: int | None) -> None:
    scene = Scene(rows=1)
    scene.writer.wanted = 43
    scene.consumer.end_offset = end
    opened(scenes, scene)
    scene.add(42)
    await settle()

    assert scene.consumer.finished == [42]


# --- a topic that lost its last records ---

GROUP = "webhooks.recorder"


def lost(first: int, until: int) -> MissingOffsets:
    return MissingOffsets(GROUP, PARTITION, first, until, until - first, are_replaced=True)


async def test_new_records_at_stored_offsets_are_reported_before_they_are_finished(scenes: list[Scene]) -> None:
    """The recorder died between an insert and its commit, and the broker lost the inserted records."""
    scene = Scene(rows=2)
    scene.writer.wanted = 46
    scene.consumer.end_offset = 42
    finished: list[list[int]] = []

    def note(found: MissingOffsets) -> None:
        scene.consumer.found.append(found)
        finished.append([*scene.consumer.finished])

    scene.consumer.missing.on_missing = note
    opened(scenes, scene)
    scene.add(40, 41)
    await scene.until_finished(2)
    assert scene.consumer.found == []

    scene.consumer.end_offset = 100
    scene.add(*range(42, 48))
    await scene.until_finished(8)
    assert scene.consumer.found == [lost(42, 44), lost(44, 46)]
    assert finished == [[40, 41], [40, 41, 42, 43]]
    assert scene.writer.appended == [[46, 47]]


async def test_records_after_those_reported_by_the_consumer_are_reported_too(scenes: list[Scene]) -> None:
    """The topic ended below the group's commit, and grew beyond the stored offset before anybody looked."""
    scene = Scene(rows=1)
    scene.writer.wanted = 43
    scene.consumer.end_offset = 100
    scene.consumer.missing.note(lost(35, 40))
    opened(scenes, scene)
    scene.add(*range(40, 45))
    await scene.until_finished(5)
    assert scene.consumer.found == [lost(35, 40), lost(40, 41), lost(41, 42), lost(42, 43)]
    assert scene.writer.appended == [[43], [44]]


async def test_stored_records_are_not_reported_in_a_later_assignment(scenes: list[Scene]) -> None:
    scene = Scene(rows=1)
    scene.writer.wanted = 63
    scene.consumer.end_offset = 100
    scene.consumer.missing.note(lost(35, 40))
    opened(scenes, scene)
    scene.add(*range(60, 65))
    await scene.until_finished(5)
    assert scene.consumer.found == [lost(35, 40)]
    assert scene.writer.appended == [[63], [64]]


async def test_losing_the_end_of_a_topic_later_ends_no_queue(scenes: list[Scene]) -> None:
    scene = Scene(rows=1)
    scene.writer.wanted = 43
    opened(scenes, scene)
    scene.add(43)
    await scene.until_finished(1)
    scene.consumer.end_offset = 40
    scene.add(44)
    await scene.until_finished(2)
    assert scene.writer.appended == [[43], [44]]
    assert scene.consumer.found == []


# --- cancellation and the loss of the partition ---


async def test_a_cancelled_queue_finishes_nothing(scenes: list[Scene]) -> None:
    """The process is dying, so unwritten records must not be committed."""
    for stage in ("assign", "append", "wait"):
        scene = Scene(rows=1 if stage == "append" else 1000)
        if stage != "wait":
            scene.writer.gate.clear()
        opened(scenes, scene)
        scene.add(0, 1)
        await settle()
        scene.queue.task.cancel()
        await scene.ended()

        assert scene.consumer.finished == [], stage


async def test_a_revoked_partition_frees_its_room_and_writes_nothing_more(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene())
    scene.add(0, 1)
    await settle()

    scene.queue.close()
    await scene.ended()

    assert scene.consumer.finished == [0, 1], "the completions are fenced; they only free room"
    assert scene.writer.tried == []
    assert scene.writer.forgotten == [(Table.ATTEMPTS, 3)]
    assert scene.queue.task.cancelled()


@pytest.mark.parametrize("stage", ["assign", "append", "backoff", "dead letter"])
async def test_a_partition_revoked_during_a_batch_frees_its_room_once(scenes: list[Scene], stage: str) -> None:
    scene = opened(scenes, Scene(rows=2, hold=True))
    if stage != "assign":
        await settle()
    if stage in {"assign", "append"}:
        scene.writer.gate.clear()
    if stage == "backoff":
        scene.writer.errors = [StoreUnavailableError("not now")] * 1000
    scene.add(0)
    scene.add(1, value=b"bad" if stage == "dead letter" else b"x")
    scene.add(2)
    await settle()

    scene.queue.close()
    await scene.ended()

    assert sorted(scene.consumer.finished) == [0, 1, 2]
    assert scene.writer.appended == []


async def test_closing_a_finished_queue_finishes_nothing_again(scenes: list[Scene]) -> None:
    scene = opened(scenes, Scene(rows=2))
    scene.add(0, 1)
    await settle()
    scene.queue.close()
    scene.queue.close()
    await scene.ended()

    assert scene.consumer.finished == [0, 1]


@in_virtual_time("consumers.recorder_queue.time.monotonic")
async def _lives(seed: int, close: bool) -> None:
    """Records arrive, the store fails and recovers, and at some moment the queue is closed or cancelled."""
    chooser = random.Random(seed)
    scene = Scene(rows=chooser.randint(1, 4), seconds=0.002, hold=True)
    scene.writer.wanted = chooser.choice([0, 0, 5])
    scene.open()
    offset = 0
    for _ in range(chooser.randint(1, 30)):
        match chooser.randrange(6):
            case 0 | 1:
                for _ in range(chooser.randint(1, 4)):
                    scene.add(offset, value=chooser.choice([b"x", b"x", b"x", b"bad", b"skip"]))
                    offset += chooser.randint(1, 2)
            case 2:
                scene.writer.errors.append(StoreUnavailableError("not now"))
            case 3:
                (scene.writer.gate.clear if chooser.random() < 0.5 else scene.writer.gate.set)()
            case 4:
                for sent in scene.producer.sent:
                    sent.acknowledge()
            case 5:
                await asyncio.sleep(0.003)  # the time of a batch is over
        for _ in range(chooser.randrange(3)):
            await asyncio.sleep(0)
        _nothing_is_finished_early(scene)
    scene.queue.close() if close else scene.queue.task.cancel()
    await scene.ended()

    if close:
        assert Counter(scene.consumer.finished) == Counter(scene.added), "each record frees its room exactly once"
    else:
        _nothing_is_finished_early(scene)
    written = [row for batch in scene.writer.appended for row in batch]
    assert written == sorted(set(written)), "each row once, in order"
    assert all(row >= scene.writer.wanted for row in written)


def _nothing_is_finished_early(scene: Scene) -> None:
    settled = {row for batch in scene.writer.appended for row in batch}
    letters = {sent.headers[0][1] for sent in scene.producer.sent if sent.acknowledged.done()}
    for offset in scene.consumer.finished:
        is_letter = any(f'"offset":{offset},'.encode() in letter for letter in letters)
        assert offset in settled or is_letter or offset < scene.writer.wanted or offset in scene.skipped, offset


@settings(max_examples=examples(40), deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_nothing_is_ever_finished_early_or_twice(seed: int, close: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("consumers.recorder_queue._BACKOFF_S", (0.001, 0.002))
        _lives(seed, close)
