"""How long this process may believe that it is a member of its group. Pure: the clock is an argument.

A group removes a member from which it has heard nothing for the length of a session. While the member is frozen (SIGSTOP, a
suspended machine, a long pause of the host) or cut off, it does not learn of that, and continues with its state in memory. So
membership needs proof, and a proof has a date: a commit that the coordinator accepted proves membership at the moment when it was
sent, and a join proves it at the moment when its answer was awaited. After that, the member is in doubt: it begins nothing and
commits nothing until it has a new proof, or has lost everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_MARGIN = 0.3
"""The share of a session that is left for a delivery to begin after the last check of the lease, and for differences between
clocks.
"""
_LONGEST_JOIN = 3.0
"""In sessions. During a join, nobody else can get this member's partitions: the group waits for it. A join that takes longer than
this is not trusted any more; the connection may be silently gone.
"""


class Lease:
    """The proof of one member. The group thread writes it, every other thread may read it."""

    __slots__ = ("_proven_at", "_valid_seconds", "clock", "session_seconds")

    def __init__(self, session_seconds: float, clock: Callable[[], float]) -> None:
        self.session_seconds = session_seconds
        self.clock = clock
        self._valid_seconds = session_seconds * (1 - _MARGIN)
        self._proven_at = -math.inf

    def prove(self, at: float) -> None:
        """Membership is proven as of a moment of the clock."""
        self._proven_at = max(self._proven_at, at)

    def end(self) -> None:
        """Membership is lost, or never existed."""
        self._proven_at = -math.inf

    def is_valid(self) -> bool:
        """Whether work may begin."""
        return self.clock() - self._proven_at < self._valid_seconds

    def wants_proof(self) -> bool:
        """Whether it is time for the next proof, so that a healthy member is never in doubt."""
        return self.clock() - self._proven_at > self.session_seconds / 3

    @property
    def longest_join_seconds(self) -> float:
        """How long a join that is under way is trusted."""
        return self.session_seconds * _LONGEST_JOIN
