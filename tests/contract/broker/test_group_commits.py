"""Group members: commits, removal from the group, and a broker that is down."""

from __future__ import annotations

import gc
import time

import pytest

from pipeline.broker.api import Committed, OffsetRange, Partition
from pipeline.broker.errors import MetadataError, NotMemberError, UnavailableError
from pipeline.broker.factory import open_broker
from pipeline.devtools.local_broker import TansuBroker
from tests.contract.broker.backends import Backend, Heard, RealBackend, take_part
from tests.waiting import wait_until


def test_the_next_member_sees_commits(backend: Backend) -> None:
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


def test_a_commit_with_too_much_metadata_succeeds_without_it(backend: Backend) -> None:
    backend.lacks("takes metadata of any length, and loses it")
    topic = backend.topic(partitions=1)
    partition = Partition(topic, 0)
    heard = Heard()
    member = backend.member(topic, heard)
    take_part([member], lambda: len(heard.held) == 1)
    with pytest.raises(MetadataError):
        member.commit({partition: Committed(3, "x" * 5_000)})
    member.commit({partition: Committed(3)})
    assert member.committed([partition]) == {partition: Committed(3)}


def test_a_removed_member_commits_nothing(backend: Backend) -> None:
    backend.lacks("does not remove members on request")
    topic = backend.topic(partitions=1)
    heard = Heard()
    member = backend.member(topic, heard)
    take_part([member], lambda: len(heard.held) == 1)
    backend.put_out(member)
    with pytest.raises((NotMemberError, UnavailableError)):
        member.commit({Partition(topic, 0): Committed(5)})
    assert member.committed([Partition(topic, 0)]) == {}


def test_a_removed_member_notices(backend: Backend) -> None:
    backend.lacks("does not remove members on request")
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

    wait_until(has_learned)


@pytest.mark.apache
def test_the_first_of_two_processes_with_one_name_is_notified(kafka: RealBackend) -> None:
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

    wait_until(is_told)
    assert successor.committed([Partition(topic, 0)]) == {}


def test_bounds_of_partitions(backend: Backend) -> None:
    topic = backend.topic(partitions=2)
    one, other = Partition(topic, 0), Partition(topic, 1)
    backend.write(one, b"a", b"b", b"c")
    member = backend.member(topic, Heard())
    assert member.bounds([]) == {}
    assert {partition: found.first for partition, found in member.bounds([one, other]).items()} == {one: 0, other: 0}
    backend.lacks("says the end of a partition too low")
    assert member.bounds([one, other]) == {one: OffsetRange(0, 3), other: OffsetRange(0, 0)}


def test_without_a_broker(kafka: RealBackend) -> None:
    """Uses its own embedded broker, which is stopped. It takes seconds: each request waits for its timeout."""
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
        with pytest.raises(UnavailableError, match=r"No Kafka broker can be used|Could not open a session"):
            open_broker(settings).group_client(kafka.group, [topic], Heard())
    finally:
        away.stop()
    started = time.monotonic()
    member.close(leave=True)
    assert time.monotonic() - started < 60, "closing gives up after some seconds"
    gc.collect()
