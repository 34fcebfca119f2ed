"""A rate limit that spreads requests evenly, by what has begun: a process that was held up does not catch up all at once. Pure.

It is the generic cell rate algorithm (GCRA) with a small tolerance. Within any ``T`` seconds it lets no more begin than
``per_second * (T + tolerance)``, and one; of rates that are low there is no tolerance.
"""

from __future__ import annotations

from typing import Final

MOST_TOLERANCE_SECONDS: Final = 0.04
"""So much too late a request may begin without the next ones being later for it: timers are late by a few milliseconds."""
_BOUND: Final = 0.1
"""In any second at most so much of the rate is let through beyond it, the one request included that any window may see beside."""


class RateLimit:
    """At most ``per_second`` starts a second; ``now`` is seconds of a clock that never goes back.

    A request takes its turn first (:meth:`reserve`), waits for it, and then begins (:meth:`begin`) or is withdrawn.
    """

    __slots__ = ("_free_at", "_waiting", "per_second")

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._free_at = float("-inf")
        self._waiting = 0
        """Turns that were taken and have not begun."""

    @property
    def tolerance(self) -> float:
        """How many seconds earlier than planned a request may begin, to make good for others that were late."""
        return min(MOST_TOLERANCE_SECONDS, max(0.0, _BOUND - 1.0 / self.per_second))

    def change(self, per_second: float, now: float) -> None:
        """Go on at another rate: the wait for the next start shrinks or grows with it."""
        if per_second != self.per_second:
            self._free_at = now + (self._free_at - now) * self.per_second / per_second if self._free_at > now else self._free_at
            self.per_second = per_second

    def wait(self, now: float) -> float:
        """The seconds until the next turn comes, behind all that were taken; none is taken."""
        return max(0.0, self._free_at - now) + self._waiting / self.per_second

    def spend(self, now: float, ahead: float) -> bool:
        """Let something go up to so many seconds before its turn: for who only plans, and leaves the start to others. False: not yet."""
        wait = self.wait(now)
        if wait > ahead:
            return False
        self._free_at = now + wait + 1.0 / self.per_second
        return True

    def reserve(self, now: float, longest_wait: float) -> float | None:
        """Take a turn: the seconds until it comes, behind all that were taken before; None, and none is taken, when that is too long."""
        wait = self.wait(now)
        if wait > longest_wait:
            return None
        self._waiting += 1
        return wait

    def begin(self, now: float) -> float:
        """Begin a request whose turn was taken: 0, or the seconds that it has to wait yet; then nothing was begun."""
        wait = self._free_at - self.tolerance - now
        if wait > 0.0:
            return wait
        self._waiting -= 1
        self._free_at = max(self._free_at, now) + 1.0 / self.per_second
        return 0.0

    def withdraw(self) -> None:
        """Give a turn back that was taken and will not be used."""
        self._waiting -= 1
