"""What Kafka stores: topics and their logs; and a clock that moves only when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

from pipeline.broker.api import OffsetRange, Partition
from pipeline.broker.memory.groups import Coordinator

_EPOCH_MS = 1_772_463_840_000


class StoredRecord(NamedTuple):
    """A record in a log. ``timestamp`` is milliseconds since 1970, by the clock of the cluster."""

    topic: str
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class VirtualClock:
    """A clock in seconds that starts at 0, and moves only when :meth:`advance` is called."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


class Log:
    """One partition. Offsets are reused only after :meth:`truncate`."""

    def __init__(self) -> None:
        self.records: list[StoredRecord] = []
        self.first = 0
        self.shown_end: int | None = None
        """The end that readers see; None: the true one. A leader that came back with an old state reports an earlier end."""

    @property
    def end(self) -> int:
        """The offset of the next record."""
        return self.records[-1].offset + 1 if self.records else self.first

    def bounds(self) -> OffsetRange:
        """Where it begins and ends, as readers see it."""
        return OffsetRange(self.first, self.end if self.shown_end is None else min(self.shown_end, self.end))

    def read(self, offset: int, most: int) -> list[StoredRecord]:
        """Records from an offset on."""
        start = max(offset - (self.records[0].offset if self.records else 0), 0)
        end = self.bounds().end
        return [record for record in self.records[start : start + most] if record.offset < end]

    def remove_before(self, offset: int) -> None:
        """Retention: older records are removed."""
        end = self.end
        self.first = min(max(offset, self.first), end)
        self.records = [record for record in self.records if record.offset >= self.first]

    def truncate(self, offset: int) -> None:
        """An unclean election: records from an offset on are lost, and their offsets are reused."""
        self.records = [record for record in self.records if record.offset < offset]


class Topic:
    """A topic. A recreated topic has another id."""

    def __init__(self, partitions: int) -> None:
        self.id: UUID = uuid4()
        self.logs = [Log() for _ in range(partitions)]


class Cluster:
    """Everything that outlives a process. Thread-safe: one lock for all."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """``clock``: seconds that never go back; by default a `VirtualClock`, as :attr:`virtual`."""
        self.virtual = VirtualClock()
        self.clock: Callable[[], float] = clock or self.virtual
        self.lock = threading.RLock()
        self.topics: dict[str, Topic] = {}
        self.coordinator = Coordinator(self.clock, self.partitions_of)
        self.is_away = False
        """Whether no broker answers."""

    def create(self, name: str, partitions: int = 1) -> Topic:
        """Create a topic. An existing one of that name is recreated, and its commits are forgotten, as in Kafka."""
        with self.lock:
            if name in self.topics:
                self.coordinator.forget_topic(name)
            topic = self.topics[name] = Topic(partitions)
            return topic

    def log(self, partition: Partition) -> Log:
        """A partition's log."""
        return self.topics[partition.topic].logs[partition.number]

    def partitions_of(self, topic: str) -> list[Partition]:
        """The partitions of a topic; empty if there is no such topic."""
        found = self.topics.get(topic)
        return [Partition(topic, number) for number in range(len(found.logs))] if found else []

    def append(
        self,
        partition: Partition,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> StoredRecord:
        """Write a record."""
        with self.lock:
            log = self.log(partition)
            timestamp = _EPOCH_MS + round(self.clock() * 1000)
            record = StoredRecord(partition.topic, log.end, timestamp, key, value, tuple(headers))
            log.records.append(record)
            return record
