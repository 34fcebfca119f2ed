"""The timeline of an order, a shipment, a subscription or a stock item: what each endpoint got, and where the rest is now. Pure.

The plan that was recorded with a failed attempt may be out of date: the endpoint may have been paused, disabled or deleted since,
or it may be down, so that its deliveries wait. So :func:`build_timeline` combines the records with the current state of the endpoints.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from pipeline.store.reports.timeline import EventRow, TimelineRecords
from pipeline.store.search.attempt_rows import AttemptRow
from pipeline.web.endpoint_names import endpoint_name
from schemas.event_key import record_key
from schemas.http.attempts import AttemptAnswer

AttemptT = TypeVar("AttemptT", AttemptRow, AttemptAnswer)

GRACE: Final = timedelta(minutes=1)
"""How late an attempt, or its record, may be before it counts as overdue."""


class DeliveryStatus(enum.StrEnum):
    """Where a notification (an event at an endpoint) is now. The values are shown to people."""

    DELIVERED = "delivered"
    ON_ITS_WAY = "on its way"
    WILL_RETRY = "will retry"
    LATE = "overdue"
    """It should have been sent by now, and no reason is known why it was not."""
    BEHIND = "waiting for an earlier event"
    """The endpoint gets its events in order, and an earlier one with the same key is still to be delivered."""
    ON_HOLD = "on hold: endpoint is down"
    PAUSED = "paused"
    DISABLED = "on hold: endpoint is disabled"
    UNVERIFIED = "on hold: endpoint is not verified"
    UNUSABLE = "on hold: endpoint cannot be used"
    GAVE_UP = "gave up"
    DROPPED = "not sent"
    EXPIRED = "waited too long"
    DELETED = "endpoint was deleted"

    @property
    def short(self) -> str:
        """The status without its reason, for where the reason has been given already."""
        return self.partition(":")[0]

    @property
    def is_missing(self) -> bool:
        """Whether the endpoint did not get it, and is not about to get it."""
        return self not in (DeliveryStatus.DELIVERED, DeliveryStatus.ON_ITS_WAY)

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens unless somebody acts."""
        return self in _OVER

    @property
    def kind(self) -> str:
        """The style of its badge."""
        if self is DeliveryStatus.DELIVERED:
            return "good"
        if self in (DeliveryStatus.ON_ITS_WAY, DeliveryStatus.PAUSED, DeliveryStatus.DELETED):
            return ""
        return "warning" if self in (DeliveryStatus.WILL_RETRY, DeliveryStatus.BEHIND) else "bad"


_OVER: Final = frozenset({DeliveryStatus.GAVE_UP, DeliveryStatus.DROPPED, DeliveryStatus.EXPIRED, DeliveryStatus.DELETED})
_ENDINGS: Final = {
    "exhausted": DeliveryStatus.GAVE_UP,
    "discarded": DeliveryStatus.DROPPED,
    "expired": DeliveryStatus.EXPIRED,
}
_STATES: Final = {
    "deleted": DeliveryStatus.DELETED,
    "paused": DeliveryStatus.PAUSED,
    "disabled": DeliveryStatus.DISABLED,
    "unverified": DeliveryStatus.UNVERIFIED,
}


@dataclass(frozen=True, slots=True)
class EndpointState:
    """The current state of an endpoint. ``state`` is ``active``, ``paused``, ``disabled``, ``unverified`` or ``deleted``.

    ``is_down``: it failed so often that its deliveries wait until it answers again. ``problem``: why nothing can be sent to it.
    """

    id: int
    name: str
    target_url: str
    state: str = "active"
    is_down: bool = False
    failing_since: datetime | None = None
    disabled_at: datetime | None = None
    held_count: int = 0
    problem: str | None = None
    is_ordered: bool = False
    """Whether it gets the events of one key one after the other."""
    max_per_second: int | None = None

    @property
    def is_active(self) -> bool:
        """Whether anything can be sent to it."""
        return self.state == "active" and self.problem is None


@dataclass(frozen=True, slots=True)
class EndpointDelivery:
    """An event at an endpoint. ``attempts`` are all recorded attempts, newest first."""

    event: TimelineEvent
    status: DeliveryStatus
    attempts: tuple[AttemptRow, ...]

    @property
    def last(self) -> AttemptRow | None:
        """The attempt that decides the status: the last acknowledged one, or else one that will be retried, or else the last."""
        return _acknowledged(self.attempts) or (deciding_attempt(self.attempts) if self.attempts else None)

    @property
    def due_at(self) -> datetime | None:
        """When the next attempt is or was due. None if there is no next attempt."""
        if self.status is DeliveryStatus.DELIVERED or self.status.is_over:
            return None
        return self.last.next_attempt_at if self.last else self.event.received_at


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """An event. ``received_at`` is None while it is not in ClickHouse. Then the endpoints that matched are not known either."""

    event_id: str
    event_name: str
    created_at: datetime
    received_at: datetime | None
    shipment_numbers: tuple[str, ...]
    key: str = ""
    """The key of its record in Kafka, if it is known."""


@dataclass(frozen=True, slots=True)
class EndpointTimeline:
    """The deliveries of an endpoint, in the order of the events."""

    endpoint: EndpointState
    deliveries: tuple[EndpointDelivery, ...]

    @property
    def missing(self) -> tuple[EndpointDelivery, ...]:
        """What it did not get."""
        return tuple(one for one in self.deliveries if one.status.is_missing)

    @property
    def waiting(self) -> tuple[EndpointDelivery, ...]:
        """What it did not get, and is still to be sent. The rest of what it did not get is only sent if somebody resends it."""
        return tuple(one for one in self.missing if not one.status.is_over)

    @property
    def resendable(self) -> int:
        """How many notifications a resend would send: those with a failed attempt, if the endpoint accepts deliveries."""
        return sum(bool(one.attempts) for one in self.missing) if self.endpoint.is_active else 0

    @property
    def status(self) -> DeliveryStatus:
        """The worst status of its deliveries."""
        return max((one.status for one in self.deliveries), key=_SEVERITY.index)


_SEVERITY: Final = (
    *(DeliveryStatus.DELIVERED, DeliveryStatus.ON_ITS_WAY, DeliveryStatus.BEHIND, DeliveryStatus.WILL_RETRY),
    *(
        DeliveryStatus.PAUSED,
        DeliveryStatus.DELETED,
        DeliveryStatus.LATE,
        DeliveryStatus.ON_HOLD,
        DeliveryStatus.UNVERIFIED,
        DeliveryStatus.DISABLED,
    ),
    *(DeliveryStatus.UNUSABLE, DeliveryStatus.DROPPED, DeliveryStatus.EXPIRED, DeliveryStatus.GAVE_UP),
)


@dataclass(frozen=True, slots=True)
class Timeline:
    """What each endpoint got. Endpoints that miss something come first. ``is_complete`` is False if older events are left out.

    ``unmatched`` are events that no endpoint was subscribed to when they came.
    """

    endpoints: tuple[EndpointTimeline, ...]
    events: tuple[TimelineEvent, ...]
    unmatched: tuple[TimelineEvent, ...]
    order_numbers: tuple[str, ...]
    shipment_numbers: tuple[str, ...]
    subscription_ids: tuple[str, ...]
    stock_item_ids: tuple[str, ...]
    skus: tuple[str, ...]
    is_complete: bool

    @property
    def missing(self) -> tuple[EndpointTimeline, ...]:
        """The endpoints that did not get everything."""
        return tuple(one for one in self.endpoints if one.missing)

    @property
    def resent_to(self) -> tuple[int, ...]:
        """The endpoints that a resend of all would involve."""
        return tuple(one.endpoint.id for one in self.endpoints if one.resendable)

    @property
    def has_several_to_resend(self) -> bool:
        """Whether a resend of all would involve more than one endpoint."""
        return len(self.resent_to) > 1

    @property
    def resendable(self) -> int:
        """How many notifications a resend of all would send."""
        return sum(one.resendable for one in self.endpoints)


def build_timeline(record: TimelineRecords, endpoints: Mapping[int, EndpointState], now: datetime) -> Timeline:
    """Combine events and attempts by endpoint, for each endpoint that matched or was sent something."""
    attempts: defaultdict[tuple[str, int], list[AttemptRow]] = defaultdict(list)
    for attempt in record.attempts:
        attempts[attempt.event_id, attempt.endpoint_id].append(attempt)
    known = {one.event_id: _event(one) for one in record.events}
    for attempt in record.attempts:
        known.setdefault(attempt.event_id, _event_of(attempt))
    matched = [(one.event_id, endpoint_id) for one in record.events for endpoint_id in one.endpoint_ids]
    deliveries: defaultdict[int, list[EndpointDelivery]] = defaultdict(list)
    for event_id, endpoint_id in dict.fromkeys([*matched, *attempts]):
        made = tuple(attempts.get((event_id, endpoint_id), ()))
        state = endpoints.get(endpoint_id) or _deleted(endpoint_id, made)
        status = _status(known[event_id], made, state, now)
        deliveries[endpoint_id].append(EndpointDelivery(known[event_id], status, made))
    parts = [_endpoint_timeline(one, endpoints.get(one), found) for one, found in deliveries.items()]
    matching = {one.event.event_id for found in deliveries.values() for one in found}
    events = sorted(known.values(), key=lambda one: (one.created_at, one.event_id))
    rows: list[EventRow | AttemptRow] = [*record.events, *record.attempts]
    return Timeline(
        tuple(sorted(parts, key=_place)),
        tuple(events),
        tuple(one for one in events if one.event_id not in matching),
        _each(row.order_number for row in rows),
        _each(number for row in rows for number in row.shipment_numbers),
        _each(row.subscription_id for row in rows),
        _each(str(row.stock_item_id) for row in rows if row.stock_item_id is not None),
        _each(sku for row in rows for sku in row.skus),
        record.is_complete,
    )


def _place(part: EndpointTimeline) -> tuple[bool, int, str, int]:
    """The sort key: endpoints that miss something first, and among them those that deliveries can be sent to."""
    kept_back = {"disabled": 1, "unverified": 1, "paused": 2, "deleted": 3}.get(part.endpoint.state, 0)
    return not part.missing, kept_back, part.endpoint.name.casefold(), part.endpoint.id


def _endpoint_timeline(endpoint_id: int, state: EndpointState | None, found: Sequence[EndpointDelivery]) -> EndpointTimeline:
    if state is not None and state.is_ordered:
        found = _behind(found)
    in_order = tuple(sorted(found, key=lambda one: (one.event.created_at, one.event.event_id)))
    return EndpointTimeline(state or _deleted(endpoint_id, [row for one in found for row in one.attempts]), in_order)


def _behind(deliveries: Sequence[EndpointDelivery]) -> Sequence[EndpointDelivery]:
    """The deliveries of an endpoint that gets its events in order. What comes after one that waits is not overdue."""
    waiting: set[str] = set()
    found = []
    for one in sorted(deliveries, key=lambda one: one.event.received_at or one.event.created_at):
        if one.status is DeliveryStatus.LATE and not one.attempts and one.event.key in waiting:
            found.append(replace(one, status=DeliveryStatus.BEHIND))
            continue
        if one.event.key and one.status.is_missing and not one.status.is_over:
            waiting.add(one.event.key)
        found.append(one)
    return found


def _deleted(endpoint_id: int, attempts: Sequence[AttemptRow]) -> EndpointState:
    """An endpoint that is no longer registered. Its name is not known, but its URL is, from its attempts."""
    # What was discarded after the deletion has no URL.
    target_url = next((one.target_url for one in attempts if one.target_url), "")
    return EndpointState(endpoint_id, endpoint_name("", target_url) or f"Endpoint {endpoint_id}", target_url, "deleted")


def _event(row: EventRow) -> TimelineEvent:
    key = record_key(row.event_key)
    return TimelineEvent(row.event_id, row.event_name, row.created_at, row.received_at, row.shipment_numbers, key)


def _event_of(attempt: AttemptRow) -> TimelineEvent:
    return TimelineEvent(attempt.event_id, attempt.event_name, attempt.event_created_at, None, attempt.shipment_numbers)


def _status(event: TimelineEvent, attempts: Sequence[AttemptRow], endpoint: EndpointState, now: datetime) -> DeliveryStatus:
    """A final outcome on record decides. If something is still to be sent, the endpoint's current state decides."""
    last = deciding_attempt(attempts) if attempts else None
    if _acknowledged(attempts) is not None:
        return DeliveryStatus.DELIVERED
    if last is not None and last.outcome != "repeated":
        return _ENDINGS.get(last.outcome, DeliveryStatus.GAVE_UP)
    if endpoint.problem is not None and endpoint.state == "active":
        return DeliveryStatus.UNUSABLE
    return _STATES.get(endpoint.state) or _of_active(event, last, now, is_down=endpoint.is_down)


def _of_active(event: TimelineEvent, last: AttemptRow | None, now: datetime, *, is_down: bool) -> DeliveryStatus:
    due_at = last.next_attempt_at if last is not None else event.received_at
    if due_at is not None and due_at > now:
        return DeliveryStatus.WILL_RETRY
    if is_down:
        return DeliveryStatus.ON_HOLD
    if due_at is not None and now - due_at > GRACE:
        return DeliveryStatus.LATE
    return DeliveryStatus.WILL_RETRY if last is not None else DeliveryStatus.ON_ITS_WAY


def _acknowledged(attempts: Sequence[AttemptRow]) -> AttemptRow | None:
    return next((one for one in attempts if one.state == "succeeded"), None)


def deciding_attempt(attempts: Sequence[AttemptT]) -> AttemptT:
    """The newest attempt, which is the first. But if only the other series (delivery or resend) will be retried, its newest one."""
    newest: dict[bool, AttemptT] = {}
    for one in attempts:
        newest.setdefault(one.trigger == "resend", one)
    return next((one for one in newest.values() if one.outcome == "repeated"), attempts[0])


def _each(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if value}))
