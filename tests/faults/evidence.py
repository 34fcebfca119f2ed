"""The evidence of a run, and the accounts drawn from it. Pure: no Kafka, no ClickHouse, no clock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import msgspec

from pipeline.store.rows import attempt_id
from schemas.attempt import Outcome
from schemas.delivery import DEAD_LETTER_HEADER, DELIVERY_HEADER, DISPATCH_HEADER
from schemas.topics import Topics
from tests.faults.kafka_view import Committed, TopicOffset
from tests.faults.receivers import Request

Pair: TypeAlias = tuple[str, str]
"""An event's id and the path of an endpoint."""

ATTEMPTS_IN_ALL = 6


class Event(NamedTuple):
    """A published event, acknowledged by Kafka, and the paths of the endpoints that must get it."""

    id: str
    position: TopicOffset
    wanted_by: frozenset[str]


class AttemptRecord(NamedTuple):
    """An attempt in ``webhooks.attempts``."""

    position: TopicOffset
    id: int
    pair: Pair
    attempt: int
    outcome: str
    failure: str | None


class Scheduled(NamedTuple):
    """A record of a delay topic: an attempt that is due later. ``parked``: deferred without an attempt."""

    position: TopicOffset
    written_at: float
    due_at: float
    pair: Pair
    parked: int


class SetAside(NamedTuple):
    """A dead letter: its position, the origin of its record, and the reason."""

    position: TopicOffset
    source: TopicOffset
    reason: str


class StoredRow(NamedTuple):
    """A row of ClickHouse: its record, and what distinguishes it from others of that record."""

    partition: int
    offset: int
    id: int | str


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a role's process, and what its group had committed then.

    What it had started and not committed may be repeated: after ``until``, no more of it could start (seconds since 1970).
    """

    what: str
    role: str
    at: float
    committed: Committed
    outstanding: float
    """The records in progress that the process had reported just before."""
    until: float


class _EventOf(msgspec.Struct):
    id: str


class _Attempt(msgspec.Struct):
    event: _EventOf
    endpoint_id: int
    attempt: int
    outcome: str
    failure: str | None = None


class _Dispatch(msgspec.Struct):
    event: _EventOf


class _DeadLetter(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    reason: str


class _Delivery(msgspec.Struct):
    event: _EventOf
    endpoint_id: int
    parked: int = 0


def attempt_records(record: Any, paths: Mapping[int, str]) -> Iterator[AttemptRecord]:
    """Read the attempts in a record of ``webhooks.attempts``: one per line."""
    for index, line in enumerate(record.value.splitlines()):
        attempt = msgspec.json.decode(line, type=_Attempt)
        pair = (attempt.event.id, paths[attempt.endpoint_id])
        identifier = attempt_id(record.partition, record.offset, index)
        yield AttemptRecord(_position(record), identifier, pair, attempt.attempt, attempt.outcome, attempt.failure)


def dispatch_rows(record: Any) -> Iterator[StoredRow]:
    """Return the rows that a record of ``webhooks.dispatches`` must have in ClickHouse: one per line of its header."""
    header = next(value for name, value in record.headers if name == DISPATCH_HEADER)
    for line in header.splitlines():
        yield StoredRow(record.partition, record.offset, msgspec.json.decode(line, type=_Dispatch).event.id)


def set_aside(record: Any) -> SetAside:
    """Read a dead letter."""
    header = next(value for name, value in reversed(record.headers) if name == DEAD_LETTER_HEADER)
    letter = msgspec.json.decode(header, type=_DeadLetter)
    return SetAside(_position(record), TopicOffset(letter.topic, letter.partition, letter.offset), letter.reason)


def scheduled(record: Any, paths: Mapping[int, str], topics: Topics) -> Scheduled:
    """Read a record of a delay topic."""
    header = next(value for name, value in record.headers if name == DELIVERY_HEADER)
    delivery = msgspec.json.decode(header, type=_Delivery)
    written_at = record.timestamp / 1000
    delay = next(delay for delay in topics.delays if topics.delay(delay) == record.topic)
    pair = (delivery.event.id, paths[delivery.endpoint_id])
    return Scheduled(_position(record), written_at, written_at + delay.total_seconds(), pair, delivery.parked)


def _position(record: Any) -> TopicOffset:
    return TopicOffset(record.topic, record.partition, record.offset)


@dataclass(repr=False)
class Evidence:
    """Everything known about a settled run."""

    events: Sequence[Event]
    requests: Sequence[Request]
    attempts: Sequence[AttemptRecord]
    dispatches: Sequence[StoredRow]
    scheduled: Sequence[Scheduled]
    faults: Sequence[Fault] = ()
    stored_attempts: Sequence[StoredRow] | None = None
    """None if nothing was recorded in this run."""
    stored_dispatches: Sequence[StoredRow] | None = None
    stored_dead_letters: Sequence[StoredRow] | None = None
    dead_letters: Sequence[SetAside] = ()
    published_twice: Counter[str] = field(default_factory=Counter)
    """How many extra times an event is in its source topic: caused by a producer, not by the system."""
    seconds: float = 0.0

    @cached_property
    def expected(self) -> frozenset[Pair]:
        """Return every event with every endpoint that subscribed to it."""
        return expected_pairs(self.events)

    @cached_property
    def request_counts(self) -> Counter[Pair]:
        return Counter((request.event_id, request.path) for request in self.requests)

    @cached_property
    def acknowledged(self) -> frozenset[Pair]:
        return frozenset((request.event_id, request.path) for request in self.requests if request.is_acknowledged)

    @cached_property
    def exhausted(self) -> frozenset[Pair]:
        """Return notifications given up after six attempts that reached the endpoint and were refused."""
        given_up = {attempt.pair for attempt in self.attempts if attempt.outcome == Outcome.EXHAUSTED}
        return frozenset(pair for pair in given_up if self.request_counts[pair] >= ATTEMPTS_IN_ALL)

    @property
    def missing(self) -> frozenset[Pair]:
        return self.expected - self.acknowledged - self.exhausted

    @property
    def unrecorded(self) -> frozenset[Pair]:
        """Return notifications without a record of their last attempt."""
        ended = {attempt.pair for attempt in self.attempts if attempt.outcome in {Outcome.DELIVERED, Outcome.EXHAUSTED}}
        return self.expected - ended

    @cached_property
    def balance(self) -> Counter[Pair]:
        """Return the requests of each notification beyond those that were due; below 0: missing ones.

        An event makes one request due at each endpoint, and each retry in a delay topic one more. A delivery that was parked there
        instead of being attempted makes none due.
        """
        counts = Counter(self.request_counts)
        counts.subtract({pair: 1 + self.published_twice[pair[0]] for pair in self.expected})
        counts.subtract(record.pair for record in self.scheduled if not record.parked)
        return counts

    @property
    def duplicates(self) -> int:
        """Return the requests beyond those that were due."""
        return sum(count for count in self.balance.values() if count > 0)

    @property
    def lost(self) -> frozenset[Pair]:
        """Return notifications with fewer requests than were due, except those that failed before they reached the endpoint."""
        unanswered = Counter(attempt.pair for attempt in self.attempts if attempt.failure)
        return frozenset(pair for pair, count in self.balance.items() if count + unanswered[pair] < 0)

    @cached_property
    def body_hashes(self) -> Mapping[str, set[str]]:
        """Return the hashes of the bodies that endpoints got, by event."""
        hashes: defaultdict[str, set[str]] = defaultdict(set)
        for request in self.requests:
            hashes[request.event_id].add(request.body_hash)
        return hashes

    def in_flight(self, fault: Fault) -> int:
        """Return how many deliveries the process had started and not committed: the fault may repeat no others."""
        match fault.role:
            case "fanout":
                return len(self._begun_by_fan_out(fault))
            case "retry":
                return self._begun_by_retry(fault)
            case _:
                return 0

    def without_set_aside(self, kind: str, rows: Iterable[StoredRow]) -> list[StoredRow]:
        """Return the rows of ``webhooks.<kind>`` whose records are not dead letters."""
        aside = {letter.source[1:] for letter in self.dead_letters if letter.source.topic.endswith(f"webhooks.{kind}")}
        return [row for row in rows if (row.partition, row.offset) not in aside]

    @cached_property
    def most_wanted(self) -> int:
        """Return the highest number of endpoints of an event."""
        return max(len(event.wanted_by) for event in self.events)

    @property
    def in_flight_at_the_faults(self) -> int:
        return sum(map(self.in_flight, self.faults))

    def summary(self) -> str:
        """Return the figures of the run."""
        outcomes = Counter(attempt.outcome for attempt in self.attempts)
        unanswered = Counter(f"{attempt.failure} at {attempt.pair[1]}" for attempt in self.attempts if attempt.failure)
        parked = sum(record.parked > 0 for record in self.scheduled)
        figures = {
            "events published": len(self.events),
            "events dispatched (some again)": len(self.dispatches),
            "notifications due": len(self.expected),
            "requests": len(self.requests),
            "requests a second": round(len(self.requests) / self.seconds),
            "seconds until all was settled": round(self.seconds),
            "attempts recorded": len(self.attempts),
            **{f"  {outcome}": count for outcome, count in sorted(outcomes.items())},
            **{f"  {failure}": count for failure, count in sorted(unanswered.items())},
            "repeats scheduled": len(self.scheduled) - parked,
            "parked without an attempt": parked,
            "requests without a record": len(self.requests) - len(self.attempts),
            "dead letters": len(self.dead_letters),
            "duplicates": self.duplicates,
        }
        lines = [f"  {name:34}{figure:10,}" for name, figure in figures.items()]
        for fault in self.faults:
            begun = f"{self.in_flight(fault):,} deliveries begun and not committed"
            lines.append(f"  {fault.what} {fault.role} with {fault.outstanding:,.0f} records in hand; {begun}")
        return "\n".join(lines)

    def _begun_by_fan_out(self, fault: Fault) -> set[Pair]:
        uncommitted = {event.id for event in self.events if _is_uncommitted(event.position, fault)}
        requested = {(request.event_id, request.path) for request in self.requests if request.at <= fault.until}
        parked = {record.pair for record in self.scheduled if record.written_at <= fault.until}
        return {pair for pair in requested | parked if pair[0] in uncommitted}

    def _begun_by_retry(self, fault: Fault) -> int:
        """Return deliveries in the delay topics that were followed by a request, or parked again, when they were due."""
        traces = defaultdict(list)
        for request in self.requests:
            traces[request.event_id, request.path].append(request.at)
        for record in self.scheduled:
            if record.parked:
                traces[record.pair].append(record.written_at)
        return sum(
            any(record.due_at <= at <= fault.until for at in traces[record.pair])
            for record in self.scheduled
            if _is_uncommitted(record.position, fault) and record.due_at <= fault.at
        )


def expected_pairs(events: Iterable[Event]) -> frozenset[Pair]:
    """Return every event with every endpoint that must get it."""
    return frozenset((event.id, path) for event in events for path in event.wanted_by)


def examples(pairs: Iterable[Pair], limit: int = 5) -> str:
    """Return a few of them, for a failure message."""
    return ", ".join(f"{event_id} at {path}" for event_id, path in sorted(pairs)[:limit])


def _is_uncommitted(position: TopicOffset, fault: Fault) -> bool:
    committed = fault.committed.get((position.topic, position.partition))
    return committed is None or (position.offset >= committed.offset and position.offset not in committed.finished)
