"""Every commit of a group, from the brokers' ``__consumer_offsets``: not samples, but the whole history, in order.

A commit does not name its member. But each generation of the group is in the same partition, between its commits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tests.faults.kafka_view import KafkaView

OFFSETS = "__consumer_offsets"
_OFFSET_KEYS = (0, 1)
_GROUP_KEY = 2


class CommitRecord(NamedTuple):
    """A commit: its offset, its time (seconds since 1970), and the group's generation (None: no record of it yet)."""

    partition: tuple[str, int]
    offset: int
    at: float
    generation: int | None
    place: str
    """Its own position."""


class StepBack(NamedTuple):
    """A commit below an earlier one."""

    highest: CommitRecord
    commit: CommitRecord

    def __str__(self) -> str:
        highest, commit = self
        return (
            f"{commit.partition}: {highest.offset} (generation {highest.generation}, {highest.place}) then {commit.offset} "
            f"(generation {commit.generation}, {commit.place}, {commit.at - highest.at:.3f} s later)"
        )


def history(kafka: KafkaView, group: str) -> list[CommitRecord]:
    """Return all commits of a group. Blocks."""
    return list(commits_of(group, kafka.records([OFFSETS])))


def commits_of(group: str, records: Iterable[Any]) -> Iterator[CommitRecord]:
    """Return a group's commits among records of the offsets topic, which are in order per partition."""
    generation: int | None = None
    for record in records:
        if record.key is None or record.value is None:
            continue
        key = _Reader(record.key)
        kind = key.int16()
        if kind == _GROUP_KEY and key.text() == group:
            value = _Reader(record.value)
            value.int16()
            value.text()
            generation = value.int32()
        elif kind in _OFFSET_KEYS and key.text() == group:
            partition = (key.text(), key.int32())
            value = _Reader(record.value)
            value.int16()
            place = f"{record.topic}-{record.partition}@{record.offset}"
            yield CommitRecord(partition, value.int64(), record.timestamp / 1000, generation, place)


def steps_back(commits: Iterable[CommitRecord]) -> list[StepBack]:
    """Return commits below an earlier one of their partition."""
    highest: dict[tuple[str, int], CommitRecord] = {}
    found = []
    for commit in commits:
        before = highest.get(commit.partition)
        if before is not None and commit.offset < before.offset:
            found.append(StepBack(before, commit))
        else:
            highest[commit.partition] = commit
    return found


class _Reader:
    """Kafka's old (not flexible) encoding, used for keys, and for the first fields of values in every version."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def int16(self) -> int:
        return self._number(">h")

    def int32(self) -> int:
        return self._number(">i")

    def int64(self) -> int:
        return self._number(">q")

    def text(self) -> str:
        length = self.int16()
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def _number(self, shape: str) -> int:
        value: int = struct.unpack_from(shape, self._data, self._at)[0]
        self._at += struct.calcsize(shape)
        return value
