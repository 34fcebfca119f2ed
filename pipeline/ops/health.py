"""Startup and readiness: each part of a role says whether it can do its work, and why not. A process that answers is alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from pipeline.ops import metrics

Check: TypeAlias = Callable[[], str | None]
"""Returns what is missing, in words; None if all is well. Must be quick, because it runs on every probe."""

STARTING: Final = "starting"


class Health:
    """The checks of one process. The process keeps ``starting`` True until all of its parts run."""

    def __init__(self, *, starting: bool = False) -> None:
        self.starting = starting
        self._checks: dict[str, Check] = {}
        self._warnings: dict[str, Check] = {}
        self._waits: dict[str, Callable[[], bool]] = {}
        self.add("startup", self._startup)

    @property
    def waiting_for(self) -> str:
        """What the start waits for, in words; empty if it waits for nothing."""
        return " and ".join(name for name, is_waiting in self._waits.items() if is_waiting())

    def add(self, name: str, check: Check) -> None:
        """Include a check in ``/readyz``. Its result is also a metric, computed at the scrape."""
        self._checks[name] = check
        metrics.READY.labels(name).set_function(lambda: float(check() is None))

    def warn(self, name: str, check: Check) -> None:
        """Include a warning in ``/readyz`` and on the overview. The process does its work, and stays ready."""
        self._warnings[name] = check

    def warnings(self) -> dict[str, str]:
        """Warnings, by the name of the check."""
        return _found(self._warnings)

    def add_wait(self, name: str, is_waiting: Callable[[], bool]) -> None:
        """Add a dependency without which the start cannot continue: Kafka, ClickHouse. While the start waits for it, a restart
        would not help.
        """
        self._waits[name] = is_waiting

    def problems(self) -> dict[str, str]:
        """Failed checks, by name."""
        return _found(self._checks)

    def _startup(self) -> str | None:
        if not self.starting:
            return None
        return f"{STARTING}: waiting for {self.waiting_for}" if self.waiting_for else STARTING


def _found(checks: dict[str, Check]) -> dict[str, str]:
    return {name: problem for name, check in checks.items() if (problem := check()) is not None}
