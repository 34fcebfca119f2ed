"""Logs an outage in few lines: one at its start, at most one a minute while it lasts, one at its end.

Repeated short outages are logged once a minute, with a count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from pipeline.ops.logs import logger

log = logger(__name__)

REMINDER_SECONDS: Final = 60.0


class OutageLog:
    """Whether a dependency answers, according to everything in this process that uses it. Used on the event loop only."""

    def __init__(self, dependency: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.dependency = dependency
        self.problem: str | None = None
        """Why it cannot be used, in words; None if it can."""
        self.needs_operator = False
        """Whether waiting does not help: a password is wrong, a right is missing."""
        self._clock = clock
        self._since = 0.0
        self._logged_at = -math.inf
        self._failures = 0
        self._unlogged_outages = 0
        """Outages since the last log line."""
        self._is_logged = False
        """Whether the current outage was logged."""

    def failed(self, problem: str, *, needs_operator: bool = False) -> None:
        """Note that the dependency could not be used, and why."""
        now = self._clock()
        begins, changes = self.problem is None, needs_operator and not self.needs_operator
        if begins:
            self._since, self._failures, self._is_logged = now, 0, False
            self._unlogged_outages += 1
        self._failures += 1
        self.problem, self.needs_operator = problem, needs_operator
        is_time = now - self._logged_at >= REMINDER_SECONDS
        if changes or (is_time and not self._is_logged):
            log_at_level = log.error if needs_operator else log.warning
            log_at_level("a dependency cannot be used", **self._log_fields(), problem=problem)
        elif is_time:
            seconds = round(now - self._since)
            log.warning(
                "a dependency still cannot be used",
                dependency=self.dependency,
                problem=problem,
                seconds=seconds,
                failures=self._failures,
            )
        else:
            return
        self._logged_at, self._is_logged, self._unlogged_outages = now, True, 0

    def _log_fields(self) -> dict[str, object]:
        """The dependency, and how many short outages before this one were not logged."""
        earlier = self._unlogged_outages - (not self._is_logged)
        return {"dependency": self.dependency} | ({"earlier_outages": earlier} if earlier else {})

    def answered(self) -> None:
        """Note that the dependency answered."""
        if self.problem is None:
            return
        if self._is_logged:
            seconds = round(self._clock() - self._since, 1)
            log.info("a dependency is back", dependency=self.dependency, seconds=seconds, failures=self._failures)
        self.problem, self.needs_operator = None, False
