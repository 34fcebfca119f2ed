"""A record as the event loop gets it from the poll loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_RECORD_OVERHEAD = 1024
"""What a record costs beside its bytes: the objects that hold it, here and where it is dealt with."""


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


class Receipt(NamedTuple):
    """What is needed of a record to finish it."""

    partition: Partition
    offset: int
    epoch: int
    size: int


class Record(NamedTuple):
    """A record, where it came from, and the epoch of the assignment under which it was taken."""

    partition: Partition
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    epoch: int

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return size_of(self.key, self.value, self.headers)

    @property
    def receipt(self) -> Receipt:
        """Finishes the record without its content, which may have megabytes."""
        return Receipt(self.partition, self.offset, self.epoch, self.size)


def size_of(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    """About how many bytes of memory a record takes."""
    size = _RECORD_OVERHEAD + len(value or b"") + len(key or b"")
    for name, content in headers:
        size += len(name) + len(content or b"")  # a header's value may be null in Kafka, whatever the client's types say
    return size
