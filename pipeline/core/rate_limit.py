"""A rate limit that spreads requests evenly. It counts actual starts, so a delayed process does not catch up all at once. Pure.

It is the generic cell rate algorithm (GCRA) with a small tolerance. Within any ``T`` seconds at most ``per_second * (T +
tolerance)`` requests start, plus one; low rates have no tolerance.
"""

from __future__ import annotations

from typing import Final

MAX_TOLERANCE_SECONDS: Final = 0.04
"""A request may start this late without delaying the next ones: timers fire a few milliseconds late."""
_BOUND: Final = 0.1
"""By how much the rate may be exceeded in any second, including the extra request of a window."""


class RateLimit:
    """At most ``per_second`` starts a second; ``now`` is seconds of a monotonic clock.

    A request first takes its turn (:meth:`reserve`), waits for it, and then starts (:meth:`begin`) or is withdrawn.
    """

    __slots__ = ("_free_at", "_waiting", "per_second")

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._free_at = float("-inf")
        self._waiting = 0
        """Turns that were taken and have not started."""

    @property
    def tolerance(self) -> float:
        """How many seconds earlier than planned a request may start, to make up for late ones."""
        return min(MAX_TOLERANCE_SECONDS, max(0.0, _BOUND - 1.0 / self.per_second))

    def change(self, per_second: float, now: float) -> None:
        """Continue at another rate: the wait for the next start shrinks or grows accordingly."""
        if per_second != self.per_second:
            self._free_at = now + (self._free_at - now) * self.per_second / per_second if self._free_at > now else self._free_at
            self.per_second = per_second

    def wait(self, now: float) -> float:
        """The seconds until the next free turn. Takes none."""
        return max(0.0, self._free_at - now) + self._waiting / self.per_second

    def spend(self, now: float, ahead: float) -> bool:
        """Use a turn up to ``ahead`` seconds before it comes, for callers that leave the start to others. False: not yet."""
        wait = self.wait(now)
        if wait > ahead:
            return False
        self._free_at = now + wait + 1.0 / self.per_second
        return True

    def reserve(self, now: float, longest_wait: float) -> float | None:
        """Take the next free turn. Returns the seconds until it comes, or None (and takes none) if that is too long."""
        wait = self.wait(now)
        if wait > longest_wait:
            return None
        self._waiting += 1
        return wait

    def begin(self, now: float) -> float:
        """Start a request whose turn was taken. Returns 0, or the seconds that it must still wait if it was not started."""
        wait = self._free_at - self.tolerance - now
        if wait > 0.0:
            return wait
        self._waiting -= 1
        self._free_at = max(self._free_at, now) + 1.0 / self.per_second
        return 0.0

    def withdraw(self) -> None:
        """Return a turn that will not be used."""
        self._waiting -= 1
