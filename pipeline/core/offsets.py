"""Tracks the out-of-order completion of one partition's records, and what may be committed.

Records are started in the order of their offsets and finish in any order. The committed offset is the lowest unfinished one:
every record before it is done. Records that finished beyond it are listed in the commit's metadata, so that after a crash only
records that were really in progress are processed again, however slow the record at the committed offset is. The metadata also
holds the progress inside records that are processed in many parts (see `pipeline.core.record_progress`). Offsets may have gaps
(compaction, transactions).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from pipeline.core.record_progress import RecordParts, RecordProgress, decode_progress, encode_progress

_FORMAT = "1;"
_MAX_METADATA = 4_000
"""Kafka accepts 4,096 bytes of metadata by default (offset.metadata.max.bytes). What does not fit is processed again after a
crash.
"""
_MAX_PROGRESS = 2_000
"""How many of these characters are for the progress inside records; the rest is for finished records."""


class Commit(NamedTuple):
    """The next offset to read, what was finished beyond it, and how many completions the commit covers.

    ``epoch`` identifies the assignment (see ``broker.assignment``): each assignment counts its own completions. ``progress`` is
    the progress inside each unfinished record, by its offset.
    """

    offset: int
    finished: tuple[int, ...]
    completions: int
    epoch: int = 0
    progress: tuple[RecordProgress, ...] = ()


class Kept(NamedTuple):
    """The content of a commit's metadata: finished offsets beyond it, and the progress inside unfinished records."""

    finished: frozenset[int] = frozenset()
    progress: tuple[RecordProgress, ...] = ()


class OffsetTracker:
    """The records of one partition during one assignment. Not thread-safe."""

    __slots__ = ("_committed", "_completions", "_earlier", "_finished", "_next", "_parts", "_progress", "_unfinished")

    def __init__(self, earlier: Iterable[int] = (), progress: Iterable[RecordProgress] = ()) -> None:
        """``earlier``: offsets that an earlier assignment finished; they are skipped. ``progress``: that inside other records."""
        self._unfinished: deque[int] = deque()  # started, in order; finished ones leave from the left
        self._finished: set[int] = set()
        self._earlier = set(earlier)
        self._parts: dict[int, RecordParts] = {}
        self._progress = {each.offset: each for each in progress}
        """Of records that have not been divided here: it must be kept until they are."""
        self._next = 0
        self._completions = 0
        self._committed = 0

    def start(self, offset: int) -> bool:
        """Note that a record was started. False: an earlier assignment finished it, so it is finished here too.

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
        """Note that a record is done. Finishing it again has no effect."""
        if not self._unfinished or not self._unfinished[0] <= offset < self._next:
            return
        self._finished.add(offset)
        self._completions += 1
        self._parts.pop(offset, None)
        self._progress.pop(offset, None)
        while self._unfinished and self._unfinished[0] in self._finished:
            self._finished.remove(self._unfinished.popleft())

    def divide(self, offset: int, check: int, parts: Sequence[int]) -> RecordParts | None:
        """Note that a started record is processed in parts (see `pipeline.core.record_progress`), some of which may be done.
        None: it is not in progress.
        """
        if offset in self._finished or not self._unfinished or not self._unfinished[0] <= offset < self._next:
            return None
        divided = self._parts[offset] = RecordParts(offset, check, parts, self._progress.pop(offset, None))
        return divided

    def finish_part(self, offset: int, part: int) -> None:
        """Note that a part of a record is done."""
        parts = self._parts.get(offset)
        if parts is not None and parts.finish(part):
            self._completions += 1

    def committable(self) -> Commit | None:
        """What to commit; None if nothing has been finished since the last commit."""
        if self._completions == self._committed:
            return None
        offset = self._unfinished[0] if self._unfinished else self._next
        progress = self._progress_inside(offset) if self._parts or self._progress else ()
        # Keep what an earlier assignment finished and was not read again yet; records that Kafka removed are never read again.
        finished = self._finished.union(each for each in self._earlier if each >= offset)
        return Commit(offset, tuple(sorted(finished)), self._completions, progress=progress)

    def _progress_inside(self, lowest: int) -> tuple[RecordProgress, ...]:
        known = [progress for parts in self._parts.values() if (progress := parts.progress()) is not None]
        return tuple(sorted([*known, *(each for each in self._progress.values() if each.offset >= lowest)]))

    def committed(self, commit: Commit) -> None:
        """Note that a commit was acknowledged."""
        self._committed = max(commit.completions, self._committed)

    @property
    def lowest_unfinished(self) -> int | None:
        """The offset that holds the commit back; None if everything that was started is finished."""
        return self._unfinished[0] if self._unfinished else None


def encode_metadata(commit: Commit) -> str:
    """The metadata of a commit, such as ``1;3,2,1,7;0,4711,220,15,60``.

    The format version is followed by gaps and lengths of the finished runs beyond the offset, and by the `encode_progress` of each
    record with progress: here, parts up to 220 of the record at the offset itself are done, except 15 and 75.
    """
    progress = _encoded_progress(commit)
    runs = _encoded_runs(commit, _MAX_METADATA - len(_FORMAT) - len(progress))
    return f"{_FORMAT}{runs}{progress}" if runs or progress else ""


def _encoded_progress(commit: Commit) -> str:
    text = ""
    for progress in commit.progress:
        if encoded := encode_progress(progress, commit.offset, _MAX_PROGRESS - len(text) - 1):
            text += f";{encoded}"
    return text


def _encoded_runs(commit: Commit, room: int) -> str:
    if not commit.finished:
        return ""
    starts = [commit.finished[0], *(later for earlier, later in pairwise(commit.finished) if later != earlier + 1)]
    ends = [*(earlier for earlier, later in pairwise(commit.finished) if later != earlier + 1), commit.finished[-1]]
    text, position = "", commit.offset
    for start, end in zip(starts, ends, strict=True):
        run = f"{start - position},{end - start + 1},"
        if len(text) + len(run) > room:
            break
        text, position = text + run, end + 1
    return text.rstrip(",")


def decode_metadata(offset: int, metadata: str | None) -> Kept | None:
    """What :func:`encode_metadata` wrote for a commit at this offset; None if it is damaged or not ours."""
    if not metadata:
        return Kept()
    if not metadata.startswith(_FORMAT):
        return None
    runs, *texts = metadata.removeprefix(_FORMAT).split(";")
    finished = _decoded_runs(offset, runs)
    progress = [decode_progress(text, offset) for text in texts]
    known = tuple(each for each in progress if each is not None)
    if finished is None or len(known) < len(texts) or not (runs or texts):
        return None
    return Kept(frozenset(finished), tuple(each for each in known if each.offset not in finished))


def _decoded_runs(offset: int, text: str) -> set[int] | None:
    parts = text.split(",") if text else []
    if len(parts) % 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        return None
    finished: set[int] = set()
    for gap, length in zip(map(int, parts[::2]), map(int, parts[1::2]), strict=True):
        first = offset + gap
        offset = first + length
        if len(finished) + length > _MAX_FINISHED:
            break
        finished.update(range(first, offset))
    return finished


_MAX_FINISHED = 1_000_000
"""Far more than is ever finished behind one slow record. Metadata that claims more is damaged, and must not fill the memory."""
