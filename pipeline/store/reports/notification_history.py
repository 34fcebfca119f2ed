"""Notifications (an event for an endpoint) to send again: failed ones, those of given attempts, and those of past events.

An event may have two rows, because a fan-out that crashed dispatched it again. A replay treats them as one event, received at the
earlier time. For every page the whole range is examined, so that the second row never becomes a second event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from msgspec import structs

from pipeline.core.search import AttemptQuery, Combinator, Condition, Predicate
from pipeline.store.bound_values import BoundValues
from pipeline.store.connection import Connections
from pipeline.store.reader import QueryBudget, Reader, columns, sql
from pipeline.store.rows import NOT_MADE, UNKNOWN_TIME
from pipeline.store.search.bodies import SentEvent, sent_events
from pipeline.store.search.conditions import milliseconds
from pipeline.store.search.find import Finder
from schemas.delivery import Trigger
from schemas.event import EventMeta

_FAILED: Final = Condition("state", Predicate.EQ, ("failed",))
_REFERENCES: Final = ("order_number", "shipment_numbers", "subscription_id", "stock_item_id", "skus")
_OF_ATTEMPTS: Final = columns(("id", "endpoint_id", "trigger", "event_received_at", "event_id", "event_name", "event_created_at"))
_OF_EVENTS: Final = "any(event_name), any(created_at)"


@dataclass(frozen=True, slots=True)
class PastNotification:
    """A notification, with everything that is needed to send it again.

    ``body`` is None if the event is not in ClickHouse (yet, or any more), or was erased. ``attempt_id`` is the attempt by which
    it was found; None in a replay. ``is_delivered``: the endpoint has acknowledged the event in some attempt.
    """

    event: EventMeta
    endpoint_id: int
    body: bytes | None
    attempt_id: int | None = None
    is_test: bool = False
    is_delivered: bool = False


@dataclass(frozen=True, slots=True)
class FailedNotification:
    """A failed notification, with the last failed attempt that the search finds."""

    event_id: str
    endpoint_id: int
    attempt_id: int
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class FailedNotifications:
    """The failed notifications of a search, oldest first, and the number of failed attempts. ``is_all``: none are left out.

    ``not_made``: how many of the notifications were dropped in the end, or waited too long.
    """

    notifications: tuple[FailedNotification, ...]
    attempts: int
    is_all: bool
    not_made: int = 0

    @property
    def by_endpoint(self) -> dict[int, int]:
        """The number of notifications for each endpoint, the most first."""
        return dict(Counter(one.endpoint_id for one in self.notifications).most_common())


class ReplayPosition(NamedTuple):
    """The position of an event in a replay: when it was first received (milliseconds since 1970), and its id."""

    received_ms: int
    event_id: str

    @classmethod
    def of(cls, notification: PastNotification) -> ReplayPosition:
        """The position of a notification's event."""
        received = notification.event.received_at
        return cls(0 if received is None else milliseconds(received), notification.event.id)


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Which events, to which endpoints, received from ``since`` (inclusive) to ``until`` (exclusive).

    Without ``event_names``, events of every type are replayed, including types that have been removed since. Without
    ``order_numbers``, those of every order are.

    ``matched_only``: an endpoint gets the events that it matched when they were received; otherwise it gets all of them.
    """

    since: datetime
    until: datetime
    endpoint_ids: tuple[int, ...]
    event_names: tuple[str, ...] = ()
    order_numbers: tuple[str, ...] = ()
    matched_only: bool = True


class NotificationHistory:
    """Every method raises StoreUnavailableError, and StoreBudgetError if it exceeds its budget."""

    def __init__(self, connections: Connections) -> None:
        self._reader = Reader(connections, QueryBudget())
        self._replays = Reader(connections, QueryBudget(seconds=20.0))

    async def failed(self, query: AttemptQuery, most: int) -> FailedNotifications:
        """The notifications with failed attempts that a search finds: each once, at most ``most``.

        Excludes notifications that the endpoint has acknowledged in another attempt, and tests.
        """
        reader, parameters = self._reader.with_full_budget(), BoundValues()
        only_failed = AttemptQuery((*query.required, _FAILED), combinator=Combinator.AND)
        scope = await Finder(reader).scope(only_failed, parameters)
        if scope is None:
            return FailedNotifications((), 0, is_all=True)
        last = f"argMax(id, (created_at, id)), max(created_at) AS failed_at, count(), argMax({NOT_MADE}, (created_at, id))"
        grouped = f"GROUP BY event_id, endpoint_id ORDER BY failed_at, event_id, endpoint_id LIMIT {most + 1:d}"
        found = f"{scope[1]} AND trigger != 'test'"
        acknowledged = (
            "SELECT event_id, endpoint_id FROM attempts WHERE state = 'succeeded' AND event_id IN (SELECT event_id FROM attempts WHERE",
            found,
            ")",
        )
        left = ("AND (event_id, endpoint_id) NOT IN (", *acknowledged, ")")
        statement = sql("SELECT event_id, endpoint_id,", last, "FROM attempts WHERE", found, *left, grouped)
        rows = await reader.rows(statement, parameters.values)
        kept = rows[:most]
        return FailedNotifications(
            tuple(FailedNotification(*row[:4]) for row in kept),
            sum(int(row[4]) for row in kept),
            is_all=len(rows) == len(kept),
            not_made=sum(bool(row[5]) for row in kept),
        )

    async def of_attempts(
        self, ids: Sequence[int], made: Sequence[datetime] = (), most_bytes: int | None = None
    ) -> dict[int, PastNotification | None]:
        """The notifications of attempts, by attempt id. None: the body is larger than ``most_bytes``. Attempts whose retention is over are
        left out.

        ``made``: when the attempts were made, if that is known. Less is read then.
        """
        if not ids:
            return {}
        reader, parameters = self._reader.with_full_budget(), BoundValues()
        conditions = [f"id IN {parameters.add(list(ids), 'Array(Int64)')}"]
        if made:
            first, last = (parameters.time(milliseconds(one)) for one in (min(made), max(made)))
            conditions.append(f"created_at >= {first} AND created_at <= {last}")
        where = " AND ".join(conditions)
        select = sql("SELECT", _OF_ATTEMPTS, ",", columns(_REFERENCES), "FROM attempts WHERE", where)
        rows = await reader.rows(select, parameters.values)
        events = sorted({(row[4], row[3]) for row in rows})
        sent = await sent_events(reader, events, most_bytes)
        found = {one: event for one in events if (event := sent.get(*one)) is not None}
        if missing := [one for one in events if one not in found]:
            elsewhere = await sent_events(reader, [(event_id, UNKNOWN_TIME) for event_id, _ in missing], most_bytes)
            found |= {one: event for one in missing if (event := elsewhere.get(*one)) is not None}
        delivered = await _delivered(reader, [(row[4], row[6]) for row in rows])
        return {
            identifier: _past_notification(
                _event(received, *of_event),
                endpoint_id,
                event,
                attempt_id=identifier,
                is_test=trigger == Trigger.TEST,
                is_delivered=(of_event[0], endpoint_id) in delivered,
            )
            if (event := found.get((of_event[0], received))) is None or event.body
            else None
            for identifier, endpoint_id, trigger, received, *of_event in rows
        }

    async def count(self, wanted: ReplayRequest) -> tuple[int, int]:
        """The number of events in a replay, and the number of their notifications."""
        parameters = BoundValues()
        asked = parameters.add(list(wanted.endpoint_ids), "Array(Int64)")
        each = f"length(arrayIntersect(endpoints, {asked}))" if wanted.matched_only else f"length({asked})"
        grouped = sql(
            "SELECT event_id, groupUniqArrayArray(endpoint_ids) AS endpoints FROM events WHERE",
            _where(wanted, parameters),
            "GROUP BY event_id",
        )
        statement = sql("SELECT count(), sum(", each, ") FROM (", grouped, ")")
        [(events, notifications)] = await self._replays.with_full_budget().rows(statement, parameters.values)
        return int(events), int(notifications)

    async def page(self, wanted: ReplayRequest, after: ReplayPosition | None, limit: int) -> list[PastNotification]:
        """The notifications of the next events after a position, event by event; of fewer than ``limit`` events at the end."""
        parameters = BoundValues()
        behind = ""
        if after is not None:
            place = f"({parameters.add(after.received_ms, 'Int64')}, {parameters.add(after.event_id, 'String')})"
            behind = f"HAVING (toUnixTimestamp64Milli(first), event_id) > {place}"
        statement = sql(
            "SELECT arraySort(groupUniqArrayArray(endpoint_ids)), min(received_at) AS first, event_id,",
            _OF_EVENTS,
            ",",
            columns([f"any({name})" for name in _REFERENCES]),
            "FROM events WHERE",
            _where(wanted, parameters),
            "GROUP BY event_id",
            behind,
            f"ORDER BY first, event_id LIMIT {limit:d}",
        )
        rows = await self._replays.with_full_budget().rows(statement, parameters.values)
        found = await sent_events(self._replays.with_full_budget(), [(row[2], row[1]) for row in rows])
        return [
            _past_notification(_event(first, *of_event), endpoint_id, found.get(of_event[0], first))
            for matched, first, *of_event in rows
            for endpoint_id in wanted.endpoint_ids
            if endpoint_id in matched or not wanted.matched_only
        ]


async def _delivered(reader: Reader, events: Sequence[tuple[str, datetime]]) -> set[tuple[str, int]]:
    """The given events (with the time when they happened) that were acknowledged, each with the endpoint."""
    if not events:
        return set()
    parameters = BoundValues()
    ids = parameters.add(sorted({event_id for event_id, _ in events}), "Array(String)")
    # Nothing is delivered before it happens, but a producer's clock may be wrong by a day.
    since = parameters.time(min(milliseconds(created_at) for _, created_at in events) - 86_400_000)
    condition = f"created_at >= {since} AND state = 'succeeded' AND event_id IN {ids}"
    rows = await reader.rows(sql("SELECT DISTINCT event_id, endpoint_id FROM attempts WHERE", condition), parameters.values)
    return {(event_id, endpoint_id) for event_id, endpoint_id in rows}


def _where(wanted: ReplayRequest, parameters: BoundValues) -> str:
    since, until = parameters.time(milliseconds(wanted.since)), parameters.time(milliseconds(wanted.until))
    # Test deliveries and operational events are not events of the OMS. Only names of operational events have a dot.
    tests = [f"received_at >= {since} AND received_at < {until} AND source_topic != 'test' AND position(event_name, '.') = 0"]
    if wanted.event_names:
        tests.append(f"event_name IN {parameters.add(list(wanted.event_names), 'Array(String)')}")
    if wanted.order_numbers:
        tests.append(f"order_number IN {parameters.add(list(wanted.order_numbers), 'Array(String)')}")
    if wanted.matched_only:
        tests.append(f"hasAny(endpoint_ids, {parameters.add(list(wanted.endpoint_ids), 'Array(Int64)')})")
    return " AND ".join(tests)


def _past_notification(event: EventMeta, endpoint_id: int, sent: SentEvent | None, **known: Any) -> PastNotification:
    if sent is None:
        return PastNotification(event, endpoint_id, None, **known)
    if sent.key:
        event = structs.replace(event, key=sent.key, sequence=sent.sequence)
    return PastNotification(event, endpoint_id, sent.body, **known)


def _event(received_at: datetime, *of_event: Any) -> EventMeta:
    event_id, name, created_at, order, shipments, subscription, stock_item, skus = of_event
    return EventMeta(
        id=event_id,
        event_name=name,
        created_at=created_at,
        order_number=order or None,
        shipment_numbers=tuple(shipments),
        subscription_id=subscription or None,
        stock_item_id=stock_item,
        skus=tuple(skus),
        received_at=None if received_at == UNKNOWN_TIME else received_at,
    )
