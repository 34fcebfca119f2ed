"""A record as the event loop gets it from the poll loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


class Record(NamedTuple):
    """A record, where it came from, and the epoch of the assignment under which it was taken."""

    partition: Partition
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    epoch: int
