"""Asks what this process depends on, from time to time, whether it answers: for ``/readyz`` and for the metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from pipeline.ops import metrics
from pipeline.ops.logs import logger

log = logger(__name__)

Ask: TypeAlias = Callable[[], Awaitable[object]]
"""Raises when the dependency does not answer; ``str(error)`` says why, without credentials."""

EVERY_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 10.0


class Probes:
    """The dependencies of one process, each asked in a task of its own: one that hangs keeps no other waiting."""

    def __init__(self) -> None:
        self._problems: dict[str, str | None] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def watch(self, dependency: str, ask: Ask) -> Callable[[], str | None]:
        """Ask from now on; returns a check for ``Health``: the latest answer in words."""
        self._problems[dependency] = f"{dependency} has not been asked yet"
        self._tasks.append(asyncio.create_task(self._watch(dependency, ask)))
        return lambda: self._problems[dependency]

    async def stop(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for dependency in self._problems:
            with contextlib.suppress(KeyError):
                metrics.DEPENDENCY_UP.remove(dependency)

    async def _watch(self, dependency: str, ask: Ask) -> None:
        while True:
            problem = await self._problem(ask)
            if problem is not None and problem != self._problems[dependency]:
                log.warning("a dependency does not answer", dependency=dependency, problem=problem)
            self._problems[dependency] = problem
            metrics.DEPENDENCY_UP.labels(dependency).set(problem is None)
            await asyncio.sleep(EVERY_SECONDS)

    async def _problem(self, ask: Ask) -> str | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await ask()
        except TimeoutError:
            return f"no answer within {ANSWER_SECONDS:g} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, the dependency did not answer, and /readyz says why
            return str(error) or type(error).__name__
        return None
