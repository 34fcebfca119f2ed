"""Measures how far a consumer is behind, how long its oldest record has been waiting, and how much it holds."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from pipeline.broker.api import Partition
from pipeline.broker.assignment import Assignment
from pipeline.broker.fetch_buffers import Buffered, FetchBuffers
from pipeline.broker.in_flight import InFlight
from pipeline.ops import metrics

_LONGEST_KEPT_S: Final = 10 * 365 * 86_400
_LONGEST_AHEAD_S: Final = 3600
"""A record that seems to be older, or that far in the future, has a timestamp that is missing (-1), or not in milliseconds."""


def waiting_since(buffered: Buffered, now: float, wall: float) -> float:
    """When a record started to wait: when it was due or, without a due time, when it was written; if that is unknown, now. ``now``
    and the result: seconds of `Broker.clock`; ``wall``: the same moment, in seconds since 1970.
    """
    if math.isfinite(buffered.due):
        return buffered.due
    age = wall - float(buffered.record.timestamp) / 1000
    return now - age if -_LONGEST_AHEAD_S <= age < _LONGEST_KEPT_S else now


class Lag:
    """The metrics of one consumer. Its fetch thread measures; ages are computed at the scrape, so they are right even if that
    thread hangs.
    """

    def __init__(
        self,
        group: str,
        topics: Sequence[str],
        assignment: Assignment,
        buffers: FetchBuffers,
        outstanding: InFlight,
        clock: Callable[[], float],
    ) -> None:
        self._group = group
        self.topics = tuple(topics)
        self._is_shown = False
        self._assignment = assignment
        self._buffers = buffers
        self._outstanding = outstanding
        self._clock = clock
        self._waiting_since: dict[Partition, float] = {}
        self._measured: set[Partition] = set()

    def show(self) -> None:
        """Export the ages from now on."""
        self._is_shown = True
        self._show(self.topics)

    def add_topics(self, topics: Sequence[str]) -> None:
        """Measure these, too. Called on the event loop."""
        self.topics = tuple(dict.fromkeys((*self.topics, *topics)))
        if self._is_shown:
            self._show(topics)

    def _show(self, topics: Sequence[str]) -> None:
        for topic in topics:
            metrics.OLDEST_UNFINISHED.labels(self._group, topic).set_function(functools.partial(self._oldest_seconds, topic))

    def measure(self, positions: Mapping[Partition, int], ends: Mapping[Partition, int], wall: float) -> None:
        """Set the metrics. ``positions`` and ``ends``: those of the partitions that are read. Buffered records count as unread.

        ``wall``: the current time by the clock that stamps the records, in seconds since 1970.
        """
        metrics.OUTSTANDING_BYTES.labels(self._group).set(self._outstanding.bytes)
        metrics.BUFFERED_BYTES.labels(self._group).set(self._buffers.bytes)
        heads, now = self._buffers.heads(), self._clock()
        self._waiting_since = {
            partition: waiting_since(head, now, wall) for partition, head in heads.items()
        } | self._assignment.oldest()
        self._remove(self._measured - positions.keys())
        for partition, end in ends.items():
            position = heads[partition].record.offset if partition in heads else positions[partition]
            metrics.CONSUMER_LAG.labels(self._group, partition.topic, str(partition.number)).set(max(0, end - position))
            self._measured.add(partition)

    def forget(self) -> None:
        """Remove the metrics: another process holds these partitions now, and they must not appear stuck here."""
        self._remove(set(self._measured))
        self._is_shown = False
        for topic in self.topics:
            metrics.OLDEST_UNFINISHED.remove(self._group, topic)

    def _remove(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            metrics.CONSUMER_LAG.remove(self._group, partition.topic, str(partition.number))
        self._measured -= set(partitions)

    def _oldest_seconds(self, topic: str) -> float:
        """How long the oldest record of a topic has been waiting; 0 if none is. Called at the scrape, on the event loop."""
        waiting = [since for partition, since in self._waiting_since.items() if partition.topic == topic]
        return max(0.0, self._clock() - min(waiting)) if waiting else 0.0
