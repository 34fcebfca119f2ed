"""Topics that a member of a group reads in addition to its initial ones. Pure: `pipeline.broker.member` carries out the
decisions.

If a member joins with another subscription, the group reassigns its partitions, with one exception: a static member that returns
after a crash gets its former assignment, and its subscription is not compared. If it crashed after learning of a topic and before
joining with it, nobody would get the topic until the next rebalance. So a member checks whether anybody reads each added topic:
a member that gets a partition for the first time commits its starting offset. If there is no commit, the member joins without the
topic, and then with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from pipeline.broker.api import Partition

FIRST_CHECK_S: Final = 15.0
"""How long a group may take to assign a topic before its members intervene. Doubles each time."""
_LONGEST_S: Final = 3_600.0


class AddedSubscription:
    """Added topics are never removed: remaining records in a topic must be read. :meth:`add` may be called on any thread."""

    def __init__(self) -> None:
        self._added: tuple[str, ...] = ()
        self._subscribed: tuple[str, ...] = ()
        self._read: set[str] = set()
        """Topics that a member of the group reads."""
        self._left_out_in: int | None = None
        """The generation in which topics that nobody reads are left out of the subscription; the next one includes them again."""
        self._patience = FIRST_CHECK_S
        self._next_check_at = 0.0

    @property
    def subscribed(self) -> Sequence[str]:
        """The added topics that the member subscribes to."""
        return self._subscribed

    def add(self, topics: Iterable[str]) -> None:
        self._added = tuple(dict.fromkeys((*self._added, *topics)))

    def begin(self, now: float) -> tuple[str, ...]:
        """The added topics that a new client subscribes to."""
        self._subscribed, self._left_out_in = self._added, None
        self._next_check_at = now + self._patience
        return self._subscribed

    def to_subscribe(self, generation: int, now: float) -> tuple[str, ...] | None:
        """The added topics to subscribe to now, in this generation of the group; None: no change."""
        if self._left_out_in == generation and now < self._next_check_at:
            left = tuple(topic for topic in self._added if topic in self._read)
        else:
            self._left_out_in, left = None, self._added
        if left == self._subscribed:
            return None
        self._subscribed = left
        self._next_check_at = now + self._patience
        return left

    def topics_to_check(self, held: Collection[Partition], now: float) -> Sequence[str]:
        """The topics for which it is time to check whether anybody reads them."""
        if len(self._read) == len(self._added) or self._left_out_in is not None or now < self._next_check_at:
            return ()
        self._read.update(partition.topic for partition in held if partition.topic in self._added)
        return [topic for topic in self._subscribed if topic not in self._read]

    def note_commits(self, committed: Iterable[Partition], generation: int, now: float) -> bool:
        """Note for which partitions the group has a commit. Returns whether the member must rejoin so that the other topics are
        assigned.
        """
        self._read.update(partition.topic for partition in committed)
        if self._read.issuperset(self._subscribed):
            return False
        self._patience = min(2 * self._patience, _LONGEST_S)
        self._left_out_in, self._next_check_at = generation, now + FIRST_CHECK_S
        return True
