"""What is held in one partition of ``webhooks.held``: how much for whom, since when, and how far it was dealt with. Pure.

The topic is a log that nothing is taken out of. For each endpoint there is a mark: what stands below it has been dealt with, what
stands above it waits. So an endpoint is released without a look at what waits for others; and what was held at a moment has an end,
an offset, that no later delivery stands below. Bodies are not kept here: memory is a few numbers an endpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class OffsetBound(NamedTuple):
    """An offset, and the time of the last record below it, in milliseconds since 1970.

    The time tells whether a record belongs to the topic as it was: one that was made anew begins with offset 0 again.
    """

    offset: int
    time_ms: int

    def is_above(self, place: OffsetBound) -> bool:
        """Whether a record (its offset, its time) stands below this bound."""
        return place.offset < self.offset and place.time_ms <= self.time_ms


NOWHERE = OffsetBound(0, 0)


@dataclass(slots=True)
class HeldForEndpoint:
    """What waits for one endpoint: from ``first`` on (of which ``since_ms`` is the time), to below ``counted``."""

    count: int
    first: int
    since_ms: int
    counted: OffsetBound


class ReportedHeld(NamedTuple):
    """What was told of an endpoint before: how many waited below ``counted``, and up to where all had been dealt with."""

    held: int
    done: OffsetBound
    counted: OffsetBound


class HeldLedger:
    """The state of one partition during one assignment."""

    def __init__(self, told: Mapping[int, ReportedHeld]) -> None:
        self.position: int | None = None
        """The offset up to which all was counted; None when nothing was read."""
        self.latest_ms = 0
        """The youngest time that was seen here: the broker's clock has reached it."""
        self.waiting: dict[int, HeldForEndpoint] = {}
        self.changed: set[int] = set()
        """Endpoints of which something is to be told."""
        self._done = {endpoint_id: one.done for endpoint_id, one in told.items()}
        self._expected = {endpoint_id: (one.held, one.counted) for endpoint_id, one in told.items()}

    def done(self, endpoint_id: int) -> OffsetBound:
        """Up to where everything of the endpoint has been dealt with."""
        return self._done.get(endpoint_id, NOWHERE)

    def skip(self, place: OffsetBound) -> None:
        """Note a record that belongs to no endpoint."""
        self.position = place.offset + 1
        self.latest_ms = max(self.latest_ms, place.time_ms)

    def add(self, endpoint_id: int, place: OffsetBound) -> bool:
        """Take note of a record that was not counted yet. True: it is the head of what waits for its endpoint; see :meth:`wait`.

        Whoever gets True either deals with it at once, and calls :meth:`leave`, or lets it wait.
        """
        self.skip(place)
        if self.done(endpoint_id).is_above(place):
            return False
        expected, told = self._expected.get(endpoint_id, (0, NOWHERE))
        if expected and told.is_above(place):
            self._expected[endpoint_id] = expected - 1, told
        if endpoint_id in self.waiting:
            self.wait(endpoint_id, place)
            return False
        return True

    def wait(self, endpoint_id: int, place: OffsetBound) -> None:
        """A record that was met waits."""
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
        """The next one of what waits stands here, and goes on waiting."""
        waiting = self.waiting[endpoint_id]
        waiting.first, waiting.since_ms = place.offset, place.time_ms
        self.changed.add(endpoint_id)

    def take(self, endpoint_id: int, place: OffsetBound) -> None:
        """The next one of what waits is being dealt with. It is not done yet: see :meth:`leave`."""
        waiting = self.waiting[endpoint_id]
        waiting.count -= 1
        waiting.first, waiting.since_ms = place.offset + 1, place.time_ms
        if not waiting.count:
            del self.waiting[endpoint_id]

    def leave(self, endpoint_id: int, place: OffsetBound) -> None:
        """A record has been dealt with; so has everything of the endpoint that stands before it."""
        done = self.done(endpoint_id)
        self._done[endpoint_id] = OffsetBound(place.offset + 1, max(place.time_ms, done.time_ms))
        self.changed.add(endpoint_id)

    def missing(self) -> dict[int, int]:
        """How many deliveries were told of and are not there any more, by endpoint. Ask once, when all has been counted."""
        found = {endpoint_id: count for endpoint_id, (count, _) in self._expected.items() if count}
        self.changed |= self._expected.keys()
        self._expected = {}
        return found

    def give_up(self, endpoint_ids: Iterable[int]) -> dict[int, int]:
        """What was counted for endpoints and was not there when it was looked for, and is forgotten now."""
        found = {one: self.waiting.pop(one).count for one in endpoint_ids if one in self.waiting}
        self.changed |= found.keys()
        return found

    @property
    def floor(self) -> int | None:
        """Everything below has been dealt with, whoever it was for."""
        return min((one.first for one in self.waiting.values()), default=self.position)
