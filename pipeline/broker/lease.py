"""How long this process may assume that it is a member of its group. Pure: the clock is an argument.

A group removes a member that it has not heard from for the length of a session. A member that is frozen (SIGSTOP, a suspended
machine, a long pause of the host) or cut off does not notice, and continues with its state in memory. So membership needs proof,
and a proof has a time: an accepted commit proves membership at the moment when it was sent, and a join at the moment when the wait
for its answer started. When the proof is too old, membership is in doubt: the member starts nothing and commits nothing until it
has a new proof, or has lost its membership.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_MARGIN = 0.3
"""The share of a session that is reserved for deliveries that start just after a check of the lease, and for clock differences."""
_LONGEST_JOIN = 3.0
"""In sessions. During a join, nobody else can get this member's partitions, because the group waits for it. A join that takes
longer than this is no longer trusted: the connection may be dead.
"""


class Lease:
    """The proof of one member. The group thread writes it; any thread may read it."""

    __slots__ = ("_proven_at", "_valid_seconds", "clock", "session_seconds")

    def __init__(self, session_seconds: float, clock: Callable[[], float]) -> None:
        self.session_seconds = session_seconds
        self.clock = clock
        self._valid_seconds = session_seconds * (1 - _MARGIN)
        self._proven_at = -math.inf

    def prove(self, at: float) -> None:
        """Note that membership was proven at a moment of the clock."""
        self._proven_at = max(self._proven_at, at)

    def end(self) -> None:
        """Note that membership is lost."""
        self._proven_at = -math.inf

    def is_valid(self) -> bool:
        """Whether work may start."""
        return self.clock() - self._proven_at < self._valid_seconds

    def wants_proof(self) -> bool:
        """Whether it is time for the next proof, so that a healthy member is never in doubt."""
        return self.clock() - self._proven_at > self.session_seconds / 3

    @property
    def longest_join_seconds(self) -> float:
        """How long a join in progress is trusted."""
        return self.session_seconds * _LONGEST_JOIN
