"""Notifications (an event at an endpoint) whose attempts failed: which there are, and all that sending them again takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.core.search import AttemptQuery, Combinator, Condition, Predicate
from pipeline.store.attempts import ATTEMPT_COLUMNS, AttemptRow, attempt_of
from pipeline.store.bodies import bodies
from pipeline.store.conditions import milliseconds
from pipeline.store.find import Finder
from pipeline.store.parameters import Parameters
from pipeline.store.reader import Reader, columns, sql
from pipeline.store.rows import UNKNOWN_TIME

_FAILED: Final = Condition("state", Predicate.EQ, ("failed",))


@dataclass(frozen=True, slots=True)
class Notification:
    """An event at an endpoint, by the last of its attempts that failed and that the search finds."""

    event_id: str
    endpoint_id: int
    attempt_id: int
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class Failed:
    """The notifications of a search, the oldest first, and how many failed attempts they had. ``is_all``: there are no more."""

    notifications: tuple[Notification, ...]
    attempts: int
    is_all: bool

    @property
    def by_endpoint(self) -> dict[int, int]:
        """How many there are for each endpoint, the most first."""
        return dict(Counter(one.endpoint_id for one in self.notifications).most_common())


@dataclass(frozen=True, slots=True)
class Sendable:
    """What sending a notification again takes. ``body`` is None while the event is not in ClickHouse (yet, or any more)."""

    attempt: AttemptRow
    received_at: datetime | None
    body: bytes | None
    is_delivered: bool
    """The endpoint has acknowledged the event, in an attempt before or after the one that failed."""


async def failed(reader: Reader, query: AttemptQuery, most: int) -> Failed:
    """The notifications with failed attempts among those that a search finds: each once, ``most`` at most.

    Without those that the endpoint has acknowledged in another attempt, and without tests.
    """
    parameters = Parameters()
    only_failed = AttemptQuery((*query.required, _FAILED), combinator=Combinator.AND)
    scope = await Finder(reader).scope(only_failed, parameters)
    if scope is None:
        return Failed((), 0, is_all=True)
    last = "argMax(id, (created_at, id)), max(created_at) AS failed_at, count()"
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
    return Failed(tuple(Notification(*row[:4]) for row in kept), sum(int(row[4]) for row in kept), is_all=len(rows) == len(kept))


async def sendable(reader: Reader, batch: Sequence[Notification]) -> dict[int, Sendable]:
    """The attempts of a batch, by id, with their events' bodies. An attempt whose retention is over is not among them."""
    if not batch:
        return {}
    parameters = Parameters()
    times = [milliseconds(one.failed_at) for one in batch]
    within = f"created_at >= {parameters.time(min(times))} AND created_at <= {parameters.time(max(times))}"
    wanted = f"id IN {parameters.add([one.attempt_id for one in batch], 'Array(Int64)')}"
    select = sql("SELECT", columns((*ATTEMPT_COLUMNS, "event_received_at")), "FROM attempts WHERE", within, "AND", wanted)
    rows = await reader.rows(select, parameters.values)
    attempts = {row[0]: (attempt_of(row[:-1]), row[-1]) for row in rows}
    found = await bodies(reader, [(attempt.event_id, received) for attempt, received in attempts.values()])
    delivered = await _delivered(reader, [attempt for attempt, _ in attempts.values()])
    return {
        identifier: Sendable(
            attempt,
            None if received == UNKNOWN_TIME else received,
            found.get(attempt.event_id),
            (attempt.event_id, attempt.endpoint_id) in delivered,
        )
        for identifier, (attempt, received) in attempts.items()
    }


async def _delivered(reader: Reader, attempts: Sequence[AttemptRow]) -> set[tuple[str, int]]:
    """Event and endpoint of those that were acknowledged."""
    if not attempts:
        return set()
    parameters = Parameters()
    events = parameters.add(sorted({attempt.event_id for attempt in attempts}), "Array(String)")
    # Nothing is delivered before it happened; a producer's clock may be wrong by a day.
    since = parameters.time(min(milliseconds(attempt.event_created_at) for attempt in attempts) - 86_400_000)
    condition = f"created_at >= {since} AND state = 'succeeded' AND event_id IN {events}"
    rows = await reader.rows(sql("SELECT DISTINCT event_id, endpoint_id FROM attempts WHERE", condition), parameters.values)
    return {(event_id, endpoint_id) for event_id, endpoint_id in rows}
