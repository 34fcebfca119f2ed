"""How far a consumer is behind, and since when its oldest record waits."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.broker.api import Partition
from pipeline.broker.assignment import Assignment
from pipeline.broker.fetch_buffers import FetchBuffers
from pipeline.broker.in_flight import InFlight
from pipeline.broker.lag import Lag, waiting_since
from pipeline.broker.memory.cluster import Cluster
from pipeline.ops import metrics
from tests.unit.broker import simulation
from tests.unit.broker.simulation import Ledger, Process

GROUP, TOPIC = "test-lag", "lag-topic"
A, B = Partition(TOPIC, 0), Partition(TOPIC, 1)


def polled(offset: int, *, written_ago: float = 0.0) -> Any:
    return SimpleNamespace(offset=offset, key=b"", value=b"x", headers=[], timestamp=(time.time() - written_ago) * 1000)


class Scene:
    """A consumer of two partitions, without Kafka."""

    def __init__(self, buffers: FetchBuffers) -> None:
        self.buffers, self.assignment, self.outstanding = buffers, Assignment(), InFlight(10, 1000)
        self.assignment.assign([A, B])
        self.later = 0.0
        self.lag = Lag(GROUP, [TOPIC], self.assignment, buffers, self.outstanding, lambda: time.monotonic() + self.later)
        self.positions = {A: 15, B: 15}
        self.lag.show()

    def measure(self) -> None:
        self.lag.measure(self.positions, dict.fromkeys(self.positions, 20), time.time())

    def take(self) -> None:
        """Hand over everything that is due."""
        for partition, buffered in self.buffers.take(lambda _: True, time.monotonic()):
            assert self.assignment.start(
                partition, buffered.epoch, buffered.record.offset, waiting_since(buffered, time.monotonic(), time.time())
            )


def value(name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"group": GROUP, **labels})


def oldest() -> float:
    seconds = value("oms_webhooks_oldest_unfinished_seconds", topic=TOPIC)
    assert seconds is not None
    return seconds


def lag_of(partition: Partition) -> float | None:
    return value("oms_webhooks_consumer_lag_records", topic=TOPIC, partition=str(partition.number))


def test_a_record_waits_from_its_writing_until_it_is_finished() -> None:
    scene = Scene(FetchBuffers())
    epoch = scene.assignment.epoch(A)
    assert epoch is not None
    scene.buffers.add(A, epoch, [polled(3, written_ago=50), polled(4, written_ago=20)])
    scene.measure()
    assert oldest() == pytest.approx(50, abs=5), "it is in a buffer"
    assert (lag_of(A), lag_of(B)) == (17, 5)

    scene.take()
    scene.measure()
    assert oldest() == pytest.approx(50, abs=5), "it is in progress"
    scene.assignment.finish(A, epoch, 3)
    scene.measure()
    assert oldest() == pytest.approx(20, abs=5)
    scene.assignment.finish(A, epoch, 4)
    scene.measure()
    assert oldest() == 0


def test_waiting_times_are_measured_with_the_clock_that_stamped_the_record() -> None:
    """A machine whose clock is two minutes ahead would raise a critical alert; one that is behind, none."""
    cluster = Cluster()
    cluster.create(simulation.TOPIC, 1)
    member = Process(cluster, Ledger())
    written = cluster.append(Partition(simulation.TOPIC, 0), b"key", b"value")
    member.consumer._wall = lambda: written.timestamp / 1000 + 3.0
    for _ in range(4):
        member.join()
        member.fetch()
    [since] = member.consumer._assignment.oldest().values()
    assert member.consumer._clock() - since == pytest.approx(3.0)


@pytest.mark.parametrize("timestamp", [-1, 0, 1_772_463_840, 1_772_463_840_600_000_000])
def test_a_record_without_a_usable_timestamp_waits_from_now(timestamp: int) -> None:
    """A critical alert would say that an event has been waiting for 56 years."""
    scene = Scene(FetchBuffers())
    epoch = scene.assignment.epoch(A)
    assert epoch is not None
    written = polled(3)
    written.timestamp = timestamp
    scene.buffers.add(A, epoch, [written])
    scene.measure()
    assert oldest() < 5, "it is in a buffer"

    scene.take()
    scene.measure()
    assert oldest() < 5, "it is in progress"
    scene.later = 100.0
    assert oldest() == pytest.approx(100, abs=5)


def test_in_a_delay_topic_a_record_waits_from_its_due_time() -> None:
    due = {1: -30.0, 2: 600.0}
    scene = Scene(FetchBuffers(lambda record: due[record.offset]))
    epoch = scene.assignment.epoch(A)
    assert epoch is not None
    scene.buffers.add(A, epoch, [polled(1, written_ago=4000), polled(2, written_ago=4000)])
    scene.measure()
    assert oldest() == pytest.approx(30, abs=5)
    scene.take()
    scene.measure()
    assert oldest() == pytest.approx(30, abs=5)
    scene.assignment.finish(A, epoch, 1)
    scene.measure()
    assert oldest() == 0, "a record that is not due is not late"


def test_the_age_grows_even_without_measurements() -> None:
    scene = Scene(FetchBuffers())
    scene.buffers.add(A, 1, [polled(3, written_ago=1)])
    scene.measure()
    scene.later = 300.0
    assert oldest() == pytest.approx(301, abs=5)


def test_a_revoked_partition_is_no_longer_shown() -> None:
    scene = Scene(FetchBuffers())
    scene.measure()
    assert (lag_of(A), lag_of(B)) == (5, 5)
    scene.positions = {B: 15}
    scene.measure()
    assert (lag_of(A), lag_of(B)) == (None, 5)
    scene.lag.forget()
    assert lag_of(B) is None
    assert value("oms_webhooks_oldest_unfinished_seconds", topic=TOPIC) is None
