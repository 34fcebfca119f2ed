"""Steps of the start that need Kafka or ClickHouse. They are tried again while it is unavailable."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipeline.broker.errors import BrokerError, NoSessionError, TopicError
from pipeline.ops.dependency_probes import Probe, pause
from pipeline.ops.logs import logger
from pipeline.ops.outage_log import OutageLog
from pipeline.store.errors import StoreError

log = logger(__name__)

ResultT = TypeVar("ResultT")

_EXPECTED = (BrokerError, StoreError)


class StartupRetries:
    """Runs start steps that need one dependency, each until it succeeds, also concurrently."""

    def __init__(self, probe: Probe, *, ends_when_refused: bool) -> None:
        """``ends_when_refused``: raise errors that waiting cannot fix."""
        self.has_waited = asyncio.Event()
        """Set when a step has failed for the first time."""
        self._failing: dict[int, str | None] = {}
        """The steps that have failed, and the reason if the dependency answers but refuses them."""
        self._numbers = itertools.count()
        self._probe = probe
        self._ends_when_refused = ends_when_refused

    async def run(self, step: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Run a step; returns its result.

        Raises:
            BrokerError: (or StoreError) waiting is useless, and ``ends_when_refused`` is set.
        """
        refusal = OutageLog(f"{self._probe.outage.dependency}, for the start")  # it answers, but refuses the step
        number = next(self._numbers)
        try:
            return await self._run(step, refusal, number)
        finally:
            self._failing.pop(number, None)

    async def _run(self, step: Callable[[], Awaitable[ResultT]], refusal: OutageLog, number: int) -> ResultT:
        failures = 0
        while True:
            try:
                result = await step()
            except _EXPECTED as error:
                if self._ends_when_refused and _needs_operator(error):
                    raise
                failures += 1
                self._failing.setdefault(number, None)
                self.has_waited.set()
                if await self._probe.ask():
                    refusal.failed(_words(error), needs_operator=_needs_operator(error))
                    self._failing[number] = _words(error)
                await asyncio.sleep(pause(failures, refused=_needs_operator(error)))
                await self._probe.until_up()
            else:
                refusal.answered()
                return result

    def is_waiting(self) -> bool:
        """Whether a step has failed and is tried again, or the dependency has disappeared during a step."""
        return bool(self._failing) or self._probe.outage.problem is not None

    def problem(self) -> str | None:
        """Why the dependency cannot be used (for health checks)."""
        return self._probe.problem() or next((why for why in self._failing.values() if why), None)


def _words(error: Exception) -> str:
    is_bare = isinstance(error, BrokerError) and not isinstance(error, NoSessionError | TopicError)
    return f"Kafka: {error}" if is_bare else str(error)


def _needs_operator(error: Exception) -> bool:
    return bool(getattr(error, "needs_operator", False))
