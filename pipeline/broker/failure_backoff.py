"""What to do while something fails again and again: wait longer each time, and say so once a minute with a count."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

import structlog

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 5.0
_SAID_EVERY_S: Final = 60.0


class FailureBackoff:
    """Failures of one kind, in a row. It belongs to one thread."""

    def __init__(
        self, log: structlog.stdlib.BoundLogger, *, longest: float = _LONGEST_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``longest``: seconds of the longest pause."""
        self._log = log
        self._longest = longest
        self._clock = clock
        self._failures = 0
        self._unsaid = 0
        self._is_told = False
        """Whether anybody knows of these failures."""
        self._said_at = -_SAID_EVERY_S

    def note(self, message: str, **fields: object) -> float:
        """Another failure. Logs the first one, and then a line a minute; returns how long to wait, in seconds."""
        self._failures += 1
        self._unsaid += 1
        if self._clock() - self._said_at >= _SAID_EVERY_S:
            self._log.warning(message, **fields, times=self._unsaid)
            self._said_at, self._unsaid, self._is_told = self._clock(), 0, True
        longest: float = min(_FIRST_S * 2.0 ** min(self._failures - 1, 10), self._longest)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - so that processes do not ask in step

    def over(self, message: str, **fields: object) -> None:
        """It works again. Says so, if anybody was told that it did not.

        What fails anew within the minute is counted, and said when the minute is over: it may come and go many times a minute.
        """
        if self._is_told:
            self._log.info(message, **fields, failures=self._failures)
        self._failures, self._is_told = 0, False
