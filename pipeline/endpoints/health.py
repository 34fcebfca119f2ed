"""The endpoints' health in memory, from the compacted topic that every delivering process writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.broker.api import Broker, Record
from pipeline.broker.table import CompactedTable
from pipeline.core.circuit import CircuitState
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from schemas.codec import InvalidRecordError, from_json
from schemas.endpoint import EndpointRecord, HeldDrop
from schemas.health import HealthFact, HealthRecord
from schemas.missing_records import MISSING_KEY, MissingRecord
from schemas.topic_ids import TOPIC_IDS_KEY, TopicIdsRecord

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class OrderedSummary:
    """The waiting in-order deliveries of an endpoint: how many, in how many lanes, and the time of the oldest.

    ``behind`` is the fact about the delivery that has blocked others for longest.
    """

    count: int = 0
    lanes: int = 0
    since: datetime | None = None
    behind: HealthRecord | None = None


@dataclass(frozen=True, slots=True)
class HeldSummary:
    """The held deliveries of a paused or disabled endpoint: how many, the time of the oldest, and in which partitions."""

    count: int = 0
    since: datetime | None = None
    parts: tuple[HealthRecord, ...] = ()


class HealthTable:
    """The last record of each fact. Used from the event loop only."""

    def __init__(
        self,
        broker: Broker,
        topic: str,
        *,
        on_missing: Callable[[MissingRecord], None] = lambda _: None,
        on_topic_ids: Callable[[TopicIdsRecord], None] = lambda _: None,
    ) -> None:
        """``on_missing`` is called with a process's record about missing records, ``on_topic_ids`` with the record of the known topics'
        ids.
        """
        self._topic = topic
        self._on_missing = on_missing
        self._on_topic_ids = on_topic_ids
        self.table = CompactedTable(broker, topic, self.apply)
        self._facts: dict[tuple[int, HealthFact], tuple[HealthRecord, int]] = {}
        self._held: dict[int, dict[int, HealthRecord]] = {}
        """By partition, then by endpoint."""
        self._ordered: dict[int, dict[int, HealthRecord]] = {}
        """The same for in-order deliveries."""
        self._by_partition = {HealthFact.HELD: self._held, HealthFact.ORDERED: self._ordered}
        self._known: set[int] = set()
        # In the order of the calls: what a circuit's record changes about an endpoint is forgotten when it is disabled.
        self._listeners: dict[HealthFact, list[Callable[[set[int]], None]]] = {HealthFact.CIRCUIT: [], HealthFact.DISABLED: []}

    def follow(self, fact: Literal[HealthFact.CIRCUIT, HealthFact.DISABLED], listener: Callable[[set[int]], None]) -> None:
        """Call ``listener`` with the ids of endpoints that have new records of this fact. Those who follow also read this table, so they
        cannot be arguments of its constructor.
        """
        self._listeners[fact].append(listener)

    def apply(self, records: Iterable[Record]) -> None:
        """Apply records of the topic, in its order."""
        changed: dict[HealthFact, set[int]] = {}
        for record in records:
            if record.value is None:
                continue
            try:
                if self._is_about_topics(record):
                    continue
                known = from_json(record.value, HealthRecord)
            except InvalidRecordError as error:
                metrics.TABLE_ERRORS.inc()
                log.warning("a health record cannot be used", topic=self._topic, offset=record.offset, error=str(error))
                continue
            if (by_partition := self._by_partition.get(known.fact)) is not None:
                if known.partition is not None:
                    by_partition.setdefault(known.partition, {})[known.endpoint_id] = known
                continue
            self._facts[known.endpoint_id, known.fact] = known, record.offset
            self._known.add(known.endpoint_id)
            changed.setdefault(known.fact, set()).add(known.endpoint_id)
        for fact, listeners in self._listeners.items():
            if fact in changed:
                for listener in listeners:
                    listener(changed[fact])

    def _is_about_topics(self, record: Record) -> bool:
        """Whether a record is about topics and not about an endpoint. If so, the listener is called.

        Raises:
            InvalidRecordError: it cannot be read.
        """
        if (record.key or b"").startswith(MISSING_KEY):
            self._on_missing(from_json(record.value, MissingRecord))
            return True
        if record.key == TOPIC_IDS_KEY:
            self._on_topic_ids(from_json(record.value, TopicIdsRecord))
            return True
        return False

    def knows(self, endpoint_id: int) -> bool:
        """Whether there has ever been a fact about the endpoint."""
        return endpoint_id in self._known

    def offset(self, endpoint_id: int, fact: HealthFact) -> int:
        """The offset of the fact's last record; -1 if there is none."""
        return self._facts[endpoint_id, fact][1] if (endpoint_id, fact) in self._facts else -1

    def last(self, endpoint_id: int, fact: HealthFact) -> HealthRecord | None:
        """The last record of a fact, for any version of the endpoint."""
        known = self._facts.get((endpoint_id, fact))
        return None if known is None else known[0]

    def fact(self, endpoint: EndpointRecord, fact: HealthFact) -> HealthRecord | None:
        """The fact, unless it is older than the endpoint's last activation."""
        known = self._facts.get((endpoint.id, fact))
        return known[0] if known is not None and known[0].endpoint_version >= endpoint.activated_version else None

    def disabled(self, endpoint: EndpointRecord) -> HealthRecord | None:
        """When and why the endpoint was disabled; None if it is not."""
        return self.fact(endpoint, HealthFact.DISABLED)

    def held(self, endpoint_id: int, drops: Iterable[HeldDrop] = ()) -> HeldSummary:
        """The held deliveries of an endpoint, as reported by their processes, without partitions that were dropped entirely."""
        found = (facts.get(endpoint_id) for facts in self._held.values())
        parts = tuple(fact for fact in found if fact is not None and fact.held and not any(_is_all(drop, fact) for drop in drops))
        if not parts:
            return HeldSummary()
        return HeldSummary(
            sum(part.held for part in parts), min((part.since for part in parts if part.since), default=None), parts
        )

    def ordered(self, endpoint_id: int) -> OrderedSummary:
        """The waiting in-order deliveries of an endpoint, as reported by the processes that have its lanes."""
        found = (facts.get(endpoint_id) for facts in self._ordered.values())
        parts = [fact for fact in found if fact is not None and fact.held and fact.since is not None]
        if not parts:
            return OrderedSummary()
        oldest = min(parts, key=lambda fact: (fact.since or fact.at, fact.partition or 0))
        return OrderedSummary(sum(fact.held for fact in parts), sum(fact.count for fact in parts), oldest.since, oldest)

    def ordered_in(self, partition: int) -> Mapping[int, HealthRecord]:
        """The reported lanes of one partition, by endpoint."""
        return self._ordered.get(partition, {})

    def held_in(self, partition: int) -> Mapping[int, HealthRecord]:
        """The reported held deliveries of one partition, by endpoint."""
        return self._held.get(partition, {})

    def failing_since(self, endpoint: EndpointRecord) -> datetime | None:
        """The first failure after the last success; None if the last attempt succeeded."""
        known = self.fact(endpoint, HealthFact.FAILING)
        return known.since if known is not None else None

    def circuit(self, endpoint: EndpointRecord, now: datetime) -> CircuitState:
        """The circuit's state, as last reported by any process. After its open time, it waits for a probe: half open."""
        known = self.fact(endpoint, HealthFact.CIRCUIT)
        if known is None or known.circuit == CircuitState.CLOSED:
            return CircuitState.CLOSED
        return CircuitState.OPEN if known.until is not None and known.until > now else CircuitState.HALF_OPEN


def _is_all(drop: HeldDrop, fact: HealthRecord) -> bool:
    """Whether a drop covers everything that a fact counted."""
    is_old = fact.counted_at is None or fact.counted_at <= drop.until
    return drop.partition == fact.partition and fact.counted <= drop.below and is_old
