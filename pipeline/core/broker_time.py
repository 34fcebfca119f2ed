"""Estimates the broker's clock from its record timestamps (Cristian's algorithm, with an interval as in Marzullo's). Pure.

We note when a record is sent and when it is acknowledged, by a monotonic local clock. The broker stamps the record in between.
So the difference between the two clocks lies in an interval as long as the round trip, and each further record narrows it. The
estimate is the interval's lower end: whatever is due at a given time starts a little late, never early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_DRIFT: Final = 200e-6
"""How far two clocks may drift apart, in seconds per second: crystals stay well below."""
_RESOLUTION: Final = 0.001
"""The broker writes whole milliseconds."""


@dataclass(slots=True)
class _Interval:
    """The broker's time minus ours, as known at the local time ``at``."""

    low: float
    high: float
    at: float

    def widened(self, now: float) -> _Interval:
        drift = max(0.0, now - self.at) * _DRIFT
        return _Interval(self.low - drift, self.high + drift, now)

    def narrowed(self, other: _Interval) -> _Interval | None:
        low, high = max(self.low, other.low), min(self.high, other.high)
        return _Interval(low, high, other.at) if low <= high else None


class BrokerTime:
    """The broker's time. All times are seconds; ``steady`` times are of a local monotonic clock."""

    def __init__(self) -> None:
        self._known: _Interval | None = None
        self._other: _Interval | None = None

    def sample(self, sent: float, acknowledged: float, broker: float) -> None:
        """Note that a record was sent and acknowledged at these steady times, and that the broker stamped it with ``broker``.

        A sample that contradicts the estimate has no effect until a second one confirms it. In that case, the broker's clock was
        set, or our steady clock stopped (a virtual machine was suspended).
        """
        new = _Interval(broker - acknowledged, broker + _RESOLUTION - sent, acknowledged)
        if self._known is None:
            self._known = new
            return
        narrowed = self._known.widened(acknowledged).narrowed(new)
        if narrowed is not None:
            self._known, self._other = narrowed, None
            return
        agreed = None if self._other is None else self._other.widened(acknowledged).narrowed(new)
        if agreed is None:
            self._other = new
        else:
            self._known, self._other = agreed, None

    def at(self, steady: float) -> float | None:
        """The broker's time, never later than the real one; None before the first sample."""
        return None if self._known is None else steady + self._known.low

    @property
    def needs_another(self) -> bool:
        """Whether another sample should be taken soon, because the last one contradicts the estimate."""
        return self._other is not None

    @property
    def error(self) -> float:
        """By how many seconds the estimate may be behind."""
        return 0.0 if self._known is None else self._known.high - self._known.low
