"""Regular maintenance of the store. One of the recorders does it: the owner of a certain partition.

Kafka decides which recorder that is, so no other coordination is needed. While the partition moves, two recorders may believe that
they own it, so each job is safe to do twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from pipeline.ops.clock import utc_now
from pipeline.ops.logs import logger
from pipeline.store.errors import StoreError

log = logger(__name__)

EVERY_SECONDS: Final = 600.0
_CHECK_SECONDS: Final = 1.0


class MaintenanceJob(Protocol):
    @property
    def name(self) -> str:
        """Its description in the log."""

    async def do(self, now: datetime) -> None:
        """Do the job, or continue it. After a StoreError, it is tried again later."""

    def leave(self) -> None:
        """Called when another process takes over."""


class Maintenance:
    """Does the jobs one after the other while ``is_ours`` is true: when it becomes true, and then every ten minutes."""

    def __init__(
        self, jobs: Sequence[MaintenanceJob], is_ours: Callable[[], bool], clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._jobs = jobs
        self._is_ours = is_ours
        self._clock = clock

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Runs until it is cancelled."""
        waited = EVERY_SECONDS
        were_ours = False
        while True:
            if self._is_ours():
                if waited >= EVERY_SECONDS or not were_ours:
                    waited = 0.0
                    await self._do_all()
                were_ours = True
            elif were_ours:
                were_ours = False
                for job in self._jobs:
                    job.leave()
            await sleep(_CHECK_SECONDS)
            waited += _CHECK_SECONDS

    async def _do_all(self) -> None:
        for job in self._jobs:
            try:
                await job.do(self._clock())
            except StoreError as error:
                log.warning("the store's maintenance failed; it is tried again in ten minutes", job=job.name, error=str(error))
            except Exception:  # one job must stop neither the others nor the recorder
                log.exception("the store's maintenance failed unexpectedly; it is tried again in ten minutes", job=job.name)
