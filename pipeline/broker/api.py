"""The interface to Kafka for the rest of the product: the protocols that a client implements, and the values that they exchange.

Code above this package does not know which client is used. ``pipeline.broker.kafka`` is kafka-python (the default),
``pipeline.broker.librdkafka`` is confluent-kafka, ``pipeline.broker.memory`` is a deterministic broker for tests.

Four terms have a fixed meaning:

position
    The offset of the next record to fetch from a partition. We keep it ourselves: we tell the client where to read, and drop
    whatever it returns below the position. While a partition is held, its position never goes back, except to fetch evicted
    records again (`pipeline.broker.fetch_buffers`).
finished
    A record is finished when Kafka (or ClickHouse) has acknowledged all of its results. Records finish in any order.
committed
    The offset at which the group continues: the lowest unfinished record. Finished records above it are committed with it, as
    metadata, and so is the progress of records that are processed in parts. No commit is ever below the group's current one.
epoch
    Each time a partition is assigned to this process, the assignment gets a new, unique number. A record carries the epoch in
    which it was taken. A completion from another epoch is dropped, because another process may hold the partition by then.

A rebalance that keeps a partition changes none of the four. A rebalance that revokes it ends its epoch: records finished until
then are committed, the position is forgotten, and records in progress finish without effect. When membership is lost (the group
removed this process, whether or not the client noticed), all epochs end immediately, and nothing more is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import NamedTuple, Protocol

from pipeline.broker.topic_admin import TopicAdmin

_RECORD_OVERHEAD = 1024
"""Bytes of memory for a record in addition to its content: the objects that hold it, here and where it is processed."""


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.number}"


class Position(NamedTuple):
    """The position of a record in Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int = -1
    """By the broker's clock if the topic uses LogAppendTime; -1 if unknown."""


class Receipt(NamedTuple):
    """The parts of a record that are needed to finish it."""

    partition: Partition
    offset: int
    epoch: int
    size: int


class Record(NamedTuple):
    """A record, where it came from, and the epoch in which it was taken."""

    partition: Partition
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    epoch: int

    @property
    def size(self) -> int:
        """Approximate memory use in bytes."""
        return size_of(self.key, self.value, self.headers)

    @property
    def receipt(self) -> Receipt:
        """What is needed to finish the record, without its content, which may be megabytes."""
        return Receipt(self.partition, self.offset, self.epoch, self.size)


def size_of(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    """Approximate memory use of a record in bytes."""
    size = _RECORD_OVERHEAD + len(value or b"") + len(key or b"")
    for name, content in headers:
        size += len(name) + len(content or b"")  # a header's value may be null in Kafka, whatever the client's types say
    return size


class Fetched(Protocol):
    """A fetched record. Each client has its own type, so that nothing is copied. ``timestamp``: milliseconds since 1970."""

    @property
    def topic(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Committed(NamedTuple):
    """A group's commit for a partition: the next offset to read, and a metadata text."""

    offset: int
    metadata: str = ""


class OffsetRange(NamedTuple):
    """The first offset that is still in a partition, and the offset of its next record."""

    first: int
    end: int


class Membership(NamedTuple):
    """The identity of this process in its group.

    The member id stays the same while the group knows the member. A new id means that the group removed the member in the
    meantime, and that the partitions of the old id belong to another member. The generation counts the group's rebalances.
    """

    member_id: str
    generation: int


class RebalanceListener(Protocol):
    """Called when partitions are assigned or revoked. May be called on a thread of the client; must not block."""

    def assigned(self, partitions: Collection[Partition]) -> None:
        """Partitions were assigned, in addition to the current ones."""

    def releasing(self, partitions: Collection[Partition]) -> bool:
        """Partitions will be revoked: start no further records of them. Returns whether all started records are finished.

        A client that can delay a rebalance briefly calls this until it returns True, and then calls :meth:`revoked`. So the next
        member repeats fewer records.
        """

    def revoked(self, partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
        """Partitions move to another member after this call. Returns the offsets to commit for them."""

    def lost(self, partitions: Collection[Partition]) -> None:
        """Partitions already belong to another member."""


class GroupClient(Protocol):
    """A member of a consumer group. It joins, learns which partitions it holds, and commits. It does not fetch.

    Used by one thread. A client that has lost its membership is closed and discarded; none of its state is used again.
    """

    def poll(self, seconds: float) -> None:
        """Take part in the group for up to ``seconds``: join, rejoin, call the listener. Returns early if nothing is left to do.

        Raises:
            UnavailableError: no answer at the moment.
            NotMemberError: the group removed this process, or another process has taken its place.
            RefusedError: the group does not accept this member (no permission, an invalid session).
        """

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe to exactly these topics, which must exist and be readable. The member rejoins, and keeps its partitions of
        topics that it still subscribes to.
        """

    def membership(self) -> Membership | None:
        """Our identity. None before the first join and during a join."""

    def commit(self, commits: Mapping[Partition, Committed]) -> None:
        """Commit, and wait for the answer.

        Raises:
            NotMemberError: the group no longer accepts commits from us.
            UnavailableError: no answer, or a rebalance is in progress. The offsets may be committed later.
            MetadataError: the brokers do not accept this much metadata.
            RefusedError: the commit is refused for another reason.
        """

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        """The committed offsets of the group. Partitions without a commit are omitted.

        Raises:
            UnavailableError: no answer.
        """

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
        """The first and the end offsets of partitions.

        Raises:
            UnavailableError: no answer.
        """

    def partitions(self, topic: str) -> Collection[int]:
        """The numbers of a topic's partitions; none if there is no such topic. Added ones are included after a while
        (`kafka_metadata_max_age_ms`).

        Raises:
            UnavailableError: no answer.
        """

    def close(self, *, leave: bool) -> None:
        """Disconnect. With ``leave``, also leave the group, so that others need not wait for the session to expire.

        Never raises, and gives up after a few seconds.
        """


class FetchClient(Protocol):
    """Fetches records from given partitions and positions, outside of any group. Used by one thread."""

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Fetch exactly these partitions: new ones from the given positions, the others from their current positions."""

    def seek(self, partition: Partition, offset: int) -> None:
        """Fetch a partition from an offset on. Fetched records that were not returned yet are dropped."""

    def pause(self, partitions: Collection[Partition]) -> None:
        """Pause exactly these partitions, and fetch all others."""

    @property
    def longest_poll(self) -> float:
        """How many seconds a poll may wait when nothing is expected. Short if :meth:`wake` cannot end a poll."""

    def allow_long_polls(self) -> None:
        """From now on, the broker may hold a fetch for a long time, if the client supports that. Records end the fetch, but newly
        assigned or resumed partitions wait for it.
        """

    def idle(self) -> None:
        """Called at least every few seconds while nothing is polled (nothing is assigned, or everything is paused), because some
        clients accumulate events until they are called. Does not wait.
        """

    def wake(self) -> None:
        """End the current or the next poll, if the client supports that. May be called on any thread. Never blocks or raises."""

    def poll(self, seconds: float) -> Mapping[Partition, Sequence[Fetched]]:
        """Records that have arrived, or that arrive within ``seconds``.

        Raises:
            OutOfRangeError: positions are not in the logs.
            UnavailableError: a broker, or the leader of a partition, is unavailable.
            RefusedError: no permission, or a record that cannot be read.
        """

    def end(self, partition: Partition) -> int | None:
        """The end of a partition according to the latest fetch; None before the first one."""

    def position(self, partition: Partition) -> int | None:
        """The offset at which the client continues. At the end of a partition, this is the end offset, even if the last offsets
        hold no records. None: unknown.
        """

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
        """The first and the end offsets of partitions.

        Raises:
            UnavailableError: no answer.
        """

    def close(self) -> None:
        """Disconnect. Never raises, and gives up after a few seconds."""


class Pending(Protocol):
    """A record that was passed to a client and may not be acknowledged yet."""

    @property
    def is_done(self) -> bool:
        """Whether the result is known."""


class ProducerClient(Protocol):
    """Writes records with ``acks=all`` and idempotence. Used from the event loop; only :meth:`close` may block for long.

    Records of one partition are acknowledged in the order in which they were sent. A refused record does not cause others to be
    refused, but records that were sent with it may then be written after later ones, and twice.
    """

    def partitions(self, topic: str) -> Collection[int]:
        """The numbers of a topic's partitions.

        Raises:
            UnavailableError: they are not known yet.
            PublishError: no permission to describe the topic.
        """

    def send(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        timestamp_ms: int | None,
    ) -> Pending:
        """Write a record. Without a partition, the key determines it (murmur2, as in every Kafka client). Without a timestamp,
        the record gets the time of the wall clock.

        Raises:
            UnavailableError: the record cannot be accepted at the moment.
            PublishError: the record will never be accepted.
        """

    def serve(self) -> None:
        """Process received acknowledgements. Called before :attr:`Pending.is_done` is checked."""

    def position(self, pending: Pending) -> Position:
        """The position in Kafka of a record whose result is known.

        Raises:
            UnavailableError: it was not acknowledged, and may be sent again.
            PublishError: Kafka refused it.
        """

    def close(self, seconds: float) -> None:
        """Send remaining records for up to the given seconds, then disconnect. Blocks. Never raises."""


class Broker(Protocol):
    """Access to Kafka with one client library: creates the clients. Its methods block while they connect.

    Raises:
        NoSessionError: no broker accepted the client.
    """

    @property
    def clock(self) -> Callable[[], float]:
        """A clock in seconds that never goes back, and that runs while the machine is suspended."""

    @property
    def session_seconds(self) -> float:
        """How long the group waits for a silent member before removing it."""

    def group_client(self, group: str, topics: Sequence[str], listener: RebalanceListener) -> GroupClient:
        """A member of a group that reads topics."""

    def fetch_client(self, *, partition_bytes: int, read_committed: bool = False) -> FetchClient:
        """A reader. ``partition_bytes``: the most bytes of a partition in one fetch. ``read_committed``: skip records of aborted
        transactions.
        """

    def producer_client(self, topics: Sequence[str]) -> ProducerClient:
        """A writer that already knows these topics."""

    def assigned_partitions(self, group: str) -> Mapping[str, Set[Partition]] | None:
        """The partitions that a group has assigned to its members, by member id. Blocks for a few seconds at most. None: the group is
        in the middle of a rebalance, or the brokers cannot describe groups.

        Raises:
            UnavailableError: no answer.
            RefusedError: this process may not describe the group.
        """

    def admin(self, answer_seconds: float = 30.0) -> TopicAdmin:
        """An admin client whose requests fail if they are not answered within ``answer_seconds``."""
