"""What the rest of the product sees of Kafka: the values that cross the seam, and what a client must do.

Nothing above this package knows which client is below. ``pipeline.broker.kafka`` is kafka-python (the default),
``pipeline.broker.librdkafka`` is confluent-kafka, ``pipeline.broker.memory`` is a deterministic broker for tests.

Four words have one meaning each:

position
    The offset of the next record that is fetched from a partition. It is ours: a client is told where to read, and whatever it
    returns below the position is dropped. A position never goes back while a partition is held.
finished
    A record is finished when everything that came of it is acknowledged by Kafka (or by ClickHouse). Records finish in any order.
committed
    The offset that the group reads on from: the lowest unfinished record. What is finished beyond it is committed beside it, as
    metadata, and so is how far records have come that are dealt with in many parts. No commit is ever below what the group has.
epoch
    Each time that a partition comes to this process it gets a number that was never used before. A record carries the epoch that it
    was taken under. A completion of another epoch is dropped: somebody else has the partition by now.

A rebalance that keeps a partition changes none of the four. One that takes it away ends its epoch: what is finished until then is
committed, the position is forgotten, and what is under way is finished without effect. When membership is lost (the group gave this
process up, whether or not the client noticed), all epochs end at once, and nothing more is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self
from uuid import UUID

from schemas.topics import TopicSpec

_RECORD_OVERHEAD = 1024
"""What a record costs beside its bytes: the objects that hold it, here and where it is dealt with."""


class BrokerError(Exception):
    """Something went wrong between this process and Kafka::

        BrokerError
         +-- UnavailableError        no answer, or none for now: ask again later
         |    +-- NoSessionError     a client could not be started
         +-- NotMemberError          the group does not count this process among its members
         +-- OutOfRangeError         a position is not in the log of its partition
         +-- RefusedError            the answer is no, and asking again changes nothing
              +-- MetadataError      there is more beside an offset than the brokers take
              +-- PublishError       a record is not taken (too large, no permission)
              +-- TopicError         topics could not be made, read or changed

    ``str(error)`` says what is wrong and, where somebody can do something about it, what to do. ``needs_a_person``: trying again is of no
    use before somebody has changed something.
    """

    needs_a_person = True

    def __init__(self, message: str, *, needs_a_person: bool | None = None) -> None:
        super().__init__(message)
        if needs_a_person is not None:
            self.needs_a_person = needs_a_person


class UnavailableError(BrokerError):
    """Kafka did not answer, or cannot do what was asked for now."""

    needs_a_person = False


class NoSessionError(UnavailableError):
    """A client could not be started; the message names the servers and says what to do."""


class NotMemberError(BrokerError):
    """The group does not count this process among its members, or not in this generation."""


class OutOfRangeError(BrokerError):
    """Positions that are not in the logs of their partitions."""

    def __init__(self, partitions: Collection[Partition]) -> None:
        super().__init__(f"The position is not in the log of {', '.join(map(str, sorted(partitions)))}.")
        self.partitions = frozenset(partitions)


class RefusedError(BrokerError):
    """Kafka refuses, and asking again changes nothing."""


class MetadataError(RefusedError):
    """The brokers take less metadata with a commit than it has (``offset.metadata.max.bytes``); they take the commit without."""


class PublishError(RefusedError):
    """Kafka will not take a record, and sending it again is of no use (too large, no permission, the producer is closed)."""


class TopicError(RefusedError):
    """Topics could not be made, read or changed."""


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.number}"


class Position(NamedTuple):
    """Where Kafka put a record."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int = -1
    """By the broker's clock when the topic is LogAppendTime; -1 when it is not known."""


class Receipt(NamedTuple):
    """What is needed of a record to finish it."""

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
        """Finishes the record without its content, which may have megabytes."""
        return Receipt(self.partition, self.offset, self.epoch, self.size)


def size_of(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    """About how many bytes of memory a record takes."""
    size = _RECORD_OVERHEAD + len(value or b"") + len(key or b"")
    for name, content in headers:
        size += len(name) + len(content or b"")  # a header's value may be null in Kafka, whatever the client's types say
    return size


class Fetched(Protocol):
    """A record as a client fetched it; each client has a type of its own, so that nothing is copied. ``timestamp``: milliseconds since 1970."""

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
    """What a group has committed for a partition: the next offset to read, and a text beside it."""

    offset: int
    metadata: str = ""


class Bounds(NamedTuple):
    """The first offset that a partition still has, and the one that its next record will get."""

    first: int
    end: int


class Membership(NamedTuple):
    """Who this process is in its group.

    The member's id stays the same for as long as the group knows the member. A new id means that the group had given it up in between,
    and that whatever was held under the old one belongs to somebody else. The generation counts the group's rebalances.
    """

    member_id: str
    generation: int


class RebalanceListener(Protocol):
    """Told of partitions that come and go. It may be called on a thread of the client's, and must not block."""

    def assigned(self, partitions: Collection[Partition]) -> None:
        """Partitions came, in addition to those that are held."""

    def revoked(self, partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
        """Partitions go to another member after this call. Returns what is to be committed for them."""

    def lost(self, partitions: Collection[Partition]) -> None:
        """Partitions are another member's already."""


class GroupClient(Protocol):
    """A member of a consumer group. It joins, learns which partitions it holds, and commits; it fetches nothing.

    One thread uses it. A client that has lost its membership is closed and thrown away: nothing that it believes is used again.
    """

    def poll(self, seconds: float) -> None:
        """Take part in the group for up to so many seconds: join, join again, tell the listener. Returns early when all is settled.

        Raises:
            UnavailableError: no answer for now.
            NotMemberError: the group gave this process up, or another process has taken its place.
            RefusedError: the group does not take this member (no permission, an invalid session).
        """

    def membership(self) -> Membership | None:
        """Who we are; None before the first join, and while a join is under way."""

    def commit(self, commits: Mapping[Partition, Committed]) -> None:
        """Commit, and wait for the answer.

        Raises:
            NotMemberError: the group does not take commits from us any more.
            UnavailableError: no answer, or a rebalance is under way: what would have been committed may be committed later.
            MetadataError: the brokers do not take as much metadata.
            RefusedError: the commit is refused for another reason.
        """

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        """What the group has committed; partitions without a commit are left out.

        Raises:
            UnavailableError: no answer.
        """

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, Bounds]:
        """Where partitions begin and end.

        Raises:
            UnavailableError: no answer.
        """

    def close(self, *, leave: bool) -> None:
        """Disconnect; with ``leave``, leave the group too, so that others need not wait for the session to end.

        Never raises, and gives up after some seconds.
        """


class FetchClient(Protocol):
    """Fetches records of the partitions that it is told, from the positions that it is told. It is in no group.

    One thread uses it.
    """

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Fetch these partitions and no others: those that are new from these positions on, the others from where they are."""

    def seek(self, partition: Partition, offset: int) -> None:
        """Fetch a partition from an offset on. What was fetched of it and not returned is dropped."""

    def pause(self, partitions: Collection[Partition]) -> None:
        """Do not fetch these, and fetch all others."""

    def poll(self, seconds: float) -> Mapping[Partition, Sequence[Fetched]]:
        """What has come, or what comes within the time.

        Raises:
            OutOfRangeError: positions are not in the logs.
            UnavailableError: a broker or the leader of a partition is away for now.
            RefusedError: no permission, or a record that cannot be read.
        """

    def end(self, partition: Partition) -> int | None:
        """The end of a partition as the latest fetch saw it; None before the first one."""

    def position(self, partition: Partition) -> int | None:
        """Where the client reads on: at the end of a partition it is the end, also where no record has the last offsets. None: not known."""

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, Bounds]:
        """Where partitions begin and end.

        Raises:
            UnavailableError: no answer.
        """

    def close(self) -> None:
        """Disconnect. Never raises, and gives up after some seconds."""


class Pending(Protocol):
    """A record that was given to a client and may not have been acknowledged yet."""

    @property
    def is_done(self) -> bool:
        """Whether its fate is known."""


class ProducerClient(Protocol):
    """Writes records with ``acks=all``, idempotent. Used from the event loop; nothing in it may block for longer than a moment.

    Records of one partition are acknowledged in the order in which they were sent.
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
            UnavailableError: it cannot be taken for now.
            PublishError: it will never be taken.
        """

    def serve(self) -> None:
        """Let acknowledgements that have come be seen. Called before :attr:`Pending.is_done` is looked at."""

    def position(self, pending: Pending) -> Position:
        """Where Kafka put a record whose fate is known.

        Raises:
            UnavailableError: it was not acknowledged; it may be sent again.
            PublishError: Kafka refuses it.
        """

    def close(self, seconds: float) -> None:
        """Send what is left for up to so many seconds, then disconnect. Blocks. Never raises."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a topic is not as it must be."""

    topic: str
    what: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} is {self.found}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Growth:
    """A topic that is to have more partitions."""

    topic: str
    before: int
    after: int


class TopicAdmin(Protocol):
    """Administers topics. Its calls block: run them in a thread, or before the event loop.

    Raises:
        UnavailableError: no broker answered in time.
        TopicError: Kafka refused.
    """

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def names(self) -> list[str]:
        """Every topic that there is."""

    def ids(self, topics: Collection[str]) -> dict[str, UUID]:
        """The ids of topics. One that was deleted and made anew has another id. Brokers that have none leave them out."""

    def create_missing(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Make the topics that do not exist, and return their names. Safe to run from many processes at once."""

    def differences(self, specs: Sequence[TopicSpec]) -> list[Difference]:
        """Compare the topics with what they must look like: missing ones, fewer partitions, other settings."""

    def planned_growth(self, specs: Sequence[TopicSpec], wanted: int) -> list[Growth]:
        """Which topics have fewer than ``wanted`` partitions: those whose number is a setting. Empty when there is nothing to do."""

    def grow(self, planned: Sequence[Growth]) -> None:
        """Add partitions and wait until the brokers show them."""

    def forget_commits(self, group: str, topic: str) -> None:
        """Delete what a group has committed for a topic: it will read it from its beginning.

        Raises:
            TopicError: a member of the group reads the topic.
        """

    def close(self) -> None:
        """Disconnect."""


class Broker(Protocol):
    """One way to Kafka: it makes the clients. The constructors block while they connect.

    Raises:
        NoSessionError: no broker let the client in.
    """

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds of a clock that never goes back, and that goes on while the machine is suspended."""

    @property
    def session_seconds(self) -> float:
        """How long the group waits for a member that is silent before it gives it up."""

    def group_client(self, group: str, topics: Sequence[str], listener: RebalanceListener) -> GroupClient:
        """A member of a group that reads topics."""

    def fetch_client(self, *, partition_bytes: int, read_committed: bool = False) -> FetchClient:
        """A reader. ``partition_bytes``: most of a partition in one fetch. ``read_committed``: without what transactions took back."""

    def producer_client(self, topics: Sequence[str]) -> ProducerClient:
        """A writer that knows these topics already."""

    def admin(self, answer_seconds: float = 30.0) -> TopicAdmin:
        """An administrator whose questions are answered within so many seconds, or not at all."""
