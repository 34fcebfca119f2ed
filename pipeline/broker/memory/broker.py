"""One process's view of an in-memory cluster, and the faults that can be injected."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Self
from uuid import UUID
from zlib import crc32

from pipeline.broker.api import Committed, Fetched, Membership, OffsetRange, Partition, Pending, Position, RebalanceListener
from pipeline.broker.errors import NotMemberError, OutOfRangeError, PublishError, RefusedError, UnavailableError
from pipeline.broker.memory.cluster import Cluster
from pipeline.broker.memory.groups import GroupMember
from pipeline.broker.topic_admin import Difference, Growth
from schemas.topics import TopicSpec

_FETCHED_AT_ONCE = 100


@dataclass(slots=True)
class Faults:
    """Faults of a process's clients. All of them were observed with real clients."""

    is_frozen: bool = False
    """The process does nothing: no heartbeat, no fetch (SIGSTOP, a suspended machine)."""
    is_cut_off: bool = False
    """None of its requests is answered."""
    reports_losses: bool = True
    """Whether the listener is called for lost partitions. kafka-python 3.0.12 omits that while it joins again."""
    rewinds_to: int | None = None
    """Readers continue once from this offset instead of their position (because of a wrong leader epoch)."""
    diverged: set[Partition] = field(default_factory=set)
    """Readers report once that the log lost records below their position, although it is long enough again."""
    refuses: Exception | None = None
    """The error that sending a record raises."""
    is_holding: bool = False
    """Records that are sent stay unacknowledged until this ends."""
    unreadable: set[str] = field(default_factory=set)
    """Topics that the process may see, but not read (a missing right)."""

    def check_readable(self, topics: Iterable[str]) -> None:
        """Raise the error of a client that reads one of these.

        Raises:
            RefusedError: it may not.
        """
        if refused := sorted(self.unreadable.intersection(topics)):
            raise RefusedError(f"TopicAuthorizationFailedError: {', '.join(refused)}")


class MemoryBroker:
    """See `pipeline.broker.api.Broker`. One for each process; processes share a `Cluster`."""

    def __init__(self, cluster: Cluster | None = None, *, session_seconds: float = 10.0, slot: str | None = None) -> None:
        self.cluster = cluster or Cluster()
        self.faults = Faults()
        self._session_seconds = session_seconds
        self._slot = slot

    @property
    def clock(self) -> Callable[[], float]:
        return self.cluster.clock

    @property
    def session_seconds(self) -> float:
        return self._session_seconds

    def reach(self) -> None:
        """Raise the error of a client that sends a request now.

        Raises:
            UnavailableError: nobody answers.
        """
        if self.cluster.is_away or self.faults.is_cut_off or self.faults.is_frozen:
            raise UnavailableError("no broker answers")

    def group_client(self, group: str, topics: Sequence[str], listener: RebalanceListener) -> MemoryGroupClient:
        self.reach()
        return MemoryGroupClient(self, group, topics, listener, None if self._slot is None else f"{group}-{self._slot}")

    def fetch_client(self, *, partition_bytes: int, read_committed: bool = False) -> MemoryFetchClient:
        self.reach()
        return MemoryFetchClient(self)

    def producer_client(self, topics: Sequence[str]) -> MemoryProducerClient:
        self.reach()
        return MemoryProducerClient(self)

    def assigned_partitions(self, group: str) -> Mapping[str, Set[Partition]] | None:
        self.reach()
        with self.cluster.lock:
            known = self.cluster.coordinator.group(group)
            return None if known.is_joining else {member.member_id: member.assigned for member in known.members.values()}

    def admin(self, answer_seconds: float = 30.0) -> MemoryTopicAdmin:
        self.reach()
        return MemoryTopicAdmin(self.cluster)


class MemoryGroupClient:
    """See `pipeline.broker.api.GroupClient`."""

    def __init__(
        self, broker: MemoryBroker, group: str, topics: Sequence[str], listener: RebalanceListener, instance_id: str | None
    ) -> None:
        self._broker = broker
        self._cluster = broker.cluster
        self._group = group
        self._listener = listener
        self._closed = False
        self._topics = tuple(topics)
        self._instance_id = instance_id
        self._member = self._new_member()
        self._owned: frozenset[Partition] = frozenset()
        self._identity: Membership | None = None

    def _new_member(self) -> GroupMember:
        def is_alive() -> bool:
            faults = self._broker.faults
            return not (self._closed or faults.is_frozen or faults.is_cut_off or self._cluster.is_away)

        return GroupMember("", self._topics, self._broker.session_seconds, is_alive, self._instance_id)

    def poll(self, seconds: float) -> None:
        self._broker.reach()
        self._broker.faults.check_readable(self._topics)
        with self._cluster.lock:
            coordinator = self._cluster.coordinator
            try:
                must_join = not self._member.member_id or coordinator.heartbeat(self._group, self._member)
            except NotMemberError:
                self._was_removed()
                must_join = True
            if must_join:
                coordinator.join(self._group, self._member, self._owned)
            group = coordinator.group(self._group)
            if group.is_joining:
                self._identity = None
                return
            joined = Membership(self._member.member_id, group.generation)
            has_changed, self._identity = joined != self._identity, joined
        if has_changed:
            self._take_over()

    def _was_removed(self) -> None:
        lost, self._owned = self._owned, frozenset()
        self._member, self._identity = self._new_member(), None
        if lost and self._broker.faults.reports_losses:
            self._listener.lost(lost)

    def _take_over(self) -> None:
        gone, added = self._owned - self._member.assigned, self._member.assigned - self._owned
        self._owned = self._member.assigned
        if gone:
            commits = self._listener.revoked(gone)
            with self._cluster.lock:
                if commits and self._identity is not None:
                    self._cluster.coordinator.commit(self._group, self._member, self._identity.generation, commits)
                self._cluster.coordinator.join(self._group, self._member, self._owned)  # so that others get it
                self._identity = None
        if added:
            self._listener.assigned(added)

    def subscribe(self, topics: Sequence[str]) -> None:
        self._topics = tuple(topics)
        with self._cluster.lock:
            try:
                self._cluster.coordinator.subscribe(self._group, self._member, topics, self._owned)
            except NotMemberError:
                return  # the next poll detects it, and joins with these

    def membership(self) -> Membership | None:
        return self._identity

    def commit(self, commits: Mapping[Partition, Committed]) -> None:
        self._broker.reach()
        if self._identity is None:
            raise UnavailableError("a rebalance is in progress")
        with self._cluster.lock:
            self._cluster.coordinator.commit(self._group, self._member, self._identity.generation, commits)

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        self._broker.reach()
        with self._cluster.lock:
            committed = self._cluster.coordinator.group(self._group).committed
            return {partition: committed[partition] for partition in partitions if partition in committed}

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
        self._broker.reach()
        return {partition: self._cluster.log(partition).bounds() for partition in partitions}

    def partitions(self, topic: str) -> Collection[int]:
        self._broker.reach()
        return [partition.number for partition in self._cluster.partitions_of(topic)]

    def close(self, *, leave: bool) -> None:
        self._closed = True
        owned, self._owned = self._owned, frozenset()
        if owned and self._broker.faults.reports_losses:
            self._listener.lost(owned)  # as kafka-python does, if it has lost its membership
        if leave:
            with self._cluster.lock:
                self._cluster.coordinator.leave(self._group, self._member)


class MemoryFetchClient:
    """See `pipeline.broker.api.FetchClient`. A poll returns immediately."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._cluster = broker.cluster
        self._positions: dict[Partition, int] = {}
        self._paused: frozenset[Partition] = frozenset()
        self._ends: dict[Partition, int] = {}

    def assign(self, positions: Mapping[Partition, int]) -> None:
        self._positions = {partition: self._positions.get(partition, start) for partition, start in positions.items()}

    def seek(self, partition: Partition, offset: int) -> None:
        self._positions[partition] = offset

    def pause(self, partitions: Collection[Partition]) -> None:
        self._paused = frozenset(partitions)

    @property
    def longest_poll(self) -> float:
        return 0.1

    def allow_long_polls(self) -> None:
        """No effect."""

    def idle(self) -> None:
        """No effect: nothing accumulates."""

    def wake(self) -> None:
        """No effect: a poll returns immediately."""

    def poll(self, seconds: float) -> Mapping[Partition, Sequence[Fetched]]:
        self._broker.reach()
        self._broker.faults.check_readable(partition.topic for partition in self._positions)
        fetched: dict[Partition, Sequence[Fetched]] = {}
        outside: list[Partition] = []
        with self._cluster.lock:
            self._rewind()
            for partition, position in self._positions.items():
                if partition in self._paused:
                    continue
                log = self._cluster.log(partition)
                bounds = log.bounds()
                if not bounds.first <= position <= bounds.end or partition in self._broker.faults.diverged:
                    self._broker.faults.diverged.discard(partition)
                    outside.append(partition)
                    continue
                self._ends[partition] = bounds.end
                if records := log.read(position, _FETCHED_AT_ONCE):
                    fetched[partition] = records
                    self._positions[partition] = records[-1].offset + 1
        if outside and not fetched:
            raise OutOfRangeError(outside)
        return fetched

    def _rewind(self) -> None:
        offset, self._broker.faults.rewinds_to = self._broker.faults.rewinds_to, None
        if offset is not None:
            self._positions = {partition: min(offset, position) for partition, position in self._positions.items()}

    def end(self, partition: Partition) -> int | None:
        return self._ends.get(partition)

    def position(self, partition: Partition) -> int | None:
        return self._positions.get(partition)

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
        self._broker.reach()
        return {partition: self._cluster.log(partition).bounds() for partition in partitions}

    def close(self) -> None:
        self._positions.clear()


class _Written:
    __slots__ = ("_faults", "position")

    def __init__(self, faults: Faults, position: Position) -> None:
        self._faults = faults
        self.position = position

    @property
    def is_done(self) -> bool:
        return not self._faults.is_holding


class MemoryProducerClient:
    """See `pipeline.broker.api.ProducerClient`. Keys choose other partitions than in Kafka, and the cluster's clock stamps all records."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def partitions(self, topic: str) -> Collection[int]:
        known = [partition.number for partition in self._broker.cluster.partitions_of(topic)]
        if not known:
            raise UnavailableError(f"the partitions of {topic} are unknown")
        return known

    def send(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        timestamp_ms: int | None,
    ) -> Pending:
        faults = self._broker.faults
        if faults.refuses is not None:
            raise faults.refuses
        self._broker.reach()
        known = self.partitions(topic)
        number = partition if partition is not None else crc32(key or b"") % len(known)
        if number not in known:
            raise PublishError(f"{topic} has no partition {number}")
        stored = self._broker.cluster.append(Partition(topic, number), key, value, headers)
        return _Written(faults, Position(topic, number, stored.offset, stored.timestamp))

    def serve(self) -> None:
        """Nothing to do."""

    def position(self, pending: Pending) -> Position:
        assert isinstance(pending, _Written)  # noqa: S101 - created above
        return pending.position

    def close(self, seconds: float) -> None:
        """Nothing to do."""


class MemoryTopicAdmin:
    """See `pipeline.broker.topic_admin.TopicAdmin`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def names(self) -> list[str]:
        return list(self._cluster.topics)

    def ids(self, topics: Collection[str]) -> dict[str, UUID]:
        return {name: self._cluster.topics[name].id for name in topics if name in self._cluster.topics}

    def create_missing(self, specs: Sequence[TopicSpec]) -> list[str]:
        missing = [spec for spec in specs if spec.name not in self._cluster.topics]
        for spec in missing:
            self._cluster.create(spec.name, spec.partitions or 1)
        return [spec.name for spec in missing]

    def differences(self, specs: Sequence[TopicSpec]) -> list[Difference]:
        return [Difference(spec.name, "the topic", "there", "missing") for spec in specs if spec.name not in self._cluster.topics]

    def planned_growth(self, specs: Sequence[TopicSpec], wanted: int) -> list[Growth]:
        counts = {spec.name: len(self._cluster.partitions_of(spec.name)) for spec in specs if spec.partitions is None}
        return [Growth(name, number, wanted) for name, number in counts.items() if 0 < number < wanted]

    def grow(self, planned: Sequence[Growth]) -> None:
        for growth in planned:
            topic = self._cluster.topics[growth.topic]
            topic.logs += [type(topic.logs[0])() for _ in range(growth.after - len(topic.logs))]

    def forget_commits(self, group: str, topic: str) -> None:
        committed = self._cluster.coordinator.group(group).committed
        for partition in [partition for partition in committed if partition.topic == topic]:
            del committed[partition]

    def close(self) -> None:
        """Nothing to do."""
