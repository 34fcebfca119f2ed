"""Clocks that jump: libfaketime gives one process a wall clock that a file sets. Its monotonic clock goes on, as on a real machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_CACHED_S = 1
"""How long libfaketime goes by what it read; it reads the file again after that."""


class JumpingClock:
    """The wall clock of one process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)

    @property
    def environment(self) -> Mapping[str, str]:
        """What the process is started with.

        Raises:
            RuntimeError: libfaketime is not installed.
        """
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(_CACHED_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def jump(self, seconds: int) -> None:
        """Set the clock so many seconds before (below 0) or behind the true time."""
        # Replaced in one step: the process never reads half of it.
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


def _library() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise RuntimeError("The clock scenario needs libfaketime: apt-get install faketime.")
    return found[0]
