"""What time it is at the broker, from the times that it wrote down (Cristian's algorithm, kept as an interval as Marzullo's does). Pure.

A record that was sent at one moment and acknowledged at a later one, both of a clock of ours that never jumps, was stamped by the broker in
between. So the difference between the two clocks lies in an interval as long as the round trip took; each further record narrows it.
The answer is its lower end: what waits for a time is taken a little late, and never early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_DRIFT: Final = 200e-6
"""How far two clocks may go apart, in seconds a second: crystals stay well below."""
_RESOLUTION: Final = 0.001
"""The broker writes whole milliseconds."""


@dataclass(slots=True)
class _Interval:
    """The broker's time less ours, as known at a moment of ours."""

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
    """The broker's time. All times are seconds; ``steady`` ones are of a clock of ours that never jumps."""

    def __init__(self) -> None:
        self._known: _Interval | None = None
        self._other: _Interval | None = None

    def sample(self, sent: float, acknowledged: float, broker: float) -> None:
        """A record was sent and acknowledged at these steady times, and has this time of the broker.

        One that contradicts what is known changes nothing by itself: two that agree do. Then the broker's clock was set anew, or our steady
        clock stood still (a virtual machine that was suspended).
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
        """The broker's time, never later than it is; None before the first sample."""
        return None if self._known is None else steady + self._known.low

    @property
    def needs_another(self) -> bool:
        """Whether another sample should be taken soon: the last one contradicts what is known."""
        return self._other is not None

    @property
    def error(self) -> float:
        """How far the answer may be behind, in seconds."""
        return 0.0 if self._known is None else self._known.high - self._known.low
