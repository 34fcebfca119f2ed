"""A commit and a rebalance at the same time, with a library that does what the test says."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import TopicPartition

from pipeline.broker.api import Committed, Partition
from pipeline.broker.errors import UnavailableError
from pipeline.broker.librdkafka import group_client
from pipeline.broker.librdkafka.group_client import LibrdkafkaGroupClient
from pipeline.ops.settings import Settings
from tests.contract.broker.backends import Heard

HELD = Partition("t", 0)


class Library:
    """In place of ``confluent_kafka.Consumer``: each poll does the next thing."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.answered = config["on_commit"]
        self.to_do: list[Callable[[], object]] = []
        self.sent: list[Any] = []
        self.member_id = "member-1"
        self.calls: list[str] = []

    def subscribe(self, topics: list[str], **callbacks: Callable[..., object]) -> None:
        self.callbacks = callbacks

    def poll(self, seconds: float) -> None:
        if self.to_do:
            self.to_do.pop(0)()

    def unsubscribe(self) -> None:
        self.calls.append("unsubscribe")

    def close(self) -> None:
        self.calls.append("close")

    def memberid(self) -> str:
        return self.member_id

    def commit(self, *, offsets: list[Any], asynchronous: bool) -> None:
        self.sent.append(offsets)

    def incremental_assign(self, partitions: list[Any]) -> None:
        """Nothing is ever fetched."""

    incremental_unassign = incremental_assign


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> LibrdkafkaGroupClient:
    monkeypatch.setattr(group_client, "Consumer", Library)
    monkeypatch.setattr(group_client, "require_brokers", lambda settings: None)
    monkeypatch.setattr(group_client, "open_session", lambda *given: None)
    monkeypatch.setattr(group_client, "CommittedOffsets", lambda *given: SimpleNamespace(close=lambda: None))
    client = LibrdkafkaGroupClient(Settings(_env_file=None), "group", ["t"], Heard(), instance_id=None, on_replaced=lambda: None)
    library: Any = client._consumer
    library.callbacks["on_assign"](library, [])
    assert client.membership() is not None
    return client


def test_a_rebalance_during_a_commit_does_not_end_the_membership(member: LibrdkafkaGroupClient) -> None:
    library: Any = member._consumer
    library.to_do = [
        lambda: library.callbacks["on_revoke"](library, []),
        lambda: library.answered(None, library.sent[-1]),
    ]
    with pytest.raises(UnavailableError, match="a rebalance happened"):
        member.commit({HELD: Committed(5)})


def test_a_rebalance_waits_for_records_in_progress_of_revoked_partitions(member: LibrdkafkaGroupClient) -> None:
    library = cast("Any", member._consumer)
    asked: list[Partition] = []
    heard = member._listener = Heard(lambda _: Committed(len(asked)))
    heard.assigned([HELD])

    def is_finished() -> bool:
        asked.append(HELD)
        return len(asked) == 3

    heard.is_released = is_finished
    library.callbacks["on_revoke"](library, [TopicPartition(*HELD)])
    assert [each.offset for sent in library.sent for each in sent] == [3], "what was finished in the meantime is committed"


def test_a_rebalance_does_not_wait_long_for_a_slow_delivery(
    member: LibrdkafkaGroupClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = cast("Any", member._consumer)
    now = iter(range(1_000_000))
    monkeypatch.setattr(group_client, "time", SimpleNamespace(monotonic=lambda: next(now) / 10, sleep=lambda _: None))
    heard = member._listener = Heard(lambda _: Committed(1))
    heard.assigned([HELD])
    heard.is_released = lambda: False
    library.callbacks["on_revoke"](library, [TopicPartition(*HELD)])
    assert (len(library.sent), heard.held) == (1, set())


def test_a_commit_without_a_rebalance_succeeds(member: LibrdkafkaGroupClient) -> None:
    library: Any = member._consumer
    library.to_do = [lambda: library.answered(None, library.sent[-1])]
    member.commit({HELD: Committed(5)})


def test_partitions_are_revoked_before_the_client_is_closed(member: LibrdkafkaGroupClient) -> None:
    """close() reports a rebalance when librdkafka no longer answers: handling it would block the whole process."""
    library = cast("Any", member._consumer)
    heard = member._listener = Heard()
    topic_partition = TopicPartition(HELD.topic, HELD.number)
    library.callbacks["on_assign"](library, [topic_partition])

    def revoke() -> None:
        library.calls.append("revoked")
        library.callbacks["on_revoke"](library, [topic_partition])

    library.to_do = [lambda: None, lambda: None, revoke]
    member.close(leave=False)
    assert library.calls == ["unsubscribe", "revoked", "close"]
    assert heard.held == {HELD}  # nothing is revoked once closing has begun


def test_closing_does_not_wait_for_partitions_that_are_not_revoked(
    member: LibrdkafkaGroupClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_client, "_RETURN_S", 0.01)
    library = cast("Any", member._consumer)
    library.callbacks["on_assign"](library, [TopicPartition(HELD.topic, HELD.number)])
    member.close(leave=False)
    assert library.calls == ["unsubscribe", "close"]


def test_a_static_member_that_stays_is_closed_without_leaving(member: LibrdkafkaGroupClient) -> None:
    member._instance_id = "fanout-0"
    library = cast("Any", member._consumer)
    library.callbacks["on_assign"](library, [TopicPartition(HELD.topic, HELD.number)])
    library.to_do = [lambda: library.calls.append("polled")]
    member.close(leave=False)
    assert library.calls == ["polled", "close"]
