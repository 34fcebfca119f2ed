"""A group gets more topics while it runs, a turn at a time, on the broker in memory: nothing is left unread or begun twice."""

from __future__ import annotations

import random

import pytest

from pipeline.broker.api import Partition
from pipeline.broker.assignment_check import ADDED_S, CONFIRM_S, FIRST_LOOK_S
from pipeline.broker.memory.cluster import Cluster
from tests.unit.broker.simulation import GROUP, SESSION, TOPIC, Ledger, Process

ADDED = "oms.refunds"
PARTITIONS = 3


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    for topic in (TOPIC, ADDED):
        cluster.create(topic, PARTITIONS)
    return cluster


def write(cluster: Cluster, ledger: Ledger, topic: str, count: int = 6) -> None:
    for number in range(count):
        partition = Partition(topic, number % PARTITIONS)
        ledger.written.add((partition, cluster.append(partition, b"key", b"value").offset))


def turns(cluster: Cluster, *processes: Process, count: int = 8, finish: bool = True) -> None:
    for _ in range(count):
        for each in processes:
            each.join()
            each.fetch()
            for record in each.begin() if finish else ():
                each.finish(record)
            each.begin()
        cluster.virtual.advance(0.1)


def held(process: Process) -> set[Partition]:
    return set(process.consumer._assignment.partitions)


def test_adding_a_topic_keeps_held_partitions_and_reads_the_topic_from_its_beginning(cluster: Cluster) -> None:
    ledger = Ledger()
    process = Process(cluster, ledger)
    write(cluster, ledger, TOPIC)
    write(cluster, ledger, ADDED)
    turns(cluster, process, finish=False)
    epochs = {partition: process.consumer._assignment.epoch(partition) for partition in held(process)}
    assert len(process.in_progress) == 6
    process.consumer.add_topics([ADDED])
    turns(cluster, process)
    assert {partition: process.consumer._assignment.epoch(partition) for partition in epochs} == epochs, "no epoch has ended"
    assert {partition.topic for partition in held(process)} == {TOPIC, ADDED}
    for record in list(process.in_progress):
        process.finish(record)
    assert set(ledger.begun) == ledger.finished == ledger.written
    assert set(ledger.begun.values()) == {1}, "nothing is begun twice"
    assert process.consumer.topics == (TOPIC, ADDED)


def test_a_member_that_does_not_know_the_topic_yet_is_assigned_none_of_it(cluster: Cluster) -> None:
    ledger = Ledger()
    knowing, unknowing = Process(cluster, ledger), Process(cluster, ledger)
    turns(cluster, knowing, unknowing)
    write(cluster, ledger, ADDED)
    knowing.consumer.add_topics([ADDED])
    turns(cluster, knowing, unknowing, count=20)
    assert {partition for partition in held(knowing) if partition.topic == ADDED} == set(cluster.partitions_of(ADDED))
    unknowing.consumer.add_topics([ADDED])
    write(cluster, ledger, ADDED)
    turns(cluster, knowing, unknowing, count=20)
    assert held(knowing) | held(unknowing) == {*cluster.partitions_of(TOPIC), *cluster.partitions_of(ADDED)}
    assert ledger.finished == ledger.written
    assert set(ledger.begun.values()) == {1}


@pytest.mark.parametrize("slot", [None, "a"])
def test_the_topic_is_read_even_if_the_process_is_killed_before_it_joins(cluster: Cluster, slot: str | None) -> None:
    """A static member returns in its former place, and the group does not redistribute anything."""
    ledger = Ledger()
    killed = Process(cluster, ledger, slot)
    turns(cluster, killed)
    killed.broker.faults.is_frozen = True
    write(cluster, ledger, ADDED)
    back = Process(cluster, ledger, slot)
    back.consumer.add_topics([ADDED])  # it has learnt of the topic before it joins
    turns(cluster, back, count=20)
    if slot is not None:
        assert ADDED not in {partition.topic for partition in held(back)}, "this is the state to detect"
        for wait in (FIRST_LOOK_S, CONFIRM_S):
            cluster.virtual.advance(wait)
            turns(cluster, back, count=20)
    else:
        cluster.virtual.advance(SESSION + 1)
        turns(cluster, back, count=20)
    assert ledger.finished == ledger.written
    history = cluster.coordinator.group(GROUP).history
    assert {partition.topic for partition, _ in history} >= {ADDED}


def test_a_removed_member_rejoins_with_all_topics(cluster: Cluster) -> None:
    ledger = Ledger()
    process = Process(cluster, ledger)
    process.consumer.add_topics([ADDED])
    turns(cluster, process)
    process.broker.faults.is_frozen = True
    cluster.virtual.advance(SESSION + 1)
    other = Process(cluster, ledger)
    turns(cluster, other)
    process.broker.faults.is_frozen = False
    write(cluster, ledger, ADDED)
    turns(cluster, process, other)
    cluster.virtual.advance(SESSION + 1)  # the group waits for the former member
    turns(cluster, process, other, count=30)
    assert ledger.finished == ledger.written
    assert ADDED in {partition.topic for partition in held(process)}


@pytest.mark.parametrize("seed", range(15))
def test_nothing_is_lost_when_processes_die_at_any_time(seed: int) -> None:
    chance, ledger, cluster = random.Random(seed), Ledger(), Cluster()
    cluster.create(TOPIC, PARTITIONS)
    topics, processes = [TOPIC], {slot: Process(cluster, ledger, slot) for slot in ("a", "b")}
    for step in range(60):
        match chance.randrange(8):
            case 0 if len(topics) < 4:  # an event type is added: every process learns of it, now or later
                topics.append(f"oms.added-{step}")
                cluster.create(topics[-1], PARTITIONS)
            case 1:
                slot = chance.choice("ab")
                processes[slot].broker.faults.is_frozen = True
                processes[slot] = Process(cluster, ledger, slot)
                processes[slot].consumer.add_topics([topic for topic in topics[1:] if chance.random() < 0.8])
            case 2:
                cluster.virtual.advance(chance.choice((1.0, SESSION + 1)))
            case 3:
                chance.choice(list(processes.values())).consumer.add_topics(topics[1:])
            case 4 | 5:
                write(cluster, ledger, chance.choice(topics), 3)
            case _:
                turns(cluster, *processes.values(), count=2, finish=chance.random() < 0.7)
    for process in processes.values():
        process.consumer.add_topics(topics[1:])
    for _ in range(6):
        turns(cluster, *processes.values(), count=10)
        for process in processes.values():
            for record in list(process.in_progress):
                process.finish(record)
        cluster.virtual.advance(2 * ADDED_S)
    assert ledger.finished == ledger.written
    assert held(processes["a"]) | held(processes["b"]) == {each for topic in topics for each in cluster.partitions_of(topic)}
    history = cluster.coordinator.group(GROUP).history
    for partition in {partition for partition, _ in history}:
        offsets = [offset for each, offset in history if each == partition]
        assert offsets == sorted(offsets), "no commit goes back"
