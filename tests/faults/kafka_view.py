"""The contents of Kafka: whole topics, their ends, and the groups' commits. Its calls block."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, UnknownBrokerIdError

from pipeline.core.offsets import Kept, decode_metadata

AnswerT = TypeVar("AnswerT")

_READ_SECONDS_WITHOUT_RECORDS = 30
_PATIENCE_S = 120.0
_PAUSE_S = 0.5


class TopicOffset(NamedTuple):
    """The position of a record."""

    topic: str
    partition: int
    offset: int


class CommittedAt(NamedTuple):
    """The offset to continue from, and what was finished beyond it."""

    offset: int
    finished: frozenset[int]


Committed = Mapping[tuple[str, int], CommittedAt]
"""By topic and partition; none for a partition without a commit."""


class KafkaView:
    """Reads from a broker without the product's code."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._lock = threading.Lock()
        self._admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)

    def close(self) -> None:
        self._admin.close()

    def _ask(self, question: Callable[[KafkaAdminClient], AnswerT]) -> AnswerT:
        """Repeat a request until there is an answer: a restarted broker needs a moment.

        Each time with a new client: a kafka-python client always asks the first coordinator of a group.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with self._lock:
                    return question(self._admin)
            except KafkaError as error:
                # A partition without a leader, as on a busy machine, has the broker -1.
                if not (error.retriable or isinstance(error, UnknownBrokerIdError)) or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)
                self._reconnect()

    def _reconnect(self) -> None:
        with self._lock, contextlib.suppress(KafkaError):  # no broker may be up yet
            fresh = KafkaAdminClient(bootstrap_servers=self._bootstrap_servers)
            self._admin.close()
            self._admin = fresh

    def committed(self, group: str) -> Committed:
        """Return what the group has committed."""
        found = self._ask(lambda admin: admin.list_group_offsets({group: None}))[group]
        return {
            (partition.topic, partition.partition): CommittedAt(
                at.offset, (decode_metadata(at.offset, at.metadata) or Kept()).finished
            )
            for partition, at in found.items()
            if at.offset >= 0
        }

    def ends(self, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        """Return the end of every partition."""
        described = self._ask(lambda admin: admin.describe_topics(list(topics)))
        partitions = [
            TopicPartition(topic["name"], partition["partition_index"])
            for topic in described
            for partition in topic["partitions"]
        ]
        found = self._ask(lambda admin: admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST)))
        return {(partition.topic, partition.partition): at.offset for partition, at in found.items()}

    def lag(self, group: str, topics: Sequence[str]) -> int:
        """Return how many records the group has not committed.

        The commits are read first: if it is 0, everything up to that moment was finished, with all that followed from it.
        """
        committed = {partition: at.offset for partition, at in self.committed(group).items()}
        return sum(end - committed.get(partition, 0) for partition, end in self.ends(topics).items())

    def records(self, topics: Sequence[str]) -> Iterator[Any]:
        """Return every record of the topics, from the start to the current end."""
        left = {TopicPartition(*partition): end for partition, end in self.ends(topics).items() if end}
        if not left:
            return
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            group_id=None,
            enable_auto_commit=False,
            consumer_timeout_ms=_READ_SECONDS_WITHOUT_RECORDS * 1000,
            max_partition_fetch_bytes=8 * 1024 * 1024,
        )
        try:
            consumer.assign(list(left))
            consumer.seek_to_beginning()
            for record in consumer:
                partition = TopicPartition(record.topic, record.partition)
                if record.offset < left.get(partition, 0):
                    yield record
                if record.offset + 1 >= left.get(partition, 0):
                    left.pop(partition, None)
                    if not left:
                        return
            raise AssertionError(
                f"no record for {_READ_SECONDS_WITHOUT_RECORDS} s, though these were not read to the end: {left}"
            )
        finally:
            consumer.close()
