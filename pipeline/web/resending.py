"""Sends again: resends a notification, replays past events step by step, and publishes dead letters again or dismisses them.

The same rules apply to every caller. Each action is recorded in the audit log first. When a call returns, Kafka has the records.

Two callers send many notifications, and remember their progress in different places. ``resend_runs.py`` resends the failed notifications
of a search: at most 100,000, so a run in the API, which every process can show and cancel, is enough. A replay may send millions, for
days. Its caller (``consumers/cli/replay.py``) asks for one step after the other, and keeps the position in a file: no restart of the
API, and no gap in the audit log, makes it send events twice. The dashboard lists both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, NamedTuple, TypeVar

from pipeline.broker.api import Position
from pipeline.broker.errors import PublishError
from pipeline.broker.producer import Producer
from pipeline.core.counted import counted
from pipeline.core.trace import TraceContext
from pipeline.delivery.ordered_publisher import OrderedPublisher
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import Registry, state_of
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from pipeline.store.reports.notification_history import NotificationHistory, PastNotification, ReplayPosition, ReplayRequest
from pipeline.store.reports.recent import DeadLetterDetail, DeadLetterSummary, Reports
from pipeline.store.reports.repairs import LETTER, PUBLISHED, RepairedBy
from pipeline.web.audit import Actor, AuditLog
from pipeline.web.errors import ApiError, InvalidError, not_found, require_endpoints
from pipeline.web.kafka_writes import confirmed_within
from pipeline.web.search_errors import searching
from schemas.audit import AuditAction
from schemas.codec import InvalidRecordError, from_header, to_header
from schemas.delivery import DEAD_LETTER_HEADER, DELIVERY_HEADER, DeadLetter, DeliveryRecord, Trigger
from schemas.event import EventMeta
from schemas.event_reader import EventReader
from schemas.operational import OPERATIONAL_ENDPOINT_ID
from schemas.producer_forms import is_missing_key
from schemas.topics import Topics, delay_label

log = logger(__name__)

ResultT = TypeVar("ResultT")

_AT_ONCE: Final = timedelta(0)
_LOOK_FIRST: Final = "check the attempts before you try again."
_NO_KEY: Final = "The record has no key. Enter the order number or, for stock events, the stock item id."
_ANY_KEY: Final = b"any"
_CUT: Final = "Only the beginning of this record is stored here. Its detail says where the full record is. Enter the full value."


@dataclass(frozen=True, slots=True)
class Resent:
    """The event that was sent again, and its endpoint."""

    event: EventMeta
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """A step of a replay. ``skipped`` events have no body. ``end`` is where the step ends; None after the last event."""

    events: int
    sent: int
    skipped: int
    end: ReplayPosition | None


@dataclass(frozen=True, slots=True)
class Repair:
    """The repaired key and value. None: unchanged."""

    key: bytes | None = None
    value: bytes | None = None


class _RepairedRecord(NamedTuple):
    """The record that will be published."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Republished:
    """The event, and where Kafka put it."""

    event: EventMeta
    position: Position


@dataclass(frozen=True, slots=True)
class Resender:
    """Resends, replays and repairs. There is one per API process."""

    registry: Registry
    producer: Producer
    topics: Topics
    audit: AuditLog
    notifications: NotificationHistory
    reports: Reports
    events: EventReader
    """Reads a repaired event as the fan-out will."""
    search_timeout_seconds: float = 30.0
    ordered: OrderedPublisher = field(init=False)
    """Appends deliveries to lanes, for endpoints that get events in order."""

    def __post_init__(self) -> None:
        """Create the publisher of ordered deliveries, with the same producer."""
        object.__setattr__(self, "ordered", OrderedPublisher(self.producer, self.topics.ordered))

    async def attempt(self, who: Actor, identifier: int, trace: TraceContext | None = None) -> Resent:
        """Resend the notification of an attempt, in the ``trace`` of the request.

        Raises:
            ApiError: 404, there is no such attempt; 409, it cannot be sent again; 503, Kafka or ClickHouse does not answer.
        """
        require_endpoints(self.registry)
        async with searching(self):
            found = (await self.notifications.of_attempts([identifier])).get(identifier)
        if found is None:
            raise not_found()
        return await self.notification(who, found, trace=trace)

    async def notification(
        self, who: Actor, one: PastNotification, *, run: str = "", trace: TraceContext | None = None
    ) -> Resent:
        """Resend a notification, with the endpoint's current settings. ``run`` is the id of the run that resends it.

        Raises:
            ApiError: 409, it cannot be sent again now; 503, Kafka does not answer.
        """
        if one.is_test:
            raise ApiError(409, "This was a test with a sample event. Tests cannot be resent. Send another test event instead.")
        endpoint = self.addressee(one.endpoint_id)
        if one.body is None:
            raise ApiError(409, "The event cannot be resent, because its body has not been recorded yet or has been deleted.")
        detail = f"event {one.event.id}, endpoint {endpoint.id}" + (f", run {run}" if run else "")
        await self.audit.put(who, AuditAction.RESEND, f"attempt {one.attempt_id}", detail)
        await self._deliver(one, one.body, trace)
        return Resent(one.event, endpoint)

    def addressee(self, endpoint_id: int) -> Endpoint:
        """The current endpoint.

        Raises:
            ApiError: 409, nothing can be sent to it.
        """
        endpoint = self.registry.get(endpoint_id)
        if endpoint_id == OPERATIONAL_ENDPOINT_ID:
            raise ApiError(409, "Operational events cannot be resent.")
        if endpoint is None:
            raise ApiError(409, f"Endpoint {endpoint_id} was deleted, so nothing can be sent to it.")
        if endpoint.is_unverified:
            raise ApiError(409, f"Endpoint {endpoint.id} is not verified. Verify it first.")
        if not endpoint.active:
            raise ApiError(409, f"Endpoint {endpoint.id} is {state_of(endpoint)}. Resume it first.")
        return endpoint

    async def count_replay(self, wanted: ReplayRequest) -> tuple[int, int]:
        """The number of events of a replay, and of their notifications.

        Raises:
            ApiError: 409, an endpoint cannot get them; 422, it takes too much; 503, ClickHouse does not answer.
        """
        self._check_endpoints(wanted)
        async with searching(self):
            return await self.notifications.count(wanted)

    async def replay(
        self, who: Actor, wanted: ReplayRequest, after: ReplayPosition | None, limit: int, run: str | None
    ) -> ReplayedStep:
        """Send the next events of a replay, with the endpoints' current settings. Without a ``run``, only say where the step ends.

        Raises:
            ApiError: 409, an endpoint cannot get them; 422, it takes too much; 503, Kafka or ClickHouse does not answer, and some
                events may have been sent.
        """
        self._check_endpoints(wanted)
        async with searching(self):
            page = await self.notifications.page(wanted, after, limit)
        bodies = {one.event.id: one.body for one in page}
        sent = 0
        if page and run is not None:
            place = "from the beginning" if after is None else f"after {after.received_ms}.{after.event_id}"
            endpoints = (
                f"{'endpoint' if len(wanted.endpoint_ids) == 1 else 'endpoints'} {', '.join(map(str, wanted.endpoint_ids))}"
            )
            detail = f"{counted(len(bodies), 'event')} to {endpoints}, {place}"
            await self.audit.put(who, AuditAction.REPLAY, f"replay {run}", detail)
            sent = await self._deliver_all(page)
        end = ReplayPosition.of(page[-1]) if len(bodies) == limit else None
        return ReplayedStep(len(bodies), sent, sum(body is None for body in bodies.values()), end)

    async def republish(self, who: Actor, identifier: int, repair: Repair) -> Republished:
        """Publish a dead letter again, with its headers, to the topic of its event type.

        Raises:
            ApiError: 404, there is no such dead letter; 409, it did not come from a source topic; 422, it would become a dead
                letter again; 503, Kafka or ClickHouse does not answer.
        """
        async with searching(self):
            letter = await self.reports.dead_letter(identifier)
        if letter is None:
            raise not_found()
        topic = letter.summary.topic
        if topic not in self.events.sources:
            message = (
                f"This record came from {topic}, which is not a topic of events. docs/runbook.md (Records of our own topics) says what to "
                "do. When that is done, dismiss it."
            )
            raise ApiError(409, message)
        key, value, event = self._checked(letter, repair)
        topic = self.events.topic_of(event.event_name)
        repaired = [name for name, now, was in (("key", key, letter.key), ("value", value, letter.value)) if now != was]
        detail = f"to {topic}, event {event.id}, " + (f"repaired: {', '.join(repaired)}" if repaired else "as it was")
        subject = f"{LETTER}{identifier}"
        await self.audit.put(who, AuditAction.REPUBLISH, subject, detail)
        sent = self.producer.send(topic, key=key, value=value, headers=_own_headers(letter))
        try:
            position = await self._confirmed(sent, "the record", "be published")
        except PublishError as error:
            raise ApiError(409, str(error)) from error
        # This second record removes the dead letter from the list, so it is only written after Kafka has the repaired record.
        done = f"{PUBLISHED}to {topic}, partition {position.partition}, offset {position.offset}, event {event.id}"
        try:
            await self.audit.put(who, AuditAction.REPUBLISH, subject, done)
        except ApiError as error:
            log.warning("a dead letter was published again, but stays in the list", dead_letter=identifier, error=str(error))
        return Republished(event, position)

    async def dismiss(self, who: Actor, identifier: int) -> DeadLetterSummary:
        """Take a dead letter off the list of those to repair, without publishing it. It can still be read, and published.

        Raises:
            ApiError: 404, there is no such dead letter; 503, Kafka or ClickHouse does not answer.
        """
        async with searching(self):
            letter = await self.reports.dead_letter(identifier)
        if letter is None:
            raise not_found()
        done = RepairedBy(self.audit.clock(), who.actor, self.audit.person(who.actor), is_dismissed=True)
        await self.audit.put(who, AuditAction.DISMISS_DEAD_LETTER, f"{LETTER}{identifier}", f"from {letter.summary.topic}")
        return replace(letter.summary, repaired=done)

    def event_of(self, letter: DeadLetterDetail, value: bytes | None, key: bytes = _ANY_KEY) -> EventMeta:
        """The event in a dead letter with this value, by the rules of the fan-out.

        Raises:
            InvalidRecordError: it would become a dead letter again.
        """
        # The record gets its real time when it is published.
        record = _RepairedRecord(key, value, _own_headers(letter), round(self.audit.clock().timestamp() * 1000))
        event = self.events.decode(record, letter.summary.topic).meta
        self.events.read(record, self.events.topic_of(event.event_name))
        return event

    def _checked(self, letter: DeadLetterDetail, repair: Repair) -> tuple[bytes, bytes, EventMeta]:
        """Key, value and event."""
        key = repair.key if repair.key is not None else letter.key
        value = repair.value if repair.value is not None else letter.value
        if repair.value is None and is_cut(letter):
            raise InvalidError({"value": [_CUT]})
        errors = {"key": [_NO_KEY]} if is_missing_key(key) else {}
        try:
            event = self.event_of(letter, value, _ANY_KEY if errors or key is None else key)
        except InvalidRecordError as error:
            raise InvalidError({"value": [str(error)]} | errors) from error
        if errors or key is None or value is None:
            raise InvalidError(errors)
        return key, value, event

    def _check_endpoints(self, wanted: ReplayRequest) -> None:
        require_endpoints(self.registry)
        for endpoint_id in wanted.endpoint_ids:
            # A user typed the id, so it may never have existed.
            if self.registry.get(endpoint_id) is None:
                raise ApiError(409, f"Endpoint {endpoint_id} does not exist, or was deleted.")
            self.addressee(endpoint_id)

    async def _deliver_all(self, notifications: Sequence[PastNotification]) -> int:
        due = [self._deliver(one, one.body) for one in notifications if one.body is not None]
        try:
            await asyncio.gather(*due)
        except PublishError as error:
            raise ApiError(503, str(error)) from error
        return len(due)

    async def _deliver(self, one: PastNotification, body: bytes, trace: TraceContext | None = None) -> None:
        """Write a delivery to the delay topic that is due at once, or to the end of its lane. Returns when Kafka has it."""
        delivery = DeliveryRecord(
            event=one.event,
            endpoint_id=one.endpoint_id,
            attempt=1,
            trigger=Trigger.RESEND,
            traceparent=None if trace is None else trace.traceparent,
            tracestate=None if trace is None else trace.tracestate or None,
        )
        endpoint = self.registry.get(one.endpoint_id)
        if endpoint is not None and endpoint.record.ordered and one.event.key is not None:
            # Shielded: if the caller stops waiting, the write continues. Otherwise, later sends could be lost with it.
            await self._confirmed(asyncio.shield(self.ordered.write([delivery], body)), "the resend", "be made")
            return
        metrics.RETRIES_SCHEDULED.labels(delay_label(_AT_ONCE)).inc()
        topic, headers = self.topics.delay(_AT_ONCE), [to_header(DELIVERY_HEADER, delivery)]
        sent = self.producer.send(topic, key=one.event.id.encode(), value=body, headers=headers, spread=True)
        await self._confirmed(sent, "the resend", "be made")

    async def _confirmed(self, sent: asyncio.Future[ResultT], what: str, may: str) -> ResultT:
        problem = f"Kafka did not confirm {what} in time. It may still {may}: {_LOOK_FIRST}"
        async with confirmed_within(self.audit.write_timeout_seconds, problem):
            return await sent


def _own_headers(letter: DeadLetterDetail) -> list[tuple[str, bytes]]:
    """The headers that the record had before it became a dead letter."""
    return [(name, content) for name, content in letter.headers if name != DEAD_LETTER_HEADER]


def is_cut(letter: DeadLetterDetail) -> bool:
    """Whether the dead letter contains only the beginning of the record."""
    try:
        return from_header(letter.headers, DEAD_LETTER_HEADER, DeadLetter).truncated
    except InvalidRecordError:  # somebody else wrote it to the topic
        return False
