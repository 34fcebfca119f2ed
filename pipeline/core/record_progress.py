"""The progress inside one record that is processed in many parts, such as an event for thousands of endpoints. Pure.

Parts are numbered and started in that order, so "all up to this one, except for a few" describes what is done. A commit carries
it in its metadata (see `pipeline.core.offsets`), so that the next process skips finished parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import NamedTuple

_MAX_EXCEPTIONS = 1_000
_LONGEST_NUMBER = 19


class RecordProgress(NamedTuple):
    """What is done of the record at ``offset``: every part up to ``up_to`` (at least 1), except those in ``but`` (ascending).

    ``check`` is a number derived from the record's content: the progress of another record that was once at this offset does not
    count.
    """

    offset: int
    check: int
    up_to: int
    but: tuple[int, ...] = ()


class RecordParts:
    """The parts of one record, and which of them are done. Not thread-safe."""

    __slots__ = ("_check", "_offset", "_undone", "_up_to", "is_foreign")

    def __init__(self, offset: int, check: int, parts: Iterable[int], earlier: RecordProgress | None = None) -> None:
        """``parts``: numbers from 1 on, ascending. ``earlier``: what is known to be done."""
        self._offset = offset
        self._check = check
        self._up_to = 0
        self.is_foreign = earlier is not None and (earlier.offset, earlier.check) != (offset, check)
        """Whether the earlier progress belongs to another record. It was ignored."""
        if earlier is None or self.is_foreign:
            self._undone = dict.fromkeys(parts)
            return
        self._up_to, but = earlier.up_to, frozenset(earlier.but)
        self._undone = dict.fromkeys(part for part in parts if part > earlier.up_to or part in but)

    @property
    def left(self) -> tuple[int, ...]:
        """The parts that are not done, ascending."""
        return tuple(self._undone)

    def finish(self, part: int) -> bool:
        """Note that a part is done. False: it was done before, or does not exist."""
        if part not in self._undone:
            return False
        del self._undone[part]
        self._up_to = max(self._up_to, part)
        return True

    def progress(self) -> RecordProgress | None:
        """What is done; None if nothing is. With too many exceptions, it reports less than was done, never more."""
        but = tuple(takewhile(lambda part: part < self._up_to, self._undone))
        if len(but) > _MAX_EXCEPTIONS:
            return _useful(RecordProgress(self._offset, self._check, but[_MAX_EXCEPTIONS] - 1, but[:_MAX_EXCEPTIONS]))
        return _useful(RecordProgress(self._offset, self._check, self._up_to, but))


def _useful(progress: RecordProgress) -> RecordProgress | None:
    return progress if progress.up_to > 0 else None


def encode_progress(progress: RecordProgress, base: int, room: int) -> str:
    """As text of at most ``room`` characters: distance from the offset ``base``, check, ``up_to``, and the distances between the
    exceptions.

    If not all exceptions fit, ``up_to`` ends before the first one that does not. Empty if it is not worth its room.
    """
    up_to, before, exceptions = progress.up_to, 0, ""
    left = room - len(f"{progress.offset - base},{progress.check},{up_to}")
    for part in progress.but:
        exception = f",{part - before}"
        if len(exceptions) + len(exception) > left:
            up_to = part - 1
            break
        exceptions, before = exceptions + exception, part
    if left < 0 or up_to <= 0:
        return ""
    return f"{progress.offset - base},{progress.check},{up_to}{exceptions}"


def decode_progress(text: str, base: int) -> RecordProgress | None:
    """What :func:`encode_progress` wrote; None if it is something else."""
    numbers = text.split(",")
    if len(numbers) < 3 or not all(each.isascii() and each.isdigit() and len(each) <= _LONGEST_NUMBER for each in numbers):
        return None
    gap, check, up_to, *distances = map(int, numbers)
    but, part = [], 0
    for distance in distances:
        part += distance
        but.append(part)
    if up_to < 1 or 0 in distances or part > up_to:
        return None
    return RecordProgress(base + gap, check, up_to, tuple(but))
