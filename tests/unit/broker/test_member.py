"""Membership, a turn at a time, on the broker in memory: what is assumed, what is confirmed, and what is forgotten."""

from __future__ import annotations

import pytest

from pipeline.broker.api import Committed, Partition
from pipeline.broker.assignment_check import CONFIRM_S, FIRST_LOOK_S
from pipeline.broker.errors import NotMemberError, RefusedError, UnavailableError
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.memory.cluster import Cluster
from tests.unit.broker.simulation import GROUP, SESSION, TOPIC, Ledger, Process

ONLY = Partition(TOPIC, 0)


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.create(TOPIC, 1)
    return cluster


def process(cluster: Cluster, slot: str | None = None) -> Process:
    return Process(cluster, Ledger(), slot)


def turns(*processes: Process, count: int = 4) -> None:
    for _ in range(count):
        for each in processes:
            each.join()
            each.fetch()
            each.begin()


def write(cluster: Cluster, count: int) -> None:
    for _ in range(count):
        cluster.append(ONLY, b"key", b"value")


def begun(process: Process) -> list[int]:
    return [record.offset for record in process.in_progress]


def committed(cluster: Cluster) -> Committed:
    return cluster.coordinator.group(GROUP).committed[ONLY]


def held(process: Process) -> frozenset[Partition]:
    return frozenset(process.consumer._assignment.partitions)


def problem(process: Process) -> str | None:
    return process.consumer._member.problem()


def kill(process: Process) -> None:
    process.broker.faults.is_frozen = True


def test_records_finished_beyond_the_commit_are_not_begun_again(cluster: Cluster) -> None:
    first = process(cluster)
    write(cluster, 6)
    turns(first)
    for record in first.in_progress[1:4]:
        first.finish(record)
    turns(first)
    assert committed(cluster).offset == 0, "the first record holds the offset back"
    kill(first)
    cluster.virtual.advance(SESSION + 1)

    second = process(cluster)
    turns(second)
    assert begun(second) == [0, 4, 5]


def test_a_record_of_an_epoch_that_has_ended_is_not_begun(cluster: Cluster) -> None:
    member = process(cluster)
    write(cluster, 3)
    member.join()
    member.join()
    for _ in range(3):
        member.fetch()
    assert member.fetched, "handed over, and not begun"
    member.consumer._member.lost([ONLY])
    member.join()
    cluster.virtual.advance(SESSION + 1)  # the group gives up the former member
    turns(member)
    assert begun(member) == [0, 1, 2], "each once: under the new epoch"


def test_a_member_that_slept_while_another_took_over_begins_and_commits_nothing(cluster: Cluster) -> None:
    sleeper = process(cluster)
    sleeper.broker.faults.reports_losses = False
    write(cluster, 10)
    turns(sleeper)
    kill(sleeper)
    cluster.virtual.advance(SESSION + 1)

    other = process(cluster)
    turns(other)
    for record in list(other.in_progress):
        other.finish(record)
    turns(other)
    assert committed(cluster).offset == 10

    sleeper.broker.faults.is_frozen = False
    for record in list(sleeper.in_progress):
        sleeper.finish(record)
    write(cluster, 1)
    turns(sleeper, other)
    history = [offset for partition, offset in cluster.coordinator.group(GROUP).history if partition == ONLY]
    assert history == sorted(history), "no commit went back"
    assert begun(sleeper) + begun(other) == [10], "one of them, once"


def test_in_doubt_nothing_is_begun_until_the_group_has_confirmed(cluster: Cluster) -> None:
    member = process(cluster)
    write(cluster, 1)
    turns(member)
    cluster.virtual.advance(SESSION * 0.8)  # not long enough to be removed from the group
    write(cluster, 1)
    member.fetch()
    member.begin()
    assert begun(member) == [0]
    assert "nothing is started until it does" in str(member.consumer.problem())
    turns(member)
    assert begun(member) == [0, 1]
    assert problem(member) is None


def test_a_commit_of_another_process_ends_a_membership_in_doubt(cluster: Cluster) -> None:
    member = process(cluster)
    write(cluster, 5)
    turns(member)
    cluster.virtual.advance(SESSION * 0.8)
    cluster.coordinator.group(GROUP).committed[ONLY] = Committed(4)  # as a process would that the coordinator takes for the owner
    client = member.consumer._member._client
    assert client is not None
    with pytest.raises(NotMemberError, match="another process"):
        member.consumer._member._turn(client)


def test_a_confirmation_does_not_go_back_behind_a_commit_whose_answer_was_lost(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two of three brokers down, a commit was in the coordinator's log, but the coordinator returned the one before it."""
    member = process(cluster)
    write(cluster, 2)
    turns(member)
    client = member.consumer._member._client
    assert client is not None
    commit, before = client.commit, committed(cluster)

    def lose_the_answer(commits: dict[Partition, Committed]) -> None:
        commit(commits)
        raise UnavailableError("too few replicas")

    monkeypatch.setattr(client, "commit", lose_the_answer)
    member.finish(member.in_progress[0])
    member.join()
    assert committed(cluster).offset == 1
    monkeypatch.setattr(client, "commit", commit)
    monkeypatch.setattr(client, "committed", lambda partitions: dict.fromkeys(partitions, before))
    cluster.virtual.advance(SESSION * 0.8)
    turns(member)
    offsets = [offset for partition, offset in cluster.coordinator.group(GROUP).history if partition == ONLY]
    assert offsets == sorted(offsets)
    assert (problem(member), committed(cluster).offset) == (None, 1)


def test_a_commit_during_which_membership_was_lost_is_not_trusted(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    member = process(cluster)
    write(cluster, 2)
    turns(member)
    client = member.consumer._member._client
    assert client is not None
    commit = client.commit

    def lose_it(commits: dict[Partition, Committed]) -> None:
        commit(commits)
        client._identity = None  # type: ignore[attr-defined]  # what the client learns from its heartbeats

    monkeypatch.setattr(client, "commit", lose_it)
    member.finish(member.in_progress[0])
    member.join()
    assert member.consumer._member._client is None, "discarded, with everything it believed"
    assert not member.consumer._member.lease.is_valid()


def test_a_lease_that_expires_while_offsets_are_looked_up_commits_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = process(cluster)
    write(cluster, 2)
    turns(member)
    before = committed(cluster)
    member.finish(member.in_progress[0])
    # The answers took so long that the group may have removed this process.
    monkeypatch.setattr(member.consumer._member, "_begin", lambda _: cluster.virtual.advance(SESSION * 0.8))
    client = member.consumer._member._client
    assert client is not None
    member.consumer._member._turn(client)
    assert committed(cluster) == before


def test_a_new_partition_without_a_leader_does_not_block_commits_of_others(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = process(cluster)
    write(cluster, 3)
    turns(member)
    client = member.consumer._member._client
    assert client is not None

    def no_leader(_: object) -> None:
        raise UnavailableError("it has no leader")

    monkeypatch.setattr(client, "bounds", no_leader)
    topic = cluster.topics[TOPIC]
    topic.logs.append(type(topic.logs[0])())
    turns(member)
    assert held(member) == {ONLY, Partition(TOPIC, 1)}
    for record in list(member.in_progress):
        member.finish(record)
    for _ in range(20):
        cluster.virtual.advance(1.0)
        turns(member)
    assert committed(cluster) == Committed(3)
    assert problem(member) is None


def test_lost_partitions_are_released_at_once_and_the_member_rejoins(cluster: Cluster) -> None:
    member = process(cluster)
    write(cluster, 1)
    turns(member)
    [record] = member.in_progress
    client = member.consumer._member._client
    assert client is not None
    member.consumer._member.lost([ONLY])
    assert not member.consumer.is_current(record)
    with pytest.raises(NotMemberError, match="removed from the group"):
        member.consumer._member._turn(client)


def test_reports_of_a_discarded_client_during_close_do_not_affect_the_next_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A static member that joined twice was not told that it is the leader, and the group assigned nothing."""
    member = process(cluster, slot="host-0")
    write(cluster, 1)
    turns(member)
    discarded = member.consumer._member._client

    def refuse(*_: object) -> None:
        raise NotMemberError("UnknownMemberIdError")

    monkeypatch.setattr(discarded, "commit", refuse)
    member.finish(member.in_progress[0])
    member.join()
    member.join()
    client = member.consumer._member._client
    assert client not in (None, discarded)
    turns(member)
    assert member.consumer._member._client is client
    assert held(member) == {ONLY}


def test_in_doubt_nothing_is_committed_for_revoked_partitions(cluster: Cluster) -> None:
    in_doubt, healthy = process(cluster), process(cluster)
    write(cluster, 2)
    for each, advances in ((healthy, 0.0), (in_doubt, SESSION * 0.8)):
        turns(each)
        each.finish(each.in_progress[0])
        cluster.virtual.advance(advances)
        assert bool(each.consumer._member.revoked([ONLY])) == (advances == 0.0)
        each.consumer._member._part(leave=True)


def test_no_more_records_are_begun_of_partitions_that_are_about_to_be_revoked(cluster: Cluster) -> None:
    member = process(cluster)
    write(cluster, 2)
    turns(member)
    listener = member.consumer._member
    first, second = member.in_progress
    member.finish(first)
    assert not listener.releasing([ONLY]), "the second one is in progress"
    write(cluster, 3)
    turns(member)
    assert begun(member) == [1]
    member.finish(second)
    assert listener.releasing([ONLY])
    assert listener.revoked([ONLY]) == {ONLY: Committed(2)}


def test_in_doubt_nobody_waits_for_records_in_progress(cluster: Cluster) -> None:
    member = process(cluster)
    write(cluster, 1)
    turns(member)
    assert not member.consumer._member.releasing([ONLY])
    cluster.virtual.advance(SESSION * 0.8)
    assert member.consumer._member.releasing([ONLY])


def test_a_healthy_member_continues_while_a_join_waits_for_a_dead_one(cluster: Cluster) -> None:
    cluster.create(TOPIC, 2)
    healthy, dead = process(cluster), process(cluster)
    turns(healthy, dead, count=6)
    kill(dead)
    turns(healthy)
    newcomer = process(cluster)  # its join cannot end before the dead one is removed
    newcomer.join()
    silent = 0.0
    while len(cluster.coordinator.group(GROUP).members) == 3 and silent < 2 * SESSION:
        cluster.virtual.advance(1.0)
        silent += 1.0
        for partition in range(2):
            cluster.append(Partition(TOPIC, partition), b"key", b"value")
        before = len(healthy.in_progress)
        for each in (healthy, newcomer):
            each.join()
            each.fetch()
            each.begin()
        if len(cluster.coordinator.group(GROUP).members) == 3:
            assert len(healthy.in_progress) > before, f"nothing was begun {silent} s into the join"
    assert silent > SESSION / 2, "the join took a while, otherwise this shows nothing"


@pytest.mark.parametrize("is_over_in_time", [True, False])
def test_a_member_that_stops_during_a_join_commits_at_its_end_and_leaves(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, is_over_in_time: bool
) -> None:
    stopping, dead = process(cluster, slot="host-0"), process(cluster)
    write(cluster, 3)
    turns(stopping, dead, count=6)
    assert begun(stopping) == [0, 1, 2]
    kill(dead)
    newcomer = process(cluster)  # its join cannot end before the dead one is removed
    newcomer.join()
    turns(stopping, count=1)
    member, client = stopping.consumer._member, stopping.consumer._member._client
    assert client is not None
    assert client.membership() is None, "a join is in progress"
    for record in list(stopping.in_progress):
        stopping.finish(record)
    poll = client.poll

    def take_long(seconds: float) -> None:
        assert seconds > 0, "it would spin"
        cluster.virtual.advance(2.0 if is_over_in_time else 0.0)
        poll(seconds)

    monkeypatch.setattr(client, "poll", take_long)
    monkeypatch.setattr("pipeline.broker.member._LAST_COMMIT_S", 60.0 if is_over_in_time else 0.0)
    member.stop()
    member._end()
    assert committed(cluster).offset == (3 if is_over_in_time else 0)
    assert all(each.instance_id is None for each in cluster.coordinator.group(GROUP).members.values()), "it has left"


def test_a_returning_static_member_continues_at_once(cluster: Cluster) -> None:
    before = process(cluster, slot="host-0")
    write(cluster, 1)
    turns(before)
    kill(before)
    write(cluster, 1)
    after = process(cluster, slot="host-0")
    turns(after, count=2)
    assert begun(after) == [0, 1], "without waiting for the session to end"


def test_a_returning_static_member_with_more_topics_reads_them(cluster: Cluster) -> None:
    """The group gives it its former partitions and compares no topics: nobody would read the new one."""
    added = Partition("webhooks.delay.2m", 0)
    cluster.create(added.topic, 1)
    before = process(cluster, slot="host-0")
    turns(before)
    kill(before)
    after = Process(cluster, Ledger(), slot="host-0", topics=[TOPIC, added.topic])
    turns(after)
    assert held(after) == {ONLY}, "otherwise this shows nothing"
    for _ in range(150):
        cluster.virtual.advance(1.0)
        turns(after)
    assert held(after) == {ONLY, added}
    settled = cluster.coordinator.group(GROUP).generation
    for _ in range(300):
        cluster.virtual.advance(1.0)
        turns(after)
    assert cluster.coordinator.group(GROUP).generation == settled, "it stays"


def test_partitions_added_after_the_leader_returned_are_read(cluster: Cluster) -> None:
    """The returned leader does not know that it is the leader, so nobody sees the new partitions."""
    before = process(cluster, slot="host-0")
    turns(before)
    kill(before)
    after, other = process(cluster, slot="host-0"), process(cluster, slot="host-1")
    turns(after, count=1)
    topic = cluster.topics[TOPIC]
    topic.logs.append(type(topic.logs[0])())
    new = Partition(TOPIC, 1)
    cluster.append(new, b"key", b"value")
    turns(after)
    assert held(after) == {ONLY}, "otherwise this shows nothing"
    for _ in range(150):
        cluster.virtual.advance(1.0)
        turns(after)
    assert held(after) == {ONLY, new}
    assert (new, 0) in {(record.partition, record.offset) for record in after.in_progress}
    turns(after, other, count=20)
    assert held(after) | held(other) == {ONLY, new}


def test_partitions_added_while_the_leader_is_active_cost_one_rebalance(cluster: Cluster) -> None:
    member = process(cluster)
    turns(member)
    for _ in range(100):  # the member checks the assignments from time to time
        cluster.virtual.advance(1.0)
        turns(member)
    before = cluster.coordinator.group(GROUP).generation
    topic = cluster.topics[TOPIC]
    topic.logs.append(type(topic.logs[0])())
    for _ in range(300):
        cluster.virtual.advance(1.0)
        turns(member)
    assert held(member) == {ONLY, Partition(TOPIC, 1)}
    assert cluster.coordinator.group(GROUP).generation == before + 1


def test_partitions_that_a_member_gave_up_before_it_was_killed_are_read(cluster: Cluster) -> None:
    """Killed between the two rounds of a rebalance and back within its session: the group itself assigns nothing again."""
    topic = cluster.topics[TOPIC]
    topic.logs += [type(topic.logs[0])() for _ in range(3)]
    every = {Partition(TOPIC, number) for number in range(4)}
    killed, other = process(cluster, slot="host-0"), process(cluster, slot="host-1")
    turns(killed)
    assert held(killed) == every
    killed.die_at_revocation()
    other.join()
    killed.join()
    back = process(cluster, slot="host-0")
    turns(back, other)
    assert len(held(back) | held(other)) == 2, "otherwise this shows nothing"
    for _ in range(int(2 * CONFIRM_S + FIRST_LOOK_S) + 2):
        cluster.virtual.advance(1.0)
        turns(back, other)
    assert held(back) | held(other) == every
    assert not held(back) & held(other)
    settled = cluster.coordinator.group(GROUP).generation
    for _ in range(300):
        cluster.virtual.advance(1.0)
        turns(back, other)
    assert cluster.coordinator.group(GROUP).generation == settled, "it stays"


def test_a_member_without_partitions_rejoins(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    member = process(cluster, slot="0")
    known = cluster.coordinator.group(GROUP).members
    with monkeypatch.context() as changed:
        changed.setattr(cluster.coordinator, "_wanted", lambda _: set())  # the leader of the group knows no topic
        turns(member)
        (before,) = known
        for wait in (FIRST_LOOK_S, CONFIRM_S - 1):
            cluster.virtual.advance(wait)
            turns(member)
        assert (set(known), held(member)) == ({before}, frozenset())
        cluster.virtual.advance(1)
        turns(member)
        assert before not in known
        assert problem(member) is None
        turns(member)
        cluster.virtual.advance(FIRST_LOOK_S)
        turns(member)
        assert "oms.orders-0 to no process" in str(problem(member))
        cluster.virtual.advance(2 * CONFIRM_S)
        turns(member)
    for _ in range(2):
        turns(member)
        cluster.virtual.advance(FIRST_LOOK_S)
    assert held(member) == {ONLY}
    assert problem(member) is None


def test_a_surplus_member_stays_and_takes_nothing_from_others(cluster: Cluster) -> None:
    first, second = process(cluster), process(cluster)
    turns(first)
    turns(first, second)
    settled = cluster.coordinator.group(GROUP).generation
    for _ in range(300):
        cluster.virtual.advance(1)
        turns(first, second, count=1)
        assert (problem(first), problem(second)) == (None, None)
    assert cluster.coordinator.group(GROUP).generation == settled
    assert held(first) == {ONLY}


def test_a_group_that_cannot_be_described_continues(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    member = process(cluster)
    refusals = []

    def refuse(_: object, group: str) -> None:
        refusals.append(group)
        raise RefusedError("GroupAuthorizationFailedError")

    monkeypatch.setattr(MemoryBroker, "assigned_partitions", refuse)
    write(cluster, 1)
    for _ in range(200):
        turns(member, count=1)
        cluster.virtual.advance(1)
    assert 3 <= len(refusals) <= 5
    assert begun(member) == [0]
    assert problem(member) is None


def test_records_removed_unread_are_reported_with_their_number(cluster: Cluster) -> None:
    member = process(cluster)
    write(cluster, 5)
    turns(member)
    for record in list(member.in_progress)[:3]:
        member.finish(record)
    turns(member)
    kill(member)
    write(cluster, 400)
    cluster.log(ONLY).remove_before(365)
    cluster.virtual.advance(SESSION + 1)

    late = process(cluster)
    turns(late)
    assert [(missing.first_offset, missing.records) for missing in late.ledger.missing] == [(3, 362)]
    assert begun(late)[0] == 365
    again = process(cluster)
    kill(late)
    cluster.virtual.advance(SESSION + 1)
    turns(again)
    assert again.ledger.missing == [], "it is reported once: the commit went beyond it"


def test_a_new_group_misses_nothing(cluster: Cluster) -> None:
    write(cluster, 10)
    cluster.log(ONLY).remove_before(4)
    member = process(cluster)
    turns(member)
    assert member.ledger.missing == []
    assert committed(cluster) == Committed(4), "so that anything removed from now on is missed"


def test_an_unreachable_broker_is_asked_again(cluster: Cluster) -> None:
    cluster.is_away = True
    member = process(cluster)
    turns(member)
    assert "not a member" in str(member.consumer.problem())
    cluster.is_away = False
    write(cluster, 1)
    turns(member)
    assert begun(member) == [0]


def test_memory_brokers_know_topic_ids() -> None:
    broker = MemoryBroker()
    first = broker.cluster.create("a").id
    with broker.admin() as admin:
        assert admin.ids(["a", "b"]) == {"a": first}
        broker.cluster.create("a")
        assert admin.ids(["a"]) != {"a": first}


def test_a_reader_that_goes_back_repeats_nothing(cluster: Cluster) -> None:
    member = process(cluster)
    write(cluster, 10)
    turns(member)
    member.broker.faults.rewinds_to = 0
    write(cluster, 2)
    turns(member)
    assert begun(member) == list(range(12))


def test_records_removed_while_a_reader_waits_for_them_are_reported(cluster: Cluster) -> None:
    member = process(cluster)
    turns(member)
    member.consumer._reading._read[ONLY].position = 0
    write(cluster, 50)
    cluster.log(ONLY).remove_before(30)
    turns(member)
    assert [(missing.first_offset, missing.records) for missing in member.ledger.missing] == [(0, 30)]
    assert begun(member)[0] == 30


def test_a_log_that_ends_below_the_position_is_read_again_when_it_has_grown(cluster: Cluster) -> None:
    member = process(cluster)
    write(cluster, 5)
    turns(member)
    cluster.log(ONLY).shown_end = 2
    turns(member)
    assert f"{ONLY} ends at offset 2" in str(member.consumer.problem())
    cluster.log(ONLY).shown_end = None
    write(cluster, 1)
    for _ in range(4):
        cluster.virtual.advance(2.0)
        turns(member)
    assert problem(member) is None
    assert begun(member) == list(range(6))
