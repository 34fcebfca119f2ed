"""Out-of-order completion of one partition's records, and which offset may be committed.

Records are started in the order of their offsets and finish in any order. What may be committed is the lowest unfinished
offset: every record before it has been dealt with. Offsets may have gaps (compaction, transactions).
"""

from __future__ import annotations

from collections import deque


class OffsetTracker:
    """The records of one partition during one assignment. Not thread-safe."""

    __slots__ = ("_committed", "_finished", "_next", "_unfinished")

    def __init__(self) -> None:
        self._unfinished: deque[int] = deque()  # started, in order; those in _finished leave from the left
        self._finished: set[int] = set()
        self._next = 0
        self._committed: int | None = None

    def start(self, offset: int) -> None:
        """Note that a record was taken.

        Raises:
            ValueError: the offset is not higher than those before it.
        """
        if offset < self._next:
            message = f"offset {offset} was started after {self._next - 1}"
            raise ValueError(message)
        self._unfinished.append(offset)
        self._next = offset + 1

    def finish(self, offset: int) -> None:
        """Note that a record has been dealt with. Finishing it again changes nothing."""
        self._finished.add(offset)
        while self._unfinished and self._unfinished[0] in self._finished:
            self._finished.remove(self._unfinished.popleft())

    def committable(self) -> int | None:
        """The offset to commit (the next one to read after a restart), or None when nothing new has been finished."""
        position = self._unfinished[0] if self._unfinished else self._next
        return position if position > (self._committed or 0) and self._next else None

    def committed(self, offset: int) -> None:
        """Note that an offset was committed."""
        self._committed = max(offset, self._committed or 0)

    @property
    def unfinished(self) -> int:
        """How many records were started and are not finished."""
        return len(self._unfinished) - len(self._finished)
