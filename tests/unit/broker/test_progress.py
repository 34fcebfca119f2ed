"""An event for very many endpoints on the broker in memory: whoever continues it skips what is done, and nothing else.

The many steps of the random runs take seconds.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from structlog.testing import capture_logs

from pipeline.broker.api import Committed, Partition, Record
from pipeline.broker.memory.cluster import Cluster
from pipeline.core.offsets import Kept, decode_metadata
from pipeline.core.record_progress import RecordParts
from tests.unit.broker.simulation import GROUP, SESSION, TOPIC, Ledger, Process

ONLY = Partition(TOPIC, 0)
PARTS = range(1, 301)
CHECK = 4711
IN_FLIGHT = 20


class Parted:
    """A process that handles records in parts, ``IN_FLIGHT`` at a time; ``sent`` and ``acknowledged`` belong to the world."""

    def __init__(self, cluster: Cluster, sent: Counter[tuple[int, int]], acknowledged: set[tuple[int, int]]) -> None:
        self.process = Process(cluster, Ledger())
        self.sent = sent
        self.acknowledged = acknowledged
        self.left: dict[Record, list[int]] = {}
        self.in_flight: list[tuple[Record, int]] = []

    def turn(self) -> None:
        self.process.join()
        self.process.fetch()
        for record in self.process.begin():
            left = self.process.consumer.divide(record, CHECK + record.offset, PARTS)
            assert {(record.offset, part) for part in set(PARTS) - set(left)} <= self.acknowledged, "left out, and not done"
            self.left[record] = list(left)

    def work(self, chance: random.Random, count: int) -> None:
        """Begin as many as there is room for, and see ``count`` acknowledgements, in nearly any order."""
        consumer = self.process.consumer
        for record, left in self.left.items():
            while left and len(self.in_flight) < IN_FLIGHT and self.may_begin(record):
                part = left.pop(0)
                self.in_flight.append((record, part))
                self.sent[record.offset, part] += 1
        for _ in range(min(count, len(self.in_flight))):
            record, part = self.in_flight.pop(chance.randrange(len(self.in_flight)))
            self.acknowledged.add((record.offset, part))
            consumer.finish_part(record, part)
        in_progress = {record for record, _ in self.in_flight}
        # Lost records are also finished here, as in the fan-out: otherwise, they would count as outstanding for ever.
        over = [record for record, left in self.left.items() if not left or not consumer.is_current(record)]
        for record in [record for record in over if record not in in_progress]:
            del self.left[record]
            self.process.finish(record)

    def may_begin(self, record: Record) -> bool:
        consumer = self.process.consumer
        return consumer.is_current(record) and consumer._member.lease.is_valid()

    def kill(self) -> None:
        self.process.broker.faults.is_frozen = True


class World:
    def __init__(self) -> None:
        self.cluster = Cluster()
        self.cluster.create(TOPIC, 1)
        self.sent: Counter[tuple[int, int]] = Counter()
        self.acknowledged: set[tuple[int, int]] = set()

    def process(self) -> Parted:
        return Parted(self.cluster, self.sent, self.acknowledged)

    def write(self) -> None:
        self.cluster.append(ONLY, b"key", b"value")

    @property
    def sent_again(self) -> int:
        return sum(count - 1 for count in self.sent.values())

    @property
    def committed(self) -> Committed:
        return self.cluster.coordinator.group(GROUP).committed[ONLY]


def half_way(world: World, first: Parted) -> None:
    world.write()
    for _ in range(6):
        first.turn()
    chance = random.Random(1)
    while len(world.acknowledged) < len(PARTS) // 2:
        first.work(chance, 10)
        first.turn()


def finished_by(world: World, second: Parted) -> None:
    chance = random.Random(2)
    for _ in range(100):
        second.turn()
        second.work(chance, 10)
    assert world.committed.offset == 1
    assert set(world.sent) == {(0, part) for part in PARTS}


def test_after_a_kill_half_way_an_event_is_not_sent_to_the_finished_half_again() -> None:
    world = World()
    first = world.process()
    half_way(world, first)
    assert world.committed.offset == 0
    in_flight = len(first.in_flight)

    first.kill()
    world.cluster.virtual.advance(SESSION + 1)
    finished_by(world, world.process())

    assert world.sent_again <= in_flight
    assert in_flight > 0
    assert world.committed == Committed(1), "no progress remains"


def test_progress_moves_with_the_partition_in_a_rebalance() -> None:
    """The partition is revoked in order: the latest acknowledgements are passed on too."""
    world = World()
    first = world.process()
    half_way(world, first)
    first.work(random.Random(3), 5)  # not committed yet
    in_flight = len(first.in_flight)

    first.process.consumer._member.stop()
    first.process.consumer._member._end()
    first.kill()
    finished_by(world, world.process())

    assert world.sent_again == in_flight


def test_a_new_process_keeps_the_committed_progress_until_it_reaches_the_record() -> None:
    world = World()
    first = world.process()
    half_way(world, first)
    first.kill()
    before = world.committed
    for _ in range(30):
        world.write()
    world.cluster.virtual.advance(SESSION + 1)

    second = world.process()
    second.turn()
    second.process.join()
    # It has read or begun nothing yet: confirming its membership and committing other records must not lose the first one's
    # progress.
    world.cluster.virtual.advance(SESSION / 2)
    second.process.join()
    assert world.committed == before
    second.kill()
    world.cluster.virtual.advance(SESSION + 1)
    chance, third = random.Random(2), world.process()
    for _ in range(1500):
        third.turn()
        third.work(chance, 20)
    assert world.committed == Committed(31)
    assert world.sent_again <= IN_FLIGHT


def test_progress_of_another_record_is_reported_and_ignored() -> None:
    world = World()
    first = world.process()
    half_way(world, first)
    first.kill()
    world.cluster.virtual.advance(SESSION + 1)
    second = world.process().process
    for _ in range(6):
        second.join()
        second.fetch()
    [record] = second.begin()

    with capture_logs() as lines:
        assert second.consumer.divide(record, CHECK + 1, PARTS) == tuple(PARTS)

    assert [line["log_level"] for line in lines] == ["warning"]


@pytest.mark.parametrize("metadata", ["1;0,1;;", "2;0,4711,150", "moved by hand"])
def test_unreadable_metadata_is_reported_and_ignored(metadata: str) -> None:
    world = World()
    world.write()
    world.cluster.coordinator.group(GROUP).committed[ONLY] = Committed(0, metadata)
    process = world.process()

    with capture_logs() as lines:
        for _ in range(6):
            process.turn()

    assert process.left
    assert all(left == list(PARTS) for left in process.left.values())
    assert len([line for line in lines if "cannot be read" in line["event"]]) == 1


def test_brokers_that_accept_less_metadata_get_only_the_offsets() -> None:
    """``offset.metadata.max.bytes`` is a setting of the brokers: a small value must not stop any role."""
    world = World()
    world.cluster.coordinator.most_metadata = 10
    process = world.process()
    with capture_logs() as lines:
        half_way(world, process)
        assert world.committed == Committed(0)
        finished_by(world, process)
    assert len([line for line in lines if "too much metadata" in line["event"]]) == 1
    assert world.sent_again == 0


class ProgressSafety(RuleBasedStateMachine):
    """Processes start, die, freeze and thaw in the middle of events; the model is what was sent and what was acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.written = 0
        self.allowed = 0
        self.processes = [self.world.process(), self.world.process()]
        for _ in range(4):
            self.take_turns()

    def disturbed(self) -> None:
        """Count what a fault allows: whatever was sent and is not committed may be sent again."""
        self.allowed += sum(len(process.in_flight) for process in self.processes) + len(self.uncommitted())

    def uncommitted(self) -> set[tuple[int, int]]:
        committed = self.world.cluster.coordinator.group(GROUP).committed.get(ONLY, Committed(0))
        kept = decode_metadata(committed.offset, committed.metadata) or Kept()
        inside = {each.offset: each for each in kept.progress}
        return {
            (offset, part)
            for offset, part in self.world.acknowledged
            if offset >= committed.offset
            and offset not in kept.finished
            and part in RecordParts(offset, CHECK + offset, [part], inside.get(offset)).left
        }

    @precondition(lambda self: self.written < 6)
    @rule()
    def write(self) -> None:
        self.world.write()
        self.written += 1

    @rule()
    def take_turns(self) -> None:
        for process in self.processes:
            process.turn()

    @rule(seconds=st.floats(0.01, 3.0))
    def time_passes(self, seconds: float) -> None:
        self.world.cluster.virtual.advance(seconds)

    @rule(which=st.integers(0, 1), seed=st.integers(0, 100), count=st.integers(1, 60))
    def let_a_process_work(self, which: int, seed: int, count: int) -> None:
        process = self.processes[which]
        if not process.process.broker.faults.is_frozen:
            process.work(random.Random(seed), count)

    @rule(which=st.integers(0, 1))
    def kill_a_process(self, which: int) -> None:
        self.disturbed()
        self.processes[which].kill()
        self.processes[which] = self.world.process()

    @rule(which=st.integers(0, 1), seconds=st.floats(0.5, 30.0), silent=st.booleans())
    def freeze_and_thaw_a_process(self, which: int, seconds: float, silent: bool) -> None:
        self.disturbed()
        faults = self.processes[which].process.broker.faults
        faults.reports_losses, faults.is_frozen = not silent, True
        for _ in range(3):
            self.world.cluster.virtual.advance(seconds / 3)
            self.take_turns()
            self.processes[1 - which].work(random.Random(0), 30)
        self.disturbed()
        faults.is_frozen = False

    @invariant()
    def only_what_was_not_committed_is_sent_again(self) -> None:
        assert self.world.sent_again <= self.allowed

    def teardown(self) -> None:
        """When the faults have ended, everything is sent."""
        chance = random.Random(0)
        for _ in range(200):
            self.world.cluster.virtual.advance(SESSION / 20)
            self.take_turns()
            for process in self.processes:
                process.work(chance, IN_FLIGHT)
        wanted = {(offset, part) for offset in range(self.written) for part in PARTS}
        assert self.world.acknowledged == wanted


ProgressSafety.TestCase.settings = settings(
    max_examples=int(os.environ.get("SAFETY_EXAMPLES", "20")) // 2,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_progress_safety = ProgressSafety.TestCase
