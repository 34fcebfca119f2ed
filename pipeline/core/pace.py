"""A rate limit: a token bucket that holds one token, so that requests are spread evenly and never come in bursts. Pure."""

from __future__ import annotations


class Pace:
    """At most ``per_second`` starts a second; ``now`` is seconds of a clock that never goes back."""

    __slots__ = ("_free_at", "per_second")

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._free_at = float("-inf")

    def wait(self, now: float) -> float:
        """The seconds until the next token is there; none is taken."""
        return max(0.0, self._free_at - now)

    def reserve(self, now: float, longest_wait: float) -> float | None:
        """Take the next token: the seconds until it is there (0: it is); None, and none is taken, when that is too long."""
        wait = self.wait(now)
        if wait > longest_wait:
            return None
        self._free_at = now + wait + 1.0 / self.per_second
        return wait
