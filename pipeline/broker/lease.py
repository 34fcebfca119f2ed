"""For how long this process may believe that its group counts it in. Pure: the clock is passed in.

A group gives a member up when it has heard nothing from it for the length of a session. The member does not learn of that while it is
frozen (SIGSTOP, a suspended machine, a long pause of the host) or cut off, and goes on with what it has in memory. So belief
needs evidence, and evidence has a date: a commit that the coordinator accepted proves membership as of the moment that it was sent, and
so does a join as of the moment that its answer was waited for. Beyond that, the member is in doubt: it begins nothing and commits
nothing until it has proof again, or has lost everything.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_MARGIN = 0.3
"""Of a session: the part that is left for a delivery to begin after the last look at the lease, and for clocks that differ."""
_LONGEST_JOIN = 3.0
"""Sessions. While a join is under way nobody else can be given what this member holds: the group waits for it. A join that takes longer
than this is not trusted any more; the connection may be gone without a word."""


def boot_time() -> float:
    """Seconds of a clock that never goes back, and that also runs while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """The evidence of one member. The group thread writes it, every other thread may ask."""

    __slots__ = ("_proven_at", "_valid_seconds", "clock", "session_seconds")

    def __init__(self, session_seconds: float, clock: Callable[[], float]) -> None:
        self.session_seconds = session_seconds
        self.clock = clock
        self._valid_seconds = session_seconds * (1 - _MARGIN)
        self._proven_at = -math.inf

    def prove(self, at: float) -> None:
        """The group counted this process in at a moment of the clock."""
        self._proven_at = max(self._proven_at, at)

    def end(self) -> None:
        """Membership is lost, or was never there."""
        self._proven_at = -math.inf

    def is_valid(self) -> bool:
        """Whether something may be begun."""
        return self.clock() - self._proven_at < self._valid_seconds

    def wants_proof(self) -> bool:
        """Whether it is time for the next proof, so that a healthy member is never in doubt."""
        return self.clock() - self._proven_at > self.session_seconds / 3

    @property
    def longest_join_seconds(self) -> float:
        """How long a join that is under way is trusted."""
        return self.session_seconds * _LONGEST_JOIN
