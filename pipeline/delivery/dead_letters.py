"""Unusable input blocks nothing: it is stored unchanged, with its origin and the reason (promise 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pipeline.broker.api import Position, Record
from pipeline.broker.producer import Producer
from pipeline.ops import metrics
from pipeline.ops.clock import Clock
from pipeline.ops.logs import logger
from schemas.codec import to_header
from schemas.delivery import DEAD_LETTER_HEADER, DeadLetter, DeadLetterReason
from schemas.topics import MAX_RECORD_BYTES, MIB

log = logger(__name__)

_KEPT_BYTES = MIB
_MAX_DETAIL = 2000
MAX_LINES: Final = 20
"""Log lines per minute for one topic and reason. Further dead letters are only counted: a broken producer writes thousands."""
_LINES_SECONDS: Final = 60.0


@dataclass(slots=True)
class _LogCounts:
    """How many dead letters were logged in a minute, and how many were not."""

    logged: int = 0
    left_out: int = 0


class DeadLetters:
    """Writes to ``webhooks.dead-letters``."""

    def __init__(self, producer: Producer, topic: str, clock: Clock, *, read_topics: Iterable[str] = ()) -> None:
        """Counters of ``read_topics`` start at 0, because Prometheus does not see an increase from nothing to 1."""
        self.count_from_zero(read_topics)
        self._producer = producer
        self._topic = topic
        self._clock = clock
        self._log_counts: dict[tuple[str, DeadLetterReason], _LogCounts] = {}

    def count_from_zero(self, topics: Iterable[str]) -> None:
        """Start the counters of these topics at 0."""
        for topic in topics:
            for reason in DeadLetterReason:
                metrics.DEAD_LETTERS.labels(topic, reason.value)

    def send(self, record: Record, reason: DeadLetterReason, detail: str) -> asyncio.Future[Position]:
        """Store a record as a dead letter, with key, value and headers unchanged. The future is done when Kafka has it.

        Exceptions:

        * A header without a value gets an empty one, and a record without key and value an empty value: kafka-python refuses both.
        * The header of an earlier dead letter is removed: the record was published again, and is now unusable for another reason.
        * A record larger than any topic's limit (it was compressed) is truncated, and ``detail`` says where the full record is.
        """
        topic, partition = record.partition
        metrics.DEAD_LETTERS.labels(topic, reason.value).inc()
        if self._may_log(topic, reason):
            log.warning("dead letter", topic=topic, partition=partition, offset=record.offset, reason=reason.value, detail=detail)
        key, value = record.key, record.value
        headers = [(name, content or b"") for name, content in record.headers if name != DEAD_LETTER_HEADER]
        is_truncated = _size(key, value, headers) > MAX_RECORD_BYTES
        detail = detail[:_MAX_DETAIL]
        if is_truncated:
            key, value, headers = key and key[:_KEPT_BYTES], value and value[:_KEPT_BYTES], _first(headers)
            detail += (
                f" The record is too large to be stored in full: up to {_KEPT_BYTES:,} bytes each of its key, its value and its "
                f"headers are kept here; the full record is in {topic}, partition {partition}, at offset {record.offset}."
            )
        letter = DeadLetter(
            reason=reason,
            detail=detail,
            topic=topic,
            partition=partition,
            offset=record.offset,
            failed_at=self._clock(),
            null_value=key is None and value is None,
            truncated=is_truncated,
        )
        headers.append(to_header(DEAD_LETTER_HEADER, letter))
        return self._producer.send(self._topic, key=key, value=b"" if letter.null_value else value, headers=headers)

    def _may_log(self, topic: str, reason: DeadLetterReason) -> bool:
        loop = asyncio.get_running_loop()
        counts = self._log_counts.get((topic, reason))
        if counts is None:
            counts = self._log_counts[topic, reason] = _LogCounts()
            loop.call_later(_LINES_SECONDS, self._minute_is_over, topic, reason)
        if counts.logged < MAX_LINES:
            counts.logged += 1
            return True
        counts.left_out += 1
        return False

    def _minute_is_over(self, topic: str, reason: DeadLetterReason) -> None:
        counts = self._log_counts.pop((topic, reason))
        if counts.left_out:
            log.warning("more dead letters", topic=topic, reason=reason.value, times=counts.left_out)


def _size(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> int:
    return len(key or b"") + len(value or b"") + sum(len(name.encode()) + len(content) for name, content in headers)


def _first(headers: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The first headers, up to `_KEPT_BYTES`."""
    kept: list[tuple[str, bytes]] = []
    room = _KEPT_BYTES
    for header in headers:
        room -= _size(None, None, [header])
        if room < 0:
            break
        kept.append(header)
    return kept
