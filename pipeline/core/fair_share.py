"""Decides how many requests each endpoint may have in flight, so that slow endpoints leave room for the others. Pure.

An endpoint is **slow** while a request to it has been in flight for longer than ``slow_seconds`` (noticed at the next delivery),
or if the last one that ended took longer. All slow endpoints together may have ``slow_budget`` requests in flight, in equal
shares. An endpoint that answers sooner is **quick**, and has the full ``width``. An unknown endpoint starts with ``START`` until
its first answer.

Why not additive increase, multiplicative decrease as in TCP? The scarce resource is the sum over all endpoints. Twenty endpoints
that never answer would each have to be reduced by timeouts of 15 s, and a slow but healthy endpoint would be reduced as much,
although there is room for it. A share of a budget needs no timeout (age alone shows that an endpoint is slow), limits the sum
immediately, and gives a single slow endpoint everything that it can use.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

START: Final = 8
"""Requests in flight to an endpoint that has not answered yet."""


class EndpointSpeed(enum.Enum):
    UNKNOWN = enum.auto()
    QUICK = enum.auto()
    SLOW = enum.auto()


@dataclass(frozen=True, slots=True)
class ShareLimits:
    """``width``: maximum requests in flight to one endpoint. ``slow_budget``: to all slow endpoints together."""

    width: int
    slow_seconds: float
    slow_budget: int


class _Usage:
    __slots__ = ("inside", "running", "speed")

    def __init__(self) -> None:
        self.inside = 0
        self.running: dict[int, float] = {}
        """When each request in flight was started, oldest first."""
        self.speed = EndpointSpeed.UNKNOWN


class FairShare:
    """The requests of one process, by endpoint. ``now`` is seconds of a monotonic clock."""

    def __init__(self, bounds: ShareLimits) -> None:
        self._bounds = bounds
        self._usages: dict[int, _Usage] = {}
        self._slow_inside = 0
        self._slow_endpoints = 0
        self._tokens = 0

    @property
    def slow_endpoints(self) -> int:
        """The number of slow endpoints with requests in flight."""
        return self._slow_endpoints

    def enter(self, endpoint_id: int, now: float) -> int | None:
        """Take a slot. Returns its token, or None if the endpoint already has its maximum."""
        usage = self._usages.get(endpoint_id)
        if usage is None:
            usage = self._usages[endpoint_id] = _Usage()
        self._update_speed(usage, now)
        if usage.inside >= self._width(usage) or (
            usage.speed is EndpointSpeed.SLOW and self._slow_inside >= self._bounds.slow_budget
        ):
            self._forget(endpoint_id, usage)
            return None
        if usage.speed is EndpointSpeed.SLOW:
            self._change(usage, inside=usage.inside + 1)
        else:
            usage.inside += 1
        self._tokens += 1
        return self._tokens

    def start(self, endpoint_id: int, token: int, now: float) -> None:
        """The request of a slot starts. (What it waited for before was not the endpoint.) It may start again: the time since counts."""
        running = self._usages[endpoint_id].running
        running.pop(token, None)  # it becomes the last
        running[token] = now

    def leave(self, endpoint_id: int, token: int, now: float) -> None:
        """Release a slot; the duration of the request shows how fast the endpoint is."""
        usage = self._usages[endpoint_id]
        started = usage.running.pop(token, None)
        speed = usage.speed
        if started is not None:
            speed = EndpointSpeed.SLOW if now - started > self._bounds.slow_seconds else EndpointSpeed.QUICK
        if usage.speed is EndpointSpeed.SLOW or speed is EndpointSpeed.SLOW:
            self._change(usage, inside=usage.inside - 1, speed=speed)
        else:
            usage.inside -= 1
            usage.speed = speed
        self._forget(endpoint_id, usage)

    def forget(self, endpoint_id: int) -> None:
        """Forget that an endpoint was slow, because nothing is sent to it any more."""
        usage = self._usages.get(endpoint_id)
        if usage is not None and not usage.inside:
            del self._usages[endpoint_id]

    def width(self, endpoint_id: int, now: float) -> int:
        """How many requests the endpoint may have in flight now."""
        usage = self._usages.get(endpoint_id)
        if usage is None:
            return min(START, self._bounds.width)
        self._update_speed(usage, now)
        return self._width(usage)

    def is_slow(self, endpoint_id: int, now: float) -> bool:
        usage = self._usages.get(endpoint_id)
        if usage is None:
            return False
        self._update_speed(usage, now)
        return usage.speed is EndpointSpeed.SLOW

    def _width(self, usage: _Usage) -> int:
        match usage.speed:
            case EndpointSpeed.QUICK:
                return self._bounds.width
            case EndpointSpeed.UNKNOWN:
                return min(START, self._bounds.width)
            case EndpointSpeed.SLOW:
                sharing = self._slow_endpoints + (not usage.inside)
                return max(1, min(self._bounds.width, self._bounds.slow_budget // sharing))

    def _update_speed(self, usage: _Usage, now: float) -> None:
        """Detect that an endpoint is slow before it has answered."""
        if usage.speed is not EndpointSpeed.SLOW and usage.running:
            oldest = next(iter(usage.running.values()))
            if now - oldest > self._bounds.slow_seconds:
                self._change(usage, speed=EndpointSpeed.SLOW)

    def _change(self, usage: _Usage, *, inside: int | None = None, speed: EndpointSpeed | None = None) -> None:
        self._count(usage, -1)
        usage.inside = usage.inside if inside is None else inside
        usage.speed = usage.speed if speed is None else speed
        self._count(usage, +1)

    def _count(self, usage: _Usage, sign: int) -> None:
        if usage.speed is EndpointSpeed.SLOW and usage.inside:
            self._slow_endpoints += sign
            self._slow_inside += sign * usage.inside

    def _forget(self, endpoint_id: int, usage: _Usage) -> None:
        # Remember slow endpoints: otherwise they would start with a burst again.
        if not usage.inside and usage.speed is not EndpointSpeed.SLOW:
            del self._usages[endpoint_id]
