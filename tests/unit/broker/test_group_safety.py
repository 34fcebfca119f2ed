"""Whatever happens to processes, brokers and topics: nothing is lost, no commit goes back, and only what was in progress is
processed again.

It takes seconds, which are CPU: 20 examples of up to 40 steps, and in each step several processes take turns.
"""

from __future__ import annotations

import os

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.broker.api import Partition
from pipeline.broker.memory.cluster import Cluster
from tests.unit.broker.simulation import GROUP, SESSION, TOPIC, Ledger, Process

PARTITIONS = 4
NOT_COMMITTED = 100
"""Records that may be processed again besides those in progress: finished, but not committed yet."""


class GroupSafety(RuleBasedStateMachine):
    """The machine does at random what the world does; the ledger is the model."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster()
        self.cluster.create(TOPIC, PARTITIONS)
        self.ledger = Ledger()
        self.allowed = 0
        """Records that the faults so far allow to be processed again."""
        self.number = 0
        self.processes = [self.started(), self.started()]
        for _ in range(6):
            self.turn()

    def started(self) -> Process:
        self.number += 1
        return Process(self.cluster, self.ledger, slot=f"slot-{self.number}" if self.number % 2 else None)

    def turn(self) -> None:
        for process in self.processes:
            process.join()
            process.fetch()
            self.begun(process)

    def begun(self, process: Process) -> None:
        for record in process.begin():
            holders = [
                member.member_id
                for member in self.cluster.coordinator.group(GROUP).members.values()
                if record.partition in member.assigned and member.member_id != process.consumer._member._member_id
            ]
            is_joining = self.cluster.coordinator.group(GROUP).is_joining
            assert not holders or is_joining, f"{record.partition} was begun, and {holders} holds it"

    def disturbed(self, process: Process) -> None:
        """Count what a fault allows to be processed again: what the process has, and what it has not committed."""
        self.allowed += len(process.in_progress) + len(process.fetched) + NOT_COMMITTED

    @rule(partition=st.integers(0, PARTITIONS - 1), count=st.integers(1, 30))
    def write(self, partition: int, count: int) -> None:
        for _ in range(count):
            stored = self.cluster.append(Partition(TOPIC, partition), b"key", b"value")
            self.ledger.written.add((Partition(TOPIC, partition), stored.offset))

    @rule(seconds=st.floats(0.01, 3.0))
    def time_passes(self, seconds: float) -> None:
        self.cluster.virtual.advance(seconds)

    @rule(data=st.data())
    def join_a_process(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.processes)).join()

    @rule(data=st.data())
    def let_a_process_fetch(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.processes))
        process.fetch()
        self.begun(process)

    @rule(data=st.data(), most=st.integers(1, 20))
    def finish_records(self, data: st.DataObject, most: int) -> None:
        process = data.draw(st.sampled_from(self.processes))
        if not process.broker.faults.is_frozen:
            for record in data.draw(st.permutations(process.in_progress))[:most]:
                process.finish(record)

    @precondition(lambda self: len(self.processes) < 4)
    @rule()
    def start_a_process(self) -> None:
        for process in self.processes:
            self.disturbed(process)
        self.processes.append(self.started())

    @rule(data=st.data())
    def kill_a_process(self, data: st.DataObject) -> None:
        victim = data.draw(st.sampled_from(self.processes))
        for process in self.processes:
            self.disturbed(process)
        victim.broker.faults.is_frozen = True
        self.processes.remove(victim)
        self.processes.append(Process(self.cluster, self.ledger, slot=victim.broker._slot))

    @precondition(lambda self: len(self.processes) < 4)
    @rule(data=st.data())
    def kill_a_process_during_revocation(self, data: st.DataObject) -> None:
        victim = data.draw(st.sampled_from(self.processes))
        victim.die_at_revocation()
        self.start_a_process()
        for _ in range(3):
            self.turn()
        if victim.broker.faults.is_frozen:
            self.processes.remove(victim)
            self.processes.append(Process(self.cluster, self.ledger, slot=victim.broker._slot))
        else:
            del victim.consumer._member.revoked

    @rule(data=st.data(), seconds=st.floats(0.5, 40.0), turns=st.integers(0, 4), silent=st.booleans())
    def freeze_and_thaw_a_process(self, data: st.DataObject, seconds: float, turns: int, silent: bool) -> None:
        victim = data.draw(st.sampled_from(self.processes))
        for process in self.processes:
            self.disturbed(process)
        victim.broker.faults.reports_losses = not silent
        victim.broker.faults.is_frozen = True
        for _ in range(turns + 1):
            self.cluster.virtual.advance(seconds / (turns + 1))
            self.turn()
        victim.broker.faults.is_frozen = False

    @rule(seconds=st.floats(0.5, 40.0), data=st.data())
    def disconnect_the_brokers(self, seconds: float, data: st.DataObject) -> None:
        for process in self.processes:
            self.disturbed(process)
        self.cluster.is_away = True
        for _ in range(3):
            self.cluster.virtual.advance(seconds / 3)
            self.turn()
        self.cluster.is_away = False

    @rule(data=st.data(), offset=st.integers(0, 200))
    def rewind_a_reader(self, data: st.DataObject, offset: int) -> None:
        data.draw(st.sampled_from(self.processes)).broker.faults.rewinds_to = offset

    @rule(partition=st.integers(0, PARTITIONS - 1), fewer=st.integers(1, 20))
    def show_an_old_state_of_a_leader(self, partition: int, fewer: int) -> None:
        for process in self.processes:  # a record finished beyond the end may have been replaced by another one
            self.disturbed(process)
        log = self.cluster.log(Partition(TOPIC, partition))
        log.shown_end = max(log.end - fewer, log.first)
        self.turn()
        self.cluster.virtual.advance(6.0)
        self.turn()
        log.shown_end = None

    @rule(partition=st.integers(0, PARTITIONS - 1), count=st.integers(1, 40))
    def remove_records(self, partition: int, count: int) -> None:
        where = Partition(TOPIC, partition)
        log = self.cluster.log(where)
        before = log.first
        log.remove_before(log.first + count)
        self.ledger.removed |= {(where, offset) for offset in range(before, log.first) if not self.ledger.begun[where, offset]}

    @rule()
    def take_turns(self) -> None:
        self.turn()

    @invariant()
    def no_commit_goes_back(self) -> None:
        highest: dict[Partition, int] = {}
        for partition, offset in self.cluster.coordinator.group(GROUP).history:
            assert offset >= highest.get(partition, 0), f"{partition} went from {highest[partition]} back to {offset}"
            highest[partition] = offset

    @invariant()
    def only_what_was_in_progress_is_processed_again(self) -> None:
        again = sum(count - 1 for count in self.ledger.begun.values())
        assert again <= self.allowed

    def teardown(self) -> None:
        """When the faults have ended, everything is processed, and the number of missing records was reported."""
        for _ in range(60):
            self.cluster.virtual.advance(SESSION / 5)
            self.turn()
            for process in self.processes:
                for record in list(process.in_progress):
                    process.finish(record)
        undone = self.ledger.written - self.ledger.finished - self.ledger.removed
        held = {partition: log.first for partition, log in ((p, self.cluster.log(p)) for p in self.cluster.partitions_of(TOPIC))}
        undone = {(partition, offset) for partition, offset in undone if offset >= held[partition]}
        assert not undone, f"lost: {sorted(undone)[:5]}"
        reported = sum(missing.records for missing in self.ledger.missing)
        unread = len(self.ledger.removed - self.ledger.finished)
        assert reported >= unread, f"{unread} were removed unread, {reported} reported"


GroupSafety.TestCase.settings = settings(
    max_examples=int(os.environ.get("SAFETY_EXAMPLES", "20")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_group_safety = GroupSafety.TestCase
