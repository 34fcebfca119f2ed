"""A reader that seeks back and forth, a turn at a time, on a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import pytest
from structlog.testing import capture_logs

from pipeline.broker.api import Committed, Partition
from pipeline.broker.errors import UnavailableError
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.memory.cluster import Cluster
from pipeline.broker.seeking_consumer import FetchedPage, SeekingConsumer
from pipeline.broker.start_offset import MissingOffsets
from pipeline.ops import metrics

TOPIC = "webhooks.held"
GROUP = "webhooks.held-group"
PLACE = Partition(TOPIC, 0)


class Stepped(SeekingConsumer):
    """Has no threads: a test takes its turns."""

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        call(*arguments)


class World:
    def __init__(self, records: int) -> None:
        self.cluster = Cluster()
        self.cluster.create(TOPIC, 1)
        self.write(records)
        self.held: set[int] = set()
        self.broker = MemoryBroker(self.cluster)
        self.consumer = self._consumer()

    def _consumer(self) -> Stepped:
        self.held.clear()
        consumer = Stepped(
            self.broker, group=GROUP, topic=TOPIC, on_assigned=self.held.update, on_revoked=self.held.difference_update
        )
        consumer._loop = asyncio.get_running_loop()
        consumer._wake.wait = lambda timeout=None: True  # type: ignore[method-assign]  # no turn waits
        return consumer

    def write(self, records: int) -> None:
        for number in range(records):
            self.cluster.append(PLACE, b"7", str(number).encode(), [])

    def turn(self, times: int = 5) -> None:
        for _ in range(times):
            self.consumer._member.step()
            self.consumer.step()

    async def read(self, offset: int | None) -> FetchedPage:
        asked = asyncio.create_task(self.consumer.fetch(0, offset, 0.0))
        for _ in range(10):
            await asyncio.sleep(0)
            self.turn()
            if asked.done():
                return asked.result()
        asked.cancel()
        raise TimeoutError

    def restart(self) -> None:
        self.consumer._member._part(leave=True)
        self.consumer = self._consumer()
        self.turn()

    def committed(self) -> Committed | None:
        return self.cluster.coordinator.group(GROUP).committed.get(PLACE)


def missing() -> float:
    return float(metrics.RECORDS_MISSING.labels(GROUP, TOPIC)._value.get())


async def test_the_next_consumer_starts_at_the_highest_commit() -> None:
    world = World(50)
    world.turn()
    assert world.held == {0}
    for offset in (20, 20, 30, 10, 0):
        world.consumer.commit(0, offset)
    world.turn()
    assert world.committed() == Committed(30)
    world.consumer.commit(0, 31)
    world.turn()
    assert world.committed() == Committed(31)
    world.restart()
    world.consumer.commit(0, 5)
    world.turn()
    assert world.committed() == Committed(31)
    assert (await world.read(None)).records[0].offset == 31


async def test_records_removed_while_reading_are_reported_once_with_their_number() -> None:
    world = World(50)
    world.turn()
    assert (await world.read(0)).next == 50
    before = missing()
    world.cluster.log(PLACE).remove_before(20)
    for _ in range(2):
        fetched = await world.read(5)
        assert [record.offset for record in fetched.records] == list(range(20, 50))
    assert missing() - before == 15


async def test_a_log_that_ends_below_the_position_is_waited_for_and_reported() -> None:
    world = World(10)
    world.turn()
    asked = asyncio.create_task(world.consumer.fetch(0, 40, 0.0))
    await asyncio.sleep(0)
    world.turn()
    assert not asked.done()
    assert "lost records" in (world.consumer.problem() or "")
    world.write(35)
    world.cluster.virtual.advance(10.0)
    world.turn()
    assert [record.offset for record in (await asked).records] == list(range(40, 45))
    assert world.consumer.problem() is None


async def test_a_log_that_ends_below_the_position_for_an_hour_is_logged_once_a_minute() -> None:
    world = World(10)
    world.turn()
    asked = asyncio.create_task(world.consumer.fetch(0, 40, 0.0))
    await asyncio.sleep(0)
    with capture_logs() as logs:
        for _ in range(360):
            world.turn(2)
            world.cluster.virtual.advance(10.0)
    lines = [line for line in logs if line["event"] == "a log ends below what was read"]
    assert 1 < len(lines) <= 60, "there was a line for each check"
    assert lines[-1]["times"] > 1
    asked.cancel()


def cut(world: World, offset: int) -> None:
    """A broker lost the end of its log: its only disk lost power, or the election was unclean."""
    world.cluster.virtual.advance(1.0)
    world.cluster.log(PLACE).truncate(offset)


async def waited_for(world: World, asked: asyncio.Task[FetchedPage]) -> list[int]:
    """Return the offsets that a reader gets when its log has grown again."""
    world.cluster.virtual.advance(6.0)
    for _ in range(10):
        await asyncio.sleep(0)
        world.turn()
    return [record.offset for record in asked.result().records]


@pytest.mark.parametrize("is_seen", [True, False])
async def test_records_at_the_offsets_of_lost_ones_are_reported(is_seen: bool) -> None:
    world = World(10)
    found: list[MissingOffsets] = []
    world.consumer.missing.on_missing = found.append
    world.turn()
    assert (await world.read(0)).next == 10
    before = missing()
    cut(world, 6)
    asked = asyncio.create_task(world.consumer.fetch(0, 10, 0.0))
    await asyncio.sleep(0)
    if is_seen:
        world.turn()
        assert f"{PLACE} ends at offset 6" in (world.consumer.problem() or "")
    else:
        world.broker.faults.diverged.add(PLACE)  # the client learns of it from the leader's epoch
    world.write(8)
    assert await waited_for(world, asked) == [10, 11, 12, 13]

    first = 6 if is_seen else 9  # at least
    assert found == [MissingOffsets(GROUP, PLACE, first, 10, 10 - first, are_replaced=True)]
    assert missing() - before == 10 - first
    assert world.consumer.problem() is None
    assert [record.offset for record in (await world.read(4)).records] == list(range(4, 14))
    assert len(found) == 1


async def test_a_log_that_gets_its_old_end_back_misses_nothing() -> None:
    world = World(10)
    found: list[MissingOffsets] = []
    world.consumer.missing.on_missing = found.append
    world.turn()
    assert (await world.read(0)).next == 10
    world.cluster.log(PLACE).shown_end = 6
    asked = asyncio.create_task(world.consumer.fetch(0, 10, 0.0))
    await asyncio.sleep(0)
    world.turn()
    assert "lost records" in (world.consumer.problem() or "")
    world.write(3)
    world.cluster.log(PLACE).shown_end = None
    assert await waited_for(world, asked) == [10, 11, 12]
    assert found == []


async def test_a_log_that_grows_slowly_is_not_read_until_it_is_as_long_as_before() -> None:
    world = World(10)
    found: list[MissingOffsets] = []
    world.consumer.missing.on_missing = found.append
    world.turn()
    assert (await world.read(0)).next == 10
    cut(world, 6)
    assert [record.offset for record in (await world.read(4)).records] == [4, 5], "what is left can be read again"
    asked = asyncio.create_task(world.consumer.fetch(0, 10, 0.0))
    await asyncio.sleep(0)
    for _ in range(4):
        world.turn()
        assert world.consumer.problem() is not None
        world.write(1)
        world.cluster.virtual.advance(6.0)
    assert not asked.done()
    assert await waited_for(world, asked) == []
    assert found == [MissingOffsets(GROUP, PLACE, 6, 10, 4, are_replaced=True)]


async def test_after_a_restart_a_replaced_log_of_the_same_length_is_reported() -> None:
    world = World(10)
    world.turn()
    assert (await world.read(0)).next == 10
    world.consumer.commit(0, 10)
    world.turn()
    cut(world, 6)
    world.restart()
    found: list[MissingOffsets] = []
    world.consumer.missing.on_missing = found.append
    asked = asyncio.create_task(world.consumer.fetch(0, None, 0.0))
    await asyncio.sleep(0)
    world.turn()
    world.write(8)
    assert await waited_for(world, asked) == [10, 11, 12, 13]
    assert found == [MissingOffsets(GROUP, PLACE, 6, 10, 4, are_replaced=True)]


async def test_a_log_without_its_end_and_its_broker_does_not_block_other_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(0)
    world.cluster.create(TOPIC, 2)
    for number in range(2):
        world.cluster.append(Partition(TOPIC, number), b"7", b"1", [])
    world.turn()
    assert (await world.read(0)).next == 1
    cut(world, 0)
    asked = asyncio.create_task(world.consumer.fetch(0, 1, 0.0))
    await asyncio.sleep(0)
    world.turn()
    client = world.consumer._client
    assert client is not None

    def no_leader(_: object) -> None:
        raise UnavailableError("it has no leader")

    monkeypatch.setattr(client, "bounds", no_leader)
    world.cluster.virtual.advance(6.0)
    other = asyncio.create_task(world.consumer.fetch(1, 0, 0.0))
    await asyncio.sleep(0)
    world.turn()
    assert [record.offset for record in (await asyncio.wait_for(other, 30)).records] == [0]
    asked.cancel()


async def test_while_membership_is_in_doubt_the_client_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka is unreachable, perhaps for a day: the client's messages about that must not accumulate in it."""
    world = World(10)
    world.turn()
    client = world.consumer._client
    assert client is not None
    rests: list[int] = []
    paused: list[list[Partition]] = []
    pause = client.pause

    def note(partitions: Collection[Partition]) -> None:
        paused.append(list(partitions))
        pause(partitions)

    monkeypatch.setattr(client, "idle", lambda: rests.append(1))
    monkeypatch.setattr(client, "pause", note)
    asked = asyncio.create_task(world.consumer.fetch(0, 5, 0.0))
    await asyncio.sleep(0)
    world.consumer._member.lease.end()
    world.consumer.step()
    assert (len(rests), paused[-1]) == (1, [PLACE])
    world.turn()
    assert [record.offset for record in (await asyncio.wait_for(asked, 30)).records] == list(range(5, 10))
    before = len(rests)
    world.consumer.step()
    assert len(rests) == before + 1, "nobody requests anything"


async def test_records_below_the_requested_offset_are_not_returned() -> None:
    world = World(50)
    world.turn()
    assert (await world.read(40)).next == 50
    world.write(3)
    world.broker.faults.rewinds_to = 2
    assert [record.offset for record in (await world.read(50)).records] == [50, 51, 52]


async def test_a_revoked_partition_is_reported_and_nothing_is_committed_for_it() -> None:
    world = World(50)
    world.turn()
    world.consumer._member._part(leave=True)
    assert world.held == set()
    world.consumer.commit(0, 20)
    assert not world.consumer.is_member_certain
    world.turn()
    assert world.held == {0}
    assert world.committed() == Committed(0)


async def test_a_gap_is_reported_once_also_to_the_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(50)
    world.turn()
    world.consumer.commit(0, 10)
    world.turn()
    world.consumer._member._part(leave=True)
    world.cluster.log(PLACE).remove_before(30)
    world.consumer = world._consumer()
    reported: list[MissingOffsets] = []
    world.consumer.missing.on_missing = reported.append
    before, commit, refused = missing(), world.cluster.coordinator.commit, iter([True, True])

    def refuse(*arguments: object) -> None:
        if next(refused, False):
            raise UnavailableError("the coordinator is away")
        commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(world.cluster.coordinator, "commit", refuse)
    world.turn(8)
    assert world.committed() == Committed(30)
    assert reported == [MissingOffsets(GROUP, PLACE, 10, 30, 20)]
    assert missing() - before == 20
