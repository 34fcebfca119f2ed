"""Tracks the ordered deliveries in one partition of ``webhooks.ordered``: the next one of each lane, and the ended ones. Pure.

A lane is one endpoint and one record key. Its deliveries are in the partition in the order in which they are made::

    lane 7/R1      10      14 15            done: all below 14, so 14 is the head
    lane 7/R2         12                    12 is the head
    lane 9/R1            13                 13 is the head
                   ^finished                the floor is 12: what is committed

Only offsets are kept here, no bodies. For an endpoint with very many waiting deliveries, not even all offsets are kept:
everything from its ``Overflow.first`` on is read again when there is room.

A fan-out that died or was suspended may write an event a second time. The first occurrence counts. Events of one source partition
are written in the order of their offsets, so an event that is not above the last one from there is a duplicate.
"""

from __future__ import annotations

import enum
import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from msgspec import structs

from pipeline.core.held_ledger import OffsetBound
from schemas.lane_progress import LaneProgress, TakenEvent

MAX_PLACES: Final = 20_000
"""How many offsets of one partition are kept. Beyond that, an endpoint that has a tenth of them keeps no further ones."""
MAX_IDLE: Final = 20_000
"""How many lanes of one partition are remembered while nothing waits in them."""
_MAX_ENDED: Final = 1_000
"""How many ended offsets above the floor are remembered, or as many as wait."""


class Placement(enum.Enum):
    """What happens to an added record."""

    HEAD = enum.auto()
    """It is the next one of its lane."""
    WAITING = enum.auto()
    """It waits behind another one."""
    LATER = enum.auto()
    """Its offset is not kept: it must be added again later."""
    ENDED = enum.auto()
    """It has ended before, or its event is a duplicate."""


class Source(NamedTuple):
    """Where an event came from: a partition of a source topic (``oms.orders/3``), its offset there, and when it was written."""

    partition: str
    offset: int
    time_ms: int


@dataclass(slots=True)
class Overflow:
    """The waiting deliveries of an endpoint whose offsets are not kept: ``count`` of them, from the offset ``first`` on."""

    first: int
    count: int = 0


@dataclass(slots=True)
class Lane:
    """The waiting deliveries of a lane, in order, and its progress. ``taken`` covers all added events, ``progress.taken`` only
    ended ones.
    """

    endpoint_id: int
    progress: LaneProgress
    waiting: deque[OffsetBound] = field(default_factory=deque)
    taken: dict[str, TakenEvent] = field(default_factory=dict)


class LaneLedger:
    """The state of one partition during one assignment."""

    def __init__(self, progress: Mapping[bytes, LaneProgress], *, most_places: int = MAX_PLACES) -> None:
        self.position: int | None = None
        """The offset up to which everything was added; None if nothing was read."""
        self.waiting: Counter[int] = Counter()
        """How many deliveries wait, by endpoint."""
        self.overflows: dict[int, Overflow] = {}
        self._most = most_places
        self._places: Counter[int] = Counter()
        self._count = 0
        self._known = dict(progress)
        """The progress of lanes without deliveries."""
        self._lanes: dict[bytes, Lane] = {}
        self._idle: OrderedDict[bytes, float] = OrderedDict.fromkeys(progress, 0.0)
        """Lanes without deliveries, longest idle first, and since when (seconds)."""
        self._taken: list[int] = []
        """A heap of the waiting offsets, and of those in ``_ended``."""
        self._ended: set[int] = set()

    def add(self, key: bytes, endpoint_id: int, place: OffsetBound, source: Source | None) -> Placement:
        """Add the next record of the partition."""
        self.position = place.offset + 1
        overflow = self.overflows.get(endpoint_id)
        if overflow is not None:
            overflow.count += 1
            self.waiting[endpoint_id] += 1
            return Placement.LATER
        if self._is_over(endpoint_id) and self._waits(key):
            self.overflows[endpoint_id] = Overflow(place.offset, 1)
            self.waiting[endpoint_id] += 1
            return Placement.LATER
        if not self._take(key, endpoint_id, place, source):
            return Placement.ENDED
        self.waiting[endpoint_id] += 1
        return Placement.HEAD if len(self._lanes[key].waiting) == 1 else Placement.WAITING

    def skip(self, offset: int) -> None:
        """Note a record that belongs to no lane."""
        self.position = offset + 1

    # --- overflows ---

    def has_room(self, endpoint_id: int) -> bool:
        """Whether more of an endpoint's overflow can be kept now."""
        return endpoint_id in self.overflows and self._places[endpoint_id] < max(1, self._most // 20)

    def add_again(self, key: bytes, endpoint_id: int, place: OffsetBound, source: Source | None) -> Placement:
        """Add a record of an overflow, in the order of offsets."""
        overflow = self.overflows.get(endpoint_id)
        if overflow is None or place.offset < overflow.first:
            return Placement.ENDED  # it is known already
        overflow.first = place.offset + 1
        overflow.count -= 1
        if not self._take(key, endpoint_id, place, source):
            self._waits_no_more(endpoint_id)
            return Placement.ENDED
        return Placement.HEAD if len(self._lanes[key].waiting) == 1 else Placement.WAITING

    def read_again(self, endpoint_id: int, offset: int) -> None:
        """Note that all of an endpoint's overflow below an offset was added again."""
        overflow = self.overflows.get(endpoint_id)
        if overflow is None:
            return
        overflow.first = max(overflow.first, offset)
        if self.position is not None and overflow.first >= self.position:
            # Counted, but gone: Kafka has removed it, and its consumer has reported that.
            self._waits_no_more(endpoint_id, overflow.count)
            del self.overflows[endpoint_id]

    # --- lanes ---

    @property
    def lanes(self) -> int:
        """In how many lanes something waits, as far as offsets are kept."""
        return len(self._lanes)

    def head(self, key: bytes) -> OffsetBound | None:
        """The offset of the next delivery in a lane; None if nothing waits."""
        lane = self._lanes.get(key)
        return lane.waiting[0] if lane is not None and lane.waiting else None

    def endpoint_id(self, key: bytes) -> int:
        """The endpoint of a lane in which something waits."""
        return self._lanes[key].endpoint_id

    def depth(self, key: bytes) -> int:
        """How many deliveries wait in a lane, as far as offsets are kept."""
        lane = self._lanes.get(key)
        return 0 if lane is None else len(lane.waiting)

    def attempt(self, key: bytes) -> LaneProgress | None:
        """The progress of the head of a lane; None if its first attempt is next."""
        lane = self._lanes[key]
        progress, head = lane.progress, lane.waiting[0]
        return progress if progress.head == head.offset and not _is_done(progress, head) else None

    def retry(self, key: bytes, attempt: int, due_ms: int, delay_ms: int) -> LaneProgress:
        """Note that the head of a lane failed, and when its next attempt is due. Returns the progress to write."""
        lane = self._lanes[key]
        lane.progress = structs.replace(
            lane.progress, head=lane.waiting[0].offset, attempt=attempt, due_ms=due_ms, delay_ms=delay_ms
        )
        return lane.progress

    def finish(self, key: bytes, source: Source | None, now: float) -> LaneProgress:
        """Note that the head of a lane has ended. Returns the progress to write before the next one starts; then :meth:`settle`."""
        lane = self._lanes[key]
        head = lane.waiting.popleft()
        taken = lane.progress.taken
        if source is not None:
            taken = {**taken, source.partition: _later(taken.get(source.partition), source)}
        lane.progress = LaneProgress(done=head.offset + 1, done_ms=max(head.time_ms, lane.progress.done_ms), taken=taken)
        self._count -= 1
        self._places[lane.endpoint_id] -= 1
        self._waits_no_more(lane.endpoint_id)
        if not lane.waiting:
            del self._lanes[key]
            self._known[key] = lane.progress
            self._idle[key] = now
            self._idle.move_to_end(key)
        return lane.progress

    def settle(self, progress: LaneProgress) -> None:
        """Note that the end of a delivery is written: the next processor need not read the delivery."""
        self._ended.add(progress.done - 1)
        if len(self._ended) > max(_MAX_ENDED, self._count):
            self._compact()

    def _compact(self) -> None:
        """Limit memory: one head may wait for days for a paused endpoint, while millions of others come and go behind it."""
        left = [offset for offset in self._taken if offset not in self._ended]
        self._ended.difference_update(self._taken)
        heapq.heapify(left)
        self._taken = left

    def forgettable(self, before: float, settled: int) -> list[bytes]:
        """Lanes to forget: idle since before ``before``, or in surplus; and with all their deliveries below ``settled``."""
        surplus = len(self._idle) - MAX_IDLE
        found: list[bytes] = []
        for number, (key, since) in enumerate(self._idle.items()):
            if since >= before and number >= surplus:
                break
            if self._known[key].done <= settled:
                found.append(key)
        return found

    def forget(self, key: bytes) -> bool:
        """Forget a lane. False: something waits in it again."""
        if key not in self._idle:
            return False
        del self._idle[key], self._known[key]
        return True

    def evict_idle(self, before: float) -> None:
        """If too many lanes are idle, drop from memory those that may not be forgotten because something below their deliveries
        waits.

        While it waits (for days, for a paused endpoint), every order would add lanes. Kafka has their progress: a later processor
        starts below them and reads it, and this one has already added all their deliveries. Only lanes that have been idle since
        before ``before`` are dropped.
        """
        position, surplus = self.position or 0, len(self._idle) - MAX_IDLE
        to_meet_again = tuple(f"{endpoint_id}/".encode() for endpoint_id in self.overflows)
        gone: list[bytes] = []
        for key, since in self._idle.items():
            if since >= before or len(gone) >= surplus:
                break
            if self._known[key].done <= position and not key.startswith(to_meet_again):
                gone.append(key)
        for key in gone:
            self.forget(key)

    @property
    def floor(self) -> int | None:
        """Everything below this offset has ended."""
        while self._taken and self._taken[0] in self._ended:
            self._ended.discard(heapq.heappop(self._taken))
        lowest = [one.first for one in self.overflows.values()]
        if self._taken:
            lowest.append(self._taken[0])
        return min(lowest, default=self.position)

    def _take(self, key: bytes, endpoint_id: int, place: OffsetBound, source: Source | None) -> bool:
        """Queue a record in its lane. False: it has ended already, or is a duplicate."""
        lane = self._lanes.get(key)
        progress = lane.progress if lane is not None else self._known.get(key, _NOTHING)
        if _is_done(progress, place):
            return False
        if source is not None:
            known = (lane.taken if lane is not None else progress.taken).get(source.partition)
            if known is not None and source.offset <= known.offset and source.time_ms <= known.time_ms:
                return False
        if lane is None:
            self._known.pop(key, None)
            self._idle.pop(key, None)
            lane = self._lanes[key] = Lane(endpoint_id, progress, taken=dict(progress.taken))
        if source is not None:
            lane.taken[source.partition] = _later(lane.taken.get(source.partition), source)
        lane.waiting.append(place)
        heapq.heappush(self._taken, place.offset)
        self._count += 1
        self._places[endpoint_id] += 1
        return True

    def _is_over(self, endpoint_id: int) -> bool:
        return self._count >= self._most and self._places[endpoint_id] >= self._most // 10

    def _waits(self, key: bytes) -> bool:
        return key in self._lanes

    def _waits_no_more(self, endpoint_id: int, count: int = 1) -> None:
        self.waiting[endpoint_id] -= count
        if not self.waiting[endpoint_id]:
            del self.waiting[endpoint_id]


_NOTHING: Final = LaneProgress()


def _is_done(progress: LaneProgress, place: OffsetBound) -> bool:
    return OffsetBound(progress.done, progress.done_ms).is_above(place)


def _later(known: TakenEvent | None, source: Source) -> TakenEvent:
    # The latest time: if producers stamp their records, times do not rise with offsets, and earlier events must still be
    # recognized. Events above the offset, or younger, are new. Younger ones at lower offsets belong to a recreated topic.
    if known is None or (source.offset <= known.offset and source.time_ms > known.time_ms):
        return TakenEvent(source.offset, source.time_ms)
    return TakenEvent(max(known.offset, source.offset), max(known.time_ms, source.time_ms))
