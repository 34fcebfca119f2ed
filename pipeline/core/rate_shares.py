"""Decides which share of an endpoint's rate a process may use, so that all processes together stay within it. Pure.

Each process that sends to an endpoint with a rate limit announces this in a topic, and repeats it while it sends. All read the
same topic in the same order, and all get equal shares. What keeps the sum within the limit:

- A process takes no share before it has read its own announcement back. Until then it has ``UNCONFIRMED_SHARE`` of the rate; for the first
  ``ALONE_SECONDS``, if it knows of no others, ``ALONE``: the first deliveries after a quiet period should not wait for a round
  trip to Kafka.
- If it then finds earlier processes, it gives them ``GRACE_SECONDS`` to read the announcement and to reduce their shares. Until
  then, newcomers together have ``NEWCOMER_SHARE``. If it finds none, it has the whole rate.
- A process that was silent for ``LOST_SECONDS`` is gone, and its share is free. The silence is measured by the reader's own
  announcements in the topic: while the topic cannot be read or written, no process is lost, and each keeps its share.

Times are seconds of this process's monotonic clock; other processes' clocks do not matter.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

NEWCOMER_SHARE: Final = 0.03
"""The share of a rate that all newcomers have together, in addition to the established processes."""
UNCONFIRMED_SHARE: Final = 0.01
"""The share of a process that has not read back its own announcement yet, so it cannot know who else is joining."""
ALONE: Final = 0.5
ALONE_SECONDS: Final = 0.2
"""Four processes that start together send at twice the rate for this fifth of a second."""
GRACE_SECONDS: Final = 2.0
ANNOUNCE_SECONDS: Final = 2.0
"""How often a process announces its endpoints."""
LOST_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 10.0
"""After so long without a delivery, a process gives up its share of an endpoint's rate."""
_MAX_PROCESSES: Final = 10_000
_ALWAYS: Final = float("-inf")


@dataclass(slots=True)
class _Announcement:
    at: float
    since: dict[int, float]
    """By endpoint: since when the process has announced it."""


class RateShares:
    """What one process knows, and what it must announce."""

    def __init__(self, process: str) -> None:
        self.process = process
        self._announcements: dict[str, _Announcement] = {}
        self._echo_at = _ALWAYS
        """When this process's own announcement was last read."""
        self._used: dict[int, float] = {}
        self._announced: frozenset[int] = frozenset()
        self._asked: dict[int, float] = {}
        """By endpoint: since when this process has been waiting for its own announcement to come back."""
        self._joined: dict[int, float] = {}
        """By endpoint: when the announcement came back; ``_ALWAYS`` if no process was there before."""
        self._other_counts: dict[int, int] = {}
        """The number of other processes, by endpoint: a cache, cleared by each announcement."""

    def share(self, endpoint_id: int, now: float) -> float:
        """The share of the endpoint's rate that this process may use now, above 0. Notes that the process uses it."""
        self._used[endpoint_id] = now
        joined = self._joined.get(endpoint_id)
        if joined is None:
            is_fresh = now - self._asked.setdefault(endpoint_id, now) < ALONE_SECONDS
            return ALONE if is_fresh and not self._living(endpoint_id) else UNCONFIRMED_SHARE
        others = self._other_counts.get(endpoint_id)
        if others is None:
            others = self._other_counts[endpoint_id] = len(self._living(endpoint_id))
        if not others:
            return 1.0
        if now - joined >= GRACE_SECONDS:
            return 1.0 / (1 + others)
        newcomers = sum(1 for since in self._living(endpoint_id) if now - since < GRACE_SECONDS)
        return NEWCOMER_SHARE / (1 + newcomers)

    def must_announce(self, endpoint_id: int) -> bool:
        """Whether the others do not know yet that this process sends to the endpoint."""
        return endpoint_id not in self._announced

    def announce(self, now: float) -> tuple[int, ...]:
        """What to announce now: the endpoints that this process sends to. It has no share of any others."""
        self._used = {endpoint_id: at for endpoint_id, at in self._used.items() if now - at < IDLE_SECONDS}
        for known in (self._joined, self._asked):
            for endpoint_id in known.keys() - self._used.keys():
                del known[endpoint_id]
        self._announced = frozenset(self._used)
        return tuple(sorted(self._announced))

    def receive(self, process: str, endpoint_ids: Collection[int], now: float) -> None:
        """Note that a process has announced its endpoints. Call this in the order of the topic."""
        known = self._announcements.get(process)
        since = {one: known.since.get(one, now) if known is not None else now for one in endpoint_ids}
        self._other_counts.clear()
        if process == self.process:
            self._echo_at = now
            for endpoint_id in since:
                if endpoint_id in self._announced and endpoint_id not in self._joined:
                    self._joined[endpoint_id] = now if self._living(endpoint_id) else _ALWAYS
                    self._asked.pop(endpoint_id, None)
            return
        if since:
            self._announcements[process] = _Announcement(now, since)
        else:
            self._announcements.pop(process, None)
        if len(self._announcements) > _MAX_PROCESSES:  # a process that writes nonsense must not take more memory
            del self._announcements[next(iter(self._announcements))]

    def _living(self, endpoint_id: int) -> list[float]:
        """Since when each other process has been sending to the endpoint. Processes that are gone are dropped."""
        lost = [
            process for process, announcement in self._announcements.items() if self._echo_at - announcement.at >= LOST_SECONDS
        ]
        for process in lost:
            del self._announcements[process]
        return [
            announcement.since[endpoint_id] for announcement in self._announcements.values() if endpoint_id in announcement.since
        ]
