"""Startup and readiness: each part of a role says whether it can do its work, and why not. Who answers at all is alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from pipeline.ops import metrics

Check: TypeAlias = Callable[[], str | None]
"""Says what is missing, in words; None when all is well. It must be quick: it runs on every probe."""

STARTING: Final = "starting"


class Health:
    """The checks of one process. ``starting`` is for the process to set until every part of it runs."""

    def __init__(self, *, starting: bool = False) -> None:
        self.starting = starting
        self._checks: dict[str, Check] = {}
        self._warnings: dict[str, Check] = {}
        self.add("startup", lambda: STARTING if self.starting else None)

    def add(self, name: str, check: Check) -> None:
        """Let ``/readyz`` ask this check too. Its result is a metric as well, looked at when it is scraped."""
        self._checks[name] = check
        metrics.READY.labels(name).set_function(lambda: float(check() is None))

    def warn(self, name: str, check: Check) -> None:
        """Let ``/readyz`` and the overview tell of this too. The process does its work all the same: it stays ready."""
        self._warnings[name] = check

    def warnings(self) -> dict[str, str]:
        """What somebody should look at, by the name of its check."""
        return {name: warning for name, check in self._warnings.items() if (warning := check()) is not None}

    def problems(self) -> dict[str, str]:
        """What is not ready, by the name of its check."""
        return {name: problem for name, check in self._checks.items() if (problem := check()) is not None}
