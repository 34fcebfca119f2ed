"""Several processes of one group on a broker in memory, a turn at a time, and a ledger of everything they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.broker.api import Committed, Partition, Record
from pipeline.broker.consumer import ConsumerOptions, GroupConsumer
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.memory.cluster import Cluster
from pipeline.broker.start_offset import MissingOffsets

TOPIC = "oms.orders"
GROUP = "webhooks.fanout"
SESSION = 10.0

Place = tuple[Partition, int]


class Stepped(GroupConsumer):
    """Has no threads: the simulation takes its turns."""

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        call(*arguments)


@dataclass(slots=True)
class Ledger:
    """What an outside observer has seen."""

    written: set[Place] = field(default_factory=set)
    removed: set[Place] = field(default_factory=set)
    """Removed before any process began them."""
    begun: Counter[Place] = field(default_factory=Counter)
    finished: set[Place] = field(default_factory=set)
    missing: list[MissingOffsets] = field(default_factory=list)


class Process:
    """One process: the records it has, and what its consumer believes."""

    def __init__(self, cluster: Cluster, ledger: Ledger, slot: str | None = None, topics: Sequence[str] = (TOPIC,)) -> None:
        self.broker = MemoryBroker(cluster, session_seconds=SESSION, slot=slot)
        self.ledger = ledger
        self.fetched: list[Record] = []
        self.in_progress: list[Record] = []
        self.consumer = Stepped(
            self.broker,
            ConsumerOptions(group=GROUP, topics=topics, max_outstanding=20, max_outstanding_bytes=1024 * 1024),
            on_records=self.fetched.extend,
            on_missing=ledger.missing.append,
        )

    def join(self) -> None:
        """Take a turn of the group thread."""
        if not self.broker.faults.is_frozen:
            try:
                self.consumer._member.step()
            except SystemExit:
                self.broker.faults.is_frozen = True

    def die_at_revocation(self) -> None:
        """Kill the process when partitions are revoked, so that the group assigns them to nobody."""

        def revoked(partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
            raise SystemExit

        self.consumer._member.revoked = revoked  # type: ignore[method-assign]

    def fetch(self) -> None:
        """Take a turn of the fetch thread."""
        if not self.broker.faults.is_frozen:
            self.consumer.step()

    def begin(self) -> list[Record]:
        """Begin the fetched records if allowed, and drop those of lost partitions. Return what was begun."""
        if self.broker.faults.is_frozen or not self.consumer._member.lease.is_valid():
            return []
        taken, self.fetched[:] = list(self.fetched), []
        begun = [record for record in taken if self.consumer.is_current(record)]
        for record in taken:
            if record in begun:
                self.ledger.begun[record.partition, record.offset] += 1
            else:
                self.consumer.finish(record)
        self.in_progress += begun
        return begun

    def finish(self, record: Record) -> None:
        """Finish a record: everything that it caused is acknowledged."""
        self.in_progress.remove(record)
        self.ledger.finished.add((record.partition, record.offset))
        self.consumer.finish(record)
