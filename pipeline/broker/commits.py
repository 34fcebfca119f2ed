"""Commits of a consumer's offsets: asynchronous, a few a second, with what was finished beyond them."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from pipeline.broker.assignment import Assignment
from pipeline.broker.record import Partition
from pipeline.core.offsets import Commit, decode_finished, encode_finished
from pipeline.ops import metrics
from pipeline.ops.logs import logger

log = logger(__name__)

_INTERVAL_S = 0.25
_FINAL_MS = 5_000
_READ_MS = 10_000


class Commits:
    """The commits of one consumer. Used by its poll thread."""

    def __init__(self, group: str, assignment: Assignment) -> None:
        self._group = group
        self._assignment = assignment
        self._due = 0.0
        self._in_flight = False

    def is_due(self) -> bool:
        """Whether it is time for the next commit, and the last one has been answered."""
        return time.monotonic() >= self._due and not self._in_flight

    def send(self, consumer: KafkaConsumer) -> None:
        """Commit what can be committed, without waiting for the answer."""
        self._due = time.monotonic() + _INTERVAL_S
        commits = self._assignment.committable()
        if commits:
            self._in_flight = True
            consumer.commit_async(to_kafka(commits), callback=functools.partial(self._answered, commits))

    def finish(self, consumer: KafkaConsumer) -> None:
        """Commit for the last time, and wait for the answer."""
        commits = self._assignment.committable()
        try:
            if commits:
                consumer.commit(to_kafka(commits), timeout_ms=_FINAL_MS)
                metrics.COMMITS.labels(self._group, "ok").inc()
        except KafkaError as error:
            metrics.COMMITS.labels(self._group, "failed").inc()
            log.warning("final commit failed; some records will be delivered again", group=self._group, error=repr(error))

    def _answered(self, commits: dict[Partition, Commit], _: object, response: object) -> None:
        self._in_flight = False
        if isinstance(response, Exception):
            # Expected during a rebalance. Nothing is lost: the next commit says the same or more.
            metrics.COMMITS.labels(self._group, "failed").inc()
            log.info("commit failed", group=self._group, error=repr(response))
            return
        metrics.COMMITS.labels(self._group, "ok").inc()
        self._assignment.committed(commits)


def to_kafka(commits: Mapping[Partition, Commit]) -> dict[TopicPartition, OffsetAndMetadata]:
    """Commits as kafka-python wants them."""
    return {
        TopicPartition(*partition): OffsetAndMetadata(commit.offset, encode_finished(commit), -1)
        for partition, commit in commits.items()
    }


def finished_earlier(consumer: KafkaConsumer, partition: Partition) -> set[int]:
    """What the last commit says was finished beyond its offset. Without an answer it is done again: at least once."""
    try:
        committed = consumer.committed(TopicPartition(*partition), metadata=True, timeout_ms=_READ_MS)
    except KafkaError as error:
        log.warning("the last commit cannot be read; some records are done again", partition=partition, error=repr(error))
        return set()
    return decode_finished(committed.offset, committed.metadata) if committed is not None else set()
