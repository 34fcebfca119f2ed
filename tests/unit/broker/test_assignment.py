"""Epochs: records of one assignment never move the offsets of another."""

from __future__ import annotations

import random
import threading
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.broker.api import Committed, Partition
from pipeline.broker.assignment import Assignment, StartPosition
from pipeline.core.offsets import Commit
from tests.property_examples import examples

A, B = Partition("a", 0), Partition("a", 1)


def held(*partitions: Partition) -> Assignment:
    assignment = Assignment()
    assignment.assign(partitions)
    return assignment


def offsets(commits: dict[Partition, Commit]) -> dict[Partition, int]:
    return {partition: commit.offset for partition, commit in commits.items()}


def epoch_of(assignment: Assignment, partition: Partition = A) -> int:
    epoch = assignment.epoch(partition)
    assert epoch is not None
    return epoch


def test_each_assignment_of_a_partition_has_an_epoch_of_its_own() -> None:
    assignment = held(A, B)
    first, other = epoch_of(assignment), epoch_of(assignment, B)

    assignment.revoke([A])
    assert assignment.epoch(A) is None
    assert assignment.partitions == {B}
    assignment.assign([A])

    assert len({first, other, epoch_of(assignment)}) == 3
    assert assignment.partitions == {A, B}


def test_a_partition_that_is_kept_keeps_its_epoch_and_its_offsets() -> None:
    assignment = held(A)
    epoch = epoch_of(assignment)
    assignment.start(A, epoch, 0)

    assignment.assign([A, B])

    assert assignment.epoch(A) == epoch
    assert assignment.finish(A, epoch, 0)
    assert offsets(assignment.committable()) == {A: 1}


def test_records_of_a_revoked_assignment_are_fenced() -> None:
    assignment = held(A)
    old = epoch_of(assignment)
    assert assignment.start(A, old, 0)
    assert assignment.start(A, old, 1)
    assignment.revoke([A])

    assert not assignment.start(A, old, 2)
    assert not assignment.finish(A, old, 0)
    assignment.assign([A])
    new = epoch_of(assignment)
    assert assignment.start(A, new, 0)
    assert not assignment.start(A, old, 1)
    assert not assignment.finish(A, old, 0)
    assert assignment.committable() == {}
    assert assignment.finish(A, new, 0)
    assert offsets(assignment.committable()) == {A: 1}


def test_revoke_returns_the_offsets_that_were_not_committed() -> None:
    assignment = held(A, B)
    for partition in (A, B):
        for offset in (4, 5, 6):
            assignment.start(partition, epoch_of(assignment, partition), offset)
    assignment.finish(A, epoch_of(assignment), 4)
    assignment.finish(A, epoch_of(assignment), 6)
    for offset in (4, 5, 6):
        assignment.finish(B, epoch_of(assignment, B), offset)
    assignment.committed({B: assignment.committable()[B]})

    assert offsets(assignment.revoke([A, B, Partition("never", 9)])) == {A: 5}
    assert assignment.partitions == frozenset()
    assert assignment.committable() == {}
    assert assignment.revoke([A]) == {}


def test_an_acknowledged_commit_is_not_repeated() -> None:
    assignment = held(A)
    assignment.start(A, epoch_of(assignment), 0)
    assignment.finish(A, epoch_of(assignment), 0)
    assignment.committed(assignment.committable() | {B: Commit(9, (), 1)})

    assert assignment.committable() == {}


def test_a_commit_of_an_earlier_assignment_does_not_count_for_a_later_one() -> None:
    """Both assignments have finished as many records: the first one's commit must not be taken for the second one's."""
    assignment = held(A)
    assignment.start(A, epoch_of(assignment), 0)
    assignment.finish(A, epoch_of(assignment), 0)
    late = assignment.committable()
    assignment.revoke([A])
    assignment.assign([A])
    assignment.start(A, epoch_of(assignment), 0)
    assignment.finish(A, epoch_of(assignment), 0)

    assignment.committed(late)

    assert offsets(assignment.committable()) == {A: 1}


def test_partitions_that_are_not_held_are_neither_started_nor_finished() -> None:
    assignment = Assignment()

    assert assignment.epoch(A) is None
    assert not assignment.start(A, 1, 0)
    assert not assignment.finish(A, 1, 0)
    assert assignment.committable() == {}


def test_starting_out_of_order_is_an_error_of_the_caller() -> None:
    assignment = held(A)
    assignment.start(A, epoch_of(assignment), 5)

    with pytest.raises(ValueError, match="offset 5 was started after 5"):
        assignment.start(A, epoch_of(assignment), 5)


class AssignmentMachine(RuleBasedStateMachine):
    """One partition comes and goes; records of any epoch finish at any time.

    The broker restarts from what was committed, so everything before a committed offset must be finished, under some epoch.
    """

    @initialize()
    def begin(self) -> None:
        self.assignment = Assignment()
        self.open: list[tuple[int, int]] = []  # (epoch, offset)
        self.finished: set[int] = set()
        self.position = 0
        self.broker_committed = 0

    @rule()
    def assign(self) -> None:
        if self.assignment.epoch(A) is None:
            self.position = self.broker_committed
        self.assignment.assign([A])

    @rule(acknowledged=st.booleans())
    def revoke(self, acknowledged: bool) -> None:
        for offset in offsets(self.assignment.revoke([A])).values():
            if acknowledged:
                self.broker_committed = max(self.broker_committed, offset)

    @rule(records=st.integers(1, 4))
    def start(self, records: int) -> None:
        epoch = self.assignment.epoch(A)
        for _ in range(records):
            if epoch is not None:
                assert self.assignment.start(A, epoch, self.position)
                self.open.append((epoch, self.position))
                self.position += 1

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 50))
    def finish(self, which: int) -> None:
        epoch, offset = self.open.pop(which % len(self.open))
        fenced = not self.assignment.finish(A, epoch, offset)
        assert fenced == (epoch != self.assignment.epoch(A))
        if not fenced:
            self.finished.add(offset)

    @rule()
    def commit(self) -> None:
        commits = self.assignment.committable()
        self.broker_committed = max([self.broker_committed, *offsets(commits).values()])
        self.assignment.committed(commits)

    @invariant()
    def everything_before_what_was_committed_is_finished(self) -> None:
        assert set(range(self.broker_committed)) <= self.finished


AssignmentMachine.TestCase.settings = settings(max_examples=examples(50), stateful_step_count=40)
TestAssignment = AssignmentMachine.TestCase


def test_threads() -> None:
    """The poll thread starts and commits, the event loop finishes, the I/O thread rebalances: nothing is lost or early."""
    assignment = Assignment()
    handed_over: deque[tuple[int, int]] = deque()
    finished: set[int] = set()
    errors: list[BaseException] = []
    committed = [0]
    done = threading.Event()

    def guarded(work: object) -> threading.Thread:
        def run() -> None:
            try:
                assert callable(work)
                work()
            except BaseException as error:  # noqa: BLE001 - shown by the test
                errors.append(error)
                done.set()

        return threading.Thread(target=run)

    def poll() -> None:
        position, last_epoch = 0, None
        while committed[0] < 2000 and not done.is_set():
            epoch = assignment.epoch(A)
            if epoch is None:
                continue
            if epoch != last_epoch:
                position, last_epoch = committed[0], epoch
            if position < 2000 and assignment.start(A, epoch, position):
                handed_over.append((epoch, position))
                position += 1
            commits = assignment.committable()
            for offset in offsets(commits).values():
                assert set(range(committed[0], offset)) <= finished, "committed before it was finished"
                committed[0] = max(committed[0], offset)
            assignment.committed(commits)
        done.set()

    def finish() -> None:
        chooser = random.Random(1)
        waiting: list[tuple[int, int]] = []
        while not done.is_set():
            while handed_over:
                waiting.append(handed_over.popleft())
            if waiting:
                epoch, offset = waiting.pop(chooser.randrange(len(waiting)))
                # It counts as finished before the call: from then on, it may be committed at once.
                finished.add(offset)
                assignment.finish(A, epoch, offset)

    def rebalance() -> None:
        for _ in range(20):
            if done.wait(0.002):
                break
            assignment.revoke([A])
            assignment.assign([A, B])
            assert isinstance(assignment.partitions, frozenset)

    assignment.assign([A])
    threads = [guarded(poll), guarded(finish), guarded(rebalance)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=90)
    done.set()

    assert not errors
    assert committed[0] == 2000


def test_the_oldest_is_the_lowest_unfinished_record_of_each_partition() -> None:
    assignment = held(A, B)
    for offset in range(3):
        assert assignment.start(A, epoch_of(assignment), offset, since=100.0 + offset)
    assert assignment.oldest() == {A: 100.0}
    assignment.finish(A, epoch_of(assignment), 1)
    assert assignment.oldest() == {A: 100.0}
    assignment.finish(A, epoch_of(assignment), 0)
    assert assignment.oldest() == {A: 102.0}
    assignment.start(B, epoch_of(assignment, B), 7, since=5.0)
    assert assignment.oldest() == {A: 102.0, B: 5.0}
    assignment.finish(A, epoch_of(assignment), 2)
    assignment.revoke([B])
    assert assignment.oldest() == {}


def test_records_finished_in_an_earlier_assignment_are_not_the_oldest() -> None:
    assignment = held(A)
    assignment.begin(StartPosition(A, epoch_of(assignment), Committed(0), [0]))
    assert not assignment.start(A, epoch_of(assignment), 0, since=1.0)
    assert assignment.start(A, epoch_of(assignment), 1, since=2.0)
    assert assignment.oldest() == {A: 2.0}


def test_partitions_assigned_together_are_ready_together() -> None:
    """A fetch of only some of them would delay the rest, because the broker holds it for a while."""
    assignment = held(A, B)
    first, second = (StartPosition(place, epoch_of(assignment, place), Committed(at)) for place, at in ((A, 3), (B, 5)))
    gone = StartPosition(Partition("gone", 0), 77, Committed(0))
    assignment.begin(first, gone, second)
    assert assignment.ready() == {A: (first.epoch, 3), B: (second.epoch, 5)}
