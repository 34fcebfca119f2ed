"""Regularly probes the dependencies of this process: for ``/readyz``, for the metrics, and for a start that waits for them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from pipeline.ops import metrics
from pipeline.ops.outage_log import OutageLog

Ask: TypeAlias = Callable[[], Awaitable[object]]
"""Raises if the dependency does not answer; ``str(error)`` says why, without credentials. ``needs_operator`` of an error says
that waiting does not help.
"""

EVERY_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 10.0
AWAY_SECONDS: Final = (0.5, 1.0, 2.0, 4.0)
"""How long to wait before asking an unavailable dependency again: longer each time, then always the last value. A random part, up
to half, is subtracted.
"""
REFUSED_SECONDS: Final = 15.0
"""The same for a dependency that refuses us. It is asked less often, because trying again does not help."""


class Probe:
    """One dependency, probed repeatedly. Its metric is 0 until it has answered."""

    def __init__(self, dependency: str, ask: Ask, every: float | None = None) -> None:
        """``every``: seconds between two probes while it answers."""
        self.outage = OutageLog(dependency)
        self._ask = ask
        self._every = EVERY_SECONDS if every is None else every
        self._failures = 0
        self._is_up = asyncio.Event()
        metrics.DEPENDENCY_UP.labels(dependency).set(0)
        metrics.DEPENDENCY_OUTAGES.labels(dependency)  # starts at 0: Prometheus sees no increase from nothing to 1

    def problem(self) -> str | None:
        """Why the dependency cannot be used (for health checks)."""
        if self.outage.problem is None and not self._is_up.is_set():
            return f"{self.outage.dependency} has not been probed yet"
        return self.outage.problem

    async def until_up(self) -> None:
        """Return when the latest probe was answered."""
        await self._is_up.wait()

    def _failed(self, error: BaseException) -> None:
        self._failures += 1
        self._is_up.clear()
        if self.outage.problem is None:
            metrics.DEPENDENCY_OUTAGES.labels(self.outage.dependency).inc()
        needs_operator = bool(getattr(error, "needs_operator", False))
        self.outage.failed(str(error) or type(error).__name__, needs_operator=needs_operator)
        metrics.DEPENDENCY_UP.labels(self.outage.dependency).set(0)

    def _answered(self) -> None:
        self._failures = 0
        self._is_up.set()
        self.outage.answered()
        metrics.DEPENDENCY_UP.labels(self.outage.dependency).set(1)

    async def ask(self) -> bool:
        """Probe now. Returns whether the dependency answers."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._ask()
        except TimeoutError as error:
            self._failed(error if str(error) else TimeoutError(f"no answer within {ANSWER_SECONDS:g} s"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the dependency did not answer; /readyz says why
            self._failed(error)
        else:
            self._answered()
        return self.outage.problem is None

    async def watch(self) -> None:
        """Probe until cancelled."""
        while True:
            is_up = await self.ask()
            await asyncio.sleep(self._every if is_up else pause(self._failures, refused=self.outage.needs_operator))


def pause(failures: int, *, refused: bool) -> float:
    """How many seconds to wait after ``failures`` consecutive failures."""
    longest = REFUSED_SECONDS if refused else AWAY_SECONDS[min(max(failures, 1), len(AWAY_SECONDS)) - 1]
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - so that not all processes ask at the same moment


class Probes:
    """The dependencies of one process, each probed in its own task: one that hangs does not delay others."""

    def __init__(self) -> None:
        self._probes: list[Probe] = []
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, dependency: str, ask: Ask, every: float | None = None) -> Probe:
        """Add a dependency. It is probed once :meth:`start` is called."""
        probe = Probe(dependency, ask, every)
        self._probes.append(probe)
        return probe

    def start(self) -> None:
        self._tasks += [asyncio.create_task(probe.watch()) for probe in self._probes]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for probe in self._probes:
            metrics.DEPENDENCY_UP.remove(probe.outage.dependency)
