"""The interface to Kafka for the rest of the product: the values that cross it, and the protocols that a client implements.

Code above this package does not know which client is used. ``pipeline.broker.kafka`` is kafka-python (the default),
``pipeline.broker.librdkafka`` is confluent-kafka, ``pipeline.broker.memory`` is a deterministic broker for tests.

Four terms have a fixed meaning:

position
    The offset of the next record that is fetched from a partition. It is ours: a client is told where to read, and whatever it
    returns below the position is dropped. A position never goes back while a partition is held.
finished
    A record is finished when all of its results are acknowledged by Kafka (or by ClickHouse). Records finish in any order.
committed
    The offset from which the group continues: the lowest unfinished record. Finished records above it are committed with it, as
    metadata, and so is the progress of records that are processed in many parts. No commit is ever below the group's current one.
epoch
    Each time this process is assigned a partition, the assignment gets a new, unique number. A record carries the epoch under which it
    was taken. A completion from another epoch is dropped, because another process has the partition by now.

A rebalance that keeps a partition changes none of the four. A rebalance that revokes it ends its epoch: records finished until then are
committed, the position is forgotten, and records in progress finish without effect. When membership is lost (the group removed this
process, whether or not the client noticed), all epochs end immediately, and nothing more is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from pipeline.broker.topic_admin import TopicAdmin

_RECORD_OVERHEAD = 1024
"""The memory of a record in addition to its bytes: the objects that hold it, here and where it is processed."""


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
    """By the broker's clock if the topic is LogAppendTime; -1 if unknown."""


class Receipt(NamedTuple):
    """The parts of a record that are needed to finish it."""

    partition: Partition
    offset: int
    epoch: int
    size: int


class Record(NamedTuple):
    """A record, where it came from, and the epoch of the assignment under which it was taken."""

    partition: Partition
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    epoch: int

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return size_of(self.key, self.value, self.headers)

    @property
    def receipt(self) -> Receipt:
        """Finishes the record without keeping its content, which may be megabytes."""
        return Receipt(self.partition, self.offset, self.epoch, self.size)


def size_of(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    """About how many bytes of memory a record takes."""
    size = _RECORD_OVERHEAD + len(value or b"") + len(key or b"")
    for name, content in headers:
        size += len(name) + len(content or b"")  # a header's value may be null in Kafka, whatever the client's types say
    return size


class Fetched(Protocol):
    """A record as a client fetched it; each client has its own type, so that nothing is copied. ``timestamp``: milliseconds since
    1970.
    """

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
    """The first offset that a partition still has, and the offset of its next record."""

    first: int
    end: int


class Membership(NamedTuple):
    """The identity of this process in its group.

    The member's id stays the same while the group knows the member. A new id means that the group removed the member in between,
    and that the partitions of the old id belong to another member. The generation counts the group's rebalances.
    """

    member_id: str
    generation: int


class RebalanceListener(Protocol):
    """Called when partitions are assigned or revoked. It may be called on a thread of the client, and must not block."""

    def assigned(self, partitions: Collection[Partition]) -> None:
        """Partitions were assigned, in addition to the current ones."""

    def releasing(self, partitions: Collection[Partition]) -> bool:
        """Partitions will be revoked: start no further records of them. Returns whether all started records are finished.

        A client that can delay a rebalance for a moment asks until it is True, and then calls :meth:`revoked`. So the next member
        repeats fewer records.
        """

    def revoked(self, partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
        """Partitions move to another member after this call. Returns the offsets to commit for them."""

    def lost(self, partitions: Collection[Partition]) -> None:
        """Partitions already belong to another member."""


class GroupClient(Protocol):
    """A member of a consumer group. It joins, learns which partitions it holds, and commits; it fetches nothing.

    One thread uses it. A client that has lost its membership is closed and discarded, and none of its state is used again.
    """

    def poll(self, seconds: float) -> None:
        """Take part in the group for up to so many seconds: join, join again, call the listener. Returns early when there is
        nothing left to do.

        Raises:
            UnavailableError: no answer for now.
            NotMemberError: the group removed this process, or another process has taken its place.
            RefusedError: the group does not accept this member (no permission, an invalid session).
        """

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe to exactly these topics from now on. The group joins again, and keeps the partitions of topics that stay.

        The topics must exist and be readable.
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
        """The committed offsets of the group. Partitions without a commit are left out.

        Raises:
            UnavailableError: no answer.
        """

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
        """Where partitions begin and end.

        Raises:
            UnavailableError: no answer.
        """

    def close(self, *, leave: bool) -> None:
        """Disconnect; with ``leave``, also leave the group, so that others need not wait for the session to expire.

        Never raises, and gives up after some seconds.
        """


class FetchClient(Protocol):
    """Fetches records from given partitions and positions. It does not belong to a group.

    One thread uses it.
    """

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Fetch exactly these partitions: new ones from the given positions, the others from their current positions."""

    def seek(self, partition: Partition, offset: int) -> None:
        """Fetch a partition from an offset on. Fetched records that were not returned are dropped."""

    def pause(self, partitions: Collection[Partition]) -> None:
        """Pause exactly these partitions, and fetch all others."""

    @property
    def longest_poll(self) -> float:
        """How many seconds a poll may wait while nothing is expected. Short if :meth:`wake` cannot end a poll."""

    def allow_long_polls(self) -> None:
        """From now on the broker may hold a fetch for a long time, if the client supports that. Records end it, but newly
        assigned or resumed partitions wait for it.
        """

    def rest(self) -> None:
        """Called every few seconds at least while nothing is polled, because some clients accumulate events until they are
        called.

        Nothing is assigned, or everything is paused. Does not wait.
        """

    def wake(self) -> None:
        """End the current or the next poll, if the client supports that. May be called on any thread; never blocks, never raises."""

    def poll(self, seconds: float) -> Mapping[Partition, Sequence[Fetched]]:
        """Records that have arrived, or that arrive within the time.

        Raises:
            OutOfRangeError: positions are not in the logs.
            UnavailableError: a broker or the leader of a partition is away for now.
            RefusedError: no permission, or a record that cannot be read.
        """

    def end(self, partition: Partition) -> int | None:
        """The end of a partition as the latest fetch saw it; None before the first one."""

    def position(self, partition: Partition) -> int | None:
        """The offset at which the client continues: at the end of a partition it is the end, even if the last offsets have no
        record. None: unknown.
        """

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
        """Where partitions begin and end.

        Raises:
            UnavailableError: no answer.
        """

    def close(self) -> None:
        """Disconnect. Never raises, and gives up after some seconds."""


class Pending(Protocol):
    """A record that was passed to a client and may not be acknowledged yet."""

    @property
    def is_done(self) -> bool:
        """Whether the result is known."""


class ProducerClient(Protocol):
    """Writes records with ``acks=all``, idempotent. Used from the event loop; no method may block for longer than a moment.

    Records of one partition are acknowledged in the order in which they were sent. A refused record does not cause others to be
    refused, but records that were sent with it may then be written after later ones, and twice.
    """

    def partitions(self, topic: str) -> Collection[int]:
        """The numbers of a topic's partitions.

        Raises:
            UnavailableError: they are not known yet.
            PublishError: the topic may not be looked at.
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
        """Write a record. Without a partition the key chooses it (murmur2, as every Kafka client does); without a time, the wall clock.

        Raises:
            UnavailableError: the record cannot be accepted for now.
            PublishError: the record will never be accepted.
        """

    def serve(self) -> None:
        """Process received acknowledgements. Called before :attr:`Pending.is_done` is checked."""

    def position(self, pending: Pending) -> Position:
        """The position in Kafka of a record whose result is known.

        Raises:
            UnavailableError: it was not acknowledged; it may be sent again.
            PublishError: Kafka refuses it.
        """

    def close(self, seconds: float) -> None:
        """Send remaining records for up to the given seconds, then disconnect. Blocks. Never raises."""


class Broker(Protocol):
    """One implementation of Kafka access: it creates the clients. The constructors block while they connect.

    Raises:
        NoSessionError: no broker accepted the client.
    """

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds of a clock that never goes back, and that runs while the machine is suspended."""

    @property
    def session_seconds(self) -> float:
        """How long the group waits for a silent member before it removes it."""

    def group_client(self, group: str, topics: Sequence[str], listener: RebalanceListener) -> GroupClient:
        """A member of a group that reads topics."""

    def fetch_client(self, *, partition_bytes: int, read_committed: bool = False) -> FetchClient:
        """A reader. ``partition_bytes``: the most bytes of a partition in one fetch. ``read_committed``: without records of
        aborted transactions.
        """

    def producer_client(self, topics: Sequence[str]) -> ProducerClient:
        """A writer that knows these topics already."""

    def admin(self, answer_seconds: float = 30.0) -> TopicAdmin:
        """An administrator whose requests are answered within so many seconds, or not at all."""
