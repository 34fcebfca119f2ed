"""The recorder around its queues: which record goes to which table, partition assignments, and what ends the role."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import cast

import pytest
from structlog.testing import capture_logs

from consumers.recorder import Recorder
from pipeline.broker.api import Committed, Partition, Record
from pipeline.broker.consumer import GroupConsumer
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.memory.cluster import Cluster
from pipeline.broker.start_offset import MissingOffsets
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.ops.settings import Settings
from pipeline.store.errors import StoreUnavailableError
from pipeline.store.rows import Table
from tests.unit.consumers.recorded import ATTEMPT, AUDIT, CHANGE, DEAD, EVENT, SETTINGS, FakeWriter
from tests.unit.fake_kafka import FakeProducer, settle
from tests.unit.sample_events import NOW
from tests.waiting import until


class FakeConsumer:
    def __init__(self) -> None:
        self.finished: list[tuple[int, int]] = []

    def finish(self, finished: Record) -> None:
        self.finished.append((finished.epoch, finished.offset))

    def end(self, _partition: Partition) -> int | None:
        return None

    def problem(self) -> str | None:
        return None

    async def stop(self, _drain_seconds: float) -> None:
        await settle()


class Scene:
    """A recorder without its consumer's thread."""

    def __init__(self) -> None:
        self.writer = FakeWriter()
        self.producer = FakeProducer()
        self.recorder = Recorder(
            SETTINGS,
            MemoryBroker(),
            writer=self.writer,
            dead_letters=DeadLetters(self.producer, "t.webhooks.dead-letters", lambda: NOW),
        )
        self.consumer = FakeConsumer()
        self.recorder.consumer = cast("GroupConsumer", self.consumer)
        self.recorder.failed = asyncio.get_running_loop().create_future()

    async def take(self, *records: Record) -> None:
        self.recorder._queue(list(records))
        await settle()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    tasks = [queue.task for queue in made.recorder._queues.values()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if made.recorder.failed.done():
        made.recorder.failed.exception()


# --- queues ---


async def test_each_topic_goes_into_its_table(scene: Scene) -> None:
    await scene.take(ATTEMPT, EVENT, DEAD, CHANGE, AUDIT)

    assert [(table, partition) for table, partition, _ in scene.writer.rows] == [
        (Table.ATTEMPTS, 3),
        (Table.EVENTS, 3),
        (Table.DEAD_LETTERS, 3),
        (Table.ENDPOINT_CHANGES, 0),
        (Table.AUDIT_LOG, 3),
    ]
    assert scene.consumer.finished == [(1, 41)] * 5
    assert scene.recorder.problem() is None


async def test_every_recorded_topic_has_a_table(scene: Scene) -> None:
    assert set(scene.recorder._tables) == set(SETTINGS.topics.recorded)


async def test_each_partition_has_its_own_queue(scene: Scene) -> None:
    await scene.take(ATTEMPT, ATTEMPT._replace(offset=42), ATTEMPT._replace(partition=Partition("t.webhooks.attempts", 5)))

    assert scene.writer.assigned == [(Table.ATTEMPTS, 3), (Table.ATTEMPTS, 5)]


async def test_unusable_records_become_dead_letters(scene: Scene) -> None:
    await scene.take(ATTEMPT._replace(value=b"{"))

    assert [(sent.topic, sent.value) for sent in scene.producer.sent] == [("t.webhooks.dead-letters", b"{")]
    assert scene.consumer.finished == [(1, 41)]
    assert scene.writer.rows == []


async def test_a_reassigned_partition_asks_the_store_for_its_progress_again(scene: Scene) -> None:
    scene.writer.gate.clear()
    await scene.take(ATTEMPT)

    await scene.take(ATTEMPT._replace(epoch=2))
    scene.writer.gate.set()
    await settle()

    assert scene.writer.assigned == [(Table.ATTEMPTS, 3)] * 2
    assert scene.writer.forgotten == [(Table.ATTEMPTS, 3)]
    assert sorted(scene.consumer.finished) == [(1, 41), (2, 41)], "the first is fenced by its epoch"
    assert len(scene.writer.rows) == 1


async def test_a_revoked_partition_is_forgotten(scene: Scene) -> None:
    await scene.take(ATTEMPT, EVENT)

    scene.recorder._revoked(frozenset({ATTEMPT.partition, Partition("t.webhooks.attempts", 77)}))
    await settle()

    assert scene.writer.forgotten == [(Table.ATTEMPTS, 3)]
    assert list(scene.recorder._queues) == [EVENT.partition]
    assert not scene.recorder.failed.done()


async def test_a_bug_in_one_partition_ends_the_role(scene: Scene) -> None:
    scene.writer.error = RuntimeError("a bug")
    await scene.take(ATTEMPT)

    with pytest.raises(RuntimeError):
        await scene.recorder.failed
    assert scene.consumer.finished == []


async def test_stopping_first_writes_queued_records(scene: Scene) -> None:
    slow = Settings(_env_file=None, recorder_batch_records=1000, recorder_batch_seconds=60, kafka_topic_prefix="t.")
    scene.recorder._settings = slow
    await scene.take(ATTEMPT, EVENT)
    assert scene.writer.rows == []

    await scene.recorder.stop(1.0)
    await settle()

    assert len(scene.writer.rows) == 2
    assert scene.consumer.finished == [(1, 41)] * 2


async def test_stopping_after_a_failed_poll_loop_also_ends_the_queues(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_drain_seconds: float) -> None:
        raise RuntimeError("the poll loop failed")

    monkeypatch.setattr(scene.consumer, "stop", fail)
    await scene.take(ATTEMPT)
    [queue] = scene.recorder._queues.values()

    with pytest.raises(RuntimeError):
        await scene.recorder.stop(1.0)
    await settle()
    assert queue.task.done()


async def test_a_topic_that_lost_records_is_reported_and_still_recorded() -> None:
    """The machine of the only broker lost power, and the recorder died between an insert and its commit."""
    place, group = Partition("t.webhooks.attempts", 0), "t.webhooks.recorder"
    cluster = Cluster(time.monotonic)
    for topic in SETTINGS.topics.recorded:
        cluster.create(topic, 1)
    cluster.coordinator.group(group).committed[place] = Committed(6)

    def write(records: int) -> None:
        for _ in range(records):
            cluster.append(place, ATTEMPT.key, ATTEMPT.value, ATTEMPT.headers)

    class Stored(FakeWriter):
        async def assign(self, table: Table, partition: int) -> int:
            return 10 if table is Table.ATTEMPTS else 0

    write(10)
    cluster.log(place).truncate(8)
    writer, found = Stored(), list[MissingOffsets]()
    letters = DeadLetters(FakeProducer(), "t.webhooks.dead-letters", lambda: NOW)
    recorder = Recorder(SETTINGS, MemoryBroker(cluster), writer=writer, dead_letters=letters)
    recorder.consumer.missing.on_missing = found.append
    await recorder.start()
    try:
        await until(lambda: cluster.coordinator.group(group).committed[place].offset >= 8)
        write(4)
        await until(lambda: len(writer.rows) >= 2)
        assert not recorder.failed.done()
    finally:
        await recorder.stop(5.0)
    assert [row[-1] for _, _, row in writer.rows] == [10, 11]
    assert [(one.group, one.partition, one.are_replaced) for one in found] == [(group, place, True)] * len(found)
    assert [offset for one in found for offset in range(one.first_offset, one.until)] == [8, 9]


@pytest.mark.parametrize("hidden", ["t0ken", "whsec"])
async def test_logs_contain_no_records(scene: Scene, hidden: str, capsys: pytest.CaptureFixture[str]) -> None:
    await scene.take(ATTEMPT._replace(value=f'{{"x":"{hidden}"'.encode()), CHANGE._replace(value=f'{{"id":"{hidden}"}}'.encode()))

    written = "".join(capsys.readouterr())
    assert "dead letter" in written
    assert hidden not in written


async def test_partitions_waiting_for_clickhouse_are_one_log_line(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.recorder_queue._BACKOFF_S", (0.001,))
    scene.writer.error = StoreUnavailableError("away")
    with capture_logs() as logs:
        await scene.take(*(ATTEMPT._replace(partition=Partition("t.webhooks.attempts", number)) for number in range(3)))
        await until(lambda: scene.writer.tries >= 10)  # several tries each
        assert scene.recorder.problem() == "ClickHouse: away"
        scene.writer.error = None
        await until(lambda: len(scene.writer.rows) >= 3)
        await settle()
    logged = [(entry["log_level"], entry["event"]) for entry in logs if entry["log_level"] != "debug"]
    assert logged == [("warning", "a dependency cannot be used"), ("info", "a dependency is back")]
