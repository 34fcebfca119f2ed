"""Tracks the held deliveries in one partition of ``webhooks.held``: how many for each endpoint, since when, and how far they were
processed. Pure.

The topic is a log from which nothing is removed. Each endpoint has a mark: everything below it was processed, everything above it
waits. So an endpoint is released without reading what waits for others, and all deliveries held at a given moment are below some
offset, and all later ones above it. Bodies are not kept here: an endpoint takes only a few numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class OffsetBound(NamedTuple):
    """An offset, and the time of the last record below it, in milliseconds since 1970.

    The time shows whether a record is in the same topic: a recreated topic starts again at offset 0.
    """

    offset: int
    time_ms: int

    def is_above(self, place: OffsetBound) -> bool:
        """Whether a record (its offset, its time) is below this bound."""
        return place.offset < self.offset and place.time_ms <= self.time_ms


NOWHERE = OffsetBound(0, 0)


@dataclass(slots=True)
class HeldForEndpoint:
    """The waiting deliveries of one endpoint: from ``first`` (whose time is ``since_ms``) to below ``counted``."""

    count: int
    first: int
    since_ms: int
    counted: OffsetBound


class ReportedHeld(NamedTuple):
    """What was reported about an endpoint: how many waited below ``counted``, and up to where everything was processed."""

    held: int
    done: OffsetBound
    counted: OffsetBound


class HeldLedger:
    """The state of one partition during one assignment."""

    def __init__(self, reported: Mapping[int, ReportedHeld]) -> None:
        self.position: int | None = None
        """The offset up to which everything was counted; None if nothing was read."""
        self.latest_ms = 0
        """The latest time seen here: the broker's clock has reached it."""
        self.waiting: dict[int, HeldForEndpoint] = {}
        self.changed: set[int] = set()
        """Endpoints whose counts must be reported."""
        self._done = {endpoint_id: one.done for endpoint_id, one in reported.items()}
        self._expected = {endpoint_id: (one.held, one.counted) for endpoint_id, one in reported.items()}

    def done(self, endpoint_id: int) -> OffsetBound:
        """Up to where everything of the endpoint was processed."""
        return self._done.get(endpoint_id, NOWHERE)

    @property
    def total(self) -> int:
        """:meth:`count` of all endpoints."""
        return sum(one.count for one in self.waiting.values()) + sum(expected for expected, _ in self._expected.values())

    def count(self, endpoint_id: int) -> int:
        """How many deliveries of the endpoint wait: those counted here, and those that an earlier processor reported but that have
        not been read yet.
        """
        waiting = self.waiting.get(endpoint_id)
        return (waiting.count if waiting is not None else 0) + self._expected.get(endpoint_id, (0, NOWHERE))[0]

    def counted(self, endpoint_id: int) -> OffsetBound:
        """The deliveries of :meth:`count` are below this."""
        waiting = self.waiting.get(endpoint_id)
        expected, reported = self._expected.get(endpoint_id, (0, NOWHERE))
        return max(waiting.counted if waiting is not None else self.done(endpoint_id), reported if expected else NOWHERE)

    def since_ms(self, endpoint_id: int) -> int | None:
        """The time of the first waiting delivery, or the earliest possible if it has not been read yet; None if nothing waits."""
        waiting = self.waiting.get(endpoint_id)
        if waiting is not None:
            return waiting.since_ms
        return self.done(endpoint_id).time_ms if self.count(endpoint_id) else None

    def skip(self, place: OffsetBound) -> None:
        """Note a record that belongs to no endpoint."""
        self.position = place.offset + 1
        self.latest_ms = max(self.latest_ms, place.time_ms)

    def add(self, endpoint_id: int, place: OffsetBound) -> bool:
        """Note a record that was not counted yet.

        Returns True if it is the first that waits for its endpoint. In that case, the caller either processes it and calls
        :meth:`leave`, or calls :meth:`wait`.
        """
        self.skip(place)
        if self.done(endpoint_id).is_above(place):
            return False
        expected, reported = self._expected.get(endpoint_id, (0, NOWHERE))
        if expected and reported.is_above(place):
            self._expected[endpoint_id] = expected - 1, reported
        if endpoint_id in self.waiting:
            self.wait(endpoint_id, place)
            return False
        return True

    def wait(self, endpoint_id: int, place: OffsetBound) -> None:
        """Note that an added record waits."""
        counted = OffsetBound(place.offset + 1, place.time_ms)
        waiting = self.waiting.get(endpoint_id)
        if waiting is None:
            self.waiting[endpoint_id] = HeldForEndpoint(1, place.offset, place.time_ms, counted)
        else:
            waiting.count += 1
            waiting.counted = OffsetBound(counted.offset, max(counted.time_ms, waiting.counted.time_ms))
        self.changed.add(endpoint_id)

    def is_next(self, endpoint_id: int, place: OffsetBound) -> bool:
        """Whether a record that was counted earlier still waits."""
        waiting = self.waiting.get(endpoint_id)
        return waiting is not None and waiting.first <= place.offset and not self.done(endpoint_id).is_above(place)

    def stay(self, endpoint_id: int, place: OffsetBound) -> None:
        """Note that this is the next waiting record, and that it keeps waiting."""
        waiting = self.waiting[endpoint_id]
        waiting.first, waiting.since_ms = place.offset, place.time_ms
        self.changed.add(endpoint_id)

    def take(self, endpoint_id: int, place: OffsetBound) -> None:
        """Note that the next waiting record is being processed. :meth:`leave` notes that it is done."""
        waiting = self.waiting[endpoint_id]
        waiting.count -= 1
        waiting.first, waiting.since_ms = place.offset + 1, place.time_ms
        if not waiting.count:
            del self.waiting[endpoint_id]

    def leave(self, endpoint_id: int, place: OffsetBound) -> None:
        """Note that a record was processed, and everything of the endpoint before it."""
        done = self.done(endpoint_id)
        self._done[endpoint_id] = OffsetBound(place.offset + 1, max(place.time_ms, done.time_ms))
        self.changed.add(endpoint_id)

    def missing(self) -> dict[int, int]:
        """How many reported deliveries no longer exist, by endpoint. Call this once, when everything has been counted."""
        found = {endpoint_id: count for endpoint_id, (count, _) in self._expected.items() if count}
        self.changed |= self._expected.keys()
        self._expected = {}
        return found

    def give_up(self, endpoint_ids: Iterable[int]) -> dict[int, int]:
        """Forget deliveries that were counted for these endpoints but could not be found. Returns how many, by endpoint."""
        found = {one: self.waiting.pop(one).count for one in endpoint_ids if one in self.waiting}
        self.changed |= found.keys()
        return found

    @property
    def floor(self) -> int | None:
        """Everything below this offset was processed, for all endpoints."""
        return min((one.first for one in self.waiting.values()), default=self.position)
