"""Topics are checked for readability before a group member subscribes to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from pipeline.broker.api import OffsetRange, Partition
from pipeline.broker.errors import UnavailableError
from pipeline.broker.memory.broker import MemoryBroker, MemoryFetchClient
from pipeline.broker.readable_topics import check_topics

ORDERS, RETURNS = Partition("oms.orders", 0), Partition("oms.returns", 0)


def broker() -> MemoryBroker:
    one = MemoryBroker()
    for partition in (ORDERS, RETURNS):
        one.cluster.create(partition.topic)
        for _ in range(3):
            one.cluster.append(partition, None, b"{}")
    return one


def test_each_topic_is_readable_missing_or_refused() -> None:
    one = broker()
    one.faults.unreadable.add(RETURNS.topic)
    found = check_topics(one, [ORDERS.topic, RETURNS.topic, "oms.nowhere"])
    assert (list(found.readable), list(found.missing)) == ([ORDERS.topic], ["oms.nowhere"])
    assert list(found.refused) == [RETURNS.topic]
    assert found.ids == one.admin().ids([ORDERS.topic, RETURNS.topic])


def test_a_topic_whose_broker_does_not_answer_is_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = MemoryFetchClient.bounds

    def timed_out(client: MemoryFetchClient, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
        if RETURNS in partitions:
            raise UnavailableError("KafkaTimeoutError")
        return bounds(client, partitions)

    monkeypatch.setattr(MemoryFetchClient, "bounds", timed_out)
    found = check_topics(broker(), [ORDERS.topic, RETURNS.topic])
    assert list(found.readable) == [ORDERS.topic]
    assert (found.refused, list(found.unanswered)) == ({RETURNS.topic: "KafkaTimeoutError"}, [RETURNS.topic])


def test_a_topic_whose_first_record_was_just_removed_is_readable() -> None:
    class Expiring(MemoryBroker):
        """Retention removes a record between a reader's request for the start of the log and its fetch."""

        def fetch_client(self, *, partition_bytes: int, read_committed: bool = False) -> MemoryFetchClient:
            cluster = self.cluster

            class Client(MemoryFetchClient):
                def assign(self, positions: Mapping[Partition, int]) -> None:
                    super().assign(positions)
                    cluster.log(ORDERS).remove_before(positions.get(ORDERS, -1) + 1)

            return Client(self)

    found = check_topics(Expiring(broker().cluster), [ORDERS.topic, RETURNS.topic])
    assert (list(found.readable), found.refused) == ([ORDERS.topic, RETURNS.topic], {})
