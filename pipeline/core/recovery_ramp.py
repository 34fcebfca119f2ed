"""Limits how fast an endpoint that is back receives the deliveries that have accumulated: a ramp, not a flood. Pure.

The rate starts low and doubles every ``double_seconds`` while there is something to send, up to four times the rate at which the
endpoint last answered. While nothing waits, the rate stays the same. A failure halves it.

A delivery that does not fit is put off until a time computed from the number of deliveries before it and the expected rate. So
accumulated deliveries are put off a few times, not every few seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

LONGEST_SECONDS: Final = 75 * 60.0
"""The longest duration of a ramp: deliveries to an endpoint that is down are put off for up to an hour, and return within that
time.
"""
_BEYOND_PROOF: Final = 4.0
_BUSY_SECONDS: Final = 1.0
"""Deliveries at shorter intervals keep the endpoint busy."""


@dataclass(frozen=True, slots=True)
class RampLimits:
    """The first rate (requests a second); the seconds in which it doubles; where the ramp ends for an endpoint without a limit."""

    start_per_second: float = 10.0
    double_seconds: float = 10.0
    end_per_second: float = 1000.0


class RecoveryRamp:
    """The ramp of one endpoint. Times are seconds of a monotonic clock; rates are those of all processes together."""

    __slots__ = ("_began", "_growth", "_limits", "_proven", "_seen_at", "_waiting", "per_second")

    def __init__(self, limits: RampLimits, now: float) -> None:
        self._limits = limits
        self._growth = math.log(2) / limits.double_seconds
        self._began = self._seen_at = now
        self._waiting = 0.0
        """About how many of the put-off deliveries are still to come."""
        self.per_second = self._proven = limits.start_per_second

    def is_over(self, normal: float | None, now: float) -> bool:
        """Whether the endpoint gets its ``normal`` rate again (None: it has no limit), because it has answered at that rate."""
        end = self._limits.end_per_second if normal is None else normal
        return self._proven >= end or now - self._began >= LONGEST_SECONDS

    def arrive(self, share: float, now: float) -> float:
        """Note a delivery. Returns how many a second this process may make now; ``share`` is its share of the rate."""
        passed = now - self._seen_at
        if self._waiting or passed <= _BUSY_SECONDS:
            grown = self.per_second * math.exp(min(self._growth * passed, 60.0))
            self.per_second = max(self.per_second, min(grown, self._proven * _BEYOND_PROOF))
        rate = self.per_second * share
        self._waiting = max(0.0, self._waiting - rate * passed)
        self._seen_at = now
        return rate

    def answered(self) -> None:
        self._proven = self.per_second

    def failed(self) -> None:
        self.per_second = self._proven = max(self._limits.start_per_second, self.per_second / 2)

    def postpone(self, share: float) -> float:
        """Put off the last delivery. Returns in how many seconds it should come back."""
        self._waiting += 1
        return math.log1p(self._growth * self._waiting / (self.per_second * share)) / self._growth
