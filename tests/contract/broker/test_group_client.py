"""Group members: which partitions each one holds, and who takes them over."""

from __future__ import annotations

import pytest

from pipeline.broker.api import Committed, Partition
from tests.contract.broker.backends import Backend, Heard, RealBackend, take_part


def test_a_member_alone_holds_all_partitions(backend: Backend) -> None:
    topic = backend.topic(partitions=3)
    heard = Heard()
    member = backend.member(topic, heard)
    assert member.membership() is None
    take_part([member], lambda: len(heard.held) == 3)
    known = member.membership()
    assert known is not None
    assert known.member_id
    assert heard.held == {Partition(topic, number) for number in range(3)}


def test_a_member_knows_the_partitions_of_its_topics(backend: Backend) -> None:
    topic = backend.topic(partitions=3)
    member = backend.member(topic, Heard())
    take_part([member])
    assert set(member.partitions(topic)) == {0, 1, 2}
    backend.lacks("makes topics that are asked for")
    assert not member.partitions(f"{topic}-missing")


def test_the_assignments_of_all_members_can_be_read(backend: Backend) -> None:
    topic = backend.topic(partitions=3)
    first, second = Heard(), Heard()
    members = [backend.member(topic, first), backend.member(topic, second)]
    take_part(members, lambda: len(first.held) + len(second.held) == 3)
    if backend.is_embedded:  # the answer lists rights that kafka-python cannot decode
        assert backend.broker().assigned_partitions(backend.group) is None
        return
    held = {member.membership(): heard.held for member, heard in zip(members, (first, second), strict=True)}
    found = backend.broker().assigned_partitions(backend.group)
    assert found == {membership.member_id: partitions for membership, partitions in held.items() if membership}
    assert backend.broker().assigned_partitions(f"{backend.prefix}another") in (None, {})


def test_a_rebalance_commits_what_the_listener_returns(backend: Backend) -> None:
    topic = backend.topic(partitions=4)
    first, second = Heard(lambda partition: Committed(10 + partition.number)), Heard()
    members = [backend.member(topic, first)]
    take_part(members, lambda: len(first.held) == 4)
    before = members[0].membership()
    members.append(backend.member(topic, second))
    take_part(members, lambda: len(first.held) == len(second.held) == 2)
    assert not first.held & second.held
    after = members[0].membership()
    assert before is not None
    assert after is not None
    assert after.member_id == before.member_id, "a rebalance does not change the member's id"
    assert after.generation > before.generation
    found = members[1].committed(second.held)
    assert found == {partition: Committed(10 + partition.number) for partition in second.held}


def test_a_member_that_leaves_is_not_waited_for(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    first, second = Heard(), Heard()
    members = [backend.member(topic, first), backend.member(topic, second)]
    take_part(members, lambda: len(first.held) == len(second.held) == 1)
    members[0].close(leave=True)
    take_part(members[1:], lambda: len(second.held) == 2)
    assert not second.lost_ones


def test_a_static_member_that_stops_in_order_is_not_waited_for(backend: Backend) -> None:
    backend.lacks("keeps a named member that has gone")
    topic = backend.topic(partitions=2)
    first, second = Heard(), Heard()
    members = [backend.member(topic, first, "host-0"), backend.member(topic, second, "host-1")]
    take_part(members, lambda: len(first.held) == len(second.held) == 1)
    members[0].close(leave=True)
    take_part(members[1:], lambda: len(second.held) == 2)


def test_a_static_member_that_comes_back_gets_its_partitions(backend: Backend) -> None:
    backend.lacks("static membership was not measured to work")
    topic = backend.topic(partitions=2)
    first, second, again = Heard(), Heard(), Heard()
    members = [backend.member(topic, first, "host-0"), backend.member(topic, second, "host-1")]
    take_part(members, lambda: len(first.held) == len(second.held) == 1)
    members[0].close(leave=False)
    held, other = set(second.held), members[1].membership()
    back = backend.member(topic, again, "host-0")
    take_part([back, members[1]], lambda: len(again.held) == 1)
    assert not again.held & held
    assert second.held == held
    assert members[1].membership() == other, "nobody else had to join again"


@pytest.mark.apache
def test_both_clients_in_one_group(kafka: RealBackend) -> None:
    """As in a rolling change from one client to the other."""
    topic = kafka.topic(partitions=4)
    other = "librdkafka" if kafka.settings.kafka_client == "kafka-python" else "kafka-python"
    first, second = Heard(lambda partition: Committed(10 + partition.number, "12-14,16" if partition.number else "")), Heard()
    members = [kafka.member(topic, first)]
    take_part(members, lambda: len(first.held) == 4)
    kafka.settings = kafka.settings.model_copy(update={"kafka_client": other})
    members.append(kafka.member(topic, second))
    take_part(members, lambda: len(first.held) == len(second.held) == 2)
    assert not first.held & second.held
    assert members[1].committed(second.held) == {
        partition: Committed(10 + partition.number, "12-14,16" if partition.number else "") for partition in second.held
    }
    members[0].close(leave=True)
    take_part(members[1:], lambda: len(second.held) == 4)
