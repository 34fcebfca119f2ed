"""Backends for the contract tests: topics, clients that are closed at the end, and changes to logs from outside."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove
from kafka.structs import TopicPartition

from pipeline.broker.api import Broker, Committed, FetchClient, Fetched, GroupClient, Partition, Position, ProducerClient
from pipeline.broker.factory import open_broker
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.memory.cluster import Cluster
from pipeline.ops.settings import Settings
from schemas.topics import TopicSpec
from tests.waiting import wait_until

PATIENCE = 60.0
_JOIN_S = 5.0
"""Longer than any join. If a join outlives the poll that started it, kafka-python forgets the join and starts another one."""


class Heard:
    """A rebalance listener that keeps a record."""

    def __init__(self, commits: Callable[[Partition], Committed | None] = lambda _: None) -> None:
        """``commits`` returns what to commit for a partition when it is revoked."""
        self._commits = commits
        self.held: set[Partition] = set()
        self.is_released: Callable[[], bool] = lambda: True
        """Whether everything started of partitions about to be revoked is finished."""
        self.lost_ones: set[Partition] = set()

    def assigned(self, partitions: Collection[Partition]) -> None:
        assert not self.held & set(partitions), "assigned partitions that were already held"
        self.held |= set(partitions)

    def releasing(self, partitions: Collection[Partition]) -> bool:
        assert self.held >= set(partitions), "releasing partitions that were not held"
        return self.is_released()

    def revoked(self, partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
        assert self.held >= set(partitions), "revoked partitions that were not held"
        self.held -= set(partitions)
        found = {partition: self._commits(partition) for partition in partitions}
        return {partition: committed for partition, committed in found.items() if committed is not None}

    def lost(self, partitions: Collection[Partition]) -> None:
        self.held -= set(partitions)
        self.lost_ones |= set(partitions)


class Backend(ABC):
    """A way to Kafka that is tested."""

    is_embedded = False

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.group = f"{prefix}group"
        self._closing: list[Callable[[], object]] = []

    @abstractmethod
    def broker(self, slot: str | None = None) -> Broker:
        """Return the broker as one process sees it."""

    @abstractmethod
    def remove_before(self, partition: Partition, offset: int) -> None:
        """Remove older records, as retention does."""

    @abstractmethod
    def put_out(self, member: GroupClient) -> None:
        """Remove a member from the group."""

    def topic(self, partitions: int = 1, name: str = "records") -> str:
        """Create a topic."""
        spec = TopicSpec(f"{self.prefix}{name}", "any", "delete", 3_600_000, partitions=partitions)
        with self.broker().admin() as admin:
            admin.create_missing([spec])
        return spec.name

    def member(self, topic: str, heard: Heard, slot: str | None = None) -> GroupClient:
        """Return a member of the test's group."""
        client = self.broker(slot).group_client(self.group, [topic], heard)
        self._closing.append(lambda: client.close(leave=True))
        return client

    def reader(self, positions: Mapping[Partition, int], **options: Any) -> FetchClient:
        """Return a reader that starts at these positions."""
        client = self.broker().fetch_client(**{"partition_bytes": 64 * 1024} | options)
        self._closing.append(client.close)
        client.assign(positions)
        return client

    def writer(self, *topics: str) -> ProducerClient:
        """Return a writer for these topics."""
        client = self.broker().producer_client(topics)
        self._closing.append(lambda: client.close(1))
        return client

    def write(self, partition: Partition, *values: bytes) -> list[Position]:
        """Write values to a partition, and wait until they are acknowledged."""
        client = self.broker().producer_client([partition.topic])
        try:
            sent = [client.send(*partition, None, value, (), None) for value in values]
            return settled(client, sent)
        finally:
            client.close(10)

    def lacks(self, what: str) -> None:
        """Skip the test if the embedded broker lacks a feature, and name it."""
        if self.is_embedded:
            pytest.skip(f"the embedded broker: {what}")

    @property
    def forgets_joins(self) -> bool:
        """Return whether the client may forget a join that it started. The group thread notices, and joins again."""
        return False

    def close(self) -> None:
        """Close everything that was opened."""
        for close in reversed(self._closing):
            close()


class MemoryBackend(Backend):
    """The deterministic broker in memory."""

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.cluster = Cluster()

    def broker(self, slot: str | None = None) -> MemoryBroker:
        return MemoryBroker(self.cluster, slot=slot)

    def remove_before(self, partition: Partition, offset: int) -> None:
        self.cluster.log(partition).remove_before(offset)

    def put_out(self, member: GroupClient) -> None:
        group, known = self.cluster.coordinator.group(self.group), member.membership()
        assert known is not None
        self.cluster.coordinator.leave(self.group, group.members[known.member_id])


class RealBackend(Backend):
    """A client and a broker."""

    def __init__(self, settings: Settings, prefix: str, *, is_embedded: bool) -> None:
        super().__init__(prefix)
        self.settings = settings
        self.is_embedded = is_embedded

    def broker(self, slot: str | None = None) -> Broker:
        return open_broker(self.settings, slot=slot)

    @property
    def forgets_joins(self) -> bool:
        return self.settings.kafka_client == "kafka-python" and not self.settings.kafka_speedups

    def _admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.settings.kafka_bootstrap_servers)

    def topic_with(self, config: Mapping[str, str]) -> str:
        """Create a topic with its own settings."""
        name = f"{self.prefix}configured"
        admin = self._admin()
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1, "configs": dict(config)}})
        admin.wait_for_topics([name])
        admin.close()
        return name

    def committed_records(self) -> int:
        """Return how many records the group has committed, if it started at the first of each partition."""
        admin = self._admin()
        found = admin.list_group_offsets({self.group: None})[self.group]
        admin.close()
        return sum(committed.offset for committed in found.values())

    def remove_before(self, partition: Partition, offset: int) -> None:
        self.lacks("keeps everything; records cannot be deleted")
        admin = self._admin()
        admin.delete_records({TopicPartition(*partition): offset})
        admin.close()

    def put_out(self, member: GroupClient) -> None:
        known = member.membership()
        assert known is not None
        admin = self._admin()
        admin.remove_group_members(self.group, [MemberToRemove(member_id=known.member_id)])
        admin.close()


def settled(client: ProducerClient, sent: Sequence[Any]) -> list[Position]:
    """Wait until all records are acknowledged or have failed."""

    def are_done() -> bool:
        client.serve()
        return all(pending.is_done for pending in sent)

    wait_until(are_done)
    return [client.position(pending) for pending in sent]


def take_part(members: Sequence[GroupClient], settled: Callable[[], bool] = lambda: True) -> None:
    """Run each member on a thread until all have joined the group and a condition holds.

    Members poll all the time, as the group thread does.
    """
    failures: list[Exception] = []
    stop = threading.Event()

    def run(member: GroupClient) -> None:
        try:
            while not stop.is_set():
                member.poll(0.0 if member.membership() is not None else _JOIN_S)
                time.sleep(0.01)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)

    def is_over() -> bool:
        if failures:
            raise failures[0]
        return settled() and all(member.membership() is not None for member in members)

    threads = [threading.Thread(target=run, args=(member,), daemon=True) for member in members]
    for thread in threads:
        thread.start()
    try:
        wait_until(is_over)
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    if not is_over():  # one of them has started another join in the meantime
        take_part(members, settled)


def read(client: FetchClient, wanted: int) -> dict[Partition, list[Fetched]]:
    """Read a number of records, from all partitions together."""
    found: dict[Partition, list[Fetched]] = {}
    deadline = time.monotonic() + PATIENCE
    while sum(map(len, found.values())) < wanted:
        assert time.monotonic() < deadline, f"only {found} were read"
        for partition, records in client.poll(0.1).items():
            found.setdefault(partition, []).extend(records)
    return found


def numbered(count: int, size: int = 0) -> list[bytes]:
    """Return values that contain their number."""
    return [str(number).encode().ljust(size, b".") for number in range(count)]
