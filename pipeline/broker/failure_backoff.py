"""Handles repeated failures: wait longer each time, and log them once a minute with a count."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

import structlog

from pipeline.ops.once_a_minute import OnceAMinute

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 5.0


class FailureBackoff:
    """Consecutive failures of one kind. Used by one thread."""

    def __init__(self, log: structlog.stdlib.BoundLogger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._lines = OnceAMinute(clock)
        self._failures = 0
        self._is_logged = False
        """Whether these failures were logged."""

    def note(self, message: str, **fields: object) -> float:
        """Count a failure. Logs the first one, and then at most one line per minute. Returns how many seconds to wait."""
        self._failures += 1
        if times := self._lines.times(None):
            self._log.warning(message, **fields, times=times)
            self._is_logged = True
        longest: float = min(_FIRST_S * 2.0 ** min(self._failures - 1, 10), _LONGEST_S)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - so that processes do not retry in step

    def over(self, message: str, **fields: object) -> None:
        """Note that it works again. Logs that, if the failure was logged.

        Further failures within the minute are counted, and logged when the minute is over, because a fault may come and go many
        times in a minute.
        """
        if self._is_logged:
            self._log.info(message, **fields, failures=self._failures)
        self._failures, self._is_logged = 0, False
