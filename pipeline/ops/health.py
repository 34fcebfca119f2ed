"""Readiness: each part of a role says whether it can do its work, and why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Check: TypeAlias = Callable[[], str | None]
"""Says what is missing, in words; None when all is well. It must be quick: it runs on every probe."""


class Health:
    """The checks of one process."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Let ``/readyz`` ask this check too."""
        self._checks[name] = check

    def problems(self) -> dict[str, str]:
        """What is not ready, by the name of its check."""
        return {name: problem for name, check in self._checks.items() if (problem := check()) is not None}
