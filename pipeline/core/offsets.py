"""Out-of-order completion of one partition's records, and what may be committed.

Records are started in the order of their offsets and finish in any order. The offset that may be committed is the lowest
unfinished one: every record before it has been dealt with. What was finished beyond it goes along as the commit's metadata, so
that after a crash only what was really under way is done again, however slow the record is that holds the offset back.
Offsets may have gaps (compaction, transactions).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

_FORMAT = "1;"
_MAX_METADATA = 4_000
"""Kafka takes 4,096 bytes of metadata by default (offset.metadata.max.bytes). What does not fit is done again after a crash."""


class Commit(NamedTuple):
    """The next offset to read, what was finished beyond it, and how many completions the commit covers.

    ``epoch`` is that of the assignment whose completions these are (see ``broker.assignment``): another one counts its own.
    """

    offset: int
    finished: tuple[int, ...]
    completions: int
    epoch: int = 0


class OffsetTracker:
    """The records of one partition during one assignment. Not thread-safe."""

    __slots__ = ("_committed", "_completions", "_earlier", "_finished", "_next", "_unfinished")

    def __init__(self, earlier: Iterable[int] = ()) -> None:
        """``earlier`` are offsets that an earlier assignment finished: they are not to be done again."""
        self._unfinished: deque[int] = deque()  # started, in order; those in _finished leave from the left
        self._finished: set[int] = set()
        self._earlier = set(earlier)
        self._next = 0
        self._completions = 0
        self._committed = 0

    def start(self, offset: int) -> bool:
        """Note that a record was taken. False: an earlier assignment finished it, it is finished here too.

        Raises:
            ValueError: the offset is not higher than those before it.
        """
        if offset < self._next:
            message = f"offset {offset} was started after {self._next - 1}"
            raise ValueError(message)
        self._unfinished.append(offset)
        self._next = offset + 1
        if offset not in self._earlier:
            return True
        self._earlier.remove(offset)
        self.finish(offset)
        return False

    def finish(self, offset: int) -> None:
        """Note that a record has been dealt with. Finishing it again changes nothing."""
        if not self._unfinished or not self._unfinished[0] <= offset < self._next:
            return
        self._finished.add(offset)
        self._completions += 1
        while self._unfinished and self._unfinished[0] in self._finished:
            self._finished.remove(self._unfinished.popleft())

    def committable(self) -> Commit | None:
        """What to commit; None when nothing has been finished since the last commit."""
        if self._completions == self._committed:
            return None
        offset = self._unfinished[0] if self._unfinished else self._next
        # What an earlier assignment finished and has not come by yet must stay known, too.
        return Commit(offset, tuple(sorted(self._finished | self._earlier)), self._completions)

    def committed(self, commit: Commit) -> None:
        """Note that a commit was acknowledged."""
        self._committed = max(commit.completions, self._committed)

    @property
    def lowest_unfinished(self) -> int | None:
        """The offset that holds the commits back; None when everything that was started is finished."""
        return self._unfinished[0] if self._unfinished else None

    @property
    def unfinished(self) -> int:
        """How many records were started and are not finished."""
        return len(self._unfinished) - len(self._finished)


def encode_finished(commit: Commit) -> str:
    """The metadata of a commit: gaps and lengths of the finished runs beyond its offset, such as ``1;3,2,1,7``."""
    if not commit.finished:
        return ""
    starts = [commit.finished[0], *(later for earlier, later in pairwise(commit.finished) if later != earlier + 1)]
    ends = [*(earlier for earlier, later in pairwise(commit.finished) if later != earlier + 1), commit.finished[-1]]
    text, position = _FORMAT, commit.offset
    for start, end in zip(starts, ends, strict=True):
        run = f"{start - position},{end - start + 1},"
        if len(text) + len(run) > _MAX_METADATA:
            break
        text, position = text + run, end + 1
    return text.rstrip(",")


def decode_finished(offset: int, metadata: str | None) -> set[int]:
    """The offsets that :func:`encode_finished` wrote down; none when the metadata is missing or somebody else's."""
    if not metadata or not metadata.startswith(_FORMAT):
        return set()
    parts = metadata.removeprefix(_FORMAT).split(",")
    if len(parts) % 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        return set()
    finished: set[int] = set()
    for gap, length in zip(map(int, parts[::2]), map(int, parts[1::2]), strict=True):
        first = offset + gap
        offset = first + length
        if len(finished) + length > _MOST_FINISHED:
            break
        finished.update(range(first, offset))
    return finished


_MOST_FINISHED = 1_000_000
"""Far more than is finished behind one slow record; metadata that claims more is damaged, and must not fill the memory."""
