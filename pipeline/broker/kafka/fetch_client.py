"""A reader outside of any group, with kafka-python."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from pipeline.broker.api import Fetched, OffsetRange, Partition
from pipeline.broker.kafka.compat import Hooks
from pipeline.broker.kafka.errors import translated
from pipeline.broker.kafka.group_client import bounds
from pipeline.broker.kafka.session import opening_session
from pipeline.ops.logs import logger

log = logger(__name__)

_EVERYTHING_FETCHED: Final = 1_000_000_000
"""How many records a poll may return. kafka-python 3.0.12 never returns the rest of a partly taken fetch of a partition that was
then paused (Fetcher.fetched_records: a used-up PartitionRecords is false but not None), so a poll takes everything. The bytes
of a fetch limit the memory instead.
"""
_FETCH_BYTES: Final = 4 * 1024 * 1024
"""The maximum size of a fetch, compressed. There is one fetch at a time from each broker. A larger batch comes alone."""
_CLOSE_MS: Final = 2_000
_PATIENT_MS: Final = 5_000
_SHORT_MS: Final = 500
"""If the configured ``fetch_max_wait_ms`` is shorter, the broker does not end a fetch when records arrive."""
_FIRST_MS: Final = 50
"""How long the broker may hold the first fetch of new partitions. Only its end shows that there is nothing to read, and a start
waits for that.
"""
_LONGEST_S: Final = 1.0
_LONGEST_UNENDED_S: Final = 0.1
"""The longest poll if a poll cannot be ended: a stop or a new assignment waits for it."""


class KafkaFetchClient:
    """See `pipeline.broker.api.FetchClient`."""

    def __init__(self, config: dict[str, Any], *, partition_bytes: int, read_committed: bool, hooks: Hooks) -> None:
        """Connect.

        Raises:
            NoSessionError: no broker accepted the client.
        """
        own = {
            "group_id": None,
            "auto_offset_reset": "none",  # pipeline/broker/start_offset.py and fetch_positions.py decide where to continue
            "max_poll_records": _EVERYTHING_FETCHED,
            "fetch_max_bytes": _FETCH_BYTES,
            "max_partition_fetch_bytes": partition_bytes,
            "isolation_level": "read_committed" if read_committed else "read_uncommitted",
        }
        with opening_session(config) as met:
            self._consumer = KafkaConsumer(**met | own)
        self._hooks = hooks
        self._fetch_wait_ms: int = config["fetch_max_wait_ms"]
        self._not_fetched: frozenset[TopicPartition] = frozenset()
        """New partitions, until the first fetch of any of them has ended."""
        self._has_long_polls = config["fetch_max_wait_ms"] >= _SHORT_MS
        self._end_poll = hooks.speed_up_reader(self._consumer)

    def assign(self, positions: Mapping[Partition, int]) -> None:
        before = self._consumer.assignment()
        self._consumer.assign([TopicPartition(*partition) for partition in positions])
        for partition, position in positions.items():
            if TopicPartition(*partition) not in before:
                self._consumer.seek(TopicPartition(*partition), position)
        self._not_fetched = frozenset(self._consumer.assignment() - before)
        self._set_fetch_wait()

    def seek(self, partition: Partition, offset: int) -> None:
        self._consumer.seek(TopicPartition(*partition), offset)

    def pause(self, partitions: Collection[Partition]) -> None:
        assigned, paused = self._consumer.assignment(), self._consumer.paused()
        wanted = {TopicPartition(*partition) for partition in partitions} & assigned
        if wanted - paused:
            self._consumer.pause(*(wanted - paused))
        if paused - wanted:
            self._consumer.resume(*(paused - wanted))

    @property
    def longest_poll(self) -> float:
        return _LONGEST_UNENDED_S if self._end_poll is None else _LONGEST_S

    def allow_long_polls(self) -> None:
        if self._has_long_polls:
            self._fetch_wait_ms = _PATIENT_MS
            self._set_fetch_wait()

    def _set_fetch_wait(self) -> None:
        milliseconds = min(self._fetch_wait_ms, _FIRST_MS) if self._not_fetched else self._fetch_wait_ms
        self._hooks.set_fetch_wait(self._consumer, milliseconds)

    def idle(self) -> None:
        """Nothing to do: the next poll sees all events."""

    def wake(self) -> None:
        if self._end_poll is not None:
            self._end_poll()

    def poll(self, seconds: float) -> Mapping[Partition, Sequence[Fetched]]:
        with translated():
            polled = self._consumer.poll(timeout_ms=max(round(seconds * 1000), 1))
        if any(self._consumer.highwater(partition) is not None for partition in self._not_fetched):
            self._not_fetched = frozenset()
            self._set_fetch_wait()
        return {Partition(*partition): records for partition, records in polled.items() if records}

    def end(self, partition: Partition) -> int | None:
        end: int | None = self._consumer.highwater(TopicPartition(*partition))
        return end

    def position(self, partition: Partition) -> int | None:
        try:
            position: int | None = self._consumer.position(TopicPartition(*partition), timeout_ms=0)
        except KafkaError:
            return None  # unknown for now; asking for longer would delay the reader
        return position

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
        return bounds(self._consumer, partitions)

    def close(self) -> None:
        try:
            self._consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
        except Exception as error:  # noqa: BLE001 - kafka-python's own thread may have died; the stop must not hang
            log.warning("a reader could not be closed cleanly", error=repr(error))
