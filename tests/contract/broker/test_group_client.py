"""Members of a group: who holds what, what is committed, who is put out."""

from __future__ import annotations

import gc
import time

import pytest

from pipeline.broker.api import Bounds, Committed, NotMemberError, Partition, UnavailableError
from pipeline.broker.choice import open_broker
from pipeline.broker.local import TansuBroker
from tests.contract.broker.backends import Backend, Heard, RealBackend, take_part, until


def test_a_member_alone_holds_everything(backend: Backend) -> None:
    topic = backend.topic(partitions=3)
    heard = Heard()
    member = backend.member(topic, heard)
    assert member.membership() is None
    take_part([member], lambda: len(heard.held) == 3)
    known = member.membership()
    assert known is not None
    assert known.member_id
    assert heard.held == {Partition(topic, number) for number in range(3)}


def test_what_is_committed_is_there_for_the_next_one(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    one, other = Partition(topic, 0), Partition(topic, 1)
    heard = Heard()
    member = backend.member(topic, heard)
    take_part([member], lambda: len(heard.held) == 2)
    assert member.committed([one, other]) == {}
    member.commit({one: Committed(3, "4-5")})
    member.commit({one: Committed(5, "")})
    member.commit({one: Committed(7, "9,11")})
    found = member.committed([one, other])
    assert {partition: committed.offset for partition, committed in found.items()} == {one: 7}
    member.close(leave=True)
    following = backend.member(topic, Heard())
    assert following.committed([one])[one].offset == 7
    backend.lacks("loses the metadata of commits")
    assert following.committed([one, other]) == {one: Committed(7, "9,11")}


def test_a_rebalance_hands_over_what_the_listener_commits(backend: Backend) -> None:
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
    assert after.member_id == before.member_id, "a rebalance makes no other member of it"
    assert after.generation > before.generation
    found = members[1].committed(second.held)
    assert found == {partition: Committed(10 + partition.number) for partition in second.held}


def test_who_leaves_is_not_waited_for(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    first, second = Heard(), Heard()
    members = [backend.member(topic, first), backend.member(topic, second)]
    take_part(members, lambda: len(first.held) == len(second.held) == 1)
    members[0].close(leave=True)
    take_part(members[1:], lambda: len(second.held) == 2)
    assert not second.lost_ones


def test_a_named_member_that_stops_in_order_is_not_waited_for(backend: Backend) -> None:
    backend.lacks("keeps a named member that has gone")
    topic = backend.topic(partitions=2)
    first, second = Heard(), Heard()
    members = [backend.member(topic, first, "host-0"), backend.member(topic, second, "host-1")]
    take_part(members, lambda: len(first.held) == len(second.held) == 1)
    members[0].close(leave=True)
    take_part(members[1:], lambda: len(second.held) == 2)


def test_a_named_member_that_comes_back_takes_up_its_partitions(backend: Backend) -> None:
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


def test_who_was_put_out_commits_nothing(backend: Backend) -> None:
    topic = backend.topic(partitions=1)
    heard = Heard()
    member = backend.member(topic, heard)
    take_part([member], lambda: len(heard.held) == 1)
    backend.put_out(member)
    with pytest.raises((NotMemberError, UnavailableError)):
        member.commit({Partition(topic, 0): Committed(5)})
    assert member.committed([Partition(topic, 0)]) == {}


def test_who_was_put_out_learns_of_it(backend: Backend) -> None:
    topic = backend.topic(partitions=1)
    heard = Heard()
    member = backend.member(topic, heard)
    take_part([member], lambda: len(heard.held) == 1)
    before = member.membership()
    assert before is not None
    backend.put_out(member)

    def has_learned() -> bool:
        try:
            member.poll(0.05)
        except NotMemberError:
            return True
        now = member.membership()
        return bool(heard.lost_ones) or (now is not None and now.member_id != before.member_id)

    until(has_learned)


@pytest.mark.apache
def test_of_two_processes_with_one_name_the_first_is_told(kafka: RealBackend) -> None:
    topic = kafka.topic(partitions=1)
    first, second = Heard(), Heard()
    member = kafka.member(topic, first, "host-0")
    take_part([member], lambda: len(first.held) == 1)
    successor = kafka.member(topic, second, "host-0")
    take_part([successor], lambda: len(second.held) == 1)

    def is_told() -> bool:
        try:
            member.poll(0.1)
            member.commit({Partition(topic, 0): Committed(1)})
        except NotMemberError:
            return True
        except UnavailableError:
            return bool(first.lost_ones)
        return False

    until(is_told)
    assert successor.committed([Partition(topic, 0)]) == {}


def test_bounds_are_those_of_the_log(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    one, other = Partition(topic, 0), Partition(topic, 1)
    backend.write(one, b"a", b"b", b"c")
    member = backend.member(topic, Heard())
    assert member.bounds([]) == {}
    assert {partition: found.first for partition, found in member.bounds([one, other]).items()} == {one: 0, other: 0}
    backend.lacks("says the end of a partition too low")
    assert member.bounds([one, other]) == {one: Bounds(0, 3), other: Bounds(0, 0)}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # kafka-python forgets a socket
def test_nobody_answers(kafka: RealBackend) -> None:
    """On an embedded broker of its own, which is stopped."""
    away = TansuBroker()
    settings = kafka.settings.model_copy(update={"kafka_bootstrap_servers": away.start()})
    kafka.settings = settings
    try:
        topic = kafka.topic()
        heard = Heard()
        member = kafka.member(topic, heard)
        take_part([member], lambda: len(heard.held) == 1)
        away.stop()
        with pytest.raises(UnavailableError):
            member.commit({Partition(topic, 0): Committed(1)})
        with pytest.raises(UnavailableError):
            member.bounds([Partition(topic, 0)])
        with pytest.raises(UnavailableError, match=r"No Kafka broker can be used|no session"):
            open_broker(settings).group_client(kafka.group, [topic], Heard())
    finally:
        away.stop()
    started = time.monotonic()
    member.close(leave=True)
    assert time.monotonic() - started < 60, "closing gives up after some seconds"
    gc.collect()


@pytest.mark.apache
def test_both_clients_in_one_group(kafka: RealBackend) -> None:
    """A rolling change from one client to the other."""
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
