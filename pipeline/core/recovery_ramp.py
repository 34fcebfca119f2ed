"""How fast an endpoint that is back may be sent what has gathered meanwhile: a ramp, not a flood. Pure.

The rate begins low and doubles every ``double_seconds`` as long as there is something to send, up to four times the rate at which the
endpoint answered last: what it has not shown it is not given. While nothing waits, the rate stays. A failure halves it.

What finds no place gets a time to come back at: those before it are counted, and the rate that is expected by then. So what has gathered
is put off a few times, not every few seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

LONGEST_SECONDS: Final = 75 * 60.0
"""How long a ramp lasts at most: deliveries to an endpoint that is down are put off for up to an hour, and come back in that time."""
_BEYOND_PROOF: Final = 4.0
_BUSY_SECONDS: Final = 1.0
"""Deliveries that come in shorter intervals keep the endpoint busy."""


@dataclass(frozen=True, slots=True)
class RampLimits:
    """Requests a second at first; the seconds in which that doubles; where the ramp of an endpoint without a limit of its own ends."""

    start_per_second: float = 10.0
    double_seconds: float = 10.0
    end_per_second: float = 1000.0


class RecoveryRamp:
    """One endpoint's. Times are seconds of a clock that never goes back; rates are those of all processes together."""

    __slots__ = ("_began", "_growth", "_limits", "_proven", "_seen_at", "_waiting", "per_second")

    def __init__(self, limits: RampLimits, now: float) -> None:
        self._limits = limits
        self._growth = math.log(2) / limits.double_seconds
        self._began = self._seen_at = now
        self._waiting = 0.0
        """About how many of those that found no place are still to come."""
        self.per_second = self._proven = limits.start_per_second

    def is_over(self, normal: float | None, now: float) -> bool:
        """Whether the endpoint gets its ``normal`` rate again (None: it has no limit): it has answered at that rate."""
        end = self._limits.end_per_second if normal is None else normal
        return self._proven >= end or now - self._began >= LONGEST_SECONDS

    def arrive(self, share: float, now: float) -> float:
        """A delivery has come: how many a second this process may make now. ``share``: the part of the rate that it has."""
        passed = now - self._seen_at
        if self._waiting or passed <= _BUSY_SECONDS:
            grown = self.per_second * math.exp(min(self._growth * passed, 60.0))
            self.per_second = max(self.per_second, min(grown, self._proven * _BEYOND_PROOF))
        rate = self.per_second * share
        self._waiting = max(0.0, self._waiting - rate * passed)
        self._seen_at = now
        return rate

    def answered(self) -> None:
        """The endpoint answered a request."""
        self._proven = self.per_second

    def failed(self) -> None:
        """The endpoint failed again."""
        self.per_second = self._proven = max(self._limits.start_per_second, self.per_second / 2)

    def put_off(self, share: float) -> float:
        """There is no place for the delivery that has just come: in how many seconds there will be one."""
        self._waiting += 1
        return math.log1p(self._growth * self._waiting / (self.per_second * share)) / self._growth
