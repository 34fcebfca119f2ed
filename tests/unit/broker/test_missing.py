"""Retention overtakes a consumer: each removed record is reported once, with its partition and offsets."""

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
    while process.in_progress:
        for record in list(process.in_progress):
            process.finish(record)
        turn(process)


def counted() -> float:
    return float(metrics.RECORDS_MISSING.labels(GROUP, TOPIC)._value.get())


def test_records_removed_before_the_assignment(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
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
    [line] = [line for line in capsys.readouterr().err.splitlines() if "records were removed before they were read" in line]
    assert all(part in line for part in ("350", TOPIC, "40", "389", "error"))


def test_records_removed_while_reading(cluster: Cluster) -> None:
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


def test_a_failed_commit_reports_nothing_twice(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
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
            cluster.log(ONLY).remove_before(100)  # retention continues in the meantime
            raise UnavailableError("the coordinator is away")
        coordinator_commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cluster.coordinator, "commit", commit)
    turn(second, 8)

    assert second.ledger.missing == [MissingOffsets(GROUP, ONLY, 40, 90, 50), MissingOffsets(GROUP, ONLY, 90, 100, 10)]
    assert counted() - before == 60


def test_a_record_finished_before_it_was_removed_is_not_missing(cluster: Cluster) -> None:
    write(cluster, 6)
    first = Process(cluster, Ledger())
    turn(first)
    for record in first.in_progress[1:4]:
        first.finish(record)
    turn(first)
    first.broker.faults.is_frozen = True
    cluster.virtual.advance(SESSION + 1)
    cluster.log(ONLY).remove_before(5)

    second = Process(cluster, Ledger())
    turn(second)

    assert second.ledger.missing == [MissingOffsets(GROUP, ONLY, 0, 5, 2)], "0 and 4"


def cut(cluster: Cluster, offset: int) -> None:
    """A broker lost the end of its log: its only disk lost power, or the election was unclean."""
    cluster.virtual.advance(1.0)
    cluster.log(ONLY).truncate(offset)


def wait_for_the_log(cluster: Cluster, process: Process) -> None:
    for _ in range(4):
        cluster.virtual.advance(2.0)
        turn(process)
        finish_all(process)


@pytest.mark.parametrize("is_seen", [True, False])
def test_records_at_the_offsets_of_lost_ones_are_reported(cluster: Cluster, is_seen: bool) -> None:
    """Their offsets were already read, so otherwise nobody would read or report them."""
    before = counted()
    process = Process(cluster, Ledger())
    write(cluster, 10)
    turn(process)
    finish_all(process)
    cut(cluster, 6)
    if is_seen:
        turn(process)
        assert f"{ONLY} ends at offset 6" in (process.consumer.problem() or "")
    else:
        process.broker.faults.diverged.add(ONLY)  # the client learns of it from the leader's epoch
    write(cluster, 8)
    wait_for_the_log(cluster, process)

    first = 6 if is_seen else 9  # at least
    assert process.ledger.missing == [MissingOffsets(GROUP, ONLY, first, 10, 10 - first, are_replaced=True)]
    assert counted() - before == 10 - first
    assert sorted(offset for _, offset in process.ledger.finished) == list(range(14))
    assert process.consumer.problem() is None


def test_a_log_that_gets_its_old_end_back_misses_nothing(cluster: Cluster) -> None:
    process = Process(cluster, Ledger())
    write(cluster, 10)
    turn(process)
    finish_all(process)
    cluster.log(ONLY).shown_end = 6
    turn(process)
    cluster.virtual.advance(1.0)
    write(cluster, 3)
    cluster.log(ONLY).shown_end = None
    wait_for_the_log(cluster, process)

    assert process.ledger.missing == []
    assert sorted(offset for _, offset in process.ledger.finished) == list(range(13))


def test_doubt_about_a_log_ends_even_if_the_last_record_read_is_gone(cluster: Cluster) -> None:
    process = Process(cluster, Ledger())
    write(cluster, 10)
    turn(process)
    finish_all(process)
    cluster.log(ONLY).remove_before(10)
    process.broker.faults.diverged.add(ONLY)
    turn(process)
    write(cluster, 2)
    turn(process)
    assert process.ledger.missing == []
    assert [record.offset for record in process.in_progress] == [10, 11]


def test_after_a_restart_a_replaced_log_of_the_same_length_is_reported(cluster: Cluster) -> None:
    first = Process(cluster, Ledger())
    write(cluster, 10)
    turn(first)
    finish_all(first)
    first.broker.faults.is_frozen = True
    cut(cluster, 6)
    cluster.virtual.advance(SESSION + 1)
    second = Process(cluster, Ledger())
    turn(second)
    write(cluster, 8)
    wait_for_the_log(cluster, second)

    assert second.ledger.missing == [MissingOffsets(GROUP, ONLY, 6, 10, 4, are_replaced=True)]
    assert sorted(offset for _, offset in second.ledger.finished) == [10, 11, 12, 13]


def test_a_record_finished_beyond_the_end_of_a_log_is_replaced_by_another(cluster: Cluster) -> None:
    write(cluster, 10)
    first = Process(cluster, Ledger())
    turn(first)
    for record in first.in_progress[1:]:
        first.finish(record)
    turn(first)
    first.broker.faults.is_frozen = True
    cut(cluster, 4)
    cluster.virtual.advance(SESSION + 1)

    second = Process(cluster, Ledger())
    turn(second)
    write(cluster, 8)
    turn(second)

    assert [record.offset for record in second.in_progress] == [0, *range(4, 12)]


def test_a_log_without_its_end_and_its_broker_does_not_block_other_partitions(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.create(TOPIC, 2)
    process = Process(cluster, Ledger())
    for number in range(2):
        cluster.append(Partition(TOPIC, number), b"key", b"value")
    turn(process)
    finish_all(process)
    cut(cluster, 0)
    turn(process)
    client = process.consumer._client
    assert client is not None

    def no_leader(_: object) -> None:
        raise UnavailableError("it has no leader")

    monkeypatch.setattr(client, "bounds", no_leader)
    cluster.virtual.advance(6.0)
    cluster.append(Partition(TOPIC, 1), b"key", b"value")
    turn(process)
    assert [(record.partition.number, record.offset) for record in process.in_progress] == [(1, 1)]


def test_a_group_whose_commits_were_forgotten_reports_where_it_starts(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    write(cluster, 10)
    turn(Process(cluster, Ledger()))
    assert "has no commits" not in capsys.readouterr().err, "it is new, and misses nothing"
    cluster.coordinator.groups.clear()
    cluster.log(ONLY).remove_before(4)
    process = Process(cluster, Ledger())
    turn(process)
    assert [record.offset for record in process.in_progress] == list(range(4, 10))
    [line] = [line for line in capsys.readouterr().err.splitlines() if "the group has no commits" in line]
    assert str(ONLY) in line
