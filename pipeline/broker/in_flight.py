"""Records that were handed over and are not finished: limited by number, because each costs a task, and by bytes."""

from __future__ import annotations


class InFlight:
    """Counts records and their bytes. The fetch thread adds, the event loop finishes: each writes only its own counters."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._added = self._added_bytes = 0
        self._finished = self._finished_bytes = 0

    def add(self, size: int) -> None:
        """Note that a record is handed over."""
        self._added += 1
        self._added_bytes += size

    def finish(self, size: int) -> None:
        """Note that a record is finished."""
        self._finished_bytes += size
        self._finished += 1

    @property
    def records(self) -> int:
        """How many records are in progress."""
        return self._added - self._finished

    @property
    def bytes(self) -> int:
        """Their size in bytes."""
        return self._added_bytes - self._finished_bytes

    def fits(self, size: int) -> bool:
        """Whether a record of this size may be handed over. One that is larger than the limit is allowed alone."""
        records = self.records
        return records <= 0 or (records < self._max_records and self.bytes + size <= self._max_bytes)

    def leaves_room(self, buffered_bytes: int) -> bool:
        """Whether there is room for the next fetch, in addition to these records and the buffered ones."""
        return self.bytes + buffered_bytes < self._max_bytes

    def is_full(self, buffered_bytes: int) -> bool:
        """Whether nothing can be fetched or handed over until something is finished."""
        records = self.records
        return records > 0 and (records >= self._max_records or not self.leaves_room(buffered_bytes))
