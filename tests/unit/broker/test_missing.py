"""Retention overtakes a consumer: each record that is gone is told once, with its partition and offsets."""

from __future__ import annotations

import pytest

from pipeline.broker.api import Partition
from pipeline.broker.errors import UnavailableError
from pipeline.broker.memory.cluster import Cluster
from pipeline.broker.start_offset import MissingOffsets
from pipeline.ops import metrics
from tests.unit.broker.simulation import GROUP, SESSION, TOPIC, Ledger, Process

ONLY = Partition(TOPIC, 0)


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.create(TOPIC, 1)
    return cluster


def write(cluster: Cluster, count: int) -> None:
    for _ in range(count):
        cluster.append(ONLY, b"key", b"value")


def turn(process: Process, count: int = 4) -> None:
    for _ in range(count):
        process.join()
        process.fetch()
        process.begin()


def finish_all(process: Process) -> None:
    while process.under_way:
        for record in list(process.under_way):
            process.finish(record)
        turn(process)


def counted() -> float:
    return float(metrics.RECORDS_MISSING.labels(GROUP, TOPIC)._value.get())


def test_at_the_assignment(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    before = counted()
    first = Process(cluster, Ledger())
    write(cluster, 40)
    turn(first)
    finish_all(first)
    first.broker.faults.is_frozen = True
    cluster.virtual.advance(SESSION + 1)
    write(cluster, 360)
    cluster.log(ONLY).remove_before(390)

    second = Process(cluster, Ledger())
    turn(second)
    finish_all(second)

    assert second.ledger.missing == [MissingOffsets(GROUP, ONLY, 40, 390, 350)]
    assert sorted(offset for _, offset in second.ledger.finished) == list(range(390, 400))
    assert counted() - before == 350
    [told] = [line for line in capsys.readouterr().err.splitlines() if "records were removed before they were read" in line]
    assert all(part in told for part in ("350", TOPIC, "40", "389", "error"))


def test_while_it_reads(cluster: Cluster) -> None:
    before = counted()
    process = Process(cluster, Ledger())
    turn(process)
    write(cluster, 5)
    turn(process)
    finish_all(process)
    write(cluster, 100)
    cluster.log(ONLY).remove_before(65)
    turn(process)
    finish_all(process)

    assert process.ledger.missing == [MissingOffsets(GROUP, ONLY, 5, 65, 60)]
    assert sorted(offset for _, offset in process.ledger.finished) == [*range(5), *range(65, 105)]
    assert counted() - before == 60


def test_a_commit_that_fails_tells_of_nothing_twice(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    before = counted()
    write(cluster, 40)
    first = Process(cluster, Ledger())
    turn(first)
    finish_all(first)
    first.broker.faults.is_frozen = True
    cluster.virtual.advance(SESSION + 1)
    write(cluster, 100)
    cluster.log(ONLY).remove_before(90)
    second = Process(cluster, Ledger())
    refused = iter([True, True])
    coordinator_commit = cluster.coordinator.commit

    def commit(*arguments: object) -> None:
        if next(refused, False):
            cluster.log(ONLY).remove_before(100)  # it goes on meanwhile
            raise UnavailableError("the coordinator is away")
        coordinator_commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cluster.coordinator, "commit", commit)
    turn(second, 8)

    assert second.ledger.missing == [MissingOffsets(GROUP, ONLY, 40, 90, 50), MissingOffsets(GROUP, ONLY, 90, 100, 10)]
    assert counted() - before == 60


def test_what_was_finished_before_it_was_removed_is_not_missing(cluster: Cluster) -> None:
    write(cluster, 6)
    first = Process(cluster, Ledger())
    turn(first)
    for record in first.under_way[1:4]:
        first.finish(record)
    turn(first)
    first.broker.faults.is_frozen = True
    cluster.virtual.advance(SESSION + 1)
    cluster.log(ONLY).remove_before(5)

    second = Process(cluster, Ledger())
    turn(second)

    assert second.ledger.missing == [MissingOffsets(GROUP, ONLY, 0, 5, 2)], "0 and 4"
