"""Decides when a member looks at the assignments of its whole group, and whether it must leave and rejoin so that every partition
gets a reader. Pure: `pipeline.broker.member` carries out the decisions.

A group reassigns its partitions whenever a member comes, goes, or joins with another subscription. With a few exceptions:

- A static member that returns after a crash gets its former assignment, whatever it subscribes to now. If it crashed between the
  two rounds of a cooperative rebalance, the partitions that it had just given up have no reader.
- If that member was the group's leader, it does not learn that it is the leader (KIP-814, which kafka-python lacks), and nobody
  notices added partitions.
- A leader to which a starting broker reports no topics assigns nothing to anybody.

Without a new member, the group would stay like that.
"""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Final

from pipeline.broker.api import Membership, Partition

FIRST_LOOK_S: Final = 3.0
"""The first look at each generation of the group: this long after this member learned of it."""
_LOOKS_APART_S: Final = 60.0
CONFIRM_S: Final = 12.0
"""How long partitions must stay unassigned after the first look. Members with a higher rank wait longer, so that only one leaves.
Longer than a request to a frozen broker: the leader of the group may be waiting for its answer about the topics, and asks another one
after that.
"""
ADDED_S: Final = 60.0
"""The same for later looks in a generation. Usually the group's leader notices added partitions before that
(`kafka_metadata_max_age_ms`).
"""
_LONGEST_S: Final = 3_600.0
_MAX_NAMED: Final = 5


class AssignmentCheck:
    """One member's checks. All times are in seconds of one clock."""

    def __init__(self) -> None:
        self._identity: Membership | None = None
        self._look_at = -math.inf
        self._patience = CONFIRM_S
        self._unassigned: Set[Partition] = frozenset()
        """The partitions without a reader at the last look."""
        self._failures = 0
        """How many times this member left and rejoined since every partition had a reader."""

    def is_due(self, identity: Membership, now: float) -> bool:
        """Whether to look now. If nothing comes of it, the next look follows after a minute, or in the next generation."""
        if identity != self._identity:
            self._identity, self._look_at = identity, now + FIRST_LOOK_S
            self._patience, self._unassigned = CONFIRM_S, frozenset()
        if now < self._look_at:
            return False
        self._look_at = now + _LOOKS_APART_S
        return True

    @property
    def lasting(self) -> Set[Partition]:
        """The partitions that stay without a reader although this member has rejoined."""
        return self._unassigned if self._failures else frozenset()

    def must_rejoin(self, unassigned: Set[Partition], rank: int, now: float) -> bool:
        """Note a look. ``unassigned``: the partitions without a reader; ``rank``: 0 for the first member of the group, 1 for the
        second. Returns whether this member must leave and rejoin.
        """
        if not unassigned:
            self._unassigned, self._patience, self._failures = frozenset(), ADDED_S, 0
            return False
        still = self._unassigned & unassigned
        if not still:
            self._unassigned = unassigned
            self._look_at = now + min(self._patience * (rank + 1) * 2**self._failures, _LONGEST_S)
            return False
        self._failures += 1
        return True


def named(partitions: Set[Partition]) -> str:
    """Partitions as text: the first few, and how many more there are."""
    first = ", ".join(str(partition) for partition in sorted(partitions)[:_MAX_NAMED])
    more = len(partitions) - _MAX_NAMED
    return f"{first} and {more} more" if more > 0 else first
