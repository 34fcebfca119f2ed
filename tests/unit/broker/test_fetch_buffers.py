"""Polled records wait in buffers: in order, by turns, and within a limit of bytes."""

from __future__ import annotations

import math
import random
from collections import deque
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.api import Partition, size_of
from pipeline.broker.fetch_buffers import FetchBuffers
from pipeline.broker.in_flight import InFlight

A, B, C = (Partition("t", number) for number in range(3))


def polled(offset: int, *, size: int = 0, due: float = 0.0) -> Any:
    return SimpleNamespace(offset=offset, key=b"", value=b"x" * size, headers=[], due=due)


def by_due(record: Any) -> float:
    return float(record.due)


def taken(buffers: FetchBuffers, room: int, now: float = 0.0) -> list[tuple[Partition, int]]:
    """Take at most ``room`` records."""
    left = iter([True] * room)
    return [(partition, buffered.record.offset) for partition, buffered in buffers.take(lambda _: next(left, False), now)]


def test_records_of_a_partition_come_in_order_with_their_epoch_and_size() -> None:
    buffers = FetchBuffers()
    buffers.add(A, 4, [polled(7, size=10), polled(9, size=20)])
    buffers.add(A, 5, [polled(10)])

    found = list(buffers.take(lambda _: True, 0.0))

    assert [(partition, buffered.epoch, buffered.record.offset) for partition, buffered in found] == [
        (A, 4, 7),
        (A, 4, 9),
        (A, 5, 10),
    ]
    assert [buffered.size for _, buffered in found] == [size_of(b"", b"x" * size, []) for size in (10, 20, 0)]
    assert (buffers.bytes, buffers.partitions, buffers.heads()) == (0, frozenset(), {})


def test_an_empty_poll_leaves_nothing_behind() -> None:
    buffers = FetchBuffers()
    buffers.add(A, 1, [])
    assert (buffers.partitions, buffers.next_due()) == (frozenset(), math.inf)


def test_partitions_take_turns() -> None:
    buffers = FetchBuffers()
    for partition in (A, B, C):
        buffers.add(partition, 1, [polled(offset) for offset in range(3)])

    assert taken(buffers, 2) == [(A, 0), (A, 1)]
    assert taken(buffers, 2) == [(B, 0), (B, 1)]
    assert taken(buffers, 4) == [(C, 0), (C, 1), (C, 2), (A, 2)]
    assert taken(buffers, 9) == [(B, 2)]


def test_a_large_record_is_not_overtaken_until_it_fits() -> None:
    buffers, outstanding = FetchBuffers(), InFlight(100, 10_000)
    outstanding.add(5_000)
    buffers.add(A, 1, [polled(0, size=8_000)])
    buffers.add(B, 1, [polled(0, size=10)])

    assert list(buffers.take(outstanding.fits, 0.0)) == []
    outstanding.finish(5_000)
    assert [partition for partition, _ in buffers.take(outstanding.fits, 0.0)] == [A, B]


def test_only_due_records_are_taken_and_the_next_due_time_is_known() -> None:
    buffers = FetchBuffers(by_due, lambda: 0.0)
    buffers.add(A, 1, [polled(0, due=10.0), polled(1, due=30.0)])
    buffers.add(B, 1, [polled(0, due=20.0)])

    assert buffers.next_due() == 10.0
    assert taken(buffers, 9, now=9.9) == []
    assert taken(buffers, 9, now=10.0) == [(A, 0)]
    assert buffers.next_due() == 20.0
    assert buffers.heads()[A].record.offset == 1


def test_the_records_that_are_due_last_are_evicted_when_there_are_too_many() -> None:
    buffers = FetchBuffers(by_due, lambda: 0.0)
    buffers.add(A, 1, [polled(5, size=1_000, due=50.0)])
    buffers.add(B, 1, [polled(6, size=1_000, due=70.0)])
    buffers.add(C, 1, [polled(7, size=9_000, due=0.0)])  # due: it is handed over, not evicted
    one = size_of(b"", b"x" * 1_000, [])

    assert buffers.evict(2 * one, now=10.0) == {}
    assert buffers.evict(one, now=10.0) == {B: 6}
    assert buffers.partitions == {A, B, C}, "none of them is to be fetched"
    assert B not in buffers.heads()
    assert taken(buffers, 9, now=60.0) == [(A, 5), (C, 7)]
    assert buffers.next_due() == 70.0

    buffers.release_due(69.9)
    assert buffers.partitions == {B}
    buffers.release_due(70.0)
    assert buffers.partitions == frozenset(), "it can be fetched again"


def test_a_consumer_whose_records_are_always_due_evicts_none() -> None:
    buffers = FetchBuffers()
    buffers.add(A, 1, [polled(0, size=5_000)])
    assert buffers.evict(0, now=0.0) == {}


def test_a_dropped_partition_is_forgotten() -> None:
    buffers = FetchBuffers(by_due, lambda: 0.0)
    buffers.add(A, 1, [polled(0, due=50.0)])
    buffers.add(B, 1, [polled(0, due=60.0)])
    buffers.evict(0, now=0.0)
    buffers.drop(A)
    assert buffers.partitions == {B}
    buffers.drop(B)
    assert (buffers.partitions, buffers.next_due()) == (frozenset(), math.inf)


@given(seed=st.integers(0, 10**6))
def test_nothing_is_lost_or_reordered_and_the_limits_hold(seed: int) -> None:
    """A small consumer: fetch, hand over, evict and read again, finish. Each record is returned once, in order."""
    chance = random.Random(seed)
    max_bytes = chance.randint(3_000, 20_000)
    buffers, outstanding = FetchBuffers(by_due, lambda: 0.0), InFlight(chance.randint(1, 5), max_bytes)
    logs = {
        partition: [
            polled(offset, size=chance.choice([0, 500, 30_000]), due=offset * chance.randint(1, 3)) for offset in range(20)
        ]
        for partition in (A, B, C)
    }
    for log in logs.values():
        log.sort(key=by_due)
        for offset, record in enumerate(log):
            record.offset = offset
    position, came = dict.fromkeys(logs, 0), {partition: list[int]() for partition in logs}
    in_progress: deque[int] = deque()
    for now in range(2_000):
        buffers.release_due(now)
        for partition in set(logs) - buffers.partitions:
            count = chance.randint(1, 4)
            buffers.add(partition, 1, logs[partition][position[partition] : position[partition] + count])
            position[partition] = min(20, position[partition] + count)
        for partition, buffered in buffers.take(outstanding.fits, now):
            outstanding.add(buffered.size)
            in_progress.append(buffered.size)
            came[partition].append(buffered.record.offset)
        assert outstanding.bytes <= max_bytes or outstanding.records == 1
        position |= buffers.evict(max_bytes // 2, now)
        while in_progress and chance.random() < 0.7:
            outstanding.finish(in_progress.popleft())
        if all(len(offsets) == 20 for offsets in came.values()):
            break
    assert came == {partition: list(range(20)) for partition in logs}


def test_no_record_is_returned_early_however_long_the_clock_takes() -> None:
    """A retry was made a few milliseconds early, because the process had to wait for a core between the two clocks."""
    now = 50.0

    def due_in(record: Any) -> float:
        nonlocal now
        left = float(record.due) - now
        now += 3.0  # another process gets the core
        return left

    buffers = FetchBuffers(due_in, lambda: now)
    buffers.add(A, 1, [polled(0, due=60.0), polled(1, due=80.0)])
    assert taken(buffers, 9, now=60.0) == []
    assert taken(buffers, 9, now=63.0) == [(A, 0)]
    assert buffers.next_due() == 83.0
