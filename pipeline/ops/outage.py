"""Tells of something that is away in few lines: one when it goes, at most one a minute meanwhile, one when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pipeline.ops.logs import logger

log = logger(__name__)

REMINDER_SECONDS: Final = 60.0


class Outage:
    """Whether a dependency answers, as everybody in this process who asks it has found. Used from the event loop only."""

    def __init__(self, dependency: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.dependency = dependency
        self.problem: str | None = None
        """Why it cannot be used, in words; None while it can."""
        self.needs_a_person = False
        """Whether waiting does not help: a password is wrong, a right is missing."""
        self._clock = clock
        self._since = 0.0
        self._said_at = 0.0
        self._failures = 0

    def failed(self, problem: str, *, needs_a_person: bool = False) -> None:
        """Somebody could not use it, and says why."""
        now = self._clock()
        begins, changes = self.problem is None, needs_a_person and not self.needs_a_person
        if begins:
            self._since, self._failures = now, 0
        self._failures += 1
        self.problem, self.needs_a_person = problem, needs_a_person
        if begins or changes:
            self._said_at = now
            say = log.error if needs_a_person else log.warning
            say("a dependency cannot be used", dependency=self.dependency, problem=problem)
        elif now - self._said_at >= REMINDER_SECONDS:
            self._said_at = now
            seconds = round(now - self._since)
            log.warning(
                "a dependency still cannot be used",
                dependency=self.dependency,
                problem=problem,
                seconds=seconds,
                failures=self._failures,
            )

    def answered(self) -> None:
        """Somebody could use it."""
        if self.problem is None:
            return
        seconds = round(self._clock() - self._since, 1)
        log.info("a dependency is back", dependency=self.dependency, seconds=seconds, failures=self._failures)
        self.problem, self.needs_a_person = None, False
