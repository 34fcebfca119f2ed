"""Work that goes on in this process when the request that asked for it has been answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from schemas.audit import ResendProgress

_REMEMBERED: Final = 20


@dataclass(frozen=True, slots=True)
class Run:
    """A run, as people see it. ``heard_at`` is when it last put on record how far it had come."""

    id: str
    started_by: str
    started_at: datetime
    heard_at: datetime
    progress: ResendProgress


class Work(Protocol):
    """A run in this process."""

    id: str
    is_cancelled: bool
    """Set by whoever wants it to stop."""

    def seen(self) -> Run:
        """As people see it."""

    async def carry_out(self) -> None:
        """Do it; returns when it is over, and raises nothing but CancelledError."""


class Runs:
    """The runs of this process: one at a time, so that what they send is bounded."""

    def __init__(self, per_second: float = 50.0) -> None:
        """``per_second`` is how many notifications are resent in a second, at most."""
        self.pause_seconds = 1 / per_second
        self.beginning = asyncio.Lock()
        """Held from the look whether one is under way until one is."""
        self._known: OrderedDict[str, Work] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether one is under way."""
        return self._task is not None and not self._task.done()

    def begin(self, work: Work) -> None:
        """Carry out a run; none is under way."""
        self._known[work.id] = work
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        self._task = asyncio.create_task(work.carry_out(), name=f"run {work.id}")

    def get(self, run_id: str) -> Work | None:
        """One of the last runs of this process."""
        return self._known.get(run_id)

    async def stop(self) -> None:
        """End the run that is under way; it puts that on record, so Kafka must still be there."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
