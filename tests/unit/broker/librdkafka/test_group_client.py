"""A commit and a rebalance at the same time, with a library that does what the test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.broker.api import Committed, Partition
from pipeline.broker.errors import UnavailableError
from pipeline.broker.librdkafka import group_client
from pipeline.broker.librdkafka.group_client import LibrdkafkaGroupClient
from pipeline.ops.settings import Settings
from tests.contract.broker.backends import Heard

HELD = Partition("t", 0)


class Library:
    """In the place of ``confluent_kafka.Consumer``: each poll does the next thing."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.answered = config["on_commit"]
        self.to_do: list[Callable[[], object]] = []
        self.sent: list[Any] = []
        self.member_id = "member-1"

    def subscribe(self, topics: list[str], **callbacks: Callable[..., object]) -> None:
        self.callbacks = callbacks

    def poll(self, seconds: float) -> None:
        if self.to_do:
            self.to_do.pop(0)()

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
    monkeypatch.setattr(group_client, "meet", lambda settings: None)
    monkeypatch.setattr(group_client, "open_session", lambda *given: None)
    monkeypatch.setattr(group_client, "CommittedOffsets", lambda *given: None)
    client = LibrdkafkaGroupClient(Settings(_env_file=None), "group", ["t"], Heard(), instance_id=None, on_replaced=lambda: None)
    library: Any = client._consumer
    library.callbacks["on_assign"](library, [])
    assert client.membership() is not None
    return client


def test_a_rebalance_while_a_commit_is_under_way_puts_nobody_out(member: LibrdkafkaGroupClient) -> None:
    library: Any = member._consumer
    library.to_do = [
        lambda: library.callbacks["on_revoke"](library, []),
        lambda: library.answered(None, library.sent[-1]),
    ]
    with pytest.raises(UnavailableError, match="a rebalance came"):
        member.commit({HELD: Committed(5)})


def test_a_commit_without_a_rebalance_is_done(member: LibrdkafkaGroupClient) -> None:
    library: Any = member._consumer
    library.to_do = [lambda: library.answered(None, library.sent[-1])]
    member.commit({HELD: Committed(5)})
